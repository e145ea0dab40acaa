"""Tables from run folders, the paper's numbers beside ours. No TensorFlow."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable

from tf_hugebatch import published
from tf_hugebatch.reports import commands, regime_blanks, regimes, table3
from tf_hugebatch.reports.blanks import Blank, cost_in_words
from tf_hugebatch.reports.outcomes import read_outcomes
from tf_hugebatch.reports.sheets import CELLS, NUMBER_COLUMNS, Table, cells_of, interval, markdown_table, notes_of, numbers_of
from tf_hugebatch.reports.stats import Group, group_runs
from tf_hugebatch.runs import Run, Sweep

NUMBERS = range(1, 5)
IMAGENET = "imagenet2012"


def make(number: int, runs: Iterable[Run], sweeps: Iterable[Sweep]) -> Table:
    """A table of the paper, ours beside it; what no run folder holds is blank, with the command that fills it.

    Args:
        number: 1 to 4.
    """
    groups, _ = group_runs(read_outcomes(runs)[0])
    return _MAKERS[number](groups, list(sweeps))


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
    signs = ("<", "<=") if edge.name == "B_L" else ("<=", "<")
    return f"{edge.holds_at:,} {signs[0]} {edge.name} {signs[1]} {edge.fails_at:,}"


# ------------------------------------------------------------------------------------------------------- Table 4

_TABLE_4 = ("batch", "peak_rate", "warmup_epochs", "momentum", "tpu_chips", "paper_percent", *NUMBER_COLUMNS)


def _table_4(groups, sweeps):
    rows, lines, blanks, used = [], [], [], []
    full = published.BASELINES[IMAGENET]
    for row in published.TABLE_4:
        group = max((group for group in groups if _is_row_of_table_4(group, row)), key=lambda group: group.n, default=None)
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


def _is_row_of_table_4(group, row):
    values = group.values
    return _is_imagenet(group) and values["batch_size"] == published.TABLE_4_BATCH and values["optimizer"] == "lars" and (
        table3.peak_rate(values), values["warmup_epochs"], values["momentum"], values["epochs"]) == (
        row.learning_rate, row.warmup_epochs, row.momentum, published.BASELINES[IMAGENET].epochs)


def _is_imagenet(group):
    values = group.values
    return values["dataset"] == IMAGENET and values["model"] == "resnet50" and values["dataset_size"] is None


def _imagenet(flagfile: str, folder: str) -> str:
    return commands.train([f"--flagfile={flagfile}"], IMAGENET, f"{commands.FOLDER}/{folder}", [1])


_MAKERS: dict[int, Callable[[list[Group], list[Sweep]], Table]] = {1: _table_1, 2: _table_2, 3: table3.make, 4: _table_4}


# -------------------------------------------------------------------------------------------- README's results


def results_table(runs):
    """MNIST runs by optimizer and batch, one row for all seeds of a setting.

    Words on the data (status.json's `data_note`) stand beside the accuracy. A run that has not ended counts nowhere; a
    diverged one counts as such and its accuracy enters no mean.

    Args:
        runs: list of `runs.Run`.

    Returns:
        Markdown: optimizer, batch, epochs, updates, seeds, mean test accuracy with its range, and the paper's cell of
        Table 3 where there is one.
    """
    settings = {}
    for run in runs:
        if run.status.get("status") in ("done", "diverged"):
            key = tuple(run.settings[name] for name in ("optimizer", "batch_size", "model", "epochs"))
            key += (run.status.get("data_note", ""),)
            settings.setdefault(key, []).append(run)
    lines = [
        "| optimizer | batch | network | epochs | updates | seeds | test accuracy, mean (range) | the paper |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key in sorted(settings, key=lambda key: (key[1], key[0])):
        optimizer, batch_size, model, epochs, note = key
        group = settings[key]
        lines.append(f"| `{optimizer}` | {batch_size:,} | {model} | {epochs:g} | {group[0].status['total_steps']:,} | "
                     f"{len(group)} | {_accuracy(group, note)} | {_published(optimizer, batch_size)} |")
    return "\n".join(lines) + "\n"


def _accuracy(runs, note):
    diverged = [run for run in runs if run.status["status"] == "diverged"]
    values = [100 * run.status["final"]["test_accuracy"] for run in runs if run not in diverged]
    words = [f"{len(diverged)} diverged"] if diverged else []
    if values:
        spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
        words.insert(0, f"{statistics.mean(values):.2f}%{spread}")
    return ", ".join(words) + (f" ({note})" if note else "")


def _published(optimizer, batch_size):
    """The cell of Table 3; empty where the paper has none."""
    for row in published.TABLE_3:
        if row.solver == optimizer and batch_size == published.BASELINES["mnist"].batch:
            cell = row.baseline
        elif row.solver == optimizer and batch_size == published.TABLE_3_BATCH:
            cell = row.original
        else:
            continue
        return cell.words or f"{cell.top1:g}%"
    return ""
