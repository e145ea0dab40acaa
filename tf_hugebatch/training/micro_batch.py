"""`--micro_batch_size=auto`: the largest micro-batch that memory holds, among those that hold the batch-norm groups.

It never changes the batch, the groups or the result; it is layout.
"""

import os
import pathlib
import re

import numpy as np
import tensorflow as tf

from .. import replica
from ..keras_versions import as_written
from ..layout import Layout, micro_batch_sizes
from .accumulate import micro_batch_sums
from .failures import is_out_of_memory

#: Beyond a few hundred examples a CPU is busy and a larger micro-batch only costs memory (scripts/bench_step.py prints the
#: speed by micro-batch). A GPU waits for launches until an operation has some millions of values: with small images that takes
#: thousands of examples, with ImageNet's crops no more than the same few hundred. A TPU core holds 640 of these crops
#: (README's plan of the full batch), and what it does not hold is found out.
LARGEST, LARGEST_ON_GPU, LARGEST_ON_TPU = 512, 8_192, 1_024
_LARGE_ENOUGH_FOR_A_GPU = LARGEST * 224 * 224 * 3
#: Share of the memory that is free now which activations may take; the rest is for input, evaluation and the system.
SHARE = 0.5
_TRIALS = (16, 64)
_LARGE_IMAGE = 100 * 100 * 3


def choose_micro_batch_size(strategy, model, image_shape, batch_size, span, sharing, factored=()):
    """The micro-batch size of a run, and why.

    On a CPU from a measured forward and backward pass: bytes per example against the free memory. On a GPU or a TPU by
    exception: the largest candidate that does not run out of memory, found by bisection where the largest of all does.

    Args:
        strategy, model: of the run.
        image_shape: (height, width, channels).
        batch_size, span: as `layout.Layout` takes them.
        sharing: how many of the replicas share this machine's memory.
        factored: layers whose factors are taken.

    Returns:
        (size, reason): int and a sentence.
    """
    replicas = strategy.num_replicas_in_sync
    device = next((kind for kind in ("TPU", "GPU") if tf.config.list_logical_devices(kind)), "CPU")
    candidates = micro_batch_sizes(batch_size, replicas, span, _largest(device, image_shape))
    trial = _Trial(strategy, model, image_shape, span, factored)
    if device != "CPU":
        fits, fails = _bisected(candidates, trial)
        if fits is None:
            return candidates[0], f"the smallest that holds the batch-norm groups; larger ones ran out of {device} memory"
        return fits, (f"{fails} ran out of {device} memory" if fails else "larger ones would only cost memory")
    per_example = trial.bytes_per_example()
    budget = SHARE * available_memory() / sharing
    fitting = [size for size in candidates if size * per_example <= budget]
    reason = f"measured {per_example / 2**20:.2f} MiB an example, {budget / 2**30:.1f} GiB a replica to spend"
    return (fitting or candidates)[-1 if fitting else 0], reason


def _largest(device, image_shape):
    """Examples beyond which a micro-batch only costs memory."""
    if device != "GPU":
        return LARGEST_ON_TPU if device == "TPU" else LARGEST
    return int(np.clip(_LARGE_ENOUGH_FOR_A_GPU // np.prod(image_shape), LARGEST, LARGEST_ON_GPU))


def _bisected(candidates, trial):
    """(the largest of the ascending `candidates` that `trial` does not run out of memory with, the next one); None: none is."""
    # The largest first: most often it fits, and each trial traces the model anew.
    low, high, middle = -1, len(candidates), len(candidates) - 1
    while high - low > 1:
        try:
            trial(candidates[middle])
            low = middle
        except tf.errors.OpError as error:
            if not is_out_of_memory(error):
                raise
            high = middle
        middle = (low + high) // 2
    return (candidates[low] if low >= 0 else None), (candidates[high] if high < len(candidates) else None)


def next_smaller(layout):
    """The largest size of at most half of a `Layout`'s that holds its groups, else the largest below its own; None: none is."""
    size = layout.micro_batch_size
    if size == 1:
        return None
    sizes = [other for largest in (size // 2, size - 1)
             for other in micro_batch_sizes(layout.batch_size, layout.replicas, layout.span, largest)]
    below = [other for other in sizes if other < size]
    return max((other for other in below if 2 * other <= size), default=max(below, default=None))


class _Trial:
    """A forward and backward pass on black images; changes nothing, since inside a view layers keep no state."""

    def __init__(self, strategy, model, image_shape, span, factored=()):
        self._strategy, self._model, self._shape, self._span = strategy, model, tuple(image_shape), span
        self._factored = factored
        # A small pass shows nothing of small images, and a large one of large images may not fit.
        self._sizes = _TRIALS if np.prod(self._shape) < _LARGE_IMAGE else tuple(size // 4 for size in _TRIALS)
        self._run = tf.function(as_written(self._pass_on_device))

    def __call__(self, size):
        self._run(tf.zeros((size, *self._shape)), tf.zeros([size], tf.int32)).numpy()

    def _pass_on_device(self, images, labels):
        # A TPU is reached through its strategy only; elsewhere one device says all, without the others.
        if isinstance(self._strategy, tf.distribute.TPUStrategy):
            norms = self._strategy.run(self._pass, args=(images, labels))
            return self._strategy.experimental_local_results(norms)[0]
        return self._pass(images, labels)

    def _pass(self, images, labels):
        size = images.shape[0]
        view = replica.View(
            layout=Layout(size, size, 1, self._span),
            positions=tf.range(size, dtype=tf.int64),
            weights=tf.ones([size]),
            update=tf.constant(0, tf.int64),
            seed=0,
            all_reduce_sum=lambda tensor: tensor,
            one_program=replica.is_one_program(self._strategy),
        )
        gradients, _, _, factors = micro_batch_sums(self._model, view, images, labels, 0.0, factored=self._factored)
        return tf.linalg.global_norm([*gradients, *factors])

    def bytes_per_example(self):
        """The slope of peak memory between two sizes; the first one pays for what TensorFlow sets up once."""
        small, large = self._sizes
        self(small)
        before = _resident("VmRSS")
        _reset_peak()
        self(large)
        # Memory freed after the first pass is used again, so the slope is taken from the larger pass as a whole.
        grown = max(0, _resident("VmHWM") - before) / (large - small)
        # A pass too small to see still holds its input and its gradient.
        return max(grown, 8 * np.prod(self._shape))


def available_memory():
    """Bytes that can be used now: the kernel's estimate, or the control group's limit where that is lower."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2]
    meminfo = pathlib.Path("/proc/meminfo")
    if meminfo.exists():
        found = [int(re.search(r"MemAvailable:\s+(\d+)", meminfo.read_text()).group(1)) * 1024]
    limit, used = pathlib.Path("/sys/fs/cgroup/memory.max"), pathlib.Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and limit.read_text().strip() != "max":
        found.append(max(0, int(limit.read_text()) - int(used.read_text())))
    return min(found)


def _resident(field):
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return 0
    found = re.search(rf"{field}:\s+(\d+) kB", status.read_text())
    return int(found.group(1)) * 1024 if found else 0


def _reset_peak():
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # not Linux, or not allowed: the peak since the start is an upper bound
