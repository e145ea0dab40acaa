"""MNIST's images and labels as they are found: .npz, IDX files, a tensorflow-datasets folder, the network.

A folder is searched in this order for
* `mnist.npz` in Keras' format, or one other .npz, with x_train, y_train, x_test, y_test;
* LeCun's four IDX files, plain or .gz, named train-images-idx3-ubyte or train-images.idx3-ubyte;
* a prepared tensorflow-datasets folder (`mnist/3.0.1/dataset_info.json`, or the version's folder itself).
"""

import gzip
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import urllib.request
import zipfile
import zlib

import numpy as np

from tf_hugebatch.settings import Refusal

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
IDX_FILES = {
    "x_train": ("train-images-idx3-ubyte", "train-images.idx3-ubyte"),
    "y_train": ("train-labels-idx1-ubyte", "train-labels.idx1-ubyte"),
    "x_test": ("t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte"),
    "y_test": ("t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte"),
}
DOWNLOAD_URL = "https://storage.googleapis.com/cvdf-datasets/mnist/train-labels-idx1-ubyte.gz"
PROBE_SECONDS = 3.0
LAYOUTS = ("mnist.npz (Keras format), the four IDX files (plain or .gz), or a prepared tensorflow-datasets "
           "folder (mnist/3.0.1)")
OFFLINE_REMEDY = "give --data_dir=FOLDER that holds mnist.npz, or train on the embedded --dataset=mnist5k"
DAMAGED = (OSError, EOFError, ValueError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error)


def read_folder(folder):
    """The four arrays by name, unchecked, from a folder in one of the layouts above.

    Args:
        folder: pathlib.Path.

    Raises:
        Refusal: no such folder, none of the layouts in it, or a file that can't be read.
    """
    if not folder.exists():
        raise Refusal([f"--data_dir={folder} isn't there; give a folder that holds {LAYOUTS}, or use the "
                       f"embedded --dataset=mnist5k."])
    if not folder.is_dir():
        raise Refusal([f"--data_dir={folder} is a file, not a folder; give its folder: "
                       f"--data_dir={folder.parent}."])
    archives = sorted(folder.glob("*.npz"))
    archive = folder / "mnist.npz" if folder / "mnist.npz" in archives else archives[0] if archives else None
    if archive is not None and archive.name != "mnist.npz" and len(archives) > 1:
        raise Refusal([f"--data_dir={folder} holds {len(archives)} .npz files and none is called mnist.npz; "
                       f"rename the one to read."])
    if archive is not None:
        return _read_npz(archive)
    idx = {array: _idx_path(folder, names) for array, names in IDX_FILES.items()}
    if any(idx.values()):
        return _read_idx_files(folder, idx)
    versions = [*sorted(folder.glob("mnist/*"), reverse=True), *sorted(folder.glob("*"), reverse=True)]
    for prepared in (folder, *versions):
        if (prepared / "dataset_info.json").is_file():
            return _read_tfds(prepared)
    raise Refusal([f"--data_dir={folder} holds no MNIST; give a folder that holds {LAYOUTS}, or use the "
                   f"embedded --dataset=mnist5k."])


def _read_npz(path):
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [name for name in ARRAYS if name not in archive.files]
            if missing:
                raise Refusal([f"{path} lacks {', '.join(missing)} (it holds "
                               f"{', '.join(archive.files) or 'nothing'}); give Keras' mnist.npz."])
            return {name: archive[name] for name in ARRAYS}
    except Refusal:
        raise
    except (*DAMAGED, AttributeError, TypeError) as error:
        raise Refusal([f"{path} can't be read as .npz ({said(error)}): truncated, damaged or something "
                       f"else; copy it again."]) from error


def _idx_path(folder, names):
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None


def _read_idx_files(folder, paths):
    problems = [f"--data_dir={folder} lacks {IDX_FILES[array][0]} (plain or .gz); give all four IDX files."
                for array, path in paths.items() if path is None]
    arrays = {}
    for array, path in paths.items():
        if path is not None:
            try:
                arrays[array] = _read_idx(path, dimensions=3 if array.startswith("x") else 1)
            except DAMAGED as error:
                problems.append(f"{path} can't be read as IDX ({said(error)}); copy it again.")
    if problems:
        raise Refusal(problems)
    return arrays


