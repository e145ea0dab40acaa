"""Micro-batches of a fixed size, in slot order: micro-batch, then replica, then example; the rest is padding.

Input arrives a micro-batch at a time and its order is arithmetic on positions, so nothing here grows with the batch,
and starting at update t costs nothing: there is no iterator state to restore.
"""

import numpy as np
import tensorflow as tf

from ..layout import Layout


def training_micro_batches(examples, stream, layout: Layout, first_update, total_updates):
    """The micro-batches of updates `first_update` .. `total_updates` - 1, in the order replicas take them.

    Batch t is positions tB .. tB + B - 1 of the stream; a batch may straddle two epochs. Padding repeats a real
    example, so that activations stay ordinary, with weight 0 and position B.

    Args:
        examples: arrays `images` uint8 [N, ...] and `labels` int32 [N].
        stream: `order.Stream` over the N examples.
        layout: how a batch of B is cut.
        first_update: updates done so far.
        total_updates: where the stream ends.

    Returns:
        tf.data.Dataset of dicts: image float32 [m, ...] in [0, 1], label int32 [m], position int64 [m] in the global
        batch, weight float32 [m].
    """
    size = layout.micro_batch_size

    def cells():
        for update in range(first_update, total_updates):
            for round_ in range(layout.rounds):
                for replica in range(layout.replicas):
                    cell = layout.cell(round_, replica)
                    # A cell of padding only still needs something real to repeat.
                    first, count = (cell.first, cell.count) if cell.count else (0, 1)
                    ids, _ = stream.examples(update * layout.batch_size + first, count)
                    ids = np.resize(ids, size)
                    slots = np.arange(size)
                    real = slots < cell.count
                    yield {
                        "image": examples.images[ids],
                        "label": examples.labels[ids],
                        "position": np.where(real, cell.first + slots, layout.batch_size),
                        "weight": real.astype(np.float32),
                    }

    return _dataset(cells, examples, size)


def evaluation_batches(examples, size, replicas):
    """Every example exactly once, in order, `size` at a time on each replica; the last round is padded.

    Args:
        examples: arrays `images` and `labels`.
        size: examples per replica and round.
        replicas: a round has one batch for each.

    Returns:
        (dataset of dicts as above, number of rounds).
    """
    total = len(examples.labels)
    rounds = -(-total // (size * replicas))

    def batches():
        for start in range(0, rounds * replicas * size, size):
            slots = start + np.arange(size)
            ids = np.minimum(slots, total - 1)
            yield {
                "image": examples.images[ids],
                "label": examples.labels[ids],
                "position": slots,
                "weight": (slots < total).astype(np.float32),
            }

    return _dataset(batches, examples, size), rounds


def _dataset(generator, examples, size):
    signature = {
        "image": tf.TensorSpec([size, *examples.images.shape[1:]], tf.uint8),
        "label": tf.TensorSpec([size], tf.int32),
        "position": tf.TensorSpec([size], tf.int64),
        "weight": tf.TensorSpec([size], tf.float32),
    }
    dataset = tf.data.Dataset.from_generator(generator, output_signature=signature)
    dataset = dataset.map(lambda cell: {**cell, "image": tf.cast(cell["image"], tf.float32) / 255.0})
    options = tf.data.Options()
    # Sharding is by hand: the cells are already in the order in which replicas take them.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return dataset.prefetch(4).with_options(options)
