"""The loop: what a run folder holds, how a run ends, and that going on gives what never stopping gives."""

import csv
import dataclasses
import json
import os
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference.interruptions import after, terminate
from reference.six_updates import (
    BATCH,
    TRAIN,
    UPDATES,
    examples,
    rows_of,
    same_bits,
    settings,
    splits,
    status_of,
    strict_json,
    tensorboard_of,
    text_of,
    train,
    weights,
)

import tf_hugebatch as hb
from tf_hugebatch.data.images import Undecodable
from tf_hugebatch.data.splits import Splits
from tf_hugebatch.records import RunFolder
from tf_hugebatch.runs import Run
from tf_hugebatch.training import loop
from tf_hugebatch.training.checkpoint import Checkpoints
from tf_hugebatch.training.evaluate import Evaluation
from tf_hugebatch.training.step import METRICS, Step


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(result, folder) of a run that nothing disturbed."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    result = train(run_dir)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    return result, run_dir


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """(result, folder) of the same run, stopped by SIGTERM after update 3: not where checkpoints are due."""
    run_dir = tmp_path_factory.mktemp("interrupted") / "run"
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        after(patch, 3, terminate)
        result = train(run_dir, steps_per_loop=1)
    assert signal.getsignal(signal.SIGTERM) is handler
    return result, run_dir


@pytest.fixture
def interrupted_copy(interrupted, tmp_path):
    return shutil.copytree(interrupted[1], tmp_path / "run")


# What a run folder holds.


def test_the_result_says_how_it_ended(finished):
    result, run_dir = finished
    assert (result.status, result.exit_code, result.repeated) == ("done", 0, False)
    assert result.run_dir == str(run_dir)
    assert result.final == status_of(run_dir)["final"]


def test_a_run_folder_has_its_files(finished):
    _, run_dir = finished
    assert sorted(os.listdir(run_dir)) == ["checkpoints", "metrics.jsonl", "schedule.csv", "settings.json",
                                           "status.json", "tensorboard", "versions.json"]
    resolved = settings(run_dir)
    assert strict_json(text_of(run_dir, "settings.json")) == {"schema_version": 1, **resolved.as_dict()}
    versions = strict_json(text_of(run_dir, "versions.json"))
    assert versions["command_line"] == ["mnist_main", "--word"]
    assert versions["devices"] and versions["packages"]["tensorflow"]
    assert sorted(os.listdir(run_dir / "checkpoints")) == ["update-0000000004", "update-0000000006"]


def test_float32_is_float32_on_every_device(tmp_path):
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(True)
    try:
        train(tmp_path / "run")
        assert not tf.config.experimental.tensor_float_32_execution_enabled()
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)


def test_every_update_has_one_row(finished):
    train_rows, _ = rows_of(finished[1])
    assert [row["step"] for row in train_rows] == [1, 2, 3, 4, 5, 6]
    for row in train_rows:
        assert row["epoch"] == pytest.approx(row["step"] * BATCH / TRAIN)
        assert {"loss", "learning_rate", "grad_norm", "weight_norm", "update_norm"} <= row.keys()
    assert train_rows[-1]["loss"] < train_rows[0]["loss"]


def test_evaluations_stand_where_epochs_end_and_at_the_end(finished):
    _, evaluations = rows_of(finished[1])
    assert [(row["split"], row["step"]) for row in evaluations] == [("test", 2), ("test", 4), ("test", 6)]
    last, final = evaluations[-1], status_of(finished[1])["final"]
    assert (last["accuracy"], last["loss"], last["top5"]) == (
        final["test_accuracy"], final["test_loss"], final["test_top5"])


def test_schedule_csv_is_what_the_updates_used(finished):
    _, run_dir = finished
    table = list(csv.DictReader(text_of(run_dir, "schedule.csv").splitlines()))
    schedule = hb.schedules.build(settings(run_dir))
    rates = [float(row["learning_rate"]) for row in table]
    assert [int(row["update"]) for row in table] == list(range(UPDATES))
    epochs = [update * BATCH / TRAIN for update in range(UPDATES)]
    assert [float(row["epoch"]) for row in table] == pytest.approx(epochs)
    assert rates == [float(schedule(update)) for update in range(UPDATES)]
    assert rates == [row["learning_rate"] for row in rows_of(run_dir)[0]]
    assert rates[1] == max(rates) == pytest.approx(settings(run_dir).peak_rate)


