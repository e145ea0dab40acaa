"""Signal and noise, and sharpness: known answers, without a network and with one."""


import re
import tracemalloc
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference.small_runs import CLASSES, contract_examples

import tf_hugebatch as hb
from tf_hugebatch.data.order import epoch_permutation
from tf_hugebatch.data.splits import Examples
from tf_hugebatch.diagnostics import sharpness, snr
from tf_hugebatch.fields import FIELDS
from tf_hugebatch.training.surveys import Surveys


def rounds_of(gradients, size):
    return [(gradients[i:i + size].sum(0), len(gradients[i:i + size])) for i in range(0, len(gradients), size)]


def measured(gradients, size):
    return snr.measure(rounds_of(gradients, size), size)


def made_gradients(examples=8192, mean=0.5, seed=0):
    return np.random.default_rng(seed).normal(size=(examples, 20)) + mean


def test_signal_and_noise_are_those_of_the_groups_themselves():
    gradients = made_gradients(1000)
    found = measured(gradients, 50)
    assert found["batch_sizes"] == [50, 100, 200] and found["groups"] == [20, 10, 5] and found["examples"] == 1000
    for size, signal, noise in zip(found["batch_sizes"], found["signal"], found["noise"]):
        sums = gradients.reshape(-1, int(size), 20).sum(1)
        products = sums @ sums.T
        assert signal ** 2 == pytest.approx(products[~np.eye(len(sums), dtype=bool)].mean())
        assert noise ** 2 == pytest.approx(np.mean(((sums - size * gradients.mean(0)) ** 2).sum(1)))


def test_slopes_are_one_and_a_half_for_independent_gradients():
    found = measured(made_gradients(), 32)
    assert found["signal_slope"] == pytest.approx(1.0, abs=0.01)
    assert found["noise_slope"] == pytest.approx(0.5, abs=0.05)
    sizes = np.array(found["batch_sizes"])
    independent = np.log(found["noise"] / np.sqrt(1 - sizes / 8192))
    assert found["noise_slope"] == pytest.approx(np.polyfit(np.log(sizes), independent, 1)[0], abs=1e-6)
    # Without the finite-population factor the noise of half the set would be 0.7 of what it should be.
    last = found["noise"][-1] / np.sqrt(found["batch_sizes"][-1] * 20)
    assert last == pytest.approx(np.sqrt(1 - found["batch_sizes"][-1] / 8192), rel=0.15)


def test_without_a_signal_no_slope_is_told_of_sizes_that_came_out_positive_by_luck():
    generator = np.random.default_rng(3)
    told = [measured(generator.normal(size=(512, 6)), 16) for _ in range(60)]
    lucky = [found for found in told if any(found["signal"]) and not all(found["signal"])]
    assert len(lucky) > 5 and all(found["signal_slope"] is None for found in lucky)


def test_the_mean_gradients_own_length_is_told_beside():
    gradients = made_gradients(1000)
    assert measured(gradients, 50)["full_gradient_norm"] == pytest.approx(np.linalg.norm(gradients.mean(0)))


def test_gradients_that_come_in_pairs_have_another_noise():
    # Each example twice in a row: a sum of B has twice the variance of independent ones, at every B but 1.
    twice = np.repeat(made_gradients(4096), 2, axis=0)
    found = measured(twice, 1)
    per_example = np.array(found["noise"]) ** 2 / np.array(found["batch_sizes"])
    assert per_example[1] / per_example[0] == pytest.approx(2.0, rel=0.1)
    assert found["noise_slope"] > measured(made_gradients(), 1)["noise_slope"]


def test_a_last_round_that_is_smaller_changes_little():
    gradients = made_gradients(1000 + 7)
    found, even = measured(gradients, 50), measured(gradients[:1000], 50)
    np.testing.assert_allclose(found["signal"], even["signal"], rtol=0.02)
    np.testing.assert_allclose(found["noise"], even["noise"], rtol=0.1)


@pytest.mark.parametrize("short", [(0,), (1,), (0, 2, 4), (0, 1, 2, 3)])
def test_rounds_that_lack_an_example_are_in_no_group_wherever_they_stand(short):
    sizes = [63 if place in short else 64 for place in range(128)]
    gradients = made_gradients(sum(sizes))
    starts = np.cumsum([0, *sizes])
    found = snr.measure([(gradients[start:start + size].sum(0), size) for start, size in zip(starts, sizes)], 64)
    whole = np.concatenate([gradients[start:start + 64] for start, size in zip(starts, sizes) if size == 64])
    expected = measured(whole, 64)
    assert found["batch_sizes"] == expected["batch_sizes"] == [64, 128, 256, 512, 1024]
    assert found["groups"] == expected["groups"] and found["examples"] == sum(sizes)
    np.testing.assert_allclose(found["signal"], expected["signal"], rtol=1e-9)
    np.testing.assert_allclose(found["noise"], expected["noise"], rtol=0.02)  # about the mean of a few examples more


