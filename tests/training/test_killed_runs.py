"""Runs that are killed at any moment, or told to stop once and twice: the same command again comes to the same bits."""

import random
import signal

import numpy as np
import pytest
import tensorflow as tf
from reference.killed_runs import small_checkpoints
from reference.six_updates import BATCH, TRAIN, rows_of, status_of, text_of

TO_THE_BIT = "weights, slots and counts equal to the bit; every row once; the same files as of an uninterrupted run"
#: A checkpoint after each of six updates, the newest and the best on validation kept, rows after every update.
SHORT = {"checkpoint_every_steps": 1, "keep_checkpoints": 1, "validation_examples": 500, "steps_per_loop": 1,
         "eval_every_epochs": 2 * BATCH / (TRAIN - 500)}


@pytest.fixture(scope="module")
def whole(job, tmp_path_factory):
    """(folder, seconds, file operations) of a run that nothing disturbs."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    code, seconds, operations, said = job("train", run_dir, **SHORT)
    assert code == 0, said
    return run_dir, seconds, operations


def last_state(run_dir):
    """{name: bytes} of all that the last checkpoint holds; the graph of names is no state."""
    reader = tf.train.load_checkpoint(str(max((run_dir / "checkpoints").glob("update-*")) / "state"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name}


def files_of(run_dir):
    return sorted(str(path.relative_to(run_dir)) for path in run_dir.rglob("*") if path.parent.name != "tensorboard")


def assert_same(run_dir, other):
    """All that two runs of the same layout leave is the same."""
    ours, theirs = last_state(run_dir), last_state(other)
    assert ours.keys() == theirs.keys() and len(ours) > 20
    for name, value in ours.items():
        assert value.tobytes() == theirs[name].tobytes(), name
    assert text_of(run_dir, "metrics.jsonl") == text_of(other, "metrics.jsonl")
    assert files_of(run_dir) == files_of(other)
    for key in ("status", "step", "final", "best", "reason"):
        assert status_of(run_dir)[key] == status_of(other)[key], key


def finish(job, run_dir, **changes):
    code, _, _, said = job("train", run_dir, **{**SHORT, **changes})
    assert code == 0 and "damaged" not in said, said


@pytest.mark.fault("kill inside a save, and at a random moment", holds=TO_THE_BIT)
def test_a_run_that_is_killed_again_and_again(job, whole, tmp_path, record_property):
    folder, seconds, _ = whole
    run_dir = tmp_path / "run"
    plans = [
        # Half of the first checkpoint's weights are written.
        ({"largest_file": 100_000}, [-signal.SIGXFSZ]),
        # A checkpoint is complete, and the status that says so is not there yet.
        ({"signals": [["os.rename /status.json", 2, signal.SIGKILL]]}, [-signal.SIGKILL]),
        # Half of an older checkpoint is deleted.
        ({"signals": [["os.remove manifest.json", 1, signal.SIGKILL]]}, [-signal.SIGKILL]),
        # The clock may come too late on a busy machine.
        ({"kill_after": random.uniform(0.1, 0.5) * seconds}, [-signal.SIGKILL, 0]),
    ]
    kills = 0
    for plan, expected in plans:
        code, _, _, said = job("train", run_dir, plan, **SHORT)
        assert code in expected and "damaged" not in said, said
        kills += code != 0
    finish(job, run_dir)
    assert_same(run_dir, folder)
    record_property("tried", kills)


@pytest.mark.slow
@pytest.mark.fault("kill -9 at a random moment, by the clock or between two file operations", holds=TO_THE_BIT)
def test_fifty_kills(job, whole, tmp_path, record_property):
    folder, seconds, operations = whole
    generator, kills, saving, runs = random.Random(20261125), 0, 0, 0
    while kills < 50:
        run_dir, runs, code = tmp_path / f"run{runs}", runs + 1, None
        # Five in one run, and then it may come to its end.
        for _ in range(5):
            by_the_clock = generator.random() < 0.5
            plan = {"kill_after": generator.uniform(0.0, 1.1) * seconds} if by_the_clock else {
                "kill_at": generator.randint(1, len(operations))}
            code, _, begun, said = job("train", run_dir, plan, **SHORT)
            assert code in (0, -signal.SIGKILL) and "damaged" not in said, said
            if code == 0:
                break
            kills += 1
            # The last operation that began: of a save, or of the deletion of an old checkpoint.
            saving += bool(begun) and ("/checkpoints" in begun[-1] or "state." in begun[-1])
        if code:
            finish(job, run_dir)
        assert_same(run_dir, folder)
    record_property("tried", kills)
    record_property("measured", f"{runs} runs of 6 updates; {saving} of the kills inside a save or the deletion of an old checkpoint")


@pytest.mark.fault("kill -9 between any two file operations of a save or a rewind", holds="the newest complete checkpoint is used, without a word")
def test_a_save_is_killed_at_every_operation(job, tmp_path, record_property):
    # The first stays as the best; the second is deleted when the third is complete, the third by a rewind to the first.
    saves = {"updates": [1, 2, 3], "keep": 1, "also_keep": [1]}
    code, _, operations, said = job("save", tmp_path / "whole", **saves)
    assert code == 0, said
    plans = [{"kill_at": number} for number in range(1, len(operations) + 1)]
    # Inside TensorFlow's own writing.
    plans += [{"largest_file": size} for size in (1, 4096, 8000)]
    restored = []
    for number, plan in enumerate(plans):
        folder = tmp_path / str(number)
        code, _, _, said = job("save", folder, plan, **saves)
        assert code in (-signal.SIGKILL, -signal.SIGXFSZ)
        checkpoints, variables = small_checkpoints(folder, keep=1)
        messages = []
        update, notes = checkpoints.restore_latest(warn=messages.append)
        assert not messages and notes == ({"update": update} if update else {})
        assert all(np.all(variable.numpy() == update) for variable in variables)
        # At least what it was told is saved; once all are, the rewind may have begun.
        saved = said.count("saved")
        assert update in ((saved, saved + 1) if saved < 3 else (3, 1)), said
        restored.append(update)
        checkpoints.save(update + 1, {}, also_keep=[1])
        kept = {f"update-{number:010d}" for number in (1, update + 1) if number <= update + 1}
        assert {path.name for path in folder.iterdir()} == kept, "what the kill left is gone"
    assert set(restored) == {0, 1, 2, 3}
    record_property("tried", len(plans))


@pytest.mark.fault("SIGTERM or SIGINT, and a second one inside the save that follows", holds=TO_THE_BIT)
def test_signals_stop_a_run_and_a_second_one_at_once(job, whole, tmp_path, record_property):
    run_dir, row = tmp_path / "run", "open /metrics.jsonl a"
    plans = {
        # One signal in update 1, one in the next that is made: both save.
        signal.SIGTERM: ({"signals": [[row, 1, signal.SIGTERM]]}, 143, 1),
        signal.SIGINT: ({"signals": [[row, 1, signal.SIGINT]]}, 130, 2),
        # Another while the checkpoint of update 3 is written: it never gets its name.
        "SIGTERM twice": ({"signals": [[row, 1, signal.SIGTERM], ["partial/manifest.json w", 1, signal.SIGTERM]]}, -15, 2),
        "SIGINT twice": ({"signals": [[row, 1, signal.SIGINT], ["partial/manifest.json w", 1, signal.SIGINT]]}, 130, 2),
    }
    for what, (plan, expected, saved) in plans.items():
        code, _, _, said = job("train", run_dir, plan, **SHORT)
        assert code == expected, (what, said)
        newest = max((run_dir / "checkpoints").glob("update-*"))
        assert newest.name == f"update-{saved:010d}", what
        if code > 0:
            assert status_of(run_dir)["status"] == "interrupted", what
        if isinstance(what, signal.Signals):
            assert what.name in status_of(run_dir)["reason"] and status_of(run_dir)["step"] == saved
    finish(job, run_dir)
    assert_same(run_dir, whole[0])
    record_property("tried", len(plans))


@pytest.mark.fault("kill -9, and other replicas and micro-batches after it (2, 4, 1 replicas)",
                   holds="weights within 1e-6 of an uninterrupted run on one replica; every row once")
def test_replicas_come_and_go(job, whole, tmp_path, record_property):
    run_dir, renamed = tmp_path / "run", "os.rename /checkpoints/partial /checkpoints/update-"
    layouts = [(2, 16), (4, 6), (1, 20)]
    for replicas, micro_batch in layouts:
        layout = {"strategy": "one", "micro_batch_size": micro_batch}
        if replicas > 1:
            layout |= {"strategy": "mirrored", "num_replicas": replicas}
            code, _, _, said = job("train", run_dir, {"signals": [[renamed, 3, signal.SIGKILL]]}, **SHORT, **layout)
            assert code == -signal.SIGKILL, said
            assert status_of(run_dir)["replicas"] == replicas
    finish(job, run_dir, **layout)
    for name, value in last_state(run_dir).items():
        np.testing.assert_allclose(value, last_state(whole[0])[name], rtol=0, atol=1e-6, err_msg=name)
    for ours, theirs in zip(rows_of(run_dir), rows_of(whole[0]), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            assert {**a, **dict.fromkeys(numbers(a))} == {**b, **dict.fromkeys(numbers(b))}
            assert [a[name] for name in numbers(a)] == pytest.approx([b[name] for name in numbers(a)], rel=1e-5)
    record_property("tried", 2)


def numbers(row):
    return [name for name, value in row.items() if isinstance(value, float)]
