"""Runs of one setting as one number: mean, spread, and how far the mean can be trusted."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Iterable

from tf_hugebatch.reports.outcomes import LeftAside, Outcome, setting_of, test_size
from tf_hugebatch.runs import Sweep

CONFIDENCE = 0.95
#: Accuracies of one setting that range over more than this make it unstable (one point).
STABLE_RANGE = 0.01


@functools.cache
def t_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t distribution, by bisection on its exact distribution function.

    For whole degrees of freedom the function is a finite sum (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4).

    Args:
        probability: in (0.5, 1).
        degrees: of freedom, at least 1.
    """
    low, high = 0.0, 1.0
    while _t_distribution(high, degrees) < probability:
        low, high = high, 2 * high
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_distribution(middle, degrees) < probability else (low, middle)
    return (low + high) / 2


def _t_distribution(t: float, degrees: int) -> float:
    """P(T <= t) for t >= 0."""
    theta = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(theta), math.cos(theta)
    odd = degrees % 2
    term = total = (cosine if odd else 1.0) if degrees > 1 else 0.0
    for k in range(2 + odd, degrees, 2):
        term *= cosine ** 2 * (k - 1) / k
        total += term
    central = 2 / math.pi * (theta + sine * total) if odd else sine * total
    return (1 + central) / 2


def wilson(share: float, examples: int) -> tuple[float, float]:
    """The 95% interval of a share of `examples` (Wilson 1927): unlike the plain one it has a width at 0 and at 1 too."""
    z = statistics.NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = share + z ** 2 / (2 * examples)
    half = z * math.sqrt(share * (1 - share) / examples + z ** 2 / (4 * examples ** 2))
    scale = 1 + z ** 2 / examples
    return (middle - half) / scale, (middle + half) / scale


@dataclasses.dataclass(frozen=True)
class Mean:
    """A mean over seeds. low, high: its 95% interval; None with one seed, since how far seeds differ is then unknown.

    deviation: sample standard deviation over seeds; None with one. sampling: what the test set alone contributes, (low,
    high); None for a value that is no share of examples.
    """

    values: tuple[float, ...]
    mean: float
    deviation: float | None
    low: float | None
    high: float | None
    sampling: tuple[float, float] | None = None

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def range(self) -> tuple[float, float]:
        return min(self.values), max(self.values)


def mean_of(values: Iterable[float], test_examples: int | None = None) -> Mean | None:
    """Mean of one value a seed; None of nothing.

    Args:
        values: accuracies in [0, 1], or losses.
        test_examples: M, for accuracies on one shared test set. Its error adds in quadrature, side by side, and does not
            shrink with more seeds, which all read the same images. It is the binomial's, which is the most that it can be:
            images that every seed gets right vary less.
    """
    values = tuple(values)
    if not values:
        return None
    mean = mean_between(values)
    sampling = wilson(mean, test_examples) if test_examples else None
    if len(values) == 1:
        return Mean(values, mean, None, None, None, sampling)
    deviation = statistics.stdev(values)
    seeds = t_quantile((1 + CONFIDENCE) / 2, len(values) - 1) * deviation / math.sqrt(len(values))
    if sampling is None:
        return Mean(values, mean, deviation, mean - seeds, mean + seeds)
    low, high = (math.hypot(seeds, end - mean) for end in sampling)
    return Mean(values, mean, deviation, max(0.0, mean - low), min(1.0, mean + high), sampling)


def mean_between(values: Iterable[float]) -> float:
    """The mean, which rounding does not take out of the values' range: that of equal values is the value."""
    values = tuple(values)
    return min(max(statistics.fmean(values), min(values)), max(values))


