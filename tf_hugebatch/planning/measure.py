"""The same question for this machine: a few updates of the real step, timed.

    t(update) = K a + b          a: a micro-batch, b: the end of an update; from updates of one and of three micro-batches

The shortest of several of each counts, made in turn: what else the machine does only ever adds time. Where three micro-batches
took no longer than one for all that, nothing is known of b, and a is a third of the three: too long rather than too short.
Images are made in memory and stay there, so reading and augmenting real ones comes on top.
"""

from __future__ import annotations

import dataclasses
import resource
import time

import tensorflow as tf

from ..layout import Layout
from ..training.assemble import Assembly, make_step

_FEW, _MANY, _UPDATES = 1, 3, 5


@dataclasses.dataclass(frozen=True)
class Measured:
    """layout: of the run. micro_batch, end: seconds, a and b above. peak: resident bytes of this process."""

    layout: Layout
    micro_batch: float
    end: float
    peak: int

    @property
    def seconds(self) -> float:
        """Of an update."""
        return self.layout.rounds * self.micro_batch + self.end


@dataclasses.dataclass(frozen=True)
class _Rounds(Layout):
    """The run's layout, its batch-norm groups too, in updates of `timed` rounds."""

    timed: int = 1

    @property
    def rounds(self) -> int:
        return self.timed


def measure(settings, begin=lambda text: None) -> Measured:
    """Builds the run as training would, and times its step.

    Args:
        settings: `Settings`.
        begin: called with what is being done.

    Raises:
        Refusal: devices, layout or optimizer do not fit.
    """
    begin("building the run")
    assembly = Assembly(settings, {})
    begin(f"timing updates of {_FEW} and {_MANY} micro-batches of {assembly.layout.micro_batch_size}")
    few, many = _shortest([_update(settings, assembly, rounds) for rounds in (_FEW, _MANY)])
    micro_batch, end = _split(few, many)
    return Measured(assembly.layout, micro_batch, end, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _split(few, many):
    """(a, b) from the times of updates of `_FEW` and `_MANY` micro-batches."""
    if many <= few:
        return many / _MANY, 0.0
    micro_batch = (many - few) / (_MANY - _FEW)
    return micro_batch, max(0.0, few - _FEW * micro_batch)


def _update(settings, assembly, rounds):
    """A function that makes an update of so many rounds, and has made one."""
    layout = _Rounds(**dataclasses.asdict(assembly.layout), timed=rounds)
    step = make_step(settings, assembly.strategy, assembly.model, assembly.optimizer, layout)
    size = layout.micro_batch_size
    made = tf.data.Dataset.from_tensors({
        "image": tf.random.stateless_uniform([size, *settings.image_shape], [0, 0]), "label": tf.zeros([size], tf.int32),
        "position": tf.range(size, dtype=tf.int64), "weight": tf.cast(tf.range(size) < layout.cell(0, 0).count, tf.float32),
    }).repeat()
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    iterator = iter(assembly.strategy.distribute_datasets_from_function(lambda context: made.with_options(options)))
    step(iterator, 1)
    return lambda: step(iterator, 1)


def _shortest(updates):
    """Seconds of each, made in turn."""
    times = [[] for _ in updates]
    for _ in range(_UPDATES):
        for update, taken in zip(updates, times):
            started = time.perf_counter()
            update()
            taken.append(time.perf_counter() - started)
    return map(min, times)
