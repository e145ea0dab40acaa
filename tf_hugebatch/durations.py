"""Exact conversions between epochs and updates, and the learning rate that goes with a batch.

N training examples, global batch B, e epochs. The stream of examples runs on across epochs, so only the last
update can read past the last epoch. Decimal inputs are taken as written (`Fraction(str(x))`): 0.1 is a tenth.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction

SCALING_RULES = ("none", "linear", "sqrt")


@dataclasses.dataclass(frozen=True)
class Stage:
    """Updates of one batch size: they begin after `update` updates, at `position` of the stream, and read B each."""

    update: int
    position: int
    batch_size: int


class Stages:
    """When a run has which batch, and what that makes of epochs (Smith et al. 2018, arXiv 1711.00489: B grows where the
    learning rate would fall).

    Stage i has B_i = B g_1 ... g_i. It begins with the first update that reads nothing before epoch e_i:

        u_i = u_(i-1) + ceil((e_i N - p_(i-1)) / B_(i-1)),    p_i = p_(i-1) + (u_i - u_(i-1)) B_(i-1)

    so every update is a whole batch and no example is passed over.

    Args:
        batch_size: B of the first stage.
        examples: N.
        growth: (e_i, g_i) pairs, epochs ascending; none: one stage.

    A sequence of `Stage`. A growth so soon after another that no update lies between them leaves the earlier stage without
    updates: it is left out.
    """

    def __init__(self, batch_size: int, examples: int, growth: Sequence[tuple[float, int]] = ()):
        self._examples, self._stages = examples, [Stage(0, 0, batch_size)]
        for epoch, factor in growth:
            last = self._stages[-1]
            updates = max(0, math.ceil((Fraction(str(epoch)) * examples - last.position) / last.batch_size))
            grown = Stage(last.update + updates, last.position + updates * last.batch_size, last.batch_size * factor)
            self._stages[len(self._stages) - (updates == 0):] = [grown]

    def __len__(self):
        return len(self._stages)

    def __getitem__(self, index):
        return self._stages[index]

    def at(self, update: int) -> int:
        """The number of the stage whose batch the update after `update` updates has."""
        return max(i for i, stage in enumerate(self._stages) if stage.update <= update)

    def epoch(self, update: int) -> Fraction:
        """Epochs that `update` updates read: the position where they end / N."""
        stage = self[self.at(update)]
        return Fraction(stage.position + (update - stage.update) * stage.batch_size, self._examples)

    def updates(self, epochs: float | Fraction) -> Fraction:
        """After how many updates so many epochs are read: the inverse of `epoch`, as a fraction of updates."""
        position = Fraction(str(epochs)) * self._examples
        stage = max((stage for stage in self._stages if stage.position <= position), key=lambda stage: stage.update)
        return stage.update + (position - stage.position) / stage.batch_size

    def whole_updates(self, epochs: float | Fraction) -> int:
        """ceil(updates(e)); 90 epochs of 1,281,167 at 819,200 are 141, 30 of 60,000 at 32,768 are 55."""
        return math.ceil(self.updates(epochs))

    def nearest_update(self, epochs: float | Fraction) -> int:
        """round(updates(e)), a half rounded up: what a warm-up takes."""
        return math.floor(self.updates(epochs) + Fraction(1, 2))


def updates_for_epochs(epochs: float, examples: int, batch_size: int) -> int:
    """ceil(e N / B) updates of one batch."""
    return Stages(batch_size, examples).whole_updates(epochs)


def scaled_learning_rate(learning_rate: float, batch_size: int, baseline_batch: int, rule: str) -> float:
    """The peak rate at `batch_size` of a rate stated at `baseline_batch`.

    none: rate; linear: rate B / B0 (Goyal et al. 2017); sqrt: rate sqrt(B / B0) (Krizhevsky 2014). Raises
    ValueError for another rule.
    """
    if rule == "none":
        return float(learning_rate)
    if rule == "linear":
        return learning_rate * batch_size / baseline_batch
    if rule == "sqrt":
        return learning_rate * math.sqrt(batch_size / baseline_batch)
    raise ValueError(f"scaling rule {rule!r} is unknown. There are: {', '.join(SCALING_RULES)}.")
