"""Which of a machine's GPUs each of the runs at a time gets: left alone, every one of them would train on all.

Counted by TensorFlow itself, in a process of its own: a driver also lists cards that TensorFlow does not use, and a process
that has looked for itself holds memory of every GPU for as long as it lives.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_COUNT = ("import tensorflow as tf\n"
          "print('GPUs:', len(tf.config.list_logical_devices('GPU')))")
_SECONDS = 120


class NotCounted(Exception):
    """TensorFlow did not say how many GPUs there are; its words are why."""


def shares(jobs: int, at_least: int | None = None) -> list[dict[str, str]]:
    """What to add to a run's environment, one mapping a share; with more jobs than shares some runs have the same.

    All shares are of one size, so that a layout that one run accepts every run does; GPUs left over are not used.

    Args:
        jobs: runs at a time.
        at_least: GPUs that every run needs (--num_replicas); None: one.

    Returns:
        [{}], all GPUs for every run, where there is nothing to divide: one run at a time, or no GPUs for two shares.

    Raises:
        NotCounted: there are GPUs, and it is not known how many.
    """
    gpus = visible() if jobs > 1 else ()
    count = min(jobs, len(gpus) // (at_least or 1))
    if count < 2:
        return [{}]
    size = len(gpus) // count
    return [{_VISIBLE: ",".join(gpus[share * size:(share + 1) * size])} for share in range(count)]


def visible() -> Sequence[str]:
    """The GPUs that TensorFlow uses in this environment, as CUDA_VISIBLE_DEVICES names them.

    Raises:
        NotCounted: see `shares`.
    """
    given = os.environ.get(_VISIBLE)
    names = None if given is None else [name.strip() for name in given.split(",")]
    if names and names[0] in ("", "-1") or not _may_have_gpus():
        return ()
    count = _count()
    # CUDA goes by the names before the first that is none of a GPU's; without names, GPUs are numbered as TensorFlow has them.
    return names[:count] if names else [str(number) for number in range(count)]


@contextlib.contextmanager
def hidden():
    """Where TensorFlow is started inside, this process never uses a GPU; those started later find all that were visible."""
    before = os.environ.get(_VISIBLE)
    os.environ[_VISIBLE] = "-1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_VISIBLE]
        else:
            os.environ[_VISIBLE] = before


def _may_have_gpus():
    """Whether a driver is there; without one nobody need wait for TensorFlow to say so."""
    return shutil.which("nvidia-smi") is not None or os.path.exists("/dev/nvidiactl")


def _count():
    try:
        asked = subprocess.run([sys.executable, "-c", _COUNT], capture_output=True, text=True, timeout=_SECONDS,
                               env={**os.environ, "TF_FORCE_GPU_ALLOW_GROWTH": "true"})
    except subprocess.TimeoutExpired:
        raise NotCounted(f"TensorFlow did not say within {_SECONDS} seconds how many GPUs there are") from None
    for line in asked.stdout.splitlines():
        if line.startswith("GPUs: "):
            return int(line.removeprefix("GPUs: "))
    last = (asked.stderr.strip() or "nothing").splitlines()[-1]
    raise NotCounted(f"TensorFlow did not say how many GPUs there are, but (exit code {asked.returncode}): {last}")
