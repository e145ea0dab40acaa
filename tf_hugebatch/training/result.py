"""What a run came to."""

import dataclasses
from typing import Any

#: Of runs that have ended; a diverged run is a result.
EXIT_CODES = {"done": 0, "diverged": 3}


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run came to.

    Attributes:
        status: "done", "diverged", "interrupted" or "dry run".
        run_dir: path of the run folder.
        final: as in status.json; empty unless the run has ended.
        exit_code: 0 done, 3 diverged, 130 or 143 interrupted by SIGINT or SIGTERM.
        reason: why it diverged or was interrupted; None for a run that is done.
        repeated: True when the run had ended before and nothing was done.
        note: words on the data that every number of the run carries, or "".
        model: the trained Keras model; None where nothing was trained.
    """

    status: str
    run_dir: str
    final: dict
    exit_code: int
    reason: str | None = None
    repeated: bool = False
    note: str = ""
    model: Any = None


def finished(folder):
    """The Result of a run that has ended in `folder` (a RunFolder), or None."""
    status = folder.read_status()
    if status.get("status") not in EXIT_CODES:
        return None
    return Result(status["status"], str(folder.path), status["final"], EXIT_CODES[status["status"]],
                  status.get("reason"), repeated=True, note=status.get("data_note", ""))
