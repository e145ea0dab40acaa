"""Surveys: diagnostics that look at the loss of many examples at the weights of one moment, beside each evaluation.

The loss is cross-entropy without label smoothing or decay, on training images as they are stored (no augmentation), with
dropout off and batch norm's moving statistics: what differs between two surveys is the weights. A Hessian is what automatic
differentiation gives: of a network with ReLU or max pooling the one between its kinks, which it doesn't see.
"""

import time

import numpy as np
import tensorflow as tf

from .. import registry
from ..data.order import epoch_permutation
from ..data.padding import evaluation_batches
from ..keras_versions import as_written, native
from .strategy import host_of

#: Examples of a round, over all replicas: the smallest batch whose signal and noise are measured.
ROUND = 64


class Surveys:
    """The surveys of a run.

    Args:
        names: rows of the registry's diagnostics that are taken at evaluations.
        strategy, model: of the run.
        split: the training split.
        batch_size: examples at once over all replicas for a product with the Hessian; changes speed and memory alone.
        settings: seed, which orders the examples, and survey_examples, of whose loss the sharpness is.
    """

    def __init__(self, names, strategy, model, split, batch_size, settings):
        self.names = names
        self._strategy, self._model, self._split, self._batch_size = strategy, model, split, batch_size
        self._seed, self._examples = settings.seed, min(settings.survey_examples, len(split))
        self._sizes = [int(np.prod(variable.shape)) for variable in model.trainable_variables]
        self._gradient = tf.function(lambda batch: self._summed(self._one_gradient, batch))
        self._count = tf.function(lambda batch: self._summed(self._one_count, batch))
        self._product = tf.function(lambda batch, vector: self._summed(self._one_product, batch, vector))

    def __call__(self):
        """Yields (name, the row's numbers, the seconds that they took)."""
        taken = {"snr": self._snr, "sharpness": self._sharpness}
        for name in self.names:
            began = time.monotonic()
            numbers = taken[name](registry.DIAGNOSTICS[name].resolve())
            yield name, numbers, time.monotonic() - began

    def _snr(self, measure):
        each, batches = self._batches(len(self._split), ROUND)
        found = (self._gradient(batch) for batch in batches)
        return measure(((gradient.numpy(), int(count)) for gradient, count in found),
                       each * self._strategy.num_replicas_in_sync)

    def _sharpness(self, measure):
        _, batches = self._batches(self._examples, self._batch_size)
        batches = list(batches)  # read once, for tens of products
        read = sum(int(count) for batch in batches for count in self._count(batch))  # an image may turn out to be damaged

        def product(vector):
            vector = tf.constant(vector, tf.float32)
            return sum(self._product(batch, vector)[0].numpy().astype(np.float64) for batch in batches) / read

        return {"examples": read, **measure(product, sum(self._sizes))}

    def _batches(self, examples, size):
        """(examples of a replica at a time, the first `examples` of a permutation of the training set, about `size` over all
        replicas at a time).
        """
        replicas = self._strategy.num_replicas_in_sync
        each = min(max(1, size // replicas), -(-examples // replicas))
        split = self._split.take(epoch_permutation(self._seed, 0, len(self._split))[:examples])
        return each, iter(self._strategy.distribute_datasets_from_function(
            lambda context: evaluation_batches(split, each, replicas, host_of(context))))

    @as_written
    def _summed(self, one, *arguments):
        parts = self._strategy.run(one, args=arguments)
        return [self._strategy.reduce(tf.distribute.ReduceOp.SUM, part, axis=None) for part in parts]

    # Replica context. Sums over examples, so that padding, of weight 0, counts nowhere.

    def _variables(self):
        return [native(variable) for variable in self._model.trainable_variables]

    def _loss(self, batch):
        logits = tf.cast(self._model(batch["image"], training=False), tf.float32)
        # Over one-hot labels, since the loss of sparse ones has no second derivative.
        losses = tf.nn.softmax_cross_entropy_with_logits(tf.one_hot(batch["label"], logits.shape[-1]), logits)
        return tf.reduce_sum(tf.where(batch["weight"] > 0, losses, 0.0))

    def _one_gradient(self, batch):
        """(gradient [parameters], examples)."""
        return _flat(self._gradients(batch)), *self._one_count(batch)

    def _one_count(self, batch):
        """(examples,)."""
        return (tf.reduce_sum(batch["weight"]),)

    def _gradients(self, batch):
        with tf.GradientTape() as tape:
            loss = self._loss(batch)
        return tape.gradient(loss, self._variables(), unconnected_gradients=tf.UnconnectedGradients.ZERO)

    def _one_product(self, batch, vector):
        """(the Hessian times `vector` [parameters],): the gradient of gradient . vector (Pearlmutter 1994)."""
        parts = [tf.reshape(part, variable.shape) for part, variable in zip(tf.split(vector, self._sizes), self._variables())]
        with tf.GradientTape() as tape:
            along = tf.add_n([tf.reduce_sum(gradient * part) for gradient, part in zip(self._gradients(batch), parts)])
        return (_flat(tape.gradient(along, self._variables(), unconnected_gradients=tf.UnconnectedGradients.ZERO)),)


def _flat(tensors):
    return tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], 0)
