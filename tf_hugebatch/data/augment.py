"""From stored image to network input, as stateless functions: the crops of the MLPerf ResNet-50 reference for encoded
images, and the shifts and flips of He et al. 2015 for small ones.

Randomness is keyed by (seed, epoch, example), so what an example looks like in an epoch depends neither on the order of
reading nor on how a batch is cut.
"""

import numpy as np
import tensorflow as tf

#: Per channel, of the ImageNet training set in 0..255; subtracting is in the reference, dividing in the TPU submissions.
MEAN = (123.68, 116.78, 103.94)
STANDARD_DEVIATION = (58.393, 57.12, 57.375)
#: Share of the short side that evaluation keeps: 224 of 256.
CENTRAL = 224 / 256

_MIN_OBJECT_COVERED, _ASPECT, _AREA, _ATTEMPTS = 0.1, (0.75, 1.33), (0.05, 1.0), 100


def keys(seed, epochs, examples):
    """Keys of random draws, one for each (seed, epoch, example): int64 [k, 2] from integers [k].

        key = (mix(mix(mix(seed) + epoch) + example), its mix),     mix: the finaliser of SplitMix64 (Steele et al. 2014)

    Made for a whole micro-batch at once, since a few small operations an example would be felt.
    """
    key = _mix(_mix(tf.constant(seed, tf.int64)) + tf.cast(epochs, tf.int64))
    key = _mix(key + tf.cast(examples, tf.int64))
    return tf.stack([key, _mix(key)], axis=-1)


def _mix(value):
    # Shifts of signed numbers would carry the sign along, so it is shifted as unsigned.
    value = tf.bitcast(value, tf.uint64) + tf.constant(0x9E3779B97F4A7C15, tf.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value = tf.bitwise.bitwise_xor(value, tf.bitwise.right_shift(value, tf.constant(shift, tf.uint64)))
        value *= tf.constant(factor, tf.uint64)
    return tf.bitcast(tf.bitwise.bitwise_xor(value, tf.bitwise.right_shift(value, tf.constant(31, tf.uint64))), tf.int64)


def training_image(encoded, boxes, key, image_size, jpeg=True):
    """A random crop, resized and perhaps flipped.

    The crop is `sample_distorted_bounding_box`'s: 5% to 100% of the area, aspect 0.75 to 1.33, covering at least 10% of
    a box; 100 attempts, else the whole image. A JPEG is decoded inside the crop only.

    Args:
        encoded: string scalar, a JPEG (RGB, greyscale or CMYK).
        boxes: float32 [1, k, 4] of ymin, xmin, ymax, xmax in 0..1; k = 0 stands for the whole image.
        key: int64 [2], from `keys`.
        image_size: pixels each way.
        jpeg: False for any format that TensorFlow knows. Asking here, image by image, costs a tenth of the speed.

    Returns:
        float32 [image_size, image_size, 3], MEAN subtracted and divided by STANDARD_DEVIATION.

    Raises:
        tf.errors.InvalidArgumentError: when the map that holds it runs: the bytes are no (JPEG) image.
    """
    whole = None if jpeg else _decoded(encoded)
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(encoded) if jpeg else tf.shape(whole), boxes, key,
        min_object_covered=_MIN_OBJECT_COVERED, aspect_ratio_range=_ASPECT, area_range=_AREA, max_attempts=_ATTEMPTS,
        use_image_if_no_bounding_boxes=True,
    )
    if jpeg:
        crop = tf.io.decode_and_crop_jpeg(encoded, tf.concat([begin[:2], size[:2]], axis=0), channels=3)
    else:
        crop = tf.slice(whole, begin, size)
    # Flipped while it is bytes, and without the branch and the checks of tf.image's own.
    flip = tf.random.stateless_uniform([], key[::-1]) < 0.5
    crop = tf.raw_ops.Reverse(tensor=crop, dims=tf.stack([False, flip, False]))
    return _standardised(tf.image.resize(crop, [image_size, image_size], "bilinear"), image_size)


def shifted_and_flipped(images, keys, pad=4):
    """Each image padded with zeros on all sides, cut back at a random place, and flipped left to right half of the time.

        out[i, y, x] = padded[i, dy + y, dx + (width - 1 - x if flip else x)],       dy, dx uniform in 0 .. 2 pad

    He et al. 2015, section 4.2, for a whole micro-batch in one gather.

    Args:
        images: any dtype [k, height, width, channels].
        keys: int64 [k, 2], from `keys`.
        pad: pixels on each side.

    Returns:
        the same dtype and shape.
    """
    _, height, width, _ = images.shape
    bits, more = tf.unstack(tf.bitcast(keys, tf.uint64), axis=1)
    places = tf.constant(2 * pad + 1, tf.uint64)
    # 2^64 is no multiple of 9, which shifts no probability by more than 1e-18.
    down, right = tf.cast(bits % places, tf.int32), tf.cast(bits // places % places, tf.int32)
    flip = tf.cast(more % 2, tf.int32)[:, tf.newaxis]
    rows = down[:, tf.newaxis] + tf.range(height)
    columns = right[:, tf.newaxis] + flip * (width - 1) + (1 - 2 * flip) * tf.range(width)
    padded_width = width + 2 * pad
    padded = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    pixels = tf.reshape(padded, [-1, (height + 2 * pad) * padded_width, images.shape[-1]])
    return tf.gather(pixels, rows[:, :, tf.newaxis] * padded_width + columns[:, tf.newaxis], batch_dims=1)


def evaluation_image(encoded, image_size):
    """The central crop after the short side was resized to image_size x 256 / 224, aspect kept (bilinear).

    Args:
        encoded: string scalar, an image of any format that TensorFlow knows.
        image_size: as `training_image`, as are what it returns and raises.
    """
    image = _decoded(encoded)
    shape = tf.cast(tf.shape(image)[:2], tf.float32)
    scale = image_size / CENTRAL / tf.reduce_min(shape)
    resized = tf.cast(tf.round(shape * scale), tf.int32)
    image = tf.image.resize(image, resized, "bilinear")
    top, left = tf.unstack((resized - image_size) // 2)
    return _standardised(image[top:top + image_size, left:left + image_size], image_size)


def _decoded(encoded):
    """uint8 [height, width, 3], whatever the format: a PNG named .JPEG is in the real training set."""
    return tf.io.decode_image(encoded, channels=3, expand_animations=False)


def _standardised(image, image_size):
    # (image - mean) / deviation, as one product and one sum over rows: TensorFlow's arithmetic with three numbers at a
    # time takes as long as the decoding.
    factor = np.tile(1 / np.array(STANDARD_DEVIATION), image_size).astype(np.float32)
    offset = np.tile(-np.array(MEAN) / STANDARD_DEVIATION, image_size).astype(np.float32)
    rows = tf.reshape(image, [image_size, image_size * 3])
    return tf.reshape(rows * factor + offset, [image_size, image_size, 3])
