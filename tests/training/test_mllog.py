"""The MLPerf log of a short run against the checker of the mlperf-logging package."""

import importlib.util
import json
import math
import pathlib
import subprocess
import sys
import time

import pytest

import tf_hugebatch as hb
from tf_hugebatch import command_line
from tf_hugebatch.layout import Layout
from tf_hugebatch.settings import Refusal
from tf_hugebatch.training.mllog import MLLog
from tf_hugebatch.training.timetable import Timetable

CLOSED = dict(
    dataset="synthetic", dataset_size=(256, 64), model="resnet18", image_size=32, batch_size=64, optimizer="lars",
    optimizer_preset="mlperf", peak_learning_rate=8.5, warmup_steps=2, warmup_from="zero", train_steps=8,
    schedule="polynomial", poly_power=2, end_learning_rate=1e-4, weight_decay=2e-4, bn_span=64, eval_every_epochs=1,
    label_smoothing=0.1, mllog=True,
)
ACCURACY = "eval_accuracy"
RECIPES = sorted(pathlib.Path(__file__).parents[2].joinpath("flags", "mlperf").glob("*.flags"))


def check(path):
    """(whether it passes, what the checker of the v4.0.0 rules says)."""
    command = [sys.executable, "-m", "mlperf_logging.compliance_checker", "--usage", "training", "--ruleset", "4.0.0",
               "--log_output", str(path.parent / "checker.log"), str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return result.returncode == 0, result.stdout + result.stderr


def lines(path):
    return [json.loads(line.removeprefix(":::MLLOG ")) for line in path.read_text().splitlines()]


def written(path, settings, accuracies=(0.1, 0.2), status="success"):
    """The log of a run that evaluates after every epoch of four updates."""
    log = MLLog(path, settings, Layout(64, 64, 1, 64), 0, time.time())
    for epoch, accuracy in enumerate(accuracies, 1):
        log.evaluation_starts(4 * epoch)
        log.evaluated(accuracy)
        log.evaluation_ends(go_on=epoch < len(accuracies))
    log.close(status)
    return path


@pytest.fixture(scope="module")
def closed():
    return hb.Settings(**CLOSED)


def test_a_log_fails_for_its_accuracy_alone_and_passes_with_a_made_one(tmp_path, closed):
    path = written(tmp_path / "mllog.txt", closed)
    passes, said = check(path)
    assert not passes
    complaints = [line for line in said.splitlines() if "WARNING" in line]
    assert len(complaints) == 1 and "Failed checks for eval_accuracy" in complaints[0] and "0.7590" in complaints[0]
    text = path.read_text()
    path.write_text(text.replace('"value": 0.2,', '"value": 0.76,'))
    passes, said = check(path)
    assert passes, said


@pytest.mark.parametrize("spoil", [
    lambda line: None if line["key"] == "run_stop" else line,
    lambda line: {**line, "value": 1} if line["key"].endswith("poly_power") else line,
    lambda line: {**line, "value": 1e-5} if line["key"] == "lars_epsilon" else line,
    lambda line: {**line, "value": 0.0} if line["key"].endswith("end_learning_rate") else line,
    lambda line: None if line["key"] == "global_batch_size" else line,
])
def test_the_checker_sees_what_is_missing_or_against_the_rules(tmp_path, closed, spoil):
    path = written(tmp_path / "mllog.txt", closed, (0.1, 0.76))
    kept = [changed for line in lines(path) if (changed := spoil(line)) is not None]
    path.write_text("".join(f":::MLLOG {json.dumps(line)}\n" for line in kept))
    assert not check(path)[0]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_run_of_a_flagfile_passes_once_it_reaches_the_target(tmp_path, recipe):
    settings = command_line.parse([f"--flagfile={recipe}", "--mllog"], program="", description="",
                                  dataset="imagenet2012").settings
    log = MLLog(tmp_path / "mllog.txt", settings, Layout(settings.batch_size, 256, 8, settings.bn_span), 0, time.time())
    timetable = Timetable(settings, settings.total_updates)
    evaluations = [done for done in range(1, settings.total_updates + 1) if timetable.evaluation_is_due(done)]
    for done in evaluations:
        log.evaluation_starts(done)
        log.evaluated(0.76 * done / settings.total_updates)
        log.evaluation_ends(go_on=done < settings.total_updates)
    log.close("success")
    passes, said = check(tmp_path / "mllog.txt")
    assert passes, said
    found = {line["key"]: line["value"] for line in lines(tmp_path / "mllog.txt")}
    steps = math.ceil(1_281_167 / settings.batch_size)
    assert found["lars_opt_learning_rate_warmup_epochs"] * steps == settings.warmup_steps
    assert found["lars_opt_learning_rate_decay_steps"] == settings.train_steps - settings.warmup_steps
    assert (found["train_samples"], found["eval_samples"]) == (1_281_167, 50_000)
    # No epoch number is smaller than what the weights have seen, and the last is the number of epochs.
    numbers = [line["metadata"]["epoch_num"] for line in lines(tmp_path / "mllog.txt") if line["key"] == ACCURACY]
    assert all(number * steps >= done > (number - 1) * steps for number, done in zip(numbers, evaluations, strict=True))
    assert numbers[-1] == settings.train_steps / steps
    # Every epoch is of one block, and an evaluation is of all that its block claims.
    blocks = [line["metadata"] for line in lines(tmp_path / "mllog.txt") if line["key"] == "block_start"]
    claimed = [range(block["first_epoch_num"], block["first_epoch_num"] + block["epoch_count"]) for block in blocks]
    assert [epoch for block in claimed for epoch in block] == list(range(1, numbers[-1] + 1))
    assert numbers == [block[-1] for block in claimed] and set(map(len, claimed[:-1])) == {4}


def test_momentum_sgd_has_a_closed_division_too(tmp_path):
    settings = hb.Settings(**{**CLOSED, "optimizer": "sgd", "optimizer_preset": None, "weight_decay": 1e-4})
    path = written(tmp_path / "mllog.txt", settings, (0.1, 0.76))
    passes, said = check(path)
    assert passes, said
    found = {line["key"]: line["value"] for line in lines(path)}
    assert found["opt_name"] == "sgd" and found["sgd_opt_base_learning_rate"] == 8.5
    assert found["opt_learning_rate_warmup_epochs"] == 0.5


def test_success_is_the_target_reached(tmp_path, closed):
    def status(accuracies):
        return lines(written(tmp_path / "mllog.txt", closed, accuracies))[-1]["metadata"]["status"]

    assert status((0.1, 0.2)) == "aborted"
    assert status((0.1, 37_949 / 50_000)) == "aborted" and status((0.1, 37_950 / 50_000)) == "success"
    assert status((0.76, 0.75)) == "success"
    last = lines(written(tmp_path / "mllog.txt", closed, (0.76,), status="aborted"))[-1]
    assert last["key"] == "run_stop" and last["metadata"]["status"] == "aborted"


def test_a_block_that_training_left_by_diverging_is_closed(tmp_path, closed):
    log = MLLog(tmp_path / "mllog.txt", closed, Layout(64, 64, 1, 64), 0, time.time())
    log.close("aborted")
    keys = [line["key"] for line in lines(tmp_path / "mllog.txt")]
    assert keys[-3:] == ["block_start", "block_stop", "run_stop"]


def test_values_are_the_settings(tmp_path, closed):
    found = {line["key"]: line["value"] for line in lines(written(tmp_path / "mllog.txt", closed))}
    assert found["opt_name"] == "lars" and found["submission_division"] == "closed"
    assert found["lars_opt_base_learning_rate"] == 8.5 and found["lars_opt_learning_rate_decay_steps"] == 6
    assert found["lars_opt_learning_rate_warmup_epochs"] == 0.5 and found["lars_opt_weight_decay"] == 2e-4
    assert found["global_batch_size"] == 64 and found["model_bn_span"] == 64
    assert (found["train_samples"], found["eval_samples"]) == (256, 64)
    assert found["cache_clear"] is False


@pytest.mark.parametrize("changes", [
    {"optimizer": "lamb", "optimizer_preset": None}, {"schedule": "cosine", "poly_power": None},
], ids=["optimizer", "schedule"])
def test_what_the_closed_rules_have_no_words_for_is_open_division(tmp_path, changes):
    settings = hb.Settings(**{**CLOSED, **changes})
    path = written(tmp_path / "mllog.txt", settings)
    found = {line["key"]: line["value"] for line in lines(path)}
    assert found["submission_division"] == "open" and found["opt_name"] == settings.optimizer
    assert not [key for key in found if key.startswith("lars")]
    passes, said = check(path)
    assert passes, said


def test_a_log_that_goes_on_is_the_log_that_was_never_stopped(tmp_path, closed):
    whole = [(line["key"], line["value"], line["metadata"].get("step"))
             for line in lines(written(tmp_path / "whole.txt", closed))]
    path = tmp_path / "mllog.txt"
    layout = Layout(64, 64, 1, 64)
    log = MLLog(path, closed, layout, 0, 1e9)
    log.evaluation_starts(4)
    log.evaluated(0.1)
    log.evaluation_ends(go_on=True)
    log.evaluation_starts(8)  # beyond the checkpoint, which is at update 6
    log.close()
    path.write_text(path.read_text()[:-10])  # and the last line torn by a kill
    log = MLLog(path, closed, layout, 6, 1e9)
    log.evaluation_starts(8)
    log.evaluated(0.2)
    log.evaluation_ends(go_on=False)
    log.close("success")
    assert [(line["key"], line["value"], line["metadata"].get("step")) for line in lines(path)] == whole


def test_a_run_stopped_after_its_last_update_only_adds_the_end(tmp_path, closed):
    path = written(tmp_path / "mllog.txt", closed, (0.76, 0.2), status=None)
    before = path.read_text()
    MLLog(path, closed, Layout(64, 64, 1, 64), 8, time.time()).close("success")
    assert path.read_text().startswith(before)
    [last] = lines(path)[len(before.splitlines()):]
    assert last["key"] == "run_stop" and last["metadata"]["status"] == "success"  # reached before the stop


def test_a_missing_package_is_named_with_the_remedy(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec",
                        lambda name, *more: None if name == "mlperf_logging" else found(name, *more))
    with pytest.raises(Refusal, match=r"isn't installed; pip install 'tf_hugebatch\[mlperf\]'"):
        hb.Settings(**CLOSED)


def test_what_mlperf_has_no_benchmark_for_is_refused():
    with pytest.raises(Refusal, match="no benchmark on mnist"):
        hb.Settings(mllog=True)


@pytest.mark.slow
def test_a_run_writes_it(tmp_path):
    hb.train(hb.Settings(**CLOSED, run_dir=str(tmp_path / "run")))
    passes, said = check(tmp_path / "run" / "mllog.txt")
    assert not passes and ACCURACY in said
    keys = [line["key"] for line in lines(tmp_path / "run" / "mllog.txt")]
    assert keys.count("run_start") == keys.count("run_stop") == 1 and keys.count(ACCURACY) == 2
