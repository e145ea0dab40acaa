"""Every option of every rule against the twins and Keras' own optimizers, and properties that need no
numbers.
"""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import optimizers as twin
from reference.variables import variables_of

from tf_hugebatch import optimizers

RATES = (0.0, 0.05, 0.1, 0.08, 0.0, 0.06, 0.02)
PATHS = ("first/kernel", "first/bias", "second/kernel")
CLASSES = {"sgd": optimizers.SGD, "adagrad": optimizers.Adagrad, "rmsprop": optimizers.RMSprop,
           "adam": optimizers.Adam, "lamb": optimizers.LAMB}


def problem():
    """Weights of unlike sizes, a bias at zero, gradients that grow, and one that is all zero at update 3."""
    generator = np.random.default_rng(7)
    weights = {"first/kernel": generator.normal(size=(4, 3)), "first/bias": np.zeros(3),
               "second/kernel": 5.0 * generator.normal(size=(3, 2))}
    gradients = [{k: generator.normal(size=w.shape) * (0.1 + 0.3 * t) for k, w in weights.items()}
                 for t in range(len(RATES))]
    gradients[3]["second/kernel"] *= 0.0
    return ({k: w.astype("float32") for k, w in weights.items()},
            [{k: g.astype("float32") for k, g in update.items()} for update in gradients])


def trajectory(optimizer, rates=RATES, gradient_scale=1.0):
    """[weights by path, trust ratios by path] after each update."""
    weights, gradients = problem()
    variables, history = variables_of(weights), []
    optimizer.build(variables)
    for update, rate in zip(gradients, rates, strict=True):
        optimizer.learning_rate = rate
        optimizer.apply_gradients(zip([gradient_scale * gradient for gradient in update.values()], variables))
        ratios = optimizer.trust_ratios() if hasattr(optimizer, "trust_ratios") else {}
        history.append(({path: v.numpy() for path, v in zip(PATHS, variables)}, ratios))
    return history


def assert_same(ours, theirs, tolerance=2e-5):
    for (mine, ratios), (expected, expected_ratios) in zip(ours, theirs, strict=True):
        for path in PATHS:
            scale = max(np.abs(expected[path]).max(), 1e-6)
            np.testing.assert_allclose(mine[path], expected[path], rtol=0, atol=tolerance * scale)
            if expected_ratios:
                np.testing.assert_allclose(ratios[path], expected_ratios[path], rtol=2e-4)


@pytest.mark.parametrize("convention", ["unscaled", "scaled", "after", "update_norm", "corrected"])
@pytest.mark.parametrize("denominator", ["sum", "joint"])
def test_lars_equals_its_twin_in_its_combinations(convention, denominator):
    weights, gradients = problem()
    flags = itertools.product((False, True), (False, True), (None, True))
    for nesterov, decay_in_update, trust_clip in flags:
        # Bounds in half of the combinations; no momentum, which leaves little of a convention, in one.
        trust_bounds = (0.002, 0.3) if nesterov != decay_in_update else None
        momentum = 0.0 if nesterov and trust_clip and trust_bounds else 0.9
        options = {"momentum_convention": convention, "denominator": denominator, "nesterov": nesterov,
                   "decay_in_update": decay_in_update, "trust_clip": trust_clip, "trust_bounds": trust_bounds,
                   "momentum": momentum, "weight_decay": 0.1, "trust_coefficient": 0.05, "epsilon": 0.01,
                   "clip_global_norm": 4.0}
        ours = trajectory(optimizers.LARS(0.1, exclude_from_decay=["bias"],
                                          exclude_from_adaptation=["first/kernel"], **options))
        theirs = twin.lars(weights, gradients, RATES, undecayed=["first/bias"], unadapted=["first/kernel"],
                           **options)
        assert_same(ours, theirs)


ADABOUND = {"layerwise": True, "trust_bounds": (0.1, 0.5), "trust_bounds_schedule": "adabound",
            "trust_bounds_rate": 0.5}
