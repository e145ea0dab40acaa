"""Variables as layers make them, without layers, in either Keras."""

import keras
import tensorflow as tf

from tf_hugebatch.keras_versions import KERAS_2


def variables_of(weights):
    """Trainable variables from {path of a layer's variable, as 'first/kernel': array}."""
    return [variable_of(path, value) for path, value in weights.items()]


def variable_of(path, value, dtype="float32"):
    """One trainable variable of that path."""
    if KERAS_2:
        return tf.Variable(tf.cast(value, dtype), name=path)
    scope, _, name = path.rpartition("/")
    if not scope:
        return keras.Variable(value, dtype=dtype, name=name)
    with keras.name_scope(scope):
        return keras.Variable(value, dtype=dtype, name=name)
