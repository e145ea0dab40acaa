"""How far the weights travel (figures 11 and 12): ||w_t - w_0|| against log t, a line a batch, and two laws beside it.

Ultra-slow diffusion (Hoffer et al. 2017, arXiv 1705.08741, section 4) says E||w_t - w_0||^2 ~ (log t)^(4/alpha) and
speculates alpha = 2; standard diffusion, on a flat potential, says ||w_t - w_0|| ~ sqrt(t). Only runs whose train rows hold
`distance_from_start` are drawn (`--diagnostics=diffusion`).
"""

import math

import numpy as np

from .drawing import GREY, LINES, headline, panels, style
from .figures import column, thinned
from .markup import number
from .sources import ended, final_percent, groups_of, noted

KEY = "distance_from_start"
#: Where laws begin to be fitted: before, log log t moves by more in an update than in all that follows.
FIRST_UPDATE = 10
#: Points of a fit, evenly spaced in log t, so that late updates, which are most of them, don't decide alone.
POINTS = 60
#: A path's points depend on each other, so alpha's interval comes from whole paths, of that many seeds at least.
FEWEST_SEEDS = 3
RESAMPLES = 1000


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs); of each batch the setting with most seeds."""
    drawn = {}
    for source in figure.sources:
        for group in groups_of(ended(runs, source.wanted)):
            paths = [path for path in map(_path, (outcome.run for outcome in group.outcomes)) if path]
            if paths:
                drawn.setdefault(source, (group, _together(paths)))
    missing = [source for source in figure.sources if source not in drawn]
    if not drawn:
        return None, [], [], missing
    rows, remarks = [], []
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, 2, (10.0, 4.4), width_ratios=(3, 2))
        far, ends = axes[0]
        for place, (line, (source, (group, (steps, distances)))) in enumerate(zip(LINES, drawn.items())):
            law = fit(steps, distances)
            mean = _root_mean_square(distances)
            at, shown, _, _ = thinned(steps, mean)
            far.plot(at, shown, label=f"{source.label}, n = {len(distances)}",
                     **{**line, "marker": line["marker"] if len(at) <= 45 else None})
            if law:
                late = at[at >= FIRST_UPDATE]
                far.plot(late, law.scale * np.log(late) ** (2 / law.alpha), color=line["color"], linewidth=0.9,
                         linestyle=(0, (1, 2)), label=f"(log t)^(2/α), α {law.alpha:.2f}{_interval_in_words(law, ' ')}")
            end = _end(group, steps, mean)
            rows += [{"batch": source.label, "update": step, KEY: value} for step, value in zip(at.tolist(), shown.tolist())]
            rows.append({"batch": source.label, "n": len(distances), **end, **(law.columns() if law else {})})
            remarks += [_in_words(source, group, end, law), *noted([outcome.run for outcome in group.outcomes])]
            if end["train_loss"]:
                ends.plot(end["distance"], end["train_loss"], **{**line, "linestyle": "none", "markersize": 7})
                accuracy = end["test_accuracy_percent"]
                ends.annotate(source.label + (f"\n{accuracy:.2f}%" if accuracy is not None else ""),
                              (end["distance"], end["train_loss"]), fontsize=8, textcoords="offset points",
                              xytext=(0, -22 if place % 2 else 8))
        far.set(xscale="log", xlabel="updates t", ylabel="distance from the start  ||w_t - w_0||")
        far.set_ylim(bottom=0)
        far.legend(loc="upper left", fontsize=7)
        ends.set(xlabel="distance at the end", ylabel="training loss at the end (nats)", yscale="log")
        ends.margins(0.25)
        ends.set_title("with the accuracy on test", loc="left", color=GREY)
        headline(picture, f"{figure.name}: {figure.shows}")
    return picture, rows, remarks, missing


class Law:
    """distance = scale (log t)^(2/alpha), and how it compares with sqrt(t).

    Attributes:
        alpha, scale: least squares of log distance on log log t.
        interval: (low, high) of alpha, 95%, over resampled seeds; None with fewer than FEWEST_SEEDS.
        off_log, off_sqrt: root mean square of what each law leaves of log distance; sqrt(t) has its scale free too.
    """

    def __init__(self, alpha, scale, interval, off_log, off_sqrt):
        self.alpha, self.scale, self.interval, self.off_log, self.off_sqrt = alpha, scale, interval, off_log, off_sqrt

    @property
    def better(self):
        """The law that leaves less; the first has a parameter more, which alone can't make it win by much on 60 points."""
        return "(log t)^(2/alpha)" if self.off_log < self.off_sqrt else "sqrt(t)"

    def columns(self):
        low, high = self.interval or (None, None)
        return {"alpha": self.alpha, "alpha_low": low, "alpha_high": high, "off_log": self.off_log, "off_sqrt": self.off_sqrt,
                "fits_better": self.better}


