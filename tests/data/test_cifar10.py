"""CIFAR-10 in every form that it comes in, pickles that would do harm, standardising, shifts and flips."""

import os
import pathlib
import pickle
import types

import numpy as np
import pytest
import tensorflow as tf
from reference import small_cifar
from reference.small_cifar import COUNTS

from tf_hugebatch.data import augment, cifar10, cifar_batches
from tf_hugebatch.data.order import Stream
from tf_hugebatch.data.padding import evaluation_batches, training_micro_batches
from tf_hugebatch.data.splits import Examples
from tf_hugebatch.layout import Layout
from tf_hugebatch.settings import Refusal, Settings

REAL = pathlib.Path(__file__).parents[3] / "shared" / "data" / "cifar10_jpeg.npz"


@pytest.fixture(scope="module")
def arrays():
    return small_cifar.made_arrays()


@pytest.fixture(scope="module")
def npz_folder(arrays, tmp_path_factory):
    folder = tmp_path_factory.mktemp("npz")
    np.savez_compressed(folder / "cifar10.npz", **arrays)
    return folder


@pytest.fixture(scope="module")
def python_files(arrays):
    return small_cifar.python_batches(arrays)


def settings(folder, **given):
    return types.SimpleNamespace(**{"data_dir": str(folder), "validation_examples": 0, "seed": 0, **given})


def problems_of(folder):
    with pytest.raises(Refusal) as refused:
        cifar10.load(settings(folder))
    return refused.value.problems


def check_made(splits):
    assert splits.validation is None and splits.note == ""
    for part, examples in (("train", splits.train), ("test", splits.test)):
        assert examples.images.shape == (COUNTS[part], 32, 32, 3) and examples.images.dtype == np.uint8
        np.testing.assert_array_equal(small_cifar.number(examples.images), np.arange(COUNTS[part]))
        # Planes, rows and columns stand where they should.
        assert (examples.images[:, 5, 7] == [0, 100, 0]).all() and (examples.images[:, 31, 30] == [0, 0, 200]).all()
        assert examples.labels.dtype == np.int32
        np.testing.assert_array_equal(examples.labels, np.arange(COUNTS[part]) % 10)


# Forms.


def test_npz(npz_folder):
    check_made(cifar10.load(settings(npz_folder)))


def test_keras_labels_are_a_column(arrays, tmp_path):
    columns = {name: array[:, None] if name.startswith("y") else array for name, array in arrays.items()}
    np.savez(tmp_path / "anything.npz", **columns)
    check_made(cifar10.load(settings(tmp_path)))


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"])
def test_binary_batches(arrays, tmp_path, inner):
    small_cifar.write_files(tmp_path / inner, small_cifar.binary_batches(arrays))
    check_made(cifar10.load(settings(tmp_path)))


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-py"])
def test_python_batches(python_files, tmp_path, inner):
    small_cifar.write_files(tmp_path / inner, python_files)
    check_made(cifar10.load(settings(tmp_path)))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_batches_that_somebody_wrote_anew(arrays, tmp_path, protocol):
    """Protocol 0 and 2 say bytes in a roundabout way; the strings are strings now."""
    few = {name: array[::10] for name, array in arrays.items()}
    rows = few["x_test"].transpose(0, 3, 1, 2).reshape(-1, 3072)
    data = pickle.dumps({"labels": few["y_test"].tolist(), "data": np.asfortranarray(rows)}, protocol)
    if protocol == 5:
        # An array without a copy of its bytes is not how CIFAR-10 was ever stored, and needs one more name.
        with pytest.raises(pickle.UnpicklingError, match="_frombuffer"):
            cifar_batches._parse_pickle(data)
        return
    found, labels = cifar_batches._parse_pickle(data)
    np.testing.assert_array_equal(found, rows)
    np.testing.assert_array_equal(labels, few["y_test"])


