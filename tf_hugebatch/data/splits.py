"""Splits of a data set, the in-memory kind, and how one is held out: the same way for every seed, each class in proportion.

A split is anything with

    len(split), split.labels        n, and int32 [n] known before any image is read
    split.image_shape               (height, width, channels) of what the network sees
    split.take(ids)                 the split of those examples, in that order
    split.micro_batches(cells, size, training)
        tf.data.Dataset of cells (dicts id int64 [size], epoch int32 [size], position int64 [size], weight float32 [size];
        ids count within the split) -> of micro-batches (dicts image float32 [size, height, width, channels], label int32
        [size], position, weight), in the same order. `training` may augment, keyed by (seed, epoch, example).
"""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from tf_hugebatch.settings import Refusal

SPLIT_SEED = 20200615  # the same for every run; the number itself means nothing


@dataclasses.dataclass(frozen=True)
class Examples:
    """A split in memory.

    images: uint8 [n, height, width, channels]. labels: int32 [n] from 0. numbers: int64 [n], which images of the data set
    these are (None: 0 .. n-1); they key the augmentation, so an image keeps its crops whatever is held out. prepare:
    (images uint8 [k, ...], numbers int64 [k], epochs int32 [k], training) -> float32 [k, ...], in a graph; None: scaled to
    [0, 1].
    """

    images: np.ndarray
    labels: np.ndarray
    numbers: np.ndarray | None = None
    prepare: Callable | None = None

    def __post_init__(self):
        if self.numbers is None:
            object.__setattr__(self, "numbers", np.arange(len(self.labels)))

    def __len__(self):
        return len(self.labels)

    @property
    def image_shape(self):
        return self.images.shape[1:]

    def take(self, ids):
        """The examples `ids` (int [k]), in that order."""
        return Examples(self.images[ids], self.labels[ids], self.numbers[ids], self.prepare)

    def micro_batches(self, cells, size, training):
        """Images as `prepare` makes them; see the module."""
        # Here, since a refusal for what a file holds should not wait for TensorFlow.
        import tensorflow as tf

        from tf_hugebatch.data.python_calls import numpy_call

        prepare = self.prepare or (lambda images, *_: tf.cast(images, tf.float32) / 255.0)

        def read(cell):
            images, labels, numbers = numpy_call(self._look_up, [cell["id"]], [tf.uint8, tf.int32, tf.int64])
            images = tf.ensure_shape(images, [size, *self.image_shape])
            return {
                "image": prepare(images, tf.ensure_shape(numbers, [size]), cell["epoch"], training),
                "label": tf.ensure_shape(labels, [size]),
                "position": cell["position"],
                "weight": cell["weight"],
            }

        return cells.map(read)

    def _look_up(self, ids):
        return self.images[ids], self.labels[ids], self.numbers[ids]


@dataclasses.dataclass(frozen=True)
class Splits:
    """Training, validation (None when nothing is held out) and test split; `note`: words that every number made with these
    images must carry, or ''."""

    train: Any
    validation: Any
    test: Any
    note: str = ""

    def fingerprint(self):
        """SHA-256, in hex, of how many examples each split has and of their labels in order, and of images in memory: the
        same data in another order, or cut otherwise, are other examples under the same numbers. Images that are read on
        demand are known by their labels alone."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            digest.update(f"{0 if split is None else len(split)} ".encode())
            if (labels := getattr(split, "labels", None)) is not None:
                digest.update(np.ascontiguousarray(labels, np.int32))
            if (images := getattr(split, "images", None)) is not None:
                digest.update(np.ascontiguousarray(images))
        return digest.hexdigest()

    def undecodable(self):
        """{name of a split: `images.Undecodable`} of the splits whose images may turn out to be damaged."""
        found = {name: getattr(getattr(self, name), "undecodable", None) for name in ("train", "test")}
        return {name: images for name, images in found.items() if images is not None}

    def prepared(self, prepare):
        """The same splits, all of them `Examples`, with that preparation."""
        changed = {name: dataclasses.replace(split, prepare=prepare)
                   for name in ("train", "validation", "test") if (split := getattr(self, name)) is not None}
        return dataclasses.replace(self, **changed)


def hold_out(train, test, validation_examples, note=""):
    """Splits with the last `validation_examples` of a stratified permutation of `train` held out.

    What remains for training keeps its stored order.

    Raises:
        Refusal: a negative number, or one that leaves nothing to train on.
    """
    if not 0 <= validation_examples < len(train):
        raise Refusal([f"--validation_examples={validation_examples} doesn't fit: the training set has "
                       f"{len(train):,} examples and must keep some; give 0 to {len(train) - 1:,}."])
    if validation_examples == 0:
        return Splits(train, None, test, note)
    order = stratified_permutation(train.labels)
    kept = np.sort(order[:-validation_examples])
    return Splits(train.take(kept), train.take(order[-validation_examples:]), test, note)


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
