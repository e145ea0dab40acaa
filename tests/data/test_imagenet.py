"""ImageNet in three layouts: the same images whatever the layout; what does not fit is refused by name."""

import io
import json
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from reference import small_images
from reference.small_images import write_classic, write_folders, write_tfds

import tf_hugebatch as hb
from tf_hugebatch import data, dataset_sizes
from tf_hugebatch.data import augment, images, tfrecord
from tf_hugebatch.data.class_folders import Files, files_of
from tf_hugebatch.data.images import ImageSplit
from tf_hugebatch.data.order import Stream
from tf_hugebatch.data.padding import evaluation_batches, training_micro_batches
from tf_hugebatch.layout import Layout
from tf_hugebatch.settings import Refusal

LAYOUTS = {"folders": write_folders, "classic": write_classic, "tfds": write_tfds}
LABELS = {"train": [0, 0, 0, 1, 1, 2, 2], "test": [0, 1, 2, 2]}


def settings(folder, **given):
    return hb.Settings(**{"dataset": "imagenet2012", "data_dir": str(folder), "batch_size": 4, "model": "resnet18",
                          "image_size": 32, **given})


def all_of(split, size=3):
    batches = list(evaluation_batches(split, size, 1).as_numpy_iterator())
    keep = np.concatenate([batch["weight"] for batch in batches]) > 0
    return {name: np.concatenate([batch[name] for batch in batches])[keep] for name in ("image", "label", "position")}


