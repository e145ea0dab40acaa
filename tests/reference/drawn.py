"""What stands in a drawn figure, and the run folders that it is drawn from."""

import numpy as np

from tf_hugebatch.runs import load_runs, load_sweeps


def loaded(folder):
    """(runs, sweeps) below a folder."""
    sweeps = load_sweeps(folder) if list(folder.rglob("sweep.json")) else []
    return load_runs(folder), sweeps


def texts(figure):
    """Every text of a figure, a line each."""
    found = [figure.get_suptitle(), *(text.get_text() for legend in figure.legends for text in legend.get_texts())]
    for panel in figure.axes:
        found += [panel.get_title(loc="left"), panel.get_xlabel(), panel.get_ylabel()]
        found += [text.get_text() for text in panel.texts]
        found += [text.get_text() for text in panel.get_legend().get_texts()] if panel.get_legend() else []
    return "\n".join(found)


def lines(panel):
    """{label: array [points, 2]} of the lines with a label of their own."""
    return {line.get_label(): np.column_stack([np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)])
            for line in panel.lines if not line.get_label().startswith("_")}


def meshes(figure):
    """The heat maps of a figure by the titles above them."""
    return {panel.get_title(loc="left"): panel.collections[0] for panel in figure.axes
            if panel.get_title(loc="left") and panel.collections}
