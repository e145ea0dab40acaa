"""A figure of the report: what is drawn, the numbers in it, and how it is written as PNG, SVG and CSV."""

import contextlib
import csv
import dataclasses
import os

from .blanks import Blank
from .figures import DARK, LIGHT, MIDDLE, STYLE, load_matplotlib

# Text in an SVG stays text; names inside it come from a fixed salt, so that the same runs give the same bytes.
_FILES = {"svg.fonttype": "none", "svg.hashsalt": "tf_hugebatch"}
GREY = "#6d6d6d"
# Lines of one panel differ in lightness, dash and marker at once.
LINES = (
    {"color": DARK, "marker": "o", "linestyle": "-"},
    {"color": MIDDLE, "marker": "s", "linestyle": (0, (5, 2)), "markerfacecolor": "white"},
    {"color": LIGHT, "marker": "^", "linestyle": "-"},
    {"color": GREY, "marker": "D", "linestyle": (0, (1, 1.4)), "markerfacecolor": "white"},
    {"color": "#111111", "marker": "v", "linestyle": (0, (6, 2, 1, 2))},
    {"color": "#b9955c", "marker": "P", "linestyle": (0, (3, 1))},
)
#: A number that the paper states, wherever it stands in a figure.
PAPER = {"marker": "D", "markersize": 7, "markerfacecolor": "none", "markeredgecolor": "#111111", "markeredgewidth": 1.3,
         "linestyle": "none"}


@dataclasses.dataclass(frozen=True)
class Drawing:
    """figure: matplotlib Figure, None where no run feeds it. rows: its numbers, for CSV. caption: what is drawn, from
    which runs, what the paper states, what is missing. blanks: what would fill the rest."""

    figure: object
    rows: list[dict]
    caption: str
    blanks: list[Blank]


@contextlib.contextmanager
def style():
    """Draw inside: matplotlib with the package's look, the user's left alone."""
    matplotlib = load_matplotlib()
    with matplotlib.rc_context({**STYLE, **_FILES}):
        yield matplotlib


def panels(matplotlib, rows, columns, size, **how):
    """(figure, array [rows, columns] of axes), laid out so that labels don't collide."""
    figure = matplotlib.figure.Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **how)


def batch_in_words(batch, sizes=()):
    """'batch 256', or 'full batch (60,000)'. sizes: what full comes to, which a validation split makes smaller."""
    if isinstance(batch, int):
        return f"batch {batch:,}"
    return f"full batch ({' and '.join(f'{size:,}' for size in sorted(sizes))})" if sizes else "full batch"


def headline(figure, text):
    """The figure's title, as bold and as far left as the run's own picture has it."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=11, fontweight="bold", color="#111111")


def apart(values):
    """Of ticks on a logarithmic axis those whose labels don't touch."""
    kept = []
    for value in (values := sorted(set(values))):
        if not kept or value > kept[-1] * max(1.2, (values[-1] / values[0]) ** 0.09):
            kept.append(value)
    return kept


def save(drawing, stem):
    """Writes stem.png, stem.svg (where there is a figure) and stem.csv; the same drawing gives the same bytes.

    Args:
        drawing: Drawing.
        stem: path without a suffix; its folder exists.

    Returns:
        list of the paths written.
    """
    stem = os.fspath(stem)
    written = []
    if drawing.figure is not None:
        with style():
            drawing.figure.savefig(f"{stem}.png", dpi=STYLE["figure.dpi"], metadata={"Software": None})
            drawing.figure.savefig(f"{stem}.svg", metadata={"Date": None, "Creator": None})
        written += [f"{stem}.png", f"{stem}.svg"]
    with open(f"{stem}.csv", "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        table = csv.DictWriter(file, list(dict.fromkeys(name for row in drawing.rows for name in row)), lineterminator="\n")
        table.writeheader()
        table.writerows(drawing.rows)
    return [*written, f"{stem}.csv"]