def test_status_has_its_fields(finished):
    status = status_of(finished[1])
    assert (status["status"], status["step"], status["total_steps"], status["reason"]) == ("done", 6, 6, None)
    assert (status["micro_batch_size"], status["micro_batches"], status["replicas"]) == (32, 2, 1)
    assert set(status["final"]) == {"train_loss", "test_accuracy", "test_loss", "test_top5"}
    assert status["pid"] == os.getpid() and status["host"] and status["updated"]
    assert min(status["wall_seconds"], status["images_per_second"], status["peak_rss_mb"]) > 0
    assert "best" not in status  # there is no validation split to choose on


def test_tensorboard_holds_the_same_numbers(finished):
    _, run_dir = finished
    scalars = tensorboard_of(run_dir)
    train_rows, evaluations = rows_of(run_dir)
    for name in ("loss", "learning_rate", "grad_norm", "weight_norm", "update_norm"):
        steps, values = zip(*scalars[f"train/{name}"])
        assert steps == (1, 2, 3, 4, 5, 6)
        assert values == pytest.approx([row[name] for row in train_rows])
    assert scalars["test/accuracy"] == [(row["step"], pytest.approx(row["accuracy"])) for row in evaluations]


def test_a_run_that_has_ended_says_so_and_touches_nothing(finished):
    result, run_dir = finished

    def contents():
        return {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}

    before = contents()
    again = train(run_dir)
    assert (again.repeated, again.status, again.exit_code, again.final) == (True, "done", 0, result.final)
    assert contents() == before


# Stopping and going on.


def test_a_signal_saves_and_says_how_to_go_on(interrupted):
    result, run_dir = interrupted
    assert (result.status, result.exit_code) == ("interrupted", 143)
    status = status_of(run_dir)
    assert (status["status"], status["step"]) == ("interrupted", 3)
    assert "SIGTERM" in status["reason"] and "final" not in status
    assert [row["step"] for row in rows_of(run_dir)[0]] == [1, 2, 3]


def test_a_second_signal_leaves_at_once_and_keeps_what_was_saved(tmp_path):
    def interrupt():
        raise KeyboardInterrupt  # what Python's own handler does, and it is back after the first signal

    with pytest.MonkeyPatch.context() as patch:
        after(patch, 4, interrupt)
        result = train(tmp_path / "run", steps_per_loop=1, checkpoint_every_steps=3)
    assert (result.status, result.exit_code) == ("interrupted", 130)
    assert status_of(tmp_path / "run")["status"] == "interrupted"
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["update-0000000003"]


def test_the_same_command_gives_the_same_bits_as_if_nothing_had_happened(interrupted_copy, finished):
    result = train(interrupted_copy)
    assert same_bits(weights(result), weights(finished[0]))
    assert text_of(interrupted_copy, "metrics.jsonl") == text_of(finished[1], "metrics.jsonl")
    assert result.final == finished[0].final
    assert status_of(interrupted_copy)["reason"] is None
    scalars = tensorboard_of(interrupted_copy)
    assert [step for step, _ in scalars["train/loss"]] == [1, 2, 3, 4, 5, 6]
    assert [step for step, _ in scalars["test/loss"]] == [2, 4, 6]