def fit(steps, distances):
    """Law of paths [seeds, updates] at `steps`; None where fewer than 3 updates can be fitted.

    The bootstrap's generator has a fixed seed, so the same runs give the same interval.
    """
    at = _spread(steps)
    if len(at) < 3:
        return None
    times, paths = np.log(steps[at]), np.log(distances[:, at])
    squares = 2 * paths
    alpha, scale, off_log = _ultra_slow(times, np.log(np.exp(squares).mean(0)) / 2)
    mean = np.log(np.exp(squares).mean(0)) / 2
    off_sqrt = float(np.std(mean - times / 2))
    interval = None
    if len(paths) >= FEWEST_SEEDS:
        generator = np.random.default_rng(0)
        alphas = []
        for _ in range(RESAMPLES):
            chosen = generator.integers(0, len(paths), len(paths))
            alphas.append(_ultra_slow(times, np.log(np.exp(squares[chosen]).mean(0)) / 2)[0])
        interval = tuple(np.percentile(alphas, (2.5, 97.5)).tolist())
    return Law(alpha, scale, interval, off_log, off_sqrt)


def _ultra_slow(times, mean):
    """(alpha, scale, rest) of mean = log scale + (2 / alpha) log times; times = log t."""
    slope, start = np.polyfit(np.log(times), mean, 1)
    rest = mean - start - slope * np.log(times)
    return (2 / slope if slope else math.inf), math.exp(start), float(np.sqrt(np.mean(rest ** 2)))


def _spread(steps):
    """Indices of at most POINTS steps from FIRST_UPDATE on, evenly spaced in log t, none twice."""
    late = np.flatnonzero(steps >= FIRST_UPDATE)
    if not len(late):
        return late
    wanted = np.geomspace(steps[late[0]], steps[late[-1]], POINTS)
    return np.unique(late[0] + np.searchsorted(steps[late], wanted * (1 - 1e-12)))


def _path(run):
    """(updates, distances) of the rows that hold a distance; None where there are none."""
    rows = run.train_rows
    steps, distance = column(rows, "step"), column(rows, KEY)
    held = np.isfinite(distance) & (steps > 0) & (distance > 0)
    return (steps[held], distance[held]) if held.any() else None


def _together(paths):
    """(updates, distances [seeds, updates]) at the updates that all paths have."""
    steps = paths[0][0]
    for other, _ in paths[1:]:
        steps = np.intersect1d(steps, other)
    return steps, np.array([distance[np.isin(own, steps)] for own, distance in paths])


def _root_mean_square(distances):
    return np.sqrt((distances ** 2).mean(0))


def _end(group, steps, mean):
    """How far, how well: distance, mean training loss and test accuracy of the runs that are done."""
    losses = [number((outcome.run.status.get("final") or {}).get("train_loss")) for outcome in group.outcomes
              if not outcome.diverged]
    accuracies = [final_percent(outcome.run) for outcome in group.outcomes]
    return {"updates": int(steps[-1]), "distance": float(mean[-1]), "train_loss": _mean(losses),
            "test_accuracy_percent": _mean(accuracies)}


def _mean(values):
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _interval_in_words(law, before=""):
    return f"{before}({law.interval[0]:.2f} to {law.interval[1]:.2f})" if law.interval else ""


def _in_words(source, group, end, law):
    words = [f"{source.label}: {', '.join(outcome.run.path for outcome in group.outcomes)}; distance "
             f"{end['distance']:.4g} after {end['updates']:,} updates"]
    if end["train_loss"] is not None:
        words.append(f"training loss {end['train_loss']:.4g}")
    if end["test_accuracy_percent"] is not None:
        words.append(f"test accuracy {end['test_accuracy_percent']:.2f}%")
    if law is None:
        words.append("too few rows to fit a law")
    else:
        words.append(f"alpha {law.alpha:.3g}{_interval_in_words(law, ' ')}; off by {law.off_log:.2g} in log distance, sqrt(t) "
                     f"by {law.off_sqrt:.2g}")
    return ", ".join(words) + "."
