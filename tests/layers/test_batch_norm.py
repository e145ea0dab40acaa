"""Ghost batch norm against separate batch norms, finite differences and itself."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference.small_runs import contract_examples, contract_model, run_updates

from tf_hugebatch import layers, replica
from tf_hugebatch.data.order import Stream
from tf_hugebatch.keras_versions import native
from tf_hugebatch.layout import Layout


def images(n, seed=0, channels=3):
    generator = np.random.default_rng(seed)
    # Far from zero mean and unit variance, differently for each channel and drifting over the batch.
    drift = np.linspace(0, 3, n)[:, None, None, None]
    return (generator.normal(size=(n, 4, 4, channels)) * [1, 3, 0.2] + [5, -2, 0.5] + drift).astype(np.float32)


def plain(x, epsilon=1e-5):
    mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    return (x - mean) / np.sqrt(variance + epsilon)


@pytest.mark.parametrize("n, span, sizes", [
    (64, 16, [16] * 4), (61, 16, [15, 15, 15, 16]), (7, 3, [2, 2, 3]), (5, 8, [5]),
])
def test_training_output_is_that_of_a_batch_norm_for_each_group(n, span, sizes):
    x = images(n)
    layer = layers.GhostBatchNormalization(span)
    y = layer(x, training=True).numpy()
    expected = np.concatenate([plain(part) for part in np.split(x, np.cumsum(sizes)[:-1])])
    np.testing.assert_allclose(y, expected, atol=2e-4)
    if len(sizes) > 1:
        assert np.abs(y - plain(x)).max() > 0.05


def test_a_mean_far_from_zero_leaves_the_variance_its_digits():
    # As a difference of means of squares it would have none left: 1e6 has an eighth between two float32.
    x = np.random.default_rng(0).normal(1000, 0.1, (7, 4, 4, 3)).astype(np.float32)
    layer = layers.GhostBatchNormalization(7, momentum=0.0)
    layer(x, training=True)
    np.testing.assert_allclose(layer.moving_variance.numpy(), x.astype(np.float64).var(axis=(0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize("mean", [0.0, 100.0, 3000.0])
def test_groups_across_replicas_keep_their_digits_as_groups_inside_do(mean, mirrored):
    """Mean over standard deviation from 0 to 3,000; 32 examples, groups of 16, four examples a replica and round."""
    x = np.random.default_rng(1).normal(mean, 1.0, (32, 2, 2, 3)).astype(np.float32)
    expected = np.concatenate([plain(part.astype(np.float64)) for part in np.split(x, 2)])
    strategy, layout = mirrored(4), Layout(32, 4, replicas=4, span=16)
    with strategy.scope():
        layer = layers.GhostBatchNormalization(16)
        layer.build((None, 2, 2, 3))
    found = np.zeros_like(x)

    def part(first):
        positions = tf.cast(first, tf.int64) + tf.range(4, dtype=tf.int64)
        view = replica.View(layout=layout, positions=positions, weights=tf.ones(4), update=tf.constant(0, tf.int64), seed=0,
                            all_reduce_sum=replica.collective_of(strategy))
        with replica.scope(view):
            return layer(tf.gather(x, positions), training=True)

    for round_ in range(2):
        firsts = strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(16 * round_ + 4 * context.replica_id_in_sync_group))
        outputs = strategy.experimental_local_results(tf.function(lambda f: strategy.run(part, (f,)))(firsts))
        found[16 * round_:16 * (round_ + 1)] = np.concatenate([output.numpy() for output in outputs])
    # Where float32 ends: x itself is rounded to mean * 6e-8, and gamma x + (beta - gamma mean) once more.
    np.testing.assert_allclose(found, expected, atol=2e-6 + 4e-7 * mean)


def test_moving_statistics_are_count_weighted_over_groups_and_used_at_inference():
    x = images(7)
    layer = layers.GhostBatchNormalization(3, momentum=0.9)
    layer(x, training=True)
    parts = np.split(x, [2, 4])
    mean = sum(len(part) * part.mean(axis=(0, 1, 2)) for part in parts) / 7
    variance = sum(len(part) * part.var(axis=(0, 1, 2)) for part in parts) / 7
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 + 0.1 * variance, rtol=1e-4)
    expected = (x - layer.moving_mean.numpy()) / np.sqrt(layer.moving_variance.numpy() + 1e-5)
    np.testing.assert_allclose(layer(x, training=False).numpy(), expected, rtol=1e-4)


def test_a_step_moves_the_statistics_once_an_update_whatever_the_number_of_micro_batches(mirrored):
    one = tf.distribute.OneDeviceStrategy("CPU:0")
    runs = [run_updates(one, batch=64, micro=micro, span=16, updates=1) for micro in (64, 16)]
    assert [run.layout.rounds for run in runs] == [1, 4]
    for path, moving in runs[0].moving.items():
        np.testing.assert_allclose(moving, runs[1].moving[path], atol=1e-6)
        if "variance" in path:
            assert (moving >= 0.9).all()  # one update at momentum 0.9; four would leave 0.66 of the initial 1


def test_gradient_through_a_group_that_crosses_replicas_matches_finite_differences(mirrored):
    strategy = mirrored(2)
    x = images(6).astype(np.float64)[:, :1, :1]
    target = np.random.default_rng(1).normal(size=x.shape)
    layout = Layout(6, 3, 2, 6)
    with strategy.scope():
        layer = layers.GhostBatchNormalization(6)
        layer.build((None, 1, 1, 3))

    @tf.function
    def gradients(values, target):
        def on_replica():
            context = tf.distribute.get_replica_context()
            first = 3 * context.replica_id_in_sync_group
            mine = tf.cast(values[first:first + 3], tf.float32)
            view = replica.View(
                layout=layout, positions=tf.range(3, dtype=tf.int64) + tf.cast(first, tf.int64), weights=tf.ones([3]),
                update=tf.constant(0, tf.int64), seed=0,
                all_reduce_sum=replica.collective_of(strategy),
            )
            with replica.scope(view), tf.GradientTape() as tape:
                tape.watch(mine)
                weight = tf.cast(target[first:first + 3], tf.float32)
                loss = tf.reduce_sum(layer(mine, training=True) * weight)
            return tape.gradient(loss, mine)

        return strategy.experimental_local_results(strategy.run(on_replica))

    def loss(values):
        return float((plain(values) * target).sum())

    found = np.concatenate([part.numpy() for part in gradients(tf.constant(x), tf.constant(target))])
    for index in np.ndindex(x.shape):
        shifted = [x.copy(), x.copy()]
        shifted[0][index] += 1e-5
        shifted[1][index] -= 1e-5
        assert found[index] == pytest.approx((loss(shifted[0]) - loss(shifted[1])) / 2e-5, abs=2e-3)


def test_padding_leaves_output_of_real_examples_and_statistics_alone():
    x = images(8)
    garbage = x.copy()
    garbage[6:] = 1e6

    def run(values):
        layer = layers.GhostBatchNormalization(6, name="norm")
        view = replica.View(
            layout=Layout(6, 8, 1, 6), positions=tf.range(8, dtype=tf.int64),
            weights=tf.constant([1.0] * 6 + [0.0] * 2),
            update=tf.constant(0, tf.int64), seed=0, all_reduce_sum=lambda t: t,
        )
        with replica.scope(view):
            y = layer(values, training=True).numpy()
        return y[:6], view.statistics[layer][0].numpy()

    outputs, statistics = zip(run(x), run(garbage))
    np.testing.assert_array_equal(*outputs)
    np.testing.assert_array_equal(*statistics)
    np.testing.assert_allclose(outputs[0], plain(x[:6]), atol=2e-4)


@pytest.mark.parametrize("real", [16, 12])
def test_a_step_that_is_one_program_computes_what_kernels_of_groups_compute(real):
    """Outputs, statistics and gradients; 12: the last of four groups is padding."""
    x, layout = np.random.default_rng(0).normal(2.0, 1.0, (16, 4, 4, 3)).astype(np.float32), Layout(real, 16, 1, 4)

    def run(one_program):
        layer = layers.GhostBatchNormalization(4)
        view = replica.View(
            layout=layout, positions=tf.range(16, dtype=tf.int64), weights=tf.cast(tf.range(16) < real, tf.float32),
            update=tf.constant(0, tf.int64), seed=0, all_reduce_sum=lambda t: t, one_program=one_program,
        )
        with replica.scope(view), tf.GradientTape() as tape:
            values = tf.constant(x)
            tape.watch(values)
            y = layer(values, training=True)[:real]
            loss = tf.reduce_sum(tf.sin(y))
        gradients = tape.gradient(loss, [values, *map(native, layer.trainable_variables)])
        return [y.numpy(), view.statistics[layer][0].numpy(), *(one.numpy() for one in gradients)]

    for kernels, sums in zip(run(False), run(True)):
        np.testing.assert_allclose(sums, kernels, rtol=1e-5, atol=1e-5)


def test_works_under_plain_fit_and_survives_a_save(tmp_path):
    model = keras.Sequential([keras.Input((4, 4, 3)), layers.GhostBatchNormalization(4, gamma_initializer="zeros"),
                              keras.layers.Flatten(), keras.layers.Dense(2)])
    model.compile("sgd", loss="mse")
    x = images(10)
    model.fit(x, np.zeros((10, 2)), batch_size=10, epochs=2, verbose=0)
    assert np.abs(model.layers[0].moving_mean.numpy()).min() > 0
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    assert again.layers[0].get_config() == model.layers[0].get_config()


def test_a_frozen_layer_uses_its_moving_statistics_and_leaves_them():
    layer = layers.GhostBatchNormalization(4)
    model = keras.Sequential([keras.Input((4, 4, 3)), layer, keras.layers.Flatten(), keras.layers.Dense(2)])
    layer.trainable = False
    model.compile("sgd", loss="mse")
    x = images(10)
    model.fit(x, np.zeros((10, 2)), epochs=2, verbose=0)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), np.zeros(3))
    np.testing.assert_array_equal(layer(x, training=True), layer(x, training=False))
    layer.trainable = True
    layer(x, training=True)
    assert np.abs(layer.moving_mean.numpy()).min() > 0


def test_statistics_stay_float32_under_mixed_precision():
    layer = layers.GhostBatchNormalization(8, dtype="mixed_bfloat16")
    x = images(8)
    y = layer(x, training=True)
    assert y.dtype == tf.bfloat16 and layer.moving_mean.dtype == "float32" and layer.gamma.dtype == "float32"
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * x.mean(axis=(0, 1, 2)), rtol=0.01)


@pytest.mark.parametrize("size", [8, 12])
def test_statistics_of_bfloat16_activations_are_summed_in_float32(size):
    """Against NumPy's float64 on the same bfloat16 values, in a step, on both of its paths (12: groups of no slice).

    A sum in bfloat16 would stop growing after a few hundred terms; rounded to it, it would be off by up to 0.4%.
    """
    generator = np.random.default_rng(0)
    x = tf.cast(generator.normal(3.0, 1.0, (size, 16, 16, 3)), tf.bfloat16)
    layer = layers.GhostBatchNormalization(8, dtype="mixed_bfloat16")
    layout = Layout(16 if size == 8 else 12, size, 1, 8)
    view = replica.View(
        layout=layout, positions=tf.range(size, dtype=tf.int64), weights=tf.ones([size]),
        update=tf.constant(0, tf.int64), seed=0, all_reduce_sum=lambda t: t,
    )
    with replica.scope(view):
        assert layer(x, training=True).dtype == tf.bfloat16
    values, groups = x.numpy().astype(np.float64), ([8] if size == 8 else [6, 6])
    parts = np.split(values, np.cumsum(groups)[:-1])
    expected = [sum(count * part.mean(axis=(0, 1, 2)) for count, part in zip(groups, parts)),
                sum(count * part.var(axis=(0, 1, 2)) for count, part in zip(groups, parts))]
    np.testing.assert_allclose(view.statistics[layer][0].numpy(), expected, rtol=2e-5)


@pytest.mark.parametrize("arguments, words", [
    ({"span": 0}, "span=0"), ({"span": 2.5}, "span=2.5"), ({"span": "full"}, "span='full'"), ({"span": True}, "span=True"),
    ({"span": 4, "momentum": 1.5}, "momentum=1.5"), ({"span": 4, "momentum": "0.9"}, "momentum='0.9'"),
    ({"span": 4, "epsilon": -1.0}, "epsilon=-1.0"), ({"span": 4, "epsilon": "a"}, "epsilon='a'")])
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        layers.GhostBatchNormalization(**arguments)


def test_a_layer_of_another_span_than_the_layout_is_refused():
    with pytest.raises(ValueError, match="span=16.*span=8"):
        run_updates(tf.distribute.OneDeviceStrategy("CPU:0"), batch=16, micro=16, span=8,
                    model=lambda: contract_model(16))


class Block(keras.layers.Layer):
    """A layer that holds a batch norm of its own, and calls it twice."""

    def __init__(self):
        super().__init__(name="block")
        self.norm = layers.GhostBatchNormalization(8, name="inner")

    def build(self, shape):
        self.norm.build(shape)

    def call(self, x, training=False):
        self.norm(3.0 * x, training=training)
        return self.norm(x, training=training)


def test_a_batch_norm_inside_a_layer_that_calls_it_twice_moves_by_the_mean_of_the_calls():
    def model():
        return keras.Sequential([keras.Input((8, 8, 1)), Block(), keras.layers.Flatten(),
                                 keras.layers.Dense(10, kernel_initializer="zeros")])

    one = tf.distribute.OneDeviceStrategy("CPU:0")
    run = run_updates(one, batch=8, micro=8, span=8, updates=1, model=model)
    ids, _ = Stream(0, 96).examples(0, 8)
    x = contract_examples().images[ids] / 255.0
    norm = run.model.layers[0].norm
    np.testing.assert_allclose(norm.moving_mean.numpy(), 0.1 * 2 * x.mean(), rtol=1e-4)
    np.testing.assert_allclose(norm.moving_variance.numpy(), 0.9 + 0.1 * (x.var() + (3 * x).var()) / 2, rtol=1e-4)


@pytest.mark.parametrize("examples", [34, pytest.param(41, marks=pytest.mark.slow)])
def test_replicas_without_examples_of_the_last_batch_make_nothing_infinite(examples, mirrored):
    # 34 over batches of 32 on 4 replicas: one, one, none and none.
    x = images(examples)
    with mirrored(4).scope():
        model = keras.Sequential([keras.Input((4, 4, 3)), layers.GhostBatchNormalization(8), keras.layers.Flatten(),
                                  keras.layers.Dense(2)])
        model.compile("sgd", loss="mse")
    model.fit(x, np.zeros((examples, 2)), batch_size=32, epochs=2, verbose=0, shuffle=False)
    for statistic in (model.layers[0].moving_mean, model.layers[0].moving_variance):
        assert np.isfinite(statistic.numpy()).all()
    assert np.isfinite(model.evaluate(x, np.zeros((examples, 2)), verbose=0))


def test_a_batch_without_examples_leaves_the_moving_statistics():
    layer = layers.GhostBatchNormalization(8)
    layer.build((None, 4, 4, 3))
    layer.moving_mean.assign([1.0, 2.0, 3.0])
    before = [layer.moving_mean.numpy(), layer.moving_variance.numpy()]
    assert layer(tf.zeros([0, 4, 4, 3]), training=True).shape == (0, 4, 4, 3)
    for old, new in zip(before, (layer.moving_mean, layer.moving_variance)):
        np.testing.assert_array_equal(new.numpy(), old)
