"""K-FAC's rule: against its twin, on problems whose answer is known, and what it refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import optimizers as twin
from reference.variables import variables_of

import tf_hugebatch as hb
from tf_hugebatch import layers
from tf_hugebatch.keras_versions import KERAS_2, native
from tf_hugebatch.layout import Layout
from tf_hugebatch.optimizers import KFAC
from tf_hugebatch.optimizers.kfac import damped_inverses
from tf_hugebatch.training.accumulate import factored_layers
from tf_hugebatch.training.step import Step

RATES = (0.05, 0.1, 0.0, 0.08, 0.06)


def factor(generator, size):
    seen = generator.normal(size=(3 * size, size))
    return (seen.T @ seen / len(seen)).astype("float32")


def problem():
    """A convolution with a bias, a dense kernel without one, a norm's scale, and a kernel of a layer that nobody saw."""
    generator = np.random.default_rng(5)
    shapes = {"conv/kernel": (2, 2, 2, 3), "conv/bias": (3,), "norm/gamma": (3,), "dense/kernel": (4, 5), "other/kernel": (3, 2)}
    weights = {k: generator.normal(size=shape).astype("float32") for k, shape in shapes.items()}
    gradients = [{k: generator.normal(size=shape).astype("float32") for k, shape in shapes.items()} for _ in RATES]
    factors = [{"conv/kernel": (factor(generator, 9), factor(generator, 3)),
                "dense/kernel": (factor(generator, 4), factor(generator, 5))} for _ in RATES]
    return weights, gradients, factors


def trajectory(weights, gradients, factors, rates=RATES, **options):
    """[({path: weights}, {path: trust ratio}) after each update], and the optimizer."""
    variables, history = variables_of(weights), []
    optimizer = KFAC(0.1, **options)
    optimizer.build(variables)
    update = tf.function(lambda given, factors: optimizer.apply_reduced(given, variables, factors=factors))
    for given, pairs, rate in zip(gradients, factors, rates, strict=True):
        optimizer.learning_rate = rate
        update(list(map(tf.constant, given.values())), {k: tuple(map(tf.constant, pair)) for k, pair in pairs.items()})
        history.append((dict(zip(weights, [v.numpy() for v in variables])), optimizer.trust_ratios()))
    return history, optimizer


OPTIONS = {
    "nesterov, never clipped": {"nesterov": True, "kl_clip": None},
    "always clipped": {"kl_clip": 1e-5, "statistics_decay": 0.5},
    "an interval": {"inverse_interval": 3, "kl_clip": 0.1, "momentum": 0.0},
    "decoupled": {"decoupled_weight_decay": True, "damping": 0.5, "statistics_decay": 1.0},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_option_equals_its_twin(option):
    weights, gradients, factors = problem()
    common = {"weight_decay": 0.05, "clip_global_norm": 5.0, **OPTIONS[option]}
    ours, _ = trajectory(weights, gradients, factors, **common)
    theirs = twin.kfac(weights, gradients, RATES, factors, undecayed=["conv/bias", "norm/gamma"], **common)
    for (mine, ratios), (expected, _) in zip(ours, theirs, strict=True):
        for path in expected:
            np.testing.assert_allclose(mine[path], expected[path], rtol=0, atol=5e-5 * np.abs(expected[path]).max())
        assert set(ratios.values()) == {1.0}


@pytest.mark.parametrize("zero", ["left", "right"])
def test_a_factor_of_zeros_is_damped_by_itself(zero):
    pair = {"left": 2.0 * np.eye(3, dtype="float32"), "right": 2.0 * np.eye(2, dtype="float32")}
    pair[zero] *= 0.0
    for side, inverse in zip(pair, damped_inverses(*map(tf.constant, pair.values()), 0.25)):
        np.testing.assert_allclose(inverse, np.eye(len(pair[side])) / (0.5 if side == zero else 2.5), rtol=1e-6)


@pytest.mark.parametrize("exponent", range(-44, -5, 2))
def test_the_average_of_a_layer_that_died_is_inverted_at_every_size_on_its_way_to_zero(exponent):
    left, right = np.eye(3, dtype="float32"), np.diag([1.0, 2.0]).astype("float32") * np.float32(10.0) ** exponent
    for inverse in damped_inverses(tf.constant(left), tf.constant(right), 1e-3):
        assert np.isfinite(inverse).all()
        assert np.linalg.eigvalsh(inverse).min() > 0


def test_a_layer_that_dies_leaves_the_others_their_weights():
    generator = np.random.default_rng(9)
    shapes = {"dead/kernel": (4, 3), "live/kernel": (3, 2)}
    weights = {k: generator.normal(size=shape).astype("float32") for k, shape in shapes.items()}
    updates, pairs = 1700, {"dead/kernel": (factor(generator, 4), factor(generator, 3)),
                            "live/kernel": (factor(generator, 3), factor(generator, 2))}
    dead = {**pairs, "dead/kernel": (pairs["dead/kernel"][0], np.zeros((3, 3), "float32"))}
    gradients = [{k: generator.normal(size=shape).astype("float32") * (k != "dead/kernel" or t == 0)
                  for k, shape in shapes.items()} for t in range(updates)]
    history, _ = trajectory(weights, gradients, [pairs, *[dead] * (updates - 1)], [1e-3] * updates)
    assert all(np.isfinite(value).all() for value in history[-1][0].values())
    assert np.abs(history[-1][0]["live/kernel"] - weights["live/kernel"]).max() > 0


@pytest.mark.skipif(KERAS_2, reason="Keras 2 leaves models' names out of paths from the start")
def test_a_loaded_optimizer_with_patterns_takes_the_same_step(tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="a"), layers.Dense(2, name="b")], name="net")
    model.compile(KFAC(0.1, exclude_from_decay=["bias"]), loss="mse")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "m.keras")
    found = []
    for one in (model, hb.load_model(tmp_path / "m.keras")):
        variables = one.trainable_variables
        factors = {v.path: (4.0 * tf.eye(4), 2.0 * tf.eye(v.shape[1])) for v in variables if v.path.endswith("kernel")}
        assert set(factors) < set(one.optimizer.trust_ratios())
        found.append(one.optimizer.apply_reduced([tf.ones(v.shape) for v in variables], variables, factors=factors)["update_norm"])
    assert found[0] == found[1] < 0.1 * np.sqrt(sum(np.prod(v.shape) for v in model.trainable_variables))
    with pytest.raises(ValueError, match="factors of no/such/kernel: kfac was built without such kernels"):
        one.optimizer.apply_reduced([tf.ones(v.shape) for v in variables], variables,
                                    factors={**factors, "no/such/kernel": factors.popitem()[1]})


