"""K-FAC: natural gradients of dense and convolution layers, with Fisher blocks as Kronecker products of two factors."""

import tensorflow as tf

from tf_hugebatch.keras_versions import register_serializable
from tf_hugebatch.optimizers.arguments import check_count, check_flag, check_number
from tf_hugebatch.optimizers.base import HugeBatchOptimizer
from tf_hugebatch.optimizers.sgd import step_with_momentum


#: Axes of a kernel that has factors, at the least: fan_in and fan_out.
FEWEST_AXES = 2
#: The most that one factor is damped more than the other, pi.
MOST_UNEQUAL = 1e6


def damped_inverses(left, right, damping):
    """(A + pi sqrt(damping) I)^-1 and (G + sqrt(damping) / pi I)^-1, pi^2 = (tr A / rows of A) / (tr G / rows of G).

    Factored Tikhonov damping: their product is nearest to the inverse of A (x) G + damping I where the two factors are
    damped in the ratio of their sizes. Martens and Grosse 2015, section 6.3, with the trace norm. pi is 1 where a factor
    is 0, and held within 1e-6 and 1e6: the average of a layer that died goes through every size down to 0, and neither ridge
    may leave float32 on the way.

    Args:
        left, right: A and G, float32, symmetric positive semi-definite.
        damping: > 0.
    """
    sizes = [tf.linalg.trace(factor) / factor.shape[0] for factor in (left, right)]
    both = (sizes[0] > 0.0) & (sizes[1] > 0.0)
    pi = tf.where(both, tf.sqrt(sizes[0]) / tf.sqrt(tf.where(both, sizes[1], 1.0)), 1.0)
    pi = tf.clip_by_value(pi, 1.0 / MOST_UNEQUAL, MOST_UNEQUAL)
    root = damping ** 0.5
    return [tf.linalg.inv(factor + ridge * tf.eye(factor.shape[0]))
            for factor, ridge in ((left, pi * root), (right, root / pi))]


