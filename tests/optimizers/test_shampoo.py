"""Shampoo: every option against its twin, and what is known of it without one."""

import numpy as np
import pytest
import tensorflow as tf
from reference import optimizers as twin
from reference.variables import variables_of

from tf_hugebatch.keras_versions import native
from tf_hugebatch.optimizers import Shampoo
from tf_hugebatch.optimizers.shampoo import Blocks

RATES = (0.05, 0.1, 0.0, 0.08, 0.06, 0.02)


def problem():
    """A convolution, a dense kernel and a bias at zero; the dense gradient is all zero at update 1."""
    generator = np.random.default_rng(3)
    weights = {"conv/kernel": generator.normal(size=(3, 2, 2, 5)), "conv/bias": np.zeros(5),
               "dense/kernel": 4.0 * generator.normal(size=(6, 7))}
    gradients = [{k: generator.normal(size=w.shape) * (0.3 + t) for k, w in weights.items()} for t in range(len(RATES))]
    gradients[1]["dense/kernel"] *= 0.0
    return ({k: w.astype("float32") for k, w in weights.items()},
            [{k: g.astype("float32") for k, g in update.items()} for update in gradients])


def trajectory(weights, gradients, rates, **options):
    """[({path: weights}, {path: trust ratio}) after each update]."""
    variables, history = variables_of(weights), []
    optimizer = Shampoo(0.1, **options)
    optimizer.build(variables)
    update = tf.function(lambda *given: optimizer.apply_reduced(list(given), variables))
    for given, rate in zip(gradients, rates, strict=True):
        optimizer.learning_rate = rate
        update(*given.values())
        history.append((dict(zip(weights, [v.numpy() for v in variables])), optimizer.trust_ratios()))
    return history


def steps(weights, gradients, **options):
    """What each update takes off the weights of one kernel, at rate 1 and without momentum."""
    path = next(iter(weights))
    after = [w[path] for w, _ in trajectory(weights, gradients, [1.0] * len(gradients), momentum=0.0, **options)]
    return [a - b for a, b in zip([weights[path], *after], after)]


def assert_same(ours, theirs):
    for (mine, ratios), (expected, expected_ratios) in zip(ours, theirs, strict=True):
        for path in expected:
            np.testing.assert_allclose(mine[path], expected[path], rtol=0, atol=5e-5 * np.abs(expected[path]).max())
            np.testing.assert_allclose(ratios[path], expected_ratios[path], rtol=1e-4)


