"""The runs of a sweep that are to be made: a trial, a repeat that confirms one, a final run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping

from tf_hugebatch.tuning.children import Outcome
from tf_hugebatch.tuning.plan import Plan
from tf_hugebatch.tuning.screen import duration, in_words
from tf_hugebatch.tuning.study import Trial


@dataclasses.dataclass(frozen=True)
class Task:
    """A run to be made. key: a trial's number, with the seed of a repeat, or a final run's seed."""

    key: int | tuple[int, int]
    name: str
    values: Mapping
    folder: str
    command: list[str]
    split: str

    def log(self, sweep_dir: str) -> str:
        """The file that gets what it says."""
        return os.path.join(sweep_dir, "logs", f"{os.path.relpath(self.folder, sweep_dir)}.txt".replace("/", "-"))

    def how_it_ended(self, result: Outcome) -> str:
        """In a line."""
        if result.status == "done":
            how = f"{self.split} accuracy {result.in_words}"
        else:
            how = f"{result.status} ({result.reason})"
        seconds = f", {duration(result.seconds)}" if result.seconds else ""
        return f"{self.name}: {how}{seconds} [{in_words(self.values)}]"


def of_trial(plan: Plan, trial: Trial) -> Task:
    """A point of the space."""
    return Task(trial.number, f"trial {trial.number}", trial.values, plan.trial_folder(trial.number),
                plan.trial_command(trial.number, trial.values), plan.select_on)


def of_repeat(plan: Plan, trial: Trial, seed: int) -> Task:
    """A point again with another seed, on the split that selects."""
    return Task((trial.number, seed), f"trial {trial.number}, seed {seed}", trial.values,
                plan.repeat_folder(trial.number, seed), plan.repeat_command(trial.number, trial.values, seed), plan.select_on)


def of_final(plan: Plan, values: Mapping, seed: int) -> Task:
    """The chosen setting on all training data, with its test accuracy."""
    return Task(seed, f"final run, seed {seed}", values, plan.final_folder(seed), plan.final_command(values, seed), "test")