def test_layers_that_one_path_names_are_refused():
    class Twins(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = layers.Dense(3, name="hidden"), layers.Dense(3, name="hidden")

        def call(self, inputs):
            return self.second(self.first(inputs))

    model = Twins()
    model(np.zeros((2, 3), "float32"))
    with pytest.raises(ValueError, match="hidden/kernel: give these layers names of their own"):
        factored_layers(model, KFAC(0.1))


def test_one_step_from_zero_solves_a_linear_gaussian_problem():
    """y = W^T x + b + noise of unit variance: G = I exactly, so a natural step at rate 1 is Newton's and lands on the
    least-squares solution; a gradient step from the same place is nowhere near.
    """
    generator = np.random.default_rng(6)
    x = generator.normal(size=(200, 4)) @ (np.eye(4) + 0.3 * generator.normal(size=(4, 4))) + 1.0
    y = x @ generator.normal(size=(4, 3)) + 2.0 + generator.normal(size=(200, 3))
    ones = np.hstack([x, np.ones((200, 1))])
    solution = np.linalg.lstsq(ones, y, rcond=None)[0]
    gradient = -(ones.T @ y / 200).astype("float32")  # of the mean of |y - W^T x - b|^2 / 2, at 0
    pair = ((ones.T @ ones / 200).astype("float32"), np.eye(3, dtype="float32"))
    history, _ = trajectory(
        {"dense/kernel": np.zeros((4, 3), "float32"), "dense/bias": np.zeros(3, "float32")},
        [{"dense/kernel": gradient[:4], "dense/bias": gradient[4]}], [{"dense/kernel": pair}], [1.0],
        momentum=0.0, damping=1e-12, kl_clip=None)
    found = np.vstack([history[0][0]["dense/kernel"], history[0][0]["dense/bias"]])
    np.testing.assert_allclose(found, solution, atol=2e-3)
    assert np.abs(-gradient - solution).max() > 0.5


def test_a_layer_with_other_inputs_takes_the_same_step():
    """Inputs x M^T: A becomes M A M^T, the gradient M D, and without damping the step M^-T N: the same change of outputs."""
    generator = np.random.default_rng(7)
    a, g, mixing = factor(generator, 5), factor(generator, 3), generator.normal(size=(5, 5)).astype("float32")
    gradient, start = generator.normal(size=(5, 3)).astype("float32"), np.zeros((5, 3), "float32")
    steps = []
    for m in (np.eye(5, dtype="float32"), mixing):
        history, _ = trajectory({"dense/kernel": start}, [{"dense/kernel": m @ gradient}],
                                [{"dense/kernel": (m @ a @ m.T, g)}], [1.0], momentum=0.0, damping=1e-12, kl_clip=None)
        steps.append(m.T @ history[0][0]["dense/kernel"])
    np.testing.assert_allclose(*steps, rtol=2e-3, atol=2e-3)


def test_kl_clip_bounds_the_natural_length_of_a_step_and_leaves_short_ones():
    weights, gradients, factors = problem()
    seen = [{"dense/kernel": factors[0]["dense/kernel"]}]

    def step(**options):
        history, _ = trajectory(weights, gradients[:1], seen, [0.1], momentum=0.0, damping=1e-6, **options)
        return weights["dense/kernel"] - history[0][0]["dense/kernel"]

    a, g = seen[0]["dense/kernel"]
    free, clipped = step(kl_clip=None), step(kl_clip=1e-4)
    np.testing.assert_allclose(np.sum(clipped * (a @ clipped @ g)), 1e-4, rtol=1e-2)
    np.testing.assert_allclose(clipped / np.linalg.norm(clipped), free / np.linalg.norm(free), atol=1e-5)
    np.testing.assert_array_equal(step(kl_clip=1e6), free)


def test_it_goes_on_between_two_inverses_as_if_it_had_not_stopped(tmp_path):
    weights, gradients, factors = problem()

    def fresh():
        variables = variables_of(weights)
        optimizer = KFAC(0.1, inverse_interval=3)
        optimizer.build(variables)
        return variables, optimizer, tf.train.Checkpoint(optimizer=optimizer, weights=[native(v) for v in variables])

    def go(pair, updates):
        for number in updates:
            pair[1].apply_reduced(list(gradients[number].values()), pair[0], factors=factors[number])

    first = fresh()
    go(first, [0, 1])
    path = first[2].save(str(tmp_path / "state"))
    second = fresh()
    second[2].restore(path).assert_consumed()
    for each in (first, second):
        go(each, [2, 3, 4])
    for a, b in zip([*first[0], *first[1].variables], [*second[0], *second[1].variables], strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("where", ["ok", "gradient", "factor"])
def test_nothing_changes_when_the_update_is_bad(where):
    weights, gradients, factors = problem()
    variables, optimizer = variables_of(weights), KFAC(0.1, weight_decay=0.1)
    optimizer.build(variables)
    optimizer.apply_reduced(list(gradients[0].values()), variables, factors=factors[0])
    before = [v.numpy() for v in (*variables, *optimizer.variables)]
    if where == "gradient":
        gradients[1]["conv/bias"][0] = np.nan
    if where == "factor":
        factors[1]["dense/kernel"][0][1, 1] = np.inf
    result = optimizer.apply_reduced(list(gradients[1].values()), variables, factors=factors[1], ok=tf.constant(where != "ok"))
    assert float(result["applied"]) == 0.0
    for a, b in zip(before, [*variables, *optimizer.variables], strict=True):
        np.testing.assert_array_equal(a, b.numpy())


def test_what_cannot_be_had_is_refused():
    weights, gradients, _ = problem()
    variables, optimizer = variables_of(weights), KFAC(0.1)
    optimizer.build(variables)
    for update in (optimizer.apply, optimizer.apply_reduced):
        with pytest.raises(ValueError, match="kfac needs the inputs.*hb.train"):
            update(list(gradients[0].values()), variables)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="plain")
    with pytest.raises(ValueError, match="plain has none.*hb.layers.Dense"):
        Step(strategy=tf.distribute.get_strategy(), model=model, optimizer=KFAC(0.1), layout=Layout(8, 8))
    for options, message in (({"damping": 0.0}, "damping=0.0"), ({"kl_clip": -1}, "kl_clip=-1"),
                             ({"kl_clip": 0.0}, "kl_clip=0.0"),
                             ({"inverse_interval": 0}, "inverse_interval=0"), ({"statistics_decay": 1.5}, "statistics_decay=1.5")):
        with pytest.raises(ValueError, match=message):
            KFAC(0.1, **options)
    with pytest.raises(ValueError, match="groups=2.*keras.layers.Conv2D"):
        layers.Conv2D(4, 3, groups=2)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_variable_that_is_called_kernel_and_is_no_matrix_takes_the_plain_rule(shape):
    start = np.float32(2.0) * np.ones(shape, "float32")
    weights = {"scale/kernel": start, "dense/kernel": np.ones((4, 3), "float32")}
    gradients = {"scale/kernel": np.ones(shape, "float32"), "dense/kernel": np.ones((4, 3), "float32")}
    pair = tf.eye(4), tf.eye(3)
    history, optimizer = trajectory(weights, [gradients], [{"dense/kernel": pair}], [0.1], momentum=0.0)
    np.testing.assert_allclose(history[0][0]["scale/kernel"], 1.9 * np.ones(shape), rtol=1e-6)
    assert sum(v.shape in [(1, 1), (4, 4), (3, 3)] for v in optimizer.variables) == 2
    with pytest.raises(ValueError, match="factors of scale/kernel: kfac was built without.*it keeps factors of dense/kernel"):
        optimizer.require_factors({"scale/kernel": pair})


def test_neither_factor_is_damped_more_than_a_million_times_the_root():
    left, right = damped_inverses(1e-20 * tf.eye(3), tf.eye(2), 1.0)
    np.testing.assert_allclose(left, 1e6 * np.eye(3), rtol=1e-5)
    np.testing.assert_allclose(right, np.eye(2) / (1.0 + 1e6), rtol=1e-5)
