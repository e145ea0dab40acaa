"""A sweep from its first trial to its last final run, going on wherever an earlier process left it.

Trials run as child processes, `jobs` at a time. When all have ended, and the best have been confirmed where that was asked
for, the setting of highest accuracy on the split that selects is trained again on all training data with fresh seeds, and
those runs alone read the test split, at each of their evaluations; nothing is chosen by it.
"""

from __future__ import annotations

import os
import statistics

from tf_hugebatch.records import content_of, held, write_json
from tf_hugebatch.runs import read_object, read_status
from tf_hugebatch.settings import Refusal
from tf_hugebatch.stops import disk_stopped, why_not_written
from tf_hugebatch.training.stop_signal import StopSignal
from tf_hugebatch.tuning import gpus, tasks
from tf_hugebatch.tuning.children import outcome
from tf_hugebatch.tuning.confirm import Confirmation
from tf_hugebatch.tuning.plan import Plan
from tf_hugebatch.tuning.pool import Pool
from tf_hugebatch.tuning.screen import Screen, duration, in_words, mean_and_range
from tf_hugebatch.tuning.study import Study


def run(plan: Plan, *, jobs: int = 1, screen: Screen) -> int:
    """Makes a sweep, or what is left of it.

    Args:
        plan: what to do.
        jobs: runs at a time.
        screen: where to show it.

    Returns:
        exit code: 0 done, 1 a final run failed, 3 no trial (or no final run) came to an accuracy, 130 or 143 interrupted.

    Raises:
        Refusal: the folder holds another sweep, or one that is at work.
        RunStopped: the disk takes no more; no trial counts as failed for that, and the same command goes on.
    """

    def at_work():
        raise Refusal(f"--sweep_dir={plan.folder}: a sweep is at work in it; wait for its end, or name another folder")

    def left_behind():
        screen.say("Waiting for runs that an earlier process of this sweep left behind: they save and end ...")

    if problems := plan.problems():
        raise Refusal(problems)
    trials = os.path.join(plan.folder, "trials")
    try:
        with held(plan.folder, at_work), held(trials, left_behind) as lock, StopSignal() as stop:
            if problems := plan.problems():  # another may have begun there since
                raise Refusal(problems)
            shares = _shares(jobs, plan.settings.num_replicas, screen)
            return _Sweep(plan.going_on(), jobs, Pool(plan.folder, jobs, lock, stop, screen, shares), screen).go()
    except OSError as error:
        if not (reason := why_not_written(error)):
            raise
        raise disk_stopped(f"--sweep_dir={plan.folder}", reason) from error


def _shares(jobs, at_least, screen):
    try:
        shares = gpus.shares(jobs, at_least)
    except gpus.NotCounted as error:
        screen.say(f"{error}. Every run gets all of them; with CUDA_VISIBLE_DEVICES=-1 they train on the CPU.")
        return [{}]
    if len(shares) > 1:
        screen.say(f"GPUs of the {jobs} runs at a time: {'; '.join(','.join(share.values()) for share in shares)}")
    return shares


