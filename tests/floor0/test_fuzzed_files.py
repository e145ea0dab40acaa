"""Flagfiles, run folders and space files with anything in them: what is read, a problem in words, or a Refusal."""

import json
import os
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.damage import JSON, changed_json, damaged, damaged_json, few

import tf_hugebatch as hb
from tf_hugebatch import command_line, runs, versions
from tf_hugebatch.fields import FIELDS
from tf_hugebatch.records import RunFolder
from tf_hugebatch.settings import Refusal
from tf_hugebatch.training.result import finished
from tf_hugebatch.tuning import space_file
from tf_hugebatch.tuning.children import outcome
from tf_hugebatch.tuning.plan import Base

FLAGS = pathlib.Path(__file__).parents[2] / "flags"
SETTINGS = {"dataset": "mnist5k", "batch_size": 100, "epochs": 1}
STATUS = {"status": "done", "step": 6, "total_steps": 6, "reason": None, "wall_seconds": 3.25, "images_per_second": 900.0,
          "final": {"train_loss": 0.5, "test_accuracy": 0.9, "test_loss": 0.4}, "micro_batch_size": 32, "replicas": 1,
          "best": {"step": 4, "validation_accuracy": 0.9}, "data_note": "x", "pid": 1, "host": "h"}
ROWS = [{"kind": "train", "step": step, "epoch": step / 3, "loss": 1 / step, "learning_rate": 0.1} for step in (1, 2, 3)] + [
    {"kind": "eval", "split": "test", "step": 3, "epoch": 1.0, "accuracy": 0.9, "top5": 1.0, "loss": 0.3}]

#: (examples of each test, mark): a few wherever tests run, many with scripts/slow_tests.sh.
TURNS = [pytest.param(60, id="few"), pytest.param(3000, id="many", marks=pytest.mark.slow)]
FEWER = [pytest.param(15, id="few"), pytest.param(1000, id="many", marks=pytest.mark.slow)]


pytestmark = pytest.mark.fault("other words, values or bytes in a command line, flagfile, run folder (settings.json, status.json, "
                               "versions.json, metrics.jsonl), space file or a sweep's plan",
                               holds="what is read, problems in words, or our own error")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch, request, record_property):
    """For disks, and for git."""
    record_property("tried", request.node.callspec.params.get("count", 1))
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(versions, "installed", dict)


def sentences(problems):
    assert all(isinstance(problem, str) and len(problem) > 10 for problem in problems)


def parsed(words):
    command = command_line.parse(words, program="mnist_main", description="", dataset="mnist")
    sentences(command.problems)
    assert command.settings is not None and isinstance(command.refusal(), str)


# Command lines and flagfiles.

VALUES = ["true", "1", "-1", "0.1", "nan", "inf", "1e400", "full", "auto", "none", "1,2", "9" * 5000, "\x00"]
WORD = st.tuples(
    st.sampled_from(["--", "-", "", "--no", "---"]),
    st.sampled_from([*FIELDS, "flagfile", "undefok"]) | st.text(max_size=6),
    st.sampled_from(["=", "", " ", "=="]),
    st.sampled_from(VALUES) | st.text(max_size=8),
).map("".join).filter(lambda word: word not in ("--help", "-help", "-h"))


@pytest.mark.parametrize("count", TURNS)
def test_any_words_of_a_command_line(count):
    @few(count)
    @given(st.lists(WORD, max_size=5))
    def check(words):
        parsed(words)

    check()


@pytest.mark.parametrize("count", TURNS)
def test_any_flagfile(tmp_path, count):
    path = tmp_path / "a.flags"

    @few(count)
    @given(damaged((FLAGS / "quickstart.flags").read_bytes()) | st.lists(WORD, max_size=6).map(
        lambda words: "\n".join(words).encode(errors="replace")))
    def check(content):
        path.write_bytes(content)
        parsed([f"--flagfile={path}"])

    check()


# Run folders.


@pytest.fixture
def folder(tmp_path):
    made = RunFolder(tmp_path / "run")
    made.create(hb.Settings(**SETTINGS))
    made.write_status(**STATUS)
    made.append_metrics(ROWS)
    made.write_versions(command_line=["mnist_main"], devices=["CPU:0"], onednn=True)
    return made


