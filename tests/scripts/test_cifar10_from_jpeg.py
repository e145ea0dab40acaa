"""From JPEG-recompressed images to cifar10.npz: what comes out, and that every mistake is one line and leaves nothing."""

import importlib.util
import io
import pathlib
import resource
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "cifar10_from_jpeg.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("cifar10_from_jpeg", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def jpeg(level, side=32):
    content = io.BytesIO()
    Image.new("RGB", (side, side), (level, level, level)).save(content, "JPEG", quality=100)
    return content.getvalue()


def source_arrays(train=50, test=10):
    arrays = {}
    for part, count in (("train", train), ("test", test)):
        images = [jpeg(number) for number in range(count)]
        arrays[f"jpeg_{part}"] = np.frombuffer(b"".join(images), np.uint8)
        arrays[f"offsets_{part}"] = np.cumsum([0, *map(len, images)])
        arrays[f"y_{part}"] = np.arange(count) % 10
    return arrays


@pytest.fixture
def source(tmp_path):
    np.savez(tmp_path / "source.npz", **source_arrays())
    return tmp_path / "source.npz"


def refused(script, capsys, source, folder):
    """The one line on standard error; checks that nothing new is there."""
    before = sorted(source.parent.rglob("*"))
    assert script.main([str(source), str(folder)]) == 2
    out, error = capsys.readouterr()
    assert out == "" and error.count("\n") == 1 and "Traceback" not in error
    assert sorted(source.parent.rglob("*")) == before
    return error


def test_images_labels_and_note(script, source, capsys):
    folder = source.parent / "new" / "folder"
    assert script.main([str(source), str(folder)]) == 0
    assert capsys.readouterr().out.startswith("50 + 10 images")
    assert [path.name for path in folder.iterdir()] == ["cifar10.npz"]
    with np.load(folder / "cifar10.npz") as made:
        assert str(made["note"]) == "JPEG-recompressed"
        for part, count in (("train", 50), ("test", 10)):
            expected = np.broadcast_to(np.arange(count)[:, None, None, None], (count, 32, 32, 3))
            assert np.abs(made[f"x_{part}"].astype(int) - expected).max() <= 1 and made[f"x_{part}"].dtype == np.uint8
            np.testing.assert_array_equal(made[f"y_{part}"], np.arange(count) % 10)


def spoil_offset(value):
    def change(arrays):
        arrays["offsets_test"][5] = value
    return change


@pytest.mark.parametrize("change, says", [
    (lambda arrays: arrays.update(y_train=arrays["y_train"][:20]), "y_train is int64[20], and there are 50 images"),
    (lambda arrays: arrays.update(y_test=arrays["y_test"] / 1), "y_test is float64[10]"),
    (lambda arrays: arrays.update(offsets_train=arrays["offsets_train"] / 1), "offsets_train is float64[51]"),
    (lambda arrays: arrays.update(offsets_train=arrays["offsets_train"][None]), "offsets_train is int64[1, 51]"),
    (lambda arrays: arrays.update(offsets_train=np.zeros(0, int)), "offsets_train is int64[0]"),
    (lambda arrays: arrays.update(jpeg_train=arrays["jpeg_train"][:-1]), "don't rise"),
    (spoil_offset(0), "don't rise"),
    (spoil_offset(10**9), "don't rise"),
    (lambda arrays: arrays.update(jpeg_test=arrays["jpeg_test"].astype(np.int64)), "jpeg_test is int64"),
    (lambda arrays: arrays.update(jpeg_test=np.zeros_like(arrays["jpeg_test"])), "image 0 of test can't be decoded"),
    (lambda arrays: arrays.update(jpeg_test=np.frombuffer(jpeg(0, 16), np.uint8), offsets_test=np.array([0, len(jpeg(0, 16))]),
                                  y_test=np.zeros(1, int)), "16 x 16"),
    (lambda arrays: arrays.pop("y_test"), "y_test"),
])
def test_a_source_that_does_not_fit_together(script, source, capsys, change, says):
    arrays = source_arrays()
    change(arrays)
    np.savez(source, **arrays)
    assert says in refused(script, capsys, source, source.parent / "a" / "b")


@pytest.mark.parametrize("cut", [0, 5, 1_000, -1])
def test_a_source_cut_off_or_not_there(script, source, capsys, cut):
    source.write_bytes(source.read_bytes()[:cut])
    assert f"{source} can't be converted" in refused(script, capsys, source, source.parent / "folder")
    source.unlink()
    assert f"{source} can't be converted" in refused(script, capsys, source, source.parent / "folder")


def test_a_target_that_is_a_file_is_said_before_decoding(script, source, capsys, monkeypatch):
    monkeypatch.setattr(script, "decoded", None)
    (source.parent / "file").write_bytes(b"kept")
    for folder in (source.parent / "file", source.parent / "file" / "inner"):
        assert "can't be written" in refused(script, capsys, source, folder)
    (source.parent / "cifar10.npz").write_bytes(b"kept")
    assert "exists and is left as it is" in refused(script, capsys, source, source.parent)
    assert (source.parent / "cifar10.npz").read_bytes() == b"kept"


def test_a_full_disk_leaves_nothing(source):
    """A limit on the size of files stands for it."""
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(source), str(source.parent / "folder")], capture_output=True, text=True, timeout=240,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)))
    assert result.returncode == 2 and result.stdout == ""
    # TensorFlow says something about the machine before.
    assert "cifar10.npz can't be written" in result.stderr.splitlines()[-1] and "Traceback" not in result.stderr
    assert [path.name for path in source.parent.iterdir()] == ["source.npz"]
