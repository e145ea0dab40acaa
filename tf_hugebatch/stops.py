"""What ends a run or a sweep from outside, and is not its own fault: said in a line, with nothing that was saved lost."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import sys
from collections.abc import Callable

#: What a disk says that takes no more: full, over a quota or a limit, read-only since. (EIO comes of reading data too.)
_OF_A_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_PROBE_BYTES = 2**20
_PR_SET_PDEATHSIG = 1


class RunStopped(RuntimeError):
    """A run, or a sweep, can't go on for a reason outside of it; the message says which, and what to do.

    status: for status.json: "interrupted" where the same command goes on as if nothing had happened, else "failed".
    """

    def __init__(self, message: str, status: str = "interrupted"):
        super().__init__(message)
        self.status = status


def why_not_written(error: BaseException) -> str | None:
    """What a disk said, where `error` comes of one that takes no more; None for every other error.

    TensorFlow's errors have no number, only the system's words.
    """
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno in _OF_A_DISK else None
    return next((words for words in map(os.strerror, _OF_A_DISK) if words in str(error)), None)


def disk_stopped(stated: str, reason: str) -> RunStopped:
    """For a folder, `stated` as its flag, that takes no more for a `reason`."""
    return RunStopped(f"{stated}: it can't be written to any more ({reason}); free some space or make it writable, and the "
                      f"same command goes on")


def why_not_writable(folder: str) -> str | None:
    """What the disk says when a megabyte is written to `folder` on trial; None when that went well."""
    path = os.path.join(folder, f"probe.{os.getpid()}.tmp")
    try:
        with open(path, "wb") as file:
            file.write(bytes(_PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return why_not_written(error)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
    return None


def write_over(path: str, text: str) -> None:
    """Puts `text` in the place of a file's content without asking for more of the disk; OSError where that can't be done."""
    content = text.encode("utf-8")
    descriptor = os.open(path, os.O_WRONLY)
    try:
        if len(content) > os.fstat(descriptor).st_blocks * 512:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def stop_with(parent: int, number: int = signal.SIGTERM) -> Callable[[], None] | None:
    """What a child does before it becomes its program, so that it gets signal `number` when process `parent` dies.

    SIGTERM stops a run with a checkpoint.
    """
    if not sys.platform.startswith("linux"):
        return None  # there a lock alone keeps two sweeps apart
    prctl = ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            os._exit(1)  # it has died already

    return ask
