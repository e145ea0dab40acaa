"""The trials of a sweep: which points were asked for, what came of each, and which comes next.

They are kept in Optuna's journal, one line an event. A trial is written with all its values at once, so a kill leaves it
there or not there; whichever process goes on finds the same trials and asks for the same next point.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping

from tf_hugebatch.runs import read_object
from tf_hugebatch.settings import Refusal
from tf_hugebatch.tuning import points
from tf_hugebatch.tuning.children import Outcome
from tf_hugebatch.tuning.plan import Plan

#: What a diverged run counts as for the auto-tuner: worse than any accuracy. It is never chosen, and no report shows it.
_OF_A_DIVERGED_RUN = 0.0
_NAME = "sweep"


@dataclasses.dataclass
class Trial:
    """A point that was asked for. outcome: None while its run has not ended."""

    number: int
    values: Mapping
    outcome: Outcome | None = None


class Study:
    """The trials so far, by number, in the journal of a plan's folder, which exists and which nobody else uses.

    Raises:
        Refusal: the journal is damaged, or another sweep's.
    """

    def __init__(self, plan: Plan):
        self._plan = plan
        self._distributions = points.distributions(plan.space)
        self._sequence, self._made = points.sequence(plan.space, plan.method, plan.seed), []
        stated = f"--sweep_dir={plan.folder}: its journal.log"
        try:
            self._storage, self._study = _open(os.path.join(plan.folder, "journal.log"), plan)
            written = self._study.user_attrs.get("plan")  # journals of earlier releases have none
            differences = plan.differences(written) if written else self._other_parameters()
            self.trials = [] if differences else [
                Trial(trial.number, points.from_parameters(plan.space, trial.params), _outcome(trial))
                for trial in self._study.trials]
            if not written:
                differences = differences or self._other_runs()
        except OSError:
            raise
        except Exception as error:  # whatever Optuna makes of lines that are not its own
            raise Refusal([f"{stated} can't be read ({type(error).__name__}: {error}); put back what it was, or name another "
                           "folder"]) from error
        if differences:
            raise Refusal([f"{stated} is of another sweep ({'; '.join(differences)}); put back its own, or name another "
                           "folder"])

    def _other_parameters(self):
        """How the journal's space differs from the plan's, as far as the journal knows it."""
        def in_words(distributions):
            return ", ".join(f"{flag} in {among}" for flag, among in distributions.items())

        return [f"trial {trial.number} is a point of {in_words(trial.distributions)} there, and the space is "
                f"{in_words(self._distributions)} here"
                for trial in self._study.trials if trial.distributions != self._distributions][:1]

    def _other_runs(self):
        """Trials that have ended and whose run folders, the only other record of what they were, are not this sweep's."""
        found = []
        for trial in self.trials:
            if trial.outcome is not None and trial.outcome.status != "failed":
                path = os.path.join(self._plan.trial_folder(trial.number), "settings.json")
                found += ([f"trial {trial.number}: {words}" for words in self._plan.trial_differs(stored, trial.values)]
                          if (stored := read_object(path)) else [f"trial {trial.number} has no {path}"])
        return found[:3]

    def add(self, values: Mapping) -> Trial:
        """Notes that a point is asked for."""
        import optuna

        trial = Trial(len(self.trials), values)
        self._study.add_trial(optuna.trial.create_trial(
            state=optuna.trial.TrialState.RUNNING, params=points.to_parameters(self._plan.space, values),
            distributions=self._distributions))
        self.trials.append(trial)
        return trial

    def end(self, trial: Trial, outcome: Outcome) -> None:
        """Notes what came of a trial."""
        from optuna.trial import TrialState

        study = self._storage.get_study_id_from_name(_NAME)
        stored = self._storage.get_trial_id_from_study_id_trial_number(study, trial.number)
        self._storage.set_trial_user_attr(stored, "outcome", dataclasses.asdict(outcome))
        if outcome.status == "failed":
            self._study.tell(trial.number, state=TrialState.FAIL)
        else:
            self._study.tell(trial.number, _worth(outcome))
        trial.outcome = outcome

    def next_values(self, jobs: int) -> Mapping | None:
        """The next point; None while it has to wait for results.

        The auto-tuner looks at the results of all trials but the last jobs - 1, which count as running even where they
        have ended: so what it suggests does not depend on which of two runs side by side was the faster.
        """
        number = len(self.trials)
        if self._plan.method != "tpe" or number < points.TPE_STARTS_AFTER:
            while len(self._made) <= number:
                self._made.append(next(self._sequence))
            return self._made[number]
        last_known = max(0, number - jobs + 1)
        known, unknown = self.trials[:last_known], self.trials[last_known:]
        if any(trial.outcome is None for trial in known):
            return None
        tried = [(trial.values, _worth(trial.outcome)) for trial in known if trial.outcome.status != "failed"]
        failed = [(trial.values, None) for trial in known if trial.outcome.status == "failed"]
        return points.suggested(self._plan.space, self._plan.seed,
                                [*tried, *failed, *((trial.values, None) for trial in unknown)])

    def best(self) -> Trial | None:
        """The trial of highest accuracy, the earliest of equals; None where none is done."""
        done = [trial for trial in self.trials if trial.outcome and trial.outcome.status == "done"]
        return max(done, key=lambda trial: trial.outcome.accuracy, default=None)


def _worth(outcome):
    return outcome.accuracy if outcome.status == "done" else _OF_A_DIVERGED_RUN


def _outcome(stored):
    return Outcome(**stored.user_attrs["outcome"]) if stored.state.is_finished() else None


def _open(path, plan):
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # What a kill leaves: half a line, and Optuna's own lock. The sweep's lock says that nobody else is here.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}.lock")
    with open(path, "ab+") as file:
        file.seek(0)
        written = file.read()
        file.truncate(written.rfind(b"\n") + 1)
    # Optuna would find a last line that is no JSON when it has written the next.
    for number, line in enumerate(written.split(b"\n")[:-1], 1):
        try:
            json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    storage = JournalStorage(JournalFileBackend(path))
    if optuna.get_all_study_names(storage):
        study = optuna.load_study(storage=storage, study_name=_NAME)
    else:
        study = optuna.create_study(storage=storage, study_name=_NAME, direction="maximize")
    if "plan" not in study.user_attrs and not study.trials:  # new, or a kill came before its plan
        study.set_user_attr("plan", plan.as_json())
    return storage, study
