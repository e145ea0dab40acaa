"""Training longer: accuracy against epochs with the target line (8, 9, 18-22); loss and accuracy at equal updates (10)."""

import itertools

import numpy as np

from .. import published
from .drawing import GREY, LINES, PAPER, SELECTED_ON_TEST, apart, headline, panels, style
from .figures import column, thinned
from .sources import FULL, fitting, in_words, noted, one_network, other_networks, settings_of

_BEST_ON_TEST = f"best on test{SELECTED_ON_TEST}"


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs).

    A point is a setting: the mean of its seeds, a bar from the lowest to the highest. A batch's line goes through the highest
    point of each duration; where there are several, the caption says that this chose on test.
    """
    wanted = {batch: {"dataset": figure.dataset, "batch_size": batch} for batch in figure.batch}
    fed = [run for run in runs if any(fitting([run], of_batch) for of_batch in wanted.values())]
    runs = one_network(fed)
    points = {batch: _points(fitting(runs, of_batch)) for batch, of_batch in wanted.items()}
    missing = [source for source in figure.sources
               if not any(row["epochs"] == source.wanted["epochs"] and (row["n"] or row["diverged"])
                          for row in points[source.wanted["batch_size"]])]
    rows = [row for found in points.values() for row in found]
    if not any(row["n"] for row in rows):
        return None, rows, _diverged(rows), missing
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, 1, (7.0, 4.4))
        panel = axes[0, 0]
        best = max(row["mean"] for row in rows if row["n"])
        _draw_target(panel, figure)
        for line, (batch, found) in zip(LINES, points.items()):
            _draw_batch(panel, _name(figure, batch), [row for row in found if row["n"]], line)
        _draw_paper(panel, figure)
        panel.set_xscale("log")
        ticks = [row["epochs"] for row in rows] + [result.epochs for result in figure.paper if result.epochs]
        panel.set_xticks(apart(ticks), minor=False)
        panel.set_xticks([], minor=True)
        panel.xaxis.set_major_formatter("{x:,g}")
        panel.set(xlabel="epochs of training (a run each)", ylabel="test accuracy at the end (%)")
        _scale(panel, rows, figure, best)
        panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        headline(picture, f"{figure.name}: {figure.shows}")
    remarks = [f"{_name(figure, batch)}: {_best(found)}." for batch, found in points.items() if any(row["n"] for row in found)]
    if any(row["chosen"] == _BEST_ON_TEST for row in rows):
        remarks.append("Where several settings ran at one duration the line goes through the highest on "
                       f"test{SELECTED_ON_TEST}.")
    return picture, rows, [*remarks, *_diverged(rows), *other_networks(fed, runs)], missing


def _points(runs):
    """CSV rows of a batch by epochs; `chosen` says why the line goes through a row, empty where it doesn't."""
    by_epochs = {}
    for setting in settings_of(runs):
        if isinstance(epochs := _epochs(setting.first), (int, float)):
            by_epochs.setdefault(epochs, []).append(setting)
    rows = []
    for epochs, settings in sorted(by_epochs.items()):
        of_epochs = [{"batch": setting.first.settings["batch_size"], "epochs": epochs,
                      "updates": setting.first.status.get("total_steps", ""),
                      **{name: setting.first.settings.get(name) for name in ("model", "optimizer")},
                      "tuned": setting.tuned, **setting.summary(), "chosen": ""} for setting in settings]
        able = [row for row in of_epochs if row["n"]]
        if able:
            best = max(able, key=lambda row: row["mean"])
            best["chosen"] = _BEST_ON_TEST if len(able) > 1 else "the only setting"
        rows += of_epochs
    return rows


def _epochs(run):
    """Of training: as set, or what the updates of a run that was set in updates come to."""
    if run.settings.get("epochs") is not None:
        return run.settings["epochs"]
    last = run.train_rows[-1:]
    return round(last[0]["epoch"], 2) if last and isinstance(last[0].get("epoch"), (int, float)) else None


def _name(figure, batch):
    return f"batch {published.BASELINES[figure.dataset].full:,} (full)" if batch == FULL else f"batch {batch:,}"


def _draw_batch(panel, name, rows, line):
    if not rows:
        return
    chosen = [row for row in rows if row["chosen"]]
    panel.plot([row["epochs"] for row in chosen], [row["mean"] for row in chosen], label=name, **line)
    others = [row for row in rows if not row["chosen"]]
    if others:
        panel.plot([row["epochs"] for row in others], [row["mean"] for row in others],
                   **{**line, "linestyle": "none", "alpha": 0.5})
    for row in rows:
        if row["n"] > 1:
            panel.vlines(row["epochs"], row["lowest"], row["highest"], color=line["color"], linewidth=2.6, alpha=0.5)


