"""Optimizers whose update is a direction, a trust ratio per variable and a step: SGD, Adagrad, RMSprop, Adam,
LARS, LAMB, Muon, Shampoo, K-FAC.

Classes take their arguments by name; the rows of `tf_hugebatch.registry.OPTIMIZERS` are these classes with
defaults, and `get` makes one from a row's name.
"""

from tf_hugebatch import registry
from tf_hugebatch.optimizers.adagrad import Adagrad
from tf_hugebatch.optimizers.adam import Adam
from tf_hugebatch.optimizers.arguments import constructor_arguments
from tf_hugebatch.optimizers.base import HugeBatchOptimizer
from tf_hugebatch.optimizers.kfac import KFAC
from tf_hugebatch.optimizers.lamb import LAMB
from tf_hugebatch.optimizers.lars import LARS
from tf_hugebatch.optimizers.muon import Muon
from tf_hugebatch.optimizers.rmsprop import RMSprop
from tf_hugebatch.optimizers.sgd import SGD
from tf_hugebatch.optimizers.shampoo import Shampoo

__all__ = ["Adagrad", "Adam", "HugeBatchOptimizer", "KFAC", "LAMB", "LARS", "Muon", "RMSprop", "SGD", "Shampoo", "get",
           "names"]


def names():
    """The names that `get` knows, in the registry's order."""
    return tuple(registry.OPTIMIZERS)


def get(name, /, *, learning_rate=None, **overrides):
    """The optimizer of a registry row: the row's settings, with constructor arguments in `overrides` instead
    of them.

    learning_rate: a number or a schedule; None for the row's own rate, which is meant for the baseline batch.
    Raises registry.UnknownName, a ValueError with close matches; ValueError for an override of what makes the
    row what it is (`layerwise`); and what the constructor raises.
    """
    row = registry.find("optimizer", name)
    for argument, fixed in row.arguments.items():
        if overrides.get(argument, fixed) != fixed:
            others = [other.name for other in registry.OPTIMIZERS.values()
                      if other.target == row.target and argument not in other.arguments]
            raise ValueError(f"{argument}={overrides[argument]!r}: {name} is the row with {argument}={fixed!r}."
                             f" Leave it out, or choose {' or '.join(others)}")
    arguments = constructor_arguments({flag: row.settings[flag] for flag in row.flags})
    rate = row.settings["learning_rate"] if learning_rate is None else learning_rate
    return row.resolve()(rate, **{**arguments, **overrides, **row.arguments})
