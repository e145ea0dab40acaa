"""A subset of ImageNet is counted before anything is built; the full set is not looked at."""

import struct

import pytest

from tf_hugebatch import dataset_sizes
from tf_hugebatch.dataset_sizes import find_sizes
from tf_hugebatch.settings import Refusal, Settings


def class_folders(root, test="val", train=(3, 2), val=(1, 1, 2)):
    for split, counts in (("train", train), (test, val)):
        for label, count in enumerate(counts):
            folder = root / split / f"n{label:08d}"
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f"{i}.JPEG").touch()
            (folder / "notes.txt").touch()
    return str(root)


def record(length):
    return struct.pack("<Q", length) + b"sum1" + bytes(length) + b"sum2"


def shards(root, prefix="", middle="", counts=None, of=2):
    root.mkdir(parents=True, exist_ok=True)
    for split, records in (counts or {"train": 5, "validation": 3}).items():
        for shard in range(of):
            lengths = range(10 + shard, 10 + shard + records)
            path = root / f"{prefix}{split}{middle}-{shard:05d}-of-{of:05d}"
            path.write_bytes(b"".join(record(length) for length in lengths))
    return root


@pytest.mark.parametrize("test", ["val", "validation"])
def test_images_in_class_folders(tmp_path, test):
    assert find_sizes(class_folders(tmp_path, test)) == (5, 4)


def test_records_of_shards(tmp_path):
    assert find_sizes(str(shards(tmp_path))) == (10, 6)


def test_shards_in_folders_of_their_own(tmp_path):
    for split, records in (("train", 4), ("validation", 1)):
        shards(tmp_path / split, counts={split: records}, of=3)
    assert find_sizes(str(tmp_path)) == (12, 3)


def test_shards_that_tfds_prepared(tmp_path):
    shards(tmp_path / "imagenet2012" / "5.1.0", "imagenet2012-", ".tfrecord")
    assert find_sizes(str(tmp_path)) == (10, 6)


def test_as_many_shards_as_the_full_set_has_are_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_sizes, "FULL_TRAIN_SHARDS", 2)
    for path in shards(tmp_path).iterdir():
        path.write_bytes(b"not a record")
    assert find_sizes(str(tmp_path)) is None


@pytest.mark.parametrize("spoil", ["empty", "torn", "one split"])
def test_what_cannot_be_counted_is_left_to_the_loader(tmp_path, spoil):
    if spoil == "torn":
        path = shards(tmp_path) / "train-00001-of-00002"
        path.write_bytes(path.read_bytes()[:-3])
    if spoil == "one split":
        shards(tmp_path, counts={"train": 2})
    assert find_sizes(str(tmp_path)) is None


def test_neither_buckets_nor_missing_folders_are_looked_into(tmp_path):
    assert find_sizes("gs://bucket/imagenet") is None
    assert find_sizes(str(tmp_path / "missing")) is None


def test_settings_count_in_updates_of_the_subset(tmp_path):
    settings = Settings(dataset="imagenet2012", data_dir=class_folders(tmp_path), batch_size="full", epochs=7)
    assert settings.dataset_size == (5, 4) and settings.sources["dataset_size"] == "counted in data_dir"
    assert settings.train_examples == settings.batch_size == 5 and settings.total_updates == 7
    assert Settings(**settings.as_dict()) == settings
    again = {name: value for name, value in settings.as_dict().items() if name not in ("data_dir", "run_dir")}
    assert Settings(**again).experiment_hash() == settings.experiment_hash()


def test_a_size_that_the_folder_contradicts_is_refused(tmp_path):
    with pytest.raises(Refusal) as caught:
        Settings(dataset="imagenet2012", data_dir=class_folders(tmp_path), dataset_size="6,4", batch_size=2)
    [problem] = caught.value.problems
    assert "--dataset_size=6,4" in problem and "5 training and 4 test" in problem and "drop" in problem


def test_made_images_come_in_any_number():
    settings = Settings(dataset="synthetic", dataset_size="1000,10", batch_size="full")
    assert settings.batch_size == 1000 and settings.sizes == (1000, 10)
