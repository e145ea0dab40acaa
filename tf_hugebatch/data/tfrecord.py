"""Random access to the records of TFRecord shards: an index of offsets beside them, made once.

A record is its length (8 bytes), a checksum of it (4), the payload, and a checksum of the payload (4). The index of a
split, `<split>.index.npz`, holds for each shard its name and size, and for each record the payload's offset and length,
its CRC-32 (TFRecord's own checksum is CRC-32C, which Python lacks) and the label as stored. Making it reads every record
once, checksums included, so a torn shard is found here; a record that has changed since then is found when it is read.
"""

import concurrent.futures
import dataclasses
import io
import os
import posixpath
import threading
import zlib

import numpy as np
import tensorflow as tf

from tf_hugebatch.data.python_calls import numpy_call
from tf_hugebatch.settings import Refusal

_HEADER, _FOOTER = 12, 4
_NO_LABEL = -1
_REMOTE_READERS, _AT_ONCE = 32, 64
_OF_SHARDS, _OF_RECORDS = ("sizes", "counts"), ("offsets", "lengths", "checksums", "labels")


@dataclasses.dataclass(frozen=True)
class ShardIndex:
    """Where the records of one shard are.

    name: file name. size_bytes: of the file. offsets, lengths: int64 [n], bytes of each payload. checksums: int64 [n], CRC-32
    of each payload. labels: int32 [n], as stored.
    """

    name: str
    size_bytes: int
    offsets: np.ndarray
    lengths: np.ndarray
    checksums: np.ndarray
    labels: np.ndarray


def index_shard(path, label_key):
    """The ShardIndex of one file, reading all of it.

    Raises:
        Refusal: a torn record, or one without an integer `label_key`: a shard of another data set.
    """
    lengths, checksums, labels = [], [], []

    def read(records):
        feature = {label_key: tf.io.FixedLenFeature([], tf.int64, _NO_LABEL)}
        return records, tf.io.parse_example(records, feature)[label_key]

    try:
        for records, some_labels in tf.data.TFRecordDataset(path).batch(_AT_ONCE).map(read).as_numpy_iterator():
            lengths += map(len, records)
            checksums += map(zlib.crc32, records)
            labels.append(some_labels)
    except tf.errors.DataLossError as error:
        raise Refusal([f"{path}: the record after number {len(lengths):,} or one soon after is damaged or cut off "
                       f"({error.message.splitlines()[0]}); copy the shard again."]) from error
    except tf.errors.InvalidArgumentError as error:
        raise Refusal([_of_another_data_set(path, label_key)]) from error
    lengths = np.array(lengths, np.int64)
    labels = np.concatenate([np.zeros(0, np.int64), *labels])
    if (labels == _NO_LABEL).any():
        raise Refusal([_of_another_data_set(path, label_key)])
    ends = np.cumsum(lengths + _HEADER + _FOOTER)
    return ShardIndex(posixpath.basename(path), tf.io.gfile.stat(path).length, ends - lengths - _FOOTER, lengths,
                      np.array(checksums, np.int64), labels.astype(np.int32))


def _of_another_data_set(path, label_key):
    try:
        first = tf.train.Example.FromString(next(tf.data.TFRecordDataset(path).take(1).as_numpy_iterator()))
        found = f"its first record has {', '.join(sorted(first.features.feature)) or 'no features'}"
    except Exception:  # whatever is in it, it is no tf.train.Example
        found = "its records are no tf.train.Example"
    return f"{path}: a record has no integer {label_key!r} ({found}): this is a shard of another data set; name ImageNet's."


def index_path(folder, split):
    """The path of a split's index."""
    return posixpath.join(folder, f"{split}.index.npz")


def write_index(folder, split, shards):
    """Writes the index of a split beside its shards, whole or not at all.

    Raises:
        OSError: the folder can't be written to.
    """
    path = index_path(folder, split)
    partial = f"{path}.{os.getpid()}.partial"
    content = io.BytesIO()  # zip files are written back and forth, which a bucket does not allow
    np.savez(
        content,
        names=np.array([shard.name for shard in shards]),
        sizes=np.array([shard.size_bytes for shard in shards], np.int64),
        counts=np.array([len(shard.labels) for shard in shards], np.int64),
        **{name: np.concatenate([getattr(shard, name) for shard in shards]) for name in _OF_RECORDS},
    )
    try:
        with tf.io.gfile.GFile(partial, "wb") as file:
            file.write(content.getvalue())
        tf.io.gfile.rename(partial, path, overwrite=True)
    except tf.errors.OpError as error:
        raise OSError(f"{path} can't be written ({error.message})") from error


def _check_index(values):
    """Raises ValueError when the arrays of an index don't fit each other."""
    numbers = {name: array for name, array in values.items() if name != "names"}
    odd = [name for name, array in numbers.items() if array.ndim != 1 or array.dtype.kind != "i" or
           name != "labels" and (array < 0).any()]
    if odd:
        raise ValueError(f"{', '.join(odd)}: no list of integers from 0")
    records = values["counts"].sum()
    if any(len(values[name]) != records for name in _OF_RECORDS):
        raise ValueError(f"{records:,} records by its counts, and "
                         f"{', '.join(f'{len(values[name]):,} {name}' for name in _OF_RECORDS)}")
    if len(values["counts"]) != len(values["sizes"]):
        raise ValueError(f"{len(values['counts']):,} counts and {len(values['sizes']):,} sizes")
    if (values["offsets"] > np.repeat(values["sizes"], values["counts"]) - values["lengths"] - _FOOTER).any():
        raise ValueError("a record that goes beyond its shard")


