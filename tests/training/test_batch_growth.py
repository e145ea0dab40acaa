"""A batch that grows in the course of a run: the same stream, whole updates, any layout, stopped and resumed anywhere."""

import csv
import os

import numpy as np
import pytest
import tensorflow as tf
from reference.interruptions import after, terminate
from reference.six_updates import (
    TRAIN,
    examples,
    rows_of,
    same_bits,
    splits,
    status_of,
    text_of,
    train,
    weights,
)
from reference.small_runs import contract_examples, contract_model, largest_difference

import tf_hugebatch as hb
from tf_hugebatch import optimizers
from tf_hugebatch.data.order import Stream, epoch_permutation
from tf_hugebatch.data.padding import training_micro_batches
from tf_hugebatch.keras_versions import native, variable_path
from tf_hugebatch.layout import Layout
from tf_hugebatch.models.lenet import lenet5
from tf_hugebatch.training.step import Step

# 64 images an update, then 128, then 384, from where epochs begin: after 3 updates, and after one more.
GROWTH = f"{3 * 64 / TRAIN}:2,{4 * 64 / TRAIN + 0.001}:3"
BATCHES = [64, 64, 64, 128, 384, 384]
ENDS = np.cumsum(BATCHES)
# At 0.05 the fourth digit of a weight depends on how the batch is cut, grown or not: max pooling picks another of two pixels.
RATE = 0.02
CONSTANT = {"schedule": "constant", "warmup_steps": 0, "peak_learning_rate": RATE, "batch_growth": GROWTH}


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("grown") / "run"
    return train(run_dir, diagnostics="diffusion", **CONSTANT), run_dir


def by_hand():
    """Momentum SGD on slices of the permutation, each update one big batch: (weights, losses, distances from the start, noise
    scales of micro-batches of 32)."""
    data, model, momentum = examples(TRAIN, 2), lenet5(seed=0), 0.9
    order, losses, distances, scales = epoch_permutation(0, 0, TRAIN), [], [], []
    variables = [native(variable) for variable in model.trainable_variables]
    start, velocity = [variable.numpy() for variable in variables], [np.zeros(variable.shape) for variable in variables]
    for first, end in zip([0, *ENDS], ENDS):
        ids = order[first:end]
        scales.append(noise_scale(model, variables, data, ids))
        with tf.GradientTape() as tape:
            logits = model(data.images[ids].astype(np.float32) / 255, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(data.labels[ids], logits))
        for i, gradient in enumerate(tape.gradient(loss, variables)):
            velocity[i] = momentum * velocity[i] + gradient.numpy()
            variables[i].assign_sub(RATE * velocity[i])
        losses.append(float(loss))
        distances.append(np.sqrt(sum(np.sum((now.numpy() - then) ** 2) for now, then in zip(variables, start))))
    return [variable.numpy() for variable in variables], losses, distances, scales


def noise_scale(model, variables, data, ids):
    """tr(Sigma) / |G|^2 from the summed gradients of 32 examples each."""
    sums = []
    for part in np.split(ids, len(ids) // 32):
        with tf.GradientTape() as tape:
            logits = model(data.images[part].astype(np.float32) / 255, training=True)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(data.labels[part], logits))
        sums.append(np.concatenate([gradient.numpy().ravel() for gradient in tape.gradient(loss, variables)]))
    means = np.stack(sums).astype(np.float64) / 32
    # Between parts: tr(Sigma) / 32 is the sample variance of their means; |G|^2 what the square of the whole mean has beyond its own.
    variance = 32 * np.sum(np.var(means, axis=0, ddof=1))
    return variance / (np.sum(means.mean(0) ** 2) - variance / len(ids))


def test_each_update_reads_the_next_examples_however_many(grown):
    result, run_dir = grown
    expected, losses, distances, _ = by_hand()
    rows, _ = rows_of(run_dir)
    np.testing.assert_allclose([row["loss"] for row in rows], losses, rtol=1e-5)
    for ours, theirs in zip(weights(result), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)
    # From the weights that the run began with, whatever the batch is now.
    np.testing.assert_allclose([row["distance_from_start"] for row in rows], distances, rtol=1e-5)


