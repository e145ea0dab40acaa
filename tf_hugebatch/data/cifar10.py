"""CIFAR-10 (Krizhevsky 2009): 50,000 + 10,000 colour images of 32 x 32, standardised, shifted and flipped in training."""

import functools

import numpy as np

from tf_hugebatch.data.array_files import ArrayFiles
from tf_hugebatch.data.cifar_batches import IN_WORDS, read_cifar_batches
from tf_hugebatch.data.splits import hold_out
from tf_hugebatch.settings import Refusal

FILES = ArrayFiles("cifar10", "CIFAR-10", read_cifar_batches, IN_WORDS, "cifar10.npz with x_train, y_train, x_test, y_test",
                   url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", from_jpeg="scripts/cifar10_from_jpeg.py")


def load(settings):
    """The splits of data set cifar10 for a run.

    Pixels become (x - mean) / deviation, per channel over what is left to train on after the validation split. In
    training an image is padded with four black pixels a side, cut and perhaps flipped before that
    (`augment.shifted_and_flipped`), keyed by (seed, epoch, number of the image).

    Raises:
        Refusal: what ArrayFiles.read refuses, a validation split that doesn't fit, or images without a colour.
    """
    train, test, note = FILES.read(settings.data_dir)
    splits = hold_out(train, test, settings.validation_examples, note)
    mean, deviation = channel_statistics(splits.train.images)
    flat = [f"{name} is {value:g}" for name, value, varies in zip(("red", "green", "blue"), mean, deviation > 0) if not varies]
    if flat:
        where = "the downloaded images" if settings.data_dir is None else f"--data_dir={settings.data_dir}"
        raise Refusal([f"{where}: {', '.join(flat)} in every pixel of the training images, so these are not CIFAR-10's; give "
                       f"the original files."])
    return splits.prepared(functools.partial(prepare, settings.seed, mean, deviation))


def channel_statistics(images):
    """(mean, standard deviation) of uint8 images [n, height, width, channels] over all but channels; float64."""
    counts = np.zeros((images.shape[-1], 256), np.int64)
    # By counting: exact, and no float copy of the data set.
    for part in np.array_split(images, max(1, len(images) // 1000)):
        for channel, channel_counts in enumerate(counts):
            channel_counts += np.bincount(part[..., channel].reshape(-1), minlength=256)
    values = np.arange(256)
    mean = counts @ values / counts.sum(axis=1)
    return mean, np.sqrt(counts @ values**2 / counts.sum(axis=1) - mean**2)


def prepare(seed, mean, deviation, images, numbers, epochs, training):
    """Network input from stored images, in a graph: shifted and flipped when `training`, standardised in any case.

    Args:
        seed: the run's.
        mean, deviation: float64 [channels], of pixels in 0..255.
        images: uint8 [k, height, width, channels].
        numbers, epochs: integers [k]: which images these are, and in which epoch.
        training: bool.

    Returns:
        float32 [k, height, width, channels].
    """
    # Here, since a refusal for what a file holds should not wait for TensorFlow.
    import tensorflow as tf

    from tf_hugebatch.data import augment

    if training:
        images = augment.shifted_and_flipped(images, augment.keys(seed, epochs, numbers))
    return (tf.cast(images, tf.float32) - mean.astype(np.float32)) / deviation.astype(np.float32)
