"""Dropout keyed by position: slices of one mask, the right share of units, no correlation between keys."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_hugebatch import layers, replica
from tf_hugebatch.layers.dropout import position_hash
from tf_hugebatch.layout import Layout


def masked(positions, *, rate=0.4, units=256, seed=0, update=0, calls_before=0):
    layer = layers.Dropout(rate)
    n = len(positions)
    view = replica.View(layout=Layout(n, n), positions=tf.constant(positions, tf.int64), weights=tf.ones([n]),
                        update=tf.constant(update, tf.int64), seed=seed, all_reduce_sum=lambda t: t)
    with replica.scope(view):
        for _ in range(calls_before):
            layer(tf.ones([n, units]), training=True)
        return layer(tf.ones([n, units]), training=True).numpy()


def test_the_mask_of_a_slice_is_the_slice_of_the_mask():
    whole = masked(range(64))
    np.testing.assert_array_equal(np.concatenate([masked(range(i, i + 16)) for i in range(0, 64, 16)]), whole)
    np.testing.assert_array_equal(masked([63, 5]), whole[[63, 5]])


@pytest.mark.parametrize("rate", [0.1, 0.4, 0.9])
def test_the_share_dropped_is_the_rate_and_the_rest_is_scaled(rate):
    values = masked(range(400), rate=rate, units=500)
    dropped = (values == 0).mean()
    # Five standard deviations of a binomial share over 200,000 units.
    assert abs(dropped - rate) < 5 * np.sqrt(rate * (1 - rate) / values.size)
    np.testing.assert_allclose(values[values != 0], 1 / (1 - rate), rtol=1e-6)
    # No unit and no example is special.
    assert abs((values == 0).mean(axis=0) - rate).max() < 6 * np.sqrt(rate * (1 - rate) / 400)
    assert abs((values == 0).mean(axis=1) - rate).max() < 6 * np.sqrt(rate * (1 - rate) / 500)


@pytest.mark.parametrize("change", [{"seed": 1}, {"update": 1}, {"calls_before": 1}, {"seed": 2**32 - 1}])
def test_another_key_is_another_independent_mask(change):
    one, other = masked(range(200), rate=0.5) == 0, masked(range(200), rate=0.5, **change) == 0
    assert abs((one & other).mean() - 0.25) < 0.01


def test_two_layers_of_one_model_drop_different_units():
    model = keras.Sequential([keras.Input((300,)), layers.Dropout(0.5), layers.Dropout(0.5)])
    n = 20
    view = replica.View(layout=Layout(n, n), positions=tf.range(n, dtype=tf.int64), weights=tf.ones([n]),
                        update=tf.constant(0, tf.int64), seed=0, all_reduce_sum=lambda t: t)
    with replica.scope(view):
        kept = model(tf.ones([n, 300]), training=True).numpy() != 0
    assert abs(kept.mean() - 0.25) < 0.03


def test_positions_beyond_32_bits_of_examples_and_neighbours_are_uncorrelated():
    bits = position_hash(0, tf.constant(3, tf.int64), tf.range(1000, dtype=tf.int64), 0, 64).numpy()
    uniform = bits.astype(np.float64) / 2**32
    assert abs(uniform.mean() - 0.5) < 0.01 and abs(uniform.var() - 1 / 12) < 0.005
    assert abs(np.corrcoef(uniform[:-1].ravel(), uniform[1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(uniform[:, :-1].ravel(), uniform[:, 1:].ravel())[0, 1]) < 0.02


def test_inference_is_the_identity_and_fit_falls_back_on_keras():
    layer = layers.Dropout(0.5)
    x = np.ones((50, 40), np.float32)
    np.testing.assert_array_equal(layer(x, training=False), x)
    outside = layer(x, training=True).numpy()
    assert 0.4 < (outside == 0).mean() < 0.6
    assert (outside != layer(x, training=True).numpy()).any()


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "float16", "float64"])
def test_its_own_dtype_holds_in_training_too(dtype):
    layer = layers.Dropout(0.5, dtype=dtype)
    x = tf.ones((2, 3))
    assert layer(x, training=True).dtype == layer(x, training=False).dtype == layer.compute_dtype


@pytest.mark.parametrize("make, argument", [(layers.Dropout, 0.5), (layers.ActivationNoise, 0.1),
                                            (layers.GhostBatchNormalization, 2)])
def test_a_mask_is_passed_on(make, argument):
    layer = make(argument)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Embedding(5, 3, mask_zero=True), layer, keras.layers.LSTM(2)])
    words = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Keras warns of a mask that is lost
        states = model(words)
    # What the mask hides does not count: a shorter sentence ends in the same state.
    np.testing.assert_allclose(states[1:], model(words[1:, :1]), rtol=1e-5)


def test_survives_a_save_and_refuses_a_bad_rate(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dropout(0.3, name="drop")])
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras").layers[0]
    assert (again.rate, again.name) == (0.3, "drop")
    with pytest.raises(ValueError, match="rate=1.0"):
        layers.Dropout(1.0)


def test_the_second_call_of_a_seed_is_not_the_first_of_the_next_seed():
    one, other = masked(range(200), rate=0.5, calls_before=1) == 0, masked(range(200), rate=0.5, seed=1) == 0
    assert abs((one & other).mean() - 0.25) < 0.01
