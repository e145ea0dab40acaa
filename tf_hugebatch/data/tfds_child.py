"""Reads a data set by tensorflow-datasets in a process of its own; tfds_reader.py says why, and starts it.

    python -m tf_hugebatch.data.tfds_child NAME ARCHIVE.npz COMPLAINT.txt [PREPARED_FOLDER]

writes x_train, y_train, x_test, y_test to the archive, or why that can't be done to the complaint. Without a
folder it is tensorflow-datasets' own, prepared (downloaded) when it isn't yet.
"""

import functools
import pathlib
import signal
import sys

import numpy as np

from tf_hugebatch.data.array_files import said

#: Without a byte for so long a download has ended. tensorflow-datasets alone would wait for ever.
SILENT_SECONDS = 30


def read(name, folder=None):
    """The four arrays by name, unchecked."""
    import tensorflow_datasets as tfds  # here, so that a package that is missing makes a complaint too

    if folder is None:
        builder = _prepared(tfds, name)
    else:
        builder = tfds.builder_from_directory(folder)
    arrays = {}
    for part in ("train", "test"):
        whole = builder.as_dataset(split=part, batch_size=-1)
        arrays[f"x_{part}"], arrays[f"y_{part}"] = whole["image"].numpy(), whole["label"].numpy()
    return arrays


def _prepared(tfds, name):
    import requests  # tensorflow-datasets' own way to a server

    requests.Session.request = functools.partialmethod(requests.Session.request, timeout=SILENT_SECONDS)
    builder = tfds.builder(name)
    try:
        builder.download_and_prepare()
    except Exception:
        # Another process, a worker's or a run's of the same sweep, may have been quicker with the same folder.
        builder = tfds.builder(name)
        if not builder.is_prepared():
            raise
    return builder


def main(name, archive, complaint, folder=None):
    """Exit code 0 with the archive written, 1 with the complaint written."""
    try:
        np.savez(archive, **read(name, folder))
    except Exception as error:  # tensorflow-datasets has no base class of its own for damaged folders
        pathlib.Path(complaint).write_text(said(error), encoding="utf-8")
        return 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches this process too; the one that waits for it says so
    sys.exit(main(*sys.argv[1:]))
