"""Data sets that fit in memory, as they are found: .npz, the original files, a tensorflow-datasets folder, the network.

A folder is searched in this order for
* `<name>.npz` with x_train, y_train, x_test, y_test (and perhaps `note`, a few words on what was done to the images, which
  follow every number made with them);
* the original files, by the data set's own reader;
* one .npz of another name;
* a prepared tensorflow-datasets folder (`<name>/3.0.1/dataset_info.json`, or the version's folder itself).

Whatever the source, counts, shapes, dtypes and label range are checked: a wrong file is refused, not trained on.
"""

import dataclasses
import pathlib
import threading
import urllib.request
import zipfile
import zlib
from collections.abc import Callable

import numpy as np

from tf_hugebatch import registry
from tf_hugebatch.data import tfds_reader
from tf_hugebatch.data.splits import Examples
from tf_hugebatch.settings import Refusal

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
PROBE_SECONDS = 3.0
DAMAGED = (OSError, EOFError, ValueError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error)
_LONGEST_NOTE = 60
_NAMES_SHOWN = 6


@dataclasses.dataclass(frozen=True)
class ArrayFiles:
    """Where the images of one data set come from.

    name: of its registry row and in tensorflow-datasets; title: for messages. originals: folder (pathlib.Path) -> the
    four arrays, or None when it holds no original files. originals_in_words: what those are. npz_in_words: what the .npz
    is. url: asked whether the network is there before a download. otherwise: a remedy to offer where there are no data, or
    ''. from_jpeg: the script that makes the .npz of one that holds jpeg_train, or ''.
    """

    name: str
    title: str
    originals: Callable
    originals_in_words: str
    npz_in_words: str
    url: str
    otherwise: str = ""
    from_jpeg: str = ""

    def read(self, data_dir=None):
        """Images and labels from a folder, or by tensorflow-datasets when `data_dir` is None.

        Returns:
            (train, test, note): `Examples`, `Examples`, and the words that came with the images, or ''.

        Raises:
            Refusal: no such folder, no data or damaged data in it, or no network.
        """
        arrays = self.download() if data_dir is None else self._read_folder(pathlib.Path(data_dir))
        note = arrays.pop("note", "")
        return *self._checked(arrays, source="the download" if data_dir is None else str(data_dir)), note

    def download(self):
        """The four arrays by tensorflow-datasets: from its own folder when prepared there, else over the network.

        Raises:
            Refusal: at once when the network isn't there, or whatever stopped the download.
        """
        remedy = f"give --data_dir=FOLDER that holds {self._layouts}{self._or_otherwise()}"
        kept = tfds_reader.kept(self.name)
        unreachable = None if kept else probe(self.url)
        if unreachable:
            # Asked beforehand because tensorflow-datasets retries for minutes before it says so.
            raise Refusal([f"--dataset={self.name} without --data_dir downloads the images, but {self.url} "
                           f"doesn't answer ({unreachable}): {remedy}."])
        try:
            return tfds_reader.arrays(self.name)
        except tfds_reader.ReaderError as error:  # whatever stops it, the remedy is the same
            if kept:
                raise Refusal([f"reading {self.title} as tensorflow-datasets keeps it in {kept} failed ({error}): delete that "
                               f"folder and it is downloaded again, or {remedy}."]) from error
            raise Refusal([f"downloading {self.title} failed ({error}): try again, or {remedy}."]) from error

    @property
    def _layouts(self):
        return f"{self.npz_in_words}, {self.originals_in_words}, or a prepared tensorflow-datasets folder ({self.name}/3.0.1)"

    def _or_otherwise(self):
        return f", or {self.otherwise}" if self.otherwise else ""

    def _read_folder(self, folder):
        if not folder.exists():
            raise Refusal([f"--data_dir={folder} isn't there; give a folder that holds {self._layouts}"
                           f"{self._or_otherwise()}."])
        if not folder.is_dir():
            raise Refusal([f"--data_dir={folder} is a file, not a folder; give its folder: --data_dir={folder.parent}."])
        archives, own = sorted(folder.glob("*.npz")), folder / f"{self.name}.npz"
        if own in archives:
            return self._read_npz(own)
        if arrays := self.originals(folder):
            return arrays
        if len(archives) > 1:
            raise Refusal([f"--data_dir={folder} holds {len(archives)} .npz files and none is called {own.name}; "
                           f"rename the one to read."])
        if archives:
            return self._read_npz(archives[0])
        versions = [*sorted(folder.glob(f"{self.name}/*"), reverse=True), *sorted(folder.glob("*"), reverse=True)]
        for prepared in (folder, *versions):
            # Until it is whole, tensorflow-datasets has a folder under a name of this kind, which a kill leaves there.
            if (prepared / "dataset_info.json").is_file() and not prepared.name.startswith("incomplete."):
                return self._read_tfds(prepared)
        raise Refusal([f"--data_dir={folder} holds no {self.title}; give a folder that holds {self._layouts}"
                       f"{self._or_otherwise()}."])

    def _read_npz(self, path):
        try:
            with np.load(path, allow_pickle=False) as archive:
                if self.from_jpeg and "jpeg_train" in archive.files:
                    raise Refusal([f"{path} holds JPEG files, not arrays; make {self.name}.npz of it: "
                                   f"python {self.from_jpeg} {path} FOLDER, and give --data_dir=FOLDER."])
                missing = [name for name in ARRAYS if name not in archive.files]
                if missing:
                    held = archive.files[:_NAMES_SHOWN]
                    more = len(archive.files) - len(held)
                    raise Refusal([f"{path} lacks {', '.join(missing)} (it holds {', '.join(held) or 'nothing'}"
                                   f"{f' and {more:,} more' if more else ''}); give {self.npz_in_words}."])
                note = {"note": _checked_note(path, _member(archive, "note"))} if "note" in archive.files else {}
                return {**{name: _member(archive, name) for name in ARRAYS}, **note}
        except Refusal:
            raise
        except Exception as error:  # zipfile and NumPy's headers have no base class for what damaged bytes make them raise
            raise Refusal([f"{path} can't be read as .npz ({said(error)}): truncated, damaged or something "
                           f"else; copy it again."]) from error

    def _read_tfds(self, folder):
        try:
            return tfds_reader.arrays(self.name, folder)
        except tfds_reader.ReaderError as error:
            raise Refusal([f"{folder} can't be read as a prepared tensorflow-datasets folder ({error}); prepare "
                           f"it again, or give --data_dir with {self.npz_in_words}."]) from error

    def _checked(self, arrays, source):
        """[train, test] Examples from the four arrays; raises Refusal naming every array that isn't the data set's."""
        facts, problems = registry.find("dataset", self.name).facts, []
        height, width, channels = facts["image_shape"]
        for part, count in (("train", facts["train_examples"]), ("test", facts["test_examples"])):
            images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
            shapes = [(count, height, width, channels), *([(count, height, width)] if channels == 1 else [])]
            if images.shape not in shapes or images.dtype != np.uint8:
                problems.append(f"{source}: x_{part} is {images.dtype}{list(images.shape)}, {self.title}'s is "
                                f"uint8{list(shapes[-1])}; give the original file.")
            if labels.shape not in ((count,), (count, 1)) or labels.dtype.kind not in "iu":
                problems.append(f"{source}: y_{part} is {labels.dtype}{list(labels.shape)}, {self.title}'s is "
                                f"integers [{count}]; give the original file.")
            elif labels.min() < 0 or labels.max() >= facts["classes"]:
                problems.append(f"{source}: y_{part} holds labels {labels.min()} to {labels.max()}, {self.title}'s are "
                                f"0 to {facts['classes'] - 1}; give the original file.")
            elif part == "train" and (absent := sorted({*range(facts["classes"])}.difference(labels.flat))):
                problems.append(f"{source}: y_train has no image of class {', '.join(map(str, absent))}, and {self.title}'s "
                                f"has of each of {facts['classes']}; give the original file.")
        if problems:
            raise Refusal(problems)
        return [Examples(arrays[f"x_{part}"].reshape(-1, height, width, channels),
                         arrays[f"y_{part}"].reshape(-1).astype(np.int32)) for part in ("train", "test")]


def _member(archive, name):
    array = archive[name]
    if not isinstance(array, np.ndarray):  # NumPy gives the bytes of what has no header
        raise ValueError(f"{name} is no array")
    return array


def _checked_note(path, array):
    note = str(array[()]).strip() if array.dtype.kind == "U" and array.ndim == 0 else None
    if note is None or not note.isprintable() or not 0 < len(note) <= _LONGEST_NOTE:
        raise Refusal([f"{path}: its note is {array.dtype}{list(array.shape)} and should be a text of 1 to {_LONGEST_NOTE} "
                       f"printable characters; leave it out or shorten it."])
    return note


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
