"""Run and sweep folders with known numbers, written as a run writes them but without training."""

import itertools
import json
import pathlib

from tf_hugebatch.records import RunFolder
from tf_hugebatch.runs import Run, Sweep
from tf_hugebatch.settings import Settings

RULE = {"optimizer": "sgd", "learning_rate": 0.05, "lr_scaling": "linear", "schedule": "polynomial", "warmup_epochs": 0}


def made_run(folder, accuracy=0.99, loss=0.03, *, status="done", final=None, **settings):
    """A run that has ended, on mnist5k unless told; `final` and `note` as status.json has them."""
    note = settings.pop("note", None)
    values = Settings(**{"dataset": "mnist5k", "run_dir": str(folder), **settings})
    run = RunFolder(folder)
    run.create(values)
    rows = [{"kind": "train", "step": step, "epoch": 10.0 * step, "loss": 2.3 / step, "learning_rate": 0.1}
            for step in (1, 2, 3)]
    rows.append({"kind": "eval", "split": "test", "step": 3, "epoch": 30.0, "accuracy": accuracy, "loss": loss})
    run.append_metrics(rows)
    found = {"train_loss": 0.01, "test_accuracy": accuracy, "test_loss": loss}
    if values.validation_examples:
        found |= {"validation_accuracy": accuracy, "validation_loss": loss}
    run.write_status(status=status, step=3, total_steps=3, reason=None, wall_seconds=60.0,
                     final=found if final is None else final,
                     **({"data_note": note} if note else {}))
    return Run(folder)


def made_seeds(folder, accuracies, losses=0.03, **settings):
    """A run for each accuracy, seeds from 1; None diverges. losses: one, or one a seed."""
    losses = losses if isinstance(losses, (list, tuple)) else itertools.repeat(losses)
    return [made_run(pathlib.Path(folder) / f"seed{seed}", accuracy, loss,
                     status="done" if accuracy is not None else "diverged",
                     seed=seed, **settings)
            for seed, (accuracy, loss) in enumerate(zip(accuracies, losses), start=1)]


def made_sweep(folder, accuracies=(), losses=0.03, *, chosen, space=None, trials=20, confirm=3, diverged=0,
               select_on="validation", status="done", tested_before=(), **settings):
    """A sweep that tried `trials` points and, unless `chosen` is None, has a final run for each accuracy.

    tested_before: earlier choices, as result.json names them.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    base = Settings(**{"dataset": "mnist5k", **{name: value for name, value in settings.items() if name != "note"}})
    plan = {"schema_version": 1, "program": "mnist_main", "method": "random", "trials": trials, "confirm": confirm,
            "final_seeds": len(accuracies), "select_on": select_on, "space": space or {name: {"low": 0.01, "high": 10.0, "log": True} for name in chosen or {}},
            "settings": base.as_dict(), "command_line": []}
    if "peak_learning_rate" in (chosen or {}):
        settings = {name: value for name, value in settings.items() if name not in ("learning_rate", "lr_scaling")}
    result = {"status": status, "trials": {"done": trials - diverged, "diverged": diverged, "failed": 0}, "failed": [],
              "chosen": chosen and {"trial": 0, "values": chosen, "accuracy": 0.99, "split": select_on}, "edges": [],
              "tested_before": tested_before}
    (folder / "sweep.json").write_text(json.dumps(plan))
    (folder / "result.json").write_text(json.dumps(result))
    for number in range(min(trials, 2)):  # two stand for all
        made_run(folder / "trials" / f"{number:04d}", 0.5, seed=0, **{"dataset": "mnist5k", **settings, **(chosen or {}),
                 "validation_examples": 0 if select_on == "test" else 400})
    if chosen:
        made_seeds(folder / "final", accuracies, losses, **{"dataset": "mnist5k", **settings, **chosen})
    return Sweep(folder)
