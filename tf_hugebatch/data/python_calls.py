"""Python functions that tf.data graphs call, without a leak.

TensorFlow keeps what `tf.numpy_function` and `Dataset.from_generator` were given as long as the outermost graph, which is
the process: with a closure or a bound method all that it reaches, a data set or a whole run with its threads, is never
freed (21 MB and 13 threads a run of LeNet-5). Here it gets a function that holds its object weakly.
"""

import weakref

import tensorflow as tf


# AutoGraph would rewrite it before every run, half a second for a call that holds no tensor in a condition.
@tf.autograph.experimental.do_not_convert
def numpy_call(method, inputs, output_types, stateful=False):
    """`tf.numpy_function` of a bound method whose object it does not keep.

    A dataset keeps the functions of its maps, and an iterator its dataset: so `method` must be one of an object that the
    function given to `map` names, itself or through others.

    Args:
        method: bound; NumPy arrays in, NumPy arrays out.
        inputs, output_types, stateful: as `tf.numpy_function` takes them; without state it may be called less often than
            it stands in the graph.

    Raises:
        TypeError: `method` is no bound method.
    """
    reference = weakref.WeakMethod(method)
    return tf.numpy_function(lambda *values: reference()(*values), inputs, output_types, stateful=stateful)
