"""Muon: its options against the twin, which works on singular values, and what holds without numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import optimizers as twin
from reference.variables import variables_of

from tf_hugebatch import optimizers, registry
from tf_hugebatch.optimizers.muon import orthogonalize

RATES = (0.0, 0.02, 0.05, 0.03, 0.04, 0.01)
SHAPES = {"conv/kernel": (3, 3, 2, 4), "norm/gamma": (4,), "wide/kernel": (5, 12), "tall/kernel": (12, 5), "tall/bias": (5,),
          "words/embeddings": (6, 3)}
BY_ADAM = ("norm/gamma", "tall/bias", "words/embeddings")
VECTORS = ("norm/gamma", "tall/bias")


def problem():
    """Weights of unlike sizes, a bias at zero, gradients that turn and grow, and one that is all zero from the start."""
    generator = np.random.default_rng(11)
    weights = {path: (1.0 + i) * generator.normal(size=shape) for i, (path, shape) in enumerate(SHAPES.items())}
    weights["tall/bias"] *= 0.0
    gradients = [{path: generator.normal(size=shape) * (0.1 + 0.3 * t) for path, shape in SHAPES.items()}
                 for t in range(len(RATES))]
    gradients[0]["wide/kernel"] *= 0.0
    return ({k: w.astype("float32") for k, w in weights.items()},
            [{k: g.astype("float32") for k, g in update.items()} for update in gradients])


def trajectory(optimizer, gradient_scale=1.0):
    """[{path: weights}] after each update, and the optimizer's last trust ratios by path."""
    weights, gradients = problem()
    variables, history = variables_of(weights), []
    optimizer.build(variables)
    for update, rate in zip(gradients, RATES, strict=True):
        optimizer.learning_rate = rate
        optimizer.apply([gradient_scale * gradient for gradient in update.values()], variables)
        history.append({path: variable.numpy() for path, variable in zip(SHAPES, variables)})
    return history, dict(zip(SHAPES, optimizer.trust_ratios().values()))


OPTIONS = {
    "without momentum": {"momentum": 0.0, "nesterov": False},
    "heavy ball": {"momentum": 0.95, "nesterov": False},
    "bias correction": {"momentum": 0.95, "bias_correction": True},
    "rms": {"update_scale": "rms"},
    "no scale": {"update_scale": "none"},
    "three other iterations": {"newton_schulz_steps": 3, "newton_schulz_coefficients": (2.0, -1.5, 0.5)},
    "an epsilon in the norm": {"newton_schulz_epsilon": 0.7},
    "Adam's": {"adam_rate_ratio": 1.0, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 0.01},
    "Adam's corrected": {"epsilon": 0.01, "epsilon_placement": "corrected"},
    "Adam's Nesterov": {"adam_nesterov": True, "adam_rate_ratio": 0.5},
    "decoupled": {"weight_decay": 0.3, "decoupled_weight_decay": True},
    "layer-wise": {"layerwise": True, "weight_decay": 0.1, "trust_coefficient": 0.5},
    "layer-wise decoupled": {"layerwise": True, "weight_decay": 0.1, "decoupled_weight_decay": True},
    "adabound": {"layerwise": True, "trust_bounds": (0.2, 0.9), "trust_bounds_schedule": "adabound", "trust_bounds_rate": 0.5},
    "clipped": {"clip_global_norm": 1.0},
}
LISTS = {
    "by default": ({}, BY_ADAM, VECTORS),
    "embeddings too": ({"exclude_from_orthogonalization": ()}, VECTORS, VECTORS),
    "matrices only": ({"reshape_kernels": False}, ("conv/kernel", *BY_ADAM), VECTORS),
    "the last layer out": ({"exclude_from_orthogonalization": ["tall", "words"]}, ("tall/kernel", *BY_ADAM), VECTORS),
    "all decay": ({"exclude_from_decay": ()}, BY_ADAM, ()),
}


def assert_is_the_twin(arguments, by_adam=BY_ADAM, undecayed=VECTORS, **lists):
    arguments = {"weight_decay": 0.05, **arguments}
    ours, ratios = trajectory(optimizers.Muon(0.1, **arguments, **lists))
    theirs = twin.muon(*problem(), RATES, by_adam=by_adam, undecayed=undecayed, unadapted=VECTORS, **arguments)
    for mine, (expected, _) in zip(ours, theirs, strict=True):
        for path in SHAPES:
            np.testing.assert_allclose(mine[path], expected[path], rtol=0, atol=2e-5 * max(1e-6, np.abs(expected[path]).max()))
    for path, expected in theirs[-1][1].items():
        np.testing.assert_allclose(ratios[path], expected, rtol=2e-4)


