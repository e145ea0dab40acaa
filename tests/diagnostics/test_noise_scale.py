"""The noise scale's estimators: unbiased on gradients of known covariance, whatever the sizes of the groups."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference.small_runs import CLASSES, contract_examples, run_updates

from tf_hugebatch import optimizers
from tf_hugebatch.data.order import epoch_permutation
from tf_hugebatch.diagnostics.noise_scale import NoiseScale, estimate
from tf_hugebatch.keras_versions import native
from tf_hugebatch.layout import Layout
from tf_hugebatch.training.step import METRICS

TRUE_GRADIENT, SPREAD = np.array([0.3, -0.2, 0.1]), np.diag([1.0, 2.0, 0.5])


def estimates(sizes, draws=4000, seed=0):
    """(|G|^2, tr(Sigma)) estimated from `draws` batches of normal gradients cut into groups of `sizes`."""
    generator = np.random.default_rng(seed)
    gradients = TRUE_GRADIENT + generator.normal(size=(draws, sum(sizes), 3)) @ np.linalg.cholesky(SPREAD).T
    ends = np.cumsum(sizes)
    sums = np.stack([gradients[:, end - size:end].sum(1) for size, end in zip(sizes, ends)], 1)
    return estimate((sums.sum(1) ** 2).sum(-1), (sums ** 2).sum((1, 2)), sum(sizes), sum(size ** 2 for size in sizes))


@pytest.mark.parametrize("sizes", [(8, 8), (4,) * 8, (16, 3), (1, 2, 3, 10)])
def test_both_parts_are_unbiased(sizes):
    power, variance = estimates(sizes)
    for found, true in ((power, TRUE_GRADIENT @ TRUE_GRADIENT), (variance, np.trace(SPREAD))):
        error = found.std() / np.sqrt(len(found))
        assert abs(found.mean() - true) < 4 * error < 0.2 * true


def test_equal_groups_give_mccandlish_s_estimators():
    # Appendix A.1 of McCandlish et al. 2018, in means over B_big and B_small examples.
    generator = np.random.default_rng(1)
    gradients = generator.normal(size=(32, 5)) + 0.4
    small, big = 8, 32
    power_small = np.mean([(gradients[i:i + small].mean(0) ** 2).sum() for i in range(0, big, small)])
    power_big = (gradients.mean(0) ** 2).sum()
    power = (big * power_big - small * power_small) / (big - small)
    variance = (power_small - power_big) / (1 / small - 1 / big)
    sums = gradients.reshape(4, small, 5).sum(1)
    found = estimate((sums.sum(0) ** 2).sum(), (sums ** 2).sum(), big, 4 * small ** 2)
    np.testing.assert_allclose(found, (power, variance), rtol=1e-12)


@pytest.mark.parametrize("layout, refused", [
    (Layout(64, 8, replicas=2, span=16), "batch-norm groups of 16 lie across replicas.*--micro_batch_size of at least 16"),
    (Layout(64, 16, replicas=2, span=16), None), (Layout(64, 8, replicas=2), None)])
def test_micro_batches_that_share_batch_statistics_are_not_taken_for_independent(layout, refused):
    model = linear()
    optimizer = optimizers.get("sgd", learning_rate=0.1)
    if refused is None:
        assert NoiseScale(model=model, optimizer=optimizer, layout=layout).layout == layout
    else:
        with pytest.raises(ValueError, match=refused):
            NoiseScale(model=model, optimizer=optimizer, layout=layout)


def linear():
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
                             keras.layers.Dense(CLASSES, name="logits", kernel_initializer=keras.initializers.GlorotUniform(3))])


@pytest.mark.parametrize("batch, micro", [(90, 20), (96, 1)])
def test_the_step_s_numbers_are_those_of_its_examples_gradients(batch, micro):
    # 90 in twenties leaves a last one of ten, and padding. A batch of every example needs no order.
    examples = contract_examples(batch)
    run = run_updates(tf.distribute.OneDeviceStrategy("CPU:0"), batch=batch, micro=micro, span=None, updates=1, model=linear,
                      examples=examples, optimizer="sgd", label_smoothing=0.0, measured=("noise_scale",))
    model, order = linear(), epoch_permutation(0, 0, batch)
    variables = [native(variable) for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=examples.labels[order], logits=model(examples.images[order].astype(np.float32) / 255.0))
    each = np.concatenate([part.numpy().reshape(batch, -1) for part in tape.jacobian(losses, variables)], 1).astype(float)
    sums = [each[i:i + micro].sum(0) for i in range(0, batch, micro)]
    power, variance = estimate((each.sum(0) ** 2).sum(), sum((part ** 2).sum() for part in sums), batch,
                               sum(len(each[i:i + micro]) ** 2 for i in range(0, batch, micro)))
    [row] = run.rows
    found = dict(zip([*METRICS, "gradient_power", "gradient_variance", "noise_scale"], row))
    assert found["gradient_power"] == pytest.approx(power, rel=1e-4)
    assert found["gradient_variance"] == pytest.approx(variance, rel=1e-4)
    assert found["noise_scale"] == pytest.approx(variance / power, rel=1e-3)