OPTIONS = {
    "sgd without momentum": ("sgd", {}),
    "sgd nesterov": ("sgd", {"momentum": 0.9, "nesterov": True}),
    "sgd layer-wise": ("sgd", {"layerwise": True, "trust_coefficient": 0.3}),
    "sgd layer-wise nesterov": ("sgd", {"layerwise": True, "momentum": 0.9, "nesterov": True}),
    "sgd adabound": ("sgd", ADABOUND | {"momentum": 0.5}),
    "adagrad outside": ("adagrad", {"epsilon": 0.1, "epsilon_placement": "outside"}),
    "adagrad start": ("adagrad", {"initial_accumulator_value": 1.0}),
    "adagrad adabound": ("adagrad", ADABOUND),
    "rmsprop outside": ("rmsprop", {"epsilon": 0.1, "epsilon_placement": "outside", "rho": 0.7}),
    "rmsprop momentum": ("rmsprop", {"momentum": 0.9}),
    "rmsprop layer-wise momentum": ("rmsprop", {"momentum": 0.9, "layerwise": True}),
    "rmsprop adabound": ("rmsprop", ADABOUND),
    "adam corrected": ("adam", {"epsilon": 0.1, "epsilon_placement": "corrected", "beta_1": 0.8}),
    "adam adabound": ("adam", ADABOUND | {"beta_2": 0.9}),
    "adam without moving averages": ("adam", {"beta_1": 0.0, "beta_2": 0.0, "epsilon": 0.1}),
    "adam with little memory": ("adam", {"beta_1": 0.3, "beta_2": 0.4, "epsilon": 1e-3, "epsilon_placement": "corrected"}),
    "rmsprop without memory": ("rmsprop", {"rho": 0.0, "epsilon": 1e-3}),
    "sgd decoupled": ("sgd", {"momentum": 0.9, "nesterov": True, "decoupled_weight_decay": True}),
    "rmsprop decoupled": ("rmsprop", {"momentum": 0.9, "decoupled_weight_decay": True}),
    "adam decoupled": ("adam", {"decoupled_weight_decay": True}),
    "adagrad decoupled layer-wise": ("adagrad", {"layerwise": True, "decoupled_weight_decay": True}),
    "lamb decoupled": ("lamb", {"decoupled_weight_decay": True, "epsilon": 1e-6}),
    "lamb uncorrected moments": ("lamb", {"bias_correction": False, "epsilon": 1e-3}),
    "lamb phi": ("lamb", {"weight_norm_bounds": (4.0, 9.0), "epsilon": 1e-6}),
    "lamb bounded ratio": ("lamb", {"trust_bounds": (0.5, 1.0), "epsilon": 1e-6}),
}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("excluded", [False, True], ids=["all", "excluded"])
def test_option_equals_its_twin(option, excluded):
    kind, arguments = OPTIONS[option]
    lists, names = {"exclude_from_decay": ()}, {}
    if arguments.get("layerwise") or kind == "lamb":
        lists["exclude_from_adaptation"] = ()
    if excluded:
        lists = {key: ["first/bias"] if key == "exclude_from_decay" else ["second"] for key in lists}
        names = {"undecayed": ["first/bias"], "unadapted": ["second/kernel"]}
    weights, gradients = problem()
    ours = trajectory(CLASSES[kind](0.1, weight_decay=0.05, **arguments, **lists))
    assert_same(ours, twin.family(kind, weights, gradients, RATES, weight_decay=0.05, **arguments, **names))


ORIGINALS = {
    "sgd": ("SGD", {}),
    "sgd momentum": ("SGD", {"momentum": 0.9}),
    "sgd nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "adagrad": ("Adagrad", {}),
    "adagrad epsilon": ("Adagrad", {"epsilon": 0.1, "initial_accumulator_value": 0.0}),
    "rmsprop": ("RMSprop", {}),
    "rmsprop momentum": ("RMSprop", {"momentum": 0.9, "epsilon": 0.1, "rho": 0.8}),
    "adam": ("Adam", {}),
    "adam epsilon": ("Adam", {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 0.1}),
}


@pytest.mark.parametrize("original", ORIGINALS)
def test_original_equals_keras(original):
    """To the rounding of a few float32 operations; Adam, to Keras' of 1 - beta_2^t, which is 1e-5 off at first."""
    name, arguments = ORIGINALS[original]
    ours = trajectory(getattr(optimizers, name)(0.1, **arguments))
    theirs = trajectory(getattr(keras.optimizers, name)(0.1, **arguments))
    assert_same(ours, [(weights, None) for weights, _ in theirs], tolerance=2e-5 if original == "adam" else 5e-7)


def test_adam_is_the_equation_to_rounding():
    """Closer than Keras': the mean square and its bias correction hold the same beta_2, and the correction is exact."""
    weights, gradients = problem()
    exact = [(step, None) for step, _ in twin.family("adam", weights, gradients, RATES)]
    assert_same(trajectory(optimizers.Adam(0.1)), exact, tolerance=5e-7)


