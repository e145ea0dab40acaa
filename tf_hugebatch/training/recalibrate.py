"""Batch-norm statistics made anew from training data, for an evaluation (`--recalibrate_bn_batches`).

A run of few updates leaves the initial values in its moving averages (0.9^22 is 0.1), and they lag behind weights that
move fast. The mean over n global batches of the weights as they are does neither (Wu and Johnson 2021, "Rethinking 'Batch'
in BatchNorm", section 3).
"""

import contextlib

import tensorflow as tf

from .. import replica
from ..keras_versions import as_written
from .accumulate import batch_norm_layers


class Recalibration:
    """Re-estimates the moving statistics of a model.

        mean = sum over n batches, groups g of n_g mean_g / (n B),    variance likewise

    the same count-weighted means that one update contributes to the moving averages. Forward passes only; a layout
    changes nothing but rounding, and replicas stay identical.

    Args:
        strategy, model, layout, seed: as `step.Step`.
    """

    def __init__(self, strategy, model, layout, seed):
        self._strategy, self._model, self._layout, self._seed = strategy, model, layout, seed
        self._layers = batch_norm_layers(model)
        self._run = tf.function(self._sums)

    def assign(self, iterator, batches, done):
        """Replaces the moving statistics by those of `batches` global batches of micro-batches from `iterator`.

        done: updates that the weights have seen, by which injected noise has decayed.
        """
        sums = self._run(iterator, tf.constant(batches * self._layout.rounds), tf.constant(done, tf.int64))
        self._set([tuple(tf.unstack(total / batches)) for total in sums])

    @contextlib.contextmanager
    def __call__(self, iterator, batches, done):
        """Inside the context the model has the new statistics, after it those that training left."""
        before = [(layer.moving_mean.numpy(), layer.moving_variance.numpy()) for layer in self._layers]
        try:
            self.assign(iterator, batches, done)
            yield
        finally:
            self._set(before)

    def _set(self, statistics):
        with self._strategy.scope():
            for layer, (mean, variance) in zip(self._layers, statistics):
                layer.moving_mean.assign(mean)
                layer.moving_variance.assign(variance)

    def _sums(self, iterator, micro_batches, done):
        sums = [tf.zeros([2, layer.gamma.shape[0]]) for layer in self._layers]
        for _ in tf.range(micro_batches):
            parts = self._strategy.run(self._one, args=(next(iterator), done))
            sums = [total + self._strategy.reduce(tf.distribute.ReduceOp.SUM, part, axis=None)
                    for total, part in zip(sums, parts)]
        return sums

    @as_written
    def _one(self, micro_batch, done):
        view = replica.View(
            layout=self._layout, positions=micro_batch["position"], weights=micro_batch["weight"],
            update=done, seed=self._seed,
            all_reduce_sum=replica.collective_of(self._strategy), one_program=replica.is_one_program(self._strategy),
        )
        with replica.scope(view):
            self._model(micro_batch["image"], training=True)
        return [tf.add_n(view.statistics[layer]) / (len(view.statistics[layer]) * self._layout.batch_size)
                for layer in self._layers]
