"""Regimes as tables: where each begins, what it rests on batch by batch, and the commands for what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tf_hugebatch.reports import baselines, regime_blanks
from tf_hugebatch.reports.regimes import Boundary, Regimes, Verdict
from tf_hugebatch.reports.sheets import (CELLS, NUMBER_COLUMNS, Table, cells_of, chosen_on, interval, markdown_table, notes_of,
                                         numbers_of, percent, plain)
from tf_hugebatch.reports.stats import Group, selected_on, tested_before, trials_done
from tf_hugebatch.runs import Sweep

_COLUMNS = ("dataset", "network", "validation_examples", "boundary", "value", "holds_at", "fails_at", "decided", "paper",
            "paper_accuracy_percent", "baseline_accuracy_percent", "baseline_loss", "baseline_seeds", "baseline_diverged",
            "baseline_rate", "baseline_selected_on", "epochs", "target_percent", "loss_limit", "trials", "words")
_BATCH_COLUMNS = ("dataset", "network", "boundary", "batch", "verdict", "reason", "optimizer", *NUMBER_COLUMNS, "mean_loss",
                  "target_percent", "loss_limit")
_CRITERIA = {"B_L": "linear scaling alone", "B_H": "the best of everything tried"}


def regimes_table(found: Iterable[Regimes]) -> Table:
    """One row a boundary; its Markdown has the batches too, that of `batches_table` is the same."""
    found = list(found)
    rows = [row for one in found for row in (_row(one, one.large), _row(one, one.huge), _full_row(one))]
    return Table("Regimes", _COLUMNS, rows, "\n".join(map(_section, found)), regime_blanks.blanks_of(found))


def in_short(found: Iterable[Regimes]) -> Iterator[str]:
    """A line for each boundary of every family with a baseline."""
    for one in found:
        if one.baseline is not None:
            yield from (f"{one.family}: {edge.name} {words_of(one, edge)}" for edge in (one.large, one.huge))


def batches_table(found: Iterable[Regimes]) -> Table:
    """One row for every batch that a boundary rests on."""
    rows = [{**_names(one), "boundary": edge.name, "batch": verdict.batch, "verdict": verdict.word, "reason": verdict.reason,
             "optimizer": verdict.group and verdict.group.values["optimizer"],
             **numbers_of(_shown(one, edge, verdict)),
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
            "baseline_seeds": baseline.n, "baseline_diverged": baseline.diverged,
            "baseline_rate": baselines.baseline_rate(baseline.values, at_baseline=True),
            "baseline_selected_on": baseline.select_on or None, "epochs": one.epochs, "target_percent": 100 * one.target,
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
        return f"blank: nothing was run above batch {edge.holds_at:,}" + (f"; {one.doubt}" if one.doubt else "")
    if one.doubt:
        return f"undecided: {one.doubt}"
    said = [f"holds at {edge.holds_at:,}" + (" (the baseline itself)" if edge.holds_at == one.family.baseline_batch else "")]
    if edge.fails_at:
        said.append(f"fails at {edge.fails_at:,}")
    elif edge.holds_at == one.full:
        said.append("every training example in every update")
    else:
        said.append("fails nowhere that was tried")
    if edge.open_batches:
        said.append(f"undecided at {', '.join(f'{batch:,}' for batch in edge.open_batches)}")
    if edge.out_of_order:
        listed = ", ".join(f"{batch:,}" for batch in edge.out_of_order)
        said.append(f"not monotone: {'holds again' if edge.name == 'B_L' else 'fails below it'} at {listed}")
    return f"{edge.bracket if edge.decided else 'undecided'}: {_CRITERIA[edge.name]} {', '.join(said)}"


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
            lines += [f"{edge.name}, {_CRITERIA[edge.name]}, batch by batch:", "", _batches(one, edge)]
    if one.baseline is not None:
        lines += [*_search_words(one), ""]
    groups = [one.baseline, *(_shown(one, edge, verdict) for edge in (one.large, one.huge) for verdict in edge.verdicts)]
    return "\n".join(lines) + notes_of(groups)


def _baseline_words(one: Regimes) -> str:
    paper, baseline, family = one.family.published, one.baseline, one.family
    theirs = f"the paper has A = {paper.top1:g}% ({paper.model}, {paper.epochs} epochs)" if paper else \
        "the paper has no such data set"
    if baseline is None:
        why = f"no momentum SGD run at batch {family.baseline_batch:,} has ended with an accuracy, trials of searches apart"
        if family.train_size < family.baseline_batch:
            why = f"its batch, {family.baseline_batch:,}, is more than the {family.train_size:,} training examples"
        return f"No baseline: {why}; {theirs}.{_others_words(one)}"
    split = "validation" if family.validation_examples else "test, there is no validation split"
    loss = f"xi = {baseline.loss.mean:.4f} ({split})" if baseline.loss else "xi unknown"
    mark = cells_of(baseline)["mean"].partition("%")[2]
    epochs = f"{one.epochs:g} epoch{'s' * (one.epochs != 1)}"
    return (f"Baseline: momentum SGD at batch {family.baseline_batch:,}, {epochs}, {_setting_words(baseline)}: "
            f"A = {percent(baseline.accuracy.mean)}{mark} (95% interval {interval(baseline.accuracy)}), {loss}; {theirs}. "
            f"Target 0.995 A = {percent(one.target)}"
            + (f"; for B_L also a loss of at most 1.2 xi = {one.loss_limit:.4f}." if one.loss_limit is not None else ".")
            + (f" It decides nothing: {one.doubt}." if one.doubt else "") + _others_words(one))


def _setting_words(group: Group) -> str:
    """A baseline's rate, how it was come by, and its seeds."""
    rate = baselines.baseline_rate(group.values, at_baseline=True)
    chosen = chosen_on(group.select_on, group.tested_before)
    source = f"chosen on {chosen}" + (f" in {group.trials} trials" if group.trials else "") if chosen else "not searched"
    return f"rate {'unknown' if rate is None else f'{rate:.4g}'} ({source}), {group.n} seed{'s' * (group.n > 1)}"