OPTIONS = {
    "nesterov, no blocks": {"nesterov": True},
    "averages, ragged blocks": {"statistics_decay": 0.8, "block_size": 4},
    "an interval": {"inverse_interval": 4, "momentum": 0.5},
    "all of it": {"inverse_interval": 2, "block_size": 3, "statistics_decay": 0.5, "grafting": "lars",
                  "trust_coefficient": 0.1},
    "decoupled": {"grafting": "lars", "decoupled_weight_decay": True, "epsilon": 0.1},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_option_equals_its_twin(option):
    weights, gradients = problem()
    common = {"weight_decay": 0.05, "clip_global_norm": 20.0, **OPTIONS[option]}
    assert_same(trajectory(weights, gradients, RATES, **common),
                twin.shampoo(weights, gradients, RATES, undecayed=["conv/bias"], unadapted=["conv/bias"], **common))


def one_kernel(*shapes_of_gradients, seed=0):
    generator = np.random.default_rng(seed)
    shape = shapes_of_gradients[0]
    return ({"dense/kernel": generator.normal(size=shape).astype("float32")},
            [{"dense/kernel": generator.normal(size=shape).astype("float32")} for shape in shapes_of_gradients])


def test_the_first_step_is_the_nearest_orthogonal_matrix_at_the_gradients_length():
    """L = G G^T and R = G^T G, so P = U V^T of G = U S V^T, whatever the singular values."""
    weights, gradients = one_kernel((6, 6))
    gradient = gradients[0]["dense/kernel"]
    left, _, right = np.linalg.svd(gradient.astype(float))
    [step] = steps(weights, gradients, epsilon=1e-9)
    expected = left @ right * np.linalg.norm(gradient) / np.sqrt(6)
    np.testing.assert_allclose(step, expected, atol=1e-3)
    assert np.abs(step - gradient).max() > 0.5


def test_rotated_inputs_and_outputs_rotate_the_steps():
    """With inputs x Q^T a kernel Q W gives the same outputs and has the gradient Q G; a rule by coordinates would not."""
    weights, gradients = one_kernel(*[(6, 4)] * 4)
    generator = np.random.default_rng(1)
    rows, columns = (np.linalg.qr(generator.normal(size=(n, n)))[0].astype("float32") for n in (6, 4))

    def rotated(values):
        return {"dense/kernel": rows @ values["dense/kernel"] @ columns}

    plain = steps(weights, gradients, inverse_interval=2)
    turned = steps(rotated(weights), [rotated(g) for g in gradients], inverse_interval=2)
    for a, b in zip(plain, turned, strict=True):
        np.testing.assert_allclose(rows @ a @ columns, b, atol=2e-3)
    blocks = steps(rotated(weights), [rotated(g) for g in gradients], block_size=2)
    assert np.abs(rows @ plain[-1] @ columns - blocks[-1]).max() > 0.1  # blocks give it up


def test_where_gradients_are_diagonal_it_is_full_matrix_adagrad():
    """One entry of the diagonal in each update: H^(-1/2) g with H the sum of g g^T over all 16 coordinates."""
    generator = np.random.default_rng(2)
    entries, full, gradients, expected = [0, 1, 2, 3, 1, 0, 1, 3], np.zeros((16, 16)), [], []
    for entry in entries:
        gradient = np.zeros((4, 4), "float32")
        gradient[entry, entry] = generator.uniform(1, 3) * generator.choice([-1, 1])
        gradients.append({"dense/kernel": gradient})
        full += np.outer(gradient.ravel(), gradient.ravel())
        values, vectors = np.linalg.eigh(full)
        root = vectors @ np.diag(np.where(values > 1e-9, np.maximum(values, 1e-9) ** -0.5, 0)) @ vectors.T
        expected.append((root @ gradient.ravel()).reshape(4, 4))
    weights = {"dense/kernel": np.ones((4, 4), "float32")}
    for step, direction, gradient in zip(steps(weights, gradients), expected, gradients, strict=True):
        unit = direction / np.linalg.norm(direction)
        np.testing.assert_allclose(step, unit * np.linalg.norm(gradient["dense/kernel"]), atol=1e-5)
    # In one update with the whole diagonal every entry steps by as much, and not in proportion to it.
    diagonal = {"dense/kernel": np.diag([1.0, 2.0, 4.0, 8.0]).astype("float32")}
    [step] = steps(weights, [diagonal])
    np.testing.assert_allclose(step, np.eye(4) * np.linalg.norm([1, 2, 4, 8]) / 2, atol=1e-3)


def test_a_kronecker_quadratic_costs_it_a_fraction_of_what_it_costs_momentum():
    """f(W) = tr(W^T A W B) / 2, condition number 10^6 in all; 40 updates, each at the best of the same rates."""
    generator = np.random.default_rng(4)
    sides = [np.linalg.qr(generator.normal(size=(n, n)))[0] for n in (8, 6)]
    a, b = (side @ np.diag(np.logspace(-3, 0, len(side))) @ side.T for side in sides)
    start = generator.normal(size=(8, 6))

    def excess(turn, rate):
        w, v = start.copy(), 0.0
        variables = variables_of({"dense/kernel": start.astype("float32")})
        optimizer = Shampoo(rate, momentum=0.9, epsilon=1e-6)
        optimizer.build(variables)
        update = tf.function(lambda g: optimizer.apply_reduced([g], variables))
        for t in range(40):
            gradient = a @ w @ b
            if turn:
                update(tf.constant(gradient, tf.float32))
                w = variables[0].numpy().astype(float)
            else:
                v = 0.9 * v + rate * gradient
                w = w - v
        return np.sum(w * (a @ w @ b)) / 2

    rates = (0.1, 0.3, 1.0, 2.0)
    best = {turn: np.nanmin([excess(turn, rate) for rate in rates]) for turn in (True, False)}
    assert best[True] < 0.3 * best[False]


def test_the_size_of_gradients_decides_the_length_alone():
    weights, gradients = one_kernel(*[(5, 3)] * 3)
    large = [{k: 64.0 * g for k, g in update.items()} for update in gradients]
    for a, b in zip(steps(weights, gradients, statistics_decay=0.5), steps(weights, large, statistics_decay=0.5), strict=True):
        np.testing.assert_allclose(64.0 * a, b, rtol=1e-3, atol=1e-3)


def test_no_gradient_yet_is_no_step():
    weights, gradients = one_kernel(*[(5, 3)] * 2)
    gradients[0]["dense/kernel"] *= 0.0
    first, second = steps(weights, gradients)
    assert not first.any() and np.isfinite(second).all() and second.any()


@pytest.mark.parametrize("shape, largest, count", [
    ((5, 3), 5, 1), ((5, 3), 2, 6), ((3, 2, 2, 7), 5, 6), ((4, 4), 1, 16), ((1, 9), 100, 1)])
def test_blocks_hold_every_entry_once(shape, largest, count):
    blocks = Blocks(shape, largest)
    kernel = tf.reshape(tf.range(1.0, 1.0 + np.prod(shape)), shape)
    parts = blocks.cut(kernel)
    assert parts.shape == (count, blocks.rows, blocks.columns) and max(parts.shape[1:]) <= largest
    np.testing.assert_array_equal(np.sort(parts[parts > 0]), np.sort(np.ravel(kernel)))
    np.testing.assert_array_equal(blocks.join(parts), kernel)


def test_it_goes_on_between_two_roots_as_if_it_had_not_stopped(tmp_path):
    weights, gradients = problem()

    def fresh():
        variables = variables_of(weights)
        optimizer = Shampoo(0.1, inverse_interval=4, statistics_decay=0.9)
        optimizer.build(variables)
        return variables, optimizer, tf.train.Checkpoint(optimizer=optimizer, weights=[native(v) for v in variables])

    variables, optimizer, checkpoint = fresh()
    for update in gradients[:2]:
        optimizer.apply_reduced(list(update.values()), variables)
    path = checkpoint.save(str(tmp_path / "state"))
    again, restored, checkpoint = fresh()
    checkpoint.restore(path).assert_consumed()
    for update in gradients[2:]:
        for each, theirs in ((optimizer, variables), (restored, again)):
            each.apply_reduced(list(update.values()), theirs)
    for a, b in zip([*variables, *optimizer.variables], [*again, *restored.variables], strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("compiled", [False, True])
def test_a_bad_gradient_shows_in_the_weights_and_ends_no_program(compiled):
    """`fit` has no guard: a callback that looks for NaN must get its turn."""
    weights, gradients = problem()
    variables = variables_of(weights)
    optimizer = Shampoo(0.1)
    optimizer.build(variables)
    update = tf.function(lambda *given: optimizer.apply(list(given), variables), jit_compile=compiled)
    update(*gradients[0].values())
    update(*[np.full_like(gradient, np.nan) for gradient in gradients[0].values()])
    assert all(np.isnan(variable.numpy()).all() for variable in variables)


def test_the_trust_ratio_of_what_does_not_decay_holds_no_decay():
    weights, gradients = problem()
    common = {"weight_decay": 0.5, "grafting": "lars", "trust_coefficient": 0.1}
    assert_same(trajectory(weights, gradients, RATES, exclude_from_decay=["dense"], **common),
                twin.shampoo(weights, gradients, RATES, undecayed=["dense/kernel"], unadapted=["conv/bias"], **common))


def test_embeddings_go_along_their_gradient():
    generator = np.random.default_rng(7)
    weights = {"words/embeddings": generator.normal(size=(6, 3)).astype("float32")}
    gradients = [{"words/embeddings": generator.normal(size=(6, 3)).astype("float32")} for _ in range(2)]
    for step, given in zip(steps(weights, gradients), gradients, strict=True):
        np.testing.assert_allclose(step, given["words/embeddings"], atol=1e-5)