def test_on_another_layout_it_agrees_to_a_millionth(interrupted_copy, finished):
    layout = {"micro_batch_size": 20, "strategy": "mirrored", "num_replicas": 2, "steps_per_loop": 2}
    result = train(interrupted_copy, **layout)
    assert status_of(interrupted_copy)["padding_per_update"] == 16
    for a, b in zip(weights(result), weights(finished[0]), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    for ours, theirs in zip(rows_of(interrupted_copy), rows_of(finished[1]), strict=True):
        for a, b in zip(ours, theirs, strict=True):
            numbers = [name for name in b if name not in ("kind", "split")]
            assert a.keys() == b.keys()
            assert [a[name] for name in numbers] == pytest.approx([b[name] for name in numbers], rel=1e-5)


def test_another_experiment_in_the_same_folder_is_refused(interrupted_copy):
    before = text_of(interrupted_copy, "status.json")
    with pytest.raises(hb.Refusal, match="another experiment.*seed"):
        train(interrupted_copy, seed=1)
    assert text_of(interrupted_copy, "status.json") == before


def test_a_checkpoint_says_which_run_it_is_of(finished):
    resolved = settings(finished[1])
    for update in (4, 6):
        manifest = strict_json(text_of(finished[1], f"checkpoints/update-{update:010d}/manifest.json"))
        of_the_run = {"experiment": resolved.experiment_hash(), "total_updates": UPDATES, "train_examples": TRAIN, "seed": 0}
        assert manifest["update"] == update and of_the_run.items() <= manifest["identity"].items()


@pytest.mark.fault("a checkpoint of another total, data size or seed in the run's folder", holds="refused by name, nothing written")
@pytest.mark.parametrize("change, named", [
    ({"train_steps": 7}, "total_updates"), ({"validation_examples": 50}, "train_examples"), ({"seed": 1}, "seed")])
def test_checkpoints_carried_into_another_runs_folder_are_refused(interrupted, tmp_path, change, named):
    train(tmp_path / "run", dry_run=True, **change)
    shutil.copytree(interrupted[1] / "checkpoints", tmp_path / "run/checkpoints")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(hb.Refusal, match=f"made by another run.*{named}.*--run_dir"):
        train(tmp_path / "run", **change)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_other_examples_under_the_same_numbers_are_refused(interrupted_copy):
    """Shards or folders of the same images in another order: the run would train on what it has held out, or twice."""
    before = text_of(interrupted_copy, "status.json")
    other = splits()
    other = Splits(other.train.take(np.arange(TRAIN)[::-1]), None, other.test)
    with pytest.raises(hb.Refusal, match="data"):
        hb.train(settings(interrupted_copy), splits=other)
    assert text_of(interrupted_copy, "status.json") == before


@pytest.mark.fault("other images or labels under the same numbers", holds="refused, nothing touched")
@pytest.mark.parametrize("other", ["pixels", "words on the data"])
def test_other_images_under_the_same_labels_are_refused(interrupted_copy, other):
    """CIFAR-10 as it was and JPEG-recompressed have the same labels in the same order."""
    before = text_of(interrupted_copy, "status.json")
    ordinary = splits()
    images = 255 - ordinary.train.images if other == "pixels" else ordinary.train.images
    changed = Splits(dataclasses.replace(ordinary.train, images=images), None, ordinary.test,
                     note="" if other == "pixels" else "JPEG-recompressed")
    with pytest.raises(hb.Refusal, match="data"):
        hb.train(settings(interrupted_copy), splits=changed)
    assert text_of(interrupted_copy, "status.json") == before


def test_words_on_the_data_go_wherever_numbers_go(tmp_path, capsys):
    noted = dataclasses.replace(splits(), note="JPEG-recompressed")
    results = [hb.train(settings(tmp_path / "run"), splits=noted) for _ in range(2)]
    assert [result.note for result in results] == ["JPEG-recompressed"] * 2 and results[1].repeated
    lines = [line for line in capsys.readouterr().err.splitlines() if "accuracy" in line and line.startswith("epoch")]
    assert len(lines) == 3 and all("(JPEG-recompressed)" in line for line in lines)
    assert status_of(tmp_path / "run")["data_note"] == "JPEG-recompressed"
    assert [row["data_note"] for row in rows_of(tmp_path / "run")[1]] == ["JPEG-recompressed"] * 3
    events = b"".join(path.read_bytes() for path in (tmp_path / "run" / "tensorboard").glob("events*"))
    assert b"JPEG-recompressed" in events
    with pytest.raises(hb.Refusal, match="data_note"):
        (tmp_path / "run" / "status.json").write_text('{"status": "interrupted", "step": 6}')
        hb.train(settings(tmp_path / "run"), splits=splits())


class OneIsDamaged:
    """A test split of which one image can't be decoded, and which knows that once it was read."""

    def __init__(self, ordinary):
        self._ordinary, self.undecodable = ordinary, Undecodable(self, len(ordinary))

    def __getattr__(self, name):
        return getattr(self._ordinary, name)

    def __len__(self):
        return len(self._ordinary)

    def describe(self, number):
        return f"image {number}"

    def micro_batches(self, cells, size, training):
        self.undecodable.add(np.array([17]))
        return self._ordinary.micro_batches(cells, size, training)


def test_what_could_not_be_decoded_is_counted_once_in_a_run_that_went_on(tmp_path, capfd):
    def go_on():
        ordinary = splits()
        return hb.train(settings(tmp_path / "run", steps_per_loop=1),
                        splits=Splits(ordinary.train, None, OneIsDamaged(ordinary.test)))

    with pytest.MonkeyPatch.context() as patch:
        after(patch, 5, terminate)
        assert go_on().exit_code == 143
    assert go_on().status == "done"
    assert status_of(tmp_path / "run")["undecodable_images"] == 1
    assert capfd.readouterr().err.count("undecodable image, left out: image 17") == 1


@pytest.mark.fault("an exception between checkpoints, and a torn line of metrics.jsonl",
                   holds="weights equal to the bit, every row once")
def test_after_a_crash_between_checkpoints_nothing_is_lost_or_doubled(tmp_path, finished):
    run_dir = tmp_path / "run"

    def crash():
        raise RuntimeError("the disk fell out")

    with pytest.MonkeyPatch.context() as patch:
        after(patch, 5, crash)
        with pytest.raises(RuntimeError):
            train(run_dir, steps_per_loop=1)
    status = status_of(run_dir)
    assert status["status"] == "failed" and "RuntimeError: the disk fell out" in status["reason"]
    assert status["step"] == rows_of(run_dir)[0][-1]["step"] > 0
    # What a kill while rows were written leaves: rows beyond the checkpoint, the last one torn.
    with open(run_dir / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 5, "epoch": 0.08, "loss": 9.9}\n{"kind": "train", "st')
    result = train(run_dir)
    assert result.status == "done"
    assert same_bits(weights(result), weights(finished[0]))
    assert text_of(run_dir, "metrics.jsonl") == text_of(finished[1], "metrics.jsonl")


@pytest.mark.fault("a second process in the folder of a living run", holds="refused, nothing touched")
def test_a_folder_in_use_is_refused_and_not_touched(tmp_path, finished):
    run_dir = shutil.copytree(finished[1], tmp_path / "run")
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file()}
    os.unlink(run_dir / "status.json")
    with RunFolder(run_dir).held(), pytest.raises(hb.Refusal) as refused:
        train(run_dir)
    assert "a run is at work in it" in str(refused.value) and str(run_dir) in str(refused.value)
    assert {path: path.read_bytes() for path in before if path.exists()} == {
        path: content for path, content in before.items() if path.name != "status.json"}
    assert train(run_dir).status == "done", "free again"


def test_a_run_that_another_process_has_just_ended_is_not_repeated(tmp_path, finished, monkeypatch):
    run_dir = tmp_path / "run"
    build = loop.Assembly

    def slowly(*arguments):
        shutil.copytree(finished[1], run_dir)
        return build(*arguments)

    monkeypatch.setattr(loop, "Assembly", slowly)
    assert train(run_dir).repeated


def test_the_best_on_validation_is_kept_beside_the_newest(tmp_path, monkeypatch):
    accuracies = iter([0.5, 0.9, 0.4, 0.3])
    monkeypatch.setattr(Evaluation, "__call__", lambda _: {"accuracy": next(accuracies), "loss": 1.0})
    changes = {"validation_examples": 500, "eval_every_epochs": 2 * BATCH / (TRAIN - 500), "checkpoint_every_steps": 100}
    train(tmp_path / "run", keep_checkpoints=1, evaluate_test=False, train_steps=7, **changes)
    kept = sorted(int(path.name[-3:]) for path in (tmp_path / "run/checkpoints").glob("update-*"))
    assert status_of(tmp_path / "run")["best"]["step"] == 4 and kept == [4, 7]


# Diverged runs are results.


def test_a_run_that_blows_up_is_a_result_with_a_reason(tmp_path):
    result = train(tmp_path / "run", learning_rate=1e18, lr_scaling="none", warmup_steps=0, steps_per_loop=4)
    assert (result.status, result.exit_code) == ("diverged", 3)
    status = status_of(tmp_path / "run")
    train_rows, _ = rows_of(tmp_path / "run")
    bad = train_rows[-1]
    assert status["status"] == "diverged" and f"at update {bad['step']}" in status["reason"]
    assert status["step"] == bad["step"] - 1 < UPDATES
    assert None in (bad["loss"], bad["grad_norm"], bad["weight_norm"], bad["update_norm"])
    assert all(None not in row.values() for row in train_rows[:-1])
    assert [row["step"] for row in train_rows] == list(range(1, bad["step"] + 1))
    # What stands in `final` is an evaluation of the weights as the last good update left them, not an older one.
    _, evaluations = rows_of(tmp_path / "run")
    assert evaluations[-1]["step"] == status["step"]
    assert status["final"]["test_accuracy"] == evaluations[-1]["accuracy"]
    again = train(tmp_path / "run", learning_rate=1e18, lr_scaling="none", warmup_steps=0)
    assert (again.repeated, again.exit_code) == (True, 3)


@pytest.mark.parametrize("per_loop, loops", [(1, 4), (3, 2)])
def test_a_divergence_is_found_at_the_end_of_its_loop(tmp_path, monkeypatch, per_loop, loops):
    made, ordinary = [], Step.__call__

    def call(step, iterator, updates):
        made.append(updates)
        rows = ordinary(step, iterator, updates)
        rows[rows[:, METRICS.index("update")] == 4, METRICS.index("grad_norm")] = np.inf
        return rows

    monkeypatch.setattr(Step, "__call__", call)
    result = train(tmp_path / "run", steps_per_loop=per_loop, train_steps=9, eval_every_epochs=1, checkpoint_every_steps=9)
    assert result.status == "diverged" and "at update 4" in status_of(tmp_path / "run")["reason"]
    assert made == [per_loop] * loops, "not a loop more"


def test_weights_that_overflowed_are_not_evaluated_and_their_accuracy_is_blank(tmp_path):
    result = train(tmp_path / "run", learning_rate=1e38, lr_scaling="none", warmup_steps=0, steps_per_loop=4)
    train_rows, evaluations = rows_of(tmp_path / "run")
    assert (result.status, result.exit_code, status_of(tmp_path / "run")["step"]) == ("diverged", 3, 0)
    assert train_rows[-1]["update_norm"] is None and train_rows[-1]["grad_norm"] is not None
    assert evaluations == [] and list(result.final) == ["train_loss"]


def test_a_loss_that_did_not_fall_is_diverged_too(tmp_path):
    """A rate below every weight's last bit on a training set of one image: every loss is the same."""
    everything = examples(1, 2).take(np.zeros(TRAIN, int))
    given = settings(tmp_path / "run", learning_rate=1e-20, train_steps=2, warmup_steps=0)
    result = hb.train(given, splits=Splits(everything, None, examples(30, 4)))
    first, last = rows_of(tmp_path / "run")[0]
    assert first["loss"] == last["loss"]
    assert (result.status, result.exit_code) == ("diverged", 3)
    assert "not below the initial" in status_of(tmp_path / "run")["reason"]
    assert result.final["test_accuracy"] is not None


# Splits, rows, evaluations.


def test_with_a_validation_split_the_test_split_is_read_once(tmp_path):
    run_dir = tmp_path / "run"
    changes = {"validation_examples": 500, "eval_every_epochs": 2 * BATCH / (TRAIN - 500)}

    class Killed(BaseException):
        """Nothing catches it to tidy up."""

    def killed(folder, **fields):
        if fields["status"] == "done":
            raise Killed
        ordinary(folder, **fields)

    ordinary = RunFolder.write_status
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RunFolder, "write_status", killed)  # the last moment at which a kill can hurt
        train(run_dir, **changes)
    result = train(run_dir, **changes)
    _, evaluations = rows_of(run_dir)
    read = [(row["split"], row["step"]) for row in evaluations]
    assert read == [("validation", 2), ("validation", 4), ("validation", 6), ("test", 6)]
    status = status_of(run_dir)
    best = max(evaluations[:3], key=lambda row: row["accuracy"])
    assert status["best"] == {"step": best["step"], "validation_accuracy": best["accuracy"],
                              "validation_loss": best["loss"]}
    assert result.final["test_accuracy"] == evaluations[-1]["accuracy"]
    assert result.final["validation_accuracy"] == evaluations[2]["accuracy"]


