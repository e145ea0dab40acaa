"""Everything of this package that Keras must know by name to load a saved model.

Importing it is enough for plain `keras.models.load_model`; `hb.load_model` does both.
"""

import os
import re
import warnings

import keras

from . import layers, optimizers, schedules

__all__ = ["layers", "load_model", "optimizers", "schedules"]


def load_model(path):
    """Loads a model saved with `model.save("x.keras")`, its optimizer's state included, in any process.

    Args:
        path: of a .keras file.

    Returns:
        the Keras model; its next update is the one that the saved model would have made. Where that was compiled and not yet
        trained, the optimizer begins anew in both.

    Raises:
        ValueError: for a file of another name than .keras, whose format may hold no optimizer's state; for one whose state
            is of other variables than those that train; Keras' own for one that is no such archive, or that would run code
            (safe mode is on).
    """
    name = os.fspath(path)
    if not name.endswith(".keras"):
        raise ValueError(f"{name}: only a .keras file is sure to hold the optimizer's state, without which the next update is "
                         f"another one; save with model.save('x.keras'); keras.saving.load_model takes this one's weights")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = keras.saving.load_model(path, safe_mode=True)
    for warning in said:
        if "Skipping variable loading for optimizer" in str(warning.message):
            if _saved_before_training(str(warning.message), model.optimizer):
                continue
            raise ValueError(f"{name}: the optimizer's state in it is not of the variables that train now, as where a layer "
                             f"was frozen or freed after training began, so the next update would be another one. Save it "
                             f"with the layers as they were, or compiled anew; keras.saving.load_model takes its weights, "
                             f"with an optimizer that begins anew")
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return model


def _saved_before_training(said, optimizer):
    """Whether a file has of the optimizer only what one has that was never built: then no state of it is lost."""
    saved = re.search(r"saved optimizer has (\d+) variables", said)
    return bool(saved) and int(saved[1]) == len(type(optimizer).from_config(optimizer.get_config()).variables)
