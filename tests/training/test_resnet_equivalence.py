"""Batch equivalence on the real network: a ResNet-18 at 32 pixels, groups inside and across replicas, uneven ones too."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference.small_runs import largest_difference, run_updates

from tf_hugebatch.data.splits import Examples
from tf_hugebatch.layers import GhostBatchNormalization
from tf_hugebatch.models.resnet import resnet

CLASSES = 10


def examples(n=96):
    generator = np.random.default_rng(0)
    return Examples(generator.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8),
                    generator.integers(0, CLASSES, n, dtype=np.int32))


def run(strategy, batch, micro, span):
    """Three updates of momentum SGD. At this rate they change the loss by some percent: what differs between layouts
    is rounding and not what a large step makes of it."""

    def model():
        return resnet(depth=18, image_shape=(32, 32, 3), classes=CLASSES, normalization=functools.partial(GhostBatchNormalization, span))

    return run_updates(strategy, batch=batch, micro=micro, span=span, updates=3, optimizer="sgd",
                       optimizer_arguments={"learning_rate": 0.01, "momentum": 0.9}, examples=examples(), model=model)


def one():
    return tf.distribute.OneDeviceStrategy("CPU:0")


@functools.cache
def whole(batch, span):
    """The run that holds the batch at once."""
    return run(one(), batch, batch, span)


def assert_same(other, reference):
    assert largest_difference(other.weights, reference.weights) <= 1e-6
    assert largest_difference(other.moving, reference.moving) <= 1e-6
    # A tolerance says little beside how far the run has gone.
    losses = [row["loss"] for row in reference.metrics]
    assert abs(losses[-1] - losses[0]) > 1e-2


def assert_moving_statistics_are_the_same_on_all_replicas(model, strategy):
    moving = [variable for variable in model.non_trainable_variables if "moving" in variable.path]
    assert len(moving) == 40
    for variable in moving:
        first, second = (part.numpy() for part in strategy.experimental_local_results(variable.value))
        np.testing.assert_array_equal(first, second)
        assert not np.array_equal(first, np.ones_like(first))
        assert keras.ops.all(np.isfinite(first))


@pytest.mark.slow  # the plain tests do it with smaller networks: ResNet-9 in test_cifar10_runs.py
@pytest.mark.parametrize("batch, span, replicas, micro", [
    (24, 12, 1, 12),  # a group a round
    (24, 12, 2, 6),  # each group across both replicas
    (23, 8, 1, 8),  # groups of 7 and 8
])
def test_the_update_is_that_of_the_whole_batch(batch, span, replicas, micro, mirrored):
    strategy = one() if replicas == 1 else mirrored(replicas)
    other = run(strategy, batch, micro, span)
    assert other.layout.across_replicas == (micro < span)
    assert_same(other, whole(batch, span))
    if replicas > 1:
        assert_moving_statistics_are_the_same_on_all_replicas(other.model, strategy)


@pytest.mark.slow
@pytest.mark.parametrize("batch, span, replicas, micro", [
    (24, 12, 4, 6),  # two replicas a group, both groups at once
    (24, 6, 4, 6),  # a group in each replica
    (24, 12, 2, 12),
    (24, 24, 4, 6),  # full batch norm over four replicas
    (23, 8, 2, 8),
    (23, 8, 4, 2),  # uneven groups across four replicas
])
def test_more_layouts(batch, span, replicas, micro, mirrored):
    assert_same(run(mirrored(replicas), batch, micro, span), whole(batch, span))


@pytest.mark.slow
def test_spans_are_experiments_of_their_own():
    """The bound above can fail: another span goes elsewhere."""
    other = run(one(), 24, 24, 24)
    assert largest_difference(other.weights, whole(24, 12).weights) > 1e-3


def test_ghost_batch_norm_is_a_batch_norm_of_its_own_for_each_group():
    """The whole network over two groups against Keras' batch norm over each half, and not over both together."""
    images = examples(24).images.astype(np.float32) / 255.0
    ghost, plain = (resnet(depth=18, image_shape=(32, 32, 3), classes=CLASSES, seed=3, zero_init_gamma=False,
                           normalization=norm)
                    for norm in (functools.partial(GhostBatchNormalization, 12), None))
    halves = [plain(part, training=True).numpy() for part in np.split(images, 2)]
    together = plain(images, training=True).numpy()
    found = ghost(images, training=True).numpy()
    np.testing.assert_allclose(found, np.concatenate(halves), rtol=1e-3, atol=1e-4)
    assert np.abs(found - together).max() > 100 * np.abs(found - np.concatenate(halves)).max()
