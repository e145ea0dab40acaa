"""Micro-batches of a fixed size, in slot order: micro-batch, then replica, then example; the rest is padding.

Input arrives a micro-batch at a time and its order is arithmetic on positions, so nothing here grows with the batch,
and starting at update t costs nothing: there is no iterator state to restore. A host makes the micro-batches of its own
replicas only; replicas are numbered host by host.
"""

import numpy as np
import tensorflow as tf

from ..layout import Layout

#: One host alone: (its number, number of hosts).
ONE_HOST = (0, 1)


def training_micro_batches(split, stream, layout: Layout, first_update, total_updates, host=ONE_HOST,
                           reading=None):
    """The micro-batches of updates `first_update` .. `total_updates` - 1, in the order replicas take them.

    Batch t is positions tB .. tB + B - 1 of the stream; a batch may straddle two epochs. Padding repeats a real
    example, so that activations stay ordinary, with weight 0 and position B.

    Args:
        split: the training split (data/splits.py).
        stream: `order.Stream` over its N examples.
        layout: how a batch of B is cut.
        first_update: updates done so far.
        total_updates: where the stream ends.
        host: (number of this host, hosts); each feeds replicas / hosts replicas.
        reading: called with (update, round, rounds), from 0, as the input of each round is begun.

    Returns:
        tf.data.Dataset of dicts: image float32 [m, ...], label int32 [m], position int64 [m] in the global batch,
        weight float32 [m].
    """
    size, replicas = layout.micro_batch_size, replicas_of(host, layout.replicas)
    if stream.shuffle == "shards":
        split = split.of_host(host, first_update * examples_of_host(layout, host))

    def cells():
        slots = np.arange(size)
        for update in range(first_update, total_updates):
            for round_ in range(layout.rounds):
                if reading:
                    reading(update, round_, layout.rounds)
                for replica in replicas:
                    cell = layout.cell(round_, replica)
                    # A cell of padding only still needs something real to repeat.
                    first, count = (cell.first, cell.count) if cell.count else (0, 1)
                    ids, epochs = stream.examples(update * layout.batch_size + first, count)
                    real = slots < cell.count
                    yield {
                        "id": np.resize(ids, size),
                        "epoch": np.resize(epochs, size),
                        "position": np.where(real, cell.first + slots, layout.batch_size),
                        "weight": real.astype(np.float32),
                    }

    return _micro_batches(split, cells, size, training=True)


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
    total = len(split)
    rounds = -(-total // (size * replicas))

    def cells():
        for round_ in range(rounds):
            for replica in replicas_of(host, replicas):
                slots = (round_ * replicas + replica) * size + np.arange(size)
                yield {
                    "id": np.minimum(slots, total - 1),
                    "epoch": np.zeros(size, np.int32),
                    "position": slots,
                    "weight": (slots < total).astype(np.float32),
                }

    return _micro_batches(split, cells, size, training=False)


def examples_of_host(layout, host):
    """How many of a batch's examples `host` (number, hosts) feeds."""
    return sum(layout.cell(round_, replica).count for round_ in range(layout.rounds)
               for replica in replicas_of(host, layout.replicas))


def replicas_of(host, replicas):
    """The numbers of the replicas that `host` (number, hosts) feeds."""
    number, hosts = host
    share = replicas // hosts
    return range(number * share, (number + 1) * share)


def _micro_batches(split, cells, size, training):
    signature = {
        "id": tf.TensorSpec([size], tf.int64),
        "epoch": tf.TensorSpec([size], tf.int32),
        "position": tf.TensorSpec([size], tf.int64),
        "weight": tf.TensorSpec([size], tf.float32),
    }
    dataset = split.micro_batches(tf.data.Dataset.from_generator(cells, output_signature=signature), size, training)
    options = tf.data.Options()
    # Sharding is by hand: the cells are already in the order in which replicas take them.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(4).with_options(options)
