"""Our step beside a bare hand-written tf.function loop, and batches of 60,000 beside batches of 256.

    python scripts/bench_step.py                    a few minutes on two cores; prints medians and ratios
    python scripts/bench_step.py --model=lenet      the paper's network instead of lenet5
    python scripts/bench_step.py --model=resnet20   32 px: what CIFAR-10's augmentation adds to a step; a minute
    python scripts/bench_step.py --model=resnet50   224 px, batch 32; about fifteen minutes (--image_size for smaller images)
    python scripts/bench_step.py --diagnostics      what each diagnostic of updates adds to a step; three minutes

Both loops are built in this process and timed in turn (A B A B ...), so that a change of the machine's speed meets
both. The bare loop is what a user would write: one tf.function around a range of updates of one micro-batch each,
Keras' SGD with momentum, no norms, no metrics, no guard. On a network with our batch norm it runs inside a view of its
batch, as the step does, so that both use the same kernels. Ours runs the same number of images through the step, with
its one metrics row per update. Memory is measured in processes of their own.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
REPEATS = 11


MNIST_SHAPE = (28, 28, 1)


def fake_images(n, shape=MNIST_SHAPE):
    """n random images and labels; speed does not depend on what is in them."""
    import numpy as np

    from tf_hugebatch.data.splits import Examples

    generator = np.random.default_rng(0)
    return Examples(
        generator.integers(0, 256, (n, *shape), dtype=np.uint8), generator.integers(0, 10, n, dtype=np.int32)
    )


def build(model_name, image_shape, span=None, plain=False):
    """The model; a ResNet with our batch norm of that span, or with Keras' own (`plain`)."""
    from functools import partial

    import keras

    from tf_hugebatch import registry
    from tf_hugebatch.layers import GhostBatchNormalization

    row = registry.find("model", model_name)
    if row.facts["batch_norm"]:
        plain_norm = partial(keras.layers.BatchNormalization, momentum=0.9, epsilon=1e-5)
        norm = {"normalization": plain_norm if plain else partial(GhostBatchNormalization, span)}
    else:
        norm = {}
    return row.resolve()(image_shape=image_shape, **row.arguments, **norm)


def our_loop(model_name, examples, batch_size, micro_batch_size, updates, span=None, measured=()):
    """A function that runs `updates` updates of our step, with diagnostics."""
    from tf_hugebatch import optimizers
    from tf_hugebatch.data.order import Stream
    from tf_hugebatch.data.padding import training_micro_batches
    from tf_hugebatch.layout import Layout
    from tf_hugebatch.training.step import Step
    from tf_hugebatch.training.strategy import make_strategy

    strategy = make_strategy("one")
    layout = Layout(batch_size, micro_batch_size, span=span)
    with strategy.scope():
        model = build(model_name, examples.image_shape, span)
        optimizer = optimizers.get("sgd", learning_rate=0.01, momentum=0.9)
    step = Step(strategy=strategy, model=model, optimizer=optimizer, layout=layout, measured=measured)
    dataset = training_micro_batches(examples, Stream(0, len(examples)), layout, 0, 10**9)
    iterator = iter(strategy.distribute_datasets_from_function(lambda context: dataset))
    return lambda: step(iterator, updates)


def bare_loop(model_name, examples, batch_size, updates, span=None, plain=False):
    """A function that runs `updates` updates of a hand-written loop on the same model and input."""
    import keras
    import tensorflow as tf

    from tf_hugebatch import replica
    from tf_hugebatch.data.order import Stream
    from tf_hugebatch.data.padding import training_micro_batches
    from tf_hugebatch.layout import Layout

    model = build(model_name, examples.image_shape, span, plain)
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(model.trainable_variables)
    loss_function = tf.nn.sparse_softmax_cross_entropy_with_logits
    layout = Layout(batch_size, batch_size, span=span)
    dataset = training_micro_batches(examples, Stream(0, len(examples)), layout, 0, 10**9)
    iterator = iter(dataset)

    @tf.function
    def run(iterator):
        for _ in tf.range(updates):
            batch = next(iterator)
            with tf.GradientTape() as tape:
                with replica.scope(replica.View(
                    layout=layout, positions=batch["position"], weights=batch["weight"],
                    update=tf.constant(0, tf.int64), seed=0, all_reduce_sum=lambda tensor: tensor,
                )):
                    logits = model(batch["image"], training=True)
                loss = tf.reduce_mean(loss_function(labels=batch["label"], logits=logits))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    return lambda: run(iterator).numpy()


