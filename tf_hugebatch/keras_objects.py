"""Everything of this package that Keras must know by name to load a saved model.

Importing it is enough for plain `keras.models.load_model`; `hb.load_model` does both.
"""

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
        ValueError: Keras' own, for a file that is no .keras archive or that would run code (safe mode is on).
    """
    return keras.saving.load_model(path, safe_mode=True)
