"""Adam, original and layer-wise."""

import math

import numpy as np
import tensorflow as tf

from tf_hugebatch.keras_versions import register_serializable
from tf_hugebatch.optimizers.arguments import check_choice, check_flag, check_memory, check_number
from tf_hugebatch.optimizers.base import HugeBatchOptimizer
from tf_hugebatch.optimizers.norms import compiled_by_xla


def has_memory(*betas):
    """Whether each moving average keeps half of itself or more: with less the kernel loses gradients that fall from one
    update to the next in its differences, up to the whole of them, as in Keras' Adam.
    """
    return min(betas) >= 0.5


def adam_step(operand, beta_1, beta_2, rate, epsilon):
    """m and s after this gradient, and w = w - rate * m / (sqrt(s) + epsilon), in one pass over the five."""
    first, second = operand.slots
    # With powers of 0 the kernel corrects no bias: that is in the scalars.
    tf.raw_ops.ResourceApplyAdam(
        var=operand.variable.handle, m=first.handle, v=second.handle, beta1_power=0.0, beta2_power=0.0, lr=rate,
        beta1=beta_1, beta2=beta_2, epsilon=epsilon, grad=operand.gradient)
    operand.stepped(rate, lambda: first.value / (tf.sqrt(second.value) + epsilon))


def adam_moments(operand, beta_1, beta_2):
    """The moving averages of g and g^2 after this gradient."""
    first, second = operand.slots
    if compiled_by_xla() or not has_memory(beta_1, beta_2):
        # Of two float32: beside a Python number, NumPy 1 makes a float64 of it.
        fractions = [np.float32(1.0) - np.float32(beta) for beta in (beta_1, beta_2)]
        return first.approach(operand.gradient, fractions[0]), second.approach(tf.square(operand.gradient), fractions[1])
    # At a rate of 0 the whole step leaves the weights as they are, and costs less than five passes for the two averages.
    adam_step(operand, beta_1, beta_2, rate=0.0, epsilon=1.0)
    return first.value, second.value


def bias_correction(beta, update):
    """1 - beta^t, of beta as float32 holds it, which is what the moving averages have.

    By expm1: the power of 0.999 is rounded by up to 3e-8, which is 3e-5 of the 0.001 that its distance from 1 is at first.
    """
    beta = np.float32(beta)
    return -tf.math.expm1(update * math.log(beta)) if beta else 1.0


def adam_scalars(epsilon, correct_1=1.0, correct_2=1.0, placement="corrected"):
    """(c, e) with c * m / (sqrt(s) + e) = m_hat / (sqrt(s_hat) + epsilon); with the placement "uncorrected" e is epsilon.

    c = sqrt(1 - beta_2^t) / (1 - beta_1^t), and e = epsilon sqrt(1 - beta_2^t): both placements are one expression, and the
    scalar c is left to be multiplied with other scalars, which saves a pass over the tensors.

    correct_1, correct_2: the bias corrections 1 - beta^t, scalars; 1 without correction.
    """
    root_2 = tf.sqrt(correct_2)
    return root_2 / correct_1, epsilon * root_2 if placement == "corrected" else epsilon


def ahead(average, fresh, beta, update):
    """What Nesterov's look ahead makes of a bias-corrected moving average, times 1 - beta^t so that c of `adam_scalars` fits.

    beta (1 - beta^t) / (1 - beta^(t+1)) * average + fresh, with fresh = (1 - beta) * g. Dozat 2016, algorithm 8, of one beta.
    """
    return (beta * bias_correction(beta, update) / bias_correction(beta, update + 1.0)) * average + fresh


