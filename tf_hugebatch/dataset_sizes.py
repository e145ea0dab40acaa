"""How many examples a folder of images holds, without TensorFlow.

The number of updates follows from the number of examples, so it must be known before a run is built. The full ImageNet
needs no look: its sizes are published. A subset is counted here: files of class folders, or records of TFRecord shards by the
length that stands before each of them, which is one small read a record.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator

IMAGE_ENDINGS = (".jpeg", ".jpg", ".png")
TRAIN_FOLDERS, TEST_FOLDERS = ("train",), ("val", "validation")
_SHARD = re.compile(r"^(?:imagenet2012-)?(train|validation)(?:\.tfrecord)?-(\d{5})-of-(\d{5})$")
#: This many training shards are how the full set comes; reading its sizes off the disk would say nothing new.
FULL_TRAIN_SHARDS = 1024
# A record: length uint64, its checksum, the payload, the payload's checksum.
_HEADER, _FOOTER = 12, 4


def find_sizes(data_dir: str) -> tuple[int, int] | None:
    """(training, test examples) of the images in `data_dir`; None when it holds the full set, or can't be counted.

    What can't be counted is not this function's to refuse: loading the data says what is wrong with them.
    """
    if "://" in data_dir or not os.path.isdir(data_dir):
        return None
    for counted in (_class_folders(data_dir), _shards(data_dir)):
        if counted is not None and all(counted):
            return counted
    return None


def is_torn(path: str) -> bool:
    """Whether a shard ends inside a record."""
    try:
        return _records(path) < 0
    except (OSError, struct.error, ValueError):
        return True


def _class_folders(data_dir: str) -> tuple[int, int] | None:
    counts = []
    for names in (TRAIN_FOLDERS, TEST_FOLDERS):
        folders = [path for name in names if os.path.isdir(path := os.path.join(data_dir, name))]
        counts.append(sum(_images_in_class_folders(folder) for folder in folders[:1]))
    return tuple(counts)


def _images_in_class_folders(folder: str) -> int:
    classes = [entry.path for entry in os.scandir(folder) if entry.is_dir()]
    return sum(name.lower().endswith(IMAGE_ENDINGS) for path in classes for name in os.listdir(path))


def _shards(data_dir: str) -> tuple[int, int] | None:
    shards: dict[str, list[str]] = {"train": [], "validation": []}
    for split, found in shards.items():
        for folder in _folders_with_shards(data_dir, split):
            found += [os.path.join(folder, name) for name in os.listdir(folder)
                      if (match := _SHARD.match(name)) and match[1] == split]
            if found:
                break  # as loading does: one folder is read, not all that hold some
    if len(shards["train"]) == FULL_TRAIN_SHARDS:
        return None
    try:
        return _examples(shards["train"]), _examples(shards["validation"])
    except (OSError, struct.error, ValueError):
        return None


def _folders_with_shards(data_dir: str, split: str) -> Iterator[str]:
    yield data_dir
    if os.path.isdir(path := os.path.join(data_dir, split)):
        yield path
    builder = os.path.join(data_dir, "imagenet2012")
    if os.path.isdir(builder):
        yield from sorted((entry.path for entry in os.scandir(builder) if entry.is_dir()), reverse=True)


def _examples(shards: list[str]) -> int:
    return sum(_records(path) for path in shards)


def _records(path: str) -> int:
    size, at, count = os.path.getsize(path), 0, 0
    with open(path, "rb") as file:
        while at < size:
            file.seek(at)
            (length,) = struct.unpack("<Q", file.read(_HEADER)[:8])
            at += _HEADER + length + _FOOTER
            count += 1
    if at != size:
        raise ValueError(f"{path} ends inside a record")
    return count
