"""Two stacks are supported; any other is refused where the package first needs Keras, with reason and remedy."""

import configparser
import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import keras
import pytest
import tensorflow as tf
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tf_hugebatch import keras_versions

ROOT = pathlib.Path(__file__).parents[1]
BETWEEN = [f"2.{minor}" for minor in range(16, 21)]


@pytest.mark.parametrize("pair", [("2.21.0", "3.15.1"), ("2.15.1", "2.15.0")])
def test_the_two_stacks_are_accepted(pair):
    keras_versions.check_versions(*pair)


@pytest.mark.parametrize("tensorflow, keras_", [
    *((f"{version}.1", "3.8.0") for version in BETWEEN), ("2.2.0", "2.15.0"), ("2.15.1", "3.15.1"), ("2.21.0", "3.12.0"),
    ("2.22.0", "3.15.1"),
])
def test_any_other_pair_is_refused_with_reason_and_remedy(tensorflow, keras_):
    with pytest.raises(ImportError) as refused:
        keras_versions.check_versions(tensorflow, keras_)
    assert refused.value.name == "tensorflow"
    for part in (f"TensorFlow {tensorflow} with Keras {keras_}", "private hooks", "tensorflow-addons imports",
                 "pip install 'tensorflow>=2.21,<2.22' 'keras>=3.15,<3.16'", "pip install '.[addons]'"):
        assert part in str(refused.value)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_of_keras_is_refused_in_one_line(backend, tmp_path):
    with pytest.raises(ImportError, match=f"computes with {backend} here.*KERAS_BACKEND=tensorflow") as refused:
        keras_versions.check_backend(backend)
    assert refused.value.name == "tensorflow"
    if keras_versions.KERAS_2 or importlib.util.find_spec(backend):
        return
    run = subprocess.run([sys.executable, "-m", "tf_hugebatch.mnist_main", "--dataset=mnist5k", "--train_steps=1",
                          "--warmup_epochs=0", f"--run_dir={tmp_path / 'run'}"], capture_output=True, text=True, timeout=300,
                         cwd=ROOT, env={**os.environ, "KERAS_BACKEND": backend})
    assert run.returncode == 2 and "Traceback" not in run.stderr
    assert "set KERAS_BACKEND=tensorflow" in run.stderr and not (tmp_path / "run").exists()


@pytest.fixture
def fake_stack(tmp_path):
    """run(version, code): a process in which TensorFlow is nothing but a version, so that whatever comes later fails."""
    def run(version, *words):
        for name, its in (("tensorflow", version), ("keras", "3.8.0")):
            (tmp_path / "fake" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "fake" / name / "__init__.py").write_text(f"__version__ = {its!r}\n")
        (tmp_path / "here").mkdir()
        return subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, timeout=60, cwd=tmp_path / "here",
            env={**os.environ, "PYTHONPATH": f"{tmp_path / 'fake'}{os.pathsep}{ROOT}"})
    return run


IMPORTS = """
import importlib, sys
import tf_hugebatch as hb
assert hb.Settings and hb.load_runs and "tensorflow" not in sys.modules
for name in ("optimizers", "schedules", "layers", "LARS", "load_model", "train"):
    try:
        getattr(hb, name)
    except ImportError as error:
        print(name, error)
for name in ("keras_objects", "models.lenet", "models.resnet", "training.step"):
    try:
        importlib.import_module("tf_hugebatch." + name)
    except ImportError as error:
        print(name, error)
"""


@pytest.mark.parametrize("version", [BETWEEN[0], BETWEEN[-1]])
def test_what_needs_keras_is_refused_at_import_and_nothing_else(version, fake_stack):
    done = fake_stack(f"{version}.0", "-c", IMPORTS)
    assert done.returncode == 0, done.stderr
    refusals = done.stdout.splitlines()
    assert [line.split()[0] for line in refusals] == [
        "optimizers", "schedules", "layers", "LARS", "load_model", "train", "keras_objects", "models.lenet", "models.resnet",
        "training.step"]
    assert all(f"TensorFlow {version}.0 with Keras 3.8.0: " in line for line in refusals)


def test_a_command_line_says_it_and_creates_nothing(fake_stack, tmp_path):
    done = fake_stack("2.19.1", "-m", "tf_hugebatch.mnist_main", "--dataset=mnist5k", "--train_steps=2", "--run_dir=run")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert re.search(r"Refused: 1 problem\..*\n  \* TensorFlow 2\.19\.1 with Keras 3\.8\.0: .*pip install", done.stderr)
    assert not list((tmp_path / "here").iterdir())


SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def requirements_of(text):
    return {requirement.name: requirement for requirement in map(Requirement, filter(None, text.splitlines()))}


@pytest.mark.parametrize("lane", ["ci", "addons"])
def test_one_setup_cfg_allows_the_exact_versions_of_either_lane(lane):
    lines = (ROOT / "requirements" / f"{lane}.txt").read_text().splitlines()
    exact = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}
    required = requirements_of(SETUP["options"]["install_requires"])
    if lane == "addons":
        addons = requirements_of(SETUP["options.extras_require"]["addons"])
        assert {name: str(asked.specifier) for name, asked in addons.items()} == {
            "tensorflow": "==2.15.1", "tensorflow-addons": "==0.23.0"}
        assert exact["tensorflow"] == "2.15.1" and exact["tensorflow-addons"] == "0.23.0"
    keras_versions.check_versions(exact["tensorflow"], exact["keras"])
    for name, asked in required.items():
        assert exact[canonicalize_name(name)] in asked.specifier, name


@pytest.mark.parametrize("name, versions", [
    ("tensorflow", [f"{version}.1" for version in BETWEEN] + ["2.14.1", "2.22.0"]),
    ("keras", [f"3.{minor}.0" for minor in range(15)] + ["2.14.0", "3.16.0"]),
    ("tensorboard", [f"{version}.0" for version in BETWEEN]),
])
def test_setup_cfg_allows_none_between(name, versions):
    specifier = requirements_of(SETUP["options"]["install_requires"])[name].specifier
    assert not [version for version in versions if version in specifier]


def test_this_process_runs_on_one_of_the_two():
    assert keras_versions.KERAS_2 == (keras.__version__[:2] == "2.") == (tf.__version__[:5] == "2.15.")
