"""Evaluation: every example exactly once, at its own batch size; and which split is read when."""

import contextlib

import tensorflow as tf

from ..data.padding import evaluation_batches
from ..keras_versions import as_written
from .accumulate import smoothed_cross_entropy
from .strategy import host_of


class Evaluations:
    """The evaluations of one run: what was found on each split, and the best on validation.

    With a validation split that is the one to watch, and the test split is read once, at the end.

    Args:
        strategy, model, batch_size: see `Evaluation`.
        splits: `data.splits.Splits`.
        statistics: called without arguments, gives a context manager in which the model's batch-norm statistics are
            the ones to evaluate with (`recalibrate.Recalibration`); None: those that training left.

    Attributes:
        watched: "validation" or "test".
        results: split -> {"accuracy", "top5", "loss", "step"}, the last of each.
        best: step, accuracy and loss of the best validation, or None.
    """

    def __init__(self, strategy, model, splits, batch_size, statistics=None):
        self._evaluations = {
            name: Evaluation(strategy, model, split, batch_size)
            for name, split in (("validation", splits.validation), ("test", splits.test)) if split is not None
        }
        self._statistics = statistics or contextlib.nullcontext
        self.watched = "validation" if "validation" in self._evaluations else "test"
        self.results, self.best = {}, None

    def restore(self, notes):
        """Goes on from what `notes()` gave when the run was saved; from nothing with {}."""
        self.results, self.best = notes.get("results", {}), notes.get("best")

    def __call__(self, names, step):
        """Reads the splits `names` after `step` updates; yields (name, {"accuracy", "top5", "loss"})."""
        if not names:
            return
        with self._statistics():
            for name in names:
                result = self._evaluations[name]()
                self.results[name] = {**result, "step": step}
                better = self.best is None or result["accuracy"] > self.best["validation_accuracy"]
                if name == "validation" and better:
                    self.best = {"step": step, "validation_accuracy": result["accuracy"],
                                 "validation_loss": result["loss"]}
                yield name, result

    def unread(self, step):
        """Names of the splits that were not read at this very update."""
        return [name for name in self._evaluations if self.results.get(name, {}).get("step") != step]

    def forget_before(self, step):
        """Drops results of other updates: the weights they speak of are gone."""
        self.results = {name: result for name, result in self.results.items() if result["step"] == step}

    def notes(self):
        """What a checkpoint keeps of them."""
        return {"best": self.best, "results": self.results}

    def final(self):
        """The results as status.json's `final` names them."""
        final = {}
        for name, result in self.results.items():
            final |= {f"{name}_accuracy": result["accuracy"], f"{name}_loss": result["loss"]}
            if name == "test" and "top5" in result:
                final["test_top5"] = result["top5"]
        return final


class Evaluation:
    """Top-1, top-5 and cross-entropy (no smoothing, no decay) of `model` on one split.

    Padding has weight 0 in every sum, so the split's size needs to be divisible by nothing.

    Args:
        strategy: a tf.distribute.Strategy.
        model: a Keras model: images -> logits.
        split: data/splits.py.
        batch_size: examples at once over all replicas; changes speed and memory, never the result.
    """

    def __init__(self, strategy, model, split, batch_size):
        self.strategy, self.model = strategy, model
        replicas = strategy.num_replicas_in_sync
        self.size = min(max(1, batch_size // replicas), -(-len(split) // replicas))
        self._split = split
        self._rounds = -(-len(split) // (self.size * replicas))
        self._run = tf.function(self._sums, reduce_retracing=True)

    def __call__(self):
        """Returns {"accuracy", "top5" (absent below 6 classes), "loss"}; floats."""
        replicas = self.strategy.num_replicas_in_sync
        distributed = self.strategy.distribute_datasets_from_function(
            lambda context: evaluation_batches(self._split, self.size, replicas, host_of(context))
        )
        count, correct, top5, loss = self._run(iter(distributed)).numpy()
        result = {"accuracy": correct / count, "loss": loss / count}
        if count < len(self._split):
            # Some could not be decoded: said, since it is no longer everybody's test set.
            result["examples"] = count
        if self.model.output_shape[-1] > 5:
            result["top5"] = top5 / count
        return {name: float(value) for name, value in result.items()}

    def _sums(self, iterator):
        sums = tf.zeros([4], tf.float64)
        for _ in tf.range(self._rounds):
            part = self.strategy.run(self._one, args=(next(iterator),))
            sums += self.strategy.reduce(tf.distribute.ReduceOp.SUM, part, axis=None)
        return sums

    @as_written
    def _one(self, batch):
        logits = tf.cast(self.model(batch["image"], training=False), tf.float32)
        labels, weight = batch["label"], batch["weight"]
        # argmax of NaN logits is class 0, which a tenth of the images would be: a non-finite output is never right.
        finite = tf.reduce_all(tf.math.is_finite(logits), axis=-1)
        correct = tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), labels) & finite, tf.float32)
        top5 = tf.cast((_ranks(labels, logits) < 5) & finite, tf.float32)
        losses = smoothed_cross_entropy(labels, logits)
        columns = tf.stack([tf.ones_like(weight), correct, top5, losses])
        return tf.reduce_sum(tf.cast(tf.where(weight > 0, columns, 0.0), tf.float64), axis=1)


def _ranks(labels, logits):
    """How many classes come before the label's: those with a larger logit, or an equal one and a smaller number.

    As argmax decides. tf.math.in_top_k counts every tie as in, so a network that says the same of all classes would have a
    top-5 accuracy of 100%.
    """
    own = tf.gather(logits, labels, batch_dims=1)[:, tf.newaxis]
    earlier = tf.range(logits.shape[-1])[tf.newaxis] < labels[:, tf.newaxis]
    return tf.reduce_sum(tf.cast((logits > own) | ((logits == own) & earlier), tf.int32), axis=-1)
