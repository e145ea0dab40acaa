"""Images by tensorflow-datasets, downloaded by it or prepared before, in a process of its own (tfds_child.py).

tensorflow-datasets decodes with TensorFlow's kernels. Running one starts TensorFlow, and from then on a process can't split
its CPU into logical devices (--num_replicas) any more, nor say how a GPU's memory is to be used. So another process does it,
once, and hands the arrays over in a file. Parsing the records here would need one parser for each of their formats and a PNG
decoder; multiprocessing would run a user's script again unless its main part is guarded.
"""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile

import numpy as np

from tf_hugebatch.stops import stop_with


class ReaderError(Exception):
    """What stopped the other process, as one short line."""


def kept(name):
    """The folder in which tensorflow-datasets keeps the data set `name` (pathlib.Path), None where it has none yet."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import constants

    try:
        folder = pathlib.Path(tfds.builder(name).data_path)
    except Exception:  # it reads what is there at once, and has no base class of its own for what may be wrong with it
        folder = pathlib.Path(constants.DATA_DIR).expanduser() / name
    return folder if folder.exists() else None


def arrays(name, folder=None):
    """The arrays x_train, y_train, x_test, y_test by name, unchecked.

    Args:
        name: of the data set in tensorflow-datasets.
        folder: a prepared one; None for tensorflow-datasets' own, downloaded and prepared when it isn't yet. What an
            interruption leaves there is never read: only whole files and folders get their names.

    Raises:
        ReaderError: whatever stopped it.
    """
    with tempfile.TemporaryDirectory() as scratch:
        archive, complaint = pathlib.Path(scratch, "arrays.npz"), pathlib.Path(scratch, "complaint.txt")
        words = [sys.executable, "-P", "-m", "tf_hugebatch.data.tfds_child", name, str(archive), str(complaint)]
        # It finds the same packages as this process, and leaves the GPUs to it.
        surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
                        "CUDA_VISIBLE_DEVICES": "-1"}
        done = subprocess.run([*words, *([str(folder)] if folder else [])], env=surroundings, check=False,
                              preexec_fn=stop_with(os.getpid(), signal.SIGKILL))
        if complaint.exists():
            raise ReaderError(complaint.read_text(encoding="utf-8"))
        if done.returncode < 0:
            raise ReaderError(f"the reading process was killed by {signal.Signals(-done.returncode).name}")
        if done.returncode:
            raise ReaderError(f"the reading process ended with exit code {done.returncode}")
        with np.load(archive, allow_pickle=False) as found:
            return {array: found[array] for array in found.files}
