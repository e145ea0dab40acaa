"""Streams of shards: every image once a pass, padding takes none, hosts share nothing, and a run goes on exactly."""

import collections

import numpy as np
import pytest
import tensorflow as tf
from reference import small_images
from reference.small_images import write_classic, write_folders

import tf_hugebatch as hb
from tf_hugebatch import data
from tf_hugebatch.data.order import Stream
from tf_hugebatch.data.padding import examples_of_host, training_micro_batches
from tf_hugebatch.layout import Layout
from tf_hugebatch.settings import Refusal

N = 12


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Twelve images, each of a class of its own, in four shards."""
    root = tmp_path_factory.mktemp("shards")
    for split, count in (("train", N), ("validation", 2)):
        records = [small_images.classic_record(label, small_images.encoded(label)) for label in range(count)]
        small_images.write_shards(root, split + "-{:05d}-of-{:05d}", records, shards=4 if split == "train" else 2)
    return root


def settings(folder, **given):
    return hb.Settings(**{"dataset": "imagenet2012", "data_dir": str(folder), "batch_size": 6, "model": "resnet18",
                          "image_size": 32, "shuffle": "shards", **given})


def cells(folder, layout, first=0, updates=4, host=(0, 1), seed=0):
    split = data.load(settings(folder, seed=seed)).train
    return list(training_micro_batches(split, Stream(seed, N, "shards"), layout, first, updates, host).as_numpy_iterator())


def real(found, name="label"):
    return [value for cell in found for value, weight in zip(cell[name], cell["weight"]) if weight]


def test_every_image_once_a_pass_and_positions_in_order(shards):
    layout = Layout(6, 4)  # each update is padded by two
    found = cells(shards, layout)
    assert [int(position) for position in real(found, "position")] == [*range(6)] * 4
    labels = real(found)
    assert sorted(labels) == sorted([*range(N)] * 2)
    assert labels != sorted(labels)
    assert real(cells(shards, layout, seed=1)) != labels


def test_the_process_global_seed_changes_nothing(shards):
    before = real(cells(shards, Layout(6, 6)))
    tf.random.set_seed(0)
    assert real(cells(shards, Layout(6, 6))) == before


def test_hosts_stream_shards_of_their_own(shards):
    layout = Layout(6, 3, 2)
    hosts = [cells(shards, layout, host=(number, 2)) for number in range(2)]
    first, second = (collections.Counter(map(int, real(found))) for found in hosts)
    assert not set(first) & set(second) and set(first) | set(second) == set(range(N))
    assert set(first.values()) == set(second.values()) == {2}
    assert examples_of_host(layout, (0, 2)) == examples_of_host(layout, (1, 2)) == 3


@pytest.mark.parametrize("host", [(0, 1), (1, 2)])
def test_going_on_at_an_update_is_going_on(shards, host):
    layout = Layout(6, 2, host[1])
    whole, rest = cells(shards, layout, host=host), cells(shards, layout, first=2, host=host)
    for one, other in zip(whole[-len(rest):], rest, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_more_hosts_than_shards(shards):
    with pytest.raises(ValueError, match="8 hosts and 4 training shards"):
        cells(shards, Layout(8, 1, 8), host=(0, 8))


def test_no_index_of_the_training_shards_is_made(shards):
    data.load(settings(shards))
    assert not (shards / "train.index.npz").exists() and (shards / "validation.index.npz").exists()


def test_class_folders_are_no_shards(tmp_path):
    with pytest.raises(Refusal, match="class folders"):
        data.load(settings(write_folders(tmp_path), batch_size=4))


def test_a_label_out_of_range_ends_the_run(tmp_path):
    write_classic(tmp_path)
    records = [small_images.classic_record(1000, small_images.encoded(1))] * 7
    small_images.write_shards(tmp_path, "train-{:05d}-of-{:05d}", records)
    with pytest.raises(Exception, match="outside 1 .. 1000"):
        cells(tmp_path, Layout(4, 4))
