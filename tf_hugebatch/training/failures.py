"""Errors of a run that have a cause outside of it and a remedy, told from all others."""

import contextlib
import re

import tensorflow as tf

from ..stops import RunStopped, disk_stopped, why_not_written

_DAMAGED = (r"(?:corrupted|truncated) record at \d+", r"\d+ of [\d,]+ images can't be decoded[^\n]*")
# What a full GPU says where it does not say ResourceExhausted: a copy to it, its driver, its libraries.
_NO_GPU_MEMORY = r"Dst tensor is not initialized|CUDA_ERROR_OUT_OF_MEMORY|CU\w+_STATUS_ALLOC_FAILED|[Oo]ut of memory"


def is_out_of_memory(error):
    """Whether an error of TensorFlow's says that a device has no memory left."""
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return True
    in_other_words = isinstance(error, (tf.errors.InternalError, tf.errors.UnknownError))
    return in_other_words and bool(re.search(_NO_GPU_MEMORY, error.message))


class OutOfMemory(RunStopped):
    """A device ran out of memory in an update of micro-batches of `size` examples; `stated`: the flag's value."""

    def __init__(self, size, stated):
        super().__init__(f"--micro_batch_size={stated}: micro-batches of {size} ran out of memory; give a smaller number (no "
                         f"result depends on it), or take a machine with more memory, and the same command goes on from the "
                         f"last checkpoint", status="failed")
        self.size = size


@contextlib.contextmanager
def naming_the_micro_batch(step, stated):
    """Around a call of `step`: too little memory is raised as OutOfMemory."""
    try:
        yield
    except tf.errors.OpError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(step.layout.micro_batch_size, stated) from None


def explained(error, settings):
    """The RunStopped that says what `error` means for the user of a run with `settings`; None for an unknown one."""
    if isinstance(error, RunStopped):
        return error
    if reason := why_not_written(error):
        return disk_stopped(f"--run_dir={settings.run_dir}", reason)
    if not isinstance(error, tf.errors.OpError):
        return None
    if is_out_of_memory(error):
        return RunStopped(f"--eval_batch_size={settings.eval_batch_size}: out of memory beside an update; give a smaller "
                          f"number (no result depends on it), and the same command goes on from the last checkpoint",
                          status="failed")
    for pattern in _DAMAGED:
        if found := re.search(pattern, error.message):
            return RunStopped(f"--data_dir={settings.data_dir}: {found[0].removesuffix('.')}{_remedy(settings)}; the same "
                              f"command goes on from the last checkpoint", status="failed")
    return None


def _remedy(settings):
    if settings.shuffle == "shards":
        return ": a training shard is damaged; copy the shards again (--shuffle=examples reads all of them once and names it)"
    return ""
