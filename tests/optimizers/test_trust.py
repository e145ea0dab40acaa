"""Norms, clipping, trust ratios and bounds: properties of the pure functions."""

import numpy as np
import pytest
import tensorflow as tf

from tf_hugebatch.optimizers import norms, trust


def tensors(scale=1.0):
    generator = np.random.default_rng(0)
    return [tf.constant(scale * generator.normal(size=shape), tf.float32) for shape in ((3, 4), (5,), ())]


def test_norms_equal_numpy():
    values = tensors()
    for value in values:
        np.testing.assert_allclose(norms.norm(value), np.linalg.norm(value.numpy()), rtol=1e-6)
    joined = np.concatenate([value.numpy().reshape(-1) for value in values])
    np.testing.assert_allclose(norms.combined([norms.norm(value) for value in values]), np.linalg.norm(joined), rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (3,), (5000,), (4096, 2), (3, 3, 64, 65), (70001,)])
def test_norm_under_xla_equals_numpy(shape):
    """Whether it can be cut into rows, with a rest, or not at all; and no element is counted twice or left out."""
    value = np.random.default_rng(1).normal(size=shape).astype("float32")
    compiled = tf.function(norms.norm, jit_compile=True)
    np.testing.assert_allclose(compiled(value), np.linalg.norm(value.astype(float)), rtol=1e-6)


def test_the_sum_of_rows_takes_in_every_element():
    for length in (1, norms.SHORT - 1, norms.SHORT, norms.SHORT + 1, norms.SHORT + 255, 4 * norms.SHORT + 4 * 7, 2200001):
        assert int(norms.sum_of_rows(tf.ones([length]))) == length


def test_a_long_norm_of_equal_elements_is_exact_under_xla():
    """Rounding goes one way where all elements are alike: a single chain of additions would be 6e-5 off."""
    value = np.full((3, 3, 512, 512), 0.1, "float32")
    compiled = tf.function(norms.norm, jit_compile=True)
    np.testing.assert_allclose(compiled(value), np.linalg.norm(value.astype(float).ravel()), rtol=1e-6)


def test_only_what_xla_compiles_is_cut_into_rows(monkeypatch):
    calls = []
    monkeypatch.setattr(norms, "sum_of_rows", lambda values: calls.append(values) or tf.reduce_sum(values))
    value = tf.ones([5000])
    for function in (norms.norm, tf.function(norms.norm)):
        assert float(function(value)) == pytest.approx(5000 ** 0.5) and not calls
    # Inside a branch too, which is a graph of its own: apply_reduced updates inside one.
    branching = tf.function(lambda x: tf.cond(x[0] > 0, lambda: norms.norm(x), lambda: 0.0), jit_compile=True)
    assert float(branching(value)) == pytest.approx(5000 ** 0.5) and len(calls) == 1


def test_a_nan_reaches_the_norm_under_xla():
    value = np.ones(9001, "float32")
    for place in (0, 5000, 9000):
        bad = value.copy()
        bad[place] = np.nan
        assert np.isnan(tf.function(norms.norm, jit_compile=True)(bad))


def test_norm_is_taken_in_float32():
    halves = tf.fill([4096], tf.constant(0.01, tf.bfloat16))
    assert norms.norm(halves).dtype == tf.float32
    np.testing.assert_allclose(norms.norm(halves), 64 * float(halves[0]), rtol=1e-5)


def test_norm_of_zeros_is_zero():
    assert float(norms.norm(tf.zeros([3]))) == 0.0
    assert float(norms.combined([norms.norm(tf.zeros([3])), norms.norm(tf.zeros([]))])) == 0.0


def clipped(tensors, maximum):
    return norms.clip_by_global_norm(tensors, [norms.norm(tensor) for tensor in tensors], maximum)[0]


def test_clipping_bounds_keeps_the_direction_and_is_idempotent():
    once = clipped(tensors(10.0), 2.0)
    np.testing.assert_allclose(norms.combined([norms.norm(value) for value in once]), 2.0, rtol=1e-6)
    for shorter, value in zip(once, tensors(10.0)):
        np.testing.assert_allclose(shorter / norms.norm(shorter), value / norms.norm(value), rtol=1e-5)
    for twice, shorter in zip(clipped(once, 2.0), once):
        np.testing.assert_allclose(twice, shorter, rtol=1e-6)


