"""Dense and Conv2D: Keras' own layers outside, and K-FAC's factors as brute force finds them inside a step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_hugebatch import layers, replica
from tf_hugebatch.keras_versions import native
from tf_hugebatch.layout import Layout
from tf_hugebatch.training.accumulate import micro_batch_sums

BATCH = 12


def view_of(weights):
    size = len(weights)
    return replica.View(
        layout=Layout(BATCH, size), positions=tf.range(size, dtype=tf.int64), weights=tf.constant(weights, tf.float32),
        update=tf.constant(0, tf.int64), seed=0, all_reduce_sum=lambda tensor: tensor)


def factors_of(model, images, labels, weights):
    """[(A, G) of each factored layer] of one micro-batch."""
    found = [layer for layer in model.layers if isinstance(layer, layers.FactoredLayer)]
    *_, factors = micro_batch_sums(model, view_of(weights), images, labels, 0.0, factored=found)
    return list(zip(factors[::2], factors[1::2]))


def gradient_of_one(model, image, label):
    """Of the loss of one example, by the trainable variables."""
    with tf.GradientTape() as tape:
        logits = model(image[np.newaxis], training=True)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[label], logits=logits)
    return [g.numpy() for g in tape.gradient(loss, [native(v) for v in model.trainable_variables])]


def test_the_fisher_of_a_dense_layer_by_brute_force():
    """Every input with every label, from zero weights: a and g are independent, so F = A (x) G with no error but rounding."""
    generator = np.random.default_rng(0)
    images = np.repeat(generator.normal(size=(4, 3)).astype("float32"), 3, axis=0)
    labels = np.tile(np.arange(3), 4).astype("int32")
    model = keras.Sequential([keras.Input((3,)), layers.Dense(3, kernel_initializer="zeros")])
    rows = []
    for image, label in zip(images, labels):
        kernel, bias = gradient_of_one(model, image, label)
        rows.append(np.vstack([kernel, bias]).ravel())
    fisher = np.array(rows).T @ np.array(rows) / BATCH
    [(a, g)] = factors_of(model, images, labels, np.ones(BATCH))
    np.testing.assert_allclose(np.kron(a, g), fisher, atol=1e-6)
    assert np.abs(fisher).max() > 0.1


@pytest.mark.parametrize("padding, strides, use_bias, activation, dilation", [
    ("same", 1, True, "tanh", 1), ("valid", 2, False, None, 1), ("same", 2, True, "relu", 1), ("valid", 1, True, "tanh", (2, 1))])
def test_the_factors_of_a_convolution_are_sums_over_examples_and_locations(padding, strides, use_bias, activation, dilation):
    """And over examples that count alone: the last two of the micro-batch do not."""
    generator = np.random.default_rng(1)
    images = generator.normal(size=(6, 5, 4, 2)).astype("float32")
    labels = np.array([0, 1, 2, 0, 1, 2], "int32")
    down, across = (dilation, dilation) if isinstance(dilation, int) else dilation
    convolution = layers.Conv2D(3, 3, strides, padding=padding, use_bias=use_bias, activation=activation, dilation_rate=dilation)
    model = keras.Sequential([keras.Input((5, 4, 2)), convolution, keras.layers.Flatten(), layers.Dense(3)])
    (a, g), (dense_a, dense_g) = factors_of(model, images, labels, [1, 1, 1, 1, 0, 0])

    if padding == "same":  # as TensorFlow pads: less before than after
        extra = [max((-(-n // strides) - 1) * strides + 3 - n, 0) for n in (5, 4)]
        padded = np.pad(images, [(0, 0), *((e // 2, e - e // 2) for e in extra), (0, 0)])
    else:
        padded = images
    kernel = native(convolution.kernel).numpy().reshape(-1, 3)
    expected_a, expected_g, dense_inputs, dense_outputs = 0.0, 0.0, 0.0, 0.0
    places = [(r, c) for r in range(0, padded.shape[1] - 2 * down, strides)
              for c in range(0, padded.shape[2] - 2 * across, strides)]
    for image, label in zip(padded[:4], labels[:4]):
        patches = np.array([image[r:r + 3 * down:down, c:c + 3 * across:across].ravel() for r, c in places])
        inputs = tf.Variable(patches @ kernel)
        with tf.GradientTape() as tape:
            seen = keras.activations.get(activation)(inputs + convolution.bias if use_bias else inputs)
            flat = tf.reshape(seen, [1, -1])
            logits = model.layers[-1](flat)
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[label], logits=logits)
        by_location, by_logits = (x.numpy() for x in tape.gradient(loss, [inputs, logits]))
        if use_bias:
            patches = np.hstack([patches, np.ones((len(patches), 1))])
        expected_a += patches.T @ patches / BATCH
        expected_g += by_location.T @ by_location / len(places) / BATCH
        row = np.append(flat.numpy().ravel(), 1.0)
        dense_inputs += np.outer(row, row) / BATCH
        dense_outputs += by_logits.T @ by_logits / BATCH
    for ours, theirs in ((a, expected_a), (g, expected_g), (dense_a, dense_inputs), (dense_g, dense_outputs)):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-6 * np.abs(theirs).max())


def test_a_layer_that_is_called_twice_has_two_locations():
    generator = np.random.default_rng(2)
    shared = layers.Dense(3, use_bias=False)
    inputs = keras.Input((3,))
    model = keras.Model(inputs, shared(keras.layers.Activation("tanh")(shared(inputs))))
    images, labels = generator.normal(size=(BATCH, 3)).astype("float32"), np.arange(BATCH, dtype="int32") % 3
    [(a, g)] = factors_of(model, images, labels, np.ones(BATCH))
    kernel = native(shared.kernel).numpy()
    hidden = np.tanh(images @ kernel)
    outputs = tf.nn.softmax(hidden @ kernel).numpy() - np.eye(3)[labels]
    inner = (outputs @ kernel.T) * (1 - hidden**2)
    np.testing.assert_allclose(a, (images.T @ images + hidden.T @ hidden) / BATCH, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(g, (outputs.T @ outputs + inner.T @ inner) / BATCH / 2, rtol=1e-4, atol=1e-6)


def test_calls_at_two_image_sizes_count_by_their_locations():
    generator = np.random.default_rng(4)
    shared, inputs = layers.Conv2D(2, 3, padding="same", use_bias=False), keras.Input((8, 8, 2))
    features = shared(keras.layers.AveragePooling2D(2)(shared(inputs)))
    model = keras.Model(inputs, layers.Dense(3)(keras.layers.Flatten()(features)))
    images, labels = generator.normal(size=(BATCH, 8, 8, 2)).astype("float32"), np.arange(BATCH, dtype="int32") % 3
    (_, g), _ = factors_of(model, images, labels, np.ones(BATCH))
    kernel = native(shared.kernel)
    with tf.GradientTape() as tape:
        large = tf.nn.conv2d(images, kernel, 1, "SAME")
        tape.watch(large)
        small = tf.nn.conv2d(tf.nn.avg_pool2d(large, 2, 2, "VALID"), kernel, 1, "SAME")
        tape.watch(small)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=labels, logits=model.layers[-1](tf.reshape(small, [BATCH, -1])))
    of_examples = [part.numpy().reshape(-1, 2) for part in tape.gradient(losses, [large, small])]
    rows = np.concatenate(of_examples)  # 64 + 16 locations of an example
    np.testing.assert_allclose(g, rows.T @ rows / 80 / BATCH, rtol=1e-4, atol=1e-8)


def test_a_layer_that_is_not_called_has_factors_of_zeros():
    called, aside = layers.Dense(3), layers.Dense(2)
    aside.build((None, 5))
    model = keras.Sequential([keras.Input((3,)), called])
    images, labels = np.ones((BATCH, 3), "float32"), np.zeros(BATCH, "int32")
    *_, factors = micro_batch_sums(model, view_of(np.ones(BATCH)), images, labels, 0.0, factored=[called, aside])
    assert [factor.shape.as_list() for factor in factors] == [[4, 4], [3, 3], [6, 6], [2, 2]]
    assert not np.any(factors[2]) and not np.any(factors[3]) and np.any(factors[0])


@pytest.mark.parametrize("ours, theirs, options, shape", [
    (layers.Dense, keras.layers.Dense, {"units": 4, "activation": "relu"}, (6,)),
    (layers.Dense, keras.layers.Dense, {"units": 4, "use_bias": False}, (3, 6)),
    (layers.Conv2D, keras.layers.Conv2D, {"filters": 4, "kernel_size": 3, "padding": "same", "activation": "tanh"}, (6, 6, 2)),
])
def test_it_is_keras_own_layer_seen_or_not(ours, theirs, options, shape, tmp_path):
    generator = np.random.default_rng(3)
    x = generator.normal(size=(5, *shape)).astype("float32")
    mine, other = (keras.Sequential([keras.Input(shape), kind(**options)]) for kind in (ours, theirs))
    mine.set_weights(other.get_weights())
    np.testing.assert_array_equal(mine(x), other(x))
    view = view_of(np.ones(5))
    view.calls = {}
    with replica.scope(view):
        np.testing.assert_allclose(mine(x), other(x), rtol=1e-5, atol=1e-6)
    [(inputs, outputs)] = view.calls[mine.layers[0]]
    np.testing.assert_array_equal(inputs, x)
    np.testing.assert_allclose(mine.layers[0].activation(outputs), other(x), rtol=1e-5, atol=1e-6)
    mine.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[0]) is ours
    np.testing.assert_array_equal(loaded(x), mine(x))
