"""Tables from run folders, as Markdown; the paper's numbers beside ours. No TensorFlow."""

import statistics

from .. import published


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