def epochs_of(split, micro, replicas=1, seed=0, updates=4):
    """{(update, position): image} of training."""
    layout = Layout(5, micro, replicas)
    cells = list(training_micro_batches(split, Stream(seed, len(split)), layout, 0, updates).as_numpy_iterator())
    found = {}
    for number, cell in enumerate(cells):
        for slot in np.flatnonzero(cell["weight"]):
            found[number // (layout.rounds * replicas), int(cell["position"][slot])] = cell["image"][slot]
    return found


def problems(folder, **given):
    with pytest.raises(Refusal) as caught:
        data.load(settings(folder, **given))
    return caught.value.problems


# What is read.


@pytest.mark.parametrize("layout", LAYOUTS)
def test_labels_counts_and_images(tmp_path, layout, capfd):
    splits = data.load(settings(LAYOUTS[layout](tmp_path)))
    said = capfd.readouterr().err
    assert "7 training and 4 test images" in said and f"labels counted from {1 if layout == 'classic' else 0}" in said
    assert sorted(splits.train.labels) == LABELS["train"] and sorted(splits.test.labels) == LABELS["test"]
    found = all_of(splits.test)
    assert found["image"].shape == (4, 32, 32, 3) and found["position"].tolist() == [0, 1, 2, 3]
    assert found["label"].tolist() == splits.test.labels.tolist()
    expected = {label: [central(data) for one, data in small_images.images((1, 1, 2)) if one == label] for label in range(3)}
    for image, label in zip(found["image"], found["label"]):
        assert min(np.abs(image - other).max() for other in expected[label]) < 1e-4


def central(data, side=32, decode=lambda data: tf.io.decode_image(data, 3)):
    """A twin of the evaluation crop: bilinear interpolation at half-pixel centres, by NumPy."""
    image = np.asarray(decode(data), np.float32)
    scale = side * 256 / 224 / min(image.shape[:2])
    height, width = (int(round(extent * scale)) for extent in image.shape[:2])
    rows, columns = (np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
                     for new, old in ((height, image.shape[0]), (width, image.shape[1])))

    def mix(values, places, axis):
        low = np.floor(places).astype(int)
        high = np.minimum(low + 1, values.shape[axis] - 1)
        part = (places - low).reshape([-1 if i == axis else 1 for i in range(3)])
        return values.take(low, axis) * (1 - part) + values.take(high, axis) * part

    resized = mix(mix(image, rows, 0), columns, 1)
    top, left = (height - side) // 2, (width - side) // 2
    return (resized[top:top + side, left:left + side] - augment.MEAN) / augment.STANDARD_DEVIATION


def by_pillow(data):
    """Another decoder, whose colours differ by rounding."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def test_the_index_is_made_once_and_points_at_the_payloads(tmp_path):
    write_classic(tmp_path)
    data.load(settings(tmp_path))
    path = tmp_path / "train.index.npz"
    made = path.stat().st_mtime_ns
    data.load(settings(tmp_path))
    assert path.stat().st_mtime_ns == made
    shards = tfrecord.read_index(str(tmp_path), "train", [str(shard) for shard in sorted(tmp_path.glob("train-*"))])
    for shard in shards:
        stored = (tmp_path / shard.name).read_bytes()
        records = [record.numpy() for record in tf.data.TFRecordDataset(str(tmp_path / shard.name))]
        assert [stored[start:start + length] for start, length in zip(shard.offsets, shard.lengths)] == records


def test_shards_in_a_bucket_are_read_like_shards_in_a_folder(tmp_path):
    """TensorFlow's file system in memory stands for the bucket: everything goes through tf.io.gfile."""
    write_classic(tmp_path)
    for path in tmp_path.iterdir():
        with tf.io.gfile.GFile(f"ram://imagenet/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    remote = data.load(settings("ram://imagenet", dataset_size=(7, 4)))
    assert tf.io.gfile.exists("ram://imagenet/train.index.npz")
    again = data.load(settings("ram://imagenet", dataset_size=(7, 4)))
    local = data.load(settings(tmp_path))
    for split in (remote, again):
        for one, other in zip(epochs_of(split.train, 5).values(), epochs_of(local.train, 5).values(), strict=True):
            np.testing.assert_array_equal(one, other)
    streamed = data.load(settings("ram://imagenet", dataset_size=(7, 4), shuffle="shards"))
    layout = Layout(4, 4)
    cells = list(training_micro_batches(streamed.train, Stream(0, 7, "shards"), layout, 0, 7).as_numpy_iterator())
    assert sorted(np.concatenate([cell["label"] for cell in cells])) == sorted(LABELS["train"] * 4)


def test_an_image_in_training_depends_on_seed_epoch_and_image_alone(tmp_path):
    split = data.load(settings(write_classic(tmp_path))).train
    one, other = epochs_of(split, 5), epochs_of(split, 2, replicas=2)
    assert one.keys() == other.keys()
    for place in one:
        np.testing.assert_array_equal(one[place], other[place])
    # Image 0 of epochs 0 and 1: other crops. The same image with another seed: likewise.
    ids = Stream(0, 7).examples(0, 14)[0]
    first, second = (int(place) for place in np.flatnonzero(ids == 0))
    assert np.abs(one[first // 5, first % 5] - one[second // 5, second % 5]).max() > 0.1
    reseeded = data.load(settings(tmp_path, seed=1)).train
    assert np.abs(epochs_of(reseeded, 5)[first // 5, first % 5] - one[first // 5, first % 5]).max() > 0.1


def test_a_held_out_image_keeps_its_number_and_so_its_crops(tmp_path):
    write_classic(tmp_path)
    splits = data.load(settings(tmp_path, validation_examples=2, batch_size=4))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (5, 2, 4)
    whole = all_of(data.load(settings(tmp_path)).train)["image"]
    parts = np.concatenate([all_of(splits.train)["image"], all_of(splits.validation)["image"]])
    assert {image.tobytes() for image in parts} == {image.tobytes() for image in whole}


def test_boxes_steer_the_crop(tmp_path):
    """A box in one corner, with all of it to be covered at least by a tenth: crops that miss the corner are not taken."""
    plain, boxed = (data.load(settings(write_classic(tmp_path / name, boxes=boxes))).train
                    for name, boxes in (("plain", None), ("boxed", [(0.0, 0.0, 0.05, 0.05)])))
    assert any(not np.array_equal(one, other)
               for one, other in zip(epochs_of(plain, 5).values(), epochs_of(boxed, 5).values()))
    empty = data.load(settings(write_classic(tmp_path / "empty", boxes=[]))).train
    for one, other in zip(epochs_of(plain, 5).values(), epochs_of(empty, 5).values()):
        np.testing.assert_array_equal(one, other)


# What is hard to read.


def split_of(tmp_path, contents, image_size=32):
    paths = []
    for number, content in enumerate(contents):
        path = tmp_path / f"{number}.JPEG"
        path.write_bytes(content)
        paths.append(str(path))
    return ImageSplit(Files(paths), np.arange(len(paths)), np.arange(len(paths), dtype=np.int32), image_size, 0)


@pytest.mark.parametrize("training", [True, False])
def test_cmyk_greyscale_and_a_png_by_the_name_of_jpeg_are_images(tmp_path, training):
    contents = [small_images.encoded(1, mode="CMYK"), small_images.encoded(2, mode="L"), small_images.encoded(3, "PNG"),
                small_images.encoded(4)]
    split = split_of(tmp_path, contents)
    if training:
        found = np.stack(list(epochs_of(split, 5).values()))
    else:
        found = all_of(split)["image"]
        for image, content in zip(found, contents):
            assert np.abs(image - central(content, decode=by_pillow)).mean() < 0.1
    assert np.isfinite(found).all() and len(split.undecodable) == 0


@pytest.mark.parametrize("bad", [b"", b"no image at all", small_images.encoded(9)[:300]])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_what_cannot_be_decoded_is_named_once_counted_and_weighs_nothing(tmp_path, bad, size, capfd):
    contents = [small_images.encoded(i) for i in range(5)]
    contents[2] = bad
    split = split_of(tmp_path, contents)
    for _ in range(2):
        batches = list(evaluation_batches(split, size, 1).as_numpy_iterator())
        weights = np.concatenate([batch["weight"] for batch in batches])[:5]
        assert weights.tolist() == [1, 1, 0, 1, 1]
        found = np.concatenate([batch["image"] for batch in batches])
        for i in (0, 1, 3, 4):
            assert np.abs(found[i] - central(contents[i])).max() < 1e-4
    assert len(split.undecodable) == 1
    assert capfd.readouterr().err.count(f"undecodable image, left out: {tmp_path / '2.JPEG'}") == 1


def test_the_count_is_shared_by_what_is_held_out(tmp_path):
    """Also while it is 0: an empty count is one to share."""
    split = split_of(tmp_path, [small_images.encoded(1), b"bad", small_images.encoded(2)])
    kept, held_out = split.take(np.array([0, 2])), split.take(np.array([1]))
    list(evaluation_batches(held_out, 1, 1))
    assert len(split.undecodable) == len(kept.undecodable) == 1


def test_a_file_that_cannot_be_read_ends_the_run(tmp_path):
    """A hiccup of the storage is no property of the image."""
    split = split_of(tmp_path, [small_images.encoded(1), small_images.encoded(2)])
    (tmp_path / "1.JPEG").unlink()
    with pytest.raises(tf.errors.OpError, match="1.JPEG"):
        list(evaluation_batches(split, 2, 1))


def test_too_many_of_them_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_TOLERATED", 2)
    split = split_of(tmp_path, [b"bad"] * 3 + [small_images.encoded(1)])
    with pytest.raises(tf.errors.OpError, match="3 of 4 images can't be decoded"):
        list(evaluation_batches(split, 4, 1))


# What is refused.


def test_a_folder_without_images(tmp_path):
    (tmp_path / "notes.txt").touch()
    [problem] = problems(tmp_path)
    assert f"--data_dir={tmp_path}" in problem and "notes.txt" in problem
    for word in ("train-00000-of-01024", "imagenet2012-train", "class folders", "prepare_imagenet", "synthetic"):
        assert word in problem


def test_without_a_folder_tfds_own_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    with pytest.raises(Refusal, match="no such folder"):
        data.load(hb.Settings(dataset="imagenet2012"))


def test_a_missing_shard_is_named(tmp_path):
    (write_classic(tmp_path) / "train-00001-of-00002").unlink()
    [problem] = problems(tmp_path, dataset_size=(4, 4))
    assert "1 of 2 train shards are missing (00001)" in problem


def test_one_split_only(tmp_path):
    for path in write_classic(tmp_path).glob("validation-*"):
        path.unlink()
    assert "no validation shards" in problems(tmp_path)[0]


def test_a_shard_cut_off_inside_a_record_is_named(tmp_path):
    path = write_classic(tmp_path) / "train-00001-of-00002"
    path.write_bytes(path.read_bytes()[:-10])
    [problem] = problems(tmp_path)
    assert str(path) in problem and "damaged or cut off" in problem


def test_a_shard_that_changed_since_it_was_indexed_is_named(tmp_path):
    data.load(settings(write_classic(tmp_path)))
    path = tmp_path / "train-00001-of-00002"
    content = path.read_bytes()
    path.write_bytes(content[:len(content) // 2])
    [problem] = problems(tmp_path)
    assert str(path) in problem and "index" in problem and "delete" in problem


def test_a_shard_shorter_than_dataset_info_says_is_named(tmp_path):
    folder = write_tfds(tmp_path) / "imagenet2012" / "5.1.0"
    info = {"splits": [{"name": "train", "shardLengths": ["4", "4"]}, {"name": "validation", "shardLengths": ["2", "2"]}]}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    [problem] = problems(tmp_path)
    assert "00001-of-00002 holds 3 records and dataset_info.json says 4" in problem


def test_shards_of_another_data_set_are_named(tmp_path):
    record = tf.train.Example(features=tf.train.Features(feature={
        "image_raw": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"]))})).SerializeToString()
    for split in ("train", "validation"):
        small_images.write_shards(tmp_path, split + "-{:05d}-of-{:05d}", [record] * 4)
    found = problems(tmp_path)
    assert len(found) == 2 and all("image_raw" in problem and "another data set" in problem for problem in found)


@pytest.mark.parametrize("labels, offset", [((0, 999), 0), ((1, 1000), 1), ((0, 5), 0), ((5, 9), 1)])
def test_the_offset_is_told_by_the_labels(tmp_path, labels, offset):
    for split in ("train", "validation"):
        records = [small_images.classic_record(label, small_images.encoded(1), first_label=0) for label in labels]
        small_images.write_shards(tmp_path, split + "-{:05d}-of-{:05d}", records)
    assert data.load(settings(tmp_path, batch_size=2)).train.labels.tolist() == [label - offset for label in labels]


@pytest.mark.parametrize("labels", [(0, 1000), (1, 1001), (-5, 3)])
def test_labels_that_fit_neither_way_are_refused(tmp_path, labels):
    for split in ("train", "validation"):
        records = [small_images.classic_record(label, small_images.encoded(1), first_label=0) for label in labels]
        small_images.write_shards(tmp_path, split + "-{:05d}-of-{:05d}", records)
    [problem] = problems(tmp_path, batch_size=2)
    assert f"labels from {labels[0]} to {labels[1]}" in problem and "1,000 classes" in problem


def test_a_full_set_with_a_short_shard_is_refused_and_the_shard_named(tmp_path, monkeypatch):
    """As many shards as the full set has are not counted: they must hold all of it."""
    monkeypatch.setattr(dataset_sizes, "FULL_TRAIN_SHARDS", 2)
    [train, _] = problems(write_classic(tmp_path, train=(4, 3, 2)))
    assert "9 train images, 1,281,167 expected" in train and "train-00001-of-00002 has 4 records" in train


@pytest.mark.parametrize("layout", ["classic", "tfds"])
def test_a_look_reads_no_records_and_writes_nothing(tmp_path, layout):
    LAYOUTS[layout](tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert data.look(settings(tmp_path)) is None
    assert sorted(tmp_path.rglob("*")) == before
    first = data.load(settings(tmp_path))
    assert data.look(settings(tmp_path)).fingerprint() == first.fingerprint()


@pytest.mark.parametrize("split, shard", [("train", "train-00001-of-00002"), ("validation", "validation-00000-of-00002")])
def test_a_look_finds_a_torn_shard_of_a_part_of_the_set(tmp_path, split, shard):
    """Nobody can count it, and a dry run would plan for all of ImageNet."""
    write_classic(tmp_path)
    [path] = [path for path in tmp_path.iterdir() if path.name.startswith(shard[:-len("00002")])]
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(Refusal, match=f"{path.name}.*cut off"):
        data.look(settings(tmp_path, batch_size=4))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_look_finds_a_shard_of_a_full_set_that_is_much_shorter(tmp_path, monkeypatch, split):
    monkeypatch.setattr("tf_hugebatch.dataset_sizes.FULL_TRAIN_SHARDS", 4)
    monkeypatch.setattr("tf_hugebatch.data.imagenet.FULL_TRAIN_SHARDS", 4)
    record = small_images.classic_record(0, small_images.encoded(1))
    for name in ("train", "validation"):
        small_images.write_shards(tmp_path, name + "-{:05d}-of-{:05d}", [record] * 40, shards=4)
    assert data.look(settings(tmp_path)) is None
    with tf.io.TFRecordWriter(str(tmp_path / f"{split}-00002-of-00004")) as writer:
        writer.write(record)
    with pytest.raises(Refusal, match=f"{split}-00002-of-00004 has .* bytes, most have"):
        data.look(settings(tmp_path))


def test_a_look_finds_shards_of_another_data_set(tmp_path):
    write_classic(tmp_path)
    other = tf.train.Example(features=tf.train.Features(feature={})).SerializeToString()
    small_images.write_shards(tmp_path, "train-{:05d}-of-{:05d}", [other] * 4)
    with pytest.raises(Refusal, match="image/encoded"):
        data.look(settings(tmp_path, dataset_size=(4, 4)))


def test_the_newest_of_two_versions_is_counted_and_read(tmp_path):
    write_tfds(tmp_path)
    (tmp_path / "imagenet2012" / "5.1.0").rename(tmp_path / "imagenet2012" / "5.0.0")
    write_tfds(tmp_path, train=(4, 4, 4))
    found = settings(tmp_path)
    assert found.sizes == (12, 4) and len(data.load(found).train) == 12


def test_the_fingerprint_is_of_the_examples_in_their_order(tmp_path):
    """Shards and folders of the same images number them differently: a checkpoint of one does not fit the other."""
    def fingerprint(layout, **given):
        folder = tmp_path / layout
        if not folder.exists():
            folder.mkdir()
            LAYOUTS[layout](folder)
        return data.load(settings(folder, **given)).fingerprint()

    assert fingerprint("folders") == fingerprint("folders") != fingerprint("classic")
    assert fingerprint("folders") != fingerprint("folders", validation_examples=2)


def test_folders_without_images_are_no_classes(tmp_path):
    write_folders(tmp_path)
    before = data.load(settings(tmp_path)).fingerprint()
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "train" / "a").mkdir()
    (tmp_path / "train" / "a" / "notes.txt").write_text("none")
    assert data.load(settings(tmp_path)).fingerprint() == before


def test_more_folders_than_classes(tmp_path):
    write_folders(tmp_path)
    for number in range(1000):
        (tmp_path / "train" / f"m{number:08d}").mkdir()
        (tmp_path / "train" / f"m{number:08d}" / "1.JPEG").write_bytes(b"")
    [problem] = problems(tmp_path)
    assert "1,003 class folders" in problem and "such as m00000000" in problem


def test_two_layouts_in_one_folder(tmp_path):
    write_folders(write_classic(tmp_path))
    [problem] = problems(tmp_path, dataset_size=None)
    assert "several layouts" in problem and "class folders" in problem and "classic" in problem


def test_another_number_of_images_than_the_settings_count_on(tmp_path):
    chosen = settings(write_folders(tmp_path))
    (tmp_path / "train" / small_images.SYNSETS[0] / "0.JPEG").unlink()
    with pytest.raises(Refusal, match="6 train images, 7 expected"):
        data.load(chosen)


@pytest.mark.parametrize("spoil", [b"not an index", b""])
def test_a_damaged_index_is_refused_with_the_remedy(tmp_path, spoil):
    data.load(settings(write_classic(tmp_path)))
    (tmp_path / "train.index.npz").write_bytes(spoil)
    [problem] = problems(tmp_path)
    assert "train.index.npz is damaged" in problem and "delete" in problem


def test_files_come_by_class_and_name_and_a_class_may_have_none(tmp_path, monkeypatch):
    for name in ("b/2.JPEG", "b/1.JPEG", "a/3.JPEG"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: sorted(listed(folder), reverse=True))
    paths, labels = files_of(str(tmp_path), ["a", "b", "c"])
    assert [os.path.relpath(path, tmp_path) for path in paths] == ["a/3.JPEG", "b/1.JPEG", "b/2.JPEG"]
    assert labels.tolist() == [0, 1, 1]