def interval_of_median(values):
    """The order statistics between which the median lies with 95% confidence, whatever the distribution (a sign test's)."""
    ordered, reach = sorted(values), 0.98 * len(values) ** 0.5
    return ordered[max(0, round(len(values) / 2 - reach) - 1)], ordered[min(len(values) - 1, round(len(values) / 2 + reach))]


def timed_in_turn(loops, rounds=REPEATS):
    """Runs {name: (loop, images it reads)} in turn after a warm-up; prints median images/s and ratios of times.

    The ratios are of seconds per image, pair by pair, to the first loop's: by the clock, and of the processors' time, which a
    machine that is shared with other work disturbs less. Each is the median with its 95% interval, and the range of all pairs.
    """
    for loop, _ in loops.values():
        loop()
    seconds = {name: [] for name in loops}
    for _ in range(rounds):
        for name, (loop, images) in loops.items():
            started = time.perf_counter(), time.process_time()
            loop()
            seconds[name].append(((time.perf_counter() - started[0]) / images, (time.process_time() - started[1]) / images))
    first = seconds[next(iter(loops))]
    for name, values in seconds.items():
        ratios = []
        for which in (0, 1):
            pairs = [value[which] / base[which] for value, base in zip(values, first)]
            low, high = interval_of_median(pairs)
            ratios.append(f"{statistics.median(pairs):.3f} [{low:.3f}, {high:.3f}] (pairs {min(pairs):.3f} to "
                          f"{max(pairs):.3f})")
        print(f"  {name:<42} {1 / statistics.median(value[0] for value in values):>10,.0f} images/s   time an image x the "
              f"first's {ratios[0]}, of the processors {ratios[1]}")


def speed_of_a_resnet(model_name, side):
    """Prints our step at batch 32 beside bare loops on the same model, and bare loops by kind of batch norm."""
    size = 32
    examples = fake_images(4 * size, (side, side, 3))
    print(f"{model_name} at {side} px: one update of {size} images, batch-norm span {size}, {REPEATS} rounds")
    timed_in_turn({
        "bare tf.function loop, the same model": (bare_loop(model_name, examples, size, 1, span=size), size),
        "our step": (our_loop(model_name, examples, size, size, 1, span=size), size),
    })
    print(f"{model_name} at {side} px: bare loops by batch norm, {REPEATS} rounds")
    timed_in_turn({
        "Keras' batch norm over the batch": (bare_loop(model_name, examples, size, 1, plain=True), size),
        **{f"ours, span {span}": (bare_loop(model_name, examples, size, 1, span=span), size) for span in (32, 16, 8)},
        "ours, span 8, 31 images (groups of 7 and 8)": (bare_loop(model_name, examples, size - 1, 1, span=8), size - 1),
    })


def cost_of_augmentation(model_name, size=128):
    """Prints our step on images of CIFAR-10's size, standardised only and shifted and flipped too."""
    from functools import partial

    from tf_hugebatch.data import cifar10

    plain = fake_images(50_000, (32, 32, 3))
    mean, deviation = cifar10.channel_statistics(plain.images)
    augmented = dataclasses.replace(plain, prepare=partial(cifar10.prepare, 0, mean, deviation))
    standardised = dataclasses.replace(
        plain, prepare=lambda images, numbers, epochs, training: augmented.prepare(images, numbers, epochs, False))
    updates = 20 if model_name == "resnet9" else 10
    print(f"{model_name} at 32 px: {updates} updates of {size} images a loop, {REPEATS} pairs")
    timed_in_turn({
        "our step, no augmentation": (our_loop(model_name, standardised, size, size, updates, span=size), updates * size),
        "our step, shifted and flipped": (our_loop(model_name, augmented, size, size, updates, span=size), updates * size),
    })


def cost_of_update_ends(model_name, names, size, micro, updates=300):
    """Prints what the end of an update takes of the processors, without and with each diagnostic: without a forward pass
    beside it, microseconds show that a whole step's noise hides."""
    import tensorflow as tf

    from tf_hugebatch import optimizers
    from tf_hugebatch.layout import Layout
    from tf_hugebatch.training.step import Step

    def loop(measured):
        strategy = tf.distribute.OneDeviceStrategy("CPU:0")
        with strategy.scope():
            model, optimizer = build(model_name, MNIST_SHAPE), optimizers.get("sgd", learning_rate=0.0, momentum=0.9)
        step = Step(strategy=strategy, model=model, optimizer=optimizer, layout=Layout(size, micro), measured=measured)

        @tf.function
        def ends():
            total = tf.zeros([], tf.float64)
            for _ in tf.range(updates):
                total += tf.reduce_sum(strategy.run(step.apply))
            return total

        return lambda: ends().numpy()

    loops = {name: loop((name,) if name else ()) for name in names}
    for run in loops.values():
        run()
    microseconds = {name: [] for name in loops}
    for _ in range(REPEATS):
        for name, run in loops.items():
            started = time.process_time()
            run()
            microseconds[name].append((time.process_time() - started) / updates * 1e6)
    print(f"{model_name}: end of an update alone, of the processors, {REPEATS} rounds of {updates}")
    for name, values in microseconds.items():
        print(f"  {name or 'no diagnostic':<42} {statistics.median(values):>8,.0f} microseconds ({min(values):,.0f} to "
              f"{max(values):,.0f})")


