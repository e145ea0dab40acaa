"""Made images: a function of their number, balanced, learnable, and nothing that grows with how many there are."""

import time
import types

import numpy as np
import pytest

import tf_hugebatch as hb
from tf_hugebatch import data, published
from tf_hugebatch.data.order import Stream
from tf_hugebatch.data.padding import evaluation_batches, training_micro_batches
from tf_hugebatch.data.synthetic import MadeImages, load
from tf_hugebatch.layout import Layout


def all_of(split, size=16):
    batches = list(evaluation_batches(split, size, 1).as_numpy_iterator())
    keep = np.concatenate([batch["weight"] for batch in batches]) > 0
    return tuple(np.concatenate([batch[name] for batch in batches])[keep] for name in ("image", "label"))


def test_an_image_is_a_function_of_its_number_alone():
    numbers = np.random.default_rng(0).permutation(300)
    images, labels = all_of(MadeImages(np.arange(300), 32, 10))
    again, labels_again = all_of(MadeImages(numbers, 32, 10), size=7)
    np.testing.assert_array_equal(again, images[numbers])
    np.testing.assert_array_equal(labels_again, labels[numbers])
    part, _ = all_of(MadeImages(np.arange(300), 32, 10).take([5, 2]))
    np.testing.assert_array_equal(part, images[[5, 2]])


def test_a_small_training_set_shows_the_classes_that_are_tested():
    splits = load(hb.Settings(dataset="synthetic", dataset_size=(512, 64), image_size=8, model="resnet9", batch_size=8))
    (images, labels), (tested, asked) = all_of(splits.train, 64), all_of(splits.test, 64)
    assert set(asked) <= set(labels) and not {one.tobytes() for one in images} & {one.tobytes() for one in tested}


def test_training_reads_the_same_images_by_the_stream():
    split, stream, layout = MadeImages(np.arange(40), 32, 10), Stream(1, 40), Layout(20, 8)
    images, labels = all_of(split)
    for index, cell in enumerate(training_micro_batches(split, stream, layout, 0, 3).as_numpy_iterator()):
        real = cell["weight"] > 0
        ids, _ = stream.examples(20 * (index // layout.rounds), 20)
        np.testing.assert_array_equal(cell["image"][real], images[ids[cell["position"][real]]])
        np.testing.assert_array_equal(cell["label"][real], labels[ids[cell["position"][real]]])


def test_images_differ_and_are_of_ordinary_size():
    images, labels = all_of(MadeImages(np.arange(2000), 32, 1000))
    assert len({image.tobytes() for image in images}) == 2000
    assert abs(images.mean()) < 0.1 and 0.7 < images.std() < 1.3
    assert np.bincount(labels).tolist() == [2] * 1000


def test_as_many_as_imagenet_has_take_no_time_and_a_few_megabytes():
    started = time.monotonic()
    splits = load(hb.Settings(dataset="synthetic", image_size=32))
    assert splits.note == "made images"  # beside every accuracy that is made with them
    assert time.monotonic() - started < 2
    full = published.BASELINES["imagenet2012"]
    assert (len(splits.train), len(splits.test)) == (full.train_examples, full.test_examples)
    assert np.bincount(splits.train.labels).min() >= full.train_examples // 1000


def test_no_image_is_in_two_splits():
    settings = hb.Settings(dataset="synthetic", dataset_size="200,50", batch_size=10, validation_examples=40,
                           image_size=32)
    splits = data.load(settings)
    sizes = [len(split) for split in (splits.train, splits.validation, splits.test)]
    assert sizes == [160, 40, 50]
    images = [image.tobytes() for split in (splits.train, splits.validation, splits.test) for image in all_of(split)[0]]
    assert len(set(images)) == 250


def test_the_class_can_be_seen():
    """Nearest class mean of one half finds the class of the other half, far above chance."""
    images, labels = all_of(MadeImages(np.arange(2000), 32, 50))
    flat = images.reshape(2000, -1)
    means = np.stack([flat[:1000][labels[:1000] == label].mean(axis=0) for label in range(50)])
    found = np.argmin(((flat[1000:, None] - means[None]) ** 2).sum(-1), axis=1)
    assert np.mean(found == labels[1000:]) > 0.9


@pytest.mark.parametrize("side", [32, 65])
def test_any_side(side):
    assert all_of(MadeImages(np.arange(3), side, 10))[0].shape == (3, side, side, 3)


def test_the_loader_needs_sizes_and_nothing_else():
    settings = types.SimpleNamespace(sizes=(6, 2), image_size=32, validation_examples=0)
    assert len(load(settings).train) == 6