class Group:
    """Runs of one setting that differ in their seed (and in layout, which changes nothing).

    values: the settings that they share. sweep: the sweep that chose the setting, or None. note: words on their data.
    """

    def __init__(self, outcomes: list[Outcome], *, taken_from: Group | None = None, by_test: bool = False):
        self.outcomes, self._taken_from, self._by_test = outcomes, taken_from, by_test
        self.values, self.sweep, self.note = outcomes[0].values, outcomes[0].sweep, outcomes[0].note

    def __repr__(self):
        return f"Group({[outcome.run.path for outcome in self.outcomes]})"

    @property
    def n(self) -> int:
        return len(self.outcomes)

    @property
    def seeds(self) -> list[int]:
        return [outcome.seed for outcome in self.outcomes]

    @property
    def diverged(self) -> int:
        """Runs that diverged."""
        return sum(outcome.diverged for outcome in self.outcomes)

    @functools.cached_property
    def accuracy(self) -> Mean | None:
        """Of test accuracy over the runs that did not diverge."""
        return mean_of((outcome.accuracy for outcome in self._finite), test_size(self.values))

    @functools.cached_property
    def loss(self) -> Mean | None:
        """Of the loss of definition 2.1 (validation, or test without a validation split); its interval is of seeds alone."""
        losses = [outcome.watched_loss for outcome in self._finite]
        return None if None in losses else mean_of(losses)

    @property
    def words(self) -> str:
        """'diverges', 'unstable', or '': INTERFACES.md's definitions over seeds."""
        if self.diverged == self.n:
            return "diverges"
        low, high = self.accuracy.range
        # Accuracies are counts over a test set: a range of exactly one point is none above it, whatever rounding says.
        return "unstable" if self.diverged or high - low > STABLE_RANGE + 1e-9 else ""

    @property
    def trials(self) -> int | None:
        """Runs that were searched to choose the setting; None when nothing was."""
        return trials_done(self.sweep) if self.sweep else None

    @property
    def edges(self) -> tuple[str, ...]:
        """Ends of the space that the chosen setting lies on, such as 'highest peak_learning_rate': better may lie beyond."""
        found = self.sweep.result.get("edges") if self.sweep else None
        found = found if isinstance(found, list) else ()
        return tuple(f"{edge.get('end')} {edge.get('flag')}" for edge in found if isinstance(edge, dict))

    @property
    def select_on(self) -> str:
        """The split that the setting was chosen on, the test split where that had a part in it; '' when nothing was chosen.
        Final runs that were copied without their sweep say it themselves."""
        own = selected_on(self.sweep) if self.sweep else _stated(self.values)
        splits = [own, self._taken_from.select_on if self._taken_from else "", "test" if self._by_test else ""]
        return "test" if "test" in splits else next(filter(None, splits), "")

    def taken_from(self, source: Group) -> Group:
        """The same runs, with `source` as what their setting, or the rate that theirs is scaled from, was taken from: the
        split that chose there chose theirs."""
        return Group(self.outcomes, taken_from=source)

    def picked_by_test(self) -> Group:
        """The same runs, as the setting that test accuracy picked among several."""
        return Group(self.outcomes, taken_from=self._taken_from, by_test=True)

    @property
    def validated(self) -> float | None:
        """Validation accuracy, in [0, 1], by which its search chose the setting (the mean of the seeds that confirmed it); None
        where no search did, or on test."""
        chosen = self.sweep.result.get("chosen") if self.sweep else None
        if not isinstance(chosen, dict) or chosen.get("split") != "validation" or self.select_on == "test":
            return None
        accuracy = chosen.get("accuracy")
        known = isinstance(accuracy, (int, float)) and not isinstance(accuracy, bool) and 0 <= accuracy <= 1
        return float(accuracy) if known else None

    @property
    def tested_before(self) -> int:
        """Earlier choices of the same search whose final runs have read the test split."""
        return tested_before(self.sweep) if self.sweep else 0

    @property
    def _finite(self):
        return [outcome for outcome in self.outcomes if not outcome.diverged]


def trials_done(sweep: Sweep) -> int | None:
    """Trials that gave a result, diverged ones included; None when the sweep doesn't say."""
    counts = sweep.result.get("trials")
    found = [counts.get(name) for name in ("done", "diverged")] if isinstance(counts, dict) else []
    known = [count for count in found if isinstance(count, int) and count >= 0]
    return sum(known) if known else None


def selected_on(sweep: Sweep) -> str:
    """'validation' or 'test'; 'unknown' where the plan says neither."""
    split = sweep.plan.get("select_on")
    return split if split in ("validation", "test") else "unknown"


def tested_before(sweep: Sweep) -> int:
    """Earlier choices of a sweep (it was given more trials since) whose final runs have read the test split."""
    found = sweep.result.get("tested_before")
    return len(found) if isinstance(found, list) else 0


def _stated(values):
    return "" if values["selected_on"] == "none" else values["selected_on"]


def group_runs(outcomes: Iterable[Outcome]) -> tuple[list[Group], list[LeftAside]]:
    """Groups by setting, smallest batch first, and the runs that repeat a seed of their group.

    Trials are in no group. The final runs of a sweep are a group of their own, as are runs with other words on their data
    or on what chose their setting. Of two runs of a seed the one counts that was made for its result, not to measure something,
    and that has kept its metrics.
    """
    groups: dict[tuple, dict[int, Outcome]] = {}
    aside = []
    for outcome in sorted(outcomes, key=lambda outcome: (bool(outcome.values["diagnostics"]), not outcome.run.metrics)):
        if outcome.is_trial:
            continue
        source = ("sweep", outcome.sweep.path) if outcome.sweep else ("stated", _stated(outcome.values))
        key = (setting_of(outcome.values), source, outcome.note)
        first = groups.setdefault(key, {}).setdefault(outcome.seed, outcome)
        if first is not outcome:
            aside.append(LeftAside(outcome.run.path, f"the same setting and seed as {first.run.path}, which is counted"))
    found = [Group([of_seed[seed] for seed in sorted(of_seed)]) for of_seed in groups.values()]
    return sorted(found, key=lambda group: (group.values["batch_size"], group.values["optimizer"],
                                            group.outcomes[0].run.path)), aside
