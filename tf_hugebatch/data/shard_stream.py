"""`--shuffle=shards`: each host streams its own shards from end to end, for storage without fast random access.

The order is a function of (seed, host, number of hosts): in every pass the host's shards are permuted, eight are read at
a time, and blocks of 4,096 encoded records are shuffled; each record comes once in a pass. A run goes on exactly on the
same number of hosts, by reading over what it has consumed. A host passes over its own shards, so epochs are those of the
whole set only on average.
"""

import functools

import numpy as np
import tensorflow as tf

from tf_hugebatch.data import augment
from tf_hugebatch.data.images import ImageSplit, Undecodable
from tf_hugebatch.data.order import epoch_permutation
from tf_hugebatch.data.python_calls import numpy_call

_AT_ONCE, _BLOCK = 8, 4096


class ShardStream:
    """The training split of a streamed data set; `of_host` is the one to read.

    Args:
        shard_paths: of all shards, sorted.
        source: tfrecord.Records of them; reads nothing by number here.
        label_key, first_label: of the labels as stored.
        classes: labels lie in 0 .. classes - 1 once first_label is subtracted.
        examples: in all shards together.
        image_size: pixels each way.
        seed: the run's.
    """

    def __init__(self, shard_paths, source, label_key, first_label, classes, examples, image_size, seed):
        self._paths, self._source, self._seed = shard_paths, source, seed
        self._label = (label_key, first_label, classes)
        self._examples, self.image_shape = examples, (image_size, image_size, 3)
        self.undecodable = Undecodable(_StreamSource(source), examples)

    def __len__(self):
        return self._examples

    def of_host(self, host, consumed):
        """The split as one host reads it, from where it has `consumed` so many examples.

        Args:
            host: (number of this host, hosts).
            consumed: examples that this host has read in earlier updates.

        Raises:
            ValueError: more hosts than shards.
        """
        number, hosts = host
        if hosts > len(self._paths):
            raise ValueError(f"{hosts} hosts and {len(self._paths)} training shards: each host streams shards of its own; use "
                             f"--shuffle=examples, or make at least {hosts} shards (scripts/prepare_imagenet.py).")
        return _HostStream(self, host, consumed)


class _HostStream(ImageSplit):
    """One host's stream of records; numbers count what this host has read."""

    def __init__(self, stream, host, consumed):
        super().__init__(_StreamSource(stream._source), np.zeros(0, np.int64), np.zeros(0, np.int32),
                         stream.image_shape[0], stream._seed, stream.undecodable)
        self._stream, self._host, self._consumed = stream, host, consumed

    def _read(self, cells, size):
        records = self._records().enumerate().skip(self._consumed)
        # Padding slots take nothing from the stream: they are filled from an endless supply of one record.
        filler = self._records().take(1).cache().repeat().map(lambda record: (tf.constant(0, tf.int64), record))
        choices = cells.map(lambda cell: tf.cast(cell["weight"] == 0, tf.int64)).unbatch()
        chosen = tf.data.Dataset.choose_from_datasets([records, filler], choices).batch(size, drop_remainder=True)
        return tf.data.Dataset.zip(cells, chosen).map(self._with_label)

    def _with_label(self, cell, chosen):
        numbers, records = chosen
        key, first, classes = self._stream._label
        labels = tf.io.parse_example(records, {key: tf.io.FixedLenFeature([], tf.int64)})[key] - first
        tf.debugging.Assert(tf.reduce_all((labels >= 0) & (labels < classes)), [
            f"a label is outside {first} .. {first + classes - 1}: these are shards of another data set", labels])
        # The host stands where examples have their epoch: two hosts count from the same number.
        epochs = tf.fill(tf.shape(numbers), self._host[0])
        # Numbers go on in the next pass; a damaged record is the same one then.
        identities = tf.strings.to_hash_bucket_fast(records, 2**62)
        return {**cell, "epoch": epochs, "number": numbers, "identity": identities, "handle": records,
                "label": tf.cast(labels, tf.int32)}

    def _records(self):
        number, hosts = self._host
        mine = self._stream._paths[number::hosts]

        def shuffled(turn, block, records):
            # Block by block and stateless: tf.data's own shuffle would listen to the process's global seed.
            return tf.random.experimental.stateless_shuffle(
                records, augment.keys(self._stream._seed, turn[tf.newaxis], block)[0])

        def one_pass(epoch):
            # Counted over the hosts too, so that no two of them go through their shards in step.
            turn = epoch * hosts + number
            order = tf.ensure_shape(numpy_call(self._order, [turn], tf.int64), [len(mine)])
            paths = tf.gather(tf.constant(mine), order)
            records = tf.data.Dataset.from_tensor_slices(paths).interleave(
                tf.data.TFRecordDataset, cycle_length=min(_AT_ONCE, len(mine)), num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True)
            blocks = records.batch(_BLOCK).enumerate().map(functools.partial(shuffled, turn))
            return blocks.prefetch(1).unbatch()

        return tf.data.Dataset.counter().flat_map(one_pass)

    def _order(self, turn):
        number, hosts = self._host
        return epoch_permutation(self._stream._seed, int(turn), len(self._stream._paths[number::hosts]))


class _StreamSource:
    """What decoding needs of a source; the records come by the stream."""

    def __init__(self, source):
        self.image = source.image

    def describe(self, number):
        """What there is to say of a record, for messages."""
        return f"a record of the training shards, fingerprint {number:016x} (--shuffle=examples would say which)"
