"""Runs as child processes: started, stopped, never orphaned, and what became of each.

A run is a process of its own, so whatever it dies of, the sweep goes on. Every child holds a lock on the folder of its
sweep's runs, inherited from the sweep and free again when the last of them is gone; where the system can (Linux) a child
is told to stop when its sweep dies. So two processes never train in one run folder.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence

from tf_hugebatch.runs import read_status
from tf_hugebatch.stops import disk_stopped, stop_with, why_not_writable
from tf_hugebatch.tuning.screen import percent

#: Exit codes of a run that a signal ended, after a checkpoint or before it could make one; SIGHUP is a terminal that closed.
INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM, -signal.SIGHUP)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a run.

    status: 'done', 'diverged' (both are results), or 'failed'. accuracy: at the last epoch, of the split that was asked
    for; None unless it is done. reason: why it diverged or failed. seconds: that it trained. note: words on the data that
    stand beside its numbers, or "".
    """

    status: str
    accuracy: float | None = None
    reason: str | None = None
    seconds: float | None = None
    note: str = ""

    @property
    def in_words(self) -> str:
        """Its accuracy, with the note that belongs to it."""
        return f"{percent(self.accuracy)}{f' ({self.note})' if self.note else ''}"


def outcome(folder: str, split: str) -> Outcome | None:
    """What a run folder says became of its run; None for a run that has not ended."""
    status = read_status(os.path.join(folder, "status.json"))
    seconds, reason, final = status.get("wall_seconds"), status.get("reason"), status.get("final") or {}
    match status.get("status"):
        case "done" if final.get(f"{split}_accuracy") is None:
            return Outcome("failed", reason=f"it ended without a {split} accuracy", seconds=seconds)
        case "done":
            return Outcome("done", final[f"{split}_accuracy"], seconds=seconds, note=status.get("data_note", ""))
        case "diverged" | "failed" as ended:
            return Outcome(ended, reason=reason or "no reason was noted", seconds=seconds)
    return None


def outcome_of_exit(code: int, folder: str, split: str, log: str, start: int = 0) -> Outcome:
    """What became of a run whose process ended with `code`; a refusal, a crash and a kill are failures. start: where in its log
    the process began, in bytes; what stands before is an earlier one's."""
    found = outcome(folder, split)
    if found and code in (0, 1, 3):
        return found
    if code < 0:
        return Outcome("failed", reason=f"killed by {signal.Signals(-code).name}"
                                        f"{' (out of memory?)' if -code == signal.SIGKILL else ''}")
    said = _last_words(log, start)
    return Outcome("failed", reason=f"refused: {said}" if code == 2 else f"exit code {code}: {said}")


def why_stopped(code: int, pid: int, folder: str) -> str | None:
    """Why a run whose process ended with `code` was stopped by what would stop every other run of its sweep too (a full disk);
    None where its end is its own doing."""
    if code in (0, 3):
        return None
    status = read_status(os.path.join(folder, "status.json"))
    if status.get("status") == "interrupted" and status.get("pid") == pid:
        return status.get("reason")
    # It may have had no room to say so.
    reason = why_not_writable(os.path.dirname(folder))
    return reason and str(disk_stopped(f"--run_dir={folder}", reason))


def _last_words(log: str, start: int) -> str:
    """The problems of a refusal, or the last line."""
    with open(log, "rb") as file:
        file.seek(start)
        said = file.read().decode("utf-8", errors="replace")
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    refused = next((i for i in reversed(range(len(lines))) if lines[i].startswith("Refused:")), len(lines))
    problems = [line.removeprefix("* ") for line in lines[refused:] if line.startswith("* ")]
    return "; ".join(problems) or (lines[-1] if lines else "it said nothing")


class Child:
    """One running process.

    Args:
        command: its words.
        log: file that gets what it says, appended to.
        lock: file descriptor that it inherits (see `records.held`).
        environment: what is added to this process's.
    """

    def __init__(self, command: Sequence[str], log: str, lock: int, environment: Mapping[str, str]):
        self.environment = environment
        os.makedirs(os.path.dirname(log), exist_ok=True)
        with open(log, "ab") as file:
            #: Where in the log its words begin.
            self.log_start = file.tell()
            # A group of its own: Ctrl-C is for the sweep, which hands it on once.
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, pass_fds=(lock,),
                                             process_group=0, preexec_fn=stop_with(os.getpid()),
                                             env={**os.environ, **environment})
        self._started = time.monotonic()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._started

    def exit_code(self) -> int | None:
        """None while it runs; negative where a signal killed it."""
        return self._process.poll()

    def stop(self, number: int) -> None:
        """Sends it a signal."""
        self._process.send_signal(number)

    def wait(self) -> None:
        """Until it has ended."""
        self._process.wait()
