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
from reference.worker_scenes import DEAR, SCENES, SHORT, STREAM, state, train, write_shards

import tf_hugebatch as hb
from tf_hugebatch.cluster import Cluster
from tf_hugebatch.data.padding import training_micro_batches
from tf_hugebatch.runs import Run
from tf_hugebatch.training.trainer import Trainer
from tf_hugebatch.training.workers import Workers

LAUNCHER = TESTS.parent / "scripts" / "launch_local.py"


def main(run_dir, **changes):
    """Words of the long run's command line, after the interpreter."""
    flags = {**SCENES["long"], "run_dir": run_dir, **changes}
    return ["mnist_main", *(f"--{name}={value}" for name, value in flags.items())]


def worker(run_dir, **changes):
    """The same for one of the workers."""
    program, *flags = main(run_dir, strategy="multiworker", **changes)
    return ["-m", f"tf_hugebatch.{program}", *flags]


def played(folder, part):
    """`folder`, in which two workers have played a part of the scenes."""
    with workers([TESTS / "reference" / "worker_scenes.py", folder, part]) as processes:
        said = [process.communicate(timeout=900)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return folder


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return played(tmp_path_factory.mktemp("workers"), "short")


@pytest.fixture(scope="module")
def dear_scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    write_shards(folder / "shards")
    return played(folder, "dear")


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


def said(folder, index):
    return json.loads((folder / f"said-{index}.json").read_text())


def ends_where_one_process_ends(folder, scene):
    whole = state(alone(scene, folder))
    first, second = (left_by(folder, scene, index) for index in (0, 1))
    assert same_bits(first, second)
    assert largest_difference(first, whole) <= 1e-6
    losses = [row["loss"] for row in rows(folder / scene, "train")]
    assert losses == pytest.approx([row["loss"] for row in rows(folder / f"{scene}-alone", "train")], abs=1e-5)
    # A tolerance says little beside how far the run has gone.
    assert abs(losses[-1] - losses[0]) > 1e-2


def evaluation_is_that_of_one_process(folder, scene):
    alone(scene, folder)
    both, whole = rows(folder / scene, "eval"), rows(folder / f"{scene}-alone", "eval")
    assert [(row["step"], row["split"]) for row in both] == [(row["step"], row["split"]) for row in whole]
    for row, expected in zip(both, whole):
        assert (row["accuracy"], row["top5"]) == (expected["accuracy"], expected["top5"])
        assert row["loss"] == pytest.approx(expected["loss"], abs=1e-5)


def the_chief_alone_wrote(folder, scene):
    run = Run(folder / scene)
    assert run.status["status"] == "done" and run.status["replicas"] == 2
    steps = [row["step"] for row in rows(folder / scene, "train")]
    assert steps == list(range(1, SCENES[scene]["train_steps"] + 1))
    assert len(list((folder / scene / "tensorboard").glob("events.out.*"))) == 1
    assert not [path.name for path in folder.rglob("*.tmp")]


def test_two_workers_end_where_one_process_ends(scenes):
    ends_where_one_process_ends(scenes, "lenet")


def test_evaluation_sees_every_example_once(scenes):
    evaluation_is_that_of_one_process(scenes, "lenet")


@pytest.mark.parametrize("scene", SHORT)
def test_the_chief_alone_writes(scenes, scene):
    the_chief_alone_wrote(scenes, scene)


@pytest.mark.fault("SIGTERM to one of two workers, then the same command", holds="weights equal to the last bit")
def test_a_signal_to_one_stops_both_and_they_go_on_bit_for_bit(scenes):
    for index in (0, 1):
        assert said(scenes, index)["exit codes"] == [143, 0]
        assert said(scenes, index)["reason"] == "SIGTERM; the same command goes on at update 2"
        assert same_bits(left_by(scenes, "stopped", index), left_by(scenes, "long", 0))
    assert [row["step"] for row in rows(scenes / "stopped", "train")] == list(range(1, SHORT["long"]["train_steps"] + 1))


@pytest.mark.fault("workers that see other checkpoints, or have other settings", holds="refused on both, nothing written")
def test_a_worker_that_differs_from_the_chief_trains_on_nowhere(scenes):
    for index in (0, 1):
        (other_checkpoint,), (other_seed,) = said(scenes, index)["refusals"]
        assert other_checkpoint.startswith("worker 1 at localhost:")
        assert "another update to go on from" in other_checkpoint and "share" in other_checkpoint
        assert "worker 1 at localhost:" in other_seed and "another seed than the chief" in other_seed
    assert not (scenes / "elsewhere").exists() and not (scenes / "seeds").exists()


def test_what_workers_found_is_put_together(scenes):
    for index in (0, 1):
        assert said(scenes, index)["unions"] == [[], [2, 5, 7], [0]]


def of_three(monkeypatch, machines, index):
    """Worker `index` of three with two replicas each, on machines of those numbers."""
    found = Workers(tf.distribute.get_strategy(), Cluster(("a:1", "b:1", "c:1"), index))
    monkeypatch.setattr(found, "_strategy", type("Six", (), {"num_replicas_in_sync": 6}))
    monkeypatch.setattr(found, "gathered", lambda values: np.array([[machine] for machine in machines]))
    return found


@pytest.mark.parametrize("machines, shared", [((1, 1, 1), (6, 6, 6)), ((1, 2, 1), (4, 2, 4)), ((1, 2, 3), (2, 2, 2))])
def test_workers_on_other_machines_leave_this_ones_memory_alone(monkeypatch, machines, shared):
    assert tuple(of_three(monkeypatch, machines, index).replicas_on_this_machine() for index in range(3)) == shared


def test_a_worker_other_than_the_chief_writes_its_stacks_beside_the_chiefs(monkeypatch):
    names = [of_three(monkeypatch, (1, 1, 1), index).file_of_its_own("stacks.txt") for index in range(3)]
    assert names == ["stacks.txt", "stacks-worker-1.txt", "stacks-worker-2.txt"]


def has_checkpoints(run_dir):
    return len(list(run_dir.glob("checkpoints/update-*"))) == 2


@pytest.mark.fault("kill -9 of one of two workers", holds="the other ends and names it; both go on to the same bits")
def test_the_launcher_goes_on_after_a_kill_to_the_same_bits(scenes, tmp_path, record_property):
    command = [sys.executable, LAUNCHER, "--restarts=1", "--", *main(tmp_path / "run")]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as launcher:
        try:
            wait_for(lambda: has_checkpoints(tmp_path / "run"))
            os.kill(children_of(launcher)[1], signal.SIGKILL)
            killed = time.monotonic()
            for line in launcher.stdout:
                if line.startswith("[0] Failed: worker 1 at localhost:"):
                    break
            record_property("measured", f"the other ended after {time.monotonic() - killed:.1f} s")
            assert time.monotonic() - killed < 60
            spoken, _ = launcher.communicate(timeout=400)
        finally:
            launcher.kill()
    assert launcher.returncode == 0, spoken
    assert "worker 1 was killed by SIGKILL; restart 1 of 1" in spoken and spoken.count("Going on at update ") == 2
    assert same_bits(weights_of(tmp_path / "run"), weights_of(scenes / "long"))
    assert [row["step"] for row in rows(tmp_path / "run", "train")] == list(range(1, SHORT["long"]["train_steps"] + 1))


def children_of(process):
    """Process ids in the order of their start."""
    return sorted(map(int, pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))


def weights_of(run_dir):
    path = run_dir / "checkpoints" / f"update-{SHORT['long']['train_steps']:010d}" / "state"
    reader = tf.train.load_checkpoint(str(path))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "OBJECT_GRAPH" not in name}