def test_the_test_split_need_not_be_read_at_all(tmp_path):
    result = train(tmp_path / "run", validation_examples=50, evaluate_test=False)
    _, evaluations = rows_of(tmp_path / "run")
    assert [(row["split"], row["step"]) for row in evaluations] == [("validation", 2), ("validation", 4), ("validation", 6)]
    assert {name.partition("_")[0] for name in result.final} == {"train", "validation"}


def test_a_dry_run_trains_nothing_and_the_run_can_follow(tmp_path, capsys):
    run_dir = tmp_path / "run"
    # Two and a half updates between evaluations, three between rows, seven in all.
    changes = {"train_steps": 7, "log_every_steps": 3, "eval_every_epochs": 2.5 * BATCH / TRAIN}
    result = train(run_dir, dry_run=True, **changes)
    assert (result.status, result.exit_code, result.final) == ("dry run", 0, {})
    assert sorted(os.listdir(run_dir)) == ["schedule.csv", "settings.json", "versions.json"]
    said = capsys.readouterr().err
    for words in ("logits/kernel", "Parameters: 61,706", "2 micro-batch(es) x 32", "Updates: 7", "warm-up 2"):
        assert words in said

    assert train(run_dir, **changes).status == "done"
    train_rows, evaluations = rows_of(run_dir)
    assert [row["step"] for row in train_rows] == [3, 6, 7]
    assert [row["step"] for row in evaluations] == [3, 5, 7]
    assert Run(str(run_dir)).settings["dry_run"] is False


