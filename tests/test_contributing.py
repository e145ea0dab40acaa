"""CONTRIBUTING.md's promise: a data set is one file and one row. Done as it says, on a copy of the package."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of the package with the example's file and row in it, and a folder of made images."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "tf_hugebatch", folder / "tf_hugebatch", ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "CONTRIBUTING.md").read_text()
    file, row = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    [path] = re.findall(r"The file, `(.*?)`", text)
    (folder / path).write_text(file)
    registry = folder / "tf_hugebatch" / "registry.py"
    before, line, after = registry.read_text().partition("DATASETS = _table(\n")
    registry.write_text(before + line + row + after)
    generator = np.random.default_rng(0)
    arrays = {f"x_{part}": generator.integers(0, 256, (n, 28, 28), dtype=np.uint8)
              for part, n in (("train", 60_000), ("test", 10_000))}
    arrays |= {f"y_{part}": np.arange(n, dtype=np.uint8) % 10 for part, n in (("train", 60_000), ("test", 10_000))}
    (folder / "data").mkdir()
    np.savez(folder / "data" / "fashion_mnist.npz", **arrays)
    return folder


def run(checkout, *words):
    return subprocess.run([sys.executable, "-m", "tf_hugebatch.mnist_main", "--dataset=fashion_mnist", *words], cwd=checkout,
                          env={**os.environ, "PYTHONPATH": str(checkout)}, capture_output=True, text=True, timeout=300)


def test_the_new_data_set_trains(checkout):
    done = run(checkout, "--data_dir=data", "--model=lenet5", "--batch_size=4096", "--train_steps=2", "--run_dir=run")
    assert done.returncode in (0, 3), done.stderr  # noise: its loss need not fall
    assert "test_accuracy" in done.stdout and (checkout / "run" / "curves.png").exists()


def test_help_lists_it_and_what_is_wrong_is_refused(checkout):
    assert "fashion_mnist" in run(checkout, "--help").stdout
    done = run(checkout, "--batch_size=60001", "--data_dir=nowhere")
    assert done.returncode == 2 and "--batch_size=60001" in done.stderr and "nowhere" in done.stderr
