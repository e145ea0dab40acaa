"""Where large and huge begin: definitions 2.1 and 2.2 of the paper, applied to run folders.

Baseline: momentum SGD at B0 with rate eta for rho epochs gives accuracy A and loss xi (means over seeds, last epoch). Both
definitions ask for 99.5% of A within rho epochs.

    large, B >= B_L    below B_L the baseline's own setting with rate B eta / B0 reaches it, at a loss of at most 1.2 xi
    huge,  B > B_H     no technique reaches it
    full,  B_F         every training example in every update

A mean is taken to reach or to miss only when its 95% interval is clear of the target; else that batch is undecided. Where
seeds fall apart, or some diverge, there is no mean to speak of: six seeds or more that all miss, each by its own test
sampling or, by definition 2.1, its own loss, miss too. That is a one-sided sign test at the 2.5% that the mean's interval
leaves on that side: were half of all seeds to reach the target, six would miss in a row once in 64. It speaks of the median
seed, and never says that a batch holds. Two seeds that both diverge are enough, as tables call such a setting 'diverges'.
Every batch is undecided while the baseline is not sound (baselines.doubt): too few seeds, or an unstable setting.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from tf_hugebatch import durations, published, registry
from tf_hugebatch.reports import baselines
from tf_hugebatch.reports.baselines import Family
from tf_hugebatch.reports.commands import TRIALS
from tf_hugebatch.reports.outcomes import test_size, train_size, updates
from tf_hugebatch.reports.stats import CONFIDENCE, Group, trials_done, wilson
from tf_hugebatch.runs import Sweep

# Settings of experiments on how training works. A rate that falls in steps is none: it may well reach a target.
_EXPERIMENTS = ("batch_growth", "inject_noise", "fixed_trust_ratios")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What happened at one batch. holds: True, False, or None for undecided. group: the setting that it rests on. by_test:
    whether test accuracy picked that among several."""

    batch: int
    holds: bool | None
    group: Group | None
    reason: str
    by_test: bool = False

    @property
    def word(self) -> str:
        return {True: "holds", False: "fails", None: "undecided"}[self.holds]


@dataclasses.dataclass(frozen=True)
class Boundary:
    """Between holds_at and fails_at. B_L: up to the one every batch holds, the other is the smallest that fails. B_H: the one
    is the largest that holds, the other the smallest above it that fails. Where the full batch is the one, there is no other.

    decided: no batch was tried without an answer that could move it: for B_L in between, for B_H above holds_at.
    out_of_order: of B_L batches above fails_at that hold, of B_H batches below holds_at that fail.
    """

    name: str
    verdicts: tuple[Verdict, ...]
    holds_at: int | None
    fails_at: int | None
    decided: bool
    out_of_order: tuple[int, ...]

    @property
    def value(self) -> int | None:
        """B_L: the smallest batch tried that is large, None where none is. B_H: the largest tried that isn't huge. None while
        undecided."""
        if not self.decided:
            return None
        return self.fails_at if self.name == "B_L" else self.holds_at

    @property
    def bracket(self) -> str:
        """Of a boundary that is decided, in signs."""
        large = self.name == "B_L"
        if self.fails_at is None:
            return f"no batch is {'large' if large else 'huge'}"
        return f"{self.holds_at:,} < B_L <= {self.fails_at:,}" if large else f"{self.holds_at:,} <= B_H < {self.fails_at:,}"

    @property
    def open_batches(self) -> list[int]:
        """Batches tried without an answer that the boundary hangs on."""
        return [verdict.batch for verdict in self.verdicts
                if verdict.holds is None and verdict.batch > (self.holds_at or 0)
                and (self.name == "B_H" or self.fails_at is None or verdict.batch < self.fails_at)]


@dataclasses.dataclass(frozen=True)
class Regimes:
    """Of one family. baseline: None where there is none, or none that trained. other_baselines: SGD settings at B0 not taken.
    doubt: why the baseline decides nothing, '' where it does. target: 0.995 A; loss_limit: 1.2 xi; epochs: rho. large, huge:
    undecided throughout while there is doubt; tentative: the two as they would be without it, which says what is missing."""

    family: Family
    baseline: Group | None
    other_baselines: tuple[Group, ...] = ()
    doubt: str = ""
    target: float | None = None
    loss_limit: float | None = None
    epochs: float | None = None
    large: Boundary = Boundary("B_L", (), None, None, False, ())
    huge: Boundary = Boundary("B_H", (), None, None, False, ())
    tentative: tuple[Boundary, ...] = ()
    searches: tuple[tuple[int, Sweep], ...] = ()

    @property
    def full(self) -> int:
        """B_F."""
        return self.family.train_size


