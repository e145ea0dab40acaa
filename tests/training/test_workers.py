"""Two workers, two processes: the weights of one process, one run folder, and no worker that hangs or goes its own way."""

import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from reference.small_runs import largest_difference
from reference.worker_processes import TESTS, environment, wait_for, workers
from reference.worker_scenes import SCENES, state, train

from tf_hugebatch.runs import Run

LAUNCHER = TESTS.parent / "scripts" / "launch_local.py"
#: Compared with one process, for so many updates rounding stays rounding; the long run is for what kills do.
SHORT = [scene for scene in SCENES if scene != "long"]


def main(run_dir, **changes):
    """Words of the long run's command line, after the interpreter."""
    flags = {**SCENES["long"], "run_dir": run_dir, **changes}
    return ["mnist_main", *(f"--{name}={value}" for name, value in flags.items())]


def worker(run_dir, **changes):
    """The same for one of the workers."""
    program, *flags = main(run_dir, strategy="multiworker", **changes)
    return ["-m", f"tf_hugebatch.{program}", *flags]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The folder in which two workers have played their scenes."""
    folder = tmp_path_factory.mktemp("workers")
    with workers([TESTS / "reference" / "worker_scenes.py", folder]) as processes:
        said = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return folder


@functools.cache
def alone(scene, folder):
    """A scene's run in this process, which holds what both workers hold."""
    return train(scene, folder / f"{scene}-alone", strategy="one", micro_batch_size=2 * SCENES[scene]["micro_batch_size"])


def left_by(folder, scene, index):
    with np.load(folder / f"{scene}-{index}.npz") as arrays:
        return {path: arrays[path] for path in arrays}


def same_bits(a, b):
    return a.keys() == b.keys() and all(a[path].tobytes() == b[path].tobytes() for path in a)


