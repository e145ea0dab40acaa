"""tf_hugebatch: how far a batch size can go, and how to go further.

`import tf_hugebatch as hb` costs milliseconds: names resolve on first use (PEP 562), so TensorFlow is
imported only when something that needs it is touched.
"""

import importlib

__version__ = "0.1.0"

_NAMES = {
    "optimizers": "tf_hugebatch.optimizers",
    "schedules": "tf_hugebatch.schedules",
    "layers": "tf_hugebatch.layers",
    "SGD": "tf_hugebatch.optimizers:SGD",
    "Adagrad": "tf_hugebatch.optimizers:Adagrad",
    "RMSprop": "tf_hugebatch.optimizers:RMSprop",
    "Adam": "tf_hugebatch.optimizers:Adam",
    "LARS": "tf_hugebatch.optimizers:LARS",
    "LAMB": "tf_hugebatch.optimizers:LAMB",
    "Settings": "tf_hugebatch.settings:Settings",
    "Refusal": "tf_hugebatch.settings:Refusal",
    "train": "tf_hugebatch.training.loop:train",
    "Result": "tf_hugebatch.training.result:Result",
    "load_runs": "tf_hugebatch.runs:load_runs",
    "load_model": "tf_hugebatch.keras_objects:load_model",
}

__all__ = [*_NAMES]


def __getattr__(name):
    if name not in _NAMES:
        raise AttributeError(f"module 'tf_hugebatch' has no attribute {name!r}; it has {', '.join(_NAMES)}.")
    module, _, attribute = _NAMES[name].partition(":")
    value = importlib.import_module(module)
    if attribute:
        value = getattr(value, attribute)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *_NAMES])
