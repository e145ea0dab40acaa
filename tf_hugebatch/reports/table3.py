"""Table 3 of the paper from run folders: ours beside the paper's, cell by cell, and what fills the blanks."""

from __future__ import annotations

from tf_hugebatch import published
from tf_hugebatch.reports import commands
from tf_hugebatch.reports.agreement import agreement
from tf_hugebatch.reports.baselines import baseline_rate
from tf_hugebatch.reports.blanks import Blank, Cost
from tf_hugebatch.reports.sheets import CELLS, NUMBER_COLUMNS, Table, cells_of, markdown_table, notes_of, numbers_of
from tf_hugebatch.reports.stats import Group, selected_on, trials_done
from tf_hugebatch.reports.table3_cells import (CHOSEN, DATASET, NETWORKS, RULE, SEARCHED_ON, TUNED, Finder, Place, flagfile,
                                               peak_rate, places, space_file)
from tf_hugebatch.runs import Sweep

_FORM_WORDS = {"original": "original", "layerwise": "+ layer-wise", "bounded": "+ layer-wise, bounded ratio"}
_COLUMNS = ("network", "solver", "form", "optimizer", "batch", "way", "searched_on", "paper_percent", "paper_words",
            "agreement", "peak_rate", "warmup_epochs", *NUMBER_COLUMNS)


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
            searched_on = SEARCHED_ON if finder.taken_over(place) else network
            shown.append(group)
            rows.append({**_names(place), "searched_on": searched_on, **numbers_of(group), **_setting(group),
                         "agreement": verdict or None, **(_failed_numbers(place, failed) if not group else {})})
            numbers = cells_of(group) if group or not failed else _failed_cells(place, failed)
            lines.append({**_words(place, searched_on), **numbers, "setting": _setting_words(group), "with the paper": verdict})
        text += [f"### {network}, {published.TABLE_3_EPOCHS} epochs", "",
                 markdown_table(("solver", "form", "batch", "the paper", "way", "with the paper", *CELLS, "setting"), lines)]
    others = finder.others(used)
    if others:
        text += ["Runs of these solvers and batches that stand in no cell, since their rate was not tuned at 256, or was not "
                 "scaled linearly from there, or another search stands there:", "", _others_table(others)]
    legend = (f"{RULE}: the rate tuned at {published.BASELINES[DATASET].batch}, scaled linearly, nothing else changed. "
              f"{TUNED}: searched at {published.TABLE_3_BATCH:,}. Settings are chosen on {commands.HELD_OUT:,} held-out images "
              f"unless marked, the {commands.CONFIRM} best of them by three seeds each, then trained on all; the paper splits "
              f"55K/5K/10K. Taken over from {SEARCHED_ON}: what was chosen there, unchanged; nothing was searched on this "
              "network. Warm-ups are from zero. LARS alone has a weight decay (1e-4): it is part of its rule.")
    text += [legend, notes_of([*shown, *others])]
    return Table("Table 3: MNIST, solvers at 256 and 8K", _COLUMNS, rows, "\n".join(text), blanks)


# -------------------------------------------------------------------------------------------------------- cells


def _names(place: Place) -> dict:
    return {"network": place.network, "solver": place.solver, "form": place.form, "optimizer": place.optimizer,
            "batch": place.batch, "way": place.way, "paper_percent": place.paper.top1, "paper_words": place.paper.words or None}


def _words(place: Place, searched_on: str) -> dict:
    theirs = f", taken over from {searched_on}" if searched_on != place.network else ""
    paper = place.paper.words or f"{place.paper.top1:g}%"
    return {"solver": f"`{place.solver}`", "form": _FORM_WORDS[place.form], "batch": f"{place.batch:,}", "the paper": paper,
            "way": place.way + theirs}


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
    seeds = range(1, commands.SEEDS + 1)
    words = [f"--flagfile={flagfile(place.optimizer, place.batch)}", f"--model={place.network}"]
    cost = commands.train_cost(place.network, examples, epochs, commands.SEEDS)
    theirs = finder.taken_over(place)
    if theirs is not None:
        words += [f"--{name}={commands.as_typed(theirs.values[name])}" for name in CHOSEN if theirs.values[name] is not None]
        folder = _folder(place.network, place.optimizer, place.batch, "rule_carried" if place.way == RULE else "carried")
        words += commands.selected(theirs.select_on)
        return Blank(f"{what}, taken over from {SEARCHED_ON}", commands.train(words, DATASET, folder, seeds), cost)
    if place.way != RULE:
        return Blank(what, _sweep(place.network, place.optimizer, place.batch), sweep_cost)
    baseline_batch = published.BASELINES[DATASET].batch
    tuned = finder.tuned_rate(place)
    folder = _folder(place.network, place.optimizer, place.batch, "rule")
    if tuned is not None:
        rate = baseline_rate(tuned.values, at_baseline=True)
        words += [f"--learning_rate={rate!r}", *commands.selected(tuned.select_on)]
        return Blank(what, commands.train(words, DATASET, folder, seeds), cost)
    search = _sweep(place.network, place.optimizer, baseline_batch)
    rate = commands.chosen_value(_folder(place.network, place.optimizer, baseline_batch), "learning_rate")
    train = commands.train([*words, *commands.selected("validation")], DATASET, folder, seeds, variable="--learning_rate=$rate")
    both = Cost(f"{sweep_cost}, the search; then {cost}", sweep_cost.seconds + cost.seconds)
    return Blank(what, f"{search} && rate={rate} && {train}", both)


def _sweep(network: str, optimizer: str, batch: int) -> str:
    return commands.sweep([f"--flagfile={flagfile(optimizer, batch)}", f"--model={network}"], DATASET,
                          _folder(network, optimizer, batch), space_file(optimizer, batch))


def _folder(network: str, optimizer: str, batch: int, way: str = "") -> str:
    return f"{commands.FOLDER}/table3/{network}/{optimizer}_{batch}{'_' if way else ''}{way}"
