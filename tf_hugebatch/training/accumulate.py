"""One micro-batch on one replica: forward, backward, and sums that wait for the end of the update."""

import tensorflow as tf

from .. import replica
from ..keras_versions import all_layers, native, variable_path
from ..layers import FactoredLayer, GhostBatchNormalization


def batch_norm_layers(model):
    """The model's GhostBatchNormalization layers whose statistics move, however deep they are nested, in a fixed order: those
    that are not frozen."""
    return [layer for layer in all_layers(model) if isinstance(layer, GhostBatchNormalization) and layer.trainable]


def factored_layers(model, optimizer):
    """{path of a kernel: its layer}, for the layers whose factors the optimizer needs; empty where it needs none.

    Raises:
        ValueError: it needs factors and no layer has any, or two variables have the path of such a kernel.
    """
    if not optimizer.needs_factors:
        return {}
    layers = [layer for layer in all_layers(model) if isinstance(layer, FactoredLayer) and layer.trainable]
    found = {variable_path(layer.kernel): layer for layer in layers}
    paths = [variable_path(variable) for variable in model.trainable_variables]
    if twice := sorted(path for path in found if paths.count(path) > 1):
        raise ValueError(f"{optimizer.name} knows a layer by the path of its kernel, and several variables of {model.name} "
                         f"have the path {', '.join(twice)}: give these layers names of their own, name=\"...\".")
    if not found:
        raise ValueError(f"{optimizer.name} needs layers that leave their inputs and outputs, and {model.name} has none: "
                         f"build it of hb.layers.Dense and hb.layers.Conv2D, or choose another optimizer.")
    return found


def smoothed_cross_entropy(labels, logits, smoothing=0.0, noise=None):
    """Cross-entropy per example with label smoothing (Szegedy et al. 2016, section 7; rung 3 of the paper's ladder).

        loss_i = -sum_c q_ic log softmax(logits_i)_c,   q = (1 - smoothing) onehot + smoothing / classes + noise

    Args:
        labels: int32 [m].
        logits: [m, classes]; taken as float32.
        smoothing: in [0, 1).
        noise: None, or float32 [m, classes] (appendix 6.3).

    Returns:
        float32 [m].
    """
    logits = tf.cast(logits, tf.float32)
    classes = logits.shape[-1]
    if not smoothing and noise is None:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    target = tf.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes
    if noise is None:
        return tf.nn.softmax_cross_entropy_with_logits(labels=target, logits=logits)
    # Keras' and TensorFlow's own take targets for shares that sum to 1, which noisy ones don't.
    return -tf.reduce_sum((target + noise) * tf.nn.log_softmax(logits), -1)


class Accumulators:
    """Per-replica sums over the micro-batches of one update.

    ON_READ variables: each replica adds to its own without any communication; `Step.apply` sums over replicas once.
    They are owned by the step and never checkpointed: the first micro-batch of an update overwrites them.

    Args:
        model: a built Keras model.
        rounds: micro-batches per update, K.
        others: shapes of further tensors to be summed: K-FAC's factors, and those of the probes.

    Attributes:
        rounds: K, which may change between updates.
    """

    def __init__(self, model, rounds, others=()):
        def zeros(shape):
            return tf.Variable(
                tf.zeros(shape),
                trainable=False,
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )

        self.rounds = rounds
        self._gradients = [zeros(variable.shape) for variable in model.trainable_variables]
        self._statistics = [zeros([2, layer.gamma.shape[0]]) for layer in batch_norm_layers(model)]
        self._scalars = zeros([2])
        self._others = [zeros(shape) for shape in others]

    @property
    def variables(self):
        """All of them: gradients, statistics, loss and accuracy, others."""
        return [*self._gradients, *self._statistics, self._scalars, *self._others]

    def add(self, first, gradients, statistics, scalars, others):
        """Takes in one micro-batch's sums on this replica; `first` (bool scalar) starts an update."""
        values = [*gradients, *statistics, scalars, *others]

        def overwrite():
            for accumulator, value in zip(self.variables, values):
                accumulator.assign(value)

        def accumulate():
            for accumulator, value in zip(self.variables, values):
                accumulator.assign_add(value)

        # Overwriting hands the gradient's buffer over: an update of one micro-batch costs no pass over memory here,
        # and none sets anything back to zero.
        if self.rounds == 1:
            overwrite()
        else:
            tf.cond(first, overwrite, accumulate)

    def summed(self, all_reduce_sum):
        """(gradients, statistics, scalars, others), summed over replicas in one call of `all_reduce_sum`."""
        values = iter(all_reduce_sum([accumulator.read_value() for accumulator in self.variables]))
        gradients, statistics = ([next(values) for _ in part] for part in (self._gradients, self._statistics))
        return gradients, statistics, next(values), list(values)


def micro_batch_sums(model, view, images, labels, smoothing, noise=None, factored=()):
    """Forward and backward over one micro-batch on one replica.

    What comes back is this micro-batch's share of the global batch: sums over its examples, divided by B. Adding up
    over micro-batches and replicas is all that is left to do.

    Args:
        model: a built Keras model: float32 [m, ...] -> logits [m, classes].
        view: this replica's `replica.View`.
        images: float32 [m, ...].
        labels: int32 [m].
        smoothing: label smoothing, in [0, 1).
        noise: None or a `diagnostics.NoiseInjection`.
        factored: layers whose factors are wanted.

    Returns:
        (gradients, one per trainable variable; batch statistics, [2, channels] per batch-norm layer; float32 [2]:
        loss and accuracy; factors, A and G per factored layer, one after the other).
    """
    if factored:
        view.calls = {}
    share = view.weights / view.layout.batch_size
    with replica.scope(view), tf.GradientTape() as tape:
        logits = model(images, training=True)
        targets = noise.targets(view, logits.shape[-1]) if noise else None
        loss = tf.reduce_sum(share * smoothed_cross_entropy(labels, logits, smoothing, targets))
    variables = [native(variable) for variable in model.trainable_variables]
    seen = [(layer, *call) for layer in factored for call in view.calls.get(layer, ())]
    gradients = tape.gradient(loss, [*variables, *(outputs for _, _, outputs in seen)],
                              unconnected_gradients=tf.UnconnectedGradients.ZERO)
    correct = tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), labels), tf.float32)
    # A layer that is called twice has the mean over its calls.
    statistics = [
        tf.add_n(view.statistics[layer]) / (len(view.statistics[layer]) * view.layout.batch_size)
        for layer in batch_norm_layers(model)
    ]
    factors = _factors(factored, seen, gradients[len(variables):], view)
    return gradients[:len(variables)], statistics, tf.stack([loss, tf.reduce_sum(share * correct)]), factors


def _factors(factored, seen, gradients, view):
    """A and G of each layer, over the locations of all its calls; zeros for one that is not called."""
    calls = {layer: [] for layer in factored}
    for (layer, inputs, _), gradient in zip(seen, gradients, strict=True):
        calls[layer].append((inputs, gradient))
    factors = []
    for layer, of_layer in calls.items():
        locations = tf.add_n([layer.locations(gradient) for _, gradient in of_layer]) if of_layer else 1.0
        sums = [layer.factor_sums(inputs, gradient, view.weights, view.layout.batch_size, locations)
                for inputs, gradient in of_layer] or [[tf.zeros([size, size]) for size in layer.factor_sizes]]
        factors += map(tf.add_n, zip(*sums))
    return factors