def test_clipping_returns_the_new_norms():
    values = tensors(10.0)
    shorter, lengths = norms.clip_by_global_norm(values, [norms.norm(value) for value in values], 2.0)
    np.testing.assert_allclose(lengths, [norms.norm(value) for value in shorter], rtol=1e-5)


def test_clipping_leaves_what_is_within_and_zero_alone():
    for value, kept in zip(tensors(), clipped(tensors(), 100.0)):
        np.testing.assert_array_equal(value, kept)
    np.testing.assert_array_equal(clipped([tf.zeros([2])], 1.0)[0], np.zeros(2))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_clipping_does_not_hide_a_bad_gradient(bad):
    assert np.isnan(clipped([tf.constant([1.0, bad]), tf.constant([2.0])], 1.0)[0][1])


def scalars(*values):
    return [tf.constant(value, tf.float32) for value in values]


def test_ratios_are_their_equations():
    w, g = scalars(3.0, 2.0)
    np.testing.assert_allclose(trust.joint_trust_ratio(w, g, 0.5, 0.25), 0.5 * 3.0 / 2.25)
    np.testing.assert_allclose(trust.sum_trust_ratio(w, g, 0.1, 0.5, 0.25), 0.5 * 3.0 / (2.0 + 0.3 + 0.25))
    np.testing.assert_allclose(trust.joint_trust_ratio(w, g, weight_norm_bounds=(0.0, 1.0)), 0.5)
    np.testing.assert_allclose(trust.joint_trust_ratio(w, g, weight_norm_bounds=(10.0, 20.0)), 5.0)


@pytest.mark.parametrize("w, g", [(0.0, 2.0), (3.0, 0.0), (0.0, 0.0)])
def test_a_zero_norm_gives_one(w, g):
    w, g = scalars(w, g)
    assert float(trust.joint_trust_ratio(w, g, 0.001)) == 1.0
    assert float(trust.joint_trust_ratio(w, g, 0.001, 1e-6)) == 1.0
    assert float(trust.joint_trust_ratio(w, g, weight_norm_bounds=(0.5, 2.0))) == 1.0
    assert float(trust.sum_trust_ratio(w, g, 0.1, 0.001)) == 1.0
    assert float(trust.sum_trust_ratio(w, g, 0.1, 0.001, 1e-6)) == 1.0


def test_sum_ratio_never_exceeds_the_joint_one():
    generator = np.random.default_rng(0)
    for _ in range(20):
        w, g = generator.normal(size=8), generator.normal(size=8)
        whole = scalars(np.linalg.norm(w), np.linalg.norm(g), np.linalg.norm(g + 0.3 * w))
        smaller = trust.sum_trust_ratio(whole[0], whole[1], 0.3)
        assert smaller <= trust.joint_trust_ratio(whole[0], whole[2]) + 1e-6


def test_bounds_hold_and_leave_the_inside_alone():
    values = [float(trust.bound(value, 0.1, 2.0)) for value in scalars(0.0, 0.1, 0.7, 2.0, 1e9)]
    np.testing.assert_allclose(values, [0.1, 0.1, 0.7, 2.0, 2.0], rtol=1e-6)


def test_adabound_bounds_tighten_from_almost_none_to_the_given_ones():
    pairs = np.array([[float(x) for x in trust.adabound_bounds(0.5, 2.0, 0.01, t)]
                      for t in scalars(1.0, 10.0, 100.0, 1e4, 1e7)])
    np.testing.assert_allclose(pairs[0], [0.5 * (1 - 1 / 1.01), 2.0 * 101], rtol=1e-4)
    np.testing.assert_allclose(pairs[-1], [0.5, 2.0], rtol=1e-4)
    assert (np.diff(pairs[:, 0]) > 0).all() and (np.diff(pairs[:, 1]) < 0).all()


def test_larc_clip_is_the_smaller_of_ratio_and_rate():
    for ratio, rate in ((0.5, 2.0), (3.0, 2.0), (3.0, 0.1)):
        clipped = trust.larc_clip(*scalars(ratio, rate))
        np.testing.assert_allclose(rate * clipped, min(ratio, rate), rtol=1e-6)
    assert float(trust.larc_clip(*scalars(0.5, 0.0))) == 1.0