def _read_idx(path, dimensions):
    """The uint8 array of an IDX file: bytes 0 0 8 (uint8), dimensions; sizes, big-endian int32; the data."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        header = file.read(4 + 4 * dimensions)
        if header[:4] != bytes([0, 0, 8, dimensions]):
            found = header[:4].hex(" ") or "nothing"
            raise ValueError(f"it starts with {found}, not 00 00 08 0{dimensions}")
        if len(header) < 4 + 4 * dimensions:
            raise ValueError("it ends inside its header")
        shape = np.frombuffer(header, ">i4", offset=4)
        if (shape < 0).any():
            raise ValueError(f"its header holds a negative size, {shape.tolist()}")
        promised = int(np.prod(shape, dtype=np.int64))
        data = file.read()
    if len(data) != promised:
        raise ValueError(f"its header promises {promised:,} bytes of data, it has {len(data):,}")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_tfds(folder):
    try:
        return _by_tfds_in_a_child(folder)
    except ChildError as error:
        raise Refusal([f"{folder} can't be read as a prepared tensorflow-datasets folder ({error}); prepare "
                       f"it again, or give --data_dir with mnist.npz."]) from error


class ChildError(Exception):
    """What stopped the child process, as one short line."""


def _by_tfds_in_a_child(folder=None):
    """The four arrays from a prepared folder, or (None) tensorflow-datasets' own, prepared when it isn't.

    tensorflow-datasets decodes with TensorFlow's kernels. Running one starts TensorFlow, and from then on a
    process can't split its CPU into logical devices (--num_replicas) any more, nor say how a GPU's memory is
    to be used. So another process does it, once, and hands the arrays over in a file. Parsing the records
    here would need one parser for each of their formats and a PNG decoder; multiprocessing would run a user's
    script again unless its main part is guarded.
    """
    with tempfile.TemporaryDirectory() as scratch:
        archive, complaint = pathlib.Path(scratch, "mnist.npz"), pathlib.Path(scratch, "complaint.txt")
        words = [sys.executable, "-P", "-m", "tf_hugebatch.data.tfds_child", str(archive), str(complaint)]
        # It finds the same packages as this process, and leaves the GPUs to it.
        surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
                        "CUDA_VISIBLE_DEVICES": "-1"}
        done = subprocess.run([*words, *([str(folder)] if folder else [])], env=surroundings, check=False)
        if complaint.exists():
            raise ChildError(complaint.read_text(encoding="utf-8"))
        if done.returncode:
            raise ChildError(f"the reading process ended with exit code {done.returncode}")
        with np.load(archive, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in ARRAYS}


def download():
    """The four arrays by tensorflow-datasets: from its own folder when prepared there, else over the network.

    Raises:
        Refusal: at once when the network isn't there, or whatever stopped the download.
    """
    import tensorflow_datasets as tfds

    prepared = tfds.builder("mnist").is_prepared()
    unreachable = None if prepared else probe(DOWNLOAD_URL)
    if unreachable:
        # Asked beforehand because tensorflow-datasets retries for minutes before it says so.
        raise Refusal([f"--dataset=mnist without --data_dir downloads the images, but {DOWNLOAD_URL} "
                       f"doesn't answer ({unreachable}): {OFFLINE_REMEDY}."])
    try:
        return _by_tfds_in_a_child()
    except ChildError as error:  # whatever stops it, the remedy is the same
        what = "reading the downloaded MNIST" if prepared else "downloading MNIST"
        raise Refusal([f"{what} failed ({error}): try again, or {OFFLINE_REMEDY}."]) from error


def probe(url):
    """None when `url` answers within PROBE_SECONDS, else the reason why not. Proxy settings are honoured."""
    reason = [f"no answer in {PROBE_SECONDS:g} s"]

    def ask():
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=PROBE_SECONDS):
                reason[0] = None
        except (OSError, ValueError) as error:
            reason[0] = str(getattr(error, "reason", error))

    # In a thread because a name look-up knows no timeout.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    return reason[0]


def said(error):
    """An exception as one short line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
