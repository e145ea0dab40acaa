"""What a run came to."""

import dataclasses
import functools
from typing import Any

import keras

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
        trained: the model on the run's devices, in their tf.distribute strategy; None where nothing was trained.
    """

    status: str
    run_dir: str
    final: dict
    exit_code: int
    reason: str | None = None
    repeated: bool = False
    note: str = ""
    trained: Any = dataclasses.field(default=None, repr=False)

    @functools.cached_property
    def model(self):
        """The trained Keras model in no strategy, to be compiled, fitted, evaluated and saved as any other; None where nothing
        was trained. A copy, made when it is first asked for."""
        if self.trained is None:
            return None
        model = keras.models.clone_model(self.trained)
        model.set_weights(self.trained.get_weights())
        return model


def finished(folder):
    """The Result of a run that has ended in `folder` (a RunFolder), or None."""
    status = folder.read_status()
    if status.get("status") not in EXIT_CODES:
        return None
    return Result(status["status"], str(folder.path), status["final"], EXIT_CODES[status["status"]],
                  status.get("reason"), repeated=True, note=status.get("data_note", ""))
