"""Beside tensorflow-addons 0.23.0: its LAMB and its cyclical schedules against ours. Run by scripts/addons_lane.sh."""

import keras
import numpy as np
import pytest

tfa = pytest.importorskip(
    "tensorflow_addons", reason="tensorflow-addons imports beside TensorFlow 2.15 only: scripts/addons_lane.sh runs this")

from tf_hugebatch import LAMB, LARS, schedules
from tf_hugebatch.models.lenet import lenet5

RATES = (0.01, 0.02, 0.05, 0.04, 0.0, 0.03, 0.01, 0.02, 0.005, 0.01)
TOLERANCE = 2e-5  # of max|w|, as for the recordings in tests/goldens: float32's 1 - beta^t


def gradients_of(variables, updates=len(RATES)):
    """Gradients that grow, and one that is all zero at update 3."""
    generator = np.random.default_rng(0)
    found = [[(generator.normal(size=v.shape) * (0.1 + 0.2 * t)).astype("float32") for v in variables]
             for t in range(updates)]
    found[3][2] *= 0.0
    return found


def trajectory(optimizer, rates=RATES):
    """[the weights of LeNet-5 after each update]; rates None: the optimizer has a schedule."""
    variables = lenet5(seed=1).trainable_variables
    history = []
    for t, gradients in enumerate(gradients_of(variables)):
        if rates is not None:
            optimizer.learning_rate = rates[t]
        optimizer.apply_gradients(zip(gradients, variables))
        history.append([v.numpy() for v in variables])
    return history


def largest_difference(ours, theirs):
    return max(np.abs(a - b).max() / max(np.abs(b).max(), 1e-6)
               for mine, other in zip(ours, theirs, strict=True) for a, b in zip(mine, other, strict=True))


# tensorflow-addons' arguments: ours. It searches its patterns in 'conv1/kernel:0', ours in 'conv1/kernel', and what it
# takes from decay it takes from adaptation too, unless that has a list of its own.
ARGUMENTS = {
    "nothing excluded": ({}, {"exclude_from_decay": (), "exclude_from_adaptation": ()}),
    "biases excluded from both": ({"exclude_from_weight_decay": ["bias"]}, {}),
    "exclusions by regex, apart": (
        {"exclude_from_weight_decay": ["^conv[0-9]/", "logits/bias"], "exclude_from_layer_adaptation": ["dense.*kernel"]},
        {"exclude_from_decay": ["^conv[0-9]/", "logits/bias"], "exclude_from_adaptation": ["dense.*kernel"]}),
    "other moments": (
        {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3, "exclude_from_weight_decay": ["bias$|bias:0$"]},
        {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3}),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_lamb_is_theirs_over_ten_updates_of_lenet5(case):
    theirs, ours = ARGUMENTS[case]
    expected = trajectory(tfa.optimizers.LAMB(0.1, weight_decay=0.05, **theirs))
    assert largest_difference(trajectory(LAMB(0.1, weight_decay=0.05, **ours)), expected) < TOLERANCE


@pytest.mark.parametrize("change", [
    {"weight_decay": 0.0}, {"bias_correction": False}, {"exclude_from_decay": ()}, {"exclude_from_adaptation": ()},
    {"trust_bounds": (0.0, 0.1)}, {"epsilon": 1e-3},
], ids=str)
def test_a_neighbour_of_lamb_is_told_apart(change):
    theirs, ours = ARGUMENTS["exclusions by regex, apart"]
    expected = trajectory(tfa.optimizers.LAMB(0.1, weight_decay=0.05, **theirs))
    neighbour = trajectory(LAMB(0.1, **{"weight_decay": 0.05, **ours, **change}))
    assert largest_difference(neighbour, expected) > 10 * TOLERANCE


def test_our_schedule_drives_both():
    def schedule():
        return schedules.Warmup(3, schedules.Polynomial(0.05, 7))

    expected = trajectory(tfa.optimizers.LAMB(schedule(), weight_decay=0.05, exclude_from_weight_decay=["bias"]), None)
    assert largest_difference(trajectory(LAMB(schedule(), weight_decay=0.05), None), expected) < TOLERANCE


def test_fit_is_the_same_with_either():
    generator = np.random.default_rng(1)
    x, y = generator.random((64, 28, 28, 1), np.float32), generator.integers(0, 10, 64)

    def fitted(optimizer):
        model = lenet5(seed=2)
        model.compile(optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        losses = model.fit(x, y, batch_size=32, epochs=5, shuffle=False, verbose=0).history["loss"]
        return losses, model.get_weights()

    losses, weights = fitted(LAMB(0.01, weight_decay=0.01))
    their_losses, their_weights = fitted(tfa.optimizers.LAMB(0.01, weight_decay=0.01, exclude_from_weight_decay=["bias"]))
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(losses, their_losses, rtol=1e-4)
    assert largest_difference([weights], [their_weights]) < 1e-3  # the gradients are no longer equal to the last bit


# Theirs go on for ever, ours for a stated number of cycles, here 4 of 2 * HALF updates.
LOW, HIGH, HALF, CYCLES, GAMMA = 0.01, 0.3, 25, 4, 0.98
STEPS = 2 * HALF * CYCLES
CYCLICAL = {
    "triangular": (lambda: tfa.optimizers.TriangularCyclicalLearningRate(LOW, HIGH, HALF), HIGH, {}),
    "triangular2": (lambda: tfa.optimizers.Triangular2CyclicalLearningRate(LOW, HIGH, HALF), HIGH, {"shrink": 0.5}),
    "exponential": (lambda: tfa.optimizers.ExponentialCyclicalLearningRate(LOW, HIGH, HALF, gamma=GAMMA), HIGH,
                    {"shrink": GAMMA ** (2 * HALF), "shrink_each": "update"}),
    # Their first cycle is shrunk already, so its peak is lower than the one that is asked for.
    "exponential by cycles": (
        lambda: tfa.optimizers.ExponentialCyclicalLearningRate(LOW, HIGH, HALF, scale_mode="cycle", gamma=0.7),
        LOW + 0.7 * (HIGH - LOW), {"shrink": 0.7}),
}


@pytest.mark.parametrize("name", CYCLICAL)
def test_cyclical_schedule_is_theirs_while_its_cycles_last(name):
    make, peak, arguments = CYCLICAL[name]
    theirs, ours = make(), schedules.Cyclical(peak, STEPS, cycles=CYCLES, end_learning_rate=LOW, **arguments)
    # One by one: their exponential takes float steps only.
    expected = np.array([float(theirs(np.float32(t))) for t in range(STEPS)])
    np.testing.assert_allclose(ours(np.arange(STEPS)).numpy(), expected, rtol=2e-5)
    for _, other_peak, other in CYCLICAL.values():
        if (other_peak, other) != (peak, arguments):
            neighbour = schedules.Cyclical(other_peak, STEPS, cycles=CYCLES, end_learning_rate=LOW, **other)
            assert np.abs(neighbour(np.arange(STEPS)).numpy() / expected - 1).max() > 0.1
    assert float(ours(STEPS)) == np.float32(LOW)


@pytest.mark.parametrize("wrapper", [tfa.optimizers.Lookahead, tfa.optimizers.SWA, tfa.optimizers.MovingAverage])
def test_their_wrappers_take_only_legacy_optimizers_and_so_not_ours(wrapper):
    with pytest.raises(TypeError, match="optimizer"):
        wrapper(LARS(0.1))