@register_serializable
class KFAC(HugeBatchOptimizer):
    """Kronecker-factored approximate curvature, with the empirical Fisher of the step's own loss.

    A layer's kernel, reshaped to [fan_in, fan_out], and its bias as a further row are one matrix W with the gradient D. What
    the kernel is multiplied by is a, with a 1 for the bias; the gradient of an example's loss by what comes out, before the
    activation, is g; E is the mean over the global batch. For a convolution with T locations t (KFC):

    ```
    A_now = E[sum_t a a^T]                                 # a dense layer: one location, E[a a^T]
    G_now = E[1/T sum_t g g^T]
    s = min(1 - 1/t, statistics_decay)
    A = s * A + (1 - s) * A_now;   G = s * G + (1 - s) * G_now
    pi = sqrt((tr A / rows of A) / (tr G / rows of G))    # within 1e-6 and 1e6
    N = (A + pi * sqrt(damping) * I)^-1 D (G + sqrt(damping) / pi * I)^-1
    ```

    The inverses are taken anew at updates 1, 1 + inverse_interval, 1 + 2 inverse_interval, ...; in between the old ones serve.
    All layers together, and for variables of other layers (scales and offsets of norms among them) the gradient itself as n:

    ```
    c = min(1, sqrt(kl_clip / (learning_rate^2 * sum over layers of <N, D>)))        # 1 without kl_clip
    n = c * N
    d = n + weight_decay * w
    v = momentum * v + learning_rate * d
    w = w - v                                              # nesterov: w - (momentum * v + learning_rate * d)
    ```

    learning_rate^2 <N, D> is about twice the change of the model's distribution, as a Kullback-Leibler divergence, that one
    step without momentum makes. With momentum 0 there is no v, with inverse_interval 1 the inverses are no state. The factors
    are those of the gradients before clip_global_norm.

    It needs what layers saw, which only the step of this package tells: `layers.Dense` and `layers.Conv2D`, of which the
    models here are made, leave it there. Keras' own layers, whose kernels take the plain rule, do not, nor does `fit`. When it
    is built it knows variables, not layers: every kernel of two axes or more has the memory of factors, theirs unused.

    Arguments not listed: see `HugeBatchOptimizer`.

    Args:
        momentum: in [0, 1).
        nesterov: whether to step by the velocity after one more accumulation.
        damping: > 0.
        statistics_decay: in [0, 1], memory of the moving averages; with 1 they are means over all updates.
        inverse_interval: at least 1, in updates.
        kl_clip: None, or > 0.

    Raises:
        ValueError: for an update without factors, as `fit` asks for it.

    References: Martens and Grosse 2015, arXiv 1503.05671; Grosse and Martens 2016, arXiv 1602.01407 (convolutions); Ba et al.
    2017, Distributed second-order optimization using Kronecker-factored approximations (kl_clip); Osawa et al. 2020, arXiv
    2002.06015 (empirical Fisher).
    """

    needs_factors = True

    def __init__(self, learning_rate, *, momentum=0.9, nesterov=False, damping=1e-3, statistics_decay=0.95,
                 inverse_interval=1, kl_clip=1e-3, weight_decay=0.0, decoupled_weight_decay=False, exclude_from_decay=None,
                 clip_global_norm=None, name="kfac"):
        super().__init__(
            learning_rate, weight_decay=weight_decay, layerwise=False, trust_coefficient=1.0, trust_bounds=None,
            trust_bounds_schedule="fixed", trust_bounds_rate=0.0, exclude_from_decay=exclude_from_decay,
            exclude_from_adaptation=None, fixed_trust_ratios=None, clip_global_norm=clip_global_norm, name=name,
            decoupled_weight_decay=decoupled_weight_decay)
        self.momentum = check_number("momentum", momentum, 0.0, 1.0, but=1.0)
        self.nesterov = check_flag("nesterov", nesterov)
        self.damping = check_number("damping", damping, 0.0, but=0.0)
        self.statistics_decay = check_number("statistics_decay", statistics_decay, 0.0, 1.0)
        self.inverse_interval = check_count("inverse_interval", inverse_interval)
        self.kl_clip = None if kl_clip is None else check_number("kl_clip", kl_clip, 0.0, but=0.0)
        self.slots = (("momentum", 0.0),) if self.momentum else ()

    def require_factors(self, factors):
        super().require_factors(factors)
        if not self.built:
            return
        kept = [path for path, slots in zip(self._paths, self._factor_variables) if slots]
        strangers = sorted({*factors} - {*kept})
        if strangers:
            raise ValueError(f"factors of {', '.join(strangers)}: {self.name} was built without such kernels; it keeps factors "
                             f"of {', '.join(kept) or 'none'}")

    def _bias_of(self, path):
        """The place in the role table of the bias beside a kernel, or None."""
        scope = path.rpartition("/")[0]
        return next((place for place, other in enumerate(self._role_table) if other.path == f"{scope}/bias"), None)

    def factors_of(self, assignment):
        if assignment.path.rpartition("/")[2] != "kernel" or len(assignment.shape) < FEWEST_AXES:
            return ()
        rows = int(tf.TensorShape(assignment.shape[:-1]).num_elements()) + (self._bias_of(assignment.path) is not None)
        kinds = ("statistics",) if self.inverse_interval == 1 else ("statistics", "inverse")
        return [(f"{side}_{kind}", (size, size)) for kind in kinds
                for side, size in (("input", rows), ("output", assignment.shape[-1]))]

    def _inverses(self, factors, seen, now):
        """Of a layer's two damped factors, with this update's in their averages."""
        fraction = tf.maximum(1.0 / now.update, 1.0 - self.statistics_decay)
        averages = [factor.approach(target, fraction) for factor, target in zip(factors[:2], seen, strict=True)]
        kept = factors[2:]
        if not kept:
            return damped_inverses(*averages, self.damping)
        inverses = tf.cond(now.is_due(self.inverse_interval), lambda: damped_inverses(*averages, self.damping),
                           lambda: [inverse.value for inverse in kept])
        return [inverse.set(value) for inverse, value in zip(kept, inverses, strict=True)]

    def prepare(self, operands, now, factors):
        found, product = [], 0.0
        # By the paths that variables have now: the role table's may be those that they had before they were saved.
        for operand, assignment, path in zip(operands, self._role_table, self._paths, strict=True):
            if path not in factors:
                continue
            gradient, bias = tf.reshape(operand.gradient, [-1, assignment.shape[-1]]), self._bias_of(assignment.path)
            if bias is not None:
                gradient = tf.concat([gradient, operands[bias].gradient[tf.newaxis]], axis=0)
            left, right = self._inverses(operand.factors, factors[path], now)
            natural = tf.matmul(tf.matmul(left, gradient), right)
            product += tf.reduce_sum(natural * gradient)
            found.append((operand, None if bias is None else operands[bias], natural, assignment.shape))
        scale = self._scale(product, now)
        for kernel, bias, natural, shape in found:
            natural = scale * natural
            if bias is not None:
                natural, bias.direction = natural[:-1], natural[-1]
            kernel.direction = tf.reshape(natural, shape)

    def _scale(self, product, now):
        """c."""
        if self.kl_clip is None:
            return 1.0
        return tf.minimum(1.0, tf.sqrt(self.kl_clip / tf.maximum(tf.square(now.learning_rate) * product, 1e-30)))

    def update(self, operand, now):
        direction = self.decayed(operand.direction, operand)
        if self.momentum:
            step_with_momentum(operand, operand.slots[0], now.learning_rate * direction, 1.0, self.momentum, self.nesterov)
        else:
            operand.descend(now.learning_rate, direction)
        return tf.constant(1.0)
