"""Updates until the target against batch size, beside perfect scaling (Shallue et al. 2018, arXiv 1811.03600, figure 1).

Target: 99.5% of the paper's baseline. An update count is the first evaluation at or above it; of all runs of a batch, those
that search included, the fewest counts, as Shallue et al. tune every batch. The split is validation where a run keeps one,
else test.
"""

import dataclasses

from .. import published
from .drawing import GREY, LINES, SELECTED_ON_TEST, apart, headline, panels, style
from .sources import FULL, fits, notes, one_network


@dataclasses.dataclass(frozen=True)
class Point:
    """One batch. updates: the fewest to the target, None where no run reached it; longest: that any of its runs made."""

    batch: int
    updates: int | None
    longest: int
    run: object
    split: str
    runs: int


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs); a panel for each data set with a point."""
    datasets = dict.fromkeys(source.wanted["dataset"] for source in figure.sources)
    found = {dataset: _points(runs, dataset) for dataset in datasets}
    missing = [source for source in figure.sources
               if not any(point.batch == _batch(source) for point in found[source.wanted["dataset"]])]
    drawn = {dataset: points for dataset, points in found.items() if points}
    rows = [row for dataset, points in drawn.items() for row in _rows(dataset, points)]
    if not drawn:
        return None, rows, [], missing
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, len(drawn), (max(6.0, 4.4 * len(drawn)), 4.4))
        for panel, (dataset, points) in zip(axes[0], drawn.items()):
            _draw_panel(panel, dataset, points)
        axes[0][0].set_ylabel("updates")
        headline(picture, f"{figure.name}: {figure.shows}")
    remarks = [f"{_target(dataset, points)}: reached by {sum(point.updates is not None for point in points)} of {len(points)} "
               "batches, counted at evaluations." for dataset, points in drawn.items()]
    if any(row["split"] == "test" for row in rows):
        remarks.append(f"Counts marked {SELECTED_ON_TEST} are the fewest of several runs read on the test split.")
    return picture, rows, remarks, missing


def _batch(source):
    size = source.wanted["batch_size"]
    return published.BASELINES[source.wanted["dataset"]].full if size == FULL else size


def _points(runs, dataset):
    target = published.BASELINES[dataset].target / 100
    by_batch = {}
    for run in one_network([run for run in runs if fits(run.settings, {"dataset": dataset}) and run.eval_rows()]):
        if isinstance(batch := run.settings.get("batch_size"), int):
            by_batch.setdefault(batch, []).append(run)
    points = []
    for batch, of_batch in sorted(by_batch.items()):
        reached = {run: step for run in of_batch if (step := _first(run, target)) is not None}
        best = min(reached, key=reached.get) if reached else max(of_batch, key=_last)
        points.append(Point(batch, reached.get(best), max(map(_last, of_batch)), best, _split(best), len(of_batch)))
    return points


def _target(dataset, points):
    return f"{dataset}, {points[0].run.settings.get('model')}, target {published.BASELINES[dataset].target}%"


def _split(run):
    return "validation" if run.eval_rows("validation") else "test"


def _first(run, target):
    for row in run.eval_rows(_split(run)):
        if isinstance(row.get("accuracy"), (int, float)) and row["accuracy"] >= target:
            return row["step"]
    return None


def _last(run):
    return run.eval_rows()[-1]["step"]


def _rows(dataset, points):
    return [{"dataset": dataset, "batch": point.batch, "updates": point.updates or "", "longest": point.longest,
             "target": published.BASELINES[dataset].target, "split": point.split, "runs": point.runs,
             "selected_on_test": point.split == "test" and point.runs > 1, "note": "; ".join(notes([point.run])),
             "run": point.run.path} for point in points]


def _draw_panel(panel, dataset, points):
    reached = [point for point in points if point.updates]
    short = [point for point in points if not point.updates]
    if reached:
        first = reached[0]
        batches = [first.batch, points[-1].batch]
        panel.plot(batches, [first.updates, first.updates * first.batch / batches[1]], color=GREY, linewidth=1.1,
                   linestyle=(0, (4, 3)), label=f"perfect scaling from {first.batch:,}")
        panel.plot([point.batch for point in reached], [point.updates for point in reached], label="fewest updates", **LINES[0])
        for point in reached:
            mark = SELECTED_ON_TEST if point.split == "test" and point.runs > 1 else ""
            panel.annotate(f"{point.updates:,}{mark}", (point.batch, point.updates), xytext=(4, 6), textcoords="offset points",
                           fontsize=7)
    if short:
        panel.plot([point.batch for point in short], [point.longest for point in short], label="not reached by this update",
                   color=LINES[1]["color"], marker="v", markerfacecolor="white", markersize=7, linestyle="none")
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.yaxis.get_major_locator().set_params(subs=(1.0, 2.0, 5.0))
    panel.yaxis.set_major_formatter("{x:,.0f}")
    panel.yaxis.set_minor_formatter("")
    panel.set_xticks(apart([point.batch for point in points]), minor=False)
    panel.tick_params(axis="x", rotation=45)
    panel.set_xlabel("batch size")
    panel.set_title(_target(dataset, points), loc="left")
    panel.legend(loc="best")
