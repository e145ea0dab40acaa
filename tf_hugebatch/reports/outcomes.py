"""What each run came to, and which folders say nothing that a report can use, with the reason.

Only a run that has ended counts: done, with a test accuracy, or diverged. Values are checked as those of a command line
are, so that a string where a number belongs is named, not averaged.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import os
import sys
from collections.abc import Iterable

from tf_hugebatch import durations, records, registry
from tf_hugebatch.fields import EXCLUSIVE, FIELDS, kind_of
from tf_hugebatch.levels import default_of
from tf_hugebatch.runs import Run, Sweep, read_object

_NEEDED = ("dataset", "model", "optimizer", "batch_size", "seed")


@dataclasses.dataclass(frozen=True)
class LeftAside:
    """A folder, or a part of one, that the report does not use, and why."""

    path: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A run that has ended.

    values: its settings, checked, defaults filled in. accuracy, loss: on the test split after the last update (accuracies in
    [0, 1], losses plain cross-entropy in nats: neither smoothing nor decay); None where a diverged run has none.
    validation_loss: likewise, None without a validation split.
    """

    run: Run
    values: dict
    diverged: bool
    accuracy: float | None
    loss: float | None
    validation_loss: float | None
    note: str

    @property
    def seed(self) -> int:
        return self.values["seed"]

    @functools.cached_property
    def sweep(self) -> Sweep | None:
        """The sweep whose chosen setting this is; None for a trial, a run of its own, and a sweep that tried nothing."""
        sweep = self.run.sweep
        return sweep if self.run.part == "final" and trials_planned(sweep) else None

    @property
    def is_trial(self) -> bool:
        """A run that searched: it says which setting to choose, never how good that setting is."""
        return searched(self.run)

    @property
    def watched_loss(self) -> float | None:
        """The loss of definition 2.1: on validation, on test where there is no validation split."""
        return self.validation_loss if self.values["validation_examples"] else self.loss


def state(run: Run) -> str:
    """A run's status as it is written; 'dry run' for one that was not to train, 'no status' where there is none to read."""
    return one_line(run.status.get("status") or ("dry run" if run.settings.get("dry_run") is True else "no status"))


def searched(run: Run) -> bool:
    """Whether a run is part of a search: of a sweep's runs only those of a chosen setting are not."""
    return run.part not in ("", "final", "final_before")


def trials_planned(sweep: Sweep | None) -> int:
    """Trials that a sweep was asked for; 0 for none, and for a plan that doesn't say."""
    asked = sweep.plan.get("trials") if sweep else None
    return asked if isinstance(asked, int) and not isinstance(asked, bool) and asked > 0 else 0


def read_outcomes(runs: Iterable[Run]) -> tuple[list[Outcome], list[LeftAside]]:
    """The runs that count, in order, and what does not."""
    outcomes, aside = [], []
    for run in runs:
        try:
            outcomes.append(_outcome(run))
        except ValueError as error:
            aside.append(LeftAside(run.path, str(error)))
            continue
        if run.damaged:
            aside.append(LeftAside(f"{run.path}/metrics.jsonl",
                                   f"{run.damaged} of {run.damaged + len(run.metrics)} lines torn or no rows; the rest counts"))
        elif not run.metrics:
            aside.append(LeftAside(f"{run.path}/metrics.jsonl", "missing, empty or no file: what status.json says counts, and "
                                   "there are no curves to draw"))
    return outcomes, aside


@dataclasses.dataclass(frozen=True)
class Ladder:
    """A ladder.json. path: its folder. settings: what its rungs start from, as written. rungs: as written, dicts."""

    path: str
    settings: dict
    rungs: list[dict]


def read_ladders(sweeps: Iterable[Sweep]) -> tuple[list[Ladder], list[LeftAside]]:
    """The ladders whose rungs are among `sweeps`, in order, and what can't be read."""
    ladders, aside = [], []
    for folder in sorted({os.path.dirname(os.path.abspath(sweep.path)) for sweep in sweeps}):
        if not os.path.lexists(path := os.path.join(folder, "ladder.json")):
            continue
        try:
            plan = read_object(path) or {}
            ladder = Ladder(folder, plan.get("settings"), plan.get("rungs"))
            whole = isinstance(ladder.rungs, list) and all(isinstance(rung, dict) for rung in ladder.rungs)
            if not whole or not isinstance(ladder.settings, dict):
                raise ValueError("no JSON object with settings and rungs: cut off, or not a ladder's")
            checked_settings(ladder)
        except ValueError as error:
            reason = str(error).replace("settings.json says", "its settings say")
            aside.append(LeftAside(path, f"{reason}; its rungs count as searches of their own"))
        else:
            ladders.append(ladder)
    return ladders, aside


