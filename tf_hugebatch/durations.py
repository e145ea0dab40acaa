"""Exact conversions between epochs and updates, and the learning rate that goes with a batch.

N training examples, global batch B, e epochs. The stream of examples runs on across epochs, so only the last
update can read past the last epoch. Decimal inputs are taken as written (`Fraction(str(x))`): 0.1 is a tenth.
"""

from __future__ import annotations

import math
from fractions import Fraction

SCALING_RULES = ("none", "linear", "sqrt")


def _updates(epochs: float, examples: int, batch_size: int) -> Fraction:
    return Fraction(str(epochs)) * examples / batch_size


def updates_for_epochs(epochs: float, examples: int, batch_size: int) -> int:
    """ceil(e N / B) updates; 90 epochs of 1,281,167 at 819,200 are 141, 30 of 60,000 at 32,768 are 55."""
    return math.ceil(_updates(epochs, examples, batch_size))


def warmup_updates(warmup_epochs: float, examples: int, batch_size: int) -> int:
    """round(e N / B) updates, a half rounded up."""
    return math.floor(_updates(warmup_epochs, examples, batch_size) + Fraction(1, 2))


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
