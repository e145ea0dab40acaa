"""Write a run folder: settings, status, metrics, schedule, versions. runs.py reads what is written here.

Files that are replaced are replaced atomically (temporary file, fsync, rename), so a reader, or the next
start after a kill, sees the old file or the new one. metrics.jsonl is appended to; a kill can tear its last
line, which readers skip and `drop_metrics_after` removes. JSON is strict: a number that isn't finite is
written as null.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import math
import os
import pathlib
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TextIO

from tf_hugebatch import versions
from tf_hugebatch.fields import FIELDS, kind_of
from tf_hugebatch.levels import default_of
from tf_hugebatch.runs import read_object, read_row, read_status
from tf_hugebatch.settings import SCHEMA_VERSION, Refusal, Settings
from tf_hugebatch.stops import write_over

_UNFINISHED = ".tmp"  # ends the names of files that are about to appear
STATUSES = ("running", "done", "diverged", "failed", "interrupted")


def _plain(value):
    """Python values for JSON out of Python and NumPy ones; nan and inf become None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _as_line(value) -> str:
    return json.dumps(_plain(value), allow_nan=False)


def _replace(path: str, write: Callable[[TextIO], None]) -> None:
    """Lets `write` fill a temporary file beside `path`, then puts it in the place of `path`."""
    temporary = f"{path}.{os.getpid()}{_UNFINISHED}"
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    # The rename itself lasts once the folder is on disk.
    to_disk(os.path.dirname(path) or os.curdir)


def to_disk(path: str | os.PathLike) -> None:
    """Waits until a file's content, or the names in a folder, would outlive the machine's loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str, value: Mapping) -> None:
    """Puts an object in a file, atomically; numbers that aren't finite become null."""
    _replace(path, lambda file: file.write(json.dumps(_plain(value), indent=2, allow_nan=False) + "\n"))


