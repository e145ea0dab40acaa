"""--micro_batch_size=auto: chosen by memory among the sizes that hold the groups; it leaves no trace."""

import types

import numpy as np
import pytest
import tensorflow as tf
from reference.small_runs import contract_model, largest_difference, run_updates

import tf_hugebatch as hb
from tf_hugebatch.layout import Layout, micro_batch_sizes
from tf_hugebatch.training import micro_batch
from tf_hugebatch.training.assemble import Assembly
from tf_hugebatch.training.micro_batch import LARGEST, available_memory, choose_micro_batch_size

BATCH, SPAN = 4096, 32


@pytest.fixture
def one():
    return tf.distribute.OneDeviceStrategy("CPU:0")


def choose(strategy, batch=BATCH, span=SPAN):
    with strategy.scope():
        model = contract_model(span)
    before = [variable.numpy() for variable in model.variables]
    size, reason = choose_micro_batch_size(strategy, model, (8, 8, 1), batch, span, strategy.num_replicas_in_sync)
    after = [variable.numpy() for variable in model.variables]
    assert all(np.array_equal(a, b) for a, b in zip(before, after)), "measuring left a trace in the model"
    Layout(batch, size, strategy.num_replicas_in_sync, span)  # it holds the groups
    return size, reason


@pytest.mark.parametrize("given, used", [(2**62, 20), (64, 20), (20, 20), (19, 19)])
def test_a_given_one_is_no_larger_than_what_the_batch_fills(given, used):
    settings = hb.Settings(dataset="mnist5k", model="lenet5", batch_size=20, micro_batch_size=given, train_steps=1, warmup_epochs=0)
    found = Assembly(settings, {})
    assert (found.layout.micro_batch_size, found.layout.rounds) == (used, 1 if used == 20 else 2)
    assert ("more than the batch fills" in found.describe()) == (given > 20)


def test_with_memory_to_spare_it_is_large(one):
    assert choose(one)[0] == LARGEST


def test_a_small_batch_is_one_micro_batch_on_each_replica(mirrored):
    assert choose(mirrored(2), batch=60, span=30)[0] == 30


@pytest.mark.parametrize("replicas", [1, 2])
def test_less_memory_gives_a_smaller_micro_batch(replicas, one, mirrored, monkeypatch):
    strategy = one if replicas == 1 else mirrored(replicas)
    monkeypatch.setattr(micro_batch._Trial, "bytes_per_example", lambda trial: 2**20)
    found = {}
    for mebibytes in (10_000, 600, 280, 10):
        monkeypatch.setattr(micro_batch, "available_memory", lambda: mebibytes * 2**20)
        found[mebibytes], reason = choose(strategy)
        # Half of what is free may go to activations, and the replicas share it.
        assert found[mebibytes] == SPAN or found[mebibytes] <= mebibytes / 2 / replicas
    assert found[10_000] == LARGEST and found[10] == SPAN  # nothing below a group can be had
    assert found[10_000] > found[600] > found[280] > found[10]
    assert "1.00 MiB an example" in reason


def test_a_measurement_finds_at_least_input_and_its_gradient(one):
    with one.scope():
        trial = micro_batch._Trial(tf.distribute.get_strategy(), contract_model(SPAN), (8, 8, 1), SPAN)
    assert 8 * 64 <= trial.bytes_per_example() < 2**30


def test_on_a_gpu_it_is_the_largest_that_does_not_run_out(one, monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: ["GPU:0"] if kind == "GPU" else [])
    tried = []

    def trial(self, size):
        tried.append(size)
        if size > limit:
            raise tf.errors.ResourceExhaustedError(None, None, "out of memory")

    monkeypatch.setattr(micro_batch._Trial, "__call__", trial)
    limit, candidates = 10_000, micro_batch_sizes(BATCH, 1, SPAN, BATCH)
    assert choose(one) == (BATCH, "larger ones would only cost memory") and tried == [BATCH]
    for limit in (100, 32, 2_000, 4_000):
        tried.clear()
        size, reason = choose(one)
        assert size == max(one for one in candidates if one <= limit) and size in tried
        assert f"{candidates[candidates.index(size) + 1]} ran out of GPU memory" in reason
        assert len(tried) <= 6  # a bisection
    limit = 0
    size, reason = choose(one)
    assert size == SPAN and "ran out" in reason


@pytest.mark.parametrize("shape, largest", [((28, 28, 1), 8_192), ((64, 64, 3), 6_272), ((224, 224, 3), 512), ((500, 500, 3), 512)])
def test_a_gpu_takes_more_examples_at_once_the_smaller_they_are(shape, largest):
    assert micro_batch._largest("GPU", shape) == largest
    assert micro_batch._largest("CPU", shape) == LARGEST and micro_batch._largest("TPU", shape) == 2 * LARGEST


def test_whatever_it_chooses_the_updates_are_the_same(one, monkeypatch):
    runs = {}
    for mebibytes in (10_000, 30):
        monkeypatch.setattr(micro_batch._Trial, "bytes_per_example", lambda trial: 2**20)
        monkeypatch.setattr(micro_batch, "available_memory", lambda: mebibytes * 2**20)
        size, _ = choose(one, batch=80, span=8)
        runs[size] = run_updates(one, batch=80, micro=size, span=8, updates=2)
    (a, one_way), (b, other_way) = runs.items()
    assert a == 80 and b == 8
    assert largest_difference(one_way.weights, other_way.weights) <= 1e-6
    for x, y in zip(one_way.metrics, other_way.metrics):
        assert y["loss"] == pytest.approx(x["loss"], rel=1e-6)


def test_available_memory_is_a_plausible_number_of_bytes():
    assert 2**20 < available_memory() < 2**50


def test_a_control_groups_limit_counts_where_it_is_lower(tmp_path, monkeypatch):
    monkeypatch.setattr(micro_batch, "pathlib", types.SimpleNamespace(Path=lambda path: tmp_path / path.replace("/", "_")))
    for path, text in (("proc_meminfo", "MemAvailable:    8000 kB\n"), ("sys_fs_cgroup_memory.max", "5000000\n"),
                       ("sys_fs_cgroup_memory.current", "1000000\n")):
        (tmp_path / f"_{path}").write_text(text)
    assert available_memory() == 4_000_000
    (tmp_path / "_sys_fs_cgroup_memory.max").write_text("max\n")
    assert available_memory() == 8_000 * 1024