def read_index(folder, split, shard_paths):
    """The ShardIndex of each of `shard_paths`, or None when there is no index.

    Raises:
        Refusal: the index is damaged, or speaks of other files than those that are there.
    """
    path = index_path(folder, split)
    if not tf.io.gfile.exists(path):
        return None
    remedy = f"delete {path}; it is made again"
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            content = io.BytesIO(file.read())
        with np.load(content, allow_pickle=False) as stored:
            if "checksums" not in stored.files and {"names", *_OF_SHARDS, "offsets"} <= set(stored.files):
                return None  # made by an earlier release; it is made again
            values = {name: stored[name] for name in ("names", *_OF_SHARDS, *_OF_RECORDS)}
        _check_index(values)
        cuts = np.cumsum(values["counts"])[:-1]
        parts = zip(*(np.split(values[name], cuts) for name in _OF_RECORDS))
        shards = [ShardIndex(str(name), int(size), *part)
                  for name, size, part in zip(values["names"], values["sizes"], parts, strict=True)]
    except Exception as error:  # zipfile and NumPy's headers have no base class for what damaged bytes make them raise
        raise Refusal([f"{path} is damaged ({type(error).__name__}: {error}); {remedy}."]) from error
    problems = []
    for shard, shard_path in zip(shards, shard_paths):
        size = tf.io.gfile.stat(shard_path).length
        if shard.name != posixpath.basename(shard_path) or shard.size_bytes != size:
            problems.append(f"{shard_path} has {size:,} bytes and the index says {shard.name} with {shard.size_bytes:,}: "
                            f"the shard was cut off or replaced; copy it again, or {remedy}.")
    if len(shards) != len(shard_paths):
        problems.append(f"{path} speaks of {len(shards)} shards and there are {len(shard_paths)}; {remedy}.")
    if problems:
        raise Refusal(problems)
    return shards


class Records:
    """The records of a split's shards by number, for images.ImageSplit.

    Args:
        folder: where the shards are; local or a bucket.
        shards: list of ShardIndex.
        image_key: of the encoded image.
        boxes: whether records have image/object/bbox/*.
    """

    def __init__(self, folder, shards, image_key, boxes):
        self._paths = [posixpath.join(folder, shard.name) for shard in shards]
        counts = [len(shard.labels) for shard in shards]
        self._shard = np.repeat(np.arange(len(shards), dtype=np.int32), counts)
        self._first = np.cumsum([0, *counts])
        self._offsets = np.concatenate([np.zeros(0, np.int64), *(shard.offsets for shard in shards)])
        self._lengths = np.concatenate([np.zeros(0, np.int64), *(shard.lengths for shard in shards)])
        self._checksums = np.concatenate([np.zeros(0, np.int64), *(shard.checksums for shard in shards)])
        self._changed, self._lock = set(), threading.Lock()
        self._image_key, self._boxes = image_key, boxes
        # A bucket answers late and to many at once.
        self._readers = concurrent.futures.ThreadPoolExecutor(_REMOTE_READERS) if "://" in folder else None

    def handles(self, numbers):
        """Serialized records, string [k], of the records `numbers`, int64 [k]; empty for one that isn't what was indexed."""
        return numpy_call(self._read, [numbers], tf.string)

    def _read(self, numbers):
        each = self._readers.map(self._remote_record, numbers) if self._readers else map(self._local_record, numbers)
        return np.array([self._checked(number, record) for number, record in zip(numbers, each)], object)

    def _checked(self, number, record):
        if zlib.crc32(record) == self._checksums[number]:
            return record
        with self._lock:
            self._changed.add(int(number))
        return b""

    def _place(self, number):
        return self._paths[self._shard[number]], int(self._offsets[number]), int(self._lengths[number])

    def _remote_record(self, number):
        path, offset, length = self._place(number)
        with tf.io.gfile.GFile(path, "rb") as file:
            file.seek(offset)
            return file.read(length)

    def _local_record(self, number):
        path, offset, length = self._place(number)
        # Opened for each read: a thousand shards held open would be beyond what a process may have.
        descriptor = os.open(path, os.O_RDONLY)
        try:
            return os.pread(descriptor, length, offset)
        finally:
            os.close(descriptor)

    def image(self, handle):
        """(encoded image, boxes float32 [1, k, 4]) of one serialized record."""
        features = {self._image_key: tf.io.FixedLenFeature([], tf.string)}
        if not self._boxes:
            return tf.io.parse_single_example(handle, features)[self._image_key], tf.zeros([1, 0, 4])
        for side in ("ymin", "xmin", "ymax", "xmax"):
            features[f"image/object/bbox/{side}"] = tf.io.VarLenFeature(tf.float32)
        parsed = tf.io.parse_single_example(handle, features)
        sides = [parsed[f"image/object/bbox/{side}"].values for side in ("ymin", "xmin", "ymax", "xmax")]
        # A box that rounding put a hair outside would make the crop fail, and the image count as undecodable.
        return parsed[self._image_key], tf.clip_by_value(tf.stack(sides, axis=-1), 0.0, 1.0)[tf.newaxis]

    def smallest_shard(self):
        """The shard with the fewest records, and the usual number of them, for messages."""
        counts = np.diff(self._first)
        return f"{self._paths[np.argmin(counts)]} has {counts.min():,} records, most have {int(np.median(counts)):,}"

    def describe(self, number):
        """Where the record `number` is, for messages."""
        shard = self._shard[number]
        with self._lock:
            changed = " (changed or cut off since it was indexed; copy the shard again)" if int(number) in self._changed else ""
        return f"{self._paths[shard]}, record {number - self._first[shard]}{changed}"
