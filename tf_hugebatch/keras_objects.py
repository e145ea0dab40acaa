"""Everything of this package that Keras must know by name to load a saved model.

Importing it is enough for plain `keras.models.load_model`; `hb.load_model` does both.
"""

import os

import keras

from . import layers, optimizers, schedules

__all__ = ["layers", "load_model", "optimizers", "schedules"]


def load_model(path):
    """Loads a model saved with `model.save("x.keras")`, its optimizer's state included, in any process.

    Args:
        path: of a .keras file.

    Returns:
        the Keras model; its next update is the one that the saved model would have made.

    Raises:
        ValueError: for a file of another name than .keras, whose format may hold no optimizer's state; Keras' own for one that
            is no such archive, or that would run code (safe mode is on).
    """
    if not os.fspath(path).endswith(".keras"):
        raise ValueError(f"{os.fspath(path)}: only a .keras file is sure to hold the optimizer's state, without which the next "
                         f"update is another one; save with model.save('x.keras'), or take keras.saving.load_model for it")
    return keras.saving.load_model(path, safe_mode=True)
