"""Schedules that never rise: constant, polynomial, cosine (You et al. 2020, figures 24 and 28-31)."""

import math
import numbers
import operator

import keras
import tensorflow as tf

from tf_hugebatch.keras_versions import register_serializable
from tf_hugebatch.parsers import LARGEST


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate as a function of the number of updates done so far (0 at the first update).

    Every schedule runs between `peak_learning_rate` and `end_learning_rate` for `steps` updates and stays at
    the end value from then on. A subclass states how in `scale(step)`:

        rate(t) = end + (peak - end) * scale(t)

    `step` may be an int, a scalar or a tensor of any shape; it is counted in whole updates, so that cycle
    borders are found by integer arithmetic. The result is float32 of the same shape.

    Raises:
        TypeError: a rate is no number.
        ValueError: a rate is negative or not finite, the end lies above the peak, or steps is not a positive
            whole number.
    """

    def __init__(self, peak_learning_rate, steps, *, end_learning_rate=0.0):
        self.peak_learning_rate = checked_rate("peak_learning_rate", peak_learning_rate)
        self.end_learning_rate = checked_rate("end_learning_rate", end_learning_rate)
        if self.end_learning_rate > self.peak_learning_rate:
            raise ValueError(
                f"end_learning_rate={end_learning_rate} lies above peak_learning_rate={peak_learning_rate}: "
                f"the schedule would grow. Give an end of at most {peak_learning_rate}."
            )
        self.steps = checked_count("steps", steps)

    @property
    def ends_at(self):
        """Updates until the rate stays as it is; None where it never changes."""
        return self.steps

    def __call__(self, step):
        """Learning rate of update `step`, float32, in the shape of `step`."""
        return self.end_learning_rate + (self.peak_learning_rate - self.end_learning_rate) * self.scale(step)

    def scale(self, step):
        """1 at the peak, 0 at the end: float32 in the shape of `step`."""
        raise NotImplementedError

    def get_config(self):
        return {
            "peak_learning_rate": self.peak_learning_rate,
            "steps": self.steps,
            "end_learning_rate": self.end_learning_rate,
        }


@register_serializable
class Constant(Schedule):
    """The same learning rate at every update.

        rate(t) = peak

    Args:
        peak_learning_rate: the rate, >= 0.
        steps: planned number of updates; it changes no value and may be left out.
    """

    def __init__(self, peak_learning_rate, steps=None):
        super().__init__(peak_learning_rate, 1 if steps is None else steps)
        self.steps = steps

    @property
    def ends_at(self):
        return None

    def scale(self, step):
        return tf.ones_like(whole_updates(step), dtype=tf.float32)

    def get_config(self):
        return {"peak_learning_rate": self.peak_learning_rate, "steps": self.steps}


@register_serializable
class Polynomial(Schedule):
    """Polynomial decay (You et al. 2020, figures 24, 30, 31; power 2 in MLPerf's ResNet-50).

        t = min(t, steps)
        rate(t) = end + (peak - end) * (1 - t / steps) ** power

    Args:
        peak_learning_rate: rate at update 0, >= 0.
        steps: updates until the end value is reached.
        power: exponent, > 0.
        end_learning_rate: rate from update `steps` on.

    Raises:
        ValueError: as Schedule, or a power that is not positive.
    """

    def __init__(self, peak_learning_rate, steps, *, power=2.0, end_learning_rate=0.0):
        super().__init__(peak_learning_rate, steps, end_learning_rate=end_learning_rate)
        if not (math.isfinite(checked_number("power", power)) and power > 0):
            raise ValueError(
                f"power={power} is not a positive number: the rate would not fall. Give a power above 0, "
                f"for example 2.0; schedules.Constant holds a rate."
            )
        self.power = float(power)

    def scale(self, step):
        return remaining(step, self.steps) ** self.power

    def get_config(self):
        return {**super().get_config(), "power": self.power}


@register_serializable
class Steps(Schedule):
    """Falls at once, by a factor each time ("step decay"; Goyal et al. 2017, arXiv 1706.02677, section 5.1).

        rate(t) = peak / product of the factors g_i with t_i <= t

    Args:
        peak_learning_rate: rate at update 0, >= 0.
        steps: planned number of updates; it changes no value and may be left out.
        rate_drops: (t_i, g_i) pairs: the update before which the rate is divided, and by what.

    Raises:
        ValueError: as Schedule; updates that are negative or don't ascend, or a factor that is not above 0.
    """

    def __init__(self, peak_learning_rate, steps=None, *, rate_drops=()):
        super().__init__(peak_learning_rate, 1 if steps is None else steps)
        try:
            self.steps, self.rate_drops = steps, tuple((operator.index(at), float(by)) for at, by in rate_drops or ())
        except TypeError:
            raise ValueError(f"rate_drops={rate_drops!r}: give pairs of a whole number of updates and a factor.") from None
        updates = [at for at, _ in self.rate_drops]
        if updates != sorted(set(updates)) or min(updates, default=0) < 0:
            raise ValueError(f"rate_drops={self.rate_drops}: the updates must be at least 0 and ascend, each once. Order them.")
        for _, by in self.rate_drops:
            if not (math.isfinite(by) and by > 0):
                raise ValueError(f"rate_drops={self.rate_drops}: {by} divides no rate. Give a factor above 0, such as 10.")

    @property
    def ends_at(self):
        return self.rate_drops[-1][0] if self.rate_drops else None

    def scale(self, step):
        t = whole_updates(step)
        share = tf.ones_like(t, dtype=tf.float32)
        for at, by in self.rate_drops:
            share = tf.where(t < at, share, share / by)
        return share

    def get_config(self):
        return {"peak_learning_rate": self.peak_learning_rate, "steps": self.steps,
                "rate_drops": [list(drop) for drop in self.rate_drops]}


@register_serializable
class Cosine(Schedule):
    """One half wave of a cosine, from the peak to the end ("cosine learning rate decay", figures 28 and 29).

        t = min(t, steps)
        rate(t) = end + (peak - end) * (1 + cos(pi * t / steps)) / 2

    Args:
        peak_learning_rate: rate at update 0, >= 0.
        steps: updates until the end value is reached.
        end_learning_rate: rate from update `steps` on.
    """

    def scale(self, step):
        return half_cosine(remaining(step, self.steps))


def whole_updates(step):
    """`step` as int64: an update count is whole, and int64 keeps cycle arithmetic exact."""
    return tf.cast(step, tf.int64)


def remaining(step, steps):
    """Share of the schedule still to come, 1 at update 0 and 0 from update `steps` on: float32.

    The subtraction is done in integers: 1 - t / steps in float32 would lose digits near the end.
    """
    left = steps - tf.clip_by_value(whole_updates(step), 0, steps)
    return tf.cast(left, tf.float32) / steps


def half_cosine(share):
    """(1 - cos(pi * share)) / 2 in its half-angle form, which keeps its digits where the value is small."""
    return tf.square(tf.sin(0.5 * math.pi * share))


def checked_number(name, value):
    """`value` as a float; TypeError unless it is a number, so that neither a text nor True is taken for one."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r} is no number: give one, for example 0.1.")
    return float(value)


def checked_rate(name, value):
    """`value` as a float; TypeError unless it is a number, ValueError unless it is one >= 0 that float32 holds."""
    if not 0 <= checked_number(name, value) <= LARGEST:
        raise ValueError(f"{name}={value} is not a learning rate: give a finite number of at least 0.")
    return float(value)


def checked_count(name, value):
    """`value` as an int; ValueError unless it is a whole number >= 1."""
    try:
        count = operator.index(value if not isinstance(value, bool) else "")
    except TypeError:
        raise ValueError(f"{name}={value!r} is not a whole number: {name} counts from 1; round it.") from None
    if count < 1:
        raise ValueError(f"{name}={value} is below 1: nothing would be scheduled. Give at least 1.")
    return count
