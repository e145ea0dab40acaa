"""Checkpoints that are whole or not there, and that know which run they belong to.

A checkpoint is a folder `update-<n>`: TensorFlow's own checkpoint of model and optimizer, and a manifest with the
identity of the run and a SHA-256 of every file and of the manifest itself. It is written under another name, sent to
disk and renamed, and an old one is renamed before it is deleted: a process that dies in between leaves only a folder
that no reader looks at. The order of the data needs no state: it is arithmetic on the update (see `data/order.py`).
"""

import hashlib
import json
import os
import pathlib
import shutil

import tensorflow as tf

from ..records import to_disk
from ..settings import Refusal
from ..stops import RunStopped

_PREFIX = "update-"
_MANIFEST = "manifest.json"
#: One name for whatever is no checkpoint yet or any more: the next one begins by clearing it away.
_PARTIAL = "partial"


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: path; made when the first checkpoint is written.
        identity: dict of plain values that a checkpoint must agree on to be restored (experiment hash, total
            updates, training examples, seed): a schedule is never rescaled.
        keep: how many of the newest to keep; others are deleted once one is complete.
        tracked: trackable objects by name (model, optimizer), built.
    """

    def __init__(self, folder, *, identity, keep, **tracked):
        self.folder = pathlib.Path(folder)
        self._identity, self._keep = identity, keep
        self._checkpoint = tf.train.Checkpoint(**tracked)

    def save(self, update, notes, also_keep=()):
        """Writes the state after `update` updates; returns its path. An intact one of that update is kept.

        Args:
            update: updates done.
            notes: plain values that `restore_latest` gives back (what the loop remembers beside weights).
            also_keep: updates whose checkpoints stay beside the newest (the best on validation, say).
        """
        final, partial = self.path(update), self._cleared()
        if final.exists():
            if _read_manifest(final)[1] is None:
                self._delete_others(final, also_keep)
                return final
            self._delete(final)
        partial.mkdir(parents=True)
        self._checkpoint.write(str(partial / "state"))
        files = {path.name: _sha256(path) for path in sorted(partial.iterdir())}
        manifest = {"update": update, "identity": self._identity, "notes": notes, "files": files}
        (partial / _MANIFEST).write_text(json.dumps({"sha256": _sha256_of_plain(manifest), **manifest}, indent=1))
        # All of it before it has its name, and its name before an older one goes: the machine may lose power too.
        for path in [*partial.iterdir(), partial]:
            to_disk(path)
        os.rename(partial, final)
        to_disk(self.folder)
        self._delete_others(final, also_keep)
        return final

    def drop_unfinished(self):
        """Gives back the room of a checkpoint that could not be written: a full disk needs it, if only to say so."""
        self._cleared()

    def path(self, update):
        """Where the checkpoint after `update` updates is, or would be."""
        return self.folder / f"{_PREFIX}{update:010d}"

    def _delete_others(self, newest, also_keep):
        # What stands above the checkpoint just completed was passed over as damaged when the run went on below it:
        # it must not count as one of those kept, nor come first at the next start.
        paths = self.paths()
        place, stays = paths.index(newest), {self.path(update) for update in also_keep}
        for path in [*paths[place + 1:], *paths[: max(0, place + 1 - self._keep)]]:
            if path not in stays or path > newest:
                self._delete(path)

    def _delete(self, path):
        # Under its own name half of it would be taken for a damaged checkpoint.
        os.rename(path, self._cleared())
        self._cleared()

    def _cleared(self):
        """The path for what is no checkpoint, with nothing there."""
        partial = self.folder / _PARTIAL
        shutil.rmtree(partial, ignore_errors=True)
        return partial

    def forget_after(self, update):
        """Deletes the checkpoints after update `update`: the run has left that way."""
        for path in self.paths():
            if path > self.path(update):
                self._delete(path)

    def paths(self):
        """Complete-looking checkpoints, oldest first."""
        return sorted(self.folder.glob(_PREFIX + "*"))

    def restore_latest(self, warn=print, up_to=None):
        """Restores the newest intact checkpoint; returns (its update, its notes), or (0, {}) when there is none, which leaves
        the state as it is.

        A torn or truncated one is passed over with a message to `warn`, those after update `up_to` without a word.

        Raises:
            Refusal: the checkpoint belongs to another experiment, total or data size.
            RunStopped: there is none up to `up_to`, which a run asks for that has left its start.
        """
        for path in reversed(self.paths()):
            if up_to is not None and path > self.path(up_to):
                continue
            manifest, damage = _read_manifest(path)
            if damage:
                warn(f"Checkpoint {path.name} is damaged ({damage}); trying the one before it.")
                continue
            if manifest["identity"] != self._identity:
                differing = sorted(
                    key for key in {*manifest["identity"], *self._identity}
                    if manifest["identity"].get(key) != self._identity.get(key)
                )
                raise Refusal([
                    f"checkpoint {path} was made by another run (differs in {', '.join(differing)}); use another "
                    f"--run_dir, or the settings it was made with."
                ])
            self._checkpoint.read(str(path / "state")).assert_consumed()
            return manifest["update"], manifest["notes"]
        if up_to is not None:
            raise RunStopped(f"{self.folder}: no intact checkpoint up to update {up_to:,} is left to go back to; the same "
                             "command starts again, from the newest intact one, or from the beginning", "failed")
        return 0, {}


def _read_manifest(path):
    """(manifest, None), or (None, what is wrong with the checkpoint)."""
    try:
        manifest = json.loads((path / _MANIFEST).read_text())
        if manifest.pop("sha256", None) != _sha256_of_plain(manifest):
            return None, f"{_MANIFEST} does not match its checksum"
        for name, digest in manifest["files"].items():
            if _sha256(path / name) != digest:
                return None, f"{name} does not match its checksum"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"{type(error).__name__}: {error}"
    return manifest, None


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of_plain(value):
    """Of plain values, the same before they are written as JSON and after they are read."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