@pytest.mark.parametrize("option", OPTIONS)
def test_option_equals_its_twin(option):
    assert_is_the_twin(OPTIONS[option])


@pytest.mark.parametrize("which", LISTS)
def test_who_is_orthogonalised_and_who_decays(which):
    lists, by_adam, undecayed = LISTS[which]
    assert_is_the_twin({}, by_adam, undecayed, **lists)


@pytest.mark.parametrize("preset", registry.PRESETS["muon"])
def test_a_preset_is_its_arguments_and_no_other_name_is_taken(preset):
    values = registry.PRESETS["muon"][preset]
    optimizer = optimizers.Muon.preset(preset, 0.1, momentum=0.95)
    # exclusions stay as they were given, an empty tuple too
    assert all(getattr(optimizer, name) == value for name, value in values.items()) and optimizer.momentum == 0.95
    with pytest.raises(ValueError, match="preset='mlperf'.*'keras', 'optax'"):
        optimizers.Muon.preset("mlperf", 0.1)


@pytest.mark.parametrize("shape", [(40, 40), (16, 90), (90, 16)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape):
    generator = np.random.default_rng(3)
    smaller = min(shape)
    left, _, right = np.linalg.svd(generator.normal(size=shape), full_matrices=False)
    values = np.geomspace(1.0, 0.03, smaller)  # the last is more than 0.005 of the norm
    found = orthogonalize(tf.constant(left @ np.diag(values) @ right, tf.float32), 5).numpy()
    rotated = left.T @ found @ right.T
    assert np.abs(rotated - np.diag(np.diag(rotated))).max() < 1e-4
    assert 0.68 < np.diag(rotated).min() and np.diag(rotated).max() < 1.16
    transposed = orthogonalize(tf.constant((left @ np.diag(values) @ right).T, tf.float32), 5).numpy()
    np.testing.assert_allclose(transposed.T, found, atol=1e-5)


def test_the_step_of_a_matrix_ignores_the_scale_of_its_gradients():
    (one, _), (other, _) = (trajectory(optimizers.Muon(0.1), scale) for scale in (1.0, 1e-9))
    for path in ("conv/kernel", "wide/kernel", "tall/kernel"):
        np.testing.assert_allclose(one[-1][path], other[-1][path], rtol=1e-4, atol=1e-5)
    assert np.abs(one[-1]["tall/bias"] - other[-1]["tall/bias"]).max() > 1e-3  # Adam's epsilon shows


@pytest.mark.parametrize("shape", [(400, 120), (84, 10), (25, 6)])
@pytest.mark.parametrize("exponent", [-34, -30, -19, -18, -17, 0, 17, 19, 30, 35])
def test_no_scale_that_float32_holds_changes_the_directions(shape, exponent):
    plain = np.random.default_rng(5).normal(size=shape).astype(np.float32)
    expected = orthogonalize(tf.constant(plain), 5).numpy()
    # Newton-Schulz takes small singular values up 500-fold, and their rounding with them.
    np.testing.assert_allclose(orthogonalize(tf.constant(plain * np.float32(10.0) ** exponent), 5).numpy(), expected,
                               atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("row", ["muon", "muon_layerwise", "muon_layerwise_bounded"])
def test_a_layer_that_dies_keeps_its_weights(row):
    generator = np.random.default_rng(2)
    weights = {"conv/kernel": generator.normal(size=(5, 5, 6, 16)).astype(np.float32),
               "dense/kernel": generator.normal(size=(84, 10)).astype(np.float32)}
    optimizer, variables = optimizers.get(row, learning_rate=1e-3), variables_of(weights)
    optimizer.build(variables)
    first = [tf.constant(generator.normal(size=weight.shape), tf.float32) for weight in weights.values()]
    step = tf.function(lambda gradients: optimizer.apply(gradients, variables))
    step(first)
    dead = [tf.zeros_like(gradient) for gradient in first]
    for _ in range(1100):  # the velocity decays by 0.9 an update: through 1e-19 after 400, to 0 after 850
        step(dead)
    for variable, before in zip(variables, weights.values()):
        assert np.isfinite(variable.numpy()).all()
        assert np.linalg.norm(variable.numpy()) < 2 * np.linalg.norm(before)


def test_a_gradient_that_has_always_been_zero_moves_nothing():
    weights = problem()[0]
    optimizer, variables = optimizers.Muon(0.1), variables_of(weights)
    optimizer.apply([np.zeros(shape, np.float32) for shape in SHAPES.values()], variables)
    for variable, before in zip(variables, weights.values()):
        np.testing.assert_array_equal(variable.numpy(), before)


def test_only_adams_variables_have_a_second_moment():
    optimizer = optimizers.Muon(0.1)
    optimizer.build(variables_of(problem()[0]))
    sizes = {path: int(np.prod(shape)) for path, shape in SHAPES.items()}
    expected = sum(sizes.values()) + sum(sizes[path] for path in BY_ADAM)
    assert sum(int(np.prod(variable.shape)) for variable in optimizer.variables if len(variable.shape)) == expected


def test_describe_says_who_is_orthogonalised_and_why_not():
    optimizer = optimizers.Muon(0.1, exclude_from_orthogonalization=["tall"])
    optimizer.build(variables_of(problem()[0]))
    lines = dict(line.split(None, 1) for line in optimizer.describe().splitlines())
    assert lines["variable"].endswith("orthogonalised")
    assert lines["conv/kernel"].endswith("yes") and lines["words/embeddings"].endswith("yes")
    assert lines["tall/kernel"].endswith("no (pattern 'tall')") and lines["norm/gamma"].endswith("no (rank 1)")


@pytest.mark.parametrize("arguments, error, message", [
    ({"newton_schulz_steps": 0}, ValueError, "newton_schulz_steps=0"),
    ({"newton_schulz_steps": 2.5}, TypeError, "newton_schulz_steps=2.5 is no whole number"),
    ({"newton_schulz_coefficients": (1.0, 2.0)}, ValueError, r"newton_schulz_coefficients=\(1.0, 2.0\).*three"),
    ({"newton_schulz_coefficients": (1.0, "b", 2.0)}, TypeError, "newton_schulz_coefficients='b'"),
    ({"update_scale": "moonlight"}, ValueError, "update_scale='moonlight'.*'width', 'rms', 'none'"),
    ({"adam_rate_ratio": 0.0}, ValueError, "adam_rate_ratio=0.0"),
    ({"exclude_from_orthogonalization": "dense"}, TypeError, r"exclude_from_orthogonalization='dense'.*\['dense'\]"),
    ({"trust_bounds": (0.1, 1.0)}, ValueError, "layerwise=True"),
    ({"layerwise": True, "trust_bounds": 2}, ValueError, "trust_bounds=2 are no bounds"),
    ({"layerwise": True, "trust_bounds": (None, 1)}, ValueError, "are no bounds"),
    ({"bias_correction": True, "momentum": 1.0 - 1e-9}, ValueError, "momentum=0.999999999"),
    ({"reshape_kernels": "false"}, TypeError, "reshape_kernels='false' is no bool"),
])
def test_what_cannot_be_is_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        optimizers.Muon(0.1, **arguments)


def test_a_pattern_that_matches_nothing_is_refused_before_anything_is_made():
    optimizer = optimizers.Muon(0.1, exclude_from_orthogonalization=["logits"])
    with pytest.raises(ValueError, match="exclude_from_orthogonalization=logits: matches no variable.*tall/kernel"):
        optimizer.build(variables_of(problem()[0]))
    assert not optimizer.built


def test_replicas_make_the_update_of_one_device_in_fit(mirrored):
    generator = np.random.default_rng(5)
    x, y = generator.normal(size=(32, 6)).astype("float32"), generator.integers(0, 3, 32)

    def fitted(strategy):
        with strategy.scope():
            keras.utils.set_random_seed(2)
            model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(3)])
            model.compile(optimizers.Muon(0.02, weight_decay=0.01),
                          loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(x, y, batch_size=32, epochs=4, shuffle=False, verbose=0)
        return model.get_weights()

    for one, several in zip(fitted(tf.distribute.OneDeviceStrategy("CPU:0")), fitted(mirrored(2)), strict=True):
        np.testing.assert_allclose(several, one, rtol=0, atol=1e-5)


def test_epsilon_stands_beside_the_norm_of_the_matrix_as_it_is():
    tiny = np.float32(2.0 ** -50) * np.random.default_rng(5).normal(size=(5, 12)).astype(np.float32)
    found = orthogonalize(tf.constant(tiny), 0, epsilon=1e-7).numpy()
    np.testing.assert_allclose(found, tiny / (np.linalg.norm(tiny) + 1e-7), rtol=1e-5)