def checked_settings(run: Run | Sweep | Ladder) -> dict:
    """Every setting of a run (a sweep's plan, a ladder), parsed as flags are; None where it has none. Raises ValueError."""
    given = run.settings
    if not given:
        raise ValueError("settings.json is missing, empty or no JSON object: cut off, or not a run's")
    version = given.get("schema_version", records.SCHEMA_VERSION)
    if version != records.SCHEMA_VERSION:
        raise ValueError(f"settings.json has schema version {version} and this release reads {records.SCHEMA_VERSION}")
    missing = [name for name in _NEEDED if given.get(name) is None]
    if missing:
        raise ValueError(f"settings.json has no {', '.join(missing)}")
    values = {}
    for name, field in FIELDS.items():
        value = given[name] if name in given else default_of(name, given)
        if value is None and name in given and not _may_be_none(field, given):
            raise ValueError(f"settings.json says {name}=null: a run writes its value")
        try:
            values[name] = None if value is None else field.parse(value)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"settings.json says {name}={_short(value)}: {error}") from None
        # inf is the one number that JSON has as text.
        if isinstance(value, str) and isinstance(values[name], (int, float)) and math.isfinite(values[name]):
            raise ValueError(f"settings.json says {name}={json.dumps(_short(value))}, as text: a run writes {values[name]}")
    for name in ("batch_size", "validation_examples", "epochs", "train_steps"):
        if isinstance(values[name], str):
            raise ValueError(f"settings.json says {name}={values[name]}: a run writes the number")
    if values["validation_examples"] is None:
        raise ValueError("settings.json says validation_examples=null: a run writes the number")
    if train_size(values) < values["batch_size"]:
        raise ValueError(f"settings.json says batch_size={values['batch_size']:,} of {train_size(values):,} training examples")
    return values


def _may_be_none(field, given):
    """Whether a setting may be null: by itself, or displaced by one that is given in its place."""
    partners = (partner for sides in EXCLUSIVE for side in sides if field.name in side
                for other in sides if other is not side for partner in other)
    return field.optional or field.default is None or any(given.get(partner) is not None for partner in partners)


def train_size(values: dict) -> int:
    """N: training examples of a run after its validation split."""
    return _sizes(values)[0] - values["validation_examples"]


def test_size(values: dict) -> int:
    """M: examples of the test split."""
    return _sizes(values)[1]


def updates(values: dict) -> int | None:
    """Updates that a run makes in all; None where its settings don't say."""
    if values["train_steps"] is not None:
        return values["train_steps"]
    facts, examples = registry.DATASETS[values["dataset"]].facts, train_size(values)
    if values["regime_adaptation"]:
        return durations.updates_for_epochs(facts["baseline_epochs"], examples, facts["baseline_batch"])
    if values["epochs"] is None:
        return None
    return durations.Stages(values["batch_size"], examples, values["batch_growth"] or ()).whole_updates(values["epochs"])


def setting_of(values: dict, *without: str) -> str:
    """What makes runs seeds of one setting: the experiment's values, without the seed and `without`."""
    kept = {name: value for name, value in values.items()
            if value is not None and name not in ("seed", *without) and kind_of(name, values) == "experiment"}
    return json.dumps(kept, sort_keys=True)


def _sizes(values):
    facts = registry.DATASETS[values["dataset"]].facts
    return values["dataset_size"] or (facts["train_examples"], facts["test_examples"])


def _outcome(run: Run) -> Outcome:
    values = checked_settings(run)
    if run.part == "final_before":
        raise ValueError("of a setting that its sweep chose before more trials chose another: it counts nowhere")
    if run.part == "final" and not run.sweep.plan:
        raise ValueError("its sweep's sweep.json can't be read: how its setting was chosen is unknown")
    status = run.status.get("status")
    if status not in ("done", "diverged"):
        raise ValueError(_not_ended(run, values, status))
    final = run.status.get("final")
    final = final if isinstance(final, dict) else {}
    found = {name: _number(final, name, 1.0 if name.endswith("accuracy") else sys.float_info.max, strict=status == "done")
             for name in ("test_accuracy", "test_loss", "validation_accuracy", "validation_loss")}
    if status == "done" and found["test_accuracy"] is None:
        if not searched(run) or found["validation_accuracy"] is None:
            raise ValueError("done, but status.json has no test_accuracy")
    note = run.status.get("data_note") or ""
    return Outcome(run, values, status == "diverged", found["test_accuracy"], found["test_loss"],
                   found["validation_loss"], one_line(note))


def _not_ended(run, values, status):
    if status is None and values["dry_run"]:
        return "a dry run: it trained nothing"
    if status is None:
        return "no status.json that can be read: not started, or cut off"
    if status == "running":
        return (f"still running, or killed: at update {_short(run.status.get('step'))} of "
                f"{_short(run.status.get('total_steps'))}, last heard of {_short(run.status.get('updated'))}")
    if status in records.STATUSES:
        reason = run.status.get("reason")
        return f"{status}{f' ({_short(reason)})' if reason else ''}"
    return f"status.json says status={_short(status)}, which no run writes"


def _number(final, name, most, strict):
    value = final.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        if strict:
            raise ValueError(f"done, but status.json says {name}={_short(value)}")
        return None
    return float(value)


def one_line(value: object) -> str:
    """Text on one line, whatever stands in a folder: what can't be printed (escape codes too) is a blank."""
    return " ".join("".join(char if char.isprintable() else " " for char in str(value)).split())


def _short(value) -> str:
    text = one_line(value) or "nothing"
    return text if len(text) <= 120 else text[:117] + "..."
