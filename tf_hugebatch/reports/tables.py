"""Tables from run folders, the paper's numbers beside ours. No TensorFlow."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable

from tf_hugebatch import published
from tf_hugebatch.fields import FIELDS, kind_of
from tf_hugebatch.reports import baselines, commands, regime_blanks, regimes, table3, table3_cells
from tf_hugebatch.reports.blanks import Blank, cost_in_words
from tf_hugebatch.reports.outcomes import read_outcomes, setting_of, updates
from tf_hugebatch.reports.sheets import (CELLS, NUMBER_COLUMNS, Table, cells_of, interval, mark_of, markdown_table, notes_of,
                                         numbers_of, percent, plain)
from tf_hugebatch.reports.stats import Group, group_runs
from tf_hugebatch.runs import Run, Sweep
from tf_hugebatch.settings import resolve

NUMBERS = range(1, 5)
IMAGENET = "imagenet2012"


def make(number: int, runs: Iterable[Run], sweeps: Iterable[Sweep]) -> Table:
    """A table of the paper, ours beside it; what no run folder holds is blank, with the command that fills it. Runs whose
    batch grows are in no cell, since a cell is of one batch.

    Args:
        number: 1 to 4.
    """
    groups, _ = group_runs(read_outcomes(runs)[0])
    return _MAKERS[number]([group for group in groups if not group.values["batch_growth"]], list(sweeps))


# ------------------------------------------------------------------------------------------------------- Table 1

_TABLE_1 = ("who", "date", "paper_percent", "paper_seconds", "optimizer", "batch", "seconds", *NUMBER_COLUMNS)


def _table_1(groups, sweeps):
    rows = [{"who": record.who, "date": record.date, "paper_percent": record.top1, "paper_seconds": record.seconds,
             "optimizer": record.optimizer} for record in published.TABLE_1]
    lines = [{"who": record.who, "date": record.date, "the paper": f"{record.top1:g}%", "time": _time(record.seconds),
              "optimizer": record.optimizer} for record in published.TABLE_1]
    ours = [group for group in groups if _is_imagenet(group)]
    for group in ours:
        seconds, batch = _seconds(group), group.values["batch_size"]
        optimizer = group.values["optimizer"]
        rows.append({"who": "ours", "optimizer": optimizer, "batch": batch, "seconds": seconds, **numbers_of(group)})
        lines.append({"who": f"ours, batch {batch:,}", "optimizer": f"`{optimizer}`", "time": _time(seconds),
                      **cells_of(group)})
    blanks = []
    if not ours:
        row = published.mlperf_row(8_192, "")
        images = row.epochs[1] * published.BASELINES[IMAGENET].train_examples
        blanks = [Blank("Table 1, a run of ours", _imagenet("flags/mlperf/b8192.flags", "mlperf/b8192"),
                        cost_in_words("resnet50", images))]
    text = markdown_table(("who", "date", "the paper", "optimizer", "time", *CELLS), lines) + notes_of(ours)
    return Table("Table 1: ImageNet / ResNet-50 speed records", _TABLE_1, rows, text, blanks)


def _seconds(group: Group) -> float | None:
    walls = [outcome.run.status.get("wall_seconds") for outcome in group.outcomes]
    known = [wall for wall in walls if isinstance(wall, (int, float)) and not isinstance(wall, bool) and wall > 0]
    return statistics.median(known) if len(known) == len(walls) else None


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 3600:
        return f"{seconds / 60:.3g} min" if seconds >= 120 else f"{seconds:.3g} s"
    return f"{seconds / 3600:.3g} h" if seconds >= 7200 else f"{seconds / 60:.0f} min"


# ------------------------------------------------------------------------------------------------------- Table 2

_TABLE_2 = ("dataset", "network", "paper_network", "baseline_batch", "epochs", "paper_percent", "paper_large_from",
            "paper_large_to", "paper_huge_from", "paper_huge_to", "paper_full", "ours_large_from", "ours_large_decided",
            "ours_huge_from", "ours_huge_decided", "ours_full", *NUMBER_COLUMNS)


def _table_2(groups, sweeps):
    found = regimes.find(groups, sweeps)
    rows, lines = [], []
    for one in found:
        paper, family = one.family.published, one.family
        theirs = {"paper_network": paper.model, "paper_percent": paper.top1, "paper_large_from": paper.large[0],
                  "paper_large_to": paper.large[1], "paper_huge_from": paper.huge[0], "paper_huge_to": paper.huge[1],
                  "paper_full": paper.full} if paper else {}
        ours = {"ours_large_from": one.large.value, "ours_large_decided": one.large.decided, "ours_huge_from": one.huge.value,
                "ours_huge_decided": one.huge.decided} if one.baseline else {}
        rows.append({"dataset": family.dataset, "network": family.model, "baseline_batch": family.baseline_batch,
                     "epochs": one.epochs, **theirs, **ours, "ours_full": one.full, **numbers_of(one.baseline)})
        if paper:
            lines.append({"data set": family.dataset, "whose": "the paper", "network": paper.model, "B0": f"{paper.batch:,}",
                          "epochs": paper.epochs, "A": f"{paper.top1:g}%", "B_L": f"{paper.large[0]:,}",
                          "B_H": f"{paper.huge[0]:,}", "B_F": f"{paper.full:,}"})
        mean = one.baseline and one.baseline.accuracy
        lines.append({"data set": family.dataset, "whose": "ours", "network": family.model, "B0": f"{family.baseline_batch:,}",
                      "epochs": f"{one.epochs:g}" if one.epochs else "", **cells_of(one.baseline),
                      "A": cells_of(one.baseline).get("mean"), "95% interval": interval(mean), "B_F": f"{one.full:,}",
                      **{edge.name: _bracket(one, edge) if one.baseline and edge.verdicts else ""
                         for edge in (one.large, one.huge)}})
    columns = ("data set", "whose", "network", "B0", "epochs", "A", *CELLS[1:], "B_L", "B_H", "B_F")
    text = markdown_table(columns, lines) + notes_of([one.baseline for one in found])
    return Table("Table 2: baselines and regimes", _TABLE_2, rows, text, regime_blanks.blanks_of(found))


def _bracket(one: regimes.Regimes, edge: regimes.Boundary) -> str:
    if one.doubt:
        return f"undecided: {one.doubt}"
    if not edge.decided:
        return f"undecided (holds at {edge.holds_at:,}" + (f", fails at {edge.fails_at:,})" if edge.fails_at else ")")
    return edge.bracket


# ------------------------------------------------------------------------------------------------------- Table 4

#: What the paper's table leaves open, and how a rate is stated.
_FREE_IN_TABLE_4 = ("learning_rate", "lr_scaling", "peak_learning_rate", "shuffle", "precision", "deterministic")
_TABLE_4 = ("batch", "peak_rate", "warmup_epochs", "momentum", "tpu_chips", "paper_percent", *NUMBER_COLUMNS)


def _table_4(groups, sweeps):
    rows, lines, blanks, used = [], [], [], []
    full = published.BASELINES[IMAGENET]
    for row in published.TABLE_4:
        recipe = setting_of(table_4_recipe(row), *_FREE_IN_TABLE_4)
        group = max((group for group in groups if table3_cells.peak_rate(group.values) == row.learning_rate
                     and setting_of(group.values, *_FREE_IN_TABLE_4) == recipe), key=lambda group: group.n, default=None)
        used.append(group)
        rows.append({"batch": published.TABLE_4_BATCH, "peak_rate": row.learning_rate, "warmup_epochs": row.warmup_epochs,
                     "momentum": row.momentum, "tpu_chips": row.tpu_chips, "paper_percent": row.top1, **numbers_of(group)})
        lines.append({"rate": f"{row.learning_rate:g}", "warm-up": f"{row.warmup_epochs} epochs", "momentum": row.momentum,
                      "TPU chips (the paper)": row.tpu_chips, "the paper": f"{row.top1:.2f}%", **cells_of(group)})
        if group is None:
            name = f"lr{row.learning_rate:g}_chips{row.tpu_chips}"
            blanks.append(Blank(f"Table 4, rate {row.learning_rate:g}, momentum {row.momentum}",
                                _imagenet(f"flags/table4/{name}.flags", f"table4/{name}"),
                                commands.train_cost("resnet50", full.train_examples, full.epochs, 1)))
    text = markdown_table(("rate", "warm-up", "momentum", "TPU chips (the paper)", "the paper", *CELLS), lines) + notes_of(used)
    return Table(f"Table 4: ImageNet / ResNet-50, LARS, batch {published.TABLE_4_BATCH:,}", _TABLE_4, rows, text, blanks)


def table_4_recipe(row: published.Table4Row) -> dict:
    """Every setting of a row's runs, as its flagfile gives them (flags/table4); rows that differ in chips share theirs."""
    given = {"dataset": IMAGENET, "model": "resnet50", "batch_size": published.TABLE_4_BATCH,
             "epochs": published.BASELINES[IMAGENET].epochs, "warmup_epochs": row.warmup_epochs, "optimizer": "lars",
             "optimizer_preset": "mlperf", "peak_learning_rate": row.learning_rate, "momentum": row.momentum,
             "weight_decay": published.TABLE_4_WEIGHT_DECAY, "schedule": "cosine",
             "label_smoothing": published.TABLE_4_LABEL_SMOOTHING, "bn_span": published.BATCH_NORM_EXAMPLES}
    return resolve([("table 4", given)])[0].as_dict()


