"""A sweep that is killed, interrupted, or started twice, at any moment: the same points, each once, the same choice."""

import io
import json
import os
import random
import signal
import subprocess
import time

import pytest
from reference.small_sweeps import in_a_process, make_plan, read, run, runs_of

from tf_hugebatch.records import held
from tf_hugebatch.settings import Refusal
from tf_hugebatch.tuning.study import Study

SHORT = {"trials": 8, "final_seeds": 2}


def outcome_of(folder):
    """The words of every run, and the result, without the folder's own name."""
    runs = {f"{part}/{name}": {**settings, "run_dir": None} for part in ("trials", "final")
            for name, (settings, _) in runs_of(folder, part).items()}
    return runs, read(folder / "result.json")


@pytest.mark.fault("kill -9 of a sweep at random moments", holds="the same points, each once, the same choice")
@pytest.mark.parametrize("method, trials", [("random", 6), pytest.param("tpe", 14, marks=pytest.mark.slow)])
def test_kills_at_random_moments_change_nothing(tmp_path, method, trials, record_property):
    how = {"method": method, "trials": trials}
    run(tmp_path / "whole", **how)
    generator, kills = random.Random(0), 0
    for _ in range(60):
        sweep = in_a_process(tmp_path / "killed", seconds="1", **how)
        try:
            # Longer from kill to kill: a busy machine must come to its end too.
            sweep.wait(generator.uniform(0.5, 2.0 + 0.2 * kills))
            break
        except subprocess.TimeoutExpired:
            sweep.kill()
            sweep.wait()
            kills += 1
    assert sweep.returncode == 0 and kills >= 2, sweep.stdout.read()
    assert outcome_of(tmp_path / "killed") == outcome_of(tmp_path / "whole")
    for part in ("trials", "final"):
        for run_dir in (tmp_path / "killed" / part).iterdir():
            assert not (run_dir / "twice").exists(), "an orphan ran beside the new run"
            steps = [int(line) for line in (run_dir / "steps").read_text().split()]
            # Each step once but for the last before a kill; none is skipped, and none is made again from the start.
            assert sorted(set(steps)) == [1, 2, 3, 4, 5] and steps == sorted(steps)
    record_property("tried", kills)


@pytest.mark.fault("SIGINT or SIGTERM to a sweep", holds="its trials save, and go on where they were")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_handed_on_and_the_trial_goes_on_where_it_was(tmp_path, number):
    sweep = in_a_process(tmp_path / "s", seconds="3", **SHORT)
    wait_for(lambda: len(list((tmp_path / "s").glob("trials/*/steps"))) == 2)
    sweep.send_signal(number)
    said = sweep.communicate(timeout=30)[0]
    assert sweep.returncode == 128 + number and signal.Signals(number).name in said and "goes on" in said
    before = runs_of(tmp_path / "s")
    assert len(before) == 2
    assert {read(tmp_path / "s" / "trials" / name / "status.json")["status"] for name in before} == {"interrupted"}
    assert read(tmp_path / "s" / "result.json")["status"] == "running"
    run(tmp_path / "s", **SHORT)
    for name, (settings, starts) in runs_of(tmp_path / "s").items():
        assert starts == (2 if name in before else 1)
        assert (tmp_path / "s" / "trials" / name / "steps").read_text().split() == list("12345")
        assert name not in before or settings == before[name][0]


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_run_that_somebody_else_stops_stops_the_sweep(tmp_path, number, code):
    sweep = in_a_process(tmp_path / "s", seconds="3", **SHORT)
    wait_for(lambda: (tmp_path / "s" / "trials" / "0000" / "steps").exists())
    os.kill(int((tmp_path / "s" / "trials" / "0000" / "pid").read_text()), number)
    sweep.communicate(timeout=30)
    assert sweep.returncode == code
    assert read(tmp_path / "s" / "result.json")["failed"] == [], "it was not the run's fault"


@pytest.mark.fault("kill -9 of one run of a sweep", holds="a failed trial with its reason; the sweep goes on")
def test_a_killed_run_is_a_failure_with_its_reason_and_the_sweep_goes_on(tmp_path):
    sweep = in_a_process(tmp_path / "s", seconds="2", **SHORT)
    wait_for(lambda: (tmp_path / "s" / "trials" / "0000" / "steps").exists())
    os.kill(int((tmp_path / "s" / "trials" / "0000" / "pid").read_text()), signal.SIGKILL)
    sweep.communicate(timeout=60)
    assert sweep.returncode == 0
    assert read(tmp_path / "s" / "result.json")["failed"] == [{"trial": 0, "reason": "killed by SIGKILL (out of memory?)"}]


def test_two_sweeps_never_work_in_one_folder(tmp_path):
    sweep = in_a_process(tmp_path / "s", seconds="3", **SHORT)
    wait_for(lambda: (tmp_path / "s" / "trials" / "0000" / "steps").exists())
    with pytest.raises(Refusal, match="at work"):
        run(tmp_path / "s", **SHORT)
    sweep.terminate()
    sweep.communicate(timeout=30)


def test_a_lock_is_held_until_the_last_child_is_gone(tmp_path):
    """What keeps a new sweep from an orphan where the system can't be asked to stop orphans."""
    waited = []
    with held(tmp_path / "runs", busy=lambda: waited.append("nobody")) as lock:
        orphan = subprocess.Popen(["sleep", "1"], pass_fds=(lock,))
    started = time.monotonic()
    with held(tmp_path / "runs", busy=lambda: waited.append("the orphan")):
        assert time.monotonic() - started > 0.5 and waited == ["the orphan"]
    orphan.wait()


@pytest.mark.fault("half a line in a sweep's journal", holds="every trial once")
@pytest.mark.parametrize("torn", ['{"op_code":4,"worker_id":"x","stu', "\x00\x00\x00"])
def test_half_a_line_of_the_journal_is_no_trial(tmp_path, torn):
    run(tmp_path / "s", trials=3)
    with open(tmp_path / "s" / "journal.log", "a") as file:
        file.write(torn)
    (tmp_path / "s" / "journal.log.lock").symlink_to("journal.log")  # Optuna's, of a process that is gone
    started = time.monotonic()
    assert run(tmp_path / "s", trials=5, stream=io.StringIO()) == 0
    assert time.monotonic() - started < 20
    assert {name: starts for name, (_, starts) in runs_of(tmp_path / "s").items()} == dict.fromkeys(
        [f"{number:04d}" for number in range(5)], 1)


def test_a_trial_that_was_noted_and_never_started_is_run_with_its_values(tmp_path):
    plan = make_plan(tmp_path / "s", trials=2)
    (tmp_path / "s").mkdir()
    study = Study(plan)
    values = study.next_values(1)
    study.add(values)
    (tmp_path / "s" / "sweep.json").write_text(json.dumps(plan.as_json()))
    assert run(tmp_path / "s", trials=2) == 0
    rates = [float(settings["learning_rate"]) for settings, _ in runs_of(tmp_path / "s").values()]
    assert rates[0] == values["learning_rate"] and len(rates) == 2


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)
