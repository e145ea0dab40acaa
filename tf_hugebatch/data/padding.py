"""Micro-batches of a fixed size, in slot order: micro-batch, then replica, then example; the rest is padding.

Input arrives a micro-batch at a time and its order is arithmetic on positions, so nothing here grows with the batch,
and starting at update t costs nothing: there is no iterator state to restore. A host makes the micro-batches of its own
replicas only; replicas are numbered host by host.
"""

import numpy as np
import tensorflow as tf

from ..layout import Layout, ceil_div
from .python_calls import numpy_call

#: One host alone: (its number, number of hosts).
ONE_HOST = (0, 1)


def training_micro_batches(split, stream, layout: Layout, first_update, total_updates, host=ONE_HOST,
                           reading=None, before=()):
    """The micro-batches of updates `first_update` .. `total_updates` - 1, in the order replicas take them.

    Batch t is positions tB .. tB + B - 1 of the stream (after batches of other sizes, the B positions that follow them); a
    batch may straddle two epochs. Padding repeats a real example, so that activations stay ordinary, with weight 0 and
    position B.

    Args:
        split: the training split (data/splits.py).
        stream: `order.Stream` over its N examples.
        layout: how a batch of B is cut.
        first_update: updates done so far.
        total_updates: where the stream ends.
        host: (number of this host, hosts); each feeds replicas / hosts replicas.
        reading: called with (update, round, rounds), from 0, as the input of each round is begun.
        before: (layout, updates) of the stages before this layout's, where the batch has grown.

    Returns:
        tf.data.Dataset of dicts: image float32 [m, ...], label int32 [m], position int64 [m] in the global batch,
        weight float32 [m].
    """
    since = first_update - sum(updates for _, updates in before)
    if stream.shuffle == "shards":
        split = split.of_host(host, sum(updates * examples_of_host(one, host) for one, updates in [*before, (layout, since)]))
    position = sum(updates * one.batch_size for one, updates in [*before, (layout, since)])
    cells = _TrainingCells(stream, layout, first_update, total_updates, replicas_of(host, layout.replicas), reading, position)
    return _micro_batches(split, cells, training=True)


def evaluation_batches(split, size, replicas, host=ONE_HOST):
    """Every example exactly once, in order, `size` at a time on each replica; the last round is padded.

    Args:
        split: what to evaluate on.
        size: examples per replica and round.
        replicas: a round has one batch for each.
        host: as in `training_micro_batches`.

    Returns:
        dataset of dicts as above, ceil(n / (size x replicas)) rounds of them.
    """
    return _micro_batches(split, _EvaluationCells(len(split), size, replicas, replicas_of(host, replicas)), training=False)


class _TrainingCells:
    """The cells of one host in the order of rounds; see `training_micro_batches`."""

    def __init__(self, stream, layout, first_update, total_updates, replicas, reading, position):
        self._stream, self._layout, self._first_update, self._replicas = stream, layout, first_update, replicas
        self._reading, self._position, self.size = reading, position, layout.micro_batch_size
        self.count = (total_updates - first_update) * layout.rounds * len(replicas)

    def at(self, index):
        """(ids, epochs, positions, weights) of cell number `index`, [size] each."""
        layout, slots = self._layout, np.arange(self.size)
        round_, turn = divmod(int(index), len(self._replicas))
        made, round_ = divmod(round_, layout.rounds)
        if self._reading and not turn:
            self._reading(self._first_update + made, round_, layout.rounds)
        cell = layout.cell(round_, self._replicas[turn])
        # A cell of padding only still needs something real to repeat.
        first, count = (cell.first, cell.count) if cell.count else (0, 1)
        ids, epochs = self._stream.examples(self._position + made * layout.batch_size + first, count)
        real = slots < cell.count
        return (np.resize(ids, self.size), np.resize(epochs, self.size),
                np.where(real, cell.first + slots, layout.batch_size), real.astype(np.float32))


class _EvaluationCells:
    """The cells of one host in the order of rounds; see `evaluation_batches`."""

    def __init__(self, total, size, all_replicas, replicas):
        self._total, self._all_replicas, self._replicas, self.size = total, all_replicas, replicas, size
        self.count = ceil_div(total, size * all_replicas) * len(replicas)

    def at(self, index):
        """(ids, epochs, positions, weights) of cell number `index`, [size] each."""
        round_, turn = divmod(int(index), len(self._replicas))
        slots = (round_ * self._all_replicas + self._replicas[turn]) * self.size + np.arange(self.size)
        return (np.minimum(slots, self._total - 1), np.zeros(self.size, np.int32), slots,
                (slots < self._total).astype(np.float32))


def examples_of_host(layout, host):
    """How many of a batch's examples `host` (number, hosts) feeds."""
    return sum(layout.cell(round_, replica).count for round_ in range(layout.rounds)
               for replica in replicas_of(host, layout.replicas))


def replicas_of(host, replicas):
    """The numbers of the replicas that `host` (number, hosts) feeds."""
    number, hosts = host
    share = replicas // hosts
    return range(number * share, (number + 1) * share)


def _micro_batches(split, cells, training):
    names, types = ("id", "epoch", "position", "weight"), (tf.int64, tf.int32, tf.int64, tf.float32)

    def cell(index):
        # With state: it says that it reads, and is called once for each cell, in order.
        values = numpy_call(cells.at, [index], types, stateful=True)
        return {name: tf.ensure_shape(value, [cells.size]) for name, value in zip(names, values)}

    dataset = split.micro_batches(tf.data.Dataset.range(cells.count).map(cell), cells.size, training)
    options = tf.data.Options()
    # Sharding is by hand: the cells are already in the order in which replicas take them.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(4).with_options(options)
