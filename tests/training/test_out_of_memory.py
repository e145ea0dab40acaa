"""Too little memory for a micro-batch: the chosen one is halved and the updates stay the same; a given one is named."""

import gc
import weakref

import pytest
import tensorflow as tf
from reference.six_updates import BATCH, rows_of, status_of, train, weights

import tf_hugebatch as hb
from tf_hugebatch.layout import Layout
from tf_hugebatch.stops import RunStopped
from tf_hugebatch.training.evaluate import Evaluation
from tf_hugebatch.training.failures import is_out_of_memory
from tf_hugebatch.training.micro_batch import next_smaller
from tf_hugebatch.training.step import Step


def exhausted(message):
    return tf.errors.ResourceExhaustedError(None, None, message)


def internal(message):
    return tf.errors.InternalError(None, None, message)


def limit(patch, examples, update, error=exhausted):
    """From an update on, micro-batches of more than so many examples don't fit; returns the sizes that were tried."""
    ordinary, tried = Step.__call__, []

    def call(step, iterator, updates):
        size = step.layout.micro_batch_size
        if int(step.optimizer.iterations.numpy()) + updates > update and size > examples:
            tried.append(size)
            raise error(f"OOM when allocating tensor with shape[{size},32]; Dst tensor is not initialized")
        return ordinary(step, iterator, updates)

    patch.setattr(Step, "__call__", call)
    return tried


@pytest.mark.fault("out of memory above a made limit, in the middle of a run",
                   holds="the chosen micro-batch is halved; the updates of that size, to 1e-6; every row once")
def test_the_chosen_micro_batch_is_halved_and_the_updates_are_the_same(tmp_path, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        tried = limit(patch, 20, update=3)
        result = train(tmp_path / "run", micro_batch_size="auto", steps_per_loop=1)
    assert tried == [BATCH, BATCH // 2] and result.status == "done"
    assert capfd.readouterr().err.count("Out of memory: on from the last checkpoint") == 2
    assert status_of(tmp_path / "run")["micro_batch_size"] == 16 and status_of(tmp_path / "run")["reason"] is None
    assert [row["step"] for row in rows_of(tmp_path / "run")[0]] == [1, 2, 3, 4, 5, 6]
    whole = train(tmp_path / "whole", micro_batch_size=16)
    for ours, theirs in zip(weights(result), weights(whole), strict=True):
        assert abs(ours - theirs).max() < 1e-6


def test_what_did_not_fit_makes_room_before_the_next_is_tried(tmp_path, monkeypatch):
    alive, made = [], Step.__init__

    def make(step, **arguments):
        gc.collect()
        alive.append([one() for one in steps if one() is not None])
        made(step, **arguments)
        steps.append(weakref.ref(step))

    steps = []
    monkeypatch.setattr(Step, "__init__", make)
    limit(monkeypatch, 0, update=0)
    with pytest.raises(RunStopped, match="micro-batches of 1 ran out of memory") as stopped:
        train(tmp_path / "run", micro_batch_size="auto", batch_size=4, steps_per_loop=1)
    assert "--micro_batch_size=auto" in str(stopped.value) and status_of(tmp_path / "run")["status"] == "failed"
    assert alive == [[], [], []], "of 4, 2 and 1 examples"


def test_where_a_smaller_one_is_refused_the_run_fails_and_says_both(tmp_path, monkeypatch, mirrored):
    """Halved, groups would lie across replicas, where the noise scale has no micro-batches to compare."""
    limit(monkeypatch, 4, update=2)
    with pytest.raises(RunStopped, match="micro-batches of 8 ran out of memory, and of 4 the run is refused: --diagnostics") as stopped:
        hb.train(hb.Settings(batch_size=64, steps_per_loop=1, strategy="mirrored", num_replicas=2, diagnostics="noise_scale",
                             dataset="synthetic", dataset_size=(64, 8), model="resnet9", image_size=8, bn_span=8, epochs=4,
                             warmup_epochs=0, run_dir=str(tmp_path / "run")))
    assert stopped.value.status == "failed"
    assert status_of(tmp_path / "run")["status"] == "failed" and status_of(tmp_path / "run")["reason"] == str(stopped.value)


@pytest.mark.fault("out of memory with a given micro-batch", holds="a message with the value and the remedy; the checkpoint")
def test_a_given_micro_batch_is_named_and_not_changed(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        tried = limit(patch, 20, update=3)
        with pytest.raises(RunStopped, match="--micro_batch_size=32: micro-batches of 32 ran out of memory; give a smaller"):
            train(tmp_path / "run", steps_per_loop=1)
    assert tried == [32]
    status = status_of(tmp_path / "run")
    assert (status["status"], status["step"]) == ("failed", 3) and "--micro_batch_size=32" in status["reason"]
    assert train(tmp_path / "run", micro_batch_size=16).status == "done"


@pytest.mark.parametrize("error, full", [
    (exhausted("OOM when allocating tensor with shape[512,32]"), True),
    (internal("Failed copying input tensor from CPU:0 to GPU:0 in order to run Identity: Dst tensor is not initialized."), True),
    (internal("Failed to allocate: CUDA_ERROR_OUT_OF_MEMORY: out of memory"), True),
    (tf.errors.UnknownError(None, None, "CUDNN_STATUS_ALLOC_FAILED in cudnn_dnn.cc"), True),
    (internal("Failed to create cublas handle: CUBLAS_STATUS_ALLOC_FAILED"), True),
    (internal("CUDA_ERROR_ILLEGAL_ADDRESS"), False),
    (tf.errors.InvalidArgumentError(None, None, "out of memory bounds"), False),
    (MemoryError("out of memory"), False),
])
def test_a_full_gpu_says_so_in_several_ways(error, full):
    assert is_out_of_memory(error) is full


def test_an_update_on_a_full_gpu_is_halved_too_and_another_error_is_not(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        tried = limit(patch, 20, update=3, error=internal)
        assert train(tmp_path / "run", micro_batch_size="auto", steps_per_loop=1).status == "done"
    assert tried == [BATCH, BATCH // 2]
    with monkeypatch.context() as patch:
        tried = limit(patch, 20, update=3, error=lambda message: internal("CUDA_ERROR_ILLEGAL_ADDRESS"))
        with pytest.raises(tf.errors.InternalError, match="ILLEGAL_ADDRESS"):
            train(tmp_path / "other", micro_batch_size="auto", steps_per_loop=1)
    assert tried == [BATCH]


def test_an_evaluation_that_does_not_fit_is_told_from_an_update(tmp_path, monkeypatch):
    def evaluate(self):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr(Evaluation, "__call__", evaluate)
    with pytest.raises(RunStopped, match="--eval_batch_size=25: out of memory beside an update; give a smaller number"):
        train(tmp_path / "run", micro_batch_size="auto", steps_per_loop=1)


@pytest.mark.parametrize("layout, size", [
    (Layout(64, 64), 32), (Layout(64, 2), 1), (Layout(64, 1), None), (Layout(100, 7, 2), 3),
    (Layout(64, 64, 1, 32), 32), (Layout(64, 32, 1, 32), None), (Layout(96, 64, 1, 32), 32), (Layout(64, 32, 2, 32), 16),
])
def test_the_next_smaller_one_holds_the_groups(layout, size):
    assert next_smaller(layout) == size
    if size:
        Layout(layout.batch_size, size, layout.replicas, layout.span)
