"""What a replica knows while its part of the step is traced.

Layers that must not depend on how the batch was cut (batch norm, dropout, injected noise) ask here where in the
global batch their examples lie, how replicas add tensors up, and where to leave statistics for the one
moving-average update at the end of the step. Outside a step `current()` is None and such layers fall back on what a
plain Keras layer knows: the batch in front of them.

The view is thread-local because MirroredStrategy traces each replica in a thread of its own.

How replicas add up is the strategy's affair: tf.distribute's strategies (a TPU's among them) bring their own collectives,
and `PlannedReplicas` stands for replicas that are not there, whose step is only compiled.
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
        origin: int, where update 0 would begin in the stream if every batch had this layout's size: 0 unless it has grown.
        all_reduce_sum: tensor -> the sum of it over the replicas; differentiable.
        one_program: whether XLA compiles all of the step (on a TPU), which takes TensorFlow's kernels apart (static).
        statistics: what batch-norm layers leave: layer -> list of float32 [2, channels] tensors, the micro-batch's
            share of sum_g n_g mean_g and sum_g n_g variance_g.
        calls: what dense and convolution layers leave where an optimizer asks for their factors: layer -> list of
            (inputs, outputs before the activation); None where none does.
    """

    layout: Layout
    positions: Any
    weights: Any
    update: Any
    seed: int
    all_reduce_sum: Callable
    one_program: bool = False
    origin: int = 0
    statistics: dict = dataclasses.field(default_factory=dict)
    calls: dict | None = None
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


class PlannedReplicas:
    """As much of a tf.distribute.Strategy as `training/step.py` asks of one, for replicas that are not there.

    What is traced under it lowers on a CPU to what one of `count` replicas computes; only with one replica can it be run.

    Args:
        count: replicas, at least 1.
    """

    def __init__(self, count):
        self.num_replicas_in_sync = count

    def scope(self):
        return contextlib.nullcontext()

    def all_reduce_sum(self, value):
        """XLA's own all-reduce of a tensor, or of each of a structure of tensors; differentiable.

        `tf.raw_ops.CrossReplicaSum`, which a TPU's strategy uses, has no XLA kernel on a CPU.
        """
        return tf.nest.map_structure(self._all_reduce_sum, value)

    def _all_reduce_sum(self, tensor):
        # Here, since it is no public part of TensorFlow: only a planner should depend on it.
        from tensorflow.compiler.tf2xla.ops import gen_xla_ops

        everyone = tf.constant([list(range(self.num_replicas_in_sync))], tf.int32)

        @tf.custom_gradient
        def summed(x):
            total = gen_xla_ops.xla_all_reduce(x, everyone, reduce_op="Add", mode="CrossReplica")
            return total, self._all_reduce_sum

        return summed(tensor)


def collective_of(strategy):
    """What sums a tensor, or a structure of them, over the replicas of `strategy`: in replica context, differentiable."""
    if isinstance(strategy, PlannedReplicas):
        return strategy.all_reduce_sum
    return _distributed_all_reduce_sum


def is_one_program(strategy) -> bool:
    """Whether XLA compiles what `strategy` runs as a whole."""
    return isinstance(strategy, (PlannedReplicas, tf.distribute.TPUStrategy))


def _distributed_all_reduce_sum(value):
    context = tf.distribute.get_replica_context()
    # TensorFlow never forgets a gradient that it registers, and two come with each sum: they keep the graph around it.
    if context.num_replicas_in_sync == 1:
        return value

    @tf.custom_gradient
    def summed(*parts):
        # TensorFlow looks for variables behind each sum, and would find its way through the other replicas' parts to all
        # that came before: a time that grows with the cube of the layers. It stops where no gradient goes on.
        cut = [tf.stop_gradient(part) for part in parts]
        return context.all_reduce(tf.distribute.ReduceOp.SUM, cut), lambda *gradients: _distributed_all_reduce_sum(gradients)

    return tf.nest.pack_sequence_as(value, tf.nest.flatten(summed(*tf.nest.flatten(value))))


@contextlib.contextmanager
def scope(view: View):
    """Makes `view` current in this thread."""
    before, _local.view = current(), view
    try:
        yield view
    finally:
        _local.view = before
