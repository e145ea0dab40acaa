"""A split of encoded images: read, decoded, cropped a micro-batch at a time; what can't be decoded is named and counted."""

import functools
import os
import sys
import threading

import numpy as np
import tensorflow as tf

from tf_hugebatch.data import augment
from tf_hugebatch.data.python_calls import numpy_call

#: Of a split, how many images may be undecodable before the run is given up: one in a thousand, and at least ten.
_TOLERATED_SHARE, _TOLERATED = 1e-3, 10
_CELLS_AT_ONCE = 2


class ImageSplit:
    """A split (see data/splits.py) of images that are read when they are needed.

    Args:
        source: tfrecord.Records or class_folders.Files.
        numbers: int64 [n], which of the source's images; they also key the augmentation, so an image keeps its crops
            whatever split it is held out of.
        labels: int32 [n] from 0.
        image_size: pixels each way of what the network sees.
        seed: the run's.
        undecodable: shared with the splits taken from this one; made when None.
    """

    def __init__(self, source, numbers, labels, image_size, seed, undecodable=None):
        self._source, self._numbers, self.labels = source, numbers, labels
        self._seed, self.image_shape = seed, (image_size, image_size, 3)
        self.undecodable = Undecodable(source, len(labels)) if undecodable is None else undecodable

    def __len__(self):
        return len(self.labels)

    def take(self, ids):
        """The examples `ids` (int [k]), in that order."""
        return ImageSplit(self._source, self._numbers[ids], self.labels[ids], self.image_shape[0], self._seed,
                          self.undecodable)

    def encoded(self, ids):
        """The stored bytes of the images `ids`."""
        handles = self._source.handles(tf.constant(self._numbers[list(ids)]))
        return [self._source.image(handle)[0].numpy() for handle in handles]

    def micro_batches(self, cells, size, training):
        """Crops by augment.py; an image that can't be decoded is grey and has weight 0. See data/splits.py."""
        side = self.image_shape[0]

        def crop(slot, handle, key, jpeg):
            encoded, boxes = self._source.image(handle)
            if training:
                return slot, augment.training_image(encoded, boxes, key, side, jpeg)
            return slot, augment.evaluation_image(encoded, side)

        def tried(slots, handles, keys, jpeg):
            """(slots, images) of those that can be decoded, and at the end a made one with slot `size`."""
            examples = tf.data.Dataset.from_tensor_slices((slots, handles, keys))
            # Errors are ignored one image at a time, and the slot numbers say which of them are missing. The last,
            # made one is there so that a micro-batch in which nothing can be decoded is a batch too.
            images = examples.map(functools.partial(crop, jpeg=jpeg), num_parallel_calls=os.cpu_count()).ignore_errors()
            images = images.concatenate(tf.data.Dataset.from_tensors((size, tf.zeros(self.image_shape))))
            return images.batch(size + 1).get_single_element()

        def decode(cell):
            keys = augment.keys(self._seed, cell["epoch"], cell["number"])
            handles, real = tf.ensure_shape(cell["handle"], [size]), cell["weight"]
            slots, images = tried(tf.range(size), handles, keys, jpeg=True)

            def all_of_them():
                return images[:-1], real

            def some_of_them():
                # What is no JPEG may be another image yet: a PNG named .JPEG is in the real training set.
                left = tf.sets.difference([tf.range(size)], [slots]).values
                others, more = tried(left, tf.gather(handles, left), tf.gather(keys, left), jpeg=False)
                places = tf.concat([slots[:-1], others[:-1]], 0)[:, tf.newaxis]
                there = tf.scatter_nd(places, tf.ones_like(places[:, 0], tf.float32), [size])
                missing = tf.boolean_mask(cell["identity"], there == 0)
                with tf.control_dependencies([numpy_call(self.undecodable.add, [missing], [], stateful=True)]):
                    found = tf.concat([images[:-1], more[:-1]], 0)
                    return tf.scatter_nd(places, found, [size, *self.image_shape]), real * there

            image, weight = tf.cond(tf.size(slots) == size + 1, all_of_them, some_of_them)
            return {
                "image": tf.ensure_shape(image, [size, *self.image_shape]),
                "label": tf.ensure_shape(cell["label"], [size]),
                "position": cell["position"],
                "weight": tf.ensure_shape(weight, [size]),
            }

        return self._read(cells, size).map(decode, num_parallel_calls=_CELLS_AT_ONCE)

    def _read(self, cells, size):
        """Cells with what they hold: number of each example, what tells it apart from others in messages, label, and the
        source's handle on its image."""

        def read(cell):
            # By NumPy: a constant of a million entries would be copied with every graph over it.
            numbers, labels = numpy_call(self._look_up, [cell["id"]], [tf.int64, tf.int32])
            numbers = tf.ensure_shape(numbers, [size])
            return {**cell, "number": numbers, "identity": numbers, "label": labels, "handle": self._source.handles(numbers)}

        return cells.map(read, num_parallel_calls=_CELLS_AT_ONCE)

    def _look_up(self, ids):
        return self._numbers[ids], self.labels[ids]


class Undecodable:
    """The images of a source that could not be decoded so far, each named once on standard error.

    Args:
        source: has `describe`.
        examples: images in the split.
    """

    def __init__(self, source, examples):
        self._source, self._examples = source, examples
        self._limit = max(_TOLERATED, int(_TOLERATED_SHARE * examples))
        self._numbers, self._lock = set(), threading.Lock()

    def __len__(self):
        return len(self._numbers)

    @property
    def numbers(self):
        """Those so far, sorted: what `remember` takes."""
        with self._lock:
            return sorted(self._numbers)

    def remember(self, numbers):
        """Counts what was named before the run was interrupted."""
        with self._lock:
            self._numbers.update(numbers)

    def add(self, numbers):
        """Names those of `numbers` that are new; called from the input pipeline.

        Args:
            numbers: int64 [k], as the source's `describe` takes them.

        Raises:
            ValueError: there are too many of them.
        """
        with self._lock:
            for number in np.setdiff1d(numbers, list(self._numbers)):
                self._numbers.add(int(number))
                print(f"undecodable image, left out: {self._source.describe(number)}", file=sys.stderr, flush=True)
            if len(self._numbers) > self._limit:
                raise ValueError(
                    f"{len(self._numbers)} of {self._examples:,} images can't be decoded, more than the {self._limit} that "
                    f"are left out quietly: the data are damaged; prepare them anew (scripts/prepare_imagenet.py)."
                )
