"""Shampoo: gradients turned by the inverse fourth roots of two Kronecker factors per kernel, at another rule's length."""

import tensorflow as tf

from tf_hugebatch.keras_versions import register_serializable
from tf_hugebatch.optimizers import norms, trust
from tf_hugebatch.optimizers.arguments import check_choice, check_count, check_flag, check_number
from tf_hugebatch.optimizers.base import HugeBatchOptimizer
from tf_hugebatch.optimizers.sgd import step_with_momentum


def inverse_root(matrices, power, epsilon):
    """V max(Lambda, epsilon * lambda_max)^(-1 / power) V^T of each symmetric positive semi-definite X = V Lambda V^T.

    The identity where X is 0, which has no largest eigenvalue, and where it is not finite: its factorisation would end the
    program, while the gradient that made it so shows in the step. A floor, where Anil et al. add a ridge: in float32 an
    eigenvalue of 0 comes out as up to 1e-7 of the largest either way, which would move its root by percents beside a ridge
    of 1e-6, and the step with it, since directions that no gradient had yet are amplified most. A floor swallows it.

    Args:
        matrices: float32 [..., n, n].
        power: p, 4 for Shampoo.
        epsilon: > 0.

    Returns:
        float32 [..., n, n].
    """
    finite = tf.reduce_all(tf.math.is_finite(matrices), axis=(-2, -1), keepdims=True)
    values, vectors = tf.linalg.eigh(tf.where(finite, matrices, tf.eye(matrices.shape[-1])))
    largest = values[..., -1:]
    roots = tf.where(largest > 0.0, tf.maximum(values, epsilon * largest), 1.0) ** (-1.0 / power)
    return tf.matmul(vectors * roots[..., tf.newaxis, :], vectors, transpose_b=True)


class Blocks:
    """How a kernel is cut: reshaped to [fan_in, fan_out], and each side into the fewest equal parts within `largest`.

    The last part of a side may be shorter, and is filled up with zeros: their eigenvalues are 0 beside those of what is
    there, and nothing is read back from them.

    Args:
        shape: of the kernel, [..., fan_out], rank at least 2.
        largest: rows or columns that a block has at most.

    Attributes:
        count, rows, columns: blocks, and rows and columns of each.
    """

    def __init__(self, shape, largest):
        self._shape = tuple(shape)
        self._fan_out = self._shape[-1]
        self._fan_in = int(tf.TensorShape(shape[:-1]).num_elements())
        (self._down, self.rows), (self._across, self.columns) = (
            _equal_parts(side, largest) for side in (self._fan_in, self._fan_out))
        self.count = self._down * self._across

    def cut(self, kernel):
        """[count, rows, columns] of a tensor of the kernel's shape."""
        matrix = tf.reshape(kernel, [self._fan_in, self._fan_out])
        matrix = tf.pad(matrix, [[0, self._down * self.rows - self._fan_in], [0, self._across * self.columns - self._fan_out]])
        parts = tf.transpose(tf.reshape(matrix, [self._down, self.rows, self._across, self.columns]), [0, 2, 1, 3])
        return tf.reshape(parts, [self.count, self.rows, self.columns])

    def join(self, parts):
        """The tensor of the kernel's shape whose `cut` is `parts`."""
        parts = tf.transpose(tf.reshape(parts, [self._down, self._across, self.rows, self.columns]), [0, 2, 1, 3])
        matrix = tf.reshape(parts, [self._down * self.rows, self._across * self.columns])
        return tf.reshape(matrix[:self._fan_in, :self._fan_out], self._shape)


