"""Tables as Markdown and CSV, and how a number over seeds is written in them.

A missing value is an empty cell. Text from run folders can't end a cell, start markup, or be run by a spreadsheet.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from tf_hugebatch.reports.blanks import Blank
from tf_hugebatch.reports.outcomes import one_line
from tf_hugebatch.reports.stats import Group, Mean

# What ends a cell or starts HTML, a picture or a link; a < before a blank is a comparison.
_MARKUP = re.compile(r"&(?=[#\w])|<(?=[\w/!?])|[|\[\]\\]")
ON_TEST = "†"
ON_TEST_NOTE = f"{ON_TEST} The setting was chosen on the test split, so the number is too good by an unknown amount."
TESTED_BEFORE_NOTE = ("Test read before: the search had chosen another setting, whose final runs had been tested, when more "
                      "trials were asked for.")


@dataclasses.dataclass(frozen=True)
class Table:
    """A finished table. columns, rows: raw numbers for CSV, None where nothing is known. markdown: for people."""

    title: str
    columns: tuple[str, ...]
    rows: list[dict]
    markdown: str
    blanks: list[Blank]

    @property
    def csv(self) -> str:
        return csv_text(self.columns, self.rows)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping]) -> str:
    """Rows as CSV with a header; numbers in full, missing and non-finite ones blank."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_csv_cell, columns))
    for row in rows:
        writer.writerow([_csv_cell(row.get(column)) for column in columns])
    return text.getvalue()


def _csv_cell(value):
    if hasattr(value, "item"):
        value = value.item()  # of NumPy
    if value is None or isinstance(value, float) and not math.isfinite(value):
        return ""
    if isinstance(value, (bool, int, float)):
        return repr(value)
    text = one_line(value)
    # A spreadsheet runs a cell that begins like a formula; an apostrophe makes it text.
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def markdown_table(columns: Sequence[str], rows: Iterable[Mapping]) -> str:
    """Rows of text by column; a missing one is empty."""
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(plain(row.get(column)) for column in columns)} |" for row in rows]
    return "\n".join(lines) + "\n"


def plain(value: object) -> str:
    """One line of text that Markdown shows as it is."""
    text = "" if value is None else one_line(value)
    return _MARKUP.sub(lambda found: {"&": "&amp;", "<": "&lt;"}.get(found[0], f"\\{found[0]}"), text)


def code(command: str) -> str:
    """A block of code; a fence that is longer than any inside."""
    fence = "```"
    while fence in command:
        fence += "`"
    return f"{fence}bash\n{command}\n{fence}"


# --------------------------------------------------------------------------------------------- numbers over seeds

NUMBER_COLUMNS = ("n", "diverged", "mean_percent", "deviation_points", "lowest_percent", "highest_percent",
                  "interval_low_percent", "interval_high_percent", "words", "trials", "selected_on", "tested_before", "edges",
                  "data_note")
CELLS = ("mean", "95% interval", "spread", "seeds", "runs searched", "chosen on")


def numbers_of(group: Group | None) -> dict:
    """NUMBER_COLUMNS of a group for CSV; empty for none."""
    if group is None:
        return {}
    found = {"n": group.n, "diverged": group.diverged, "words": group.words or None, "trials": group.trials,
             "selected_on": group.select_on or None, "tested_before": group.tested_before or None,
             "edges": "; ".join(group.edges) or None, "data_note": group.note or None}
    mean = group.accuracy
    if mean is None:
        return found
    low, high = mean.range
    points = {"mean_percent": mean.mean, "deviation_points": mean.deviation, "lowest_percent": low, "highest_percent": high,
              "interval_low_percent": mean.low, "interval_high_percent": mean.high}
    return {**found, **{name: None if value is None else 100 * value for name, value in points.items()}}


def cells_of(group: Group | None) -> dict:
    """CELLS of a group for Markdown; empty for none."""
    if group is None:
        return {}
    words = f"{group.words}: {group.diverged} of {group.n} diverged" if group.diverged else group.words
    number = percent(group.accuracy.mean) + mark_of(group.select_on) if group.accuracy else ""
    note = f"({group.note})" if group.note else ""
    edge = f", winner at the {' and '.join(group.edges)}" if group.edges else ""
    searched = "" if group.trials is None else f"{group.trials}{edge}"
    return {"mean": " ".join(filter(None, [number, words, note])), "95% interval": interval(group.accuracy),
            "spread": spread(group.accuracy), "seeds": group.n, "runs searched": searched,
            "chosen on": chosen_on(group.select_on, group.tested_before)}


def mark_of(split: str | None) -> str:
    """What stands behind a number whose setting was chosen on `split`: ON_TEST behind one of the test split, else nothing."""
    return ON_TEST if split == "test" else ""


def chosen_on(split: str, earlier: int) -> str:
    """The split that chose a setting, and how many earlier choices of the same search had been tested."""
    before = f"test read before: {earlier} earlier choice{'s' * (earlier > 1)}" if earlier else ""
    return "; ".join(filter(None, [split, before]))


def percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def interval(mean: Mean | None) -> str:
    """Its 95% interval in percent; with one seed, that it isn't known."""
    if mean is None:
        return ""
    return "unknown: one seed" if mean.low is None else f"{100 * mean.low:.2f} to {100 * mean.high:.2f}"


def spread(mean: Mean | None) -> str:
    """Range and standard deviation over seeds; empty with one."""
    if mean is None or mean.deviation is None:
        return ""
    low, high = mean.range
    return f"{100 * low:.2f} to {100 * high:.2f} (sd {100 * mean.deviation:.2f})"


def notes_of(groups: Iterable[Group | None]) -> str:
    """What has to stand below a table of these groups."""
    known = [group for group in groups if group]
    notes = [ON_TEST_NOTE] if any(group.select_on == "test" for group in known) else []
    notes += [TESTED_BEFORE_NOTE] if any(group.tested_before for group in known) else []
    return "".join(f"\n{note}\n" for note in notes)
