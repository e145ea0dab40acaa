"""Regimes as tables: where each begins, what it rests on batch by batch, and the commands for what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterable

from tf_hugebatch import regimes as recipes
from tf_hugebatch.reports import commands
from tf_hugebatch.reports.blanks import Blank
from tf_hugebatch.reports.regimes import Boundary, Regimes, Verdict
from tf_hugebatch.reports.sheets import (CELLS, NUMBER_COLUMNS, Table, cells_of, interval, markdown_table, notes_of, numbers_of,
                                         percent, plain)
from tf_hugebatch.reports.stats import Group, selected_on, trials_done
from tf_hugebatch.runs import Sweep

_COLUMNS = ("dataset", "network", "validation_examples", "boundary", "value", "holds_at", "fails_at", "decided", "paper",
            "paper_accuracy_percent", "baseline_accuracy_percent", "baseline_loss", "baseline_seeds", "epochs",
            "target_percent", "loss_limit", "trials", "words")
_BATCH_COLUMNS = ("dataset", "network", "boundary", "batch", "verdict", "reason", "optimizer", *NUMBER_COLUMNS, "mean_loss",
                  "target_percent", "loss_limit")
_CRITERIA = {"B_L": "linear scaling alone", "B_H": "the best of everything tried"}


def regimes_table(found: Iterable[Regimes]) -> Table:
    """One row a boundary; its Markdown has the batches too, that of `batches_table` is the same."""
    found = list(found)
    rows = [row for one in found for row in (_row(one, one.large), _row(one, one.huge), _full_row(one))]
    blanks = [blank for one in found for blank in blanks_of(one)]
    return Table("Regimes", _COLUMNS, rows, "\n".join(map(_section, found)), blanks)


def batches_table(found: Iterable[Regimes]) -> Table:
    """One row for every batch that a boundary rests on."""
    rows = [{**_names(one), "boundary": edge.name, "batch": verdict.batch, "verdict": verdict.word, "reason": verdict.reason,
             "optimizer": verdict.group and verdict.group.values["optimizer"], **numbers_of(verdict.group),
             "mean_loss": _mean_loss(verdict), "target_percent": 100 * one.target, "loss_limit": one.loss_limit}
            for one in found for edge in (one.large, one.huge) for verdict in edge.verdicts]
    return Table("Regimes, batch by batch", _BATCH_COLUMNS, rows, "", [])


def _names(one: Regimes):
    return {"dataset": one.family.dataset, "network": one.family.model,
            "validation_examples": one.family.validation_examples}


def _row(one: Regimes, edge: Boundary):
    paper, baseline = one.family.published, one.baseline
    bounds = {"B_L": paper.large[0], "B_H": paper.huge[0]} if paper else {}
    row = {**_names(one), "boundary": edge.name, "paper": bounds.get(edge.name), "words": words_of(one, edge),
           "paper_accuracy_percent": paper and paper.top1}
    if baseline is None:
        return row
    searched = sum(trials_done(sweep) or 0 for _, sweep in one.searches)
    return {**row, "value": edge.value, "holds_at": edge.holds_at, "fails_at": edge.fails_at, "decided": edge.decided,
            "baseline_accuracy_percent": 100 * baseline.accuracy.mean, "baseline_loss": baseline.loss and baseline.loss.mean,
            "baseline_seeds": baseline.n, "epochs": one.epochs, "target_percent": 100 * one.target,
            "loss_limit": one.loss_limit, "trials": searched if edge.name == "B_H" else None}


def _full_row(one: Regimes):
    paper = one.family.published
    return {**_names(one), "boundary": "B_F", "value": one.full, "decided": True, "paper": paper and paper.full,
            "words": f"{one.full:,}: the training examples at run time"}


def words_of(one: Regimes, edge: Boundary) -> str:
    """A boundary in a sentence or two."""
    if one.baseline is None:
        return "blank: there is no baseline"
    if not edge.verdicts:
        return f"blank: nothing was run above batch {edge.holds_at:,}"
    said = [f"holds at {edge.holds_at:,}" + (" (the baseline itself)" if edge.holds_at == one.family.baseline_batch else "")]
    said.append(f"fails at {edge.fails_at:,}" if edge.fails_at else "fails nowhere that was tried")
    if edge.decided and edge.name == "B_L":
        head = f"{edge.holds_at:,} < B_L <= {edge.fails_at:,}"
    elif edge.decided:
        head = f"{edge.holds_at:,} <= B_H < {edge.fails_at:,}"
    else:
        head = "undecided"
    if edge.open_batches:
        said.append(f"undecided at {', '.join(f'{batch:,}' for batch in edge.open_batches)}")
    if edge.again:
        said.append(f"not monotone: holds again at {', '.join(f'{batch:,}' for batch in edge.again)}")
    return f"{head}: {_CRITERIA[edge.name]} {', '.join(said)}"


# ------------------------------------------------------------------------------------------------------ Markdown


def _section(one: Regimes) -> str:
    lines = [f"### {plain(one.family)}", "", plain(_baseline_words(one)), ""]
    paper = one.family.published
    rows = [{"boundary": name, "ours": words, "the paper": f"{value:,} ({paper.model})" if value else "not in the paper"}
            for name, words, value in (
                ("B_L", words_of(one, one.large), paper and paper.large[0]),
                ("B_H", words_of(one, one.huge), paper and paper.huge[0]),
                ("B_F", _full_row(one)["words"], paper and paper.full))]
    lines += [markdown_table(("boundary", "ours", "the paper"), rows)]
    for edge in (one.large, one.huge):
        if edge.verdicts:
            lines += [f"{edge.name}, {_CRITERIA[edge.name]}, batch by batch:", "", _batches(edge)]
    if one.baseline is not None:
        lines += [*_search_words(one), ""]
    groups = [one.baseline, *(verdict.group for edge in (one.large, one.huge) for verdict in edge.verdicts)]
    return "\n".join(lines) + notes_of(groups)


def _baseline_words(one: Regimes) -> str:
    paper, baseline = one.family.published, one.baseline
    theirs = f"the paper has A = {paper.top1:g}% ({paper.model}, {paper.epochs} epochs)" if paper else \
        "the paper has no such data set"
    if baseline is None:
        return f"No baseline: no momentum SGD run at batch {one.family.baseline_batch:,} has ended with an accuracy; {theirs}."
    seeds = f"{baseline.n} seed{'s' if baseline.n > 1 else ''}"
    seeds += "" if baseline.n >= commands.SEEDS else f", fewer than the {commands.SEEDS} that a baseline takes"
    seeds += f", {baseline.diverged} of them diverged" if baseline.diverged else ""
    split = "validation" if one.family.validation_examples else "test, there is no validation split"
    loss = f"xi = {baseline.loss.mean:.4f} ({split})" if baseline.loss else "xi unknown"
    others = len(one.other_baselines)
    others = f" Other momentum SGD settings at this batch, not taken: {others}." if others else ""
    mark = cells_of(baseline)["mean"].partition("%")[2]
    epochs = f"{one.epochs:g} epoch{'s' * (one.epochs != 1)}"
    return (f"Baseline: momentum SGD at batch {one.family.baseline_batch:,}, {epochs}, {seeds}: "
            f"A = {percent(baseline.accuracy.mean)}{mark} (95% interval {interval(baseline.accuracy)}), {loss}; {theirs}. "
            f"Target 0.995 A = {percent(one.target)}"
            + (f", loss at most 1.2 xi = {one.loss_limit:.4f}." if one.loss_limit is not None else ".") + others)


def _batches(edge: Boundary) -> str:
    rows = [{"batch": f"{verdict.batch:,}", "outcome": verdict.word, "why": verdict.reason, **cells_of(verdict.group),
             "optimizer": verdict.group and f"`{verdict.group.values['optimizer']}`", "loss": _loss_words(verdict)}
            for verdict in edge.verdicts]
    return markdown_table(("batch", "outcome", "optimizer", *CELLS, "loss", "why"), rows)


def _mean_loss(verdict: Verdict):
    return verdict.group.loss.mean if verdict.group and verdict.group.loss else None


def _loss_words(verdict: Verdict) -> str:
    mean = _mean_loss(verdict)
    return "" if mean is None else f"{mean:.4f}"


def _search_words(one: Regimes) -> list[str]:
    if not one.searches:
        split = "; a sweep's final runs hold nothing out, so they count beside a baseline that does neither"
        return [f"B_H's search: none, 0 trials{split * bool(one.family.validation_examples)}."]
    return ["B_H's search:", "", *(f"* batch {batch:,}: {plain(_search(sweep))}" for batch, sweep in one.searches)]


def _search(sweep: Sweep) -> str:
    done, space = trials_done(sweep), sweep.plan.get("space")
    searched = "; ".join(f"{name} {_range(values)}" for name, values in space.items()) if isinstance(space, dict) else "unknown"
    settings = sweep.plan.get("settings")
    optimizer = settings.get("optimizer") if isinstance(settings, dict) else None
    chosen = "" if sweep.result.get("chosen") else "; none of them trained"
    return (f"{'an unknown number of' if done is None else done} trials of {optimizer or 'an unknown optimizer'} over "
            f"{searched}, chosen on {selected_on(sweep)}{chosen}")


def _range(values) -> str:
    if isinstance(values, dict):
        return f"{values.get('low')} to {values.get('high')}{' (log)' if values.get('log') else ''}"
    return ", ".join(map(str, values)) if isinstance(values, list) else str(values)


# -------------------------------------------------------------------------------------------------------- blanks


def ladder(baseline_batch: int, full: int) -> list[int]:
    """The batches to try: doubling from the baseline's, and the full one."""
    batches, batch = [], 2 * baseline_batch
    while batch < full:
        batches.append(batch)
        batch *= 2
    return [*batches, full] if full > baseline_batch else batches


