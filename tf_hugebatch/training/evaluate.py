"""Evaluation: every example exactly once, at its own batch size."""

import tensorflow as tf

from ..data.padding import evaluation_batches
from .accumulate import smoothed_cross_entropy


class Evaluation:
    """Top-1, top-5 and cross-entropy (no smoothing, no decay) of `model` on one split.

    Padding has weight 0 in every sum, so the split's size needs to be divisible by nothing.

    Args:
        strategy: a tf.distribute.Strategy.
        model: a Keras model: images -> logits.
        examples: arrays `images` and `labels`.
        batch_size: examples at once over all replicas; changes speed and memory, never the result.
    """

    def __init__(self, strategy, model, examples, batch_size):
        self.strategy, self.model = strategy, model
        replicas = strategy.num_replicas_in_sync
        self.size = min(max(1, batch_size // replicas), -(-len(examples.labels) // replicas))
        self._examples = examples
        _, self._rounds = evaluation_batches(examples, self.size, replicas)
        self._run = tf.function(self._sums, reduce_retracing=True)

    def __call__(self):
        """Returns {"accuracy", "top5" (absent below 6 classes), "loss"}; floats."""
        dataset, _ = evaluation_batches(self._examples, self.size, self.strategy.num_replicas_in_sync)
        distributed = self.strategy.distribute_datasets_from_function(lambda context: dataset)
        count, correct, top5, loss = self._run(iter(distributed)).numpy()
        result = {"accuracy": correct / count, "loss": loss / count}
        if self.model.output_shape[-1] > 5:
            result["top5"] = top5 / count
        return {name: float(value) for name, value in result.items()}

    def _sums(self, iterator):
        sums = tf.zeros([4], tf.float64)
        for _ in tf.range(self._rounds):
            part = self.strategy.run(self._one, args=(next(iterator),))
            sums += self.strategy.reduce(tf.distribute.ReduceOp.SUM, part, axis=None)
        return sums

    def _one(self, batch):
        logits = tf.cast(self.model(batch["image"], training=False), tf.float32)
        labels, weight = batch["label"], batch["weight"]
        # argmax of NaN logits is class 0, which a tenth of the images would be: a non-finite output is never right.
        finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1)
        correct = tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), labels) & finite, tf.float32)
        top5 = tf.cast(tf.math.in_top_k(labels, logits, k=min(5, logits.shape[-1])), tf.float32)
        losses = smoothed_cross_entropy(labels, logits)
        columns = tf.stack([tf.ones_like(weight), correct, top5, losses])
        return tf.reduce_sum(tf.cast(tf.where(weight > 0, columns, 0.0), tf.float64), axis=1)