def read_all(folder):
    """Everything that reads a run folder before it is trained in, or reported on."""
    sentences(folder.problems(hb.Settings(**SETTINGS)))
    if result := finished(folder):
        assert result.exit_code in (0, 3) and isinstance(result.final, dict)
    found = outcome(str(folder.path), "test")
    assert found is None or found.status in ("diverged", "failed") or isinstance(found.in_words, str)
    run = runs.Run(folder.path)
    assert isinstance(run.settings, dict) and isinstance(run.status, dict) and run.selected_on in ("", "validation", "test")
    for row in [*run.train_rows, *run.eval_rows(), *run.eval_rows("test")]:
        assert isinstance(row["step"], int) and (row.get("loss") is None or isinstance(row["loss"] * 1.0, float))
    assert run.damaged >= 0
    folder.write_versions(command_line=[], devices=[], onednn=True)
    folder.write_status(status="running")
    assert all(row["step"] <= 2 for row in folder.drop_metrics_after(2))


@pytest.mark.parametrize("name", ["settings.json", "status.json", "versions.json"])
@pytest.mark.parametrize("count", TURNS)
def test_any_json_of_a_run_folder(folder, name, count):
    path = folder.path / name
    whole = json.loads(path.read_text())

    @few(count)
    @given(damaged_json(whole))
    def check(content):
        path.write_bytes(content)
        read_all(folder)

    check()


@pytest.mark.parametrize("count", TURNS)
def test_any_metrics(folder, count):
    path = folder.path / "metrics.jsonl"
    line = changed_json(ROWS[0]).map(json.dumps) | changed_json(ROWS[3]).map(json.dumps) | JSON.map(json.dumps)

    @few(count)
    @given(damaged(path.read_bytes()) | st.lists(line, max_size=4).map(lambda lines: "\n".join([*lines, ""]).encode()))
    def check(content):
        path.write_bytes(content)
        read_all(folder)

    check()


# Sweeps.

SPACE = {"learning_rate": {"low": 0.01, "high": 1.0, "log": True, "points": 5}, "warmup_epochs": [0, 0.5],
         "batch_size": [10, 20]}


@pytest.mark.parametrize("count", FEWER)
def test_any_space_file(tmp_path, count):
    path, words = tmp_path / "space.json", ("--dataset=mnist5k", "--epochs=2")

    @few(count)
    @given(damaged_json(SPACE), st.booleans())
    def check(content, grid):
        path.write_bytes(content)
        try:
            space = space_file.make(space_file.read(path), words, where=f"--space={path}", grid=grid)
        except Refusal as refusal:
            sentences(refusal.problems)
        else:
            assert space.size >= 1

    check()


@pytest.mark.parametrize("count", FEWER)
def test_any_plan_of_a_sweep(tmp_path, count):
    space = space_file.make(SPACE, ["--dataset=mnist5k", "--epochs=2"], where="space")
    base = Base(words=("--dataset=mnist5k", "--epochs=2"), dataset="mnist", validation_examples=100, final_seeds=1,
                method="random")
    plan = base.plan(str(tmp_path), space=space, trials=3)
    path = tmp_path / "sweep.json"

    @few(count)
    @given(damaged_json(plan.as_json()))
    def check(content):
        path.write_bytes(content)
        sentences(plan.problems())
        if not plan.problems():
            plan.going_on()

    check()


@pytest.mark.parametrize("name, value", [("confirm", [None]), ("confirm", 1.5), ("settings", ["batch_size"]), ("settings", "x")])
def test_a_plan_with_another_kind_of_value_is_named(tmp_path, name, value):
    """The first of them only thousands of drawn files showed."""
    space = space_file.make(SPACE, ["--dataset=mnist5k", "--epochs=2"], where="space")
    base = Base(words=("--dataset=mnist5k", "--epochs=2"), dataset="mnist", validation_examples=100, final_seeds=1,
                method="random")
    plan = base.plan(str(tmp_path), space=space, trials=3)
    (tmp_path / "sweep.json").write_text(json.dumps({**plan.as_json(), name: value}))
    [problem] = plan.problems()
    assert f"its sweep.json is damaged ({name} is {json.dumps(value)})" in problem
