"""How long an update is traced, batch-norm groups across replicas beside groups inside them.

    python scripts/bench_tracing.py                                  ResNet-18 on 2 and 4 replicas; two minutes on two cores
    python scripts/bench_tracing.py --model=resnet50 --replicas=8    what a machine with eight GPUs does before its first update

Replicas are logical CPU devices under MirroredStrategy, which traces each of them; tracing is Python on any device. Images
are small, since their size changes nothing. Every time but the first is that of a process that has traced the same
network before, so that what a process does once is not in it.
"""

import argparse
import functools
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
EXAMPLES = 8  # of each replica


def seconds_to_trace(model, replicas, across):
    """Seconds from a built step to its graph: an update of one micro-batch on each of `replicas`."""
    import tensorflow as tf

    from tf_hugebatch import optimizers, registry
    from tf_hugebatch.layers import GhostBatchNormalization
    from tf_hugebatch.layout import Layout
    from tf_hugebatch.training.step import Step

    strategy = tf.distribute.OneDeviceStrategy("CPU:0") if replicas == 1 else tf.distribute.MirroredStrategy(
        [f"CPU:{number}" for number in range(replicas)], cross_device_ops=tf.distribute.ReductionToOneDevice())
    span = replicas * EXAMPLES if across else EXAMPLES
    row, shape = registry.find("model", model), (32, 32, 3)
    with strategy.scope():
        network = row.resolve()(image_shape=shape, **row.arguments, normalization=functools.partial(GhostBatchNormalization, span))
        optimizer = optimizers.get("lars", learning_rate=0.1)
    step = Step(strategy=strategy, model=network, optimizer=optimizer, layout=Layout(replicas * EXAMPLES, EXAMPLES, replicas, span))
    micro_batch = {"image": tf.zeros((EXAMPLES, *shape)), "label": tf.zeros([EXAMPLES], tf.int32),
                   "position": tf.range(EXAMPLES, dtype=tf.int64), "weight": tf.ones([EXAMPLES])}
    batches = strategy.distribute_datasets_from_function(lambda _: tf.data.Dataset.from_tensors(micro_batch).repeat())
    began = time.perf_counter()
    # The step's own call would run what it has traced.
    step._run.get_concrete_function(iter(batches), tf.constant(1, tf.int32))
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--replicas", default="2,4", help="numbers of replicas, comma-separated (2,4)")
    options = parser.parse_args()
    counts = [int(count) for count in options.replicas.split(",")]

    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * max(counts))
    print(f"{options.model}: one replica {seconds_to_trace(options.model, 1, False):.1f} s (and what a process does once)")
    for count in counts:
        inside, across = (seconds_to_trace(options.model, count, across) for across in (False, True))
        print(f"{count} replicas: groups inside {inside:.1f} s, across {across:.1f} s, ratio {across / inside:.2f}", flush=True)


if __name__ == "__main__":
    main()
