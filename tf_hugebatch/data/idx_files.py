"""LeCun's IDX files: bytes 0 0 8 (uint8) and the number of dimensions; sizes, big-endian int32; the data."""

import gzip

import numpy as np

from tf_hugebatch.data.array_files import DAMAGED, said
from tf_hugebatch.settings import Refusal

FILES = {
    "x_train": ("train-images-idx3-ubyte", "train-images.idx3-ubyte"),
    "y_train": ("train-labels-idx1-ubyte", "train-labels.idx1-ubyte"),
    "x_test": ("t10k-images-idx3-ubyte", "t10k-images.idx3-ubyte"),
    "y_test": ("t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte"),
}


def read_idx_files(folder):
    """The four arrays by name from IDX files, plain or .gz; None when the folder holds none of them.

    Raises:
        Refusal: some of the four are missing or damaged; all of those are named.
    """
    paths = {array: _path(folder, names) for array, names in FILES.items()}
    if not any(paths.values()):
        return None
    problems = [f"--data_dir={folder} lacks {FILES[array][0]} (plain or .gz); give all four IDX files."
                for array, path in paths.items() if path is None]
    arrays = {}
    for array, path in paths.items():
        if path is not None:
            try:
                arrays[array] = _read(path, dimensions=3 if array.startswith("x") else 1)
            except DAMAGED as error:
                problems.append(f"{path} can't be read as IDX ({said(error)}); copy it again.")
    if problems:
        raise Refusal(problems)
    return arrays


def _path(folder, names):
    for name in names:
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None


def _read(path, dimensions):
    """The uint8 array of one file."""
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
