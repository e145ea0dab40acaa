"""Which runs stand in which cell of the paper's Table 3: every solver at 8K, original, layer-wise, and layer-wise with a
bounded ratio, two ways.

(a) by the paper's rule: the rate tuned at 256, scaled linearly, nothing else changed;
(b) tuned at 8K: the same number of trials over equally many decades for every solver.

The first network is searched; the other takes over what was chosen there, cell by cell, where it was not searched itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from tf_hugebatch import durations, published, registry
from tf_hugebatch.reports import commands
from tf_hugebatch.reports.baselines import is_linear_scaling_of
from tf_hugebatch.reports.outcomes import checked_settings, setting_of, trials_planned
from tf_hugebatch.reports.stats import Group, trials_done
from tf_hugebatch.runs import Sweep
from tf_hugebatch.settings import resolve

NETWORKS = ("lenet5", "lenet")
#: The network whose choices the others take over.
SEARCHED_ON = NETWORKS[0]
DATASET = "mnist"
#: Column of the paper -> what it adds to the solver's name in the registry.
FORMS = {"original": "", "layerwise": "_layerwise", "bounded": "_layerwise_bounded"}
#: What every run of the table has beside its network, optimizer and batch (flags/table3/base.flags), and what LARS adds: it
#: has no batch norm to absorb biases that move at its rate. (Its weight decay is its registry row's: it is in LARS's rule.)
RECIPE = {"dataset": DATASET, "epochs": published.TABLE_3_EPOCHS, "schedule": "polynomial", "lr_scaling": "linear",
          "warmup_epochs": 0, "warmup_from": "zero"}
LARS_RECIPE = {"exclude_from_decay": (), "exclude_from_adaptation": ()}
#: What a search chooses; at 256 the rate alone.
CHOSEN = ("learning_rate", "peak_learning_rate", "warmup_epochs")
_SEARCHED = ("batch_size", "lr_scaling", *CHOSEN)
RULE, TUNED, RATE = "(a) rule", "(b) tuned", "rate tuned"


@dataclasses.dataclass(frozen=True)
class Place:
    """A cell, once: which network and optimizer at which batch, and how its setting was come by."""

    network: str
    solver: str
    form: str
    batch: int
    way: str
    paper: published.Cell

    @property
    def optimizer(self) -> str:
        return self.solver + FORMS[self.form]


def places(network: str) -> Iterator[Place]:
    """The cells of one network in the paper's order: at 256 once, at 8K both ways."""
    baseline_batch = published.BASELINES[DATASET].batch
    for row in published.TABLE_3:
        yield Place(network, row.solver, "original", baseline_batch, RATE, row.baseline)
        for form in FORMS:
            cell = getattr(row, form)
            if cell is not None:
                for way in (RULE, TUNED):
                    yield Place(network, row.solver, form, published.TABLE_3_BATCH, way, cell)


def flagfile(optimizer: str, batch: int) -> str:
    """The flagfile of an optimizer at a batch."""
    return f"flags/table3/{optimizer}_{batch}.flags"


def space_file(optimizer: str, batch: int) -> str:
    """The space that is searched for an optimizer at a batch: the rate alone at 256, rate and warm-up at 8K."""
    return f"flags/sweeps/table3_{optimizer}_{batch}.json"


