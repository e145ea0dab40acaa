"""The runs of a sweep, some at a time, until there are none left to make, or until a signal or a full disk ends them all."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence

from tf_hugebatch.stops import RunStopped
from tf_hugebatch.training.stop_signal import StopSignal
from tf_hugebatch.tuning.children import INTERRUPTED, Child, outcome_of_exit, why_stopped
from tf_hugebatch.tuning.screen import Screen
from tf_hugebatch.tuning.tasks import Task

_SECONDS_BETWEEN_LOOKS = 0.1


class Pool:
    """Child processes, `jobs` at a time.

    Args:
        folder: of the sweep.
        jobs: how many at most.
        shares: `gpus.shares`; each run gets the one that fewest have.
        lock: file descriptor that every child inherits.
        stop: the StopSignal to look at.
        screen: where to say what happens.

    Attributes:
        durations: seconds that each run took which has ended.
    """

    def __init__(self, folder: str, jobs: int, lock: int, stop: StopSignal, screen: Screen, shares: Sequence[Mapping]):
        self._folder, self._jobs, self._lock, self._stop, self._screen = folder, jobs, lock, stop, screen
        self._shares = shares
        self.durations: list[float] = []

    def make(self, next_task: Callable, ended: Callable, show: Callable) -> int:
        """Makes runs until there are none left; returns 0, or the exit code of an interrupt.

        Args:
            next_task: (runs that are being made, by key) -> Task, or None while there is none to begin.
            ended: called with the Task and the Outcome of a run that has come to its end.
            show: called with the tasks at work, now and then.

        Raises:
            RunStopped: the disk takes no more. The runs that were stopped for it have not ended.
            OSError: of `next_task` or `ended`, after the runs at work have been stopped.
        """
        running: dict[int | tuple[int, int], tuple[Task, Child]] = {}
        try:
            return self._make(running, next_task, ended, show)
        except OSError:
            _tell_to_end(running)
            for _, child in running.values():
                child.wait()
            raise

    def _make(self, running, next_task, ended, show):
        stopped = disk = None
        while True:
            while not stopped and len(running) < self._jobs and (task := next_task(running)):
                taken = [child.environment for _, child in running.values()]
                share = min(self._shares, key=taken.count)
                running[task.key] = task, Child(task.command, task.log(self._folder), self._lock, share)
            if not running:
                if disk:
                    raise RunStopped(disk)
                return 128 + stopped if stopped else 0
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            for task, child in list(running.values()):
                code = child.exit_code()
                if code is None:
                    continue
                del running[task.key]
                if code in INTERRUPTED or stopped and code not in (0, 3):
                    # Not by its own doing, so it is still to be made: by the next process.
                    stopped = stopped or self._end_all(running, abs(code) % 128)
                elif why := why_stopped(code, child.pid, task.folder):
                    disk, stopped = why, signal.SIGTERM
                    self._screen.say("The disk takes no more: the runs end, and none of them counts as failed.")
                    _tell_to_end(running)
                else:
                    self.durations.append(child.seconds)
                    ended(task, outcome_of_exit(code, task.folder, task.split, task.log(self._folder), child.log_start))
            if self._stop.received and not stopped:
                stopped = self._end_all(running, self._stop.received)
            if self._screen.wants_more:
                show([task for task, _ in running.values()])

    def _end_all(self, running, number):
        """Tells the children to save and end; returns `number`, the signal's."""
        self._screen.say(f"{signal.Signals(number).name}: the runs save a checkpoint and end; the same command goes on.")
        _tell_to_end(running)
        return number


def _tell_to_end(running: Mapping) -> None:
    for _, child in running.values():
        child.stop(signal.SIGTERM)