def cost_of_diagnostics(model_name, size=256, micro=128):
    """Prints our step without and with each diagnostic that looks at every update."""
    from tf_hugebatch import registry

    # Many short loops rather than few long ones: what is sought is less than how a machine's speed wanders in a second.
    examples, updates, rounds = fake_images(60_000), 3 if model_name == "lenet" else 12, 301
    print(f"{model_name}: {updates} updates of {size} images in micro-batches of {micro} a loop, {rounds} rounds")
    names = [name for name, row in registry.DIAGNOSTICS.items() if row.facts["at"] == "updates"]
    cost_of_update_ends(model_name, ["", *names], size, micro)
    timed_in_turn({
        f"our step, {name or 'no diagnostic'}": (our_loop(model_name, examples, size, micro, updates, measured=(name,) if name
                                                          else ()), updates * size)
        for name in ("", *names)}, rounds)


def speed(model_name):
    """Prints the two comparisons of speed."""
    examples = fake_images(60_000)
    micro = 256
    per_loop = 30 if model_name == "lenet" else 235
    print(f"{model_name}: one update of {micro} images, {per_loop} updates a loop, {REPEATS} pairs")
    timed_in_turn({
        "bare tf.function loop, batch 256": (bare_loop(model_name, examples, micro, per_loop), per_loop * micro),
        "our step, batch 256 = 1 x 256": (our_loop(model_name, examples, micro, micro, per_loop), per_loop * micro),
    })
    print(f"{model_name}: 60,000 images as 235 updates of 256 and as one update of 60,000, micro-batch 256 for both")
    timed_in_turn({
        "our step, batch 256": (our_loop(model_name, examples, 256, micro, 235), 235 * 256),
        "our step, batch 60,000 = 235 x 256": (our_loop(model_name, examples, 60_000, micro, 1), 60_000),
    })
    print(f"{model_name}: speed by micro-batch, batch 8,192")
    for size in (32, 64, 128, 256, 512, 1024):
        loop = our_loop(model_name, examples, 8192, size, 1)
        loop()
        started = time.perf_counter()
        loop()
        print(f"  micro-batch {size:>5}   {8192 / (time.perf_counter() - started):>10,.0f} images/s")


def memory(model_name):
    """Prints peak memory of whole runs that differ in their batch only."""
    print(f"{model_name}: peak resident memory of a process that makes 2 updates, micro-batch 256")
    peaks = {}
    for batch_size in (2_048, 60_000):
        command = [sys.executable, __file__, f"--model={model_name}", f"--two-updates-of={batch_size}"]
        peaks[batch_size] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"  batch {batch_size:>6,}   {peaks[batch_size]:>8,.0f} MiB")
    print(f"  ratio {peaks[60_000] / peaks[2_048]:.3f}")


def two_updates(model_name, batch_size):
    """Two updates in this process; prints its peak memory in MiB."""
    import resource

    our_loop(model_name, fake_images(60_000), batch_size, 256, 2)()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lenet5", choices=["lenet5", "lenet", "resnet9", "resnet20", "resnet18", "resnet50"])
    parser.add_argument("--image_size", type=int, default=224, help="side of the images of a ResNet")
    parser.add_argument("--diagnostics", action="store_true", help="what diagnostics cost, on lenet or lenet5")
    parser.add_argument("--two-updates-of", type=int, metavar="B", help="what the memory measurement runs")
    arguments = parser.parse_args()
    if arguments.two_updates_of:
        two_updates(arguments.model, arguments.two_updates_of)
        return
    if arguments.diagnostics:
        if not arguments.model.startswith("lenet"):
            parser.error(f"--diagnostics with --model={arguments.model}: it is measured on lenet and lenet5; name one of them")
        cost_of_diagnostics(arguments.model)
        return
    if arguments.model in ("resnet9", "resnet20"):
        cost_of_augmentation(arguments.model)
        return
    if arguments.model.startswith("resnet"):
        speed_of_a_resnet(arguments.model, arguments.image_size)
        return
    speed(arguments.model)
    memory(arguments.model)


if __name__ == "__main__":
    main()
