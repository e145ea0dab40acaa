"""Gaussian noise keyed by position: the same numbers however the batch is cut (the paper's appendix 6.3)."""

import math

import keras
import tensorflow as tf

from .. import replica
from ..keras_versions import register_serializable
from .dropout import position_hash


def decayed(stddev, decay, update):
    """stddev (1 + t)^(-decay / 2), float32, t updates done: Neelakantan et al. 2015 (arXiv 1511.06807), whose gamma it is."""
    return stddev * tf.pow(1.0 + tf.cast(update, tf.float32), -decay / 2)


def position_normal(seed, update, positions, stream, units):
    """Standard normal numbers, float32 [m, units], a function of (seed, update, position, stream, unit).

    Box and Muller 1958, of two hashes each. Arguments as `dropout.position_hash`.
    """
    pairs = (units + 1) // 2
    drawn = tf.cast(position_hash(seed, update, positions, stream, 2 * pairs), tf.float32)
    # The half keeps the logarithm's argument above 0.
    first, second = tf.split((drawn + 0.5) / 2.0 ** 32, 2, axis=1)
    radius, angle = tf.sqrt(-2.0 * tf.math.log(first)), 2.0 * math.pi * second
    both = tf.concat([radius * tf.cos(angle), radius * tf.sin(angle)], 1)
    return both[:, :units]


@register_serializable
class ActivationNoise(keras.layers.Layer):
    """y = x + stddev (1 + t)^(-decay / 2) e, with e standard normal; the identity outside a training step.

    e is a function of the run's seed, the update t, the example's position in the global batch, the stream (a number for each
    call of such a layer, in the model's order) and the unit, so an update does not depend on how the batch is cut.

    Args:
        stddev: at update 0, at least 0.
        decay: of the variance, at least 0; 0 keeps it.
        name: the layer's name.

    Call: float [batch, ...] -> the same shape and dtype.

    Raises:
        ValueError: a negative or non-finite stddev or decay.
    """

    def __init__(self, stddev, decay=0.0, *, name=None, **layer_options):
        super().__init__(name=name, **layer_options)
        for what, value in (("stddev", stddev), ("decay", decay)):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{what}={value}: give a finite number, 0 or more.")
        self.stddev, self.decay = float(stddev), float(decay)
        self.supports_masking = True

    def call(self, inputs, training=False):
        view = replica.current() if training else None
        if view is None:
            return inputs
        units = math.prod(inputs.shape[1:])
        drawn = position_normal(view.seed, view.update, view.positions, view.next_stream(), units)
        noise = decayed(self.stddev, self.decay, view.update) * tf.reshape(drawn, tf.shape(inputs))
        return inputs + tf.cast(noise, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "stddev": self.stddev, "decay": self.decay}
