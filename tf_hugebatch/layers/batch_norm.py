"""Batch normalisation over groups of a fixed number of examples, wherever those examples lie."""

import numbers

import keras
import tensorflow as tf

from .. import replica
from ..keras_versions import FLOAT32_WEIGHT, MEAN_OVER_REPLICAS, register_serializable
from ..layout import Layout


@register_serializable
class GhostBatchNormalization(keras.layers.Layer):
    """Batch norm whose statistics are shared by the `span` examples of a group (ghost batch norm, Hoffer et al. 2017).

        mean_g = sum_(i in g) x_i / n_g          variance_g = sum_(i in g) (x_i - mean_g)^2 / n_g
        y_i = gamma * (x_i - mean_g(i)) / sqrt(variance_g(i) + epsilon) + beta
        moving = momentum * moving + (1 - momentum) * sum_g n_g statistic_g / sum_g n_g     (once per update)

    A global batch of B examples falls into ceil(B / span) groups of consecutive positions whose sizes differ by at
    most 1. Inside a training step a group may lie inside one replica's micro-batch or, when it is larger, span the
    replicas of a round (Ying et al. 2018, section 3.3; section 4.1 of the paper): two sums over the replicas, of a
    [groups, channels + 1] tensor for the means and then of [groups, channels] about them, so the update is the same.
    Padding has weight 0 in every sum (an example that could not be read has not: it is a grey image of its group). Under
    plain `fit` the groups are laid over each replica's own batch. At inference, and where the layer is not trainable, the
    moving statistics are used. A mask is passed on, and what it hides counts in the statistics.

    Statistics are float32 sums and counts whatever the compute type. Gradients are exact; gradients of these in training are
    not, as of Keras' own layer, since none goes through the mean that squares are taken about.

    Args:
        span: examples that share statistics.
        momentum: of the moving statistics; with few updates a large one leaves the initial values in (0.9 ** 22 is
            0.1).
        epsilon: added to the variance.
        gamma_initializer: "zeros" for the last norm of a residual block (Goyal et al. 2017, section 5.1).
        name: the layer's name.

    Call: float [batch, ..., channels] -> the same shape and dtype.

    Raises:
        ValueError: span below 1, momentum outside [0, 1], a negative epsilon, or a training step whose layout has another span.
    """

    def __init__(self, span, *, momentum=0.9, epsilon=1e-5, gamma_initializer="ones", name=None, **layer_options):
        super().__init__(name=name, **layer_options)
        if isinstance(span, bool) or not isinstance(span, numbers.Integral) or span < 1:
            raise ValueError(f"span={span!r} is no whole number of 1 or more: it counts the examples that share statistics; 64 "
                             f"is usual.")
        if not isinstance(momentum, numbers.Real) or not 0 <= momentum <= 1:
            raise ValueError(f"momentum={momentum!r} is outside [0, 1]; 0.9 is MLPerf's.")
        if isinstance(epsilon, bool) or not isinstance(epsilon, numbers.Real) or not 0 <= epsilon < float("inf"):
            raise ValueError(f"epsilon={epsilon!r} is no number of at least 0: it is added to the variance, under a "
                             f"root; 1e-5 is usual.")
        self.supports_masking = True
        self.span = int(span)
        self.momentum = float(momentum)
        self.epsilon = epsilon
        self.gamma_initializer = keras.initializers.get(gamma_initializer)

    def build(self, input_shape):
        channels = input_shape[-1]
        # Under mixed_bfloat16 the statistics and the affine map stay float32.
        options = {"shape": (channels,), **FLOAT32_WEIGHT}
        self.gamma = self.add_weight(name="gamma", initializer=self.gamma_initializer, **options)
        self.beta = self.add_weight(name="beta", initializer="zeros", **options)
        # Inside a step replicas write equal values; under fit each has its own and the mean of them is kept.
        moving = {**options, "trainable": False, "aggregation": MEAN_OVER_REPLICAS}
        self.moving_mean = self.add_weight(name="moving_mean", initializer="zeros", **moving)
        self.moving_variance = self.add_weight(name="moving_variance", initializer="ones", **moving)
        self.built = True

    def call(self, inputs, training=False):
        x = tf.cast(inputs, tf.float32)
        if not (training and self.trainable):
            y = self._normalise(x, self.moving_mean[tf.newaxis], self.moving_variance[tf.newaxis])
            return tf.cast(y, inputs.dtype)
        view = replica.current()
        if view is None:
            assignment, weights = self._groups_of_batch(tf.shape(x)[0])
            mean, variance = self._group_statistics(x, assignment, weights)
            # The last batch of an epoch may leave a replica without examples: it has nothing to tell.
            count = tf.reduce_sum(weights)
            share = tf.math.divide_no_nan(_weighted_sums(mean, variance, weights), count)
            self.update_moving_statistics(share[0], share[1], applied=count > 0)
        else:
            if view.layout.span != self.span:
                raise ValueError(
                    f"{self.name} has span={self.span} but the step's layout has span={view.layout.span}: groups "
                    f"would not match; build the model with the layout's span."
                )
            # Kernels of single groups are what a TPU's compiler does not fuse: 2.5 times the memory traffic of sums.
            if not view.one_program and _cells_are_whole_groups(view.layout):
                return tf.cast(self._fused(x, view), inputs.dtype)
            assignment, weights = _groups_of_view(view), view.real
            reduce = view.all_reduce_sum if view.layout.across_replicas else None
            mean, variance = self._group_statistics(x, assignment, weights, reduce)
            view.record(self, tf.stop_gradient(_weighted_sums(mean, variance, weights)))
        return tf.cast(self._normalise(x, mean, variance), inputs.dtype)

    def _fused(self, x, view):
        """The same, where groups are equal slices of the micro-batch: TensorFlow's own kernel on each of them.

        A slice of padding is normalised by itself and has weight 0 in what is recorded.
        """
        values = tf.cast(tf.reduce_prod(tf.shape(x)[:-1]) // view.layout.groups_held, tf.float32)
        # The kernel gives n / (n - 1) times the variance that it normalises with.
        biased = tf.maximum(values - 1, 1) / values
        channels, outputs, statistics = x.shape[-1], [], []
        for part in tf.split(x, view.layout.groups_held):
            y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=tf.reshape(part, [tf.shape(part)[0], -1, 1, channels]), scale=self.gamma, offset=self.beta,
                mean=tf.zeros([0]), variance=tf.zeros([0]), epsilon=self.epsilon, is_training=True,
            )
            outputs.append(y)
            statistics.append(tf.stack([mean, variance * biased]))
        counts = tf.reduce_sum(tf.reshape(view.real, [view.layout.groups_held, -1]), axis=1)
        view.record(self, tf.stop_gradient(tf.einsum("g,gsc->sc", counts, tf.stack(statistics))))
        return tf.reshape(tf.concat(outputs, axis=0), tf.shape(x))

    def _groups_of_batch(self, size):
        """Plain Keras: the groups rule over the batch at hand, whose size may be known only when it runs."""
        size = tf.cast(size, tf.int64)
        groups = (size + self.span - 1) // self.span
        group = ((tf.range(size) + 1) * groups - 1) // tf.maximum(size, 1)
        return tf.one_hot(group, tf.cast(groups, tf.int32)), tf.ones([size])

    def _group_statistics(self, x, assignment, weights, all_reduce_sum=None):
        """Mean and variance of each example's group, [m, channels] each.

        Args:
            x: float32 [m, ..., channels].
            assignment: float32 one-hot [m, groups]; a padded example has a group too, so that it is normalised to
                ordinary numbers, but weight 0 keeps it out of the sums.
            weights: float32 [m].
            all_reduce_sum: sums a tensor over the replicas that share the groups; None where each has whole groups.
        """
        inner = list(range(1, len(x.shape) - 1))
        values = tf.cast(tf.reduce_prod(tf.shape(x)[1:-1]), tf.float32) * tf.ones_like(weights)[:, tf.newaxis]
        channels, member = x.shape[-1], assignment * weights[:, tf.newaxis]
        sums = tf.einsum("mg,mc->gc", member, tf.concat([tf.reduce_sum(x, inner), values], axis=-1))
        if all_reduce_sum:
            sums = all_reduce_sum(sums)
        total, count = sums[:, :channels], sums[:, channels:]
        mean = tf.math.divide_no_nan(total, count)
        # About the group's mean, which takes replicas a second sum: a difference of means of squares would cancel where the
        # mean is large, and differently for each layout. The sum is least there: no gradient goes through the centre.
        centre = tf.reshape(tf.stop_gradient(tf.einsum("mg,gc->mc", assignment, mean)), [-1, *[1] * len(inner), channels])
        squares = tf.einsum("mg,mc->gc", member, tf.reduce_sum(tf.math.squared_difference(x, centre), inner))
        if all_reduce_sum:
            squares = all_reduce_sum(squares)
        # A group of padding only gets variance 1, so nothing is amplified.
        variance = tf.where(count > 0, tf.math.divide_no_nan(squares, count), 1.0)
        # einsum, not gather: gather's gradient fails across replicas.
        return tf.einsum("mg,gc->mc", assignment, mean), tf.einsum("mg,gc->mc", assignment, variance)

    def _normalise(self, x, mean, variance):
        scale = self.gamma * tf.math.rsqrt(variance + self.epsilon)
        shift = self.beta - mean * scale
        shape = tf.concat([tf.shape(scale)[:1], tf.ones([len(x.shape) - 2], tf.int32), tf.shape(scale)[1:]], axis=0)
        return x * tf.reshape(scale, shape) + tf.reshape(shift, shape)

    def update_moving_statistics(self, mean, variance, applied=True):
        """One moving-average update; `applied` false leaves everything as it is (the sticky non-finite guard).

        Args:
            mean, variance: float32 [channels], count-weighted means over the groups of one update.
            applied: bool scalar tensor.
        """
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            new = self.momentum * moving + (1 - self.momentum) * value
            moving.assign(tf.where(applied, new, moving))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "span": self.span,
            "momentum": self.momentum,
            "epsilon": self.epsilon,
            "gamma_initializer": keras.initializers.serialize(self.gamma_initializer),
        }


def _cells_are_whole_groups(layout):
    """Whether every micro-batch is filled by groups of one size, but for slices that are padding as a whole."""
    even = layout.batch_size % layout.groups == 0
    return even and layout.groups_held * layout.largest_group == layout.micro_batch_size and not layout.across_replicas


def _groups_of_view(view: replica.View):
    """One-hot [m, groups held] of each example's group, counted from the first group of the cell or round."""
    layout: Layout = view.layout
    positions = tf.minimum(view.positions, layout.batch_size - 1)
    group = ((positions + 1) * layout.groups - 1) // layout.batch_size
    # A cell (or a round, when groups span replicas) holds a fixed number of groups, so the offset is the remainder.
    return tf.one_hot(group % layout.groups_held, layout.groups_held)


def _weighted_sums(mean, variance, weights):
    """[2, channels]: this micro-batch's share of sum_g n_g mean_g and sum_g n_g variance_g, counted in examples."""
    weights = weights[:, tf.newaxis]
    return tf.stack([tf.reduce_sum(weights * mean, 0), tf.reduce_sum(weights * variance, 0)])
