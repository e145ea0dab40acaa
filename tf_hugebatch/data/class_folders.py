"""A folder of class folders, train/<synset>/*.JPEG and val/<synset>/*.JPEG, as a source of images."""

import os
import pathlib

import numpy as np
import tensorflow as tf

from tf_hugebatch.data.python_calls import numpy_call
from tf_hugebatch.dataset_sizes import IMAGE_ENDINGS


class Files:
    """Image files by number, for images.ImageSplit.

    Args:
        paths: list of str.
    """

    def __init__(self, paths):
        self._paths = paths

    def handles(self, numbers):
        """Contents, string [k], of the files `numbers`, int64 [k].

        Read here and not where images are decoded: a file that can't be read stops the run, it isn't undecodable.
        """
        return numpy_call(self._read, [numbers], tf.string)

    def _read(self, numbers):
        return np.array([pathlib.Path(self._paths[number]).read_bytes() for number in numbers], object)

    def image(self, handle):
        """(encoded image, no boxes) of one file's contents."""
        return handle, tf.zeros([1, 0, 4])

    def describe(self, number):
        """Where the image `number` is, for messages."""
        return self._paths[number]


def class_names(*folders):
    """The class folders of all `folders` (train and test) together, sorted: a class is its number in this list.

    What holds no image, such as .ipynb_checkpoints, is no class: it would shift the numbers of those after it.
    """
    return sorted({entry.name for folder in folders for entry in os.scandir(folder)
                   if entry.is_dir() and any(file.lower().endswith(IMAGE_ENDINGS) for file in os.listdir(entry))})


def files_of(folder, names):
    """(paths, labels int32) of the images in `folder`/<name>, sorted by class, then file."""
    paths, labels = [], []
    for label, name in enumerate(names):
        inner = os.path.join(folder, name)
        if os.path.isdir(inner):
            images = sorted(file for file in os.listdir(inner) if file.lower().endswith(IMAGE_ENDINGS))
            paths += [os.path.join(inner, image) for image in images]
            labels += [label] * len(images)
    return paths, np.array(labels, np.int32)