def blanks_of(one: Regimes) -> list[Blank]:
    """What is missing for A and for each boundary, with the command that fills it."""
    family = one.family
    held_out = [f"--validation_examples={family.validation_examples}"] if family.validation_examples else []
    if one.baseline is None:
        words = [f"--dataset={family.dataset}", f"--model={family.model}", "--regime=baseline", *held_out]
        epochs = recipes.of(family.dataset)["baseline"]["epochs"].value
        return [_seeds(one, f"the baseline of {family}, and B_L and B_H with it", words, f"{_folder(one)}/linear_"
                       f"{family.baseline_batch}", range(1, commands.SEEDS + 1), epochs)]
    blanks = []
    if one.baseline.n < commands.SEEDS:
        blanks.append(_more_seeds(one, f"A and xi of {family}", one.baseline))
    for batch in _missing(one, one.large):
        what = f"B_L of {family}: linear scaling at {batch:,}"
        known = next((verdict.group for verdict in one.large.verdicts if verdict.batch == batch), None)
        if known:
            blanks.append(_more_seeds(one, what, known))
        else:
            words = commands.words_of({**one.baseline.values, "batch_size": batch, **_linear_rate(one.baseline)})
            blanks.append(_seeds(one, what, words, f"{_folder(one)}/linear_{batch}", range(1, commands.SEEDS + 1), one.epochs))
    if not family.validation_examples:  # a sweep's final runs train on all images, so they are of the other family
        for batch in _missing(one, one.huge):
            blanks += _searches_missing(one, batch)
    return blanks


