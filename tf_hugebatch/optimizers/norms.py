"""Euclidean norms in float32, and clipping by the global norm. Pure functions of tensors."""

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

# Below this a chain of additions costs less than cutting it up.
SHORT = 4096
# Some vectors long. Measured with XLA on ResNet-50's variables: as fast as 256; quarters of the whole took 10% more of LARS.
WIDTH = 64


def norm(tensor):
    """sqrt(sum(tensor^2)) as a float32 scalar; 0 for an all-zero tensor.

    `tf.nn.l2_loss` is sum(x^2)/2 in one pass over memory; square and reduce_sum make two and a temporary. XLA makes one
    pass of either, but on a CPU it adds up one element after the other, which takes longer than all else in an update:
    what it compiles is written as `sum_of_quarters`.
    """
    tensor = tf.cast(tensor, tf.float32)
    if control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        return tf.sqrt(sum_of_quarters(tf.square(tf.reshape(tensor, [-1]))))
    return tf.sqrt(2.0 * tf.nn.l2_loss(tensor))


def sum_of_quarters(values, times=2):
    """The sum of a [n] tensor: of every 4 WIDTH elements the quarters are added as vectors, `times` times, then the rest.

    XLA fuses the additions into one vectorised loop that reads memory in order; n / 4^times elements are added one by one.
    """
    length = values.shape[0]
    if times == 0 or length < SHORT:
        return tf.reduce_sum(values)
    rows = length // (4 * WIDTH)
    blocks = tf.reshape(values[:rows * 4 * WIDTH], [rows, 4, WIDTH])
    quarters = (blocks[:, 0] + blocks[:, 1]) + (blocks[:, 2] + blocks[:, 3])
    total = sum_of_quarters(tf.reshape(quarters, [-1]), times - 1)
    return total if rows * 4 * WIDTH == length else total + tf.reduce_sum(values[rows * 4 * WIDTH:])


def combined(norms):
    """The norm of the concatenation of tensors whose norms (a list of scalars) are given."""
    return tf.norm(tf.stack(norms))


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
