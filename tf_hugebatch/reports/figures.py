"""Figures from run folders. matplotlib is imported only to draw, and its global state is left alone."""

import math
import textwrap

import numpy as np

from .markup import number

# One look for every figure of the package. Lines differ in lightness, dash and marker, so that a figure
# survives a black-and-white printer and a colour-blind reader.
STYLE = {
    "figure.dpi": 150,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "axes.labelcolor": "#333333",
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
DARK, MIDDLE, LIGHT = "#12365a", "#c8641e", "#7fb2d9"
SPLIT_LINES = {
    "test": {"color": DARK, "marker": "o"},
    "validation": {"color": MIDDLE, "marker": "s", "linestyle": (0, (4, 2)), "markerfacecolor": "white"},
    "train": {"color": LIGHT, "marker": "^", "linestyle": ":"},
}
MOST_POINTS = 800  # more than a figure has pixels for; longer runs are drawn as mean and range
_ACCURACY_TICKS = (0, 50, 70, 80, 90, 95, 97, 98, 98.5, 99, 99.2, 99.5, 99.8, 99.9)


def training_curves(run):
    """Loss, accuracy and learning rate of one run over its updates.

    Values that are missing or not finite are gaps; a line marks where the loss first isn't finite. Runs of
    more than MOST_POINTS rows are drawn as the mean of equal stretches, their range shaded. Once it passes
    90%, accuracy is drawn on a logarithmic scale of the error, so that 99.2% and 99.4% look different.

    Args:
        run: runs.Run.

    Returns:
        matplotlib.figure.Figure, 7 x 7 inches.

    Raises:
        ValueError: the run has no training rows.
        ModuleNotFoundError: matplotlib isn't installed.
    """
    matplotlib = load_matplotlib()
    rows = run.train_rows
    if not rows:
        raise ValueError(f"{run.path} has no training rows in metrics.jsonl: there is nothing to draw. Train "
                         f"first; a dry run writes none.")
    with matplotlib.rc_context(STYLE):
        figure = matplotlib.figure.Figure(figsize=(7.0, 7.0), layout="constrained")
        panels = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 2))
        steps = column(rows, "step")
        _draw_loss(panels[0], steps, column(rows, "loss"))
        _draw_accuracy(panels[1], run)
        _draw_series(panels[2], steps, column(rows, "learning_rate"), color=DARK)
        panels[2].set(ylabel="learning rate", xlabel="updates", xlim=(0, max(1.0, 1.02 * _last_step(run))))
        panels[2].set_ylim(bottom=0)
        panels[2].xaxis.get_major_locator().set_params(integer=True)
        panels[2].xaxis.set_major_formatter("{x:,.0f}")
        panels[2].yaxis.set_major_formatter("{x:g}")
        _draw_epochs(panels[0], rows)
        _mark_divergence(panels, run, steps, column(rows, "loss"))
        figure.align_ylabels(panels)
        headline, details = _title(run)
        headline = figure.suptitle(textwrap.fill(headline, 72, break_on_hyphens=False), ha="left", fontsize=12,
                                   fontweight="bold", color="#111111", parse_math=False)  # words on data may price them in $
        panels[0].set_title(textwrap.fill(details, 100), loc="left", color="#555555", pad=10, parse_math=False)
        # Where the panels begin is known once they are laid out; the headline starts there too.
        figure.draw_without_rendering()
        headline.set_x(panels[0].get_position().x0)
    return figure


def save_training_curves(run, path):
    """Writes `training_curves(run)` as an image; the suffix of `path` (.png, .svg, .pdf) says which kind."""
    training_curves(run).savefig(path, dpi=STYLE["figure.dpi"])


def load_matplotlib():
    """The package, with what draws to files; ModuleNotFoundError says how to install it."""
    try:
        import matplotlib
        import matplotlib.figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("figures need matplotlib, which isn't installed: "
                                  "pip install 'tf_hugebatch[report]'.") from error
    return matplotlib


def column(rows, name):
    """float64 [rows]; NaN where the value is missing, null, no number or not finite."""
    values = (number(row.get(name)) for row in rows)
    return np.array([math.nan if value is None else value for value in values], float)


def _last_step(run):
    steps = column([*run.train_rows, *run.eval_rows()], "step")
    planned = run.status.get("total_steps")
    return planned if isinstance(planned, int) else float(np.nanmax(steps))


def thinned(steps, values, most=MOST_POINTS):
    """Of more than `most` points, as many equal stretches with anything finite in them: middle, mean, lowest, highest.

    Returns:
        steps, mean, low, high: float64 of one length; mean, low and high are `values` where there are few points.
    """
    if len(steps) <= most:
        return steps, values, values, values
    stretches = np.array_split(np.arange(len(steps)), most)
    full = [stretch for stretch in stretches if np.isfinite(values[stretch]).any()]
    mean, low, high = (np.array([f(values[stretch]) for stretch in full]) for f in (np.nanmean, np.nanmin, np.nanmax))
    return np.array([steps[stretch].mean() for stretch in full]), mean, low, high


def _draw_series(panel, steps, values, *, color):
    """A line; with its range shaded where there are too many points, with dots where there are few."""
    few = len(steps) <= 40
    steps, mean, low, high = thinned(steps, values)
    if mean is not values:
        panel.fill_between(steps, low, high, color=LIGHT, alpha=0.6, linewidth=0, label="range")
    panel.plot(steps, mean, color=color, marker="o" if few else None)


def _draw_loss(panel, steps, loss):
    _draw_series(panel, steps, loss, color=DARK)
    panel.set_ylabel("training loss (nats)")
    known = loss[np.isfinite(loss)]
    if known.size and known.min() > 0 and known.max() > 10 * known.min():
        panel.set_yscale("log", subs=[])
        panel.yaxis.get_major_locator().set_params(subs=(1.0, 2.0, 5.0))
        panel.yaxis.set_major_formatter("{x:g}")
    elif known.size:
        panel.set_ylim(bottom=0)