def _is_imagenet(group):
    values = group.values
    return values["dataset"] == IMAGENET and values["model"] == "resnet50" and values["dataset_size"] is None


def _imagenet(flagfile: str, folder: str) -> str:
    return commands.train([f"--flagfile={flagfile}"], IMAGENET, f"{commands.FOLDER}/{folder}", [1])


_MAKERS: dict[int, Callable[[list[Group], list[Sweep]], Table]] = {1: _table_1, 2: _table_2, 3: table3.make, 4: _table_4}


# -------------------------------------------------------------------------------------------- README's results


def results_table(runs: Iterable[Run]) -> str:
    """Runs by optimizer and batch, one row for all seeds of a setting; settings of one optimizer, batch, network and duration
    that differ in anything else are rows of their own, which say in what.

    Words on the data (status.json's `data_note`) stand beside the accuracy. A run that has not ended, a trial and a seed that
    is there twice count nowhere; a diverged run counts as such and its accuracy enters no mean.

    Returns:
        Markdown: optimizer, batch, epochs, updates, seeds, mean test accuracy with its range, and the paper's cell of
        Table 3, or its best at the batch, where there is one.
    """
    groups, _ = group_runs(read_outcomes(runs)[0])
    lines = [
        "| optimizer | batch | network | epochs | updates | seeds | test accuracy, mean (range) | the paper |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for group in groups:
        values, epochs = group.values, baselines.epochs_of(group.values)
        alike = [one.values for one in groups if _row_of(one) == _row_of(group)]
        differs = _differences(values, alike)
        growing = ", growing" if values["batch_growth"] else ""
        lines.append(f"| `{values['optimizer']}`{differs and f' ({plain(differs)})'} | {values['batch_size']:,}{growing} | "
                     f"{values['model']} | {'' if epochs is None else f'{epochs:g}'} | {_updates(group)} | {group.n} | "
                     f"{plain(_accuracy(group))} | {_published(values)} |")
    return "\n".join(lines + _notes(groups)) + "\n"


def _row_of(group):
    return [group.values[name] for name in ("optimizer", "batch_size", "model")] + [baselines.epochs_of(group.values)]


def _differences(values, alike):
    """'learning_rate 0.05': the settings in which rows that look alike differ, as this one has them."""
    return ", ".join(f"{name} {commands.as_typed(values[name])}" for name in FIELDS
                     if name != "seed" and kind_of(name, values) == "experiment" and values[name] is not None
                     and any(other[name] != values[name] for other in alike))


def _updates(group):
    made = updates(group.values)
    return "" if made is None else f"{made:,}"


def _accuracy(group):
    words = [f"{group.diverged} diverged"] if group.diverged else []
    if group.accuracy:
        low, high = group.accuracy.range
        spread = f" ({100 * low:.2f} to {100 * high:.2f})" if group.accuracy.n > 1 else ""
        words.insert(0, f"{percent(group.accuracy.mean)}{mark_of(group.select_on)}{spread}")
    return ", ".join(words) + (f" ({group.note})" if group.note else "")


def _notes(groups):
    found = notes_of(groups).strip()
    return ["", found] if found else []


def _published(values):
    """The cell of Table 3, which is of MNIST, or the paper's best at the batch; empty where the paper has neither."""
    optimizer, batch_size = values["optimizer"], values["batch_size"]
    if values["dataset"] != table3_cells.DATASET or values["epochs"] != published.TABLE_3_EPOCHS or values["batch_growth"]:
        return ""
    for row in published.TABLE_3:
        if row.solver == optimizer and batch_size == published.BASELINES["mnist"].batch:
            cell = row.baseline
        elif row.solver == optimizer and batch_size == published.TABLE_3_BATCH:
            cell = row.original
        else:
            continue
        return cell.words or f"{cell.top1:g}%"
    return next((f"{best.top1:.2f}% at best, in {best.epochs:,} epochs" for best in published.RESULTS
                 if (best.dataset, best.batch, best.recipe) == (table3_cells.DATASET, batch_size, published.BEST_FOUND)), "")
