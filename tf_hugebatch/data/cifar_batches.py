"""The batches of CIFAR-10's original archives, python and binary, in a folder or still in their .tar.gz.

A batch holds 10,000 images as rows of 3,072 bytes: 1,024 red, 1,024 green, 1,024 blue, each row by row. In the binary
version the label stands before each row; in the python version a batch is a pickled dict of `data` (an array) and
`labels` (a list). A pickle may name any function for the reader to call, so these are read by an unpickler that calls
nothing: what stands for an array in them is recorded, and the array is made here from its bytes.

An archive is read to its end, where gzip's checksum stands. Two batches of the same images are refused, and so is a
python batch that calls itself another one.
"""

import gzip
import hashlib
import io
import pickle
import pickletools
import posixpath
import tarfile

import numpy as np

from tf_hugebatch.data.array_files import said
from tf_hugebatch.settings import Refusal

IN_WORDS = ("the original cifar-10-python.tar.gz or cifar-10-binary.tar.gz or the batches out of it (Keras leaves them in "
            "~/.keras/datasets)")
_TRAIN, _TEST = [f"data_batch_{number}" for number in range(1, 6)], "test_batch"
# What python batches call themselves.
_CALLED = {**{name: f"training batch {name[-1]} of 5" for name in _TRAIN}, _TEST: "testing batch 1 of 1"}
_PIXELS = 3 * 32 * 32
#: A batch is 31 MB; what is longer is none, and is not read.
_LONGEST = 64 * 2**20
# (endings of a batch's name, folder in the archive, the archive)
_VERSIONS = (("", "cifar-10-batches-py", "cifar-10-python.tar.gz"),
             (".bin", "cifar-10-batches-bin", "cifar-10-binary.tar.gz"))


def read_cifar_batches(folder):
    """The four arrays by name; None when the folder holds no batches.

    Args:
        folder: pathlib.Path that holds the six batches, or the folder or .tar.gz that they come in, or Keras' folder of
            data sets.

    Raises:
        Refusal: batches are missing, damaged, the same twice, or hold something else; all of those are named.
    """
    for ending, inner, archive in _VERSIONS:
        parse = _parse_binary if ending else _parse_pickle
        for place in (folder, folder / inner, folder / f"{inner}-target" / inner):  # the last is Keras 3's
            if any((place / f"{name}{ending}").is_file() for name in (*_TRAIN, _TEST)):
                return _read({name: _from_file(place / f"{name}{ending}") for name in (*_TRAIN, _TEST)}, parse)
        if (folder / archive).is_file():
            return _read_archive(folder / archive, inner, ending, parse)
    return None


def _from_file(path):
    def read():
        if path.stat().st_size > _LONGEST:
            raise ValueError(f"{path.stat().st_size:,} bytes long")
        return path.read_bytes()

    return path, read


def _read_archive(path, inner, ending, parse):
    names = {f"{name}{ending}": name for name in (*_TRAIN, _TEST)}
    try:
        held, found = _members(path, [place for name in names for place in (f"{inner}/{name}", name)])
    except Exception as error:  # tarfile and what it calls have no base class for what a damaged archive makes them raise
        raise Refusal([f"{path} can't be read as an archive ({said(error)}); copy it again."]) from error
    if not found:
        raise Refusal([f"{path} holds {', '.join(held[:4]) or 'nothing'}{' and more' if len(held) > 4 else ''}, and not "
                       f"{inner}/{_TRAIN[0]}{ending} and so on; give the original {inner} archive."])

    def from_member(name):
        def read():
            content = found.get(f"{inner}/{name}", found.get(name))
            if content is None:
                raise FileNotFoundError
            if isinstance(content, Exception):
                raise content
            return content

        return f"{path}: {inner}/{name}", read

    return _read({name: from_member(file) for file, name in names.items()}, parse)


def _members(path, wanted):
    """(names of all members, {name: its bytes, or why it isn't read} of those that are wanted), in one pass to the end."""
    held, found = [], {}
    with gzip.open(path) as stream:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for information in archive:
                name = posixpath.normpath(information.name)  # who packs it anew has ./ before it
                held.append(name)
                if name not in wanted:
                    continue
                if information.size > _LONGEST or not information.isfile():
                    found[name] = ValueError(f"{information.size:,} bytes long, or no file")
                else:
                    found[name] = archive.extractfile(information).read()
        while stream.read(2**20):  # behind the last member stands the checksum
            pass
    return held, found