def _equal_parts(side, largest):
    parts = -(-side // largest)
    return parts, -(-side // parts)


@register_serializable
class Shampoo(HugeBatchOptimizer):
    """Momentum SGD, or LARS, on gradients that Shampoo has turned.

    A kernel is reshaped to [fan_in, fan_out], fan_in = height * width * channels for a convolution and fan_out the last axis of
    any kernel, and cut into blocks of at most block_size rows and columns. For each block G of the gradient:

    ```
    L = s * L + c * G G^T                                  # c = 1 - s; with statistics_decay s = 1 a sum: c = 1
    R = s * R + c * G^T G
    P = L^(-1/4) G R^(-1/4)                                # eigenvalues below epsilon * the largest count as that
    ```

    The roots are taken anew at updates 1, 1 + inverse_interval, 1 + 2 inverse_interval, ...; in between the old ones serve.
    The blocks of P joined, and for biases, scales, offsets and embeddings the gradient itself:

    ```
    p = P * ||g|| / ||P||                                  # 0 where P is 0: direction from Shampoo, length from g
    d = p + weight_decay * w
    r = 1                                                                   # grafting="sgd"
    r = trust_coefficient * ||w|| / (||g|| + weight_decay * ||w||)          # grafting="lars"; 1 where a norm is 0
    v = momentum * v + learning_rate * r * d
    w = w - v                                              # nesterov: w - (momentum * v + learning_rate * r * d)
    ```

    A factor on a gradient or on L and R changes no direction, so the moving averages need no correction for their start at
    0. With momentum 0 there is no v, with inverse_interval 1 the roots are no state.

    Arguments not listed: see `HugeBatchOptimizer`.

    Args:
        momentum: in [0, 1).
        nesterov: whether to step by the velocity after one more accumulation.
        epsilon: > 0, floor of a factor's eigenvalues, relative to its largest.
        statistics_decay: s in [0, 1]; below 1 the statistics are moving averages, with 1 they are sums.
        block_size: at least 1.
        inverse_interval: at least 1, in updates.
        grafting: "sgd" or "lars", whose length an update has.

    References: Gupta et al. 2018, arXiv 1802.09568, algorithm 1; Anil et al. 2020, arXiv 2002.09018 (blocks, intervals,
    grafting).
    """

    def __init__(self, learning_rate, *, momentum=0.9, nesterov=False, epsilon=1e-6, statistics_decay=1.0, block_size=512,
                 inverse_interval=1, grafting="sgd", weight_decay=0.0, decoupled_weight_decay=False, trust_coefficient=1.0,
                 exclude_from_decay=None, exclude_from_adaptation=None, clip_global_norm=None, name="shampoo"):
        check_choice("grafting", grafting, ("sgd", "lars"))
        if grafting == "sgd" and (trust_coefficient != 1.0 or exclude_from_adaptation is not None):
            raise ValueError(
                f"trust_coefficient={trust_coefficient!r}, exclude_from_adaptation={exclude_from_adaptation!r}: with "
                f"grafting='sgd' there is no trust ratio for them to act on. Give grafting='lars' or leave them out")
        super().__init__(
            learning_rate, weight_decay=weight_decay, layerwise=grafting == "lars", trust_coefficient=trust_coefficient,
            trust_bounds=None, trust_bounds_schedule="fixed", trust_bounds_rate=0.0,
            exclude_from_decay=exclude_from_decay, exclude_from_adaptation=exclude_from_adaptation,
            fixed_trust_ratios=None, clip_global_norm=clip_global_norm, name=name,
            decoupled_weight_decay=decoupled_weight_decay)
        self.grafting = grafting
        self.momentum = check_number("momentum", momentum, 0.0, 1.0, but=1.0)
        self.nesterov = check_flag("nesterov", nesterov)
        self.epsilon = check_number("epsilon", epsilon, 0.0, but=0.0)
        self.statistics_decay = check_number("statistics_decay", statistics_decay, 0.0, 1.0)
        self.block_size = check_count("block_size", block_size)
        self.inverse_interval = check_count("inverse_interval", inverse_interval)
        self.slots = (("momentum", 0.0),) if self.momentum else ()

    def factors_of(self, assignment):
        if assignment.role != "kernel" or len(assignment.shape) < 2 or 0 in assignment.shape:
            return ()
        blocks = Blocks(assignment.shape, self.block_size)
        sides = {"left": blocks.rows, "right": blocks.columns}
        kinds = ("statistics",) if self.inverse_interval == 1 else ("statistics", "root")
        return [(f"{side}_{kind}", (blocks.count, size, size)) for kind in kinds for side, size in sides.items()]

    def _gathered(self, statistics, addend):
        """The statistics with this update's in them, stored."""
        if self.statistics_decay == 1.0:
            return statistics.set(statistics.value + addend)
        return statistics.approach(addend, 1.0 - self.statistics_decay)

    def _roots(self, statistics, kept, now):
        """Of both sides' statistics; those that are kept where none are due."""

        def new():
            return [inverse_root(side, 4, self.epsilon) for side in statistics]

        if not kept:
            return new()
        roots = tf.cond(now.is_due(self.inverse_interval), new, lambda: [root.value for root in kept])
        return [root.set(value) for root, value in zip(kept, roots, strict=True)]

    def _turned(self, operand, now):
        """p: the gradient's length in Shampoo's direction."""
        if not operand.factors:
            return operand.gradient
        blocks = Blocks(operand.assignment.shape, self.block_size)
        parts = blocks.cut(tf.ensure_shape(operand.gradient, operand.assignment.shape))
        products = tf.matmul(parts, parts, transpose_b=True), tf.matmul(parts, parts, transpose_a=True)
        statistics = [self._gathered(*pair) for pair in zip(operand.factors[:2], products)]
        left, right = self._roots(statistics, operand.factors[2:], now)
        turned = blocks.join(tf.matmul(tf.matmul(left, parts), right))
        return tf.math.divide_no_nan(operand.gradient_norm, norms.norm(turned)) * turned

    def _ratio(self, operand):
        if not self.scales(operand):
            return tf.constant(1.0)
        weight_decay = self.weight_decay if self.adds_decay(operand) else 0.0
        return trust.sum_trust_ratio(operand.weight_norm, operand.gradient_norm, weight_decay, self.trust_coefficient)

    def update(self, operand, now):
        direction = self.decayed(self._turned(operand, now), operand)
        ratio = self._ratio(operand)
        rate = now.learning_rate * ratio
        if self.momentum:
            step_with_momentum(operand, operand.slots[0], rate * direction, 1.0, self.momentum, self.nesterov)
        else:
            operand.descend(rate, direction)
        return ratio
