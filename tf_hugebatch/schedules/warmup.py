"""Warm-up in front of any schedule (You et al. 2020, figures 24-29; Goyal et al. 2017)."""

import keras
import tensorflow as tf

from tf_hugebatch.keras_versions import register_serializable
from tf_hugebatch.schedules.decay import checked_count, half_cosine, whole_updates

SHAPES = ("linear", "cosine")
STARTS = ("first", "zero")
DECAY_FROM = ("warmup_end", "start")


@register_serializable
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """Climb to the peak of `after` in `steps` updates, then follow `after`.

        x(t) = (t + 1) / w   with start="first"      # update 0 already moves: peak / w
        x(t) = t / w         with start="zero"       # update 0 has rate 0, as in MLPerf and the authors' code
        rate(t) = peak * x                           for t < w, shape="linear"
        rate(t) = peak * (1 - cos(pi * x)) / 2       for t < w, shape="cosine" (figure 29)
        rate(t) = after(t - w)                       for t >= w, decay_from="warmup_end"
        rate(t) = after(t)                           for t >= w, decay_from="start"

    w = steps, peak = after.peak_learning_rate, t = updates done so far. decay_from="start" counts the decay
    from the first update of the run, so that the rate falls at the join; it is what the authors' MNIST code
    does: start="zero", decay_from="start" and a Polynomial of power 0.5 to 1e-4 over all updates.

    Args:
        steps: updates of warm-up, at least 1.
        after: the schedule to warm up to; it must have a `peak_learning_rate`, as all of this package do.
        shape: "linear" or "cosine".
        start: "first" or "zero".
        decay_from: "warmup_end" or "start".

    Raises:
        ValueError: steps is not a positive whole number, an unknown word, or a warm-up that outlasts a decay
            that is counted from the start.
        TypeError: `after` has no peak_learning_rate.
    """

    def __init__(self, steps, after, *, shape="linear", start="first", decay_from="warmup_end"):
        self.steps = checked_count("steps", steps)
        if not hasattr(after, "peak_learning_rate"):
            raise TypeError(
                f"after={after!r} has no peak_learning_rate to warm up to: give a schedule of "
                f"tf_hugebatch.schedules, for example Constant(0.1)."
            )
        for name, word, words in (("shape", shape, SHAPES), ("start", start, STARTS),
                                  ("decay_from", decay_from, DECAY_FROM)):
            if word not in words:
                raise ValueError(f"{name}={word!r} is unknown: give one of {', '.join(words)}.")
        whole = getattr(after, "ends_at", None)
        if decay_from == "start" and whole is not None and self.steps > whole:
            raise ValueError(
                f"steps={steps} of warm-up outlast the {whole} updates of the decay, which "
                f"decay_from='start' counts from the same update: warm up for at most {whole}, or "
                f"use decay_from='warmup_end'."
            )
        self.after, self.shape, self.start, self.decay_from = after, shape, start, decay_from

    @property
    def ends_at(self):
        """Updates until the rate stays as it is: those of `after`, behind the warm-up or counted with it."""
        of_decay = getattr(self.after, "ends_at", None)
        return of_decay if of_decay is None or self.decay_from == "start" else self.steps + of_decay

    @property
    def peak_learning_rate(self):
        """The rate that the warm-up climbs to."""
        return self.after.peak_learning_rate

    def __call__(self, step):
        """Learning rate of update `step`, float32, in the shape of `step`."""
        t = whole_updates(step)
        first = 1 if self.start == "first" else 0
        share = tf.cast(tf.minimum(t + first, self.steps), tf.float32) / self.steps
        climb = half_cosine(share) if self.shape == "cosine" else share
        begin = self.steps if self.decay_from == "warmup_end" else 0
        # Both branches are computed: the decay sees no step below its own 0.
        decayed = self.after(tf.maximum(t - begin, 0))
        return tf.where(t < self.steps, self.peak_learning_rate * climb, decayed)

    def get_config(self):
        return {
            "steps": self.steps,
            "after": keras.saving.serialize_keras_object(self.after),
            "shape": self.shape,
            "start": self.start,
            "decay_from": self.decay_from,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "after": keras.saving.deserialize_keras_object(config["after"])})