def rows(run_dir, kind):
    lines = (run_dir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


@pytest.mark.parametrize("scene", SHORT)
def test_two_workers_end_where_one_process_ends(scenes, scene):
    whole = state(alone(scene, scenes))
    first, second = (left_by(scenes, scene, index) for index in (0, 1))
    assert same_bits(first, second)
    assert largest_difference(first, whole) <= 1e-6
    losses = [row["loss"] for row in rows(scenes / scene, "train")]
    assert losses == pytest.approx([row["loss"] for row in rows(scenes / f"{scene}-alone", "train")], abs=1e-5)
    # A tolerance says little beside how far the run has gone.
    assert abs(losses[-1] - losses[0]) > 1e-2


@pytest.mark.parametrize("scene", SHORT)
def test_evaluation_sees_every_example_once(scenes, scene):
    alone(scene, scenes)
    both, whole = rows(scenes / scene, "eval"), rows(scenes / f"{scene}-alone", "eval")
    assert [(row["step"], row["split"]) for row in both] == [(row["step"], row["split"]) for row in whole]
    for row, expected in zip(both, whole):
        assert (row["accuracy"], row["top5"]) == (expected["accuracy"], expected["top5"])
        assert row["loss"] == pytest.approx(expected["loss"], abs=1e-5)


@pytest.mark.parametrize("scene", SCENES)
def test_the_chief_alone_writes(scenes, scene):
    run = Run(scenes / scene)
    assert run.status["status"] == "done" and run.status["replicas"] == 2
    steps = [row["step"] for row in rows(scenes / scene, "train")]
    assert steps == list(range(1, SCENES[scene]["train_steps"] + 1))
    assert len(list((scenes / scene / "tensorboard").iterdir())) == 1
    assert not [path.name for path in scenes.rglob("*.tmp")]


def test_workers_agree_on_the_smaller_micro_batch(scenes):
    assert Run(scenes / "auto").status["micro_batch_size"] == 8


def said(folder, index):
    return json.loads((folder / f"said-{index}.json").read_text())


def test_a_signal_to_one_stops_both_and_they_go_on_bit_for_bit(scenes):
    for index in (0, 1):
        assert said(scenes, index)["exit codes"] == [143, 0]
        assert said(scenes, index)["reason"] == "SIGTERM; the same command goes on at update 2"
        assert same_bits(left_by(scenes, "stopped", index), left_by(scenes, "lenet", 0))
    assert [row["step"] for row in rows(scenes / "stopped", "train")] == [1, 2, 3, 4]


def test_a_worker_that_differs_from_the_chief_trains_on_nowhere(scenes):
    for index in (0, 1):
        (other_checkpoint,), (other_seed,) = said(scenes, index)["refusals"]
        assert other_checkpoint.startswith("worker 1 at localhost:")
        assert "another update to go on from" in other_checkpoint and "share" in other_checkpoint
        assert "worker 1 at localhost:" in other_seed and "another seed than the chief" in other_seed
    assert not (scenes / "elsewhere").exists() and not (scenes / "seeds").exists()


def has_checkpoints(run_dir):
    return len(list(run_dir.glob("checkpoints/update-*"))) == 2


def test_a_stopped_worker_ends_the_other_which_names_it(tmp_path):
    with workers(worker(tmp_path / "run", train_steps=100_000)) as (chief, other):
        wait_for(lambda: has_checkpoints(tmp_path / "run"))
        chief.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        said, _ = other.communicate(timeout=120)
        assert time.monotonic() - stopped < 60
    assert other.returncode == 1
    assert "Failed: worker 0 (the chief) at localhost:" in said and "last checkpoint" in said and "Traceback" not in said


def test_a_signal_to_one_worker_ends_both_with_its_code(tmp_path):
    with workers(worker(tmp_path / "run", train_steps=100_000)) as processes:
        wait_for(lambda: has_checkpoints(tmp_path / "run"))
        processes[1].terminate()
        said = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [143, 143]
    status = Run(tmp_path / "run").status
    assert status["status"] == "interrupted" and status["reason"].startswith("SIGTERM")
    assert all(status["reason"] in one for one in said)


def test_the_launcher_goes_on_after_a_kill_to_the_same_bits(scenes, tmp_path):
    command = [sys.executable, LAUNCHER, "--restarts=1", "--", *main(tmp_path / "run")]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as launcher:
        try:
            wait_for(lambda: has_checkpoints(tmp_path / "run"))
            os.kill(children_of(launcher)[1], signal.SIGKILL)
            said, _ = launcher.communicate(timeout=400)
        finally:
            launcher.kill()
    assert launcher.returncode == 0, said
    assert "[0] Failed: worker 1 at localhost:" in said and "worker 1 was killed by SIGKILL; restart 1 of 1" in said
    assert said.count("Going on at update ") == 2
    assert same_bits(weights_of(tmp_path / "run"), weights_of(scenes / "long"))
    assert Run(tmp_path / "run").status["status"] == "done"
    assert [row["step"] for row in rows(tmp_path / "run", "train")] == list(range(1, 201))


def children_of(process):
    """Process ids in the order of their start."""
    return sorted(map(int, pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))


def weights_of(run_dir):
    reader = tf.train.load_checkpoint(str(run_dir / "checkpoints" / "update-0000000200" / "state"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name}


def test_a_lone_worker_names_the_missing_and_can_be_terminated(tmp_path):
    words = worker(tmp_path / "run")
    with workers(words, indices=[1], start_deadline=1) as [process]:
        said, _ = process.communicate(timeout=240)
    assert process.returncode == 2
    assert "worker 0 (the chief) at localhost:" in said and "did not come within 1 seconds" in said
    with workers(words, indices=[0]) as [process]:
        for line in process.stdout:
            if line.startswith("Waiting for worker 1 at localhost:"):
                break
        process.terminate()
        process.communicate(timeout=10)
    assert process.returncode == -signal.SIGTERM
    assert not (tmp_path / "run").exists()
