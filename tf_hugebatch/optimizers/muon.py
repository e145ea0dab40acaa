"""Muon: momentum whose matrices are orthogonalised, and Adam for what is no matrix."""

import dataclasses
import math

import tensorflow as tf

from tf_hugebatch.keras_versions import register_serializable
from tf_hugebatch.optimizers import norms, roles
from tf_hugebatch.optimizers.adam import adam_scalars, ahead, bias_correction, update_by_adam
from tf_hugebatch.optimizers.arguments import (
    check_choice, check_count, check_flag, check_memory, check_number, preset_arguments)
from tf_hugebatch.optimizers.base import HugeBatchOptimizer
from tf_hugebatch.optimizers.sgd import accumulate
from tf_hugebatch.parsers import LARGEST

#: Jordan et al. 2024. Five iterations take what is 0.005 of the norm, or more, to between 0.68 and 1.16; three, to 0.2 and up.
QUINTIC = (3.4445, -4.775, 2.0315)
#: Liu et al. 2025, arXiv 2502.16982, section 2.2: the root mean square of AdamW's updates.
ADAM_RMS = 0.2
# Powers of two that bring a matrix to where no square of an entry that matters leaves float32, from either side.
SMALL, LARGE, TOWARDS_ONE = 2.0 ** -40, 2.0 ** 40, 2.0 ** 80
# An embedding's rows are looked up, never multiplied as a matrix.
NEVER_BY_DEFAULT = (*roles.DEFAULT_EXCLUDED, "embedding")
UPDATE_SCALES = {
    "width": lambda fan_in, fan_out: math.sqrt(max(1.0, fan_out / fan_in)),
    "rms": lambda fan_in, fan_out: ADAM_RMS * math.sqrt(max(fan_in, fan_out)),
    "none": lambda fan_in, fan_out: 1.0,
}


def orthogonalize(matrix, steps, coefficients=QUINTIC, epsilon=0.0):
    """About U V^T for matrix = U S V^T: the singular values, divided by their root sum of squares, brought near 1.

    ```
    x = matrix / (||matrix|| + epsilon)                    # 0 where that is 0
    x = a x + (b x x^T + c (x x^T)^2) x                    # `steps` times: s -> a s + b s^3 + c s^5
    ```

    By the smaller of x x^T and x^T x, which is the same: 2 m^2 n + m^3 multiply-adds an iteration for m <= n. In float32
    whatever the precision policy: bfloat16, which published code for GPUs takes, moves the result by 3% (root mean square, a
    random matrix of 3136 x 1024), and layouts are to agree to 1e-6.

    The norm is that of the matrix times a power of two where its entries are tiny or huge: a velocity that decays (a layer
    that died) goes through every size down to 0, and squares that float32 takes for 0 would leave a norm too short, an x too
    long, and the quintic runs away.

    matrix: float32 [fan_in, fan_out]. coefficients: (a, b, c). epsilon: at least 0.
    """
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    largest = tf.reduce_max(tf.abs(matrix))
    scale = tf.where(largest < SMALL, TOWARDS_ONE, tf.where(largest > LARGE, 1.0 / TOWARDS_ONE, 1.0))
    matrix *= scale
    x = tf.math.divide_no_nan(matrix, norms.norm(matrix) + scale * epsilon)
    for _ in range(steps):
        gram = tf.matmul(x, x, transpose_a=tall, transpose_b=not tall)
        polynomial = b * gram + c * tf.matmul(gram, gram)
        x = a * x + (tf.matmul(x, polynomial) if tall else tf.matmul(polynomial, x))
    return x