def update_by_adam(rule, operand, now, scale, beside, nesterov=False):
    """The whole update of Adam and LAMB by the direction scale * m / (sqrt(s) + beside); returns the trust ratio.

    nesterov: whether `ahead` stands for m.
    """
    if not rule.adds_decay(operand) and not rule.scales(operand) and not nesterov and has_memory(rule.beta_1, rule.beta_2):
        adam_step(operand, rule.beta_1, rule.beta_2, now.learning_rate * scale, beside)
        return tf.constant(1.0)
    first, second = adam_moments(operand, rule.beta_1, rule.beta_2)
    if nesterov:
        first = ahead(first, (1.0 - rule.beta_1) * operand.gradient, rule.beta_1, now.update)
    direction = rule.decayed(first / (tf.sqrt(second) + beside), operand, scale)
    rate, ratio = rule.layerwise_rate(direction, operand, now, scale)
    operand.descend(rate, direction)
    return ratio


@register_serializable
class Adam(HugeBatchOptimizer):
    """Adam; layer-wise, at a rate per variable.

    ```
    m = beta_1 * m + (1 - beta_1) * g
    s = beta_2 * s + (1 - beta_2) * g^2
    c1, c2 = 1 - beta_1^t, 1 - beta_2^t
    u = (sqrt(c2) / c1) * m / (sqrt(s) + epsilon)          # epsilon_placement="uncorrected", as Keras
    u = (m / c1) / (sqrt(s / c2) + epsilon)                # epsilon_placement="corrected", as algorithm 1
                            # nesterov: beta_1 / (1 - beta_1^(t+1)) * m + (1 - beta_1) / c1 * g in place of m / c1
    u = u + weight_decay * w
    w = w - learning_rate * u
    ```

    which is AdamW: decay passes through no moving average.

    `layerwise=True`, in place of the last line:

    ```
    r = trust_coefficient * ||w|| / ||u||                  # 1 where a norm is 0, or excluded
    r = min(max(r, lower), upper)                          # with trust_bounds
    w = w - learning_rate * r * u
    ```

    Arguments not listed: see `HugeBatchOptimizer`.

    Args:
        beta_1, beta_2: in [0, 1), the memories of the moving averages.
        epsilon: >= 0; with 0, a gradient that has been zero so far gives 0/0.
        epsilon_placement: beside the "uncorrected" or the "corrected" root.
        nesterov: whether the first moment looks ahead by this gradient once more.

    References: Kingma and Ba 2015, arXiv 1412.6980, algorithm 1, and the text before section 2.1
    ("uncorrected"); Dozat 2016, Incorporating Nesterov momentum into Adam.
    """

    slots = (("momentum", 0.0), ("velocity", 0.0))

    def __init__(self, learning_rate, *, beta_1=0.9, beta_2=0.999, epsilon=1e-7,
                 epsilon_placement="uncorrected", nesterov=False, weight_decay=0.0, decoupled_weight_decay=False,
                 layerwise=False, trust_coefficient=1.0,
                 trust_bounds=None, trust_bounds_schedule="fixed", trust_bounds_rate=1e-3,
                 exclude_from_decay=None, exclude_from_adaptation=None, fixed_trust_ratios=None,
                 clip_global_norm=None, name="adam"):
        super().__init__(
            learning_rate, weight_decay=weight_decay, layerwise=layerwise,
            trust_coefficient=trust_coefficient, trust_bounds=trust_bounds,
            trust_bounds_schedule=trust_bounds_schedule, trust_bounds_rate=trust_bounds_rate,
            exclude_from_decay=exclude_from_decay, exclude_from_adaptation=exclude_from_adaptation,
            fixed_trust_ratios=fixed_trust_ratios, clip_global_norm=clip_global_norm, name=name,
            decoupled_weight_decay=decoupled_weight_decay)
        self.beta_1 = check_memory("beta_1", beta_1)
        self.beta_2 = check_memory("beta_2", beta_2)
        self.epsilon = check_number("epsilon", epsilon, 0.0)
        self.epsilon_placement = check_choice(
            "epsilon_placement", epsilon_placement, ("uncorrected", "corrected"))
        self.nesterov = check_flag("nesterov", nesterov)

    def update(self, operand, now):
        corrections = [bias_correction(beta, now.update) for beta in (self.beta_1, self.beta_2)]
        return update_by_adam(self, operand, now, *adam_scalars(self.epsilon, *corrections, self.epsilon_placement),
                              self.nesterov)