def _read(batches, parse):
    """The arrays from {name: (words for it, function that gives its bytes)}."""
    parsed, problems = {}, []
    for name, (words, read) in batches.items():
        try:
            parsed[name] = parse(read(), name)
        except FileNotFoundError:
            problems.append(f"{words} isn't there; all of {', '.join(_TRAIN)} and {_TEST} are needed.")
        except Exception as error:  # a pickle can make the unpickler and what reads its values raise anything
            problems.append(f"{words} can't be read as a batch of CIFAR-10 ({said(error)}); copy it again.")
    seen = {}
    for name, (rows, _) in parsed.items():
        first = seen.setdefault(hashlib.blake2b(np.ascontiguousarray(rows)).digest(), name)
        if first != name:
            problems.append(f"{batches[name][0]} holds the same images as {batches[first][0]}; copy the right file there.")
    if problems:
        raise Refusal(problems)
    arrays = {}
    for part, names in (("train", _TRAIN), ("test", [_TEST])):
        rows, labels = (np.concatenate(parts) for parts in zip(*(parsed[name] for name in names)))
        arrays[f"x_{part}"] = np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
        arrays[f"y_{part}"] = labels
    return arrays


def _parse_binary(data, name=None):
    if len(data) % (1 + _PIXELS):
        raise ValueError(f"{len(data):,} bytes, no multiple of {1 + _PIXELS:,}")
    table = np.frombuffer(data, np.uint8).reshape(-1, 1 + _PIXELS)
    return table[:, 1:], table[:, 0].astype(np.int64)


def _parse_pickle(data, name=None):
    # A place that a damaged byte puts far off would make the unpickler ask for that much memory.
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > len(data):
            raise pickle.UnpicklingError(f"it puts something in place {argument:,}")
    batch = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    if not isinstance(batch, dict):
        raise ValueError(f"it holds a {type(batch).__name__}, not a dict")
    # Python 2 wrote them, whose strings are bytes here; who wrote them anew has strings.
    batch = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in batch.items()}
    missing = [key for key in ("data", "labels") if key not in batch]
    if missing:
        raise ValueError(f"it lacks {' and '.join(missing)}")
    called = batch.get("batch_label")
    called = called.decode("latin1") if isinstance(called, bytes) else called
    if name is not None and called not in (None, _CALLED[name]):
        raise ValueError(f"it calls itself {called!r}, not {_CALLED[name]!r}")
    rows, labels = _array(batch["data"]), batch["labels"]
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 10 for label in labels):
        raise ValueError("its labels are no list of integers from 0 to 9")
    if len(labels) != len(rows):
        raise ValueError(f"{len(rows):,} images and {len(labels):,} labels")
    return rows, np.array(labels, np.int64)


class _Recorded:
    """Stands where a pickle calls for NumPy: keeps what it was given, does nothing."""

    __slots__ = ("arguments", "state")

    def __init__(self, *arguments):
        self.arguments, self.state = arguments, None

    def __setstate__(self, state):
        self.state = state


class _AsBytes:
    """How Python 3 writes bytes where it is asked for Python 2's form. Without attributes: a pickle can set those."""

    __slots__ = ()

    def __call__(self, text, encoding):
        if encoding not in ("latin1", b"latin1"):
            raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
        return text if isinstance(text, bytes) else text.encode("latin1")


class _Unpickler(pickle.Unpickler):
    """Knows the three names that a NumPy array is written with, and calls none of them."""

    _NAMES = {
        **{(f"{package}.multiarray", "_reconstruct"): _Recorded for package in ("numpy.core", "numpy._core")},
        ("numpy", "ndarray"): _Recorded,
        ("numpy", "dtype"): _Recorded,
        ("_codecs", "encode"): _AsBytes(),
    }

    def find_class(self, module, name):
        try:
            return self._NAMES[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch of CIFAR-10 does") from None

    def persistent_load(self, pid):
        raise pickle.UnpicklingError("it asks for objects that are stored elsewhere")


def _array(recorded):
    """uint8 [n, 3072] from the record of an array: version, shape, dtype, whether by columns, bytes."""
    if not isinstance(recorded, _Recorded) or recorded.state is None:
        raise ValueError("its data are no array")
    _, shape, dtype, by_columns, data = recorded.state
    if not isinstance(shape, tuple) or not all(type(side) is int for side in shape):
        raise ValueError("its data have no shape")
    if not isinstance(dtype, _Recorded) or dtype.arguments[0] not in ("u1", b"u1") or len(shape) != 2 or shape[1] != _PIXELS:
        raise ValueError(f"its data are no rows of {_PIXELS:,} bytes (shape {shape})")
    return np.frombuffer(data, np.uint8).reshape(shape, order="F" if by_columns else "C")