def _draw_accuracy(panel, run):
    panel.set_ylabel("accuracy (%)")
    best = None
    for split, line in SPLIT_LINES.items():
        rows = run.eval_rows(split)
        accuracy = 100 * column(rows, "accuracy")
        known = accuracy[np.isfinite(accuracy)]
        if known.size:
            style = line if len(rows) <= 60 else {**line, "marker": None}
            panel.plot(column(rows, "step"), accuracy, label=f"{split}, last {known[-1]:.2f}%", **style)
            best = max(best or 0.0, known.max())
    if best is None:
        panel.text(0.5, 0.5, "no evaluation yet", transform=panel.transAxes, ha="center", color="#888888")
        panel.set_ylim(0, 100)
        return
    panel.legend(loc="best")
    if best < 90.0:
        panel.set_ylim(0, 100)
        return
    accuracy_axis(panel, 0, 100.0 - (100.0 - best) / 2)


def accuracy_axis(panel, low, high):
    """Accuracies (%) from low to high up the panel, on a logarithm of their errors, so that those near 100% are told apart."""
    # 0.05% of error is the floor: an accuracy of 100% has no place on a logarithm.
    panel.set_yscale("function", functions=(lambda accuracy: -np.log10(np.maximum(100.05 - accuracy, 1e-9)),
                                            lambda height: 100.05 - 10.0 ** -height))
    panel.set_ylim(low, high)
    heights = {tick: -np.log10(100.05 - tick) for tick in _ACCURACY_TICKS if low <= tick <= high}
    least = 0.04 * np.log10((100.05 - low) / (100.05 - high))
    ticks = []
    for tick, height in heights.items():
        if not ticks or height - heights[ticks[-1]] >= least:
            ticks.append(tick)
    panel.set_yticks(ticks, minor=False)
    panel.yaxis.set_major_formatter("{x:g}")


def _draw_epochs(panel, rows):
    """A second axis above the panel that counts epochs, where the rows say how many an update is."""
    known = [(row["step"], row["epoch"]) for row in rows if row.get("epoch") and row.get("step")]
    if known:
        steps, epochs = np.array(sorted({(0, 0), *known}), float).T
        axis = panel.secondary_xaxis("top", functions=(lambda step: _line_through(step, steps, epochs),
                                                       lambda epoch: _line_through(epoch, epochs, steps)))
        axis.set_xlabel("epochs", labelpad=2)


def _line_through(x, xs, ys):
    """Straight from point to point, and on as the first and the last two have it."""
    before, after = ((ys[j] - ys[i]) / (xs[j] - xs[i]) for i, j in ((0, 1), (-2, -1)))
    x = np.asarray(x, float)
    return np.interp(x, xs, ys) + np.minimum(x - xs[0], 0) * before + np.maximum(x - xs[-1], 0) * after


def _mark_divergence(panels, run, steps, loss):
    bad = ~np.isfinite(loss)
    if run.status.get("status") != "diverged" and not bad.any():
        return
    if not bad.any():
        reason = textwrap.fill(f"diverged: {run.status.get('reason') or 'no reason given'}", 60)
        # Such a loss ends as high as it began: the lower corner is free.
        panels[0].text(0.99, 0.06, reason, transform=panels[0].transAxes, ha="right", color=MIDDLE)
        return
    first = steps[bad.argmax()]
    for panel in panels:
        panel.axvline(first, color=MIDDLE, linestyle=(0, (2, 2)), linewidth=1.2)
    right = first > 0.6 * panels[0].get_xlim()[1]
    panels[0].annotate(f"loss not finite at update {first:.0f}", (first, 0.94),
                       xytext=(-5 if right else 5, 0), xycoords=("data", "axes fraction"),
                       textcoords="offset points", ha="right" if right else "left", va="top", color=MIDDLE)


def _title(run):
    """(headline, one line of details) from settings and status; what isn't known is left out."""
    settings, status, rows = run.settings, run.status, run.train_rows
    final = status.get("final") or {}
    growing = ", growing" if settings.get("batch_growth") else ""
    parts = [settings.get("optimizer"), _amount(settings.get("batch_size"), "batch {:,}" + growing),
             " ".join(filter(None, [settings.get("dataset"), settings.get("model")]))]
    accuracy = final.get("test_accuracy")
    ending = status.get("status")
    if isinstance(accuracy, float) and math.isfinite(accuracy):
        parts.append(f"test accuracy {100 * accuracy:.2f}%"
                     f"{', setting chosen on the test split' if run.selected_on == 'test' else ''}")
    if isinstance(note := status.get("data_note"), str):
        parts.append(note)
    if ending and ending != "done":
        parts.append(ending)
    rates = column(rows, "learning_rate")
    warmup = _amount(settings.get("warmup_epochs"), "warm-up {:g} epochs") or \
        _amount(settings.get("warmup_steps"), "warm-up {:,} updates")
    updates = "{:,} update" if status.get("total_steps") == 1 else "{:,} updates"
    details = [_amount(status.get("total_steps"), updates),
               _amount(settings.get("epochs"), "{:g} epochs"),
               f"learning rate to {np.nanmax(rates):.3g}" if np.isfinite(rates).any() else None,
               settings.get("schedule"), warmup,
               "seed {}".format(settings["seed"]) if "seed" in settings else None]
    return " · ".join(filter(None, parts)), " · ".join(filter(None, details))


def _amount(value, text):
    """`text` with the number in it; None for a value that is absent or 0."""
    return text.format(value) if isinstance(value, (int, float)) and value else None
