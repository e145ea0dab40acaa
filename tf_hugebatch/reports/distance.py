"""How far the weights travel (figures 11 and 12): ||w_t - w_0|| against log t, a line a batch, and two laws beside it.

Ultra-slow diffusion (Hoffer et al. 2017, arXiv 1705.08741, section 4) says E||w_t - w_0||^2 ~ (log t)^(4/alpha) and
speculates alpha = 2; standard diffusion, on a flat potential, says ||w_t - w_0|| ~ sqrt(t). Only runs whose train rows hold
`distance_from_start` are drawn (`--diagnostics=diffusion`).

Both laws are of a walk, not of the first descent, in which ||w_t - w_0|| grows as t and faster. Where the descent ends is
told by the loss, which knows nothing of the laws: after the last update at which the mean training loss over seeds was above
half of its first, in rows with a distance and without. The CSV has the fits for other shares too, so that whoever doubts the
half can see what it does.

Standard diffusion from where the descent ended, apart from its direction, is ||w_t - w_0||^2 = a + c t: two free numbers, as
many as (log t)^(2/alpha) has, and the two are what is compared. A walk from w_0 itself has a = 0; it is told beside. So is t^p,
p free: a law with a free exponent fits anything slow, and only where t^p is off by more do distances speak for a logarithm.
"""

import dataclasses
import functools
import math

import numpy as np

from .drawing import GREY, LINES, headline, panels, style
from .figures import column, thinned
from .markup import number
from .sheets import mark_of
from .sources import alike, ended, final_percent, groups_of, noted
from .stats import CONFIDENCE, Group, t_quantile

