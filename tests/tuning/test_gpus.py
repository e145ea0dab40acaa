"""GPUs of the runs at a time, on a machine that is made to have some."""

import io
import os

import pytest
import tensorflow as tf
from reference.small_sweeps import WORDS, run, runs_of

from tf_hugebatch import sweep_main
from tf_hugebatch.tuning import gpus


# What TensorFlow would find: of {count} GPUs those that the environment names, before the first name that is none of theirs.
COUNT = """
import itertools, os
print("WARNING: infoROM is corrupted at gpu 0000:01:00.0")
there = [str(number) for number in range({count})] + ["GPU-a9b4", "GPU-11ce"]
given = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(there[:{count}])).split(",")
print("GPUs:", len(list(itertools.takewhile(lambda name: name.strip() in there, given))))
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes this machine one with a driver and so many GPUs that TensorFlow uses; None: TensorFlow fails there."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def of(count):
        driver = tmp_path / "bin" / "nvidia-smi"
        driver.parent.mkdir(exist_ok=True)
        driver.write_text("#!/bin/sh\n")
        driver.chmod(0o755)
        monkeypatch.setenv("PATH", f"{driver.parent}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr(gpus, "_COUNT", "raise SystemExit('no kernel image')" if count is None else COUNT.format(count=count))

    return of


def named(shares):
    return [share.get("CUDA_VISIBLE_DEVICES") for share in shares]


@pytest.mark.parametrize("count, jobs, found", [
    (8, 8, ["0", "1", "2", "3", "4", "5", "6", "7"]),
    (8, 3, ["0,1", "2,3", "4,5"]),  # of one size: a layout fits all runs or none
    (2, 5, ["0", "1"]),  # the runs take turns on them
    (8, 1, [None]),
    (1, 4, [None]),
    (0, 4, [None]),
])
def test_gpus_are_divided_among_runs(machine, count, jobs, found):
    machine(count)
    assert named(gpus.shares(jobs)) == found


@pytest.mark.parametrize("at_least, found", [
    (2, ["0,1", "2,3", "4,5", "6,7"]), (3, ["0,1,2,3", "4,5,6,7"]), (5, [None]), (9, [None]),
])
def test_a_share_is_as_large_as_a_run_needs(machine, at_least, found):
    machine(8)
    assert named(gpus.shares(4, at_least)) == found


@pytest.mark.parametrize("given, found", [
    ("3,5", ["3", "5"]), ("GPU-a9b4, GPU-11ce", ["GPU-a9b4", "GPU-11ce"]), ("2", [None]), ("", [None]), ("-1", [None]),
    ("4,-1,5", [None]), ("0,1,8,9", ["0", "1"]),
])
def test_what_the_user_lets_it_see_is_what_is_divided(machine, monkeypatch, given, found):
    machine(8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert named(gpus.shares(2)) == found


def test_without_a_driver_nobody_asks_tensorflow(machine, tmp_path, monkeypatch):
    machine(None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.shares(4) == [{}]


def test_one_run_at_a_time_asks_for_nothing(machine):
    machine(None)
    assert gpus.shares(1) == [{}]


def test_gpus_that_cannot_be_counted_are_said(machine, tmp_path):
    machine(None)
    said = io.StringIO()
    assert run(tmp_path / "s", jobs=2, trials=2, stream=said) == 0
    assert "no kernel image" in said.getvalue() and "CUDA_VISIBLE_DEVICES=-1" in said.getvalue()
    assert {settings["gpus"] for settings, _ in runs_of(tmp_path / "s").values()} == {None}


def test_this_tensorflow_counts_its_gpus():
    assert gpus._count() == len(tf.config.list_logical_devices("GPU"))


@pytest.mark.parametrize("before", [None, "0,1"])
def test_a_look_at_the_data_starts_no_gpu(monkeypatch, tmp_path, before):
    """ImageNet's shards are looked at with TensorFlow, which would hold memory of every GPU for as long as the sweep lasts."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if before is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    seen = []
    monkeypatch.setattr(sweep_main.data, "look", lambda settings: seen.append(os.environ.get("CUDA_VISIBLE_DEVICES")))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.json").write_text('{"learning_rate": [0.01, 0.1]}')
    assert sweep_main.main([*WORDS, "--space=s.json", "--trials=2", "--dry_run"]) == 0
    assert seen == ["-1"] and os.environ.get("CUDA_VISIBLE_DEVICES") == before


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
