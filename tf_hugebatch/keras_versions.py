"""The seam between this package and Keras.

Beside `optimizers/base.py` this is the only file that may know one Keras version from another.
"""

import keras

PACKAGE = "tf_hugebatch"


def register_serializable(cls):
    """Class decorator: registers `cls` under this package's name, for `get_config` and `.keras` files."""
    return keras.saving.register_keras_serializable(package=PACKAGE)(cls)


def variable_path(variable):
    """The layer path of a Keras variable ('dense/kernel'); the name, without ':0', of a bare tf.Variable."""
    path = getattr(variable, "path", None)
    return path if path is not None else variable.name.split(":")[0]


#: Options of `add_weight` for a weight that stays float32 in float32 arithmetic under mixed precision.
FLOAT32_WEIGHT = {"dtype": "float32", "autocast": False}


def global_policy_name():
    """The name of the process-wide precision policy, for example 'float32'."""
    return keras.config.dtype_policy().name


def all_layers(model):
    """Every layer of a model once, however deep it is nested (in models or in layers), in a fixed order."""
    return list(dict.fromkeys(model._flatten_layers(include_self=False)))


def native(variable):
    """The tf.Variable behind a Keras variable; a tf.Variable passes through."""
    return variable.value if isinstance(variable, keras.Variable) else variable
