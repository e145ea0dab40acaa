"""Checkpoints: bit for bit, whole or passed over, and of one run only."""

import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_hugebatch import optimizers
from tf_hugebatch.keras_versions import native
from tf_hugebatch.settings import Refusal
from tf_hugebatch.training.checkpoint import Checkpoints

IDENTITY = {"experiment": "a1b2", "total_updates": 9, "train_examples": 100, "seed": 0}


class Run:
    """A model and an optimizer with slots and trust ratios, some random updates, and their checkpoints."""

    def __init__(self, folder, seed=0, strategy=None, keep=3, identity=None):
        with (strategy or tf.distribute.get_strategy()).scope():
            self.model = keras.Sequential([
                keras.Input((5,)),
                keras.layers.Dense(4, kernel_initializer=keras.initializers.GlorotUniform(seed=seed)),
                keras.layers.BatchNormalization(),
            ])
            self.optimizer = optimizers.get("adam_layerwise", learning_rate=0.1)
            self.optimizer.build(self.model.trainable_variables)
        self.checkpoints = Checkpoints(folder, identity=identity or IDENTITY, keep=keep, model=self.model,
                                       optimizer=self.optimizer)
        self.messages = []

    def update(self):
        generator = np.random.default_rng(int(self.optimizer.iterations.numpy()))
        variables = self.model.trainable_variables
        gradients = [tf.constant(generator.normal(size=v.shape), tf.float32) for v in variables]
        self.optimizer.apply_reduced(gradients, variables)
        for variable in self.model.non_trainable_variables:
            variable.assign(generator.uniform(size=variable.shape))

    def save(self, *updates):
        """Makes updates, with a checkpoint after each; returns the state at the last."""
        for update in updates:
            self.update()
            self.checkpoints.save(update, {"update": update, "best": None})
        return self.state()

    def restore(self):
        return self.checkpoints.restore_latest(warn=self.messages.append)

    def state(self):
        values = [native(v) for v in [*self.model.variables, *self.optimizer.variables]]
        return [[copy.numpy().tobytes() for copy in getattr(value, "values", [value])] for value in values]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def test_everything_comes_back_bit_for_bit(folder):
    saved = Run(folder).save(1, 2, 3)
    other = Run(folder, seed=1)
    assert other.state() != saved
    assert other.restore() == (3, {"update": 3, "best": None})
    assert other.state() == saved
    assert int(other.optimizer.iterations.numpy()) == 3
    assert other.messages == []


def test_what_one_device_saved_goes_to_every_replica(folder, mirrored):
    saved = Run(folder).save(1, 2)
    other = Run(folder, seed=1, strategy=mirrored(3))
    assert other.restore()[0] == 2
    copies = other.state()
    assert all(len(of_variable) == 3 for of_variable in copies[:2])
    assert all(copy == expected for of_variable, [expected] in zip(copies, saved) for copy in of_variable)


def test_nothing_there_is_update_0(folder):
    run = Run(folder)
    before = run.state()
    assert run.restore() == (0, {})
    assert run.state() == before and not folder.exists()


def _truncate(path):
    data = next(path.glob("state.data*"))
    os.truncate(data, data.stat().st_size // 2)


def _flip_a_bit(path):
    data = next(path.glob("state.data*"))
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)


def _lose_the_data(path):
    next(path.glob("state.data*")).unlink()


def _lose_the_manifest(path):
    (path / "manifest.json").unlink()


def _write_manifest(text):
    def write(path):
        (path / "manifest.json").write_text(text)
    return write


