"""Table 3 of the paper: every solver at 8K, original, layer-wise, and layer-wise with a bounded ratio, two ways.

(a) by the paper's rule: the rate tuned at 256, scaled linearly, nothing else changed;
(b) tuned at 8K: the same number of trials over equally many decades for every solver.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from tf_hugebatch import durations, published, registry
from tf_hugebatch.reports import commands
from tf_hugebatch.reports.agreement import agreement
from tf_hugebatch.reports.baselines import is_linear_scaling_of
from tf_hugebatch.reports.blanks import Blank, Cost
from tf_hugebatch.reports.outcomes import checked_settings, setting_of, trials_planned
from tf_hugebatch.reports.sheets import CELLS, NUMBER_COLUMNS, Table, cells_of, markdown_table, notes_of, numbers_of
from tf_hugebatch.reports.stats import Group, selected_on, trials_done
from tf_hugebatch.runs import Sweep
from tf_hugebatch.settings import resolve

NETWORKS = ("lenet5", "lenet")
DATASET = "mnist"
#: Column of the paper -> what it adds to the solver's name in the registry.
FORMS = {"original": "", "layerwise": "_layerwise", "bounded": "_layerwise_bounded"}
#: What every run of the table has beside its network, optimizer and batch (flags/table3/base.flags), and what LARS adds: it
#: has no batch norm to absorb biases that move at its rate. (Its weight decay is its registry row's: it is in LARS's rule.)
RECIPE = {"dataset": DATASET, "epochs": published.TABLE_3_EPOCHS, "schedule": "polynomial", "lr_scaling": "linear",
          "warmup_epochs": 0, "warmup_from": "zero"}
LARS_RECIPE = {"exclude_from_decay": (), "exclude_from_adaptation": ()}
_SEARCHED = ("batch_size", "learning_rate", "lr_scaling", "peak_learning_rate", "warmup_epochs")
RULE, TUNED, RATE = "(a) rule", "(b) tuned", "rate tuned"
_FORM_WORDS = {"original": "original", "layerwise": "+ layer-wise", "bounded": "+ layer-wise, bounded ratio"}
_COLUMNS = ("network", "solver", "form", "optimizer", "batch", "way", "paper_percent", "paper_words", "agreement",
            "peak_rate", "warmup_epochs", *NUMBER_COLUMNS)


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
        if place.way == RULE:
            found = [group for group in self._at(place) if group.select_on == "" and self._follows_the_rule(group, place)]
        else:
            found = [group for group in self._at(place) if _is_the_search(group.sweep)]
        return max(found, key=lambda group: (group.select_on == "validation", group.trials or 0, group.n), default=None)

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
        """The runs at 256 whose rate (a) scales."""
        return self.group(_at_256(place))

    def others(self, used: list[Group]) -> list[Group]:
        """Groups of the table's solvers and batches that stand in no cell."""
        return [group for group in self._groups if group not in used]

    def _follows_the_rule(self, group, place):
        tuned = self.tuned_rate(place)
        return tuned is not None and is_linear_scaling_of(group, tuned)

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


def make(groups: list[Group], sweeps: list[Sweep]) -> Table:
    """The table from groups of runs and sweeps."""
    finder = Finder(groups, sweeps)
    rows, blanks, text, used, shown = [], [], [], [], []
    for network in NETWORKS:
        lines = []
        for place in places(network):
            group, failed = finder.group(place), finder.failed_search(place)
            if group is not None:
                used.append(group)
            elif failed is None:
                blanks.append(_blank(place, finder))
            verdict = agreement(group, place.paper) if group or not failed else _failed_agreement(place)
            if group is not None and place.way == RULE:
                group = group.scaled_from(finder.tuned_rate(place))
            shown.append(group)
            rows.append({**_names(place), **numbers_of(group), **_setting(group), "agreement": verdict or None,
                         **(_failed_numbers(place, failed) if not group else {})})
            lines.append({**_words(place), **(cells_of(group) if group or not failed else _failed_cells(place, failed)),
                          "setting": _setting_words(group), "with the paper": verdict})
        text += [f"### {network}, {published.TABLE_3_EPOCHS} epochs", "",
                 markdown_table(("solver", "form", "batch", "the paper", "way", "with the paper", *CELLS, "setting"), lines)]
    others = finder.others(used)
    if others:
        text += ["Runs of these solvers and batches that stand in no cell, since their rate was not tuned at 256, or was not "
                 "scaled linearly from there, or another search stands there:", "", _others_table(others)]
    legend = (f"{RULE}: the rate tuned at {published.BASELINES[DATASET].batch}, scaled linearly, nothing else changed. "
              f"{TUNED}: searched at {published.TABLE_3_BATCH:,}. Settings are chosen on {commands.HELD_OUT:,} held-out images "
              f"unless marked, the {commands.CONFIRM} best of them by three seeds each, then trained on all; the paper splits "
              "55K/5K/10K. Warm-ups are from zero. LARS alone has a weight decay (1e-4): it is part of its rule.")
    text += [legend, notes_of([*shown, *others])]
    return Table("Table 3: MNIST, solvers at 256 and 8K", _COLUMNS, rows, "\n".join(text), blanks)