@pytest.mark.fault("a worker that never comes", holds="the other names it at its deadline and writes nothing")
def test_a_lone_worker_names_the_missing(tmp_path):
    with workers(worker(tmp_path / "run"), indices=[1], start_deadline=1) as [process]:
        spoken, _ = process.communicate(timeout=240)
    assert process.returncode == 2
    assert "worker 0 (the chief) at localhost:" in spoken and "did not come within 1 seconds" in spoken
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_lone_worker_can_be_terminated(tmp_path):
    with workers(worker(tmp_path / "run"), indices=[0]) as [process]:
        for line in process.stdout:
            if line.startswith("Waiting for worker 1 at localhost:"):
                break
        process.terminate()
        process.communicate(timeout=10)
    assert process.returncode == -signal.SIGTERM
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.fault("a worker that is stopped (SIGSTOP)", holds="the other ends and names it; the last checkpoint")
def test_a_stopped_worker_ends_the_other_which_names_it(tmp_path, record_property):
    with workers(worker(tmp_path / "run", train_steps=100_000)) as (chief, other):
        wait_for(lambda: has_checkpoints(tmp_path / "run"))
        chief.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        spoken, _ = other.communicate(timeout=120)
        record_property("measured", f"the other ended after {time.monotonic() - stopped:.1f} s")
        assert time.monotonic() - stopped < 60
    assert other.returncode == 1
    assert "Failed: worker 0 (the chief) at localhost:" in spoken
    assert "last checkpoint" in spoken and "Traceback" not in spoken


