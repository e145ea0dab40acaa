"""How far the weights travel (figures 11 and 12): ||w_t - w_0|| against log t, a line a batch.

Ultra-slow diffusion (Hoffer et al. 2017) says that the distance grows as log t. Only runs whose train rows hold
`distance_from_start` are drawn; a line is fitted to such rows and to nothing else.
"""

import numpy as np

from .drawing import LINES, headline, panels, style
from .figures import column, thinned
from .sources import ended, groups_of, noted

KEY = "distance_from_start"


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs); of each batch the lowest seed."""
    drawn = {}
    for source in figure.sources:
        for group in groups_of(ended(runs, source.wanted)):
            for outcome in group.outcomes:
                points = _points(outcome.run)
                if len(points[0]):
                    drawn.setdefault(source, (outcome.run, *points))
    missing = [source for source in figure.sources if source not in drawn]
    if not drawn:
        return None, [], [], missing
    rows, remarks = [], []
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, 1, (7.0, 4.2))
        panel = axes[0, 0]
        for line, (source, (run, steps, distance)) in zip(LINES, drawn.items()):
            at, mean, _, _ = thinned(steps, distance)
            panel.plot(at, mean, label=source.label, **{**line, "marker": line["marker"] if len(at) <= 45 else None})
            rows += [{"batch": source.label, "update": step, KEY: value} for step, value in zip(at.tolist(), mean.tolist())]
            remarks += noted([run])
            fit = _fit(steps, distance)
            if fit is None:
                remarks.append(f"{source.label}: {run.path}; too few rows to fit a line.")
                continue
            slope, start, share = fit
            ends = np.array([steps[0], steps[-1]])
            panel.plot(ends, start + slope * np.log(ends), color=line["color"], linewidth=0.9, linestyle=(0, (1, 2)),
                       label=f"fit {start:.2g} + {slope:.2g} log t, R² {share:.3f}")
            remarks.append(f"{source.label}: {run.path}; least squares {start:.4g} + {slope:.4g} log t, R² {share:.3f}.")
        panel.set(xscale="log", xlabel="updates t", ylabel="distance from the start  ||w_t - w_0||")
        panel.set_ylim(bottom=0)
        panel.legend(loc="upper left")
        headline(picture, f"{figure.name}: {figure.shows}")
    return picture, rows, remarks, missing


def _points(run):
    """updates, distances: float64, rows that hold both."""
    rows = run.train_rows
    steps, distance = column(rows, "step"), column(rows, KEY)
    held = np.isfinite(distance) & (steps > 0)
    return steps[held], distance[held]


def _fit(steps, distance):
    """(slope, start, R squared) of distance = start + slope log t; None for fewer than 3 different updates."""
    if len(set(steps)) < 3:
        return None
    slope, start = np.polyfit(np.log(steps), distance, 1)
    rest = distance - start - slope * np.log(steps)
    spread = ((distance - distance.mean()) ** 2).sum()
    return slope, start, 1 - (rest ** 2).sum() / spread if spread else 1.0