def _missing(one: Regimes, edge: Boundary) -> list[int]:
    """Batches whose answer would narrow the bracket: within it, and either not run or undecided."""
    batches = {*ladder(one.family.baseline_batch, one.full), *edge.open_batches}
    answered = {verdict.batch for verdict in edge.verdicts if verdict.holds is not None}
    return sorted(batch for batch in batches - answered
                  if batch > edge.holds_at and (edge.fails_at is None or batch < edge.fails_at))


def _linear_rate(baseline: Group) -> dict:
    values = baseline.values
    rate = values["peak_learning_rate"] if values["peak_learning_rate"] is not None else values["learning_rate"]
    return {"learning_rate": rate, "lr_scaling": "linear", "peak_learning_rate": None}


def _searches_missing(one: Regimes, batch: int) -> list[Blank]:
    family, what = one.family, f"B_H of {one.family}: the best setting at {batch:,}"
    verdict = next((verdict for verdict in one.huge.verdicts if verdict.batch == batch), None)
    if verdict and any(at == batch for at, _ in one.searches):
        return [_more_seeds(one, what, verdict.group)]
    blanks, seen = [], set()
    for regime in ("large", "huge"):
        optimizer = recipes.of(family.dataset)[regime]["optimizer"].value
        if optimizer in seen:
            continue
        seen.add(optimizer)
        words = [f"--dataset={family.dataset}", f"--model={family.model}", f"--regime={regime}",
                 f"--batch_size={'full' if batch == one.full else batch}", f"--epochs={one.epochs:g}"]
        command = commands.sweep(words, family.dataset, f"{_folder(one)}/{optimizer}_{batch}",
                                 f"flags/sweeps/regimes_{optimizer}.json")
        cost = commands.sweep_cost(family.model, family.train_size, one.epochs)
        blanks.append(Blank(f"{what}, {optimizer}", command, cost))
    return blanks


def _more_seeds(one: Regimes, what: str, group: Group) -> Blank:
    """As many further seeds as make five, or five more, beside the runs that are there."""
    more = commands.SEEDS - group.n if group.n < commands.SEEDS else commands.SEEDS
    first = max(group.seeds) + 1
    folder = os.path.dirname(group.outcomes[0].run.path) or os.curdir
    return _seeds(one, f"{what}: {more} more seeds", commands.words_of(group.values), folder, range(first, first + more),
                  one.epochs)


def _seeds(one: Regimes, what: str, words, folder: str, seeds, epochs: float) -> Blank:
    family = one.family
    return Blank(what, commands.train(words, family.dataset, folder, seeds),
                 commands.train_cost(family.model, family.train_size, epochs, len(seeds)))


def _folder(one: Regimes) -> str:
    return f"{commands.FOLDER}/regimes/{one.family.dataset}_{one.family.model}"
