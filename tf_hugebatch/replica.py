"""What a replica knows while its part of the step is traced.

Layers that must not depend on how the batch was cut (batch norm, dropout, injected noise) ask here where in the
global batch their examples lie, how replicas add tensors up, and where to leave statistics for the one
moving-average update at the end of the step. Outside a step `current()` is None and such layers fall back on what a
plain Keras layer knows: the batch in front of them.

The view is thread-local because MirroredStrategy traces each replica in a thread of its own.
"""

import contextlib
import dataclasses
import threading
from typing import Any, Callable

import tensorflow as tf

from .layout import Layout

_local = threading.local()


@dataclasses.dataclass
class View:
    """One replica's view of one micro-batch.

    Attributes:
        layout: how the global batch is cut (static).
        positions: int64 [m], each example's position in the global batch; padding has B or more.
        weights: float32 [m], 1 for an example, 0 for padding and for an example that could not be read.
        update: int64 scalar, updates done so far.
        seed: int, the run's seed.
        all_reduce_sum: tensor -> the sum of it over the replicas; differentiable.
        statistics: what batch-norm layers leave: layer -> list of float32 [2, channels] tensors, the micro-batch's
            share of sum_g n_g mean_g and sum_g n_g variance_g.
    """

    layout: Layout
    positions: Any
    weights: Any
    update: Any
    seed: int
    all_reduce_sum: Callable
    statistics: dict = dataclasses.field(default_factory=dict)
    _streams: int = 0

    @property
    def real(self):
        """float32 [m], 1 for an example, read or not, and 0 for padding: what shares batch-norm statistics.

        An unreadable example is a grey image there, at its own position, so that groups keep their sizes and an update
        does not depend on how the batch was cut.
        """
        return tf.cast(self.positions < self.layout.batch_size, tf.float32)

    def next_stream(self):
        """A number for each call that draws random numbers, in the order in which the model makes them.

        The order is the same in every trace of a model, on every replica and in every process, so that two dropout
        layers never share a mask, nor do two calls of one.
        """
        self._streams += 1
        return self._streams - 1

    def record(self, layer, statistics):
        """Leaves a layer's share of the batch statistics; a layer that is called twice leaves two."""
        self.statistics.setdefault(layer, []).append(statistics)


def current() -> View | None:
    """The view of the replica that is being traced, or None outside a training step."""
    return getattr(_local, "view", None)


@contextlib.contextmanager
def scope(view: View):
    """Makes `view` current in this thread."""
    before, _local.view = current(), view
    try:
        yield view
    finally:
        _local.view = before
