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
    good, bad = (small_images.classic_record(label, small_images.encoded(1)) for label in (0, 1000))
    records = [good, bad] * 4  # the bad ones in the second shard: of the first, labels are looked at before
    small_images.write_shards(tmp_path, "train-{:05d}-of-{:05d}", records)
    with pytest.raises(Exception, match="outside 1 .. 1000"):
        cells(tmp_path, Layout(4, 4))


def test_a_damaged_record_is_one_however_often_it_comes(tmp_path, capfd):
    records = [small_images.classic_record(label, b"bad" if label == 3 else small_images.encoded(label)) for label in range(N)]
    small_images.write_shards(tmp_path, "train-{:05d}-of-{:05d}", records)
    small_images.write_shards(tmp_path, "validation-{:05d}-of-{:05d}", records[:2])
    split = data.load(settings(tmp_path)).train
    passes = 13
    batches = training_micro_batches(split, Stream(0, N, "shards"), Layout(6, 6), 0, 2 * passes)
    weights = [cell["weight"].sum() for cell in batches.as_numpy_iterator()]
    assert sum(weights) == (N - 1) * passes
    assert len(split.undecodable) == 1
    assert capfd.readouterr().err.count("undecodable image, left out: a record of the training shards") == 1


@pytest.mark.parametrize("index", [False, True])
def test_a_torn_training_shard_is_refused(tmp_path, index):
    write_classic(tmp_path)
    if index:
        data.load(settings(tmp_path, shuffle="examples", batch_size=4))
    path = tmp_path / "train-00001-of-00002"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(Refusal, match="train-00001-of-00002.*cut off"):
        data.load(settings(tmp_path, batch_size=4))


def test_of_a_full_set_a_shard_that_is_much_shorter_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tf_hugebatch.dataset_sizes.FULL_TRAIN_SHARDS", 4)
    monkeypatch.setattr("tf_hugebatch.data.imagenet.FULL_TRAIN_SHARDS", 4)
    record = small_images.classic_record(0, small_images.encoded(1))
    small_images.write_shards(tmp_path, "train-{:05d}-of-{:05d}", [record] * 40, shards=4)
    small_images.write_shards(tmp_path, "validation-{:05d}-of-{:05d}", [record] * 4)
    assert len(data.load(settings(tmp_path)).train) == 1_281_167
    with tf.io.TFRecordWriter(str(tmp_path / "train-00002-of-00004")) as writer:
        writer.write(record)
    with pytest.raises(Refusal, match="train-00002-of-00004 has .* bytes, most have"):
        data.load(settings(tmp_path))


def test_training_labels_tell_what_labels_are_counted_from(tmp_path):
    """Of these test labels one can't say; the training shards start at 0, although their layout's habit is 1."""
    for split, labels in (("train", [0, 3, 4, 5]), ("validation", [3, 4])):
        records = [small_images.classic_record(label, small_images.encoded(label), first_label=0) for label in labels]
        small_images.write_shards(tmp_path, split + "-{:05d}-of-{:05d}", records)
    for shuffle in ("examples", "shards"):
        splits = data.load(settings(tmp_path, shuffle=shuffle, batch_size=4))
        assert sorted(splits.test.labels) == [3, 4]


def test_hosts_do_not_go_through_their_shards_in_step(shards):
    found = [list(map(int, real(cells(shards, Layout(6, 3, 2), updates=16, host=(number, 2))))) for number in range(2)]
    first, second = ([sorted(set(labels)).index(label) for label in labels] for labels in found)
    assert first != second
