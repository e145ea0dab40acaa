"""Made images, as many as ImageNet has: any batch, any layout and any pod can be tried without data.

    image_i = contrast_i * (A[c mod 32] + B[c div 32] + P[p_i] + Q[q_i]) / 2,        c = i mod classes

A and B are banks of 32 coarse patterns, which make the class; P and Q banks of white noise. p, q and the contrast (0.8 to
1.2) come from a hash of i. Everything is a function of the example's number and nothing but the banks is kept, so 1.28
million images take the memory of a few dozen; a network can learn them.
"""

import functools

import numpy as np

from tf_hugebatch import registry
from tf_hugebatch.data.splits import hold_out
from tf_hugebatch.settings import Refusal

BANK = 32
_TILES = 8  # a coarse pattern is a board of 8 x 8 colours
_SEED = 20200615  # the same images in every run, as a data set's are
_HASH = 2654435761  # Knuth's multiplicative hash: neighbours get unrelated noise


def load(settings):
    """The splits of data set synthetic for a run; no test image is a training image."""
    train, test = settings.sizes
    classes = registry.find("dataset", "synthetic").facts["classes"]

    def made(first, count):
        return MadeImages(np.arange(first, first + count), settings.image_size, classes)

    try:
        # Of fewer training images than classes the first test images would be of classes that none of these has.
        return hold_out(made(0, train), made(max(train, classes), test), settings.validation_examples, "made images")
    except MemoryError as error:
        raise Refusal([f"--dataset_size={train},{test}: not even the numbers of so many images fit into memory ({error}); "
                       f"give less."]) from error


class MadeImages:
    """A split (see data/splits.py) of made images.

    Args:
        numbers: int64 [n], which of the endless made images these are.
        image_size: pixels each way.
        classes: how many there are; image i shows class i mod classes.
    """

    def __init__(self, numbers, image_size, classes):
        self._numbers, self._classes = numbers, classes
        self.image_shape = (image_size, image_size, 3)
        self.labels = (numbers % classes).astype(np.int32)

    def __len__(self):
        return len(self.labels)

    def take(self, ids):
        """The examples `ids` (int [k]), in that order."""
        return MadeImages(self._numbers[ids], self.image_shape[0], self._classes)

    def _numbers_of(self, ids):
        return self._numbers[ids]

    def micro_batches(self, cells, size, training):
        """Images float32 around 0, variance about 1; see data/splits.py."""
        # Here, since a refusal for another reason should not wait for TensorFlow.
        import tensorflow as tf

        from tf_hugebatch.data.python_calls import numpy_call

        del training  # no augmentation
        banks = [tf.constant(bank) for bank in _banks(self.image_shape[0])]

        def make(cell):
            # By NumPy: a constant of a million entries would be copied with every graph over it.
            number = tf.ensure_shape(numpy_call(self._numbers_of, [cell["id"]], tf.int64), [size])
            label = number % self._classes
            mixed = number * _HASH % 2**32
            picks = (label % BANK, label // BANK % BANK, mixed // 2**8 % BANK, mixed // 2**16 % BANK)
            contrast = 0.8 + 0.4 * tf.cast(mixed // 2**24, tf.float32) / 255
            image = tf.add_n([tf.gather(bank, pick) for bank, pick in zip(banks, picks)])
            return {
                "image": image * (contrast / 2)[:, tf.newaxis, tf.newaxis, tf.newaxis],
                "label": tf.cast(label, tf.int32),
                "position": cell["position"],
                "weight": cell["weight"],
            }

        return cells.map(make, num_parallel_calls=tf.data.AUTOTUNE)


@functools.lru_cache(maxsize=2)
def _banks(side):
    """Two banks of coarse patterns and two of noise, float32 [BANK, side, side, 3] each."""
    generator = np.random.Generator(np.random.Philox(_SEED))
    coarse = generator.standard_normal((2, BANK, _TILES, _TILES, 3), np.float32)
    tile = np.arange(side) * _TILES // side
    noise = generator.standard_normal((2, BANK, side, side, 3), np.float32)
    return [*coarse[:, :, tile][:, :, :, tile], *noise]
