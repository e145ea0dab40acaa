"""Schedules that rise again: cosine with warm restarts and the triangular cycle (appendix 6.5)."""

import tensorflow as tf

from tf_hugebatch.keras_versions import register_serializable
from tf_hugebatch.schedules.decay import Schedule, checked_count, checked_number, half_cosine, whole_updates


class Cycles(Schedule):
    """`cycles` equal cycles in `steps` updates; a subclass states the shape of one cycle in `wave(phase)`.

        phase(t) = (t * cycles / steps) mod 1
        rate(t)  = end + (peak - end) * wave(phase(t))          for t < steps, and `end` from then on

    Raises:
        ValueError: as Schedule, or more cycles than `steps` has updates for.
    """

    LEAST_UPDATES = 1  # of a cycle

    def __init__(self, peak_learning_rate, steps, *, cycles, end_learning_rate=0.0):
        super().__init__(peak_learning_rate, steps, end_learning_rate=end_learning_rate)
        self.cycles = checked_count("cycles", cycles)
        if self.LEAST_UPDATES * self.cycles > self.steps:
            raise ValueError(
                f"cycles={cycles} do not fit into steps={steps}: a cycle of {type(self).__name__} takes at least "
                f"{self.LEAST_UPDATES}. Give at most {self.steps // self.LEAST_UPDATES} cycles, or train for more updates."
            )

    def scale(self, step):
        t = whole_updates(step)
        # Modulo in integers: a restart must not move by one update because t * cycles / steps was rounded.
        phase = tf.cast((t * self.cycles) % self.steps, tf.float32) / self.steps
        return tf.where(t < self.steps, self.wave(phase), 0.0)

    def wave(self, phase):
        """Height of the cycle, 0 to 1, at `phase` in [0, 1): float32."""
        raise NotImplementedError

    def get_config(self):
        return {**super().get_config(), "cycles": self.cycles}


@register_serializable
class CosineRestarts(Cycles):
    """Cosine with warm restarts (Loshchilov & Hutter 2016, equation 5, cycles of equal length).

        wave(phase) = (1 + cos(pi * phase)) / 2

    The rate falls along half a cosine and jumps back to the peak, `cycles` times. We read the paper's figures
    23 and 26 ("regular cosine learning rate schedule"), 25 ("fine-grained") and 27 ("coarse-grained") as this
    schedule: the registry rows cosine_regular, cosine_fine and cosine_coarse. The paper gives the names but
    not the numbers of cycles; those are ours.

    Args:
        peak_learning_rate: rate at the first update of every cycle, >= 0.
        steps: updates in all cycles together.
        cycles: how many.
        end_learning_rate: where each cycle runs to, and the rate from update `steps` on.
    """

    def wave(self, phase):
        return half_cosine(1.0 - phase)


@register_serializable
class Cyclical(Cycles):
    """Triangular cyclical learning rate (Smith 2017; You et al. 2020, figures 32 and 33).

        wave(phase) = 1 - |2 * phase - 1|
        height(t) = shrink ** floor(t * cycles / steps)                      shrink_each="cycle"
        height(t) = shrink ** (t * cycles / steps)                           shrink_each="update"
        rate(t) = end + (peak - end) * height(t) * wave(phase(t))            for t < steps

    shrink=0.5 is Smith's triangular2 (section 3.2); his exp_range of gamma an update is shrink_each="update" with
    shrink = gamma ** (steps / cycles). Each cycle climbs from the base to the peak and returns, so the first half
    cycle is a warm-up of its own: update 0 runs at the base rate (0 unless `end_learning_rate` is given). After a
    Warmup the rate falls from the peak to the base at the join.

    Args:
        peak_learning_rate: rate in the middle of a cycle, >= 0.
        steps: updates in all cycles together.
        cycles: how many; steps / cycles is the "cyclical length" that the paper tunes.
        end_learning_rate: the base of the triangles, and the rate from update `steps` on.
        shrink: in (0, 1], what a whole cycle multiplies the height above the base by.
        shrink_each: "cycle": between cycles; "update": a little at every update.

    Raises:
        ValueError: as Cycles, or a shrink or shrink_each that is none of these.
    """

    LEAST_UPDATES = 2  # seen at its feet alone, where the rate is the base, a triangle is a flat line

    def __init__(self, peak_learning_rate, steps, *, cycles, end_learning_rate=0.0, shrink=1.0, shrink_each="cycle"):
        super().__init__(peak_learning_rate, steps, cycles=cycles, end_learning_rate=end_learning_rate)
        if not 0 < checked_number("shrink", shrink) <= 1:
            raise ValueError(f"shrink={shrink} is outside (0, 1]: it is what a cycle leaves of the height; 0.5 halves it.")
        if shrink_each not in ("cycle", "update"):
            raise ValueError(f"shrink_each={shrink_each!r} is unknown: give one of cycle, update.")
        self.shrink, self.shrink_each = float(shrink), shrink_each

    def scale(self, step):
        done = whole_updates(step) * self.cycles
        cycles = done // self.steps if self.shrink_each == "cycle" else done / self.steps
        return super().scale(step) * tf.pow(self.shrink, tf.cast(cycles, tf.float32))

    def wave(self, phase):
        return 1.0 - tf.abs(2.0 * phase - 1.0)

    def get_config(self):
        return {**super().get_config(), "shrink": self.shrink, "shrink_each": self.shrink_each}
