"""When a run counts as diverged: something is not finite, or the training loss did not fall.

A diverged run is a result (Table 3 has cells that say so), so this decides a status, never raises.
"""

import math

import numpy as np

from .step import METRICS

#: The final training loss is compared with the initial one over updates that read at least this many examples.
WINDOW_EXAMPLES = 1024
_MUST_BE_FINITE = ("loss", "grad_norm", "weight_norm", "update_norm")


class LossTrend:
    """Means of the first and of the last few training losses of a run.

    A single update is noise at batch 1 and everything at full batch, so the window is the number of updates that read
    1,024 examples, and at most half of the run; where the batch grows, the last losses are of the last batch.

    Args:
        stages: of the run, `durations.Stages`.
        total_updates: of the run.
        notes: what `notes()` gave when the run was interrupted, or None.
    """

    def __init__(self, stages, total_updates, notes=None):
        self._at_first, self._at_last = (
            max(1, min(math.ceil(WINDOW_EXAMPLES / stage.batch_size), total_updates // 2)) for stage in (stages[0], stages[-1]))
        self._one_update = total_updates == 1
        self._first, self._last = (notes["first"], notes["last"]) if notes else ([], [])

    def add(self, losses):
        """The losses of the updates that came next."""
        losses = [float(loss) for loss in losses]
        self._first = [*self._first, *losses][:self._at_first]
        self._last = [*self._last, *losses][-self._at_last:]

    @property
    def first(self):
        """Mean loss of the first updates."""
        return float(np.mean(self._first))

    @property
    def last(self):
        """Mean loss of the last updates: status.json's train_loss."""
        return float(np.mean(self._last)) if self._last else None

    @property
    def fell(self):
        """Whether the run ended below where it began; a run of one update has nothing to compare."""
        return self._one_update or self.last < self.first

    def notes(self):
        """Plain values from which the trend can go on."""
        return {"first": self._first, "last": self._last}


def first_bad(metrics):
    """(index of the first update that was refused or left something non-finite, what it was), or (None, None).

    Args:
        metrics: NumPy [n, len(METRICS)].
    """
    columns = metrics[:, [METRICS.index(name) for name in _MUST_BE_FINITE]]
    bad = ~np.isfinite(columns).all(axis=1) | (metrics[:, METRICS.index("applied")] == 0)
    if not bad.any():
        return None, None
    index = int(np.argmax(bad))
    wrong = [name for name, value in zip(_MUST_BE_FINITE, columns[index]) if not math.isfinite(value)]
    return index, wrong[0] if wrong else "gradient"