def symmetric(values, seed=0):
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values),) * 2))
    return turn @ np.diag(values) @ turn.T


@pytest.mark.parametrize("values", [
    np.linspace(0, 1, 60), [5.0, *np.zeros(59)], [-9.0, *np.linspace(-1, 2, 59)], [3.0, 3.0, *np.linspace(-3, 1, 58)],
    -np.linspace(1, 2, 60)])
def test_the_largest_eigenvalue_is_found(values):
    matrix = symmetric(values)
    found = sharpness.measure(lambda v: matrix @ v, 60)
    assert found["eigenvalue"] == pytest.approx(max(values), abs=2e-3 * np.abs(values).max())
    assert found["eigenvalue"] <= max(values) + 1e-9
    assert found["products"] <= sharpness.MOST_PRODUCTS


def test_an_eigenvalue_that_is_there_ten_thousand_times_does_not_hide_the_one_above_it():
    values = np.array([2.5, *np.ones(200_000)])
    found = sharpness.measure(lambda v: values * v, len(values))
    assert found["eigenvalue"] == pytest.approx(2.5, rel=1e-3)


def test_the_residual_bounds_how_far_off_it_is():
    matrix = symmetric(np.linspace(0, 1, 300))
    for most in (2, 5, 10):
        found = sharpness.measure(lambda v: matrix @ v, 300, most=most, enough=0.0)
        nearest = np.abs(np.linalg.eigvalsh(matrix) - found["eigenvalue"]).min()
        assert nearest <= found["residual"] and found["products"] == most


def test_a_matrix_of_zeros_has_eigenvalue_zero():
    assert sharpness.measure(np.zeros_like, 10)["eigenvalue"] == 0.0


def test_a_product_that_is_no_number_ends_it_without_an_eigenvalue():
    found = sharpness.measure(lambda v: np.where(np.arange(60) == 7, np.nan, v), 60)
    assert np.isnan(found["eigenvalue"]) and np.isnan(found["residual"]) and found["products"] == 1


def test_it_holds_the_vectors_of_the_parameters_that_its_help_says():
    size, values = 50_000, np.linspace(0, 1, 50_000)
    tracemalloc.start()
    found = sharpness.measure(lambda v: values * v, size, enough=0.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found["products"] == sharpness.MOST_PRODUCTS == 40
    assert 40 <= peak / (8 * size) < 48  # a few of one product beside the 40
    assert "10 to 40 products" in FIELDS["diagnostics"].help and "as many float64 vectors of the parameters" in \
        FIELDS["diagnostics"].help


# On a network.


def linear():
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dropout(0.5),
                             keras.layers.Dense(CLASSES, kernel_initializer=keras.initializers.GlorotUniform(3))])


def surveys_of(strategy, names, examples, survey_examples=50, batch_size=16):
    with strategy.scope():
        model = linear()
    settings = types.SimpleNamespace(seed=0, survey_examples=survey_examples)
    taken = list(Surveys(names, strategy, model, examples, batch_size, settings)())
    assert all(seconds > 0 for _, _, seconds in taken)
    return model, {name: numbers for name, numbers, _ in taken}


def one():
    return tf.distribute.OneDeviceStrategy("CPU:0")


@pytest.mark.parametrize("replicas", [1, 2])
def test_sharpness_of_softmax_regression_is_that_of_its_hessian(replicas, mirrored):
    examples = contract_examples(96)
    model, found = surveys_of(mirrored(replicas) if replicas > 1 else one(), ["sharpness"], examples)
    chosen = epoch_permutation(0, 0, 96)[:50]
    inputs = np.concatenate([examples.images[chosen].reshape(50, -1) / 255.0, np.ones((50, 1))], 1)
    logits = inputs @ np.concatenate([model.trainable_variables[0].numpy(), model.trainable_variables[1].numpy()[None]])
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    # The mean over examples of (diag(p) - p p') (x) (x x'), Boehning 1992.
    hessian = sum(np.kron(np.outer(x, x), np.diag(p) - np.outer(p, p)) for x, p in zip(inputs, shares)) / 50
    row = found["sharpness"]
    assert row["examples"] == 50
    assert row["eigenvalue"] == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=2e-3)