KEY = "distance_from_start"
#: The share of its first value below which the loss stays in the window that laws are fitted in; others for comparison, None
#: for all from FIRST_UPDATE on.
WINDOW_SHARE, OTHER_SHARES = 0.5, (None, 0.25, 0.1)
#: Where laws begin to be fitted at the earliest: before, log log t moves by more in an update than in all that follows.
FIRST_UPDATE = 10
#: Points of a fit, evenly spaced in log t, so that late updates, which are most of them, don't decide alone.
POINTS = 60
#: A walk's (a + c t) / c where the window begins, in updates: tried from a walk that starts there to one that stands still.
OFFSETS = np.geomspace(1e-2, 1e7, 600)


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs): the setting that most batches share, since only
    the batch is to differ."""
    drawn, lost, found, groups = {}, {}, {}, {}
    for source in figure.sources:
        # Read before they are grouped, as in sources.first_runs.
        read = {outcome.run: path for outcome in ended(runs, source.wanted) if (path := _path(outcome.run))}
        groups[source] = groups_of(ended(read, source.wanted))
        found.update(read)
    shared, others = alike(groups, "batch_size")
    for source, group in shared.items():
        # A path that ends early would cut those that don't, whose accuracy and loss stand beside it; one without a descent,
        # of a network that died, would stand in means of what follows the descent.
        whole = [outcome for outcome in group.outcomes if not outcome.diverged] or group.outcomes
        kept = [outcome for outcome in whole if _descends(found[outcome.run])] or whole
        lost[source] = group.n - len(kept)
        drawn[source] = (Group(kept), *map(_together, zip(*(found[outcome.run] for outcome in kept))))
    missing = [source for source in figure.sources if source not in drawn]
    if not drawn:
        return None, [], [], missing
    values = next(iter(shared.values())).values
    rows, remarks = [], [f"{values['optimizer']} on {values['model']}."]
    if others:
        remarks.append(f"{others} setting{'s' * (others > 1)} that fewer of these batches share: not drawn.")
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, 2, (10.0, 4.4), width_ratios=(3, 2))
        far, ends = axes[0]
        for place, (line, (source, (group, (steps, distances), (told, losses)))) in enumerate(zip(LINES, drawn.items())):
            windows = {share: window_start(told, losses.mean(0), share) for share in (WINDOW_SHARE, *OTHER_SHARES)}
            laws = {share: first and fit(steps, distances, first) for share, first in windows.items()}
            law = laws[WINDOW_SHARE]
            mean = _root_mean_square(distances)
            at, shown, _, _ = thinned(steps, mean)
            far.plot(at, shown, label=f"{source.label}, n = {len(distances)}",
                     **{**line, "marker": line["marker"] if len(at) <= 45 else None})
            if law:
                late = at[at >= law.first]
                far.plot(late, law.scale * np.log(late) ** (2 / law.alpha), color=line["color"], linewidth=0.9,
                         linestyle=(0, (1, 2)), label=f"(log t)^(2/α), α {law.alpha:.2f}{_interval_in_words(law, ' ')}")
            end = _end(group, steps, mean)
            rows += [{"batch": source.label, "update": step, KEY: value} for step, value in zip(at.tolist(), shown.tolist())]
            ended_at = {"batch": source.label, "n": len(distances), **end}
            rows += [{**ended_at, "loss_stays_below_share": share or "", **of_share.columns()}
                     for share, of_share in laws.items() if of_share]
            rows += [] if law else [ended_at]
            remarks += [_in_words(source, group, end, law, lost[source], int(told[0])), *_others_in_words(source, laws),
                        *_gaps_in_words(group, found, windows[WINDOW_SHARE]),
                        *noted([outcome.run for outcome in group.outcomes])]
            if end["train_loss"]:
                ends.plot(end["distance"], end["train_loss"], **{**line, "linestyle": "none", "markersize": 7})
                accuracy = _accuracy_in_words(end)
                ends.annotate(source.label + (f"\n{accuracy}" if accuracy else ""),
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


@dataclasses.dataclass(frozen=True)
class Law:
    """distance = scale (log t)^(2/alpha), and how it compares with standard diffusion and with a free power of t.

    Attributes:
        first: the update from which on it was fitted.
        alpha, scale: least squares of log distance on log log t; of the root mean square over seeds.
        interval: (low, high) of alpha, 95%, by Student's t of the seeds' own 2 / alpha, since the points of a path depend on
            each other; None with one seed. The high end is infinite where no growth at all is within the interval.
        power: p of t^p, by least squares of log distance on log t.
        off_log, off_power, off_walk, off_sqrt: root mean square of what each law leaves of log distance: the above, t^p,
            sqrt(a + c t), and sqrt(t) times a free scale.
    """

    first: int
    alpha: float
    scale: float
    interval: tuple[float, float] | None
    power: float
    off_log: float
    off_power: float
    off_walk: float
    off_sqrt: float

    @property
    def better(self):
        """Of the two laws of diffusion, as free as each other, the one that leaves less."""
        return "(log t)^(2/alpha)" if self.off_log < self.off_walk else "sqrt(a + c t)"

    def columns(self):
        low, high = self.interval or (None, None)
        return {"fitted_from": self.first, "alpha": self.alpha, "alpha_low": low, "alpha_high": high, "off_log": self.off_log,
                "power": self.power, "off_power": self.off_power, "off_walk": self.off_walk, "off_sqrt": self.off_sqrt,
                "fits_better": self.better}


def window_start(steps, losses, share):
    """The first of `steps` from FIRST_UPDATE on after which the loss [updates] never is above `share` times its first value
    again; without a share FIRST_UPDATE. None where the loss ends above it.
    """
    if share is None:
        return FIRST_UPDATE
    above = np.flatnonzero(~(losses <= share * losses[0]))
    if not len(above):
        return FIRST_UPDATE
    return max(FIRST_UPDATE, int(steps[above[-1] + 1])) if above[-1] + 1 < len(steps) else None


def fit(steps, distances, first=FIRST_UPDATE):
    """Law of paths [seeds, updates] at `steps`, from the update `first` on; None where fewer than 3 can be fitted."""
    at = _spread(steps, first)
    if len(at) < 3:
        return None
    times, mean = steps[at], np.log(_root_mean_square(distances[:, at]))
    slope, start, off_log = _line(np.log(np.log(times)), mean)
    power, _, off_power = _line(np.log(times), mean)
    of_seeds = [_line(np.log(np.log(times)), path)[0] for path in np.log(distances[:, at])]
    return Law(first, _alpha(slope), math.exp(start), _interval(of_seeds), power, off_log, off_power, _off_walk(times, mean),
               float(np.std(mean - np.log(times) / 2)))


def _alpha(slope):
    return 2 / slope if slope > 0 else math.inf


def _interval(slopes):
    """(low, high) of alpha from the seeds' slopes 2 / alpha."""
    if len(slopes) < 2:
        return None
    half = t_quantile((1 + CONFIDENCE) / 2, len(slopes) - 1) * np.std(slopes, ddof=1) / math.sqrt(len(slopes))
    middle = np.mean(slopes)
    return _alpha(float(middle + half)), _alpha(float(middle - half))


def _off_walk(times, mean):
    """What sqrt(a + c t) leaves of `mean` log distances, c >= 0 and a + c t > 0 in the window: the best c follows from a mean,
    a / c is the best of OFFSETS."""
    since = OFFSETS[:, None] + (times - times[0])
    return float(np.std(mean - np.log(since) / 2, axis=1).min())


