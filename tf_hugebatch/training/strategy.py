"""Which devices a run uses."""

import tensorflow as tf

from ..logical_devices import logical_cpus
from .tpu import tpu_strategy
from .workers import multiworker_strategy


def make_strategy(name, num_replicas=None, tpu=None, cluster=None):
    """The tf.distribute strategy of a run.

    Args:
        name: "one": one device; "mirrored": synchronous replicas on this machine; "auto": mirrored when there is more
            than one GPU or `num_replicas` asks for it, else one; "multiworker": the devices of every process of
            `cluster`; "tpu": the cores of a TPU, over all its hosts.
        num_replicas: how many replicas; without an accelerator, that many logical CPU devices are made, which needs
            a TensorFlow that has not started yet. None: every GPU.
        tpu: for "tpu", which one; see `tpu.tpu_strategy`.
        cluster: for "multiworker", `cluster.Cluster`; see `workers.multiworker_strategy`.

    Returns:
        a tf.distribute.Strategy.

    Raises:
        ValueError: more replicas than devices, and TensorFlow has already started; or mirrored without any GPU and
            without `num_replicas`; or no TPU that answers; or a worker that did not come.
    """
    if name == "tpu":
        return tpu_strategy(tpu)
    if name == "multiworker":
        return multiworker_strategy(cluster)
    gpus = tf.config.list_physical_devices("GPU")
    if name == "auto":
        name = "mirrored" if (num_replicas or len(gpus)) > 1 else "one"
    if name == "one":
        # OneDeviceStrategy, not the default strategy: the same distributed code path, minus the others.
        return tf.distribute.OneDeviceStrategy("GPU:0" if gpus else "CPU:0")
    if gpus:
        count = num_replicas or len(gpus)
        if count > len(gpus):
            raise ValueError(
                f"num_replicas={count} but this machine has {len(gpus)} GPU(s); ask for at most that many."
            )
        return tf.distribute.MirroredStrategy([f"GPU:{i}" for i in range(count)])
    if num_replicas is None:
        raise ValueError(
            "strategy=mirrored found no GPU and so does not know how many replicas to make; add --num_replicas=4 to "
            "split the CPU into logical devices, or use --strategy=one."
        )
    return tf.distribute.MirroredStrategy(
        logical_cpus(num_replicas), cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def host_of(context):
    """(number of this host, hosts) from the tf.distribute.InputContext that `data.padding` shards by."""
    return context.input_pipeline_id, context.num_input_pipelines
