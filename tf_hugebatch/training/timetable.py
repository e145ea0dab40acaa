"""When, between updates, the host has something to do: an evaluation, a checkpoint, a batch that grows."""

import math
import time
from fractions import Fraction

#: What `--checkpoint_every_steps=auto` means: whatever an update takes, a kill loses about this much at most.
SECONDS_BETWEEN_CHECKPOINTS = 30.0


class Timetable:
    """The stops of one run.

    Args:
        settings: eval_every_epochs, stages, checkpoint_every_steps and mllog count.
        total: updates of the run.
    """

    def __init__(self, settings, total):
        self._total, self._every = total, settings.checkpoint_every_steps
        self._period, self._stages = Fraction(str(settings.eval_every_epochs)), settings.stages
        # An MLPerf log counts whole updates an epoch and whole epochs a block.
        self._updates = math.ceil(self._period) * math.ceil(settings.updates_per_epoch) if settings.mllog else None
        self._saved = time.monotonic()

    def next_stop(self, done):
        """The update at which a loop that starts after `done` updates has to end."""
        next_checkpoint = self._total if self._every == "auto" else (done // self._every + 1) * self._every
        grows = [stage.update for stage in self._stages if stage.update > done]
        return min(self._total, next_checkpoint, self._next_evaluation(done), *grows)

    def evaluation_is_due(self, done):
        """After `done` updates."""
        return done == self._total or self._next_evaluation(done - 1) == done

    def checkpoint_is_due(self, done):
        """After `done` updates."""
        if self._every == "auto":
            return time.monotonic() - self._saved >= SECONDS_BETWEEN_CHECKPOINTS
        return done % self._every == 0

    def saved(self):
        """Notes that a checkpoint was made."""
        self._saved = time.monotonic()

    def last_regular_checkpoint(self, done):
        """The last update up to `done` at which every run of these settings has a checkpoint; None with auto."""
        return None if self._every == "auto" else done // self._every * self._every

    def _next_evaluation(self, done):
        """The first update after `done` with which another `eval_every_epochs` epochs are complete."""
        if self._updates:
            return (done // self._updates + 1) * self._updates
        # Rounded, so that a period whose last digit was cut off or rounded up, such as 0.0324051 or 0.0324052 for two updates,
        # does not slip to the next; so an update may be due for a period that is complete, or is not quite.
        complete = math.floor(self._stages.epoch(done) / self._period)
        due = (math.ceil(round(self._stages.updates(periods * self._period), 6)) for periods in range(complete, complete + 3))
        return next((update for update in due if update > done), done + 1)
