"""Evaluation: every example exactly once, at its own batch size, equal to NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_hugebatch.data.padding import evaluation_batches
from tf_hugebatch.data.splits import Examples
from tf_hugebatch.training.evaluate import Evaluation

N = 37


def examples(classes=10, n=N):
    generator = np.random.default_rng(5)
    return Examples(generator.integers(0, 256, (n, 6, 6, 1), dtype=np.uint8),
                    generator.integers(0, classes, n, dtype=np.int32))


class NothingForBrightCorners(keras.layers.Layer):
    """NaN logits where the first pixel is above one half."""

    def call(self, images, logits):
        return tf.where(images[:, 0, 0, :] > 0.5, np.nan, logits)


def model_of(kernel, broken=False):
    inputs = keras.Input((6, 6, 1))
    dense = keras.layers.Dense(kernel.shape[1], use_bias=False)
    logits = dense(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, NothingForBrightCorners()(inputs, logits) if broken else logits)
    dense.set_weights([kernel])
    return model


def kernel(classes=10):
    return np.random.default_rng(6).normal(size=(36, classes)).astype(np.float32)


def by_numpy(data, weights, broken=False):
    """accuracy, top5 and loss in float64; an example with NaN logits is wrong."""
    images = data.images.astype(np.float64) / 255.0
    logits = images.reshape(len(images), -1) @ weights
    rows = np.arange(len(images))
    ok = images[:, 0, 0, 0] <= 0.5 if broken else np.ones(len(images), bool)
    better = (logits > logits[rows, data.labels][:, np.newaxis]).sum(axis=1)
    log_sum = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1)
    return {"accuracy": np.mean((better == 0) & ok), "top5": np.mean((better < 5) & ok),
            "loss": np.mean(log_sum - logits[rows, data.labels])}


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 7, N, 100])
def test_any_batch_size_gives_numpys_numbers(batch_size, replicas, mirrored):
    strategy = tf.distribute.OneDeviceStrategy("CPU:0") if replicas == 1 else mirrored(replicas)
    with strategy.scope():
        model = model_of(kernel())
    evaluation = Evaluation(strategy, model, examples(), batch_size)
    expected = by_numpy(examples(), kernel())
    assert 0 < expected["accuracy"] < expected["top5"] < 1
    assert evaluation() == pytest.approx(expected, rel=1e-6)
    if batch_size == 7:  # again, with other weights: nothing is kept from the first time
        model.set_weights([-kernel()])
        assert evaluation() == pytest.approx(by_numpy(examples(), -kernel()), rel=1e-6)


@pytest.mark.parametrize("size, replicas",
                         [(1, 1), (7, 1), (37, 1), (40, 1), (1, 3), (5, 3), (13, 3), (64, 2)])
def test_every_example_lies_in_exactly_one_slot(size, replicas):
    data = examples()
    dataset, rounds = evaluation_batches(data, size, replicas), -(-N // (size * replicas))
    batches = list(dataset.as_numpy_iterator())
    assert len(batches) == rounds * replicas
    assert all(len(batch["label"]) == size for batch in batches)
    together = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    real = together["weight"] == 1
    assert (together["weight"][~real] == 0).all() and real.sum() == N
    assert (together["position"][real] == np.arange(N)).all()
    assert (together["label"][real] == data.labels).all()
    assert (together["image"][real] == data.images.astype(np.float32) / 255.0).all()


def test_outputs_that_are_not_finite_are_wrong():
    data = examples()
    data.labels[data.images[:, 0, 0, 0] > 127] = 0  # what argmax makes of NaN
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    result = Evaluation(strategy, model_of(kernel(), broken=True), data, 10)()
    expected = by_numpy(data, kernel(), broken=True)
    assert 0 < expected["accuracy"]
    assert result["accuracy"] == pytest.approx(expected["accuracy"])
    assert result["top5"] == pytest.approx(expected["top5"])
    assert np.isnan(result["loss"])


def test_top5_of_five_classes_says_nothing_and_is_left_out():
    data = examples(classes=5)
    result = Evaluation(tf.distribute.OneDeviceStrategy("CPU:0"), model_of(kernel(5)), data, 10)()
    expected = by_numpy(data, kernel(5))
    assert result == pytest.approx({"accuracy": expected["accuracy"], "loss": expected["loss"]}, rel=1e-6)


def test_ties_are_broken_as_argmax_breaks_them():
    """A network that says the same of every class has the first five right, not all of them."""
    n = 40
    everything = Examples(np.zeros((n, 2, 2, 1), np.uint8), np.arange(n, dtype=np.int32) % 20)
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(),
                              keras.layers.Dense(20, kernel_initializer="zeros")])
    result = Evaluation(tf.distribute.OneDeviceStrategy("CPU:0"), model, everything, 7)()
    assert result["accuracy"] == pytest.approx(1 / 20) and result["top5"] == pytest.approx(5 / 20)
