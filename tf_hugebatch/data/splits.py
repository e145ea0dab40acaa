"""Examples in memory and how a data set is split: the same way for every seed, each class in proportion."""

import dataclasses

import numpy as np

from tf_hugebatch.settings import Refusal

SPLIT_SEED = 20200615  # the same for every run; the number itself means nothing


@dataclasses.dataclass(frozen=True)
class Examples:
    """images uint8 [n, 28, 28, 1], labels int32 [n] in 0..9."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self):
        return len(self.labels)

    def take(self, ids):
        """The examples `ids` (int [k]), in that order."""
        return Examples(self.images[ids], self.labels[ids])


@dataclasses.dataclass(frozen=True)
class Splits:
    """Training, validation (None when nothing is held out) and test examples."""

    train: Examples
    validation: Examples | None
    test: Examples


def hold_out(train, test, validation_examples):
    """Splits with the last `validation_examples` of a stratified permutation of `train` held out.

    What remains for training keeps its stored order.

    Raises:
        Refusal: a negative number, or one that leaves nothing to train on.
    """
    if not 0 <= validation_examples < len(train):
        raise Refusal([f"--validation_examples={validation_examples} doesn't fit: the training set has "
                       f"{len(train):,} examples and must keep some; give 0 to {len(train) - 1:,}."])
    if validation_examples == 0:
        return Splits(train, None, test)
    order = stratified_permutation(train.labels)
    kept = np.sort(order[:-validation_examples])
    return Splits(train.take(kept), train.take(order[-validation_examples:]), test)


def stratified_permutation(labels):
    """A fixed permutation of 0 .. n-1; every prefix holds each class in proportion, to within one example.

    The k-th of the c examples of a class (in a fixed random order) is due at (k + 1/2) / c; examples are
    sorted by when they are due, ties at random.

    Args:
        labels: int [n].

    Returns:
        int64 [n], a function of `labels` alone.
    """
    generator = np.random.Generator(np.random.Philox(SPLIT_SEED))
    shuffled = generator.permutation(len(labels))
    due = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        due[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((generator.permutation(len(labels)), due))