@pytest.mark.slow
@pytest.mark.fault("SIGTERM to one of two workers", holds="both save the same update and end with 143")
def test_a_signal_to_one_worker_ends_both_with_its_code(tmp_path):
    with workers(worker(tmp_path / "run", train_steps=100_000)) as processes:
        wait_for(lambda: has_checkpoints(tmp_path / "run"))
        processes[1].terminate()
        spoken = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [143, 143]
    status = Run(tmp_path / "run").status
    assert status["status"] == "interrupted" and status["reason"].startswith("SIGTERM")
    assert all(status["reason"] in one for one in spoken)


@pytest.mark.slow
@pytest.mark.parametrize("scene", DEAR)
def test_batch_norm_across_workers_and_a_rewind_end_where_one_process_ends(dear_scenes, scene):
    ends_where_one_process_ends(dear_scenes, scene)
    evaluation_is_that_of_one_process(dear_scenes, scene)
    the_chief_alone_wrote(dear_scenes, scene)


@pytest.mark.slow
def test_workers_go_back_together_and_to_a_folder_that_all_see(dear_scenes):
    alone("rewind", dear_scenes)
    [rewind] = Run(dear_scenes / "rewind").status["rewinds"]
    assert [rewind] == Run(dear_scenes / "rewind-alone").status["rewinds"] and rewind["to"] == 0
    for index in (0, 1):
        [[problem]] = said(dear_scenes, index)["refusals"]
        assert problem.startswith("worker 1 at localhost:") and "first checkpoint" in problem and "share" in problem


def mlperf_lines(path):
    """(key, update, value) of each line; the devices differ."""
    lines = [json.loads(line.removeprefix(":::MLLOG ")) for line in path.read_text().splitlines()]
    return [(line["key"], line["metadata"]["step"], None if line["key"] == "submission_platform" else line["value"])
            for line in lines]


@pytest.mark.slow
def test_the_chief_writes_one_processs_mlperf_log_and_a_profile(dear_scenes):
    alone("resnet", dear_scenes)
    both, whole = (mlperf_lines(dear_scenes / run / "mllog.txt") for run in ("resnet", "resnet-alone"))
    # Two workers of six are one of twelve: the micro-batches an update takes are as many.
    assert both == whole
    assert len(list((dear_scenes / "resnet/tensorboard").rglob("*.xplane.pb"))) == 1


@pytest.mark.slow
def test_workers_agree_on_the_smaller_micro_batch_and_say_who_shares_memory(dear_scenes):
    assert Run(dear_scenes / "auto").status["micro_batch_size"] == 8
    assert [said(dear_scenes, index)["replicas that share"] for index in (0, 1)] == [[2], [2]]


@pytest.mark.slow
def test_streams_of_shards_are_those_of_two_hosts_and_go_on_bit_for_bit(dear_scenes, monkeypatch, tmp_path):
    for index in (0, 1):
        assert same_bits(left_by(dear_scenes, "stream", index), left_by(dear_scenes, "stream", 0))
        assert same_bits(left_by(dear_scenes, "stream-stopped", index), left_by(dear_scenes, "stream", 0))
    # On one host other images would come twice and some never.
    with pytest.raises(hb.Refusal, match="made by another run .differs in hosts, layouts."):
        path = dear_scenes / "stream" / "status.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "status": "interrupted"}))
        hb.train(hb.Settings(**{**STREAM, "micro_batch_size": 6}, data_dir=str(dear_scenes / "shards"),
                             run_dir=str(dear_scenes / "stream")))
    for name in ("stream", "stream-stopped"):
        # Found by the second worker in what only it reads; written down by the chief.
        assert Run(dear_scenes / name).status["undecodable_images"] == 1

    def both_hosts(self, first, last, reading=None):
        hosts = [training_micro_batches(self.splits.train, self.stream, self.assembly.layout, first, last, (number, 2))
                 for number in (0, 1)]
        in_turn = tf.data.Dataset.zip(*hosts).flat_map(
            lambda *cells: tf.data.Dataset.from_tensors(cells[0]).concatenate(tf.data.Dataset.from_tensors(cells[1])))
        return iter(self.assembly.strategy.distribute_datasets_from_function(lambda context: in_turn))

    monkeypatch.setattr(Trainer, "_micro_batches", both_hosts)
    result = hb.train(hb.Settings(**STREAM, data_dir=str(dear_scenes / "shards"), strategy="mirrored", num_replicas=2,
                                  run_dir=str(tmp_path / "one")))
    assert largest_difference(left_by(dear_scenes, "stream", 0), state(result)) <= 1e-6