class Finder:
    """Which group of runs stands in a cell; nothing here looks at an accuracy."""

    def __init__(self, groups: list[Group], sweeps: list[Sweep]):
        self._groups = [group for group in groups if _is_of_the_table(group)]
        self._sweeps = sweeps

    def group(self, place: Place) -> Group | None:
        """The runs of a cell; of several the one chosen on validation, searched more, with more seeds."""
        theirs = self.taken_over(place)
        if theirs is None:
            return self._own(place)
        setting = setting_of(theirs.values, "model")
        found = [group.taken_from(theirs) for group in self._at(place) if setting_of(group.values, "model") == setting]
        return max(found, key=lambda group: group.n, default=None)

    def taken_over(self, place: Place) -> Group | None:
        """The runs of SEARCHED_ON whose setting a cell of another network takes over; None for a cell of a network that was
        searched itself, for (a) at 256, and while there is none to take over."""
        searched = _at_256(place) if place.way == RULE else place
        if place.network == SEARCHED_ON or self._own(searched) is not None or self.failed_search(place):
            return None
        return self._own(dataclasses.replace(place, network=SEARCHED_ON))

    def failed_search(self, place: Place) -> Sweep | None:
        """A search that ended without a setting that trains: the cell's own, or for (a) that of the rate at 256."""
        if place.way == RULE:
            return self.failed_search(_at_256(place))
        for sweep in self._sweeps:
            ended = sweep.result.get("status") == "done" and not sweep.result.get("chosen")
            # Of crashes nothing follows: every trial must have come to a result.
            complete = _is_the_search(sweep) and trials_done(sweep) == commands.TRIALS
            values = _settings_of(sweep) if ended and complete else None
            if values and _follows_the_recipe(values) and _stands_at(values, place):
                return sweep
        return None

    def tuned_rate(self, place: Place) -> Group | None:
        """The network's own runs at 256 whose rate (a) scales."""
        return self._own(_at_256(place))

    def others(self, used: list[Group]) -> list[Group]:
        """Groups of the table's solvers and batches that stand in no cell."""
        return [group for group in self._groups if not any(group.outcomes is one.outcomes for one in used)]

    def _own(self, place):
        if place.way == RULE:
            tuned = self.tuned_rate(place)
            found = [group.taken_from(tuned) for group in self._at(place)
                     if tuned and group.sweep is None and is_linear_scaling_of(group, tuned)]
        else:
            found = [group for group in self._at(place) if _is_the_search(group.sweep)]
        return max(found, key=lambda group: (group.select_on == "validation", group.trials or 0, group.n), default=None)

    def _at(self, place):
        return [group for group in self._groups if _follows_the_recipe(group.values) and _stands_at(group.values, place)]


def _stands_at(values, place):
    return (values["dataset"], values["model"], values["optimizer"], values["batch_size"]) == (
        DATASET, place.network, place.optimizer, place.batch)


def _is_the_search(sweep: Sweep | None) -> bool:
    """Whether it searched and confirmed as much as every search of the table."""
    return trials_planned(sweep) == commands.TRIALS and sweep.plan.get("confirm") == commands.CONFIRM


def _settings_of(sweep: Sweep) -> dict | None:
    """The settings of a sweep's plan, checked as a run's are; None where they are damaged."""
    try:
        return checked_settings(sweep)
    except ValueError:
        return None


def _at_256(place):
    return dataclasses.replace(place, batch=published.BASELINES[DATASET].batch, way=RATE)


def recipe(network: str, optimizer: str) -> dict:
    """Every setting of the table's runs of an optimizer, as its flagfile gives them; rate, warm-up and batch are a cell's."""
    given = {**RECIPE, "model": network, "optimizer": optimizer, **(LARS_RECIPE if optimizer == "lars" else {})}
    return resolve([("table 3", given)])[0].as_dict()


def _follows_the_recipe(values):
    # The ladder, and anything with smoothing, clipping, another schedule or a part of the data, is another experiment.
    return setting_of(values, *_SEARCHED) == setting_of(recipe(values["model"], values["optimizer"]), *_SEARCHED)


def _is_of_the_table(group):
    values = group.values
    return (values["dataset"] == DATASET and values["model"] in NETWORKS and values["epochs"] == published.TABLE_3_EPOCHS
            and values["batch_size"] in (published.BASELINES[DATASET].batch, published.TABLE_3_BATCH)
            and values["optimizer"] in {row.solver + suffix for row in published.TABLE_3 for suffix in FORMS.values()})


def peak_rate(values: dict) -> float | None:
    """The rate after the warm-up of a run with these settings; None where they don't say."""
    if values["peak_learning_rate"] is not None:
        return values["peak_learning_rate"]
    if values["learning_rate"] is None:
        return None
    baseline_batch = registry.DATASETS[values["dataset"]].facts["baseline_batch"]
    return durations.scaled_learning_rate(values["learning_rate"], values["batch_size"], baseline_batch, values["lr_scaling"])
