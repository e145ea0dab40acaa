"""TFRecord shards that are damaged after their index was made, while a run reads them: named, counted, never trained on."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from reference.interruptions import after
from reference.small_images import write_classic

import tf_hugebatch as hb
from tf_hugebatch import data
from tf_hugebatch.data import images, tfrecord
from tf_hugebatch.data.order import Stream
from tf_hugebatch.data.padding import evaluation_batches, training_micro_batches
from tf_hugebatch.layout import Layout
from tf_hugebatch.stops import RunStopped
from tf_hugebatch.training.failures import explained

SHARD = "validation-00001-of-00002"  # of images 1 and 3


def settings(folder, **given):
    return hb.Settings(**{"dataset": "imagenet2012", "data_dir": str(folder), "batch_size": 4, "model": "resnet18",
                          "image_size": 32, **given})


def weights_of(split):
    return np.concatenate([batch["weight"] for batch in evaluation_batches(split, 3, 1).as_numpy_iterator()])[:len(split)]


def place_of_a_pixel(folder):
    """A byte of the first record of SHARD whose change still leaves a JPEG that decodes."""
    content = (folder / SHARD).read_bytes()
    [record] = tf.data.TFRecordDataset(str(folder / SHARD)).take(1)
    encoded = tf.train.Example.FromString(record.numpy()).features.feature["image/encoded"].bytes_list.value[0]
    before = tf.io.decode_jpeg(encoded).numpy()
    for place in range(len(encoded) - 3, 0, -1):
        changed = encoded[:place] + bytes([encoded[place] ^ 4]) + encoded[place + 1:]
        try:
            if (tf.io.decode_jpeg(changed).numpy() != before).any():
                return content.index(encoded) + place
        except tf.errors.InvalidArgumentError:
            continue


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


@pytest.mark.fault("one bit of an image in a TFRecord shard turns over, and it still decodes",
                   holds="the image is named, counted and weighs nothing; the others are read")
def test_a_bit_that_decoding_does_not_see(tmp_path, capfd):
    split = data.load(settings(write_classic(tmp_path))).test
    assert weights_of(split).tolist() == [1, 1, 1, 1]
    flip(tmp_path / SHARD, place_of_a_pixel(tmp_path))
    for _ in range(2):
        assert weights_of(split).tolist() == [1, 1, 0, 1], "order of the shards: 0 and 2, 1 and 3"
    said = capfd.readouterr().err
    assert said.count(f"left out: {tmp_path / SHARD}, record 0 (changed or cut off since it was indexed") == 1
    assert len(split.undecodable) == 1


@pytest.mark.fault("a TFRecord shard is cut off while it is read",
                   holds="what is missing is named and counted; the others are read")
def test_a_shard_that_is_cut_off_while_it_is_read(tmp_path, capfd):
    split = data.load(settings(write_classic(tmp_path))).test
    path = tmp_path / SHARD
    path.write_bytes(path.read_bytes()[:-10])
    assert weights_of(split).tolist() == [1, 1, 1, 0]
    path.write_bytes(b"")
    assert weights_of(split).tolist() == [1, 1, 0, 0]
    said = capfd.readouterr().err
    assert said.count(f"{path}, record 0 (changed") == said.count(f"{path}, record 1 (changed") == 1


@pytest.mark.slow
def test_any_damage_to_a_shard_is_seen(tmp_path):
    split = data.load(settings(write_classic(tmp_path))).test
    whole = (tmp_path / SHARD).read_bytes()
    paths = [str(path) for path in sorted(tmp_path.glob("validation-*"))]
    index = tfrecord.read_index(str(tmp_path), "validation", paths)
    payload = [place for first, length in zip(index[1].offsets, index[1].lengths) for place in range(first, first + length)]

    @examples(max_examples=15, deadline=None, derandomize=True, database=None)
    @given(st.sampled_from(payload), st.integers(1, 255))
    def check(place, mask):
        content = bytearray(whole)
        content[place] ^= mask
        (tmp_path / SHARD).write_bytes(content)
        assert weights_of(split).sum() == 3

    check()


def test_an_index_of_an_earlier_release_is_made_again(tmp_path):
    data.load(settings(write_classic(tmp_path)))
    path = tmp_path / "validation.index.npz"
    with np.load(path) as stored:
        made = dict(stored)
    np.savez(path, **{name: array for name, array in made.items() if name != "checksums"})
    data.load(settings(tmp_path))
    with np.load(path) as stored:
        assert sorted(stored) == sorted(made) and all((stored[name] == made[name]).all() for name in made)


# What ends a run.


def test_too_many_damaged_images_are_a_line_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "_TOLERATED", 0)
    split = data.load(settings(write_classic(tmp_path))).test
    (tmp_path / SHARD).write_bytes(b"")
    with pytest.raises(tf.errors.OpError) as raised:
        weights_of(split)
    stopped = explained(raised.value, settings(tmp_path))
    assert isinstance(stopped, RunStopped) and stopped.status == "failed"
    text = str(stopped)
    assert text.startswith(f"--data_dir={tmp_path}: ") and "of 4 images can't be decoded" in text and "Traceback" not in text
    assert "prepare them anew" in text and "goes on from the last checkpoint" in text


@pytest.mark.parametrize("damage", [lambda content: content[:-10], lambda content: content[:60] + b"?" + content[61:]])
def test_a_damaged_record_of_a_stream_is_a_line_with_the_remedy(tmp_path, damage):
    streamed = settings(write_classic(tmp_path), shuffle="shards")
    split = data.load(streamed).train
    path = tmp_path / "train-00001-of-00002"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(tf.errors.OpError) as raised:
        list(training_micro_batches(split, Stream(0, 7, "shards"), Layout(4, 4), 0, 4))
    text = str(explained(raised.value, streamed))
    assert text.startswith(f"--data_dir={tmp_path}: ") and " record at " in text and "--shuffle=examples" in text


def test_an_error_of_our_own_is_not_explained_away(tmp_path):
    for error in (ValueError("7 of 9"), tf.errors.InvalidArgumentError(None, None, "shapes don't fit"), KeyError("at 3")):
        assert explained(error, settings(write_classic(tmp_path))) is None


@pytest.mark.slow
@pytest.mark.fault("a streamed TFRecord shard is damaged in the middle of a run",
                   holds="the last checkpoint; it goes on when copied again")
def test_a_run_that_streams_stops_and_goes_on(tmp_path, monkeypatch):
    given = settings(write_classic(tmp_path / "data"), shuffle="shards", train_steps=40, warmup_steps=0, steps_per_loop=1,
                     checkpoint_every_steps=2, eval_every_epochs=100, evaluate_test=True, eval_batch_size=4,
                     run_dir=str(tmp_path / "run"), bn_span=4)
    path = tmp_path / "data" / "train-00001-of-00002"
    whole = path.read_bytes()
    with monkeypatch.context() as patch:
        after(patch, 3, lambda: path.write_bytes(whole[:60] + b"?" + whole[61:]))
        with pytest.raises(RunStopped, match="corrupted record at .*--shuffle=examples"):
            hb.train(given)
    assert list((tmp_path / "run" / "checkpoints").glob("update-*"))
    path.write_bytes(whole)
    assert hb.train(given).status in ("done", "diverged")
