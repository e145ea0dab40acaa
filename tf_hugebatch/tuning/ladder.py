"""The recipe ladder of section 3.1 on any data set, at any batch: each rung (`rungs.py`) is a sweep of its own."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping

from tf_hugebatch.records import content_of, held, not_writable, write_json
from tf_hugebatch.runs import read_object
from tf_hugebatch.settings import Refusal
from tf_hugebatch.tuning import space_file, sweep
from tf_hugebatch.tuning.children import outcome
from tf_hugebatch.tuning.plan import Base, Plan, settings_differ
from tf_hugebatch.tuning.rungs import Rung, default_spaces, is_given, problems_of_spaces, rungs, shared_words
from tf_hugebatch.tuning.screen import mean_and_range
from tf_hugebatch.tuning.space import Space

SCHEMA_VERSION = 1
#: What the ladder decides, so that the base may not.
_DECIDED = ("optimizer", "optimizer_preset", "learning_rate", "lr_scaling", "peak_learning_rate", "warmup_epochs",
            "warmup_steps", "label_smoothing")
_WRITTEN = ("name", "adds", "folder", "kind", "n_a")


class Ladder:
    """Every rung, checked before the first is run.

    Args:
        base: `Base`; its words may decide anything but what the ladder does.
        folder: of the ladder; None for one named after it.
        where: what to call the space file in a problem.
        spaces: 'baseline', 'sgd' and 'lars' -> the object of a space file, for those that are not the default.
        trials: for each rung that is tuned.

    Raises:
        Refusal: every problem of the base, the spaces and the folder.
    """

    def __init__(self, base: Base, folder: str | None, *, where: str, spaces: Mapping, trials: int, runner=()):
        if problems := base.problems():
            raise Refusal(problems)
        given = base.settings
        problems = [f"--{name}={getattr(given, name)} ({given.sources[name]}): the rungs of a ladder decide it; drop it"
                    for name in _DECIDED if is_given(given, name)]
        if given.regime != "baseline":
            problems.append(f"--regime={given.regime} ({given.sources['regime']}): it brings an optimizer's settings, which "
                            "would reach some rungs and not others; drop it, and give --batch_size and --epochs")
        if given.epochs is None:
            problems.append("--ladder: its rungs train for equally many epochs, the baseline's batch too; give --epochs")
        if problems:
            raise Refusal(problems)
        self.shared = shared_words(given)
        self.base, self.trials, self.runner = base.with_words(*self.shared), trials, runner
        self.settings = self.base.settings
        self.spaces = {**default_spaces(given.epochs), **spaces}
        problems = list(problems_of_spaces(where, spaces, self.spaces))
        self.rungs = rungs(self.settings)
        self.folder = folder or os.path.join("runs", f"ladder-{given.dataset}-{self.settings.experiment_hash()[:8]}")
        for rung in self.rungs if not problems else ():
            try:
                if rung.kind != "rule" and not rung.n_a:
                    problems += self._plan(rung, where).problems()
            except Refusal as refusal:
                problems += [f"rung {rung.name}: {problem}" for problem in refusal.problems]
        if problems := [*problems, *self._folder_problems()]:
            raise Refusal(problems)

    def _folder_problems(self):
        stated = f"--sweep_dir={self.folder}"
        if os.path.lexists(self.folder) and not os.path.isdir(self.folder):
            yield f"{stated}: that is a file; name a folder"
            return
        yield from (found := not_writable("sweep_dir", self.folder))
        try:
            if found or not content_of(self.folder):
                return
        except OSError as error:
            yield f"{stated}: {error.strerror}; name another folder"
            return
        if (stored := _stored_settings(self.folder, "ladder.json")) is None:
            yield f"{stated}: it is not empty and holds no ladder (no ladder.json that can be read); name a new folder"
        elif differences := list(settings_differ(stored, self.settings.as_dict())):
            yield f"{stated}: it holds another ladder ({'; '.join(differences)}); give the same, or another --sweep_dir"

    def _plan(self, rung: Rung, where="the ladder's space", rate=None) -> Plan:
        # A rule's runs say what chose the rate that they scale, as a search's final runs do.
        chosen = "validation" if self.base.validation_examples else "test"
        words = rung.words if rate is None else (*rung.words, f"--learning_rate={rate}", f"--selected_on={chosen}")
        base, space = self.base.with_words(*words), Space(())
        if rung.tunes:
            content = {flag: self.spaces[rung.solver][flag] for flag in rung.tunes}
            space = space_file.make(content, base.search_words, where=where, grid=base.method == "grid", dataset=base.dataset)
        trials = len(space.grid()) if base.method == "grid" else min(self.trials, space.size)
        plan = base.plan(os.path.join(self.folder, rung.folder), space=space, trials=trials if rung.tunes else 0)
        return dataclasses.replace(plan, runner=self.runner)

    def text(self) -> Iterator[str]:
        """What will be done, line by line."""
        yield from ("ladder", f"  {'folder':<24} {self.folder}",
                    f"  {'shared':<24} {' '.join(self.shared) or 'nothing beside the settings above'}")
        for rung in self.rungs:
            how = f"n/a: {rung.n_a}" if rung.n_a else "by the rule" if rung.kind == "rule" else \
                f"{self._plan(rung).trials} trials over {', '.join(rung.tunes)}"
            yield f"  {rung.name:<28} {rung.adds} ({how})"
        yield from self._budgets()
        for solver, content in self.spaces.items():
            for flag, values in content.items():
                yield f"  {solver:<24} {flag}: {json.dumps(values)}"

    def run(self, *, jobs: int, screen) -> int:
        """Makes what is left of the rungs; returns the exit code: 1 where a final run failed, 130 or 143 interrupted."""

        def at_work():
            raise Refusal(f"--sweep_dir={self.folder}: a ladder is at work in it; wait for its end, or name another folder")

        with held(self.folder, at_work):
            return self._run(dict(jobs=jobs, screen=screen), screen.say)

    def _run(self, how, say):
        rate, codes = None, []
        for place, rung in enumerate(self.rungs):
            self._write()
            if rung.kind == "rule" and rate is None:
                rung = self._not_available(place, "no rate of the baseline batch came to an accuracy")
            say(f"Rung {rung.name}: {rung.n_a and f'n/a ({rung.n_a})' or rung.adds}")
            if rung.n_a:
                continue
            plan = self._plan(rung, rate=rate if rung.kind == "rule" else None)
            if rung.kind == "rule":
                _set_aside_another_rate(plan)
            codes.append(sweep.run(plan, **how))
            if codes[-1] > 128:
                return codes[-1]
            result = read_object(os.path.join(plan.folder, "result.json"))
            if rung.kind == "baseline_rate" and result["chosen"]:
                rate = result["chosen"]["values"]["learning_rate"]
            reasons, counts = {row["reason"] for row in result["failed"]}, result["trials"]
            if len(reasons) == 1 and counts["failed"] == sum(counts.values()) and min(reasons).startswith("refused"):
                self._not_available(place, reasons.pop())
        self._write()
        for line in self._table():
            say(line)
        return 1 if 1 in codes else 0

    def _not_available(self, place, reason):
        self.rungs[place] = dataclasses.replace(self.rungs[place], n_a=reason)
        return self.rungs[place]

    def _why_empty(self, rung):
        if rung.n_a or not self.base.final_seeds:
            return rung.n_a or "no final runs were asked for"
        result = read_object(os.path.join(self.folder, rung.folder, "result.json")) or {}
        nothing_chosen = rung.kind != "rule" and not result.get("chosen")
        return "no trial came to an accuracy" if nothing_chosen else "every final run failed"

    def _write(self):
        write_json(os.path.join(self.folder, "ladder.json"), {
            "schema_version": SCHEMA_VERSION, "settings": self.settings.as_dict(),
            "rungs": [{name: getattr(rung, name) for name in _WRITTEN} for rung in self.rungs]})

    def _table(self):
        marks = [] if self.base.validation_examples else ["selected on test"]
        lines = []
        for rung in self.rungs:
            seeds = [outcome(os.path.join(self.folder, rung.folder, "final", f"seed{seed}"), "test")
                     for seed in self._plan(rung).fresh_seeds] if not rung.n_a else []
            found = [seed.accuracy for seed in seeds if seed and seed.status == "done"]
            diverged = sum(bool(seed) and seed.status == "diverged" for seed in seeds)
            cell = f"{mean_and_range(found)}  n={len(found)}{f', {diverged} diverged' if diverged else ''}"
            if not any(seeds):
                cell = f"n/a: {self._why_empty(rung)}"
            lines.append(f"  {rung.name:<28} {cell}")
            marks += [seed.note for seed in seeds if seed and seed.note and seed.note not in marks]
        yield "; ".join(["Test accuracy, mean (lowest to highest) of the seeds that came to one", *marks]) + ":"
        yield from lines
        yield from self._budgets()

    def _budgets(self):
        """A sentence where rungs differ in their trials, as a grid's do and those of a space with few points."""
        trials = {rung.name: self._plan(rung).trials for rung in self.rungs
                  if rung.tunes and not rung.n_a and rung.kind != "baseline_rate"}
        if len(set(trials.values())) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in trials.items())
            yield f"  The budgets differ, so a rung's share is in part that of more search: trials {listed}"


def _set_aside_another_rate(plan):
    """More trials may have changed the rate that a rung scales: its runs at the earlier rate make room, and stay on record."""
    stored = (_stored_settings(plan.folder, "sweep.json") or {}).get("learning_rate")
    if isinstance(stored, float) and stored != plan.settings.learning_rate:
        os.rename(plan.folder, f"{plan.folder}_at_{stored:g}")
    # By itself: a kill may have come between the two moves.
    before = f"{plan.folder}_at_{plan.settings.learning_rate:g}"
    if os.path.isdir(before) and not os.path.lexists(plan.folder):
        os.rename(before, plan.folder)


def _stored_settings(folder, name):
    settings = (read_object(os.path.join(folder, name)) or {}).get("settings")
    return settings if isinstance(settings, dict) else None
