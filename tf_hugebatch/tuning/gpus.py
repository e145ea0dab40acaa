"""Which of a machine's GPUs each of the runs at a time gets: left alone, every one of them would train on all.

Counted without TensorFlow, which a sweep does not import.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def shares(jobs: int, at_least: int | None = None) -> list[dict[str, str]]:
    """What to add to a run's environment, one mapping a share; with more jobs than GPUs some runs have the same.

    Args:
        jobs: runs at a time.
        at_least: GPUs that every run needs (--num_replicas); with fewer in a share nothing is divided.

    Returns:
        [{}], all GPUs for every run, where there is nothing to divide: one run at a time, or one GPU.
    """
    gpus = visible()
    count = min(jobs, len(gpus))
    if count < 2 or len(gpus) // count < (at_least or 1):
        return [{}]
    return [{_VISIBLE: ",".join(gpus[share::count])} for share in range(count)]


def visible() -> Sequence[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; () without a driver that answers."""
    if _VISIBLE in os.environ:
        # CUDA goes by the names before the first that is none: -1 hides all that follow.
        names = [name.strip() for name in os.environ[_VISIBLE].split(",")]
        return names[:next((place for place, name in enumerate(names) if name in ("", "-1")), len(names))]
    try:
        asked = subprocess.run(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True,
                               timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return asked.stdout.split()
