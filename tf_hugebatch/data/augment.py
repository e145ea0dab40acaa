"""From encoded image to network input: the crops of the MLPerf ResNet-50 reference, as stateless functions.

Randomness is keyed by (seed, epoch, example), so what an example looks like in an epoch depends neither on the order of
reading nor on how a batch is cut.
"""

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


def training_image(encoded, boxes, key, image_size):
    """A random crop, resized and perhaps flipped.

    The crop is `sample_distorted_bounding_box`'s: 5% to 100% of the area, aspect 0.75 to 1.33, covering at least 10% of
    a box; 100 attempts, else the whole image. A JPEG is decoded inside the crop only.

    Args:
        encoded: string scalar, a JPEG (RGB, greyscale or CMYK) or a PNG.
        boxes: float32 [1, k, 4] of ymin, xmin, ymax, xmax in 0..1; k = 0 stands for the whole image.
        key: int64 [2], from `keys`.
        image_size: pixels each way.

    Returns:
        float32 [image_size, image_size, 3], MEAN subtracted and divided by STANDARD_DEVIATION.

    Raises:
        tf.errors.InvalidArgumentError: when the map that holds it runs: the bytes are no image.
    """

    def window(shape):
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape, boxes, key, min_object_covered=_MIN_OBJECT_COVERED, aspect_ratio_range=_ASPECT,
            area_range=_AREA, max_attempts=_ATTEMPTS, use_image_if_no_bounding_boxes=True,
        )
        return tf.concat([begin[:2], size[:2]], axis=0)

    def of_jpeg():
        return tf.image.decode_and_crop_jpeg(encoded, window(tf.image.extract_jpeg_shape(encoded)), channels=3)

    def of_other():
        image = _decoded(encoded)
        return tf.image.crop_to_bounding_box(image, *tf.unstack(window(tf.shape(image))))

    image = tf.image.resize(tf.cond(tf.io.is_jpeg(encoded), of_jpeg, of_other), [image_size, image_size], "bilinear")
    return _standardised(tf.image.stateless_random_flip_left_right(image, key[::-1]), image_size)


def evaluation_image(encoded, image_size):
    """The central crop after the short side was resized to image_size x 256 / 224, aspect kept (bilinear).

    Args and returns: as `training_image`.
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
    image = tf.ensure_shape(image, [image_size, image_size, 3])
    return (image - tf.constant(MEAN)) / tf.constant(STANDARD_DEVIATION)
