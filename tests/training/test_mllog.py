"""The MLPerf log of a short run against the checker of the mlperf-logging package."""

import json
import subprocess
import sys
import time

import pytest

import tf_hugebatch as hb
from tf_hugebatch.layout import Layout
from tf_hugebatch.settings import Refusal
from tf_hugebatch.training.mllog import MLLog

CLOSED = dict(
    dataset="synthetic", dataset_size=(256, 64), model="resnet18", image_size=32, batch_size=64, optimizer="lars",
    optimizer_preset="mlperf", peak_learning_rate=8.5, warmup_steps=2, warmup_from="zero", train_steps=8,
    schedule="polynomial", poly_power=2, end_learning_rate=1e-4, weight_decay=2e-4, bn_span=64, eval_every_epochs=1,
    label_smoothing=0.1, mllog=True,
)
ACCURACY = "eval_accuracy"


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
    lambda line: None if line["key"] == "global_batch_size" else line,
])
def test_the_checker_sees_what_is_missing_or_against_the_rules(tmp_path, closed, spoil):
    path = written(tmp_path / "mllog.txt", closed, (0.1, 0.76))
    kept = [changed for line in lines(path) if (changed := spoil(line)) is not None]
    path.write_text("".join(f":::MLLOG {json.dumps(line)}\n" for line in kept))
    assert not check(path)[0]


def test_values_are_the_settings(tmp_path, closed):
    found = {line["key"]: line["value"] for line in lines(written(tmp_path / "mllog.txt", closed))}
    assert found["opt_name"] == "lars" and found["submission_division"] == "closed"
    assert found["lars_opt_base_learning_rate"] == 8.5 and found["lars_opt_learning_rate_decay_steps"] == 6
    assert found["lars_opt_learning_rate_warmup_epochs"] == 0.5 and found["lars_opt_weight_decay"] == 2e-4
    assert found["global_batch_size"] == 64 and found["model_bn_span"] == 64
    assert (found["train_samples"], found["eval_samples"]) == (256, 64)
    assert found["cache_clear"] is False


def test_another_optimizer_is_open_division(tmp_path, closed):
    settings = hb.Settings(**{**CLOSED, "optimizer": "lamb", "optimizer_preset": None})
    found = {line["key"]: line["value"] for line in lines(written(tmp_path / "mllog.txt", settings))}
    assert found["submission_division"] == "open" and found["opt_name"] == "lamb"
    assert not [key for key in found if key.startswith("lars")]


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
