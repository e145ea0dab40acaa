"""The baseline that regimes are measured by: which setting it is, what is that setting at another batch, and whether it is
sound enough to decide anything.

Momentum SGD at batch B0 with rate eta for rho epochs; A and xi are its means over seeds. Of several such settings counts, in
this order, the one that lasts as long as the data set's own baseline; that is sound; that is stable and lacks only seeds; that
was tuned on validation, before one that nothing chose, before one chosen on test; that was scaled to more batches; with more
seeds; searched more. How accurate it is on test plays no part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from tf_hugebatch import durations, published, registry
from tf_hugebatch.reports.commands import SEEDS
from tf_hugebatch.reports.outcomes import setting_of, train_size, updates
from tf_hugebatch.reports.stats import Group

_RATES = ("learning_rate", "lr_scaling", "peak_learning_rate")
#: The rule above in a sentence, for the report.
RULE = (f"Of several settings the one counts that lasts as long as the data set's own baseline, then one that is stable with "
        f"{SEEDS} seeds, then the one tuned on validation; how high its test accuracy is plays no part")


@dataclasses.dataclass(frozen=True)
class Family:
    """Runs that can be compared: one data set and split, one network, the same words on the data."""

    dataset: str
    dataset_size: tuple[int, int] | None
    model: str
    validation_examples: int
    note: str

    @classmethod
    def of(cls, group: Group) -> Family:
        values = group.values
        return cls(values["dataset"], values["dataset_size"], values["model"], values["validation_examples"], group.note)

    @property
    def baseline_batch(self) -> int:
        return registry.DATASETS[self.dataset].facts["baseline_batch"]

    @property
    def train_size(self) -> int:
        facts = registry.DATASETS[self.dataset].facts
        return (self.dataset_size or (facts["train_examples"],))[0] - self.validation_examples

    @property
    def published(self) -> published.Baseline | None:
        """The paper's row for the data set, with its own network; None for another data set."""
        return published.BASELINES.get(self.dataset)

    def __str__(self):
        subset = f", {self.dataset_size[0]:,} training images" if self.dataset_size else ""
        held_out = f", {self.validation_examples:,} held out" if self.validation_examples else ""
        return f"{self.dataset}{subset}, {self.model}{held_out}" + (f" ({self.note})" if self.note else "")


def candidates(family: Family, groups: Iterable[Group]) -> list[Group]:
    """The settings of momentum SGD at B0, those that diverged with every seed included."""
    return [group for group in groups if group.values["batch_size"] == family.baseline_batch
            and group.values["optimizer"] == "sgd" and epochs_of(group.values)]


def choose(family: Family, groups: list[Group]) -> Group | None:
    """The baseline among the groups of a family; None where no setting of momentum SGD at B0 came to an accuracy."""
    own = durations.updates_for_epochs(registry.DATASETS[family.dataset].facts["baseline_epochs"], family.train_size,
                                       family.baseline_batch)
    tuned = {"validation": 2, "": 1}

    def place(group):
        return (updates(group.values) == own, not doubt(group), not group.words, tuned.get(group.select_on, 0),
                len(scaled_linearly(group, groups)), group.n, group.trials or 0)

    return max((group for group in candidates(family, groups) if group.accuracy), key=place, default=None)


def doubt(baseline: Group) -> str:
    """Why a baseline decides nothing; '' for one that does."""
    n, diverged = baseline.n, baseline.diverged
    if diverged:
        return f"{diverged} of the baseline's {n} seeds diverged"
    if baseline.words:
        low, high = baseline.accuracy.range
        return f"the baseline is unstable: its accuracies range over {100 * (high - low):.2f} points"
    return "" if n >= SEEDS else f"the baseline has {n} seed{'s' * (n > 1)}, fewer than {SEEDS}"


def epochs_of(values: dict) -> float | None:
    """How long a run is; None where its settings don't say."""
    if values["epochs"] is not None:
        return values["epochs"]
    made = updates(values)
    stages = durations.Stages(values["batch_size"], train_size(values), values["batch_growth"] or ())
    return made and float(stages.epoch(made))


def baseline_rate(values: dict, at_baseline: bool = False) -> float | None:
    """eta of a run whose rate is eta B / B0; None for any other. At B0 every rule says the same."""
    if values["peak_learning_rate"] is not None:
        return values["peak_learning_rate"] if at_baseline else None
    return values["learning_rate"] if at_baseline or values["lr_scaling"] == "linear" else None


def is_scaling_of(group: Group, baseline: Group) -> bool:
    """Whether a group is `baseline`, at B0, with nothing but its batch and, by whatever rule, its rate changed."""
    if Family.of(group) != Family.of(baseline):
        return False
    same = [setting_of(one.values, "batch_size", *_RATES) for one in (group, baseline)]
    rates = [baseline_rate(one.values, at_baseline=True) for one in (group, baseline)]
    return same[0] == same[1] and rates[0] is not None and rates[0] == rates[1]


def is_linear_scaling_of(group: Group, baseline: Group) -> bool:
    """Whether a group is `baseline` at another batch, its rate scaled linearly and nothing else changed."""
    return baseline_rate(group.values) is not None and is_scaling_of(group, baseline)


def scaled_linearly(baseline: Group, groups: list[Group]) -> list[Group]:
    """The baseline's setting at larger batches, smallest first; of two groups at one batch the one with more seeds."""
    found: dict[int, Group] = {}
    for group in groups:
        batch = group.values["batch_size"]
        if batch > baseline.values["batch_size"] and is_linear_scaling_of(group, baseline):
            if batch not in found or group.n > found[batch].n:
                found[batch] = group
    return [found[batch] for batch in sorted(found)]
