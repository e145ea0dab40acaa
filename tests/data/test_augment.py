"""Crops: keyed by (seed, epoch, example) and nothing else, flipped half of the time, standardised, JPEG or not."""

import numpy as np
import pytest
import tensorflow as tf
from reference.small_images import classic_record, encoded

from tf_hugebatch.data import augment
from tf_hugebatch.data.tfrecord import Records

NO_BOXES = np.zeros([1, 0, 4], np.float32)
ALL_64_BITS = 2**64 - 1


def crops(content, keys, size=24, **given):
    return np.stack([augment.training_image(content, NO_BOXES, key, size, **given) for key in keys])


def pixels_of(images):
    """Undoes the standardising, in NumPy."""
    return np.asarray(images) * augment.STANDARD_DEVIATION + augment.MEAN


def mix(value):
    """SplitMix64's finaliser in Python's integers."""
    value = (value + 0x9E3779B97F4A7C15) & ALL_64_BITS
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & ALL_64_BITS
    value = (value ^ value >> 27) * 0x94D049BB133111EB & ALL_64_BITS
    return value ^ value >> 31


def test_keys_are_splitmix64_of_seed_epoch_and_example():
    places = [(7, 0, 0), (7, 3, 1_000_000), (0, 0, 0), (2**40, 2**31 - 1, 5)]
    for seed, epoch, example in places:
        first = mix((mix((mix(seed) + epoch) & ALL_64_BITS) + example) & ALL_64_BITS)
        [found] = augment.keys(seed, [epoch], [example]).numpy().astype(np.uint64).tolist()
        assert found == [first, mix(first)]


def test_neighbouring_keys_are_unrelated():
    epochs, examples = (part.ravel() for part in np.meshgrid(np.arange(40), np.arange(100)))
    found = np.concatenate([augment.keys(seed, epochs, examples).numpy() for seed in (0, 1)])
    assert len(np.unique(found)) == found.size
    bits = np.unpackbits(np.ascontiguousarray(found).view(np.uint8)).reshape(-1, 64)
    assert abs(bits.mean(axis=0) - 0.5).max() < 0.03


def test_a_crop_is_a_function_of_its_key():
    keys = augment.keys(0, [0] * 6, np.arange(6))
    one, again = crops(encoded(1), keys), crops(encoded(1), keys[::-1])[::-1]
    np.testing.assert_array_equal(one, again)
    assert len({crop.tobytes() for crop in one}) == 6


def test_half_of_the_crops_are_flipped():
    """A picture that is dark on the left and bright on the right, whatever the crop."""
    ramp = np.broadcast_to(np.linspace(0, 255, 80).astype(np.uint8)[None, :, None], (60, 80, 3))
    found = pixels_of(crops(tf.io.encode_jpeg(ramp, quality=100), augment.keys(3, [0] * 400, np.arange(400)), size=8))
    brightens = found[:, :, -1].mean((1, 2)) > found[:, :, 0].mean((1, 2))
    assert 0.4 < brightens.mean() < 0.6


@pytest.mark.parametrize("side", [8, 33])
def test_each_channel_has_its_own_mean_and_deviation(side):
    flat = np.broadcast_to(np.array([200, 100, 50], np.uint8), (48, 64, 3))
    content = tf.io.encode_png(flat)
    [cropped] = crops(content, augment.keys(0, [0], [0]), side, jpeg=False)
    for image in (augment.evaluation_image(content, side), cropped):
        assert image.shape == (side, side, 3)
        np.testing.assert_allclose(pixels_of(image), np.broadcast_to([200, 100, 50], (side, side, 3)), atol=1e-3)


def test_a_jpeg_is_cropped_alike_inside_and_outside_the_decoder():
    keys = augment.keys(1, [0] * 20, np.arange(20))
    inside, outside = (pixels_of(crops(encoded(5, height=120, width=160), keys, jpeg=jpeg)) for jpeg in (True, False))
    # Colours are interpolated across the edge of the crop when the whole image is decoded.
    assert np.abs(inside - outside).mean() < 0.5 and np.abs(inside - outside).max() < 16


def test_crops_cover_5_to_100_percent_at_aspects_around_1():
    """Read off a picture whose colours are its coordinates."""
    rows, columns = np.meshgrid(np.linspace(0, 255, 200), np.linspace(0, 255, 200), indexing="ij")
    coordinates = np.stack([rows, columns, rows * 0], -1).astype(np.uint8)
    content = tf.io.encode_jpeg(coordinates, quality=100, chroma_downsampling=False)
    found = pixels_of(crops(content, augment.keys(0, [0] * 300, np.arange(300)), size=32))
    height, width = (np.abs(found[:, -1, :, 0] - found[:, 0, :, 0]).mean(1) / 255,
                     np.abs(found[:, :, -1, 1] - found[:, :, 0, 1]).mean(1) / 255)
    assert 0.03 < (height * width).min() < 0.12 and (height * width).max() > 0.85
    assert 0.68 < (width / height).min() < 0.85 and 1.2 < (width / height).max() < 1.45


def test_a_box_a_hair_outside_the_image_is_a_box():
    record = classic_record(1, encoded(1), boxes=[(-1e-6, 0.2, 1.000001, 0.9)])
    content, boxes = Records("", [], "image/encoded", boxes=True).image(tf.constant(record))
    assert boxes.shape == (1, 1, 4)
    assert augment.training_image(content, boxes, augment.keys(0, [0], [0])[0], 16).shape == (16, 16, 3)


def test_a_flip_says_nothing_of_the_crop():
    """Red grows to the right and green downwards, so a crop shows its aspect and whether it was flipped."""
    red, green = np.broadcast_to(np.linspace(0, 255, 80), (60, 80)), np.broadcast_to(np.linspace(0, 255, 60)[:, None], (60, 80))
    picture = tf.io.encode_png(np.stack([red, green, red], -1).astype(np.uint8))
    found = pixels_of(crops(picture, augment.keys(3, [0] * 400, np.arange(400)), size=8, jpeg=False))
    across = (found[:, :, -1, 0] - found[:, :, 0, 0]).mean(1)
    aspects = np.abs(across) / (found[:, -1, :, 1] - found[:, 0, :, 1]).mean(1)
    assert abs(np.corrcoef(across < 0, aspects)[0, 1]) < 0.3