def test_signal_and_noise_are_of_gradients_without_dropout_of_every_example_once(mirrored):
    examples = contract_examples(64 * 9 + 5)
    model, found = surveys_of(one(), ["snr"], examples)
    order = epoch_permutation(0, 0, len(examples))
    inputs = np.concatenate([examples.images.reshape(len(examples), -1) / 255.0, np.ones((len(examples), 1))], 1)[order]
    weights = np.concatenate([model.trainable_variables[0].numpy(), model.trainable_variables[1].numpy()[None]])
    shares = np.exp(inputs @ weights) / np.exp(inputs @ weights).sum(1, keepdims=True)
    each = np.einsum("ni,nc->nic", inputs, shares - np.eye(CLASSES)[examples.labels[order]]).reshape(len(examples), -1)
    expected = measured(each, 64)
    row = found["snr"]
    assert row["examples"] == len(examples) and row["batch_sizes"] == expected["batch_sizes"] == [64, 128]
    np.testing.assert_allclose(row["signal"], expected["signal"], rtol=1e-4)
    np.testing.assert_allclose(row["noise"], expected["noise"], rtol=1e-3)
    _, on_two = surveys_of(mirrored(2), ["snr"], examples)
    np.testing.assert_allclose(on_two["snr"]["noise"], row["noise"], rtol=1e-3)


class Damaged(Examples):
    """Of what is read the first two images can't be decoded."""

    def take(self, ids):
        return Damaged(**vars(super().take(ids)))

    def micro_batches(self, cells, size, training):
        return super().micro_batches(cells, size, training).map(
            lambda batch: {**batch, "weight": tf.where(batch["position"] < 2, 0.0, batch["weight"])})


def test_images_that_cannot_be_decoded_count_in_neither_survey():
    examples = contract_examples(64 * 9)
    damaged, whole = Damaged(**vars(examples)), examples.take(np.sort(epoch_permutation(0, 0, len(examples))[2:]))
    _, found = surveys_of(one(), ["snr", "sharpness"], damaged)
    assert found["snr"]["examples"] == len(whole) and found["snr"]["batch_sizes"] == [64, 128]
    assert found["snr"]["groups"] == [8, 4]
    mean = surveys_of(one(), ["snr"], whole)[1]["snr"]["full_gradient_norm"]
    assert found["snr"]["full_gradient_norm"] == pytest.approx(mean, rel=1e-5)
    assert found["sharpness"]["examples"] == 48
    # The same 48 of a set that is whole.
    chosen = examples.take(epoch_permutation(0, 0, len(examples))[2:50])
    _, expected = surveys_of(one(), ["sharpness"], chosen)
    assert expected["sharpness"]["examples"] == 48
    assert found["sharpness"]["eigenvalue"] == pytest.approx(expected["sharpness"]["eigenvalue"], rel=2e-3)


def test_a_run_has_its_surveys_beside_each_evaluation_and_says_what_they_take(tmp_path, capsys):
    result = hb.train(hb.Settings(
        dataset="mnist5k", model="lenet5", batch_size=2000, train_steps=3, optimizer="sgd", run_dir=str(tmp_path / "run"),
        eval_every_epochs=1, diagnostics="snr,sharpness", survey_examples=50))
    assert result.exit_code == 0
    run = hb.load_runs(str(tmp_path / "run"))[0]
    steps = [row["step"] for row in run.eval_rows("test")]
    assert steps == [2, 3] and run.damaged == 0
    said = capsys.readouterr().err
    assert len(re.findall(r"^epoch .*: (snr|sharpness) took \d+\.\d s$", said, re.MULTILINE)) == 4
    for kind in ("snr", "sharpness"):
        assert [row["step"] for row in run.diagnostic_rows(kind)] == steps
    events = [event for path in (tmp_path / "run" / "tensorboard").glob("events.out.*")
              for event in tf.compat.v1.train.summary_iterator(str(path))]
    for row in run.diagnostic_rows("snr"):
        told = {value.tag: value.simple_value for event in events if event.step == row["step"] for value in event.summary.value}
        for name in ("signal", "noise"):
            by_size = {f"snr/{name}/{size}": value for size, value in zip(row["batch_sizes"], row[name])}
            assert len(by_size) == 4 and {tag: told[tag] for tag in by_size} == pytest.approx(by_size, rel=1e-6)
        # A network whose gradients' mean is not zero, on 4,000 images.
        assert row["signal_slope"] == pytest.approx(1.0, abs=0.15) and row["noise_slope"] == pytest.approx(0.5, abs=0.15)
