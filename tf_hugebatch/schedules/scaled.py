"""A schedule whose rates are all multiplied by a number that can change while a run goes on."""

import keras
import tensorflow as tf

from tf_hugebatch.keras_versions import register_serializable
from tf_hugebatch.parsers import LARGEST
from tf_hugebatch.schedules.decay import checked_number


@register_serializable
class Scaled(keras.optimizers.schedules.LearningRateSchedule):
    """rate(t) = scale * schedule(t).

    `scale` is a variable, so a traced step follows `schedule.scale.assign(...)`. A run that rewinds lowers it
    (`--on_divergence=rewind`). It is no part of an optimizer's checkpoint.

    Args:
        schedule: a LearningRateSchedule.
        scale: the number to begin with, finite and at least 0.

    Raises:
        TypeError: schedule is none, or scale no number.
        ValueError: another scale.
    """

    def __init__(self, schedule, scale=1.0):
        if not isinstance(schedule, keras.optimizers.schedules.LearningRateSchedule):
            raise TypeError(f"schedule={schedule!r} is no LearningRateSchedule: give one, for example Constant(0.1).")
        if not 0 <= checked_number("scale", scale) <= LARGEST:
            raise ValueError(f"scale={scale!r}: give a finite number that is not negative.")
        self.schedule = schedule
        self.scale = tf.Variable(scale, dtype=tf.float32, trainable=False, name="learning_rate_scale",
                                 aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)

    @property
    def ends_at(self):
        """The schedule's own."""
        return getattr(self.schedule, "ends_at", None)

    @property
    def peak_learning_rate(self):
        """scale times the schedule's own, a scalar tensor."""
        return tf.convert_to_tensor(self.scale) * self.schedule.peak_learning_rate

    def __call__(self, step):
        """Learning rate of update `step`, float32, in the shape of `step`."""
        return tf.convert_to_tensor(self.scale) * self.schedule(step)

    def get_config(self):
        return {"schedule": keras.saving.serialize_keras_object(self.schedule), "scale": float(self.scale.numpy())}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "schedule": keras.saving.deserialize_keras_object(config["schedule"])})