def _others_words(one: Regimes) -> str:
    if not one.other_baselines:
        return ""
    listed = "; ".join(f"{_setting_words(group)}{f', {group.words}' if group.words else ''}" for group in one.other_baselines)
    return f" Not taken: {listed}. {baselines.RULE}."


def _shown(one: Regimes, edge: Boundary, verdict: Verdict) -> Group | None:
    """The group of a verdict; one that is the baseline, its rate scaled, says what chose that rate, one that test accuracy
    picked says so."""
    group = verdict.group
    if group is None:
        return None
    if edge.name == "B_L" or baselines.is_linear_scaling_of(group, one.baseline):
        group = group.taken_from(one.baseline)
    return group.picked_by_test() if verdict.by_test else group


def _batches(one: Regimes, edge: Boundary) -> str:
    rows = [{"batch": f"{verdict.batch:,}", "outcome": verdict.word, "why": verdict.reason,
             **cells_of(_shown(one, edge, verdict)), "loss": _loss_words(verdict),
             "optimizer": verdict.group and f"`{verdict.group.values['optimizer']}`"}
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
    done, optimizer = trials_done(sweep), sweep.settings.get("optimizer")
    searched = "; ".join(f"{name} {_range(values)}" for name, values in sweep.space.items()) or "unknown"
    chosen = "" if sweep.result.get("chosen") else "; none of them trained"
    on = chosen_on(selected_on(sweep), tested_before(sweep))
    return (f"{'an unknown number of' if done is None else done} trials of {optimizer or 'an unknown optimizer'} over "
            f"{searched}, chosen on {on}{chosen}")


def _range(values) -> str:
    if isinstance(values, dict):
        return f"{values.get('low')} to {values.get('high')}{' (log)' if values.get('log') else ''}"
    return ", ".join(map(str, values)) if isinstance(values, list) else str(values)
