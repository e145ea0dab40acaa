"""Dropout keyed by position: the same units fall out however the batch is cut."""

import numbers

import keras
import tensorflow as tf

from .. import replica
from ..keras_versions import register_serializable


def _mix(h):
    """Avalanche of a uint32 tensor: every input bit reaches every output bit (MurmurHash3's fmix32, public domain)."""
    h ^= tf.bitwise.right_shift(h, tf.constant(16, tf.uint32))
    h *= tf.constant(0x85EBCA6B, tf.uint32)
    h ^= tf.bitwise.right_shift(h, tf.constant(13, tf.uint32))
    h *= tf.constant(0xC2B2AE35, tf.uint32)
    return h ^ tf.bitwise.right_shift(h, tf.constant(16, tf.uint32))


def position_hash(seed, update, positions, stream, units):
    """A uint32 for each (seed, update, position, stream, unit), uniform and reproducible.

    Args:
        seed: int, the run's seed.
        update: int64 scalar, updates done so far.
        positions: int64 [m], positions in the global batch.
        stream: int, which call of which layer asks.
        units: int, numbers wanted per position.

    Returns:
        uint32 [m, units].
    """
    # The golden-ratio constant keeps an all-zero key from being a fixed point of the mix.
    key = tf.constant((seed * 0x9E3779B9 + stream * 0x7FEB352D + 0x9E3779B9) & 0xFFFFFFFF, tf.uint32)
    key = _mix(_mix(key) ^ tf.cast(update, tf.uint32))
    key = _mix(key ^ tf.cast(positions, tf.uint32))
    unit = _mix(tf.cast(tf.range(units), tf.uint32) + tf.constant(0x9E3779B9, tf.uint32))
    return _mix(key[:, tf.newaxis] ^ unit[tf.newaxis, :])


@register_serializable
class Dropout(keras.layers.Layer):
    """Dropout (Srivastava et al. 2014) whose mask depends on the position in the global batch.

        y = x * keep / (1 - rate),   keep = hash(seed, update, position, stream, unit) >= rate * 2**32

    Inside a training step the mask is a function of the run's seed, the update, the example's position in the global
    batch, the unit and the stream (a number for each call of a dropout layer, in the model's order): 1 x 64 and
    4 x 16 examples drop the same units. Stock dropout draws a new mask for each replica's tensor, so there the update
    depends on the layout. Outside a step (plain `fit`) it is Keras' own dropout. At inference it is the identity.

    Args:
        rate: share of units set to 0, in [0, 1).
        name: the layer's name.

    Call: float [batch, ...] -> the same shape and dtype.

    Raises:
        ValueError: a rate outside [0, 1).
    """

    def __init__(self, rate, *, name=None, **layer_options):
        super().__init__(name=name, **layer_options)
        if isinstance(rate, bool) or not isinstance(rate, numbers.Real) or not 0 <= rate < 1:
            raise ValueError(f"rate={rate!r} is outside [0, 1): it is the share of units dropped; 0.4 drops 40%.")
        self.rate = rate
        self._outside_a_step = keras.layers.Dropout(rate, dtype=self.dtype_policy)
        self.supports_masking = True

    def call(self, inputs, training=False):
        if not training or self.rate == 0:
            return inputs
        view = replica.current()
        if view is None:
            return self._outside_a_step(inputs, training=True)
        flat = tf.reshape(inputs, [tf.shape(inputs)[0], -1])
        drawn = position_hash(view.seed, view.update, view.positions, view.next_stream(), tf.shape(flat)[1])
        keep = tf.cast(drawn >= tf.constant(round(self.rate * 2**32), tf.uint32), inputs.dtype)
        return inputs * tf.reshape(keep / (1 - self.rate), tf.shape(inputs))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}
