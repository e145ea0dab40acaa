"""GPUs of the runs at a time, on a machine that a made nvidia-smi describes."""

import io
import os

import pytest
from reference.small_sweeps import WORDS, run, runs_of

from tf_hugebatch.tuning import gpus


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes this machine one of so many GPUs; None: its driver does not answer."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def of(count):
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        lines = "echo no devices were found; exit 6" if count is None else "".join(f"echo {i}\n" for i in range(count))
        program.write_text(f"#!/bin/sh\n{lines}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return of


def named(shares):
    return [share.get("CUDA_VISIBLE_DEVICES") for share in shares]


@pytest.mark.parametrize("count, jobs, found", [
    (8, 8, ["0", "1", "2", "3", "4", "5", "6", "7"]),
    (8, 3, ["0,3,6", "1,4,7", "2,5"]),
    (2, 5, ["0", "1"]),  # the runs take turns on them
    (8, 1, [None]),
    (1, 4, [None]),
    (0, 4, [None]),
    (None, 4, [None]),
])
def test_gpus_are_divided_among_runs(machine, count, jobs, found):
    machine(count)
    assert named(gpus.shares(jobs)) == found


def test_nothing_is_divided_that_a_run_needs_whole(machine):
    machine(8)
    assert named(gpus.shares(4, at_least=2)) == ["0,4", "1,5", "2,6", "3,7"]
    assert named(gpus.shares(4, at_least=3)) == [None]


@pytest.mark.parametrize("given, found", [
    ("3,5", ["3", "5"]), ("GPU-a9b4, GPU-11ce", ["GPU-a9b4", "GPU-11ce"]), ("2", [None]), ("", [None]), ("-1", [None]),
    ("4,-1,5", [None]),
])
def test_what_the_user_lets_it_see_is_what_is_divided(machine, monkeypatch, given, found):
    machine(8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert named(gpus.shares(2)) == found


def test_without_a_driver_there_is_nothing_to_divide(tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.shares(4) == [{}]


def test_runs_at_a_time_are_on_different_gpus(machine, tmp_path, monkeypatch):
    machine(2)
    monkeypatch.setenv("FAKE_SECONDS", "0.5")
    said = io.StringIO()
    assert run(tmp_path / "s", jobs=2, trials=4, stream=said) == 0
    on = [settings["gpus"] for settings, _ in runs_of(tmp_path / "s").values()]
    assert sorted(on[:2]) == ["0", "1"] and set(on) == {"0", "1"}
    assert "GPUs of the 2 runs at a time: 0; 1" in said.getvalue()


def test_runs_of_several_replicas_keep_all_gpus_where_their_share_is_too_small(machine, tmp_path):
    machine(2)
    run(tmp_path / "s", jobs=2, trials=2, words=(*WORDS, "--strategy=mirrored", "--num_replicas=2"))
    assert {settings["gpus"] for settings, _ in runs_of(tmp_path / "s").values()} == {None}
