"""Reading run folders: whole, running, damaged, missing."""

import pytest

from tf_hugebatch.records import RunFolder
from tf_hugebatch.runs import load_runs, load_sweeps
from tf_hugebatch.settings import Settings


@pytest.fixture
def runs(tmp_path):
    for name in ("b", "a", "deep/c"):
        folder = RunFolder(tmp_path / name)
        folder.create(Settings(dataset="mnist5k", seed=len(name)))
        folder.write_status(status="done", final={"test_accuracy": 0.5})
        folder.append_metrics([
            {"kind": "train", "step": 1, "loss": 2.0}, {"kind": "train", "step": 2, "loss": None},
            {"kind": "eval", "split": "train", "step": 2, "accuracy": 0.25},
            {"kind": "eval", "split": "test", "step": 2, "accuracy": 0.5}])
    (tmp_path / "no_run").mkdir()
    return tmp_path


def names(found, root):
    return [str(run.path)[len(str(root)) + 1:] for run in found]


def test_patterns_folders_and_lists(runs):
    everything = ["a", "b", "deep/c"]
    assert names(load_runs(f"{runs}/**"), runs) == everything
    assert names(load_runs(runs), runs) == everything
    assert names(load_runs(f"{runs}/*"), runs) == ["a", "b"]
    assert names(load_runs([runs / "b", f"{runs}/a/", f"{runs}/*"]), runs) == ["a", "b"]
    assert load_runs(f"{runs}/nothing*") == []


def test_a_named_folder_without_runs_is_an_error(runs):
    with pytest.raises(FileNotFoundError, match="no_run"):
        load_runs(runs / "no_run")
    with pytest.raises(FileNotFoundError, match="gone"):
        load_runs([runs / "a", runs / "gone"])


def test_rows_by_kind_and_split(runs):
    [run] = load_runs(runs / "a")
    assert run.settings["seed"] == 1 and run.status["final"] == {"test_accuracy": 0.5}
    assert [row["loss"] for row in run.train_rows] == [2.0, None]
    assert [row["accuracy"] for row in run.eval_rows("test")] == [0.5]
    assert len(run.eval_rows()) == 2 and run.eval_rows("validation") == []
    assert len(run.metrics) == 4 and run.damaged == 0


@pytest.mark.parametrize("torn", [
    '{"kind": "train", "step": 3', "17", '{"kind": "train", "step": 3}', "\xff\x00\n",
    '{"kind": "train", "step": 3, "loss": "2.1"}\n', '{"kind": "train", "step": true}\n',
    '{"step": 3, "loss": 1' + 400 * "0" + "}\n"])
def test_damaged_lines_are_skipped_and_counted(runs, torn):
    # The third has lost only its end of line: more of the row may have been to come.
    with open(runs / "a" / "metrics.jsonl", "a", encoding="latin-1") as file:
        file.write(torn)
    [run] = load_runs(runs / "a")
    assert len(run.metrics) == 4 and run.damaged == 1


def test_what_is_missing_is_empty_not_zero(runs):
    (runs / "a" / "metrics.jsonl").unlink()
    (runs / "a" / "status.json").unlink()
    [run] = load_runs(runs / "a")
    assert (run.metrics, run.train_rows, run.status, run.damaged) == ([], [], {}, 0)


def test_rows_of_many_runs_are_not_kept(tmp_path):
    import tracemalloc

    for name in range(40):
        RunFolder(tmp_path / str(name)).create(Settings(dataset="mnist5k"))
        RunFolder(tmp_path / str(name)).append_metrics({"kind": "train", "step": step, "loss": 0.5} for step in range(500))
    found = load_runs(tmp_path)
    tracemalloc.start()
    try:
        assert sum(len(run.metrics) for run in found) == 20_000 and not any(run.damaged for run in found)
        assert tracemalloc.get_traced_memory()[0] < 3e6  # all of them would take 10 MB
    finally:
        tracemalloc.stop()


def test_a_run_that_goes_on_is_read_on(runs):
    [run] = load_runs(runs / "a")
    assert len(run.metrics) == 4
    RunFolder(runs / "a").append_metrics([{"kind": "train", "step": 3, "loss": 1.0}])
    assert len(run.metrics) == 5


def test_unreadable_status_is_empty(runs):
    (runs / "a" / "status.json").write_text('{"status"')
    assert load_runs(runs / "a")[0].status == {}


# Sweeps.


@pytest.fixture
def sweep(tmp_path):
    for part, names in (("trials", ("0000", "0001")), ("final", ("seed1",))):
        for name in names:
            RunFolder(tmp_path / "adam" / part / name).create(Settings(dataset="mnist5k"))
    (tmp_path / "adam" / "sweep.json").write_text('{"method": "random"}')
    RunFolder(tmp_path / "adam" / "final_before" / "trial0000" / "seed1").create(Settings(dataset="mnist5k"))
    RunFolder(tmp_path / "final" / "alone").create(Settings(dataset="mnist5k"))
    return tmp_path


def test_a_sweep_knows_its_runs_and_they_know_it(sweep):
    [found] = load_sweeps(sweep)
    assert found.plan == {"method": "random"} and found.result == {}
    assert names(found.trials, sweep) == ["adam/trials/0000", "adam/trials/0001"]
    assert names(found.final, sweep) == ["adam/final/seed1"]
    parts = {names([run], sweep)[0]: (run.part, run.sweep and run.sweep.plan["method"]) for run in load_runs(sweep)}
    assert parts == {"adam/trials/0000": ("trials", "random"), "adam/trials/0001": ("trials", "random"),
                     "adam/final/seed1": ("final", "random"), "final/alone": ("", None),
                     "adam/final_before/trial0000/seed1": ("final_before", "random")}


def test_a_named_folder_without_sweeps_is_an_error(sweep):
    with pytest.raises(FileNotFoundError, match="sweep.json"):
        load_sweeps(sweep / "final")