def _draw_target(panel, figure):
    baseline = published.BASELINES[figure.dataset]
    panel.axhline(baseline.top1, color="#111111", linewidth=1.1, label=f"paper's baseline, {baseline.top1}%")
    panel.axhline(baseline.target, color="#111111", linewidth=1.1, linestyle=(0, (4, 3)),
                  label=f"{100 * published.TARGET_SHARE:g}% of it, {baseline.target}%")


def _draw_paper(panel, figure):
    for number, result in enumerate(result for result in figure.paper if result.epochs):
        panel.plot(result.epochs, result.top1, label="the paper" if number == 0 else None, **PAPER, zorder=5)
        panel.annotate(f"{result.top1:g}%", (result.epochs, result.top1), xytext=(0, -14), textcoords="offset points",
                       ha="center", fontsize=7, color=GREY, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})


def _scale(panel, rows, figure, best):
    """Accuracies near the target are told apart only where the scale follows the error."""
    values = [row["lowest"] for row in rows if row["n"]] + [result.top1 for result in figure.paper]
    if best < 90:
        panel.set_ylim(min(0, *values), 100)
        return
    top = 100 - (100 - max(best, published.BASELINES[figure.dataset].top1)) / 1.6
    panel.set_yscale("function", functions=(lambda accuracy: -np.log10(np.maximum(100.05 - accuracy, 1e-9)),
                                            lambda height: 100.05 - 10.0 ** -height))
    panel.set_ylim(max(0, 100 - 1.6 * (100 - min(values))), top)
    low = panel.get_ylim()[0]
    panel.set_yticks([tick for tick in (0, 50, 80, 90, 95, 97, 98, 98.5, 99, 99.2, 99.4, 99.6, 99.8) if low <= tick <= top])
    panel.yaxis.set_major_formatter("{x:g}")


def _best(rows):
    row = max((row for row in rows if row["n"]), key=lambda row: row["mean"])
    return f"at best {in_words(row)} in {row['epochs']:,g} epochs, {row['model']}"


def _diverged(rows):
    lost = [f"batch {row['batch']:,} at {row['epochs']:,g} epochs" for row in rows if row["diverged"] and not row["n"]]
    return [f"Diverged: {', '.join(lost)}."] if lost else []


def _unequal(runs):
    """Sorts choices of a run a batch: lengths alike first, since a schedule ends with its run; then the longest."""
    lengths = [run.train_rows[-1]["step"] for run in runs]
    return max(lengths) / max(1, min(lengths)), -min(lengths)


def draw_equal_updates(figure, runs, sweeps):
    """Training loss and test accuracy against updates, a line a batch, as far as the shortest of them goes."""
    found = {source: [run for run in fitting(runs, source.wanted) if run.train_rows] for source in figure.sources}
    found = {source: fit for source, fit in found.items() if fit}
    drawn = dict(zip(found, min(itertools.product(*found.values()), key=_unequal, default=()))) if found else {}
    missing = [source for source in figure.sources if source not in drawn]
    if not drawn:
        return None, [], [], missing
    shared = min(run.train_rows[-1]["step"] for run in drawn.values())
    rows, remarks = [], [f"Drawn to update {shared:,}, the last that all of them have."]
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 2, 1, (7.0, 5.6), sharex=True)
        for line, (source, run) in zip(LINES, drawn.items()):
            accuracy = run.eval_rows("test") or run.eval_rows("validation")
            for panel, name, of, factor in ((axes[0, 0], "loss", run.train_rows, 1), (axes[1, 0], "accuracy", accuracy, 100)):
                of = [row for row in of if row["step"] <= shared]
                steps, values, _, _ = thinned(column(of, "step"), factor * column(of, name))
                marker = line["marker"] if len(steps) <= 45 else None
                panel.plot(steps, values, label=source.label, **{**line, "marker": marker})
                rows += [{"batch": source.label, "curve": f"{'training ' if factor == 1 else ''}{name}", "update": step,
                          "value": value} for step, value in zip(steps.tolist(), values.tolist()) if np.isfinite(value)]
            remarks += [f"{source.label}: {run.path}.", *noted([run])]
        axes[0, 0].set(ylabel="training loss (nats)", yscale="log")
        axes[0, 0].yaxis.set_major_formatter("{x:g}")
        axes[0, 0].yaxis.set_minor_formatter("")
        axes[1, 0].set(ylabel="test accuracy (%)", xlabel="updates")
        axes[1, 0].axhline(published.BASELINES[figure.dataset].top1, color="#111111", linewidth=1.1,
                           label=f"paper's baseline, {published.BASELINES[figure.dataset].top1}%")
        axes[1, 0].legend()
        headline(picture, f"{figure.name}: {figure.shows}")
    return picture, rows, remarks, missing
