"""Euclidean norms in float32, and clipping by the global norm. Pure functions of tensors."""

import tensorflow as tf


def norm(tensor):
    """sqrt(sum(tensor^2)) as a float32 scalar; 0 for an all-zero tensor.

    `tf.nn.l2_loss` is sum(x^2)/2 in one pass over memory; square and reduce_sum make two and a temporary.
    """
    return tf.sqrt(2.0 * tf.nn.l2_loss(tf.cast(tensor, tf.float32)))


def combined(norms):
    """The norm of the concatenation of tensors whose norms (a list of scalars) are given."""
    return tf.norm(tf.stack(norms))


def global_norm(tensors):
    """sqrt(sum over all tensors of ||tensor||^2), a float32 scalar."""
    return combined([norm(tensor) for tensor in tensors])


def clip_scale(total_norm, maximum):
    """The factor min(1, maximum / total_norm) that brings a global norm down to `maximum`.

    1 for a zero norm. A NaN norm gives NaN, so that clipping never hides a bad gradient; an infinite norm
    gives 0, whose product with the infinite element is NaN.
    """
    return maximum / tf.maximum(total_norm, maximum)


def clip_by_global_norm(tensors, tensor_norms, maximum):
    """(tensors, tensor_norms), both times `clip_scale` of their global norm: unchanged if already within.

    tensor_norms: [norm(tensor) for tensor in tensors], which callers have anyway. Pascanu et al. 2013,
    algorithm 1, over all tensors at once.
    """
    scale = clip_scale(combined(tensor_norms), maximum)
    return [tensor * scale for tensor in tensors], [value * scale for value in tensor_norms]
