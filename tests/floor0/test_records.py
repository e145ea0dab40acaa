"""Run folders: what may use one, what is written, and that nobody ever sees half a file."""

import json
import math
import os

import pytest

from tf_hugebatch import records, versions
from tf_hugebatch.records import RunFolder
from tf_hugebatch.settings import Refusal, Settings


def settings(**given):
    return Settings(dataset="mnist5k", **given)


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create(settings())
    return folder


def read(folder, name):
    return json.loads((folder.path / name).read_text())


def tree(path):
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


# Who may use the folder.


def test_a_new_or_empty_folder_may_be_used_and_nothing_is_made(tmp_path):
    assert RunFolder(tmp_path / "a" / "b").problems(settings()) == []
    assert RunFolder(tmp_path).problems(settings()) == []
    assert list(tmp_path.iterdir()) == []


def test_the_same_experiment_may_go_on_in_another_layout(folder):
    folder.write_status(status="running")
    assert folder.problems(settings(micro_batch_size=8, strategy="one", log_every_steps=9)) == []


def test_another_experiment_is_refused_and_the_differences_are_named(folder):
    before = tree(folder.path)
    [problem] = folder.problems(settings(batch_size=100, seed=1))
    assert "another experiment" in problem and str(folder.path) in problem and "--run_dir" in problem
    assert "batch_size is 256 there and 100 here" in problem and "seed is 0 there and 1 here" in problem
    assert tree(folder.path) == before


def test_a_setting_that_an_older_folder_does_not_know_had_its_default(folder):
    values = read(folder, "settings.json")
    del values["precision"]
    (folder.path / "settings.json").write_text(json.dumps(values))
    assert folder.problems(settings()) == []
    [problem] = folder.problems(settings(precision="mixed_bfloat16"))
    assert "precision is float32 there and mixed_bfloat16 here" in problem


@pytest.mark.parametrize("row, missing, other", [
    ({"optimizer": "muon", "optimizer_preset": None}, "newton_schulz_epsilon", {"newton_schulz_epsilon": 0.1}),
    ({"optimizer": "sgd"}, "momentum", {"momentum": 0.5})])
def test_a_setting_that_a_folder_does_not_know_had_what_its_row_states(tmp_path, row, missing, other):
    folder, ours = RunFolder(tmp_path), settings(**row)
    folder.create(ours)
    stored = read(folder, "settings.json")
    del stored[missing]
    (tmp_path / "settings.json").write_text(json.dumps(stored))
    assert folder.problems(ours) == []
    [problem] = folder.problems(settings(**row, **other))
    assert missing in problem


@pytest.mark.parametrize("status", ["done", "diverged"])
def test_a_run_that_has_ended_is_only_read(folder, monkeypatch, status):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)  # root may write anywhere
    assert "can't be written to" in folder.problems(settings())[0]
    folder.write_status(status=status, final={"test_accuracy": 0.5})
    assert folder.problems(settings()) == []


def test_strange_content_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    [problem] = RunFolder(tmp_path).problems(settings())
    assert "not empty" in problem and "holds no run" in problem


def test_what_a_kill_left_behind_is_no_content(tmp_path):
    (tmp_path / "settings.json.123.tmp").write_text("{")
    assert RunFolder(tmp_path).problems(settings()) == []


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    assert "that is a file" in RunFolder(tmp_path / "file").problems(settings())[0]
    assert "is a file" in RunFolder(tmp_path / "file" / "run").problems(settings())[0]


@pytest.mark.parametrize("content, words", [
    ("{", "can't be read"), ("[1]", "can't be read"), ('{"schema_version": 99}', "schema version 99"),
    ('{"schema_version": 1, "sharpness_radius": 0.05, "seed": 0}', "sharpness_radius, which this release doesn't know"),
])
@pytest.mark.fault("a settings.json of a newer release, or one that is no settings", holds="refused by name, the file untouched")
def test_unreadable_or_newer_settings_are_refused(tmp_path, content, words):
    (tmp_path / "settings.json").write_text(content)
    [problem] = RunFolder(tmp_path).problems(settings())
    assert words in problem
    assert (tmp_path / "settings.json").read_text() == content and len(list(tmp_path.iterdir())) == 1


def test_resume_never_and_required(folder, tmp_path):
    never, required = settings(resume="never"), settings(resume="required")
    assert "no run to resume" in RunFolder(tmp_path / "new").problems(required)[0]
    # A dry run leaves settings.json but no status: there is no run yet.
    assert folder.problems(never) == []
    assert "no run has started" in folder.problems(required)[0]
    folder.write_status(status="running")
    assert "--resume=never" in folder.problems(never)[0]
    assert folder.problems(required) == []


def test_settings_that_failed_are_not_compared(folder):
    from tf_hugebatch.settings import resolve

    broken, problems = resolve([("command line", {"dataset": "mnist5k", "batch_size": "9999"})])
    assert problems and folder.problems(broken) == []


# What is written.


def test_settings_json_is_flat_complete_and_gives_the_settings_back(folder):
    values = read(folder, "settings.json")
    assert Settings(**values) == settings()
    with pytest.raises(Refusal, match="schema_version=99"):
        Settings(**{**values, "schema_version": 99})
    assert values.pop("schema_version") == records.SCHEMA_VERSION
    assert Settings(**values) == settings()


