"""Made CIFAR-10: as many images as the real set, coloured by their number, in every form that it comes in."""

import io
import pickle
import tarfile

import numpy as np

COUNTS = {"train": 50_000, "test": 10_000}
BATCHES = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
CALLED = {name: f"training batch {number} of 5" for number, name in enumerate(BATCHES[:5], 1)}
CALLED["test_batch"] = "testing batch 1 of 1"


def made_arrays():
    """Nearly black images with their own number in the first three bytes of the red plane, something else in the others."""
    arrays = {}
    for part, count in COUNTS.items():
        numbers = np.arange(count)
        images = np.zeros((count, 32, 32, 3), np.uint8)
        for place, shift in enumerate((16, 8, 0)):
            images[:, 0, place, 0] = numbers >> shift & 255
        images[:, 5, 7, 1], images[:, 31, 30, 2] = 100, 200
        images[:, 20, 20] = 10 if part == "train" else 20  # no two batches are the same
        arrays[f"x_{part}"], arrays[f"y_{part}"] = images, (numbers % 10).astype(np.uint8)
    return arrays


def number(images):
    """What `made_arrays` wrote."""
    first = images[:, 0, :3, 0].astype(np.int64)
    return first[:, 0] << 16 | first[:, 1] << 8 | first[:, 2]


def rows_and_labels(arrays):
    """{name of batch: (uint8 [10000, 3072] by planes, labels)}."""
    images = np.concatenate([arrays["x_train"], arrays["x_test"]]).transpose(0, 3, 1, 2).reshape(-1, 3072)
    labels = np.concatenate([arrays["y_train"], arrays["y_test"]])
    return {name: (np.ascontiguousarray(images[10_000 * i:10_000 * (i + 1)]), labels[10_000 * i:10_000 * (i + 1)])
            for i, name in enumerate(BATCHES)}


def binary_batches(arrays):
    """{file name: bytes}, the binary version."""
    return {f"{name}.bin": np.concatenate([labels[:, None], rows], axis=1).tobytes()
            for name, (rows, labels) in rows_and_labels(arrays).items()}


def python_batches(arrays, protocol=2, keys=lambda text: text.encode()):
    """{file name: bytes}, the python version; Python 2 wrote its strings as what Python 3 calls bytes."""
    return {name: pickle.dumps({keys("batch_label"): keys(CALLED[name]), keys("labels"): labels.tolist(), keys("data"): rows,
                                keys("filenames"): [keys(f"{i}.png") for i in range(3)]}, protocol)
            for name, (rows, labels) in rows_and_labels(arrays).items()}


def write_files(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def write_archive(path, inner, files):
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{inner}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path.parent