# -------------------------------------------------------------------------------------------------------- cells


def _names(place: Place) -> dict:
    return {"network": place.network, "solver": place.solver, "form": place.form, "optimizer": place.optimizer,
            "batch": place.batch, "way": place.way, "paper_percent": place.paper.top1, "paper_words": place.paper.words or None}


def _words(place: Place) -> dict:
    paper = place.paper.words or f"{place.paper.top1:g}%"
    return {"solver": f"`{place.solver}`", "form": _FORM_WORDS[place.form], "batch": f"{place.batch:,}", "the paper": paper,
            "way": place.way}


def peak_rate(values: dict) -> float | None:
    """The rate after the warm-up of a run with these settings; None where they don't say."""
    if values["peak_learning_rate"] is not None:
        return values["peak_learning_rate"]
    if values["learning_rate"] is None:
        return None
    baseline_batch = registry.DATASETS[values["dataset"]].facts["baseline_batch"]
    return durations.scaled_learning_rate(values["learning_rate"], values["batch_size"], baseline_batch, values["lr_scaling"])


def _setting(group: Group | None) -> dict:
    return {"peak_rate": peak_rate(group.values), "warmup_epochs": group.values["warmup_epochs"]} if group else {}


def _setting_words(group: Group | None) -> str:
    found = _setting(group)
    parts = [f"peak {found['peak_rate']:.3g}" if found.get("peak_rate") is not None else "",
             f"warm-up {found['warmup_epochs']:g}" if found.get("warmup_epochs") is not None else ""]
    return ", ".join(filter(None, parts))


def _failed_numbers(place: Place, sweep: Sweep | None) -> dict:
    return {"words": _failed_words(place), "trials": trials_done(sweep), "selected_on": selected_on(sweep)} if sweep else {}


def _failed_cells(place: Place, sweep: Sweep) -> dict:
    return {"mean": _failed_words(place), "runs searched": trials_done(sweep), "chosen on": selected_on(sweep)}


def _failed_agreement(place: Place) -> str:
    return "agrees" if place.paper.words == "diverges" else f"differs: {_failed_words(place)}"


def _failed_words(place: Place) -> str:
    return "no rate at 256 trains" if place.way == RULE else "diverges in every trial"


def _others_table(others: list[Group]) -> str:
    rows = [{"optimizer": f"`{group.values['optimizer']}`", "network": group.values["model"],
             "batch": f"{group.values['batch_size']:,}", **cells_of(group), "setting": _setting_words(group)}
            for group in others]
    return markdown_table(("optimizer", "network", "batch", *CELLS, "setting"), rows)


# ------------------------------------------------------------------------------------------------------- blanks


def _blank(place: Place, finder: Finder) -> Blank:
    what = f"Table 3, {place.network}, {place.optimizer} at {place.batch:,}, {place.way}"
    examples, epochs = published.BASELINES[DATASET].train_examples, published.TABLE_3_EPOCHS
    sweep_cost = commands.sweep_cost(place.network, examples, epochs)
    if place.way != RULE:
        return Blank(what, _sweep(place.network, place.optimizer, place.batch), sweep_cost)
    baseline_batch = published.BASELINES[DATASET].batch
    tuned = finder.tuned_rate(place)
    seeds = range(1, commands.SEEDS + 1)
    words = [f"--flagfile={flagfile(place.optimizer, place.batch)}", f"--model={place.network}"]
    folder = _folder(place.network, place.optimizer, place.batch, "rule")
    cost = commands.train_cost(place.network, examples, epochs, commands.SEEDS)
    if tuned is not None:
        rate = tuned.values["peak_learning_rate"] or tuned.values["learning_rate"]
        return Blank(what, commands.train([*words, f"--learning_rate={rate!r}"], DATASET, folder, seeds), cost)
    search = _sweep(place.network, place.optimizer, baseline_batch)
    rate = commands.chosen_value(_folder(place.network, place.optimizer, baseline_batch), "learning_rate")
    train = commands.train(words, DATASET, folder, seeds, variable="--learning_rate=$rate")
    both = Cost(f"{sweep_cost}, the search; then {cost}", sweep_cost.seconds + cost.seconds)
    return Blank(what, f"{search} && rate={rate} && {train}", both)


def _sweep(network: str, optimizer: str, batch: int) -> str:
    return commands.sweep([f"--flagfile={flagfile(optimizer, batch)}", f"--model={network}"], DATASET,
                          _folder(network, optimizer, batch), space_file(optimizer, batch))


def _folder(network: str, optimizer: str, batch: int, way: str = "") -> str:
    return f"{commands.FOLDER}/table3/{network}/{optimizer}_{batch}{'_' if way else ''}{way}"