@pytest.mark.parametrize("compiled", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("name, arguments", [
    ("RMSprop", {"rho": 0.0, "epsilon": 1e-14}), ("Adam", {"beta_1": 0.0, "beta_2": 0.0, "epsilon": 1e-12}),
    ("Adam", {"beta_1": 1e-46, "beta_2": 1e-46, "epsilon": 1e-12})], ids=["rmsprop", "adam", "adam, rounded to 0"])
def test_without_memory_every_step_is_the_rate_long_however_gradients_fall(name, arguments, compiled):
    (variable,) = variables_of({"first/kernel": np.ones((2, 2), "float32")})
    optimizer = getattr(optimizers, name)(0.1, **arguments)
    optimizer.build([variable])
    update = tf.function(lambda gradient: optimizer.apply([gradient], [variable]), jit_compile=compiled)
    signs = tf.constant([[1.0, -1.0], [-1.0, 1.0]])
    for size in (1e4, 1.0, 1e-4):
        update(size * signs)
    np.testing.assert_allclose(variable.numpy(), 1.0 - 0.3 * signs.numpy(), rtol=1e-6)


@pytest.mark.parametrize("name", ["Adam", "LAMB", "RMSprop"])
def test_a_memory_that_float32_rounds_to_one_is_refused(name):
    argument = "rho" if name == "RMSprop" else "beta_2"
    with pytest.raises(ValueError, match=f"{argument}=0.99999999 is out of range.*0.9999999"):
        getattr(optimizers, name)(0.1, **{argument: 0.99999999})
    variables = variables_of(problem()[0])
    optimizer = getattr(optimizers, name)(0.1, **{argument: 0.9999999})
    optimizer.apply(list(problem()[1][0].values()), variables)
    assert all(np.isfinite(variable.numpy()).all() for variable in variables)


@pytest.mark.parametrize("argument", ["layerwise", "nesterov", "decoupled_weight_decay"])
def test_words_are_no_bools(argument):
    with pytest.raises(TypeError, match=f"{argument}='no' is no bool"):
        optimizers.SGD(0.1, weight_decay=0.1, **{argument: "no"})


@pytest.mark.parametrize("name", ["LARS", "LAMB"])
def test_weights_whose_norm_is_infinite_are_left_as_they_are(name):
    weights = {"first/kernel": np.full((3, 2), 1e20, "float32")}
    variables, optimizer = variables_of(weights), getattr(optimizers, name)(0.1)
    optimizer.build(variables)
    norms = optimizer.apply_reduced([tf.ones((3, 2))], variables)
    assert float(norms["applied"]) == 0.0 and np.isinf(float(norms["weight_norm"]))
    np.testing.assert_array_equal(variables[0].numpy(), weights["first/kernel"])


@pytest.mark.parametrize("denominator", ["sum", "joint"])
def test_lars_without_decay_ignores_the_scale_of_the_gradient(denominator):
    options = {"trust_coefficient": 0.1, "denominator": denominator}
    first, second = (trajectory(optimizers.LARS(0.1, **options), gradient_scale=scale)[2][0]
                     for scale in (1.0, 64.0))
    np.testing.assert_allclose(first["first/kernel"], second["first/kernel"], rtol=1e-5, atol=1e-6)
    # The bias is excluded from adaptation, and so does depend on it.
    assert np.abs(first["first/bias"] - second["first/bias"]).max() > 0.01


def test_corrected_momentum_is_the_after_convention_while_no_rate_is_zero():
    rates = (0.02, 0.05, 0.1, 0.08, 0.04, 0.06, 0.02)
    for nesterov in (False, True):
        options = {"weight_decay": 0.1, "trust_coefficient": 0.1, "nesterov": nesterov}
        first, second = (
            trajectory(optimizers.LARS(0.1, momentum_convention=convention, **options), rates=rates)
            for convention in ("corrected", "after"))
        assert_same(first, second, tolerance=1e-5)


def test_corrected_momentum_survives_a_rate_of_zero():
    history = trajectory(optimizers.LARS(0.1, momentum_convention="corrected", weight_decay=0.1))
    assert all(np.isfinite(weights[path]).all() for weights, _ in history for path in PATHS)
    assert not np.array_equal(history[-1][0]["first/kernel"], history[3][0]["first/kernel"])


@pytest.mark.parametrize("kind", ["sgd", "adagrad", "rmsprop", "adam"])
def test_layerwise_step_is_the_rate_times_the_norm_of_the_weights(kind):
    history = trajectory(CLASSES[kind](0.1, layerwise=True), rates=(0.03,) * 7)
    before = problem()[0]["second/kernel"]
    step = np.linalg.norm(history[0][0]["second/kernel"] - before)
    np.testing.assert_allclose(step, 0.03 * np.linalg.norm(before), rtol=1e-4)


def test_a_zero_initialised_variable_leaves_zero_when_it_is_adapted():
    for optimizer in (optimizers.LAMB(0.1, exclude_from_adaptation=()),
                      optimizers.LARS(0.1, exclude_from_adaptation=()),
                      optimizers.Adam(0.1, layerwise=True, exclude_from_adaptation=())):
        first = next(weights for weights, _ in trajectory(optimizer, rates=(0.1,) * 7))
        assert np.abs(first["first/bias"]).min() > 0


def test_bounds_hold_for_every_adapted_variable_and_no_other():
    history = trajectory(optimizers.Adam(0.1, layerwise=True, trust_bounds=(0.05, 0.5),
                                         exclude_from_adaptation=["second"]))
    for _, ratios in history:
        assert all(0.05 <= ratios[path] <= 0.5 for path in ("first/kernel", "first/bias"))
        assert ratios["second/kernel"] == 1.0


def test_a_second_moment_without_memory_is_this_gradients_beside_a_first_that_remembers():
    (variable,) = variables_of({"first/kernel": np.ones((2, 2), "float32")})
    optimizer = optimizers.Adam(1e-4, beta_1=0.9, beta_2=0.0, epsilon=0.0)
    optimizer.build([variable])
    for size in (1e4, 0.1):
        optimizer.apply([tf.fill((2, 2), size)], [variable])
    first = (0.9 * 0.1 * 1e4 + 0.1 * 0.1) / (1.0 - 0.9 ** 2)
    np.testing.assert_allclose(variable.numpy(), 1.0 - 1e-4 * (1.0 + first / 0.1), rtol=1e-5)
