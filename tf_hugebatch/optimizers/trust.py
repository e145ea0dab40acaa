"""Trust ratios and their bounds: pure functions of float32 scalars, one call per variable.

A trust ratio is r = eta * ||w|| / (norm of the update). Whatever the denominator, r is 1 where the weight or
the gradient (or update) has norm 0: a zero-initialised variable must be able to leave zero.
"""

import tensorflow as tf


def joint_trust_ratio(weight_norm, update_norm, coefficient=1.0, epsilon=0.0, weight_norm_bounds=None):
    """r = eta * phi(||w||) / (||u|| + epsilon), where u already holds the decay. 1 if ||w|| or ||u|| is 0.

    phi(z) = min(max(z, low), high) for weight_norm_bounds = (low, high), else z. A zero ||w|| gives 1 under
    any phi. You et al. 2019 (arXiv 1904.00962), algorithm 2, with eta = 1 and epsilon = 0.
    """
    bounded_norm = weight_norm if weight_norm_bounds is None else bound(weight_norm, *weight_norm_bounds)
    ratio = coefficient * bounded_norm / (update_norm + epsilon)
    return tf.where((weight_norm > 0.0) & (update_norm > 0.0), ratio, tf.ones_like(ratio))


def sum_trust_ratio(weight_norm, gradient_norm, weight_decay, coefficient=1.0, epsilon=0.0):
    """r = eta * ||w|| / (||g|| + lambda * ||w|| + epsilon). 1 if ||w|| or ||g|| is 0, whatever lambda.

    You et al. 2017 (arXiv 1708.03888), equation 6. The test is on ||g||, not on the denominator: with an
    all-zero gradient and decay on, the published code falls back to 1 too.
    """
    ratio = coefficient * weight_norm / (gradient_norm + weight_decay * weight_norm + epsilon)
    return tf.where((weight_norm > 0.0) & (gradient_norm > 0.0), ratio, tf.ones_like(ratio))


def adabound_bounds(lower, upper, rate, update):
    """(lower_t, upper_t) = (lower * (1 - 1/(rate*t + 1)), upper * (1 + 1/(rate*t))), t = `update`, from 1.

    Luo et al. 2019 (arXiv 1902.09843), section 4: from nearly [0, inf) towards [lower, upper].
    """
    return lower * (1.0 - 1.0 / (rate * update + 1.0)), upper * (1.0 + 1.0 / (rate * update))


def bound(value, lower, upper):
    """min(max(value, lower), upper). A ratio of 1 that stands for a zero norm is bounded like any other."""
    return tf.minimum(tf.maximum(value, lower), upper)


def larc_clip(ratio, learning_rate):
    """min(r / gamma, 1), so that the rate of the step, gamma times this, is min(r, gamma). NVIDIA apex, LARC.

    A ratio of 1 that stands for a zero norm is clipped like any other. With gamma = 0 the result is 1.
    """
    return tf.minimum(ratio / learning_rate, 1.0)