class _Sweep:
    """One process's part of a sweep. pool: `pool.Pool`, `jobs` runs at a time."""

    def __init__(self, plan, jobs, pool, screen):
        self.plan, self.jobs, self.pool, self.screen = plan, jobs, pool, screen
        stated = os.path.join(plan.folder, "result.json")
        try:
            self.earlier = read_object(stated) or {}
            if not self.earlier and os.path.lexists(stated):
                raise ValueError("it holds no JSON object, or an empty one")
            self.chosen_before = (self.earlier.get("chosen") or {}).get("trial")
            self.final_failed = {row["seed"]: row["reason"] for row in self.earlier.get("final_failed", [])}
            if not isinstance(self.chosen_before, int | None):
                raise TypeError(f"it chose trial {self.chosen_before}")
            repeat_failed = {(row["trial"], row["seed"]): row["reason"] for row in self.earlier.get("repeat_failed", [])}
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Refusal([f"--sweep_dir={plan.folder}: its result.json is damaged ({type(error).__name__}: {error}); take it "
                           "away and it is made anew, with another try for runs that had failed"]) from error
        self.confirmation = Confirmation(plan, repeat_failed)
        self.chosen = None
        if not os.path.exists(os.path.join(plan.folder, "sweep.json")):
            self._write_plan(plan.trials)  # first: a journal without it would be nobody's
        self.study = Study(plan)
        # Where fewer trials are asked for than before, those that there are still count.
        self.asked = max(plan.trials, len(self.study.trials))
        self._write_plan(self.asked)

    def go(self):
        """Trials, repeats of the best, final runs; returns the exit code."""
        for trial in self.study.trials:
            if trial.outcome is None and (found := outcome(self.plan.trial_folder(trial.number), self.plan.select_on)):
                self.study.end(trial, found)
        if self.study.trials:
            self.screen.say(f"Going on: {self._done()} of {self.asked} trials have ended.")
        self._write_result("running")
        for next_task, ended in ((self._next_trial, self._trial_ended), (self._next_repeat, self._repeat_ended)):
            if code := self._work(next_task, ended):
                return code
        self.chosen = self.confirmation.choice(self.study.trials)
        if self.asked and not self.chosen:
            self._write_result("done")
            self.screen.say(f"No trial came to an accuracy ({self._counts_in_words()}): nothing is chosen, and there are no "
                            f"final runs. Other values, or the reasons above, are next.")
            return 3
        if self.chosen:
            self._sort_finals()
            self._say_choice()
        self._note_failed_finals()
        self._write_result("running")
        if code := self._work(self._next_final, self._final_ended):
            return code
        self._write_result("done")
        return self._conclude()

    def _work(self, next_task, ended):
        """Makes runs until `next_task` has none left; returns 0, or the exit code of an interrupt."""

        def and_written(task, result):
            ended(task, result)
            self._write_result("running")

        return self.pool.make(next_task, and_written, self._show)

    # Trials.

    def _next_trial(self, running):
        waiting = (trial for trial in self.study.trials if trial.outcome is None and trial.number not in running)
        trial = next(waiting, None)
        if trial is None and len(self.study.trials) < self.plan.trials:
            values = self.study.next_values(self.jobs)
            trial = None if values is None else self.study.add(values)
        return trial and tasks.of_trial(self.plan, trial)

    def _trial_ended(self, task, result):
        self.study.end(self.study.trials[task.key], result)
        self.screen.say(f"{task.how_it_ended(result)}; {self._standing()}")

    def _done(self):
        return sum(trial.outcome is not None for trial in self.study.trials)

    def _standing(self):
        """Best so far, how many have ended, and the time left."""
        best, left = self.study.best(), self.asked - self._done() + len(self._finals_left())
        # Before the trials have ended nobody knows which are repeated: as many as there are to be, if none falls.
        of_one = len(self.plan.repeat_seeds)
        left += self.plan.confirm * of_one if self._done() < self.asked else len(self.confirmation.left(self.study.trials))
        best = f"best {best.outcome.in_words} (trial {best.number})" if best else "no best so far"
        # Side by side, so each takes a share; what is left of the running ones is not known.
        took = self.pool.durations
        time_left = f", about {duration(statistics.mean(took) * left / self.jobs)} left" if took else ""
        return f"{best}, {self._done()} of {self.asked} trials{time_left}"

    def _say_choice(self):
        """The chosen setting, with what qualifies it."""
        trial, on = self.chosen.trial, self.plan.select_on
        note = f" ({trial.outcome.note})" if trial.outcome.note else ""
        self.screen.say(f"Chosen: trial {trial.number}, {in_words(trial.values)}, {on} accuracy "
                        f"{mean_and_range(self.chosen.accuracies)}{note} ({self._counts_in_words()})")
        if self.plan.confirm and len(self.chosen.accuracies) == 1:
            self.screen.say("Not confirmed: no setting came to an accuracy with every seed that it was repeated with.")
        if self.plan.select_on == "test":
            self.screen.say("Selected on the test split: no number of this sweep is an estimate of what new images give.")
        for edge in self.plan.space.edges(trial.values):
            self.screen.say(f"On the edge: {edge['flag']}={edge['value']} is the {edge['end']} that was searched; the best may "
                            f"lie beyond it.")

    # Repeats of the best.

    def _next_repeat(self, running):
        return next((tasks.of_repeat(self.plan, trial, seed) for trial, seed in self.confirmation.left(self.study.trials)
                     if (trial.number, seed) not in running), None)

    def _repeat_ended(self, task, result):
        if result.status == "failed":
            self.confirmation.failed[task.key] = result.reason
        self.screen.say(task.how_it_ended(result))

    # Final runs.

    def _sort_finals(self):
        """Final runs of an earlier choice (fewer trials or repeats had been asked for) make room and stay on record, and those
        of the choice, if it was one before, come back: they need no other test.

        Each run's own settings say whose it is. The note in result.json may be gone, or older than a kill between two moves.
        """
        if self.chosen_before not in (None, self.chosen.trial.number):
            self.final_failed = {}  # those runs were of another setting
        final = os.path.join(self.plan.folder, "final")
        for name in content_of(final):
            if (trial := self._trial_of(os.path.join(final, name))) is not self.chosen.trial:
                os.makedirs(self._aside(trial), exist_ok=True)
                os.rename(os.path.join(final, name), os.path.join(self._aside(trial), name))
        again = self._aside(self.chosen.trial)
        if os.path.isdir(again):
            os.makedirs(final, exist_ok=True)
            for name in content_of(again):
                os.rename(os.path.join(again, name), os.path.join(final, name))
            os.rmdir(again)

    def _note_failed_finals(self):
        """Those that failed when no process of the sweep was there to note it."""
        for seed in self.plan.fresh_seeds:
            found = seed not in self.final_failed and outcome(self.plan.final_folder(seed), "test")
            if found and found.status == "failed":
                self._final_ended(self._final(seed), found)

    def _trial_of(self, folder):
        """The trial whose setting a final run has; the chosen one's where it has come to nothing yet that could be read."""
        settings = read_object(os.path.join(folder, "settings.json"))
        if settings is None and not read_status(os.path.join(folder, "status.json")):
            return self.chosen.trial
        for trial in (self.chosen.trial, *self.study.trials):
            if self.plan.space.holds(trial.values, settings or {}):
                return trial
        raise Refusal(f"--sweep_dir={self.plan.folder}: final/{os.path.basename(folder)} is a run of no trial of this sweep "
                      "(its settings.json has other values, or can't be read); move it elsewhere")

    def _aside(self, trial):
        return os.path.join(self.plan.folder, "final_before", f"trial{trial.number:04d}")

    def _finals_left(self):
        """Seeds of final runs that have not ended."""
        return [seed for seed in self.plan.fresh_seeds
                if seed not in self.final_failed and outcome(self.plan.final_folder(seed), "test") is None]

    def _next_final(self, running):
        return next((self._final(seed) for seed in self._finals_left() if seed not in running), None)

    def _final(self, seed):
        return tasks.of_final(self.plan, self.chosen.trial.values if self.chosen else {}, seed)

    def _final_ended(self, task, result):
        if result.status == "failed":
            self.final_failed[task.key] = result.reason
        self.screen.say(task.how_it_ended(result))

    def _conclude(self):
        ended = [found for seed in self.plan.fresh_seeds if (found := outcome(self.plan.final_folder(seed), "test"))]
        accuracies = [found.accuracy for found in ended if found.status == "done"]
        if accuracies:
            mark = "".join(f", {note}" for note in sorted({found.note for found in ended if found.note}))
            mark += ", selected on test" if self.plan.select_on == "test" else ""
            self.screen.say(f"Test accuracy: {mean_and_range(accuracies)}, {len(accuracies)} of {self.plan.final_seeds} "
                            f"seeds{mark}")
        failed = self.final_failed.keys() & self.plan.fresh_seeds
        self.screen.say(f"done: {self.plan.folder}")
        return 1 if failed else 0 if accuracies or not self.plan.final_seeds else 3

    # What is written and shown.

    def _write_plan(self, trials):
        write_json(os.path.join(self.plan.folder, "sweep.json"), {**self.plan.as_json(), "trials": trials})

    def _counts(self):
        statuses = [trial.outcome.status for trial in self.study.trials if trial.outcome]
        return {status: statuses.count(status) for status in ("done", "diverged", "failed")}

    def _counts_in_words(self):
        return ", ".join(f"{count} {status}" for status, count in self._counts().items())

    def _write_result(self, status):
        trial = self.chosen and self.chosen.trial
        chosen = trial and {"trial": trial.number, "values": dict(trial.values), "accuracy": self.chosen.accuracy,
                            "accuracies": self.chosen.accuracies, "split": self.plan.select_on,
                            **({"data_note": trial.outcome.note} if trial.outcome.note else {})}
        before = os.path.join(self.plan.folder, "final_before")
        write_json(os.path.join(self.plan.folder, "result.json"), {
            "status": status, "trials": self._counts(),
            "failed": [{"trial": trial.number, "reason": trial.outcome.reason} for trial in self.study.trials
                       if trial.outcome and trial.outcome.status == "failed"],
            "repeats": self.confirmation.counts(self.study.trials),
            "repeat_failed": [{"trial": trial, "seed": seed, "reason": reason}
                              for (trial, seed), reason in sorted(self.confirmation.failed.items())],
            "final_failed": [{"seed": seed, "reason": reason} for seed, reason in sorted(self.final_failed.items())],
            "select_on": self.plan.select_on, "chosen": chosen or self.earlier.get("chosen"),
            "edges": self.plan.space.edges(trial.values) if trial else self.earlier.get("edges", []),
            "tested_before": sorted(os.listdir(before)) if os.path.isdir(before) else []})

    def _show(self, running):
        rows = []
        for task in running:
            status = read_status(os.path.join(task.folder, "status.json"))
            step, total = status.get("step"), status.get("total_steps")
            rows.append((task.name, "starting" if total is None else f"{step:,} of {total:,}", in_words(task.values)))
        self.screen.show(rows, self._standing())