def test_status_is_merged_and_signed(folder):
    folder.write_status(status="running", step=1, total_steps=9)
    folder.write_status(status="done", step=9, final={"test_accuracy": 0.5, "test_loss": math.nan})
    status = read(folder, "status.json")
    assert (status["status"], status["step"], status["total_steps"]) == ("done", 9, 9)
    assert status["final"] == {"test_accuracy": 0.5, "test_loss": None}
    assert status["pid"] == os.getpid() and status["host"] and status["updated"].endswith("+00:00")
    assert folder.read_status() == status


def test_an_unknown_status_is_refused_and_the_old_one_stays(folder):
    folder.write_status(status="running")
    with pytest.raises(ValueError, match="'finished'.*done"):
        folder.write_status(status="finished")
    assert read(folder, "status.json")["status"] == "running"


def test_metrics_are_strict_json_lines(folder):
    folder.append_metrics([{"kind": "train", "step": 1, "loss": math.inf},
                           {"kind": "train", "step": 2, "loss": 0.5}])
    folder.append_metrics([{"kind": "eval", "split": "test", "step": 2, "accuracy": 1.0}])
    lines = (folder.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines] == [
        {"kind": "train", "step": 1, "loss": None}, {"kind": "train", "step": 2, "loss": 0.5},
        {"kind": "eval", "split": "test", "step": 2, "accuracy": 1.0}]


def test_numpy_numbers_are_numbers(folder):
    import numpy as np

    folder.append_metrics([{"kind": "train", "step": np.int64(3), "loss": np.float32(0.5),
                            "norm": np.float32("nan")}])
    assert json.loads((folder.path / "metrics.jsonl").read_text()) == {
        "kind": "train", "step": 3, "loss": 0.5, "norm": None}


def test_resume_drops_later_rows_and_torn_lines_and_returns_what_stays(folder):
    folder.append_metrics([{"kind": "train", "step": step} for step in range(1, 6)])
    with open(folder.path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 2')
    kept = folder.drop_metrics_after(3)
    folder.append_metrics([{"kind": "train", "step": 4}])
    lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in kept] == [1, 2, 3]
    assert [row["step"] for row in lines] == [1, 2, 3, 4]


def test_dropping_where_there_are_no_metrics_makes_none(folder):
    assert folder.drop_metrics_after(3) == [] and not (folder.path / "metrics.jsonl").exists()


def test_schedule_csv(folder):
    folder.write_schedule([(0, 0.0, 0.1), (1, 0.5, 1 / 3)])
    lines = (folder.path / "schedule.csv").read_text().splitlines()
    assert lines[:2] == ["update,epoch,learning_rate", "0,0.0,0.1"]
    assert float(lines[2].split(",")[2]) == 1 / 3


def test_the_source_that_ran_is_known_without_a_commit(tmp_path, monkeypatch):
    package = tmp_path / "package"
    (package / "deep").mkdir(parents=True)
    (package / "versions.py").write_text("")
    (package / "deep" / "one.py").write_text("x = 1\n")
    (package / "notes.txt").write_text("")
    monkeypatch.setattr(versions, "__file__", str(package / "versions.py"))
    first = versions.source_hash()
    assert versions.installed()["source_sha256"] == first and versions.installed()["git_commit"] is None
    (package / "notes.txt").write_text("other")
    assert versions.source_hash() == first
    (package / "deep" / "one.py").rename(package / "deep" / "two.py")
    moved = versions.source_hash()
    (package / "deep" / "two.py").write_text("x = 2\n")
    assert len({first, moved, versions.source_hash()}) == 3


def test_versions(folder):
    folder.write_versions(command_line=["mnist_main", "--dry_run"], devices=["CPU:0"], onednn=True)
    versions = read(folder, "versions.json")
    assert versions["command_line"] == ["mnist_main", "--dry_run"] and versions["devices"] == ["CPU:0"]
    assert versions["onednn"] is True
    assert versions["packages"]["numpy"] and versions["python"].count(".") == 2
    folder.write_versions(command_line=["mnist_main"], devices=["CPU:0", "CPU:1"], onednn=False)
    assert read(folder, "versions.json")["command_line"] == ["mnist_main"]
    assert [start["command_line"] for start in read(folder, "versions.json")["earlier"]] == [
        ["mnist_main", "--dry_run"]]


# Nobody sees half a file.


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_failure_while_replacing_leaves_the_old_file_and_no_other(folder, monkeypatch, moment):
    folder.write_status(status="running", step=1)
    before = tree(folder.path)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.os, moment, fail)
    with pytest.raises(OSError):
        folder.write_status(status="running", step=2)
    monkeypatch.undo()
    assert tree(folder.path) == before


def test_a_file_is_on_disk_before_it_gets_its_name(folder, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(records.os, "fsync", lambda handle: (done.append("fsync"), fsync(handle)))
    monkeypatch.setattr(records.os, "replace", lambda *names: (done.append("rename"), replace(*names)))
    folder.write_status(status="running")
    assert done == ["fsync", "rename", "fsync"]