@contextlib.contextmanager
def held(folder: str, busy: Callable[[], None]) -> Iterator[int]:
    """Holds the lock of a folder, which is made where there is none; yields its file descriptor.

    busy: called when somebody else has the lock; when it returns the lock is waited for.
    """
    os.makedirs(folder, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            busy()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


class RunFolder:
    """The files of one run. `problems(settings)` says beforehand whether a run may use the folder."""

    def __init__(self, path: str | os.PathLike):
        self.path = pathlib.Path(path)

    def _file(self, name: str) -> str:
        return str(self.path / name)

    def read_status(self) -> dict:
        """What status.json says; empty before the first `write_status`."""
        return read_status(self._file("status.json"))

    def problems(self, settings: Settings) -> list[str]:
        """Why a run with `settings` can't use the folder: value, reason, remedy each. Writes nothing."""
        path = str(self.path)
        stated = f"--run_dir={path}"
        if os.path.lexists(path) and not os.path.isdir(path):
            return [f"{stated}: that is a file; name a folder"]
        try:
            names = content_of(path)
        except OSError as error:
            return [f"{stated}: {error.strerror}; name another folder"]
        if not names:
            found = not_writable("run_dir", path)
            if settings.resume == "required":
                found.append(f"{stated}: there is no run to resume; drop --resume=required, or name the "
                             "run's folder")
            return found
        if "settings.json" not in names:
            return [f"{stated}: it is not empty and holds no run (no settings.json); name a new folder"]
        stored = read_object(os.path.join(path, "settings.json"))
        if stored is None:
            return [f"{stated}: its settings.json can't be read; name another folder"]
        version = stored.get("schema_version")
        if version != SCHEMA_VERSION:
            return [f"{stated}: its settings.json has schema version {version} and this release writes "
                    f"{SCHEMA_VERSION}; use the release that wrote it, or another folder"]
        if unknown := sorted({*stored} - {*FIELDS, "schema_version"}):
            return [f"{stated}: its settings.json has {', '.join(unknown[:5])}, which this release doesn't know; use the "
                    f"release that wrote it, or another folder"]
        # A run that has ended is only read.
        ended = self.read_status().get("status") in ("done", "diverged")
        found = [] if ended else not_writable("run_dir", path)
        differences = _differences(stored, settings)
        if differences:
            more = [f"and {len(differences) - 5} more"] if len(differences) > 5 else []
            listed = "; ".join([*differences[:5], *more])
            found.append(f"{stated}: it holds another experiment ({listed}); give the same settings, or "
                         "another --run_dir")
        has_run = "status.json" in names
        if settings.resume == "never" and has_run:
            found.append(f"{stated}: it holds a run already and --resume=never; name another folder, or drop "
                         "the flag")
        if settings.resume == "required" and not has_run:
            found.append(f"{stated}: no run has started there and --resume=required; drop the flag")
        return found

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps every other process from training in the folder, which is made where there is none.

        Raises Refusal when one is at work in it. The lock is the system's: it is free again however its holder ends.
        """

        def at_work():
            status = self.read_status()
            who = f" (process {status['pid']} on {status['host']})" if {"pid", "host"} <= set(status) else ""
            raise Refusal(f"--run_dir={self.path}: a run is at work in it{who}; wait for its end, or name another folder")

        new = not self.path.exists()
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(held(str(self.path), at_work))
            except OSError as error:
                raise Refusal(f"--run_dir={self.path}: it can't be written to ({error.strerror}); name another folder"
                              ) from error
            # What a kill left of files that were about to appear; nobody else is writing here now.
            for left in self.path.glob(f"*{_UNFINISHED}"):
                left.unlink(missing_ok=True)
            try:
                yield
            finally:
                if new:
                    with contextlib.suppress(OSError):  # it holds something
                        self.path.rmdir()

    def create(self, settings: Settings) -> None:
        """Makes the folder where there is none and writes settings.json, on a resume too: layout may
        differ."""
        os.makedirs(self.path, exist_ok=True)
        write_json(self._file("settings.json"), {"schema_version": SCHEMA_VERSION, **settings.as_dict()})

    def write_status(self, **fields) -> None:
        """Merges `fields` (status, step, total_steps, reason, final, best ...) into status.json.

        pid, host and updated (UTC) are added. Raises ValueError for a status outside STATUSES.
        """
        write_json(self._file("status.json"), self._status(fields))

    def write_last_status(self, **fields) -> None:
        """As `write_status`, when the disk itself may have ended the run: raises no OSError.

        A full disk has no room for another file, but the place of the old one.
        """
        try:
            self.write_status(**fields)
        except OSError:
            with contextlib.suppress(OSError):
                write_over(self._file("status.json"), _as_line(self._status(fields)) + "\n")

    def _status(self, fields: Mapping) -> dict:
        if fields.get("status", STATUSES[0]) not in STATUSES:
            raise ValueError(f"status={fields['status']!r}: unknown; use one of {', '.join(STATUSES)}")
        now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        writer = {"pid": os.getpid(), "host": socket.gethostname(), "updated": now}
        return {**self.read_status(), **fields, **writer}

    def append_metrics(self, rows: Iterable[Mapping]) -> None:
        """Appends rows {"kind": "train" or "eval", "step", ...} to metrics.jsonl in one write."""
        text = "".join(_as_line(row) + "\n" for row in rows)
        with open(self._file("metrics.jsonl"), "a", encoding="utf-8", newline="\n") as file:
            file.write(text)

    def metrics_to_disk(self) -> None:
        """Waits until the rows so far are on disk: before a checkpoint after which they are never made again."""
        if os.path.exists(path := self._file("metrics.jsonl")):
            to_disk(path)

    def drop_metrics_after(self, step: int) -> list[dict]:
        """Keeps and returns the rows up to `step`, where a resume starts; later and torn ones go."""
        path = self._file("metrics.jsonl")
        if not os.path.exists(path):
            return []
        with open(path, encoding="utf-8", errors="replace") as file:
            rows = [read_row(line) for line in file]
        kept = [row for row in rows if row is not None and row["step"] <= step]
        _replace(path, lambda file: file.writelines(_as_line(row) + "\n" for row in kept))
        return kept

    def write_schedule(self, rows: Iterable[tuple], columns: Sequence[str] = ("update", "epoch", "learning_rate")) -> None:
        """schedule.csv: update (0 is the first), epoch (before that update), learning_rate; batch_size where it grows."""

        def write(file: TextIO) -> None:
            file.write(",".join(columns) + "\n")
            file.writelines(",".join(map(repr, row)) + "\n" for row in rows)

        _replace(self._file("schedule.csv"), write)

    def write_versions(self, *, command_line: Sequence[str], devices: Sequence[str], onednn: bool) -> None:
        """versions.json: words of the command line, devices, whether CPUs compute with oneDNN, git commit, packages, platform.

        `earlier`: the same of the starts before this one, oldest first, where the run was resumed.
        """
        before = read_object(self._file("versions.json")) or {}
        listed = before.pop("earlier", [])
        earlier = [*(listed if isinstance(listed, list) else [listed]), *([before] if before else [])]
        write_json(self._file("versions.json"), {
            "earlier": earlier, "command_line": list(command_line), "devices": list(devices), "onednn": onednn,
            **versions.installed()})


def _differences(stored: Mapping, settings: Settings) -> list[str]:
    """Experiment settings that differ, in words."""
    ours = settings.as_dict()
    differences = []
    for name in FIELDS:
        theirs = stored[name] if name in stored else default_of(name, stored)
        if "experiment" in (kind_of(name, ours), kind_of(name, stored)) and theirs != ours[name] \
                and name not in settings.failed:
            differences.append(f"{name} is {theirs} there and {ours[name]} here")
    return differences


def content_of(folder: str) -> list[str]:
    """Names in a folder, [] where there is none, without what a kill left of files that were about to appear.

    Raises:
        OSError: it can't be read.
    """
    try:
        return [name for name in os.listdir(folder) if not name.endswith(_UNFINISHED)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def not_writable(flag: str, path: str) -> list[str]:
    """A problem of --flag=path when the folder, or the nearest one above it that exists, takes no new files."""
    nearest = os.path.abspath(path)
    while not os.path.exists(nearest):
        nearest = os.path.dirname(nearest)
    if not os.path.isdir(nearest):
        return [f"--{flag}={path}: {nearest} is a file; name another folder"]
    if not os.access(nearest, os.W_OK | os.X_OK):
        return [f"--{flag}={path}: {nearest} can't be written to; name another folder"]
    return []
