"""Checkpoints: bit for bit, whole or passed over, and of one run only."""

import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from reference.small_runs import contract_examples, contract_model

from tf_hugebatch import optimizers
from tf_hugebatch.data.order import Stream
from tf_hugebatch.data.padding import training_micro_batches
from tf_hugebatch.keras_versions import native
from tf_hugebatch.layout import Layout
from tf_hugebatch.settings import Refusal
from tf_hugebatch.training.checkpoint import Checkpoints
from tf_hugebatch.training.step import Step

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


@pytest.mark.fault("a checkpoint's file missing, empty or not what it should be", holds="the one before it is used, with a message")
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


@pytest.mark.fault("a checkpoint's file cut off anywhere, or one bit of it changed", holds="the one before it is used, with a message")
def test_no_cut_and_no_bit_goes_unseen(folder, record_property):
    run, tried = Run(folder), 0
    before = run.save(1, 2)
    run.save(3)
    names = sorted(os.listdir(folder / "update-0000000003"))
    assert len(names) == 3
    for name in names:
        path = folder / "update-0000000003" / name
        content = path.read_bytes()
        places = range(0, len(content), 3 if name == "manifest.json" else len(content) // 40)
        flipped = [(place, content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1:]) for place in places]
        for place, damaged in [*flipped, *((place, content[:place]) for place in places)]:
            path.write_bytes(damaged)
            run.messages.clear()
            run.optimizer.iterations.assign(77)
            assert run.restore() == (2, {"update": 2, "best": None}), (name, place)
            assert len(run.messages) == 1 and "update-0000000003 is damaged" in run.messages[0]
            assert run.state() == before
            tried += 1
        path.write_bytes(content)
    assert run.restore()[0] == 3
    assert tried > 400
    record_property("tried", tried)


@pytest.mark.fault("every checkpoint cut off", holds="the run starts again, with a message for each")
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
    (folder / "partial").mkdir()  # of a kill after the run's last checkpoint was complete
    assert run.checkpoints.save(1, {"update": "another"}) == folder / "update-0000000001"
    assert os.listdir(folder) == ["update-0000000001"]
    assert run.restore() == (1, {"update": 1, "best": None})
    assert run.state() == saved


def test_all_of_it_is_on_disk_before_it_has_its_name_and_its_name_before_an_older_one_goes(folder, monkeypatch):
    """What a loss of power would tear; the order of the calls is all that can be seen from here."""
    run, calls = Run(folder, keep=1), []
    run.save(1)

    def noted(name, of):
        ordinary = getattr(os, name)

        def call(*arguments, **more):
            calls.append((name, of(*arguments)))
            return ordinary(*arguments, **more)

        monkeypatch.setattr(os, name, call)

    noted("fsync", lambda descriptor: os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
    noted("rename", lambda source, target: os.path.basename(target))
    run.save(2)
    named, deleted = calls.index(("rename", "update-0000000002")), calls.index(("rename", "partial"))
    on_disk = {name for call, name in calls[:named] if call == "fsync"}
    assert on_disk == {"partial", *os.listdir(folder / "update-0000000002")} and len(on_disk) == 4
    assert ("fsync", "checkpoints") in calls[named:deleted]


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


# Every state of a run.


class TwelveUpdates:
    """A model with batch norm and dropout, LAMB's slots, a checkpoint after each of twelve updates."""

    UPDATES, BATCH = 12, 20

    def __init__(self, folder):
        self.layout, self.examples = Layout(self.BATCH, 10, 1, 10), contract_examples(48)
        strategy = tf.distribute.OneDeviceStrategy("CPU:0")
        with strategy.scope():
            self.model, self.optimizer = contract_model(10), optimizers.get("lamb", learning_rate=0.01)
        self.step = Step(strategy=strategy, model=self.model, optimizer=self.optimizer, layout=self.layout, seed=0,
                         label_smoothing=0.1)
        self.checkpoints = Checkpoints(folder, identity=IDENTITY, keep=self.UPDATES, model=self.model,
                                       optimizer=self.optimizer)

    def updates(self, done):
        """Makes the rest of the updates one a call; yields how many are made."""
        iterator = iter(training_micro_batches(self.examples, Stream(0, 48), self.layout, done, self.UPDATES))
        for update in range(done + 1, self.UPDATES + 1):
            self.step(iterator, 1)
            yield update

    def variables(self):
        """All but the seed that Keras' dropout would draw by, which ours does not."""
        return [native(v) for v in [*self.model.variables, *self.optimizer.variables] if "seed" not in v.name]

    def state(self):
        return [variable.numpy().tobytes() for variable in self.variables()]

    def forget(self):
        """Other numbers in every variable, as those of a process that has just been started."""
        for variable in self.variables():
            variable.assign(tf.cast(tf.fill(variable.shape, 3), variable.dtype))


@pytest.mark.fault("a stop after any one of twelve updates", holds="weights, moving statistics and slots equal to the bit")
def test_from_every_update_of_twelve_the_rest_comes_to_the_same_bits(folder, record_property):
    run, states = TwelveUpdates(folder), {}
    for update in run.updates(0):
        run.checkpoints.save(update, {})
        states[update] = run.state()
    # The newest first, since only the newest is restored.
    for done in range(run.UPDATES, 0, -1):
        run.checkpoints.forget_after(done)
        run.forget()
        assert run.state() != states[done]
        assert run.checkpoints.restore_latest() == (done, {}) and run.state() == states[done]
        for update in run.updates(done):
            assert run.state() == states[update], (done, update)
    record_property("tried", run.UPDATES)
    # And no two checkpoints that follow each other agree in any variable, so that none could stand still unseen.
    for update in range(1, run.UPDATES):
        for variable, before, after in zip(run.variables(), states[update], states[update + 1], strict=True):
            assert before != after or "learning_rate" in variable.name, (update, variable.name)


def test_a_damaged_one_above_the_new_one_goes_even_where_it_was_to_be_kept(folder):
    Run(folder).save(1, 4)
    (folder / "update-0000000004" / "state.index").write_bytes(b"")
    other = Run(folder, seed=1)
    assert other.restore()[0] == 1
    other.update()
    other.checkpoints.save(2, {}, also_keep=(4,))
    assert [path.name for path in other.checkpoints.paths()] == ["update-0000000001", "update-0000000002"]