def find(groups: Iterable[Group], sweeps: Iterable[Sweep] = ()) -> list[Regimes]:
    """The regimes of every family that has runs, and of each data set of the paper that has none. Runs of _EXPERIMENTS are no
    part of it: a batch that grows says nothing of one batch, and noise or fixed ratios are not there to reach a target."""
    families: dict[Family, list[Group]] = {}
    for group in groups:
        if any(group.values[name] is not None for name in _EXPERIMENTS):
            continue
        families.setdefault(Family.of(group), []).append(group)
    for name in published.BASELINES:
        if not any(family.dataset == name for family in families):
            families[Family(name, None, registry.DATASETS[name].settings["model"], 0, "")] = []
    sweeps = list(sweeps)
    # What has runs is what the reader asks about.
    return [_regimes(family, families[family], sweeps)
            for family in sorted(families, key=lambda family: (not families[family], _place(family)))]


def _place(family):
    return list(registry.DATASETS).index(family.dataset), family.model, family.validation_examples, family.note


def _regimes(family: Family, groups: list[Group], sweeps: list[Sweep]) -> Regimes:
    baseline = baselines.choose(family, groups)
    others = tuple(group for group in baselines.candidates(family, groups) if group is not baseline)
    if baseline is None:
        return Regimes(family, None, others)
    target = published.TARGET_SHARE * baseline.accuracy.mean
    loss_limit = published.LOSS_FACTOR * baseline.loss.mean if baseline.loss else None
    epochs = baselines.epochs_of(baseline.values)
    large = [linear_verdict(group, target, loss_limit) for group in baselines.scaled_linearly(baseline, groups)]
    in_time = [group for group in groups if _in_time(group, epochs) and group.values["batch_size"] > family.baseline_batch]
    searches = _searches(family, in_time, sweeps, epochs)
    batches = sorted({group.values["batch_size"] for group in in_time} | {batch for batch, _ in searches})
    huge = [best_verdict(batch, [group for group in in_time if group.values["batch_size"] == batch], target,
                         any(at == batch and trials_lacking(sweep, epochs) == 0 for at, sweep in searches))
            for batch in batches if batch > family.baseline_batch]
    doubt = baselines.doubt(baseline)
    ends = family.baseline_batch, family.train_size
    tentative = tuple(boundary(name, *ends, found) for name, found in (("B_L", large), ("B_H", huge)))
    shown = [boundary(edge.name, *ends, [dataclasses.replace(verdict, holds=None, reason=doubt) for verdict in edge.verdicts])
             if doubt else edge for edge in tentative]
    return Regimes(family, baseline, others, doubt, target, loss_limit, epochs, *shown, tentative, searches)


def _in_time(group, epochs):
    values, made = group.values, updates(group.values)
    return made is not None and made <= durations.updates_for_epochs(epochs, train_size(values), values["batch_size"])


# ------------------------------------------------------------------------------------------------------ verdicts


def _clear(mean, target):
    """True: the mean's interval lies above the target; False: below; None: neither, or one seed."""
    if mean is None or mean.low is None:
        return None
    return True if mean.low > target else False if mean.high < target else None


def _all_miss(group, target, loss_limit=None):
    """Whether each of enough seeds diverges, lies clearly below the target, or has a loss above the limit, if any."""
    enough = 0.5 ** group.n <= (1 - CONFIDENCE) / 2
    return enough and all(_misses(outcome, target, loss_limit) for outcome in group.outcomes)


def _misses(outcome, target, loss_limit):
    if outcome.diverged or wilson(outcome.accuracy, test_size(outcome.values))[1] < target:
        return True
    return None not in (loss_limit, outcome.watched_loss) and outcome.watched_loss > loss_limit


def linear_verdict(group: Group, target: float, loss_limit: float | None) -> Verdict:
    """Definition 2.1 at one batch: accuracy and loss of the same runs, both in time since the epochs are the baseline's."""
    batch, n = group.values["batch_size"], group.n
    if n == 1:
        return Verdict(batch, None, group, "one seed: how far seeds differ is unknown")
    if group.diverged == n:
        return Verdict(batch, False, group, f"diverges with all {n} seeds")
    accurate, above = _clear(group.accuracy, target), None if loss_limit is None else _clear(group.loss, loss_limit)
    if accurate is False:
        return Verdict(batch, False, group, "accuracy below 0.995 A")
    if above:
        return Verdict(batch, False, group, "loss above 1.2 xi")
    if _all_miss(group, target, loss_limit):
        return Verdict(batch, False, group, f"each of {n} seeds diverges, lies below 0.995 A or has a loss above 1.2 xi")
    if group.diverged:
        return Verdict(batch, None, group, f"{group.diverged} of {n} seeds diverge, the others don't clearly miss")
    if accurate and above is False:
        return Verdict(batch, True, group, "accuracy and loss within")
    unclear = [words for words, clear in (("0.995 A lies in the interval of the accuracy", accurate),
                                          ("1.2 xi lies in the interval of the loss, or a loss is missing", above))
               if clear is None]
    return Verdict(batch, None, group, "; ".join(unclear))