@pytest.mark.parametrize("version", ["python", "binary"])
def test_an_archive_as_it_was_downloaded(arrays, python_files, tmp_path, version):
    files = python_files if version == "python" else small_cifar.binary_batches(arrays)
    inner = {"python": "cifar-10-batches-py", "binary": "cifar-10-batches-bin"}[version]
    small_cifar.write_archive(tmp_path / f"cifar-10-{version}.tar.gz", inner, files)
    check_made(cifar10.load(settings(tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == [f"cifar-10-{version}.tar.gz"], "nothing is unpacked"


@pytest.mark.parametrize("inside", ["", *(pytest.param(inside, marks=pytest.mark.slow) for inside in ("cifar10", "cifar10/3.0.2"))])
def test_a_prepared_tfds_folder(tmp_path, inside):
    """20 images, which is what tensorflow-datasets makes for tests, so the refusal says that they were read."""
    tfds = pytest.importorskip("tensorflow_datasets")

    with tfds.core.registered.skip_registration():
        class Cifar10(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("3.0.2")

            def _info(self):
                return self.dataset_info_from_configs(features=tfds.features.FeaturesDict({
                    "image": tfds.features.Image(shape=(32, 32, 3)), "label": tfds.features.ClassLabel(num_classes=10)}))

            def _split_generators(self, _):
                return {"train": self._generate_examples(), "test": self._generate_examples()}

            def _generate_examples(self):
                for i in range(20):
                    yield i, {"image": np.full((32, 32, 3), i, np.uint8), "label": i % 10}

    Cifar10(data_dir=tmp_path).download_and_prepare()
    problems = problems_of(tmp_path / inside)
    assert len(problems) == 4 and "x_train is uint8[20, 32, 32, 3]" in problems[0] and "50000" in problems[0]


def test_what_cifar10_is_not_is_refused(tmp_path):
    [problem] = problems_of(tmp_path)
    for part in ("holds no CIFAR-10", "cifar10.npz", ".tar.gz", "cifar10/3.0.1"):
        assert part in problem
    [problem] = problems_of(tmp_path / "nowhere")
    assert "isn't there" in problem
    np.savez(tmp_path / "mnist.npz", x_train=np.zeros((60_000, 28, 28), np.uint8), y_train=np.zeros(60_000, np.uint8),
             x_test=np.zeros((10_000, 28, 28), np.uint8), y_test=np.zeros(10_000, np.uint8))
    problems = problems_of(tmp_path)
    assert len(problems) == 3 and "uint8[60000, 28, 28]" in problems[0] and "uint8[50000, 32, 32, 3]" in problems[0]


def test_missing_and_damaged_batches_are_all_named(python_files, tmp_path):
    files = dict(python_files)
    del files["data_batch_2"]
    files["data_batch_3"] = files["data_batch_3"][:1_000_000]
    files["data_batch_4"] = b"no pickle"
    files["test_batch"] = pickle.dumps([1, 2, 3])
    problems = problems_of(small_cifar.write_files(tmp_path, files))
    assert len(problems) == 4
    assert "data_batch_2 isn't there" in problems[0]
    for problem, name in zip(problems[1:], ("data_batch_3", "data_batch_4", "test_batch")):
        assert str(tmp_path / name) in problem and "can't be read as a batch of CIFAR-10" in problem


@pytest.mark.parametrize("damage", ["short", "no gzip", "member missing"])
def test_a_damaged_archive_is_named(arrays, tmp_path, damage):
    files = small_cifar.binary_batches(arrays)
    path = tmp_path / "cifar-10-binary.tar.gz"
    if damage == "member missing":
        del files["test_batch.bin"]
    small_cifar.write_archive(path, "cifar-10-batches-bin", files)
    if damage != "member missing":
        path.write_bytes(path.read_bytes()[:5_000] if damage == "short" else b"no gzip" * 1000)
    problems = problems_of(tmp_path)
    assert all(str(path) in problem for problem in problems)
    if damage == "member missing":
        assert len(problems) == 1 and "test_batch.bin" in problems[0]


@pytest.mark.parametrize("change, says", [
    (lambda batch: {**batch, "data": batch["data"].astype(np.float32)}, "rows of 3,072 bytes"),
    (lambda batch: {**batch, "data": batch["data"][:, :3000]}, "rows of 3,072 bytes"),
    (lambda batch: {**batch, "data": b"bytes"}, "no array"),
    (lambda batch: {**batch, "labels": batch["labels"][:-1]}, "images and"),
    (lambda batch: {**batch, "labels": [*batch["labels"][:-1], 10]}, "0 to 9"),
    (lambda batch: {**batch, "labels": [*batch["labels"][:-1], -1]}, "0 to 9"),
    (lambda batch: {**batch, "labels": [*batch["labels"][:-1], True]}, "0 to 9"),
    (lambda batch: {"data": batch["data"]}, "lacks labels"),
])
def test_a_batch_of_something_else_is_refused(change, says):
    batch = {"data": np.zeros((5, 3072), np.uint8), "labels": [0, 1, 2, 3, 4]}
    with pytest.raises(ValueError, match=says):
        cifar_batches._parse_pickle(pickle.dumps(change(batch), 2))


# Pickles that would do harm.


class Calls:
    """Pickled as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("place", ["data", "labels", "more"])
@pytest.mark.parametrize("function", ["os.mkdir", "eval", "numpy.load", "getattr"])
def test_a_pickle_calls_nothing(tmp_path, function, place, protocol):
    victim = tmp_path / "made by a pickle"
    call = {
        "os.mkdir": Calls(os.mkdir, str(victim)),
        "eval": Calls(eval, f"__import__('os').mkdir({str(victim)!r})"),
        "numpy.load": Calls(np.load, str(victim), None, True),
        "getattr": Calls(getattr, Calls, "call"),
    }[function]
    batch = {"data": np.zeros((1, 3072), np.uint8), "labels": [0], place: call}
    files = {name: pickle.dumps(batch, protocol) for name in small_cifar.BATCHES}
    problems = problems_of(small_cifar.write_files(tmp_path / "data", files))
    assert len(problems) == 6 and all("which no batch of CIFAR-10 does" in problem for problem in problems)
    assert not victim.exists()


def test_the_unpickler_reaches_no_module_by_a_longer_name():
    for words in (b"cnumpy\nndarray.__class__\n.", b"c_codecs\nencode.__globals__\n.", b"c__main__\n_Recorded\n."):
        with pytest.raises(pickle.UnpicklingError, match="no batch of CIFAR-10"):
            cifar_batches._parse_pickle(words)


def test_objects_stored_elsewhere_and_oversized_files_are_refused(python_files, tmp_path):
    with pytest.raises(pickle.UnpicklingError, match="elsewhere"):
        cifar_batches._parse_pickle(b"Pname\n.")
    small_cifar.write_files(tmp_path, python_files)
    with open(tmp_path / "test_batch", "r+b") as file:
        file.truncate(65 * 2**20)
    [problem] = problems_of(tmp_path)
    assert "test_batch" in problem and "bytes long" in problem


# Words that come with the images.


@pytest.mark.parametrize("note, fits", [("JPEG-recompressed", True), ("x" * 61, False), ("a\nb", False), ("", False)])
def test_a_note_comes_along_or_is_refused(arrays, tmp_path, note, fits):
    np.savez(tmp_path / "cifar10.npz", **arrays, note=np.array(note))
    if fits:
        assert cifar10.load(settings(tmp_path)).note == note
        assert cifar10.load(settings(tmp_path, validation_examples=100)).note == note
    else:
        [problem] = problems_of(tmp_path)
        assert "note" in problem and "1 to 60" in problem


# Standardising, shifting, flipping.


def test_statistics_are_those_of_what_is_trained_on():
    images = np.random.default_rng(0).integers(0, 256, (2_345, 4, 5, 3), dtype=np.uint8)
    mean, deviation = cifar10.channel_statistics(images)
    np.testing.assert_allclose(mean, images.reshape(-1, 3).mean(axis=0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(deviation, images.reshape(-1, 3).std(axis=0, dtype=np.float64), rtol=1e-12)


def read(split, size=50, count=None, epoch=0, training=True, layout=None):
    """Images and labels of `count` examples in stored order, of one epoch."""
    stream, n = Stream(0, len(split), "none"), len(split)
    layout = layout or Layout(n, size)
    if training:
        batches = training_micro_batches(split, stream, layout, epoch, epoch + 1)
    else:
        batches = evaluation_batches(split, size, 1)
    parts = list(batches.as_numpy_iterator())
    weight = np.concatenate([part["weight"] for part in parts])
    return tuple(np.concatenate([part[name] for part in parts])[weight > 0] for name in ("image", "label"))


@pytest.fixture(scope="module")
def noisy(arrays, tmp_path_factory):
    """A folder with noise of three means and deviations."""
    generator = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("noisy")
    noise = {f"x_{part}": np.clip(generator.normal((60, 120, 180), (10, 20, 30), (count, 32, 32, 3)), 0, 255).astype(np.uint8)
             for part, count in (("train", 2_000), ("test", 400))}
    np.savez(folder / "cifar10.npz", **{
        name: np.resize(noise[name], array.shape) if name in noise else array for name, array in arrays.items()})
    return folder


def test_training_images_are_standardised_by_the_training_split_after_the_holding_out(noisy):
    splits = cifar10.load(settings(noisy, validation_examples=10_000))
    mean, deviation = cifar10.channel_statistics(splits.train.images)
    ids = np.arange(200)
    for split in (splits.validation, splits.test, splits.train):
        images, labels = read(split.take(ids), training=False)
        expected = (split.images[ids] - mean) / deviation
        np.testing.assert_allclose(images, expected, atol=2e-5)
        np.testing.assert_array_equal(labels, split.labels[ids])
    with np.load(noisy / "cifar10.npz") as stored:
        assert np.abs(cifar10.channel_statistics(stored["x_train"])[0] - mean).max() > 0


def shifted_and_flipped(image, dy, dx, flip):
    """NumPy's form, for one image."""
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
    cut = padded[dy:dy + 32, dx:dx + 32]
    return cut[:, ::-1] if flip else cut


def test_every_shift_and_flip_is_one_of_the_162_and_all_of_them_come():
    image = np.random.default_rng(0).integers(1, 256, (32, 32, 3), dtype=np.uint8)
    possible = {shifted_and_flipped(image, dy, dx, flip).tobytes(): (dy, dx, flip)
                for dy in range(9) for dx in range(9) for flip in (False, True)}
    assert len(possible) == 162
    n = 162 * 60
    keys = augment.keys(3, np.zeros(n, np.int32), np.arange(n))
    found = augment.shifted_and_flipped(np.broadcast_to(image, (n, 32, 32, 3)), keys).numpy()
    counts = {place: 0 for place in possible.values()}
    for one in found:
        counts[possible[one.tobytes()]] += 1
    # 60 of each on average; a chi-square of 161 degrees of freedom beyond 240 has a probability below 1e-4.
    assert sum((count - 60)**2 / 60 for count in counts.values()) < 240


def test_what_an_image_looks_like_is_its_own_affair(noisy):
    """By (seed, epoch, number of the image): not by its place in a batch, the layout, or what is held out."""
    def look(seed=0, validation=0, epoch=0, **options):
        splits = cifar10.load(settings(noisy, seed=seed, validation_examples=validation))
        ids = np.flatnonzero(np.isin(splits.train.numbers, chosen))
        images, _ = read(splits.train.take(ids), epoch=epoch, **options)
        mean, deviation = cifar10.channel_statistics(splits.train.images)
        return np.rint(images * deviation + mean).astype(np.uint8)

    kept = cifar10.load(settings(noisy, validation_examples=10_000)).train.numbers
    chosen = kept[1_000:1_100]
    first = look()
    np.testing.assert_array_equal(look(size=7), first)
    np.testing.assert_array_equal(look(validation=10_000), first)
    np.testing.assert_array_equal(look(), first)
    for other in (look(seed=1), look(epoch=1)):
        assert (other != first).any(axis=(1, 2, 3)).mean() > 0.9


def test_a_held_out_image_is_not_augmented(noisy):
    splits = cifar10.load(settings(noisy, validation_examples=5_000))
    some = splits.validation.take(np.arange(64))
    mean, deviation = cifar10.channel_statistics(splits.train.images)
    np.testing.assert_allclose(read(some, size=13, training=False)[0], (some.images - mean) / deviation, atol=2e-5)
    assert np.abs(read(some, training=True)[0] - (some.images - mean) / deviation).max() > 1


def test_mnist_is_neither_shifted_nor_standardised():
    images = np.random.default_rng(0).integers(0, 256, (10, 28, 28, 1), dtype=np.uint8)
    found, _ = read(Examples(images, np.zeros(10, np.int32)), size=10)
    np.testing.assert_array_equal(found, images.astype(np.float32) / np.float32(255))


def test_settings_that_fit():
    found = Settings(dataset="cifar10")
    assert (found.model, found.resnet_version, found.batch_size, found.epochs) == ("resnet50_v1", "v1", 128, 200)
    assert found.image_shape == (32, 32, 3) and found.total_updates == 78_125
    with pytest.raises(Refusal, match="resnet18"):
        Settings(dataset="cifar10", model="resnet18")


@pytest.mark.skipif(not REAL.exists(), reason="the recompressed CIFAR-10 is not on this machine")
def test_the_known_means():
    """The published means and deviations of CIFAR-10, which JPEG leaves nearly alone."""
    with np.load(REAL, allow_pickle=False) as stored:
        jpeg, offsets = stored["jpeg_train"], stored["offsets_train"][:5_001]
    pixels = np.stack([tf.io.decode_jpeg(jpeg[a:b].tobytes()).numpy() for a, b in zip(offsets, offsets[1:])])
    mean, deviation = cifar10.channel_statistics(pixels)
    np.testing.assert_allclose(mean / 255, [0.4914, 0.4822, 0.4465], atol=0.01)
    np.testing.assert_allclose(deviation / 255, [0.2470, 0.2435, 0.2616], atol=0.01)