def test_rows_and_schedule_say_which_batch_an_update_has(grown):
    _, run_dir = grown
    rows, _ = rows_of(run_dir)
    assert [row["batch_size"] for row in rows] == BATCHES
    assert [row["epoch"] for row in rows] == pytest.approx(list(ENDS / TRAIN), rel=1e-12)
    table = list(csv.DictReader(text_of(run_dir, "schedule.csv").splitlines()))
    assert [int(row["batch_size"]) for row in table] == BATCHES
    assert [float(row["epoch"]) for row in table] == pytest.approx([0, *(ENDS / TRAIN)[:-1]])
    status = status_of(run_dir)
    assert (status["micro_batch_size"], status["micro_batches"], status["step"]) == (32, 12, 6)


def test_evaluations_stand_where_epochs_end_at_any_batch(tmp_path):
    train(tmp_path / "run", **CONSTANT, eval_every_epochs=128 / TRAIN)
    _, evaluations = rows_of(tmp_path / "run")
    # 128 examples are read after update 2, 256 in update 4 (320), 384 and 512 in update 5 (704), 768 in update 6.
    assert [row["step"] for row in evaluations] == [2, 4, 5, 6]


@pytest.mark.parametrize("stop", [pytest.param(2, marks=pytest.mark.slow), 3, 4, pytest.param(5, marks=pytest.mark.slow)])
def test_stopped_anywhere_it_goes_on_as_if_nothing_had_happened(grown, stop, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        after(patch, stop, terminate)
        assert train(tmp_path / "run", steps_per_loop=1, diagnostics="diffusion", **CONSTANT).status == "interrupted"
    assert status_of(tmp_path / "run")["step"] == stop
    again = train(tmp_path / "run", diagnostics="diffusion", **CONSTANT)
    assert same_bits(weights(again), weights(grown[0]))
    assert text_of(tmp_path / "run", "metrics.jsonl") == text_of(grown[1], "metrics.jsonl")


def test_the_layout_changes_nothing_but_rounding(grown, tmp_path):
    other = train(tmp_path / "run", strategy="mirrored", num_replicas=2, micro_batch_size=24, steps_per_loop=2, **CONSTANT)
    for ours, theirs in zip(weights(other), weights(grown[0]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_auto_gives_every_stage_a_micro_batch_that_pads_little(tmp_path):
    hb.train(hb.Settings(dataset="mnist5k", model="lenet5", batch_size=96, train_steps=4, batch_growth=f"{192 / TRAIN}:7",
                         run_dir=str(tmp_path / "run")), splits=splits())
    status = status_of(tmp_path / "run")
    # 96 at once, then 672 as two of 336.
    assert (status["micro_batch_size"], status["micro_batches"], status["padding_per_update"]) == (336, 2, 0)


def test_a_diagnostic_that_one_of_the_batches_can_not_have_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(hb.Refusal, match="noise_scale: the batch of 64 is one micro-batch"):
        train(tmp_path / "run", micro_batch_size=64, diagnostics="noise_scale", **CONSTANT)
    assert not os.path.exists(tmp_path / "run")
    train(tmp_path / "run", micro_batch_size=32, diagnostics="noise_scale", **CONSTANT)
    rows, _ = rows_of(tmp_path / "run")
    np.testing.assert_allclose([row["noise_scale"] for row in rows], by_hand()[3], rtol=2e-3)


def test_a_run_that_rewinds_over_a_border_takes_up_the_smaller_batch_again(tmp_path, monkeypatch):
    ordinary, seen = Step.__call__, []

    def call(step, iterator, updates):
        assert updates == 1
        rows = ordinary(step, iterator, updates)
        seen.append(step.layout.batch_size)
        if len(seen) == 5:
            rows[0, 1] = np.nan  # the loss of update 5, the first of 384
        return rows

    monkeypatch.setattr(Step, "__call__", call)
    result = train(tmp_path / "run", on_divergence="rewind", checkpoint_every_steps=3, steps_per_loop=1, **CONSTANT)
    assert result.status == "done" and seen == [64, 64, 64, 128, 384, 128, 384, 384]
    rows, _ = rows_of(tmp_path / "run")
    assert [row["batch_size"] for row in rows] == BATCHES


def test_the_last_losses_are_of_the_last_batch(tmp_path):
    # The first 1,024 examples are 128 updates of 8; of the last batch, 1,000, two updates.
    result = train(tmp_path / "run", **{**CONSTANT, "batch_size": 8, "batch_growth": f"{2000 / TRAIN}:125", "train_steps": 254})
    rows, _ = rows_of(tmp_path / "run")
    assert [row["batch_size"] for row in rows[-5:]] == [8, 1000, 1000, 1000, 1000]
    assert result.final["train_loss"] == pytest.approx(np.mean([row["loss"] for row in rows[-2:]]))


@pytest.mark.slow
def test_recalibration_and_a_growing_batch_go_together_on_any_layout(tmp_path):
    def evaluations(name, **layout):
        hb.train(hb.Settings(
            dataset="synthetic", dataset_size="240,40", model="resnet9", image_size=8, batch_size=16, batch_growth="0.3:3",
            bn_span=8, recalibrate_bn_batches=3, train_steps=6, warmup_epochs=0, optimizer="sgd", peak_learning_rate=0.01, eval_every_epochs=0.25,
            run_dir=str(tmp_path / name), **layout))
        return rows_of(tmp_path / name)[1]

    one, other = evaluations("one", micro_batch_size=16), evaluations("two", micro_batch_size=8)
    assert [row["step"] for row in one] == [row["step"] for row in other] and len(one) > 1
    assert [row["loss"] for row in one] == pytest.approx([row["loss"] for row in other], rel=1e-4)


# Batch norm, dropout and padding, on the step itself.


@pytest.mark.parametrize("optimizer", [pytest.param("sgd", marks=pytest.mark.slow), "lamb"])
def test_batch_norm_and_dropout_do_not_see_the_layout_either(optimizer, mirrored):
    def grown(strategy, micro):
        replicas, data = strategy.num_replicas_in_sync, contract_examples()
        layouts = [Layout(batch, micro, replicas, 8) for batch in (16, 48)]
        with strategy.scope():
            model, built = contract_model(8), optimizers.get(optimizer, learning_rate=0.05)
        step = Step(strategy=strategy, model=model, optimizer=built, layout=layouts[0], seed=0)
        for layout, first, before in ((layouts[0], 0, ()), (layouts[1], 2, [(layouts[0], 2)])):
            step.cut_by(layout)
            dataset = training_micro_batches(data, Stream(0, 96), layout, first, first + 2, before=before)
            step(iter(strategy.distribute_datasets_from_function(lambda context, dataset=dataset: dataset)), 2)
        return {variable_path(v): v.numpy() for v in model.variables if v.dtype == "float32"}

    one = grown(tf.distribute.OneDeviceStrategy("CPU:0"), 48)
    assert largest_difference(one, grown(tf.distribute.OneDeviceStrategy("CPU:0"), 8)) < 1e-6
    assert largest_difference(one, grown(mirrored(2), 8)) < 1e-6


def test_a_host_that_streams_shards_starts_after_what_it_has_read():
    asked, layouts = [], [Layout(10, 5, 2), Layout(20, 5, 2)]

    class Shards:
        def of_host(self, host, read):
            asked.append((host, read))
            raise StopIteration

    for first, before in ((3, ()), (5, [(layouts[0], 4)])):
        for host in ((0, 2), (1, 2)):
            with pytest.raises(StopIteration):
                training_micro_batches(Shards(), Stream(0, 100, "shards"), layouts[bool(before)], first, 9, host, before=before)
    # Half of every batch: 3 of 10; then 4 of 10 and one of 20.
    assert asked == [((0, 2), 15), ((1, 2), 15), ((0, 2), 30), ((1, 2), 30)]
