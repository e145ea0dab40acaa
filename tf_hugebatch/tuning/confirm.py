"""Which setting a search chooses, and the runs that confirm it.

With one run a setting, the highest of many accuracies favours settings at the edge of stability: they train with the seed
of the search and diverge with the next. So the best settings can be run again with seeds of their own, on the split that
selects: in the order of their trials' accuracy, until `confirm` of them have diverged with no seed. Of those the one of
highest mean accuracy is chosen. A setting of which every repeat failed (a full memory, a kill) is neither: the next best takes
its place. Where `confirm` is 0, or no setting holds with every seed, the best trial is chosen.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Sequence

from tf_hugebatch.tuning.children import Outcome, outcome
from tf_hugebatch.tuning.plan import Plan
from tf_hugebatch.tuning.study import Trial


@dataclasses.dataclass(frozen=True)
class Choice:
    """The setting that a search chose. accuracies: on the split that selects, its trial's and then its repeats'."""

    trial: Trial
    accuracies: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """Their mean, in [0, 1]."""
        return statistics.fmean(self.accuracies)


class Confirmation:
    """The repeats of a search's best settings, found in their run folders.

    failed: (trial's number, seed) -> why that repeat came to nothing: it is not made again, and its setting is judged by the
    others, if there are any.
    """

    def __init__(self, plan: Plan, failed: dict[tuple[int, int], str]):
        self._plan, self.failed = plan, failed

    def left(self, trials: Sequence[Trial]) -> list[tuple[Trial, int]]:
        """(trial, seed) of the repeats that are still to be made, as far as the results so far tell."""
        return [(trial, seed) for trial, found in self._considered(trials) if not _fell(found)
                for seed, of_seed in found.items() if of_seed is None and (trial.number, seed) not in self.failed]

    def choice(self, trials: Sequence[Trial]) -> Choice | None:
        """The setting of highest mean accuracy among those that hold, the better trial of equals; None where none is done."""
        ranked = _ranked(trials)
        held = [Choice(trial, (trial.outcome.accuracy, *(one.accuracy for one in found.values() if one)))
                for trial, found in self._considered(trials) if self._may_hold(trial, found)]
        best = [Choice(trial, (trial.outcome.accuracy,)) for trial in ranked[:1]]
        return max(held or best, key=lambda choice: choice.accuracy, default=None)

    def counts(self, trials: Sequence[Trial]) -> dict[str, int]:
        """How the repeats so far ended."""
        ended = [one.status for _, found in self._considered(trials) for one in found.values() if one]
        return {status: ended.count(status) for status in ("done", "diverged")} | {"failed": len(self.failed)}

    def _considered(self, trials) -> Iterator[tuple[Trial, dict[int, Outcome | None]]]:
        """The settings from the best down to the last that is needed, each with what became of its repeats by seed."""
        held = 0
        for trial in _ranked(trials):
            if held == self._plan.confirm:
                return
            found = {seed: self._outcome(trial, seed) for seed in self._plan.repeat_seeds}
            held += self._may_hold(trial, found)
            yield trial, found

    def _may_hold(self, trial, found):
        """Whether no repeat has diverged, and one has been made or is still to be."""
        return not _fell(found) and any(one or (trial.number, seed) not in self.failed for seed, one in found.items())

    def _outcome(self, trial, seed):
        if (trial.number, seed) in self.failed:
            return None
        found = outcome(self._plan.repeat_folder(trial.number, seed), self._plan.select_on)
        if found and found.status == "failed":
            # A sweep that was stopped when the run ended has not noted it.
            self.failed[trial.number, seed] = found.reason
            return None
        return found


def _ranked(trials):
    done = [trial for trial in trials if trial.outcome and trial.outcome.status == "done"]
    return sorted(done, key=lambda trial: -trial.outcome.accuracy)


def _fell(found):
    return any(one and one.status == "diverged" for one in found.values())