@register_serializable
class Muon(HugeBatchOptimizer):
    """Momentum, orthogonalised by Newton-Schulz iterations, for matrices; Adam for the other variables.

    A kernel, as a matrix [fan_in, fan_out] (of a convolution: [height * width * channels in, channels out]; the last axis is
    taken for fan_out, which it is not in Conv2DTranspose and DepthwiseConv, and not all of it in EinsumDense and attention:
    name such kernels in exclude_from_orthogonalization):

    ```
    v = momentum * v + g
    h = v                                                  # nesterov: h = momentum * v + g
    u = scale * orthogonalize(h) + weight_decay * w
    w = w - learning_rate * u
    ```

    with, by `update_scale`, scale = sqrt(max(1, fan_out / fan_in)) ("width"), 0.2 sqrt(max(fan_in, fan_out)) ("rms") or 1
    ("none"). Without newton_schulz_epsilon the scale of g has no influence, as long as float32 holds it. With
    `bias_correction` nesterov looks ahead by what the moving averages are without their start at 0:

    ```
    h = momentum * (1 - momentum^t) / (1 - momentum^(t+1)) * v + g
    ```

    Any other variable: w = w - adam_rate_ratio * learning_rate * u with u of `Adam`, nesterov if `adam_nesterov`.

    `layerwise=True`: w = w - learning_rate * r * u, where

    ```
    r = trust_coefficient * ||w|| / ||u||                  # 1 where a norm is 0, or excluded
    r = min(max(r, lower), upper)                          # with trust_bounds
    ```

    Every replica orthogonalises every matrix: the update is the same everywhere without a second all-reduce, and costs what
    it costs on one device.

    Arguments not listed: see `HugeBatchOptimizer`; decoupled decay takes learning_rate * weight_decay for all variables.

    Args:
        momentum: in [0, 1).
        nesterov: whether to orthogonalise the velocity after one more accumulation.
        bias_correction: whether that step ahead corrects the velocity's start at 0.
        newton_schulz_steps: iterations, at least 1.
        newton_schulz_coefficients: (a, b, c) of every iteration.
        newton_schulz_epsilon: at least 0, added to the norm that h is divided by: what is much smaller takes shorter steps.
        update_scale: "width", "rms" or "none".
        exclude_from_orthogonalization: variables for Adam, like the output layer for many users: None (biases, norm scales
            and offsets, embeddings), () or regular expressions. What has fewer than two axes is always Adam's.
        reshape_kernels: whether kernels of more than two axes are orthogonalised too; else they are Adam's.
        adam_rate_ratio: > 0, Adam's rate over learning_rate.
        adam_nesterov, beta_1, beta_2, epsilon, epsilon_placement: Adam's.

    Raises:
        TypeError, ValueError: for a value out of its range.

    References: Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks, kellerjordan.github.io/posts/muon;
    Liu et al. 2025, arXiv 2502.16982 ("rms").
    """

    slots = (("momentum", 0.0), ("velocity", 0.0))

    def __init__(self, learning_rate, *, momentum=0.9, nesterov=True, bias_correction=False, newton_schulz_steps=5,
                 newton_schulz_coefficients=QUINTIC, newton_schulz_epsilon=0.0, update_scale="width",
                 exclude_from_orthogonalization=None,
                 reshape_kernels=True, adam_rate_ratio=0.1, adam_nesterov=False, beta_1=0.9, beta_2=0.999, epsilon=1e-7,
                 epsilon_placement="uncorrected", weight_decay=0.0, decoupled_weight_decay=False, layerwise=False,
                 trust_coefficient=1.0, trust_bounds=None, trust_bounds_schedule="fixed", trust_bounds_rate=1e-3,
                 exclude_from_decay=None, exclude_from_adaptation=None, fixed_trust_ratios=None, clip_global_norm=None,
                 name="muon"):
        super().__init__(
            learning_rate, weight_decay=weight_decay, layerwise=layerwise,
            trust_coefficient=trust_coefficient, trust_bounds=trust_bounds,
            trust_bounds_schedule=trust_bounds_schedule, trust_bounds_rate=trust_bounds_rate,
            exclude_from_decay=exclude_from_decay, exclude_from_adaptation=exclude_from_adaptation,
            fixed_trust_ratios=fixed_trust_ratios, clip_global_norm=clip_global_norm, name=name,
            decoupled_weight_decay=decoupled_weight_decay)
        self.momentum = check_number("momentum", momentum, 0.0, 1.0, but=1.0)
        self.nesterov = check_flag("nesterov", nesterov)
        self.bias_correction = check_flag("bias_correction", bias_correction)
        if self.bias_correction:
            check_memory("momentum", self.momentum)  # beyond, 1 - momentum^t is 0 in float32
        self.newton_schulz_steps = check_count("newton_schulz_steps", newton_schulz_steps)
        if not isinstance(newton_schulz_coefficients, (list, tuple)) or len(newton_schulz_coefficients) != 3:
            raise ValueError(f"newton_schulz_coefficients={newton_schulz_coefficients!r}: give three, of s, s^3 and s^5")
        self.newton_schulz_coefficients = tuple(
            check_number("newton_schulz_coefficients", value, -LARGEST) for value in newton_schulz_coefficients)
        self.newton_schulz_epsilon = check_number("newton_schulz_epsilon", newton_schulz_epsilon, 0.0)
        self.update_scale = check_choice("update_scale", update_scale, tuple(UPDATE_SCALES))
        self.exclude_from_orthogonalization = roles.check_patterns(
            "exclude_from_orthogonalization", exclude_from_orthogonalization)
        self.reshape_kernels = check_flag("reshape_kernels", reshape_kernels)
        self.adam_rate_ratio = check_number("adam_rate_ratio", adam_rate_ratio, 0.0, but=0.0)
        self.adam_nesterov = check_flag("adam_nesterov", adam_nesterov)
        self.beta_1 = check_memory("beta_1", beta_1)
        self.beta_2 = check_memory("beta_2", beta_2)
        self.epsilon = check_number("epsilon", epsilon, 0.0)
        self.epsilon_placement = check_choice(
            "epsilon_placement", epsilon_placement, ("uncorrected", "corrected"))

    @classmethod
    def preset(cls, preset, /, learning_rate, **overrides):
        """The Muon of a public implementation: "keras" or "optax".

        A preset fills the choices that these make differently, not momentum, nesterov or weight_decay; `overrides` are
        constructor arguments. "keras" leaves to Adam what Keras does where embeddings are variables of that name and biases
        have one axis: keras.optimizers.Muon goes by "embedding" anywhere in a path, and takes a bias of two axes for a
        matrix. "optax" leaves out the 1e-8 that optax adds to the norm of a moving average, which is none here. Raises
        ValueError for another name.
        """
        return cls(learning_rate, **{**preset_arguments("muon", preset), **overrides})

    def left_to_adam(self, assignment):
        """Why a variable is Adam's, in words; None for one that is orthogonalised."""
        axes = len(assignment.shape)
        if 0 in assignment.shape:
            return "empty"
        if axes < 2 or axes > 2 and not self.reshape_kernels:
            return f"rank {axes}"
        return roles.excluded_by(assignment.path, assignment.role, self.exclude_from_orthogonalization, NEVER_BY_DEFAULT)

    def role_columns(self):
        return (("orthogonalised", lambda row: f"no ({self.left_to_adam(row)})" if self.left_to_adam(row) else "yes"),)

    def keeps_slot(self, name, assignment):
        return name == "momentum" or self.left_to_adam(assignment) is not None

    def update(self, operand, now):
        if self.left_to_adam(operand.assignment):
            corrections = [bias_correction(beta, now.update) for beta in (self.beta_1, self.beta_2)]
            slower = dataclasses.replace(now, learning_rate=self.adam_rate_ratio * now.learning_rate)
            return update_by_adam(self, operand, slower, *adam_scalars(self.epsilon, *corrections, self.epsilon_placement),
                                  self.adam_nesterov)
        shape = operand.assignment.shape
        fan_in, fan_out = math.prod(shape[:-1]), shape[-1]
        matrix = tf.reshape(self._moved(operand, now), [fan_in, fan_out])
        orthogonal = orthogonalize(matrix, self.newton_schulz_steps, self.newton_schulz_coefficients,
                                   self.newton_schulz_epsilon)
        scale = UPDATE_SCALES[self.update_scale](fan_in, fan_out)
        direction = self.decayed(tf.reshape(orthogonal, shape), operand, scale)
        rate, ratio = self.layerwise_rate(direction, operand, now, scale)
        operand.descend(rate, direction)
        return ratio

    def _moved(self, operand, now):
        """h, after the velocity has moved."""
        velocity, gradient = operand.slots[0], operand.gradient
        if self.nesterov and self.bias_correction and self.momentum:
            return ahead(velocity.set(self.momentum * velocity.value + gradient), gradient, self.momentum, now.update)
        return accumulate(velocity, gradient, self.momentum, self.nesterov)