DAMAGE = {
    "truncated": _truncate,
    "a bit flipped": _flip_a_bit,
    "no data": _lose_the_data,
    "no manifest": _lose_the_manifest,
    "empty manifest": _write_manifest(""),
    "half a manifest": _write_manifest('{"update": 3, "iden'),
    "manifest that is a list": _write_manifest("[1, 2]"),
    "manifest without files": _write_manifest('{"update": 3}'),
    "manifest of no files": _write_manifest('{"update": 3, "notes": {}, "files": {}}'),
    "files that are no table": _write_manifest('{"update": 3, "identity": {}, "notes": {}, "files": ["a"]}'),
    "not text": lambda path: (path / "manifest.json").write_bytes(b"\xff\xfe\x00"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_one_is_passed_over_with_a_message(damage, folder):
    run = Run(folder)
    before = run.save(1, 2)
    run.save(3)
    DAMAGE[damage](folder / "update-0000000003")
    other = Run(folder, seed=1)
    assert other.restore()[0] == 2
    assert other.state() == before
    [message] = other.messages
    assert "update-0000000003" in message and "damaged" in message


def test_when_all_are_damaged_the_run_starts_again(folder):
    Run(folder).save(1, 2)
    for path in folder.iterdir():
        _truncate(path)
    other = Run(folder, seed=1)
    before = other.state()
    assert other.restore() == (0, {})
    assert other.state() == before and len(other.messages) == 2


def test_a_damaged_one_is_written_anew_when_the_run_passes_it_again(folder):
    Run(folder).save(1, 2)
    _truncate(folder / "update-0000000002")
    again = Run(folder, seed=1)
    assert again.restore()[0] == 1
    saved = again.save(2)
    other = Run(folder, seed=2)
    assert other.restore()[0] == 2
    assert other.state() == saved and other.messages == []


def test_an_intact_one_is_not_written_twice(folder):
    run = Run(folder)
    saved = run.save(1)
    run.update()
    assert run.checkpoints.save(1, {"update": "another"}) == folder / "update-0000000001"
    assert run.restore() == (1, {"update": 1, "best": None})
    assert run.state() == saved


def test_a_folder_that_a_kill_left_half_written_is_ignored_and_cleared_away(folder):
    """A kill leaves the folder that is being written, under whatever name it has before it is renamed."""
    run = Run(folder)
    saved = run.save(1)

    def killed(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "getpid", lambda: 1)
        patch.setattr(os, "rename", killed)
        run.save(2)
    assert len(list(folder.iterdir())) == 2
    other = Run(folder, seed=1)
    assert other.restore()[0] == 1 and other.state() == saved and other.messages == []
    other.save(2)
    assert sorted(path.name for path in folder.iterdir()) == ["update-0000000001", "update-0000000002"]


def test_the_newest_are_kept(folder):
    run = Run(folder, keep=2)
    run.save(1, 2, 3, 10)
    assert [path.name for path in run.checkpoints.paths()] == ["update-0000000003", "update-0000000010"]
    assert sorted(os.listdir(folder)) == ["update-0000000003", "update-0000000010"]


@pytest.mark.parametrize("keep", [1, 2])
def test_what_was_damaged_above_the_new_one_is_not_kept_in_its_place(folder, keep):
    Run(folder).save(1, 4, 5)
    for name in ("update-0000000004", "update-0000000005"):
        (folder / name / "state.index").write_bytes(b"")
    other = Run(folder, seed=1, keep=keep)
    assert other.restore()[0] == 1
    saved = other.save(2)
    again = Run(folder, seed=2, keep=keep)
    assert again.restore()[0] == 2 and again.state() == saved and again.messages == []


def test_of_numbers_with_more_digits_the_newest_is_the_largest(folder):
    run = Run(folder, keep=1)
    run.save(9, 10)
    assert Run(folder, seed=1).restore()[0] == 10


@pytest.mark.parametrize("change", [{"total_updates": 12}, {"experiment": "c3d4", "seed": 1},
                                    {"train_examples": 55}])
def test_one_of_another_run_is_refused_by_name_of_what_differs(change, folder):
    Run(folder).save(1)
    other = Run(folder, seed=1, identity={**IDENTITY, **change})
    before = other.state()
    with pytest.raises(Refusal) as refused:
        other.restore()
    [problem] = refused.value.problems
    assert all(name in problem for name in change)
    assert not any(name in problem.split("differs in")[1] for name in IDENTITY if name not in change)
    assert "--run_dir" in problem and str(folder) in problem
    assert other.state() == before


def test_a_moved_run_folder_still_restores(folder, tmp_path):
    saved = Run(folder).save(1)
    shutil.move(folder, tmp_path / "elsewhere")
    other = Run(tmp_path / "elsewhere", seed=1)
    assert other.restore()[0] == 1 and other.state() == saved


def test_the_manifest_is_strict_json_with_a_checksum_of_every_file(folder):
    Run(folder).save(1)
    path = folder / "update-0000000001"
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["identity"] == IDENTITY and manifest["update"] == 1
    assert sorted(manifest["files"]) == sorted(name for name in os.listdir(path) if name != "manifest.json")