def _line(at, values):
    """(slope, start, root mean square of what is left) of least squares."""
    slope, start = np.polyfit(at, values, 1)
    return float(slope), float(start), float(np.sqrt(np.mean((values - start - slope * at) ** 2)))


def _spread(steps, first):
    """Indices of at most POINTS steps from `first` on, evenly spaced in log t, none twice."""
    late = np.flatnonzero(steps >= first)
    if not len(late):
        return late
    wanted = np.geomspace(steps[late[0]], steps[late[-1]], POINTS)
    return np.unique(late[0] + np.searchsorted(steps[late], wanted * (1 - 1e-12)))


def _path(run):
    """(updates, distances) of the rows that hold a distance and (updates, losses) of all; None where none holds one."""
    rows = run.train_rows
    steps, distance, loss = (column(rows, name) for name in ("step", KEY, "loss"))
    trained = steps > 0
    held = trained & np.isfinite(distance) & (distance > 0)
    return ((steps[held], distance[held]), (steps[trained], loss[trained])) if held.any() else None


def _descends(path):
    _, (steps, losses) = path
    return window_start(steps, losses, WINDOW_SHARE) is not None


def _together(series):
    """(updates that all of several (updates, values) have, values [seeds, updates])."""
    shared = functools.reduce(np.intersect1d, (steps for steps, _ in series))
    return shared, np.array([values[np.isin(steps, shared)] for steps, values in series])


def _root_mean_square(distances):
    return np.sqrt((distances ** 2).mean(0))


def _end(group, steps, mean):
    """How far, how well: distance, mean training loss and test accuracy of the runs that are done."""
    losses = [number((outcome.run.status.get("final") or {}).get("train_loss")) for outcome in group.outcomes
              if not outcome.diverged]
    accuracies = [final_percent(outcome.run) for outcome in group.outcomes]
    return {"updates": int(steps[-1]), "distance": float(mean[-1]), "train_loss": _mean(losses),
            "test_accuracy_percent": _mean(accuracies), "selected_on": group.select_on or None}


def _mean(values):
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _accuracy_in_words(end):
    accuracy = end["test_accuracy_percent"]
    return "" if accuracy is None else f"{accuracy:.2f}%{mark_of(end['selected_on'])}"


def _interval_in_words(law, before=""):
    return f"{before}({law.interval[0]:.2f} to {law.interval[1]:.2f})" if law.interval else ""


def _in_words(source, group, end, law, lost, told_from):
    words = [f"{source.label}: {', '.join(outcome.run.path for outcome in group.outcomes)}; distance "
             f"{end['distance']:.4g} after {end['updates']:,} updates"]
    if end["train_loss"] is not None:
        words.append(f"training loss {end['train_loss']:.4g}")
    if accuracy := _accuracy_in_words(end):
        words.append(f"test accuracy {accuracy}")
    if lost:
        words.append(f"without {lost} seed{'s' * (lost > 1)} that diverged or whose loss never stayed below half of its first")
    if told_from > 1:
        words.append(f"no loss before update {told_from:,}, whose loss stands for the first")
    if law is None:
        words.append("too few rows with a loss that fell to fit a law")
    else:
        words.append(f"from update {law.first} on alpha {law.alpha:.3g}{_interval_in_words(law, ' ')}; off by "
                     f"{law.off_log:.2g} in log distance, sqrt(a + c t) by {law.off_walk:.2g}, t^{law.power:.2g} by "
                     f"{law.off_power:.2g}, sqrt(t) by {law.off_sqrt:.2g}")
    return ", ".join(words) + "."


def _gaps_in_words(group, found, first):
    """A sentence for each run that lacks distances in the window."""
    for outcome in group.outcomes:
        (held, _), (told, _) = found[outcome.run]
        window = told[told >= first] if first else told[:0]
        lost = np.setdiff1d(window, held)
        if len(lost):
            yield (f"{outcome.run.path}: no distance in {len(lost):,} of {len(window):,} rows from update {first:,} on, "
                   f"between updates {int(lost[0]):,} and {int(lost[-1]):,}.")


def _others_in_words(source, laws):
    """What other windows would say, in a sentence; empty where none has a law."""
    told = [f"from {law.first} alpha {law.alpha:.3g}, off by {law.off_log:.2g}, {law.off_walk:.2g}, {law.off_power:.2g} and "
            f"{law.off_sqrt:.2g}"
            for share, law in laws.items() if law and share != WINDOW_SHARE]
    return [f"{source.label} in other windows: {'; '.join(told)}."] if told else []