def best_verdict(batch: int, groups: list[Group], target: float, searched: bool) -> Verdict:
    """Definition 2.2 at one batch: any setting may reach the target; that none does takes a search.

    groups: every setting at this batch within rho epochs. Of several one may reach it by luck: first speaks the one best on
    validation, then, marked, that on test. searched: whether a search of TRIALS or more chose any, or found none that trains.
    """
    alive = [group for group in groups if group.accuracy]
    best = max(alive, key=lambda group: group.accuracy.mean, default=None)
    by_test = sum(group.n > 1 for group in alive) > 1  # one seed can't reach anything
    reached = [group for group in alive if not group.diverged and _clear(group.accuracy, target)]
    if reached:
        validated = [group for group in alive if group.validated is not None]
        first = max(validated, key=lambda group: group.validated, default=None)
        if first in reached:
            return Verdict(batch, True, first, f"reached; of {_settings(groups)} the best by validation accuracy")
        best = max(reached, key=lambda group: group.accuracy.mean)
        return Verdict(batch, True, best, f"reached; best of {_settings(groups)} by test accuracy", by_test)
    if not searched:
        return Verdict(batch, None, best, f"not reached by {_settings(groups)}, and nothing was searched "
                       f"at this batch with {TRIALS} trials or more")
    # The chosen setting of a search speaks where it diverges too, whatever else was tried.
    alone = next((group for group in groups if group.n == 1 and (
        group is best or group.diverged and (group.sweep or best is None))), None)
    if alone:
        what = "the best setting" if alone is best else "a setting that diverges"
        return Verdict(batch, None, alone, f"{what} has one seed: how far seeds differ is unknown")
    if any(group.n > 1 and _clear(group.accuracy, target) is not False and not _all_miss(group, target) for group in alive):
        return Verdict(batch, None, best, "0.995 A lies in an interval, or some seeds diverge")
    if best is None:
        return Verdict(batch, False, None, f"diverges with every seed of {_settings(groups)}" if groups
                       else "diverges in every trial")
    return Verdict(batch, False, best, f"missed; best of {_settings(groups)} by test accuracy", by_test)


def _settings(groups):
    return "1 setting" if len(groups) == 1 else f"{len(groups)} settings"


def boundary(name: str, baseline_batch: int | None, full: int, verdicts: Iterable[Verdict]) -> Boundary:
    """Where verdicts, smallest batch first, go from holding to failing. At the baseline's batch it holds by definition, unless
    that is None: then it has a verdict like the others. full: B_F, above which there is no batch.

    Below B_L every batch reaches the target, so one without an answer ends what holds. Above B_H none does, so what matters is
    the largest that holds, whatever happens below it, and one without an answer above it leaves it open.
    """
    verdicts = tuple(verdicts)
    held = [verdict.batch for verdict in verdicts if verdict.holds]
    failed = [verdict.batch for verdict in verdicts if verdict.holds is False]
    open_ones = [verdict.batch for verdict in verdicts if verdict.holds is None]
    if name == "B_H":
        holds_at = max(held, default=baseline_batch)
        fails_at = min((batch for batch in failed if batch > (holds_at or 0)), default=None)
        out_of_order = tuple(batch for batch in failed if batch < (holds_at or 0))
    else:
        fails_at = min(failed, default=None)
        ends = min((batch for batch in (*open_ones, fails_at) if batch), default=full + 1)
        holds_at = max((batch for batch in held if batch < ends), default=baseline_batch)
        out_of_order = tuple(batch for batch in held if fails_at and batch > fails_at)
    found = Boundary(name, verdicts, holds_at, fails_at, False, out_of_order)
    return dataclasses.replace(found, decided=not found.open_batches and (fails_at is not None or holds_at == full))


def _searches(family, groups, sweeps, epochs) -> tuple[tuple[int, Sweep], ...]:
    """(batch, sweep) of every search that chose the setting of one of `groups`, or found none that trains."""
    found = {group.sweep.path: (group.values["batch_size"], group.sweep) for group in groups if group.sweep}
    for sweep in sweeps:
        settings, batch, longest = sweep.settings, sweep.settings.get("batch_size"), sweep.settings.get("epochs")
        named = (settings.get("dataset"), settings.get("model")) == (family.dataset, family.model)
        if not named or not isinstance(batch, int) or batch <= family.baseline_batch:
            continue
        if any(settings.get(name) is not None or name in sweep.space for name in _EXPERIMENTS):
            continue
        fits = isinstance(longest, (int, float)) and longest <= epochs and not _varies_length_or_batch(sweep)
        # JSON's lists are the settings' tuples.
        fits = fits and settings.get("dataset_size") == (family.dataset_size and list(family.dataset_size))
        if fits and sweep.result.get("status") == "done" and not sweep.result.get("chosen") and trials_done(sweep):
            found.setdefault(sweep.path, (batch, sweep))
    return tuple(sorted(found.values(), key=lambda pair: (pair[0], pair[1].path)))


def trials_lacking(sweep: Sweep, epochs: float) -> int | None:
    """How many more trials a search takes to say that nothing reaches the target: there are to be TRIALS with a result, all at
    its batch, of rho epochs each. None where no number of them would be enough."""
    if _varies_length_or_batch(sweep) or sweep.settings.get("epochs") != epochs:
        return None
    return max(0, TRIALS - (trials_done(sweep) or 0))


def _varies_length_or_batch(sweep):
    """Whether trials differ in how long they train, or at which batch."""
    return any(name in sweep.space for name in ("batch_size", "epochs", "train_steps"))
