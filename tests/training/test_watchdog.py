"""A run that hangs says where and ends; one that is slow, or busy with something else, does not."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest
from reference.six_updates import status_of, train

from tf_hugebatch.training.watchdog import Watchdog

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def dog(tmp_path):
    """A watchdog of short patience, entered, and what it did: reasons, exit codes."""
    reasons, codes = [], []
    with Watchdog(str(tmp_path / "stacks.txt"), reasons.append, times=3, least=0.4, exit=codes.append) as found:
        found.reasons, found.codes = reasons, codes
        yield found


def updates(dog, seconds=0.01):
    for _ in range(4):
        dog.updated()
        time.sleep(seconds)


def barked(dog, within):
    end = time.monotonic() + within
    while not dog.codes and time.monotonic() < end:
        time.sleep(0.02)
    return bool(dog.codes)


def test_silence_ends_the_run_with_the_stacks_of_all_threads(dog, tmp_path, capfd):
    updates(dog)
    stuck = threading.Event()
    thread = threading.Thread(target=lambda: stuck.wait(20), name="stuck")
    thread.start()
    assert barked(dog, within=10) and dog.codes == [1]
    stuck.set()
    thread.join()
    [reason] = dog.reasons
    assert "no update for" in reason and "stacks.txt" in reason and "goes on from the last checkpoint" in reason
    stacks = (tmp_path / "stacks.txt").read_text()
    assert stacks.count("Thread 0x") >= 2 and "test_watchdog.py" in stacks
    assert "no update for" in capfd.readouterr().err


def test_the_limit_follows_the_median_and_has_a_floor(dog):
    assert dog.limit is None
    updates(dog, seconds=0.01)
    assert dog.limit == 0.4
    updates(dog, seconds=0.3)
    updates(dog, seconds=0.3)
    assert dog.limit == pytest.approx(0.9, abs=0.3)


def test_before_the_first_update_there_is_no_limit(dog):
    assert not barked(dog, within=1.0)
    dog.updated()
    assert not barked(dog, within=1.0), "one sign is no interval"


def test_what_is_no_update_may_take_its_time(dog):
    updates(dog)
    with dog.paused():
        assert not barked(dog, within=1.2)
    assert not barked(dog, within=0.25), "the whole limit counts anew"
    updates(dog)
    assert dog.codes == []


def test_micro_batches_that_are_read_are_signs_of_life(dog):
    updates(dog)
    for _ in range(12):
        time.sleep(0.1)
        dog.alive()
    assert dog.codes == []


@pytest.mark.fault("a process that is stopped (Ctrl-Z, SIGSTOP) for longer than the watchdog's limit", holds="goes on when it is let go")
def test_a_process_that_was_stopped_does_not_hang(tmp_path):
    code = f"""
import sys, time
from tf_hugebatch.training.watchdog import Watchdog
with Watchdog({str(tmp_path / "stacks.txt")!r}, print, times=3, least=1.0) as dog:
    for update in range(40):
        dog.updated()
        print(update, flush=True)
        time.sleep(0.1)
    print("done", flush=True)
    time.sleep(20)  # now it does hang
"""
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for _ in range(6):
        process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    time.sleep(6.0)
    process.send_signal(signal.SIGCONT)
    said, _ = process.communicate(timeout=60)
    assert "done" in said, "the stop was taken for a hang"
    assert "no update for" in said and process.returncode == 1, "and a hang after it is still one"


@pytest.mark.fault("an update that never ends", holds="stacks of all threads, exit code 1; the same command goes on from the checkpoint")
def test_a_run_that_hangs_ends_and_goes_on(tmp_path):
    code = f"""
import sys, time
sys.path.insert(0, {str(ROOT / "tests")!r})
from reference.six_updates import train
from tf_hugebatch.training import watchdog
from tf_hugebatch.training.step import METRICS, Step
watchdog.Watchdog.__init__.__kwdefaults__.update(times=2, least=1.0)
ordinary = Step.__call__
def call(step, iterator, updates):
    metrics = ordinary(step, iterator, updates)
    if metrics[-1, METRICS.index("update")] == 5:
        time.sleep(600)
    return metrics
Step.__call__ = call
train({str(tmp_path / "run")!r}, steps_per_loop=1)
"""
    ended = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
                           text=True, timeout=300, check=False)
    assert ended.returncode == 1, ended.stderr
    status = status_of(tmp_path / "run")
    assert status["status"] == "failed" and "it hangs" in status["reason"]
    assert "in call" in (tmp_path / "run/stacks.txt").read_text()
    result = train(tmp_path / "run")
    assert result.status == "done" and status_of(tmp_path / "run")["step"] == 6