@pytest.mark.fault("checkpoints lost, then the same command with --resume=required", holds="refused, no row lost")
def test_a_required_resume_needs_a_checkpoint(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        after(patch, 4, terminate)
        train(tmp_path / "run", steps_per_loop=1)
    before = (tmp_path / "run/metrics.jsonl").read_text()
    shutil.rmtree(tmp_path / "run/checkpoints")
    with pytest.raises(hb.Refusal, match="--resume=required: .* no intact checkpoint of its 4 updates; .* drop the flag"):
        train(tmp_path / "run", resume="required")
    assert (tmp_path / "run/metrics.jsonl").read_text() == before
    assert train(tmp_path / "run").status == "done"


@pytest.mark.fault("a kill between the last checkpoint and the end", holds="the speed that was measured stays")
def test_what_goes_on_at_its_end_measures_no_speed_and_forgets_none(tmp_path):
    train(tmp_path / "run")
    path = tmp_path / "run/status.json"
    ended = json.loads(path.read_text())
    assert ended["images_per_second"] > 0
    path.write_text(json.dumps({**ended, "status": "running"}))
    train(tmp_path / "run")
    again = json.loads(path.read_text())
    assert again["status"] == "done"
    assert [again[name] for name in ("images_per_second", "input_wait_share")] == [
        ended[name] for name in ("images_per_second", "input_wait_share")]


def test_batches_of_one_with_a_profile_that_outlives_a_resume(tmp_path):
    run_dir = tmp_path / "run"
    changes = {"batch_size": 1, "micro_batch_size": "auto", "train_steps": 5, "eval_every_epochs": 5,
               "profile_steps": (2, 3), "keep_checkpoints": 1, "steps_per_loop": 1}
    with pytest.MonkeyPatch.context() as patch:
        after(patch, 4, terminate)
        assert train(run_dir, **changes).exit_code == 143
    profiles = sorted(run_dir.rglob("*.xplane.pb"))
    assert len(profiles) == 1 and profiles[0].stat().st_size > 0
    result = train(run_dir, **changes)
    assert result.status in ("done", "diverged")  # two losses of one example each decide nothing
    assert [row["step"] for row in rows_of(run_dir)[0]] == [1, 2, 3, 4, 5]
    assert sorted(run_dir.rglob("*.xplane.pb")) == profiles
    assert len(os.listdir(run_dir / "checkpoints")) == 1


def test_the_model_of_a_result_is_any_keras_model(finished):
    """It is out of the run's tf.distribute strategy: compiled anew it is evaluated and goes on training."""
    result = dataclasses.replace(finished[0])  # without the model that the other tests compare
    test = splits().test
    model = result.model
    assert model is result.model
    model.compile(optimizer=hb.optimizers.LARS(0.1), metrics=["accuracy"],
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = test.images.astype(np.float32) / 255
    loss, accuracy = model.evaluate(images, test.labels, verbose=0)
    assert accuracy == pytest.approx(result.final["test_accuracy"]) and loss == pytest.approx(result.final["test_loss"], rel=1e-5)
    before = model.get_weights()
    model.fit(images, test.labels, verbose=0)
    assert not same_bits(before, model.get_weights()) and same_bits(before, result.trained.get_weights())


def test_rows_are_on_disk_before_the_checkpoint_after_which_they_are_not_made_again(tmp_path, monkeypatch):
    calls = []

    def noting(owner, name):
        wrapped = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *arguments, **named: (calls.append(name), wrapped(*arguments, **named))[1])

    noting(RunFolder, "metrics_to_disk")
    noting(Checkpoints, "save")
    train(tmp_path / "run", train_steps=2)
    assert calls and calls == ["metrics_to_disk", "save"] * (len(calls) // 2)
