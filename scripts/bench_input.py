"""Our input beside a bare tf.data map of the fused decode-and-crop, and beside decoding whole images first.

    python scripts/bench_input.py --data_dir=DIR        ImageNet in any layout, or some of it; three minutes on two cores

All of them read the same images into training crops of 224 pixels in batches of 32; they are built in this process and
timed in turn (A B C A B C ...), each from a fresh iterator. The bare ones hold the encoded images in memory; ours reads
them from the folder, keyed and named example by example as in training.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROUNDS, SIZE, SIDE = 9, 32, 224


def bare(contents, fused):
    """Endless batches by a plain map over images in memory."""
    import tensorflow as tf

    from tf_hugebatch.data.augment import MEAN, STANDARD_DEVIATION

    stored, count = tf.constant(contents), len(contents)

    def one(number):
        content, seed = stored[number % count], tf.stack([tf.constant(0, tf.int64), number])
        shape = tf.image.extract_jpeg_shape(content)
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape, tf.zeros([1, 0, 4]), seed, min_object_covered=0.1, aspect_ratio_range=(0.75, 1.33),
            area_range=(0.05, 1.0), max_attempts=100, use_image_if_no_bounding_boxes=True)
        if fused:
            image = tf.image.decode_and_crop_jpeg(content, tf.concat([begin[:2], size[:2]], 0), channels=3)
        else:
            image = tf.slice(tf.image.decode_jpeg(content, channels=3), begin, size)
        image = tf.image.resize(image, [SIDE, SIDE])
        return (tf.image.stateless_random_flip_left_right(image, seed) - MEAN) / STANDARD_DEVIATION

    images = tf.data.Dataset.range(10**12).map(one, num_parallel_calls=tf.data.AUTOTUNE)
    return images.batch(SIZE, drop_remainder=True).prefetch(4)


def ours(split, size):
    """Endless micro-batches of the training pipeline."""
    from tf_hugebatch.data.order import Stream
    from tf_hugebatch.data.padding import training_micro_batches
    from tf_hugebatch.layout import Layout

    return training_micro_batches(split, Stream(0, len(split)), Layout(size, size), 0, 10**9)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--batches", type=int, default=24, help="batches of 32 in one timing, at least 16")
    arguments = parser.parse_args()
    if arguments.batches < 16:
        parser.error(f"--batches={arguments.batches}: too few to time, what was read ahead is all there is; give at least 16")
    import tf_hugebatch as hb
    from tf_hugebatch import data

    try:
        settings = hb.Settings(dataset="imagenet2012", data_dir=arguments.data_dir, batch_size="full")
        split = data.load(settings).train
    except hb.Refusal as refusal:
        parser.error(str(refusal))
    contents = split.encoded(range(min(len(split), 512)))
    pipelines = {
        "bare map, fused decode-and-crop": (bare(contents, fused=True), arguments.batches),
        "bare map, decode then crop": (bare(contents, fused=False), arguments.batches),
        "ours, micro-batch 32": (ours(split, SIZE), arguments.batches),
        "ours, micro-batch 128": (ours(split, 4 * SIZE), arguments.batches // 4),
    }
    speeds = {name: [] for name in pipelines}
    for round_ in range(ROUNDS + 1):
        for name, (dataset, batches) in pipelines.items():
            iterator = iter(dataset)
            next(iterator)
            started, images = time.perf_counter(), 0
            for _ in range(batches):
                images += len(next(iterator)["image"] if name.startswith("ours") else next(iterator))
            if round_:  # the first warms up
                speeds[name].append(images / (time.perf_counter() - started))
    first = speeds["bare map, fused decode-and-crop"]
    for name, values in speeds.items():
        ratios = [value / base for value, base in zip(values, first)]
        print(f"{name:<34} {statistics.median(values):>7,.0f} images/s   {statistics.median(ratios):.3f} x the first "
              f"(rounds {min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
