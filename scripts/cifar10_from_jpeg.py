"""cifar10.npz from a file of JPEG-recompressed CIFAR-10 images; what is trained on it says "JPEG-recompressed".

    python scripts/cifar10_from_jpeg.py cifar10_jpeg.npz DIR        writes DIR/cifar10.npz for --data_dir=DIR

The source holds, for part in train, test: jpeg_<part> (all bytes, uint8), offsets_<part> (int64, one more than images; image
i is bytes offsets[i] .. offsets[i + 1]) and y_<part>. JPEG is lossy, so accuracies are not those of the original images; the
words go with the images into every run folder, table and figure made with them.
"""

import argparse
import io
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


def converted(source):
    """The arrays of cifar10.npz from the path of the source.

    Raises:
        ValueError: what it holds doesn't fit together or can't be decoded.
    """
    parts, arrays = {}, {"note": np.array(NOTE)}
    with np.load(source, allow_pickle=False) as stored:
        for part in ("train", "test"):
            parts[part] = [np.asarray(stored[f"{name}_{part}"]) for name in ("jpeg", "offsets", "y")]
    for part, (jpeg, offsets, labels) in parts.items():
        if jpeg.ndim != 1 or jpeg.dtype != np.uint8:
            raise ValueError(f"jpeg_{part} is {jpeg.dtype}{list(jpeg.shape)}, not a list of bytes")
        if offsets.ndim != 1 or offsets.dtype.kind not in "iu" or len(offsets) < 2:
            raise ValueError(f"offsets_{part} is {offsets.dtype}{list(offsets.shape)}, not a list of two integers or more")
        if offsets[0] < 0 or offsets[-1] > len(jpeg) or (offsets[1:] <= offsets[:-1]).any():
            raise ValueError(f"offsets_{part} don't rise from image to image within the {len(jpeg):,} bytes of jpeg_{part}")
        if labels.shape != (len(offsets) - 1,) or labels.dtype.kind not in "iu":
            raise ValueError(f"y_{part} is {labels.dtype}{list(labels.shape)}, and there are {len(offsets) - 1:,} images")
    for part, (jpeg, offsets, labels) in parts.items():
        arrays[f"x_{part}"], arrays[f"y_{part}"] = decoded(jpeg, offsets, part), labels
    return arrays


def write(target, arrays):
    """Writes an .npz, whole or not at all.

    Raises:
        OSError: the folder can't be written to, or is full.
    """
    content = io.BytesIO()  # a zip file that breaks off complains once more when it is collected
    np.savez(content, **arrays)
    # Its name doesn't end in .npz before it is whole: a run never reads half of it.
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.unfinished")
    try:
        unfinished.write_bytes(content.getbuffer())
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


def main(argv=None):
    """Exit code 0, or 2 with the reason on standard error and nothing written; an existing file is never replaced."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    arguments = parser.parse_args(argv)
    target, problem = arguments.folder / "cifar10.npz", None
    if os.path.exists(target):
        print(f"{target} exists and is left as it is; name another folder, or remove it.", file=sys.stderr)
        return 2
    made = [folder for folder in (arguments.folder, *arguments.folder.parents) if not folder.exists()]
    try:
        arguments.folder.mkdir(parents=True, exist_ok=True)  # first: decoding takes minutes
        try:
            arrays = converted(arguments.source)
        except Exception as error:  # zipfile and NumPy's headers have no base class for what damaged bytes make them raise
            problem = f"{arguments.source} can't be converted: {' '.join(str(error).split()) or type(error).__name__}."
        else:
            write(target, arrays)
    except OSError as error:
        problem = f"{target} can't be written: {error.strerror or error}; name a folder that can be written to and has room."
    if problem:
        for folder in made:
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        print(problem, file=sys.stderr)
        return 2
    print(f"{len(arrays['y_train']):,} + {len(arrays['y_test']):,} images: {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
