"""What many runs in one process, and a sweep of many trials, leave behind: nothing that grows."""

import gc
import importlib.util
import json
import pathlib
import weakref

import pytest
from reference.six_updates import train
from reference.small_sweeps import in_a_process
from reference.worker_processes import wait_for

from tf_hugebatch.training.trainer import Trainer

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "soak.py"


@pytest.fixture(scope="module")
def soak():
    spec = importlib.util.spec_from_file_location("soak", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def alive(monkeypatch):
    """What is left of runs: trainers and strategies, which their graphs know."""
    alive, ordinary = weakref.WeakSet(), Trainer.__init__

    def init(self, assembly, *others):
        alive.update([self, assembly.strategy])
        ordinary(self, assembly, *others)

    monkeypatch.setattr(Trainer, "__init__", init)
    return alive


def test_nothing_of_a_run_is_left_and_its_input_goes_without_the_collector(soak, alive, tmp_path):
    train(tmp_path / "first")
    gc.collect()
    before = soak.measured()
    gc.disable()
    try:
        for run in range(3):
            train(tmp_path / str(run))
        # A run's input alone has a dozen.
        wait_for(lambda: soak.measured()["threads"] < before["threads"] + 20, seconds=20)
    finally:
        gc.enable()
    gc.collect()
    assert not list(alive)
    wait_for(lambda: soak.measured()["threads"] <= before["threads"], seconds=20)
    assert soak.measured()["handles"] <= before["handles"]


def test_what_grows_is_named(soak):
    def rows(handles):
        return [{"runs": 5 * i, "memory_mib": 100 + 2.5 * i, "handles": handles(i), "threads": 9 + i % 3} for i in range(40)]

    assert soak.growth(rows(lambda i: 7)) == pytest.approx(0.5)
    assert soak.grown(rows(lambda i: 7)) == [] and soak.grown(rows(lambda i: 20 - i)) == []
    assert soak.grown(rows(lambda i: 7 + i // 8)) == ["handles"]
    assert soak.grown(rows(lambda i: 3 if i < 2 else 7)) == [], "before the first tenth it warms up"


def test_what_a_part_came_to_is_printed_judged_and_recorded(soak, monkeypatch, tmp_path, capsys):
    def rows(per, slope):
        return [{per: 5 * i + 1, "memory_mib": 100 + slope * 5 * i, "handles": 4, "threads": 9, "devices": 1, "children": 2}
                for i in range(40)]

    monkeypatch.setattr(soak, "RECORDS", tmp_path / "records.jsonl")
    monkeypatch.setattr(soak, "rows_of", lambda kind, runs: rows("runs", {"ours": ours, "keras": 5.0}[kind]))
    monkeypatch.setattr(soak, "sweep_rows", lambda trials: rows("trials", of_a_trial))
    for ours, of_a_trial, lost in ((5.4, 0.01, [False, False]), (5.6, 0.01, [True, False]), (0.2, 0.2, [False, True])):
        assert soak.main(["--record", "--trials=196"]) == any(lost)
        records = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()[-2:]]
        assert [record["lost"] is not None for record in records] == lost
        assert [f"{record['fault']}: {record['measured']}" for record in records] == capsys.readouterr().out.splitlines()
        assert f"{ours:.2f} MiB a run, plain Keras 5.00" in records[0]["measured"]
    (tmp_path / "records.jsonl").unlink()
    soak.main(["--trials=0"])
    assert not (tmp_path / "records.jsonl").exists()


@pytest.mark.slow
@pytest.mark.fault("forty runs in one process", holds="memory within 1.1 x plain Keras', handles, threads and devices flat")
def test_runs_grow_less_than_plain_keras(soak, capfd, record_property):
    assert soak.main(["--runs=40", "--trials=0"]) == 0
    summary = capfd.readouterr().out.splitlines()[-1]
    assert "grown: none" in summary
    record_property("measured", summary.partition(": ")[2])


@pytest.mark.slow
@pytest.mark.fault("a sweep of 200 (runs made cheap)", holds="the sweep's own memory, handles and children flat")
def test_a_sweep_of_two_hundred_stays_as_it_is(soak, tmp_path, record_property):
    with in_a_process(tmp_path / "s", trials=200, final_seeds=0) as sweep:
        rows = soak.watch(sweep, lambda: soak.ended_in(tmp_path / "s"), seconds=0.2)
    assert sweep.returncode == 0
    assert json.loads((tmp_path / "s/result.json").read_text())["trials"]["done"] == 200
    assert len(rows) > 20 and soak.grown(rows) == []
    record_property("measured", f"{1024 * soak.growth(rows, per='trials'):.1f} KiB a trial")
    assert soak.growth(rows, per="trials") < 0.1
