"""What a sweep is to do: its runs' command lines, and what must agree when it goes on in a folder (sweep.json)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping

from tf_hugebatch import command_line, registry
from tf_hugebatch.fields import FIELDS, kind_of
from tf_hugebatch.levels import default_of
from tf_hugebatch.records import content_of, not_writable
from tf_hugebatch.runs import read_object
from tf_hugebatch.settings import Refusal, Settings
from tf_hugebatch.tuning.space import Space

SCHEMA_VERSION = 1
# What must agree when a folder's sweep goes on, beside the settings; more trials, repeats and final seeds may be asked for.
_MUST_AGREE = ("program", "method", "select_on", "validation_examples", "space")
# Seeds of the repeats that confirm a setting, after the search's own: not those of the final runs, which are fresh.
_REPEAT_SEEDS = (1001, 1002)
#: The most final seeds, so that they never meet those of the repeats.
MOST_FINAL_SEEDS = 1000


@dataclasses.dataclass(frozen=True)
class Base:
    """What the sweeps of one command line share.

    words: of a run's command line. dataset: the data set where they name none. validation_examples: held out while
    searching; 0 to select on the test split. confirm: how many of the best settings are run again with more seeds before one
    is chosen. command_line: to note in sweep.json.
    """

    words: tuple[str, ...]
    dataset: str
    validation_examples: int
    final_seeds: int
    method: str
    confirm: int = 0
    command_line: tuple[str, ...] = ()

    @property
    def search_words(self) -> tuple[str, ...]:
        """Of every trial, before the values of its point. Of a flag that stands twice the last one counts.

        Where validation examples select, no trial reads the test split: the final runs alone do. Where the test split
        does, the numbers of the search are marked too.
        """
        held_out = self.validation_examples
        marked = () if held_out else ("--selected_on=test",)
        return (*self.words, f"--validation_examples={held_out}", f"--evaluate_test={str(not held_out).lower()}", *marked)

    def with_words(self, *words: str) -> Base:
        """The same with more words, which count above those before them."""
        return dataclasses.replace(self, words=(*self.words, *words))

    @property
    def settings(self) -> Settings:
        """Of the final runs."""
        return self._parse(self.final_words).settings

    def problems(self) -> list[str]:
        """Of the words, as they are while searching and for the final runs."""
        problems = dict.fromkeys([*self._parse(self.search_words).problems, *self._parse(self.final_words).problems])
        last = self.settings.seed + max(self.final_seeds, max(_REPEAT_SEEDS) if self.confirm else 0)
        try:
            FIELDS["seed"].parse(last)
        except ValueError as error:
            problems[f"--seed={self.settings.seed}: the sweep's runs would take seeds up to {last}; {error}"] = None
        return list(problems)

    @property
    def final_words(self) -> tuple[str, ...]:
        """Of every final run, before the values of the chosen point."""
        return (*self.words, "--validation_examples=0", "--evaluate_test=true")

    def _parse(self, words):
        return command_line.parse(words, program="", description="", dataset=self.dataset)

    def plan(self, folder: str | None, *, space: Space, trials: int) -> Plan:
        """The plan of a sweep in `folder`, or where it is None in one named after the sweep; raises Refusal."""
        if problems := self.problems():
            raise Refusal(problems)
        plan = Plan(folder or "", self, self.settings, space, trials)
        if folder is None:
            folder = os.path.join("runs", f"sweep-{plan.settings.dataset}-{plan.identity()[:8]}")
        return dataclasses.replace(plan, folder=folder)


@dataclasses.dataclass(frozen=True)
class Plan:
    """One sweep.

    settings: of its final runs, before the values of a point. trials: how many points to try; 0 for a sweep that only makes
    the final runs of `settings`. runner: the start of every run's command, where it is not the data set's program.
    """

    folder: str
    base: Base
    settings: Settings
    space: Space
    trials: int
    runner: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """How points are chosen."""
        return self.base.method

    @property
    def final_seeds(self) -> int:
        """Runs of the chosen setting."""
        return self.base.final_seeds

    @property
    def confirm(self) -> int:
        """How many of the best settings are run again before one is chosen; none where nothing is searched."""
        return self.base.confirm if self.trials else 0

    @property
    def select_on(self) -> str:
        """The split whose accuracy chooses."""
        return "validation" if self.base.validation_examples else "test"

    @property
    def program(self) -> str:
        """The module of every run."""
        return registry.DATASETS[self.settings.dataset].facts["program"]

    @property
    def seed(self) -> int:
        """Of the search: its runs' and its points'."""
        return self.settings.seed

    @property
    def fresh_seeds(self) -> range:
        """Of the final runs."""
        return range(self.seed + 1, self.seed + 1 + self.final_seeds)

    @property
    def repeat_seeds(self) -> tuple[int, ...]:
        """Of the runs that confirm a setting."""
        return tuple(self.seed + seed for seed in _REPEAT_SEEDS)

    def trial_folder(self, number: int) -> str:
        """The run folder of a trial."""
        return os.path.join(self.folder, "trials", f"{number:04d}")

    def repeat_folder(self, number: int, seed: int) -> str:
        """The run folder of a trial's setting with another seed."""
        return os.path.join(self.folder, "repeats", f"{number:04d}-seed{seed}")

    def final_folder(self, seed: int) -> str:
        """The run folder of the chosen setting with a seed."""
        return os.path.join(self.folder, "final", f"seed{seed}")

    def trial_command(self, number: int, values: Mapping) -> list[str]:
        """The command of a trial: part of the training set validates, unless the test split selects."""
        return self._command(self.base.search_words, values, self.seed, self.trial_folder(number))

    def repeat_command(self, number: int, values: Mapping, seed: int) -> list[str]:
        """The command of a trial's setting with another seed, which confirms it."""
        return self._command(self.base.search_words, values, seed, self.repeat_folder(number, seed))

    def final_command(self, values: Mapping, seed: int) -> list[str]:
        """The command of a final run: all training data; test accuracy, at every evaluation of its flags, chooses nothing.

        Where something was chosen the run says on which split, so that the mark stays with a run that is copied by itself.
        """
        chosen = (f"--selected_on={self.select_on}",) if values else ()
        return self._command((*self.base.final_words, *chosen), values, seed, self.final_folder(seed))

    def _command(self, words, values, seed, folder):
        start = self.runner or (sys.executable, "-m", f"tf_hugebatch.{self.program}")
        # Whatever a flagfile says of resuming: an interrupted run of a sweep goes on where it was.
        return [*start, *words, *self.space.words(values), f"--seed={seed}", f"--run_dir={folder}", "--resume=auto"]

    def text(self) -> Iterator[str]:
        """What will be done, line by line."""
        updates = self.settings.replace(validation_examples=self.base.validation_examples).total_updates
        on = f"{self.base.validation_examples:,} validation examples" if self.base.validation_examples else \
            "the test split: every number of this sweep is marked so"
        yield "sweep"
        yield f"  {'folder':<24} {self.folder}"
        yield f"  {'trials':<24} {self.trials}, {self.method}; {updates:,} updates each before a point's own values"
        yield f"  {'selection':<24} last epoch's accuracy on {on}"
        if self.confirm:
            yield (f"  {'repeats':<24} the {self.confirm} best that do not diverge, with seeds "
                   f"{', '.join(map(str, self.repeat_seeds))} too: the highest mean is chosen")
        yield f"  {'final runs':<24} {self.final_seeds} of the chosen setting, seeds {', '.join(map(str, self.fresh_seeds))}"
        for flag, values in self.space.as_json().items():
            yield f"  {flag:<24} {json.dumps(values)}"

    def as_json(self) -> dict:
        """As sweep.json holds it."""
        return {"schema_version": SCHEMA_VERSION, "program": self.program, "method": self.method, "trials": self.trials,
                "confirm": self.confirm, "final_seeds": self.final_seeds, "select_on": self.select_on,
                "validation_examples": self.base.validation_examples, "space": self.space.as_json(),
                "settings": self.settings.as_dict(), "command_line": list(self.base.command_line)}

    def going_on(self) -> Plan:
        """The same with at least as many repeats as the folder's sweep was asked for before."""
        stored = read_object(os.path.join(self.folder, "sweep.json")) or {}
        confirm = max(self.base.confirm, stored.get("confirm") or 0)
        return dataclasses.replace(self, base=dataclasses.replace(self.base, confirm=confirm))

    def identity(self) -> str:
        """sha256, in hex, of what must agree."""
        agree = {name: self.as_json()[name] for name in _MUST_AGREE}
        text = json.dumps({**agree, "experiment": self.settings.experiment_hash()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, stored: Mapping) -> list[str]:
        """In what a plan that was written differs, in words, where they must agree."""
        ours = self.as_json()
        found = [f"{name} is {json.dumps(stored.get(name))} there and {json.dumps(ours[name])} here" for name in _MUST_AGREE
                 if stored.get(name) != ours[name]]
        return [*found, *settings_differ(stored.get("settings") or {}, ours["settings"])]

    def trial_differs(self, stored: Mapping, values: Mapping) -> list[str]:
        """In what a trial's settings, as its run wrote them, differ from those of a point of this sweep, in words."""
        ours = self.settings.replace(validation_examples=self.base.validation_examples, **values)
        return list(settings_differ(stored, ours.as_dict()))

    def problems(self) -> list[str]:
        """Why the folder can't hold this sweep: value, reason, remedy each. Writes nothing."""
        stated = f"--sweep_dir={self.folder}"
        if os.path.lexists(self.folder) and not os.path.isdir(self.folder):
            return [f"{stated}: that is a file; name a folder"]
        if found := not_writable("sweep_dir", self.folder):
            return found
        try:
            names = content_of(self.folder)
        except OSError as error:
            return [f"{stated}: {error.strerror}; name another folder"]
        if "sweep.json" not in names:
            # A folder made for a sweep that was killed before it wrote its plan has nothing of weight in it.
            strangers = sorted(set(names) - {"trials"})
            return [f"{stated}: it is not empty and holds no sweep (it has {strangers[0]}, and no sweep.json); name a new "
                    f"folder"] if strangers else []
        stored = read_object(os.path.join(self.folder, "sweep.json"))
        if stored is None:
            return [f"{stated}: its sweep.json can't be read; name another folder"]
        if stored.get("schema_version") != SCHEMA_VERSION:
            return [f"{stated}: its sweep.json has schema version {stored.get('schema_version')} and this release writes "
                    f"{SCHEMA_VERSION}; use the release that wrote it, or another folder"]
        for name, kind in (("confirm", int), ("settings", dict)):
            if not isinstance(stored.get(name) or kind(), kind):
                return [f"{stated}: its sweep.json is damaged ({name} is {json.dumps(stored[name])}); name another folder"]
        differences = self.differences(stored)
        return [f"{stated}: it holds another sweep ({'; '.join(differences)}); give the same, or another --sweep_dir"] \
            if differences else []


def settings_differ(stored: Mapping, ours: Mapping) -> Iterator[str]:
    """Experiment settings that differ, in words."""
    for name in FIELDS:
        before = stored[name] if name in stored else default_of(name, stored)
        if "experiment" in (kind_of(name, ours), kind_of(name, stored)) and before != ours[name]:
            yield f"{name} is {before} there and {ours[name]} here"
