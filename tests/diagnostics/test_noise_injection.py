"""Injected noise: its size, what it is added to, and that no layout changes it."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference.small_runs import CLASSES, largest_difference, run_updates

import tf_hugebatch as hb
from tf_hugebatch import layers, replica
from tf_hugebatch.diagnostics import NoiseInjection
from tf_hugebatch.layers.noise import position_normal
from tf_hugebatch.models.lenet import lenet5
from tf_hugebatch.training.accumulate import smoothed_cross_entropy
from tf_hugebatch.training.step import METRICS

KINDS = ("activations", "weights", "gradients", "labels")
BATCH = 48


def one():
    return tf.distribute.OneDeviceStrategy("CPU:0")


def linear(stddev=None):
    noisy = [layers.ActivationNoise(stddev, name="noise")] if stddev else []
    return keras.Sequential([
        keras.Input((8, 8, 1)), keras.layers.Flatten(),
        keras.layers.Dense(12, activation="tanh", name="hidden", kernel_initializer=keras.initializers.GlorotUniform(1)),
        *noisy, keras.layers.Dense(CLASSES, name="logits", kernel_initializer=keras.initializers.GlorotUniform(2))], name="net")


def noisy_run(kind, strategy=None, micro=BATCH, stddev=0.1, decay=0.5, updates=3, batch=BATCH, seed=0, **given):
    model = functools.partial(linear, stddev) if kind == "activations" else linear
    noise = None if kind in (None, "activations") else NoiseInjection(kind, stddev, decay, seed)
    return run_updates(strategy or one(), batch=batch, micro=micro, span=None, updates=updates, model=model, noise=noise,
                       seed=seed, optimizer="sgd", **{"optimizer_arguments": {"learning_rate": 0.1, "momentum": 0.0}, **given})


@pytest.mark.parametrize("kind", KINDS)
def test_an_update_with_noise_does_not_depend_on_how_the_batch_is_cut(kind, mirrored):
    whole = noisy_run(kind)
    cut = noisy_run(kind, mirrored(2), 9)  # three rounds, with padding
    assert largest_difference(whole.weights, cut.weights) < 1e-6
    assert largest_difference(whole.weights, noisy_run(None).weights) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_gives_other_noise_and_the_same_seed_the_same(kind):
    # The order of examples depends on the seed too: a batch of all of them has none.
    runs = [noisy_run(kind, seed=seed, batch=96, updates=1) for seed in (0, 0, 1)]
    assert largest_difference(runs[0].weights, runs[1].weights) == 0
    plain = [noisy_run(None, seed=seed, batch=96, updates=1) for seed in (0, 1)]
    assert largest_difference(plain[0].weights, plain[1].weights) < 1e-6
    assert largest_difference(runs[0].weights, runs[2].weights) > 1e-4


@pytest.mark.parametrize("kind, factor", [("weights", 1.0), ("gradients", 0.1)])
def test_noise_of_weights_and_gradients_has_the_stddev_of_each_update(kind, factor):
    # With rate 0.1 and no momentum the second update's noise is what is left beside the first one's.
    stddev, decay = 0.2, 2.0
    plain, first = noisy_run(None, updates=1), noisy_run(kind, updates=1, stddev=stddev, decay=decay)
    added = np.concatenate([((first.weights[path] - plain.weights[path]) / factor).ravel() for path in plain.weights])
    assert added.std() == pytest.approx(stddev, rel=0.1) and abs(added.mean()) < 0.02
    moving = {"optimizer_arguments": {"learning_rate": 1e-9 if kind == "weights" else 0.1, "momentum": 0.0}}
    if kind == "weights":
        after = [noisy_run(kind, updates=n, stddev=stddev, decay=decay, **moving) for n in (1, 2, 3)]
        steps = [np.concatenate([(b.weights[path] - a.weights[path]).ravel() for path in b.weights])
                 for a, b in zip(after, after[1:])]
        for t, step in enumerate(steps, start=1):
            assert step.std() == pytest.approx(stddev / (1 + t), rel=0.1)
        assert abs(np.corrcoef(*steps)[0, 1]) < 0.1


def test_gradient_noise_is_there_before_the_optimizer_looks():
    quiet, loud = noisy_run(None, updates=1), noisy_run("gradients", updates=1, stddev=1.0, decay=0.0)
    size = sum(weight.size for weight in quiet.weights.values())
    assert loud.metrics[0]["grad_norm"] == pytest.approx(np.sqrt(size + quiet.metrics[0]["grad_norm"] ** 2), rel=0.1)


def test_label_noise_is_of_the_example_in_its_epoch_whatever_the_batch():
    noise = NoiseInjection("labels", 0.3, 0.0, 7)

    class View:
        def __init__(self, update, batch, positions, origin=0):
            self.origin = origin
            self.update, self.positions = tf.constant(update, tf.int64), tf.constant(positions, tf.int64)
            self.layout = type("Layout", (), {"batch_size": batch})

    # Places 40 to 47 of the stream, at batches 10 and 40.
    small = noise.targets(View(4, 10, range(8)), CLASSES).numpy()
    large = noise.targets(View(1, 40, range(8)), CLASSES).numpy()
    np.testing.assert_array_equal(small, large)
    # After four batches of 10 the first of 20, as update 4.
    np.testing.assert_array_equal(small, noise.targets(View(4, 20, range(8), -4 * 10), CLASSES).numpy())
    assert not np.isclose(small, noise.targets(View(5, 10, range(8)), CLASSES).numpy()).any()
    many = noise.targets(View(0, 5000, range(5000)), CLASSES).numpy()
    assert many.std() == pytest.approx(0.3, rel=0.02) and np.abs(many.mean(0)).max() < 0.02


def test_noise_decays_for_every_kind_with_the_updates_done():
    t, stddev, decay = 8, 0.5, 1.0  # a third of it at t
    drawn = {}

    class View:
        origin, update, positions = 0, tf.constant(t, tf.int64), tf.range(3000, dtype=tf.int64)
        layout, seed = type("Layout", (), {"batch_size": 3000}), 3

        def next_stream(self):
            return 0

    drawn["labels"] = NoiseInjection("labels", stddev, decay, 3).targets(View, CLASSES)
    [drawn["gradients"]] = NoiseInjection("gradients", stddev, decay, 3).gradients([tf.zeros([30000])], tf.constant(t, tf.int64))
    weights = tf.Variable(tf.zeros([30000]))
    NoiseInjection("weights", stddev, decay, 3).shake([weights], tf.constant(t, tf.int64), tf.constant(True))
    drawn["weights"] = weights
    with replica.scope(View()):
        drawn["activations"] = layers.ActivationNoise(stddev, decay)(tf.zeros([3000, 10]), training=True)
    assert {kind: float(np.std(noise)) for kind, noise in drawn.items()} == pytest.approx(dict.fromkeys(KINDS, stddev / 3), rel=0.02)


@pytest.mark.parametrize("kind", ["gradients", "weights"])
def test_variables_of_one_shape_share_no_noise_at_any_updates(kind):
    noise, drawn = NoiseInjection(kind, 1.0, 0.0, 0), []
    for t in range(3):
        at = tf.constant(t, tf.int64)
        if kind == "gradients":
            drawn += noise.gradients([tf.zeros([50]), tf.zeros([50])], at)
        else:
            variables = [tf.Variable(tf.zeros([50])) for _ in range(2)]
            noise.shake(variables, at, tf.constant(True))
            drawn += variables
    assert len(np.unique(np.round(np.array(drawn), 6))) > 290


def test_probes_see_the_gradient_of_the_examples_and_the_weights_with_their_noise():
    def measured(kind, *names, **given):
        run = noisy_run(kind, updates=1, batch=96, micro=24, stddev=0.1, measured=names, **given)
        columns = [column.name for column in run.step.probes.columns]
        return run, dict(zip(columns, run.rows[0][len(METRICS):]))

    _, quiet = measured(None, "noise_scale")
    noisy, loud = measured("gradients", "noise_scale")
    assert loud == pytest.approx(quiet, rel=1e-5) and quiet["gradient_variance"] > 0
    assert noisy.metrics[0]["grad_norm"] > 2 * noisy_run(None, updates=1, batch=96).metrics[0]["grad_norm"]
    shaken, found = measured("weights", "diffusion")
    start = [variable.numpy() for variable in linear().trainable_variables]
    away = [after - before for after, before in zip(shaken.weights.values(), start, strict=True)]
    assert found["distance_from_start"] == pytest.approx(np.linalg.norm(np.concatenate([a.ravel() for a in away])), rel=1e-5)
    assert found["distance_from_start"] > 2 * shaken.metrics[0]["update_norm"]  # of the rule alone


def test_the_loss_of_noisy_targets_is_the_cross_entropy_with_them():
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(6, 4)).astype("float32"), np.array([0, 1, 2, 3, 0, 1])
    noise = generator.normal(size=(6, 4)).astype("float32")
    targets = 0.9 * np.eye(4)[labels] + 0.1 / 4 + noise
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(smoothed_cross_entropy(labels, logits, 0.1, noise), -(targets * np.log(shares)).sum(1), rtol=1e-5)


def test_position_normals_are_standard_normal_and_independent():
    drawn = position_normal(3, tf.constant(5, tf.int64), tf.range(20000, dtype=tf.int64), 2, 7).numpy()
    assert drawn.shape == (20000, 7) and np.isfinite(drawn).all()
    np.testing.assert_allclose(drawn.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(np.cov(drawn.T), np.eye(7), atol=0.03)
    assert np.mean(np.abs(drawn) > 1.959964) == pytest.approx(0.05, abs=0.003)
    assert np.mean(drawn ** 4) == pytest.approx(3.0, rel=0.05)


def test_activation_noise_acts_in_a_training_step_only_and_survives_saving(tmp_path):
    layer = layers.ActivationNoise(0.5, 0.1, name="noise")
    x = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(layer(x, training=True), x)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.save(tmp_path / "model.keras")
    again = hb.load_model(tmp_path / "model.keras").layers[-1]
    assert (again.stddev, again.decay) == (0.5, 0.1)
    for wrong in ((-1.0, 0.0), (float("nan"), 0.0), (1.0, -1.0)):
        with pytest.raises(ValueError, match="finite number, 0 or more"):
            layers.ActivationNoise(*wrong)


def test_networks_have_noise_after_each_relu_when_asked_and_the_same_weights():
    noise = functools.partial(layers.ActivationNoise, 0.1, 0.0)
    plain, noisy = lenet5(), lenet5(noise=noise)
    assert [layer.name for layer in noisy.layers if isinstance(layer, layers.ActivationNoise)] == \
        ["conv1_noise", "conv2_noise", "dense1_noise", "dense2_noise"]
    for a, b in zip(plain.trainable_variables, noisy.trainable_variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("kind", ["activations", "labels"])
def test_a_run_takes_it_from_its_settings(kind, tmp_path):
    result = hb.train(hb.Settings(dataset="mnist5k", batch_size=1000, train_steps=2, run_dir=str(tmp_path / "run"),
                                  inject_noise=kind, noise_stddev=0.01, noise_decay=0.55, eval_every_epochs=9))
    assert result.exit_code == 0


@pytest.mark.parametrize("given, match", [
    ({"inject_noise": "labels"}, "--inject_noise=labels: how much is not said; give --noise_stddev"),
    ({"noise_stddev": 0.1}, "--noise_stddev=0.1 .*without --inject_noise"),
    ({"noise_decay": 0.5}, "--noise_decay=0.5 .*without --inject_noise"),
    ({"inject_noise": "images", "noise_stddev": 1}, "inject_noise.*unknown.*activations, weights, gradients, labels")])
def test_half_of_a_noise_is_refused(given, match):
    with pytest.raises(hb.Refusal, match=match):
        hb.Settings(dataset="mnist5k", **given)


def test_runs_without_noise_keep_their_hash():
    assert "noise" not in str({name for name, value in hb.Settings(dataset="mnist5k").as_dict().items() if value is not None})


def test_noise_of_weights_is_not_that_of_another_seeds_gradients():
    at, weights = tf.constant(2, tf.int64), tf.Variable(tf.zeros([50]))
    [gradient] = NoiseInjection("gradients", 1.0, 0.0, 0).gradients([tf.zeros([50])], at)
    NoiseInjection("weights", 1.0, 0.0, 1).shake([weights], at, tf.constant(True))
    assert not np.isclose(weights.numpy(), gradient.numpy()).any()


def test_an_update_that_is_not_applied_leaves_the_weights_without_noise():
    weights = tf.Variable(tf.ones([50]))
    NoiseInjection("weights", 1.0, 0.0, 1).shake([weights], tf.constant(2, tf.int64), tf.constant(False))
    assert (weights.numpy() == 1).all()
