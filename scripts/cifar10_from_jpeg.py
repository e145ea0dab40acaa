"""cifar10.npz from a file of JPEG-recompressed CIFAR-10 images; what is trained on it says "JPEG-recompressed".

    python scripts/cifar10_from_jpeg.py cifar10_jpeg.npz DIR        writes DIR/cifar10.npz for --data_dir=DIR

The source holds, for part in train, test: jpeg_<part> (all bytes, uint8), offsets_<part> (int64, one more than images; image
i is bytes offsets[i] .. offsets[i + 1]) and y_<part>. JPEG is lossy, so accuracies are not those of the original images; the
words go with the images into every run folder, table and figure made with them.
"""

import argparse
import os
import pathlib
import sys

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

NOTE = "JPEG-recompressed"
SIDE = 32


def decoded(jpeg, offsets, part):
    """uint8 [n, 32, 32, 3] of the images that `jpeg` (uint8 [bytes]) holds; shows a bar.

    Raises:
        ValueError: an image that can't be decoded, or has another size.
    """
    import rich.progress
    import tensorflow as tf

    images = np.empty((len(offsets) - 1, SIDE, SIDE, 3), np.uint8)
    numbers = rich.progress.track(range(len(images)), f"decoding {part}", disable=not sys.stderr.isatty())
    for number in numbers:
        try:
            image = tf.io.decode_jpeg(jpeg[offsets[number]:offsets[number + 1]].tobytes(), channels=3).numpy()
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(f"image {number:,} of {part} can't be decoded; copy the file again") from error
        if image.shape != images.shape[1:]:
            raise ValueError(f"image {number:,} of {part} has {image.shape[0]} x {image.shape[1]} pixels, not 32 x 32")
        images[number] = image
    return images


def main(argv=None):
    """Exit code 0, or 2 with the reason on standard error; an existing file is never replaced."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    arguments = parser.parse_args(argv)
    target = arguments.folder / "cifar10.npz"
    if target.exists():
        print(f"{target} exists and is left as it is; name another folder, or remove it.", file=sys.stderr)
        return 2
    arrays = {"note": np.array(NOTE)}
    try:
        with np.load(arguments.source, allow_pickle=False) as source:
            for part in ("train", "test"):
                arrays[f"x_{part}"] = decoded(source[f"jpeg_{part}"], source[f"offsets_{part}"], part)
                arrays[f"y_{part}"] = source[f"y_{part}"]
    except (OSError, ValueError, KeyError, EOFError) as error:
        print(f"{arguments.source} can't be converted: {error}.", file=sys.stderr)
        return 2
    arguments.folder.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(".unfinished.npz")
    np.savez(unfinished, **arrays)
    # Under its name when it is whole: a run never reads half of it.
    os.replace(unfinished, target)
    print(f"{len(arrays['y_train']):,} + {len(arrays['y_test']):,} images: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
