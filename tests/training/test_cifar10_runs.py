"""What holds for MNIST holds for CIFAR-10's networks: equivalence and resume, with augmentation and batch norm."""

import functools
import json

import numpy as np
import pytest
import tensorflow as tf
from reference import small_cifar
from reference.interruptions import after, terminate
from reference.small_runs import largest_difference, run_updates

import tf_hugebatch as hb
from tf_hugebatch.data import cifar10
from tf_hugebatch.data.splits import Examples, Splits
from tf_hugebatch.layers import GhostBatchNormalization
from tf_hugebatch.models.resnet import cifar_resnet, resnet9

MODELS = {"resnet9": resnet9, "resnet20": functools.partial(cifar_resnet, depth=20)}
SPAN, BATCH, UPDATES = 16, 48, 4


def noise(n, seed=0):
    """Images of noise around a pattern per class, shifted and flipped as CIFAR-10's are."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int32) % 10
    patterns = np.random.default_rng(1).integers(0, 200, (10, 32, 32, 3), dtype=np.uint8)
    images = patterns[labels] + generator.integers(0, 56, (n, 32, 32, 3), dtype=np.uint8)
    mean, deviation = cifar10.channel_statistics(images)
    return Examples(images, labels, prepare=functools.partial(cifar10.prepare, seed, mean, deviation))


def model(name):
    return MODELS[name](normalization=functools.partial(GhostBatchNormalization, SPAN), zero_init_gamma=False)


def run(strategy, name, batch, micro):
    # Rounding grows from update to update with the rate: at 0.01, on a processor without AVX-512, from 5e-7 to 7e-6 in three.
    return run_updates(strategy, batch=batch, micro=micro, span=SPAN, updates=3, optimizer="sgd", examples=noise(96),
                       optimizer_arguments={"learning_rate": 0.005, "momentum": 0.9}, model=functools.partial(model, name))


@functools.cache
def whole(name, batch):
    return run(tf.distribute.OneDeviceStrategy("CPU:0"), name, batch, batch)


@pytest.mark.parametrize("name, batch, replicas, micro", [
    pytest.param("resnet9", 48, 1, 16, marks=pytest.mark.slow),  # a group a round
    pytest.param("resnet9", 48, 2, 8, marks=pytest.mark.slow),  # each group across both replicas
    ("resnet9", 47, 2, 16),  # groups of 15 and 16
    pytest.param("resnet20", 48, 2, 16, marks=pytest.mark.slow),
])
def test_the_update_is_that_of_the_whole_batch(name, batch, replicas, micro, mirrored):
    strategy = tf.distribute.OneDeviceStrategy("CPU:0") if replicas == 1 else mirrored(replicas)
    other, reference = run(strategy, name, batch, micro), whole(name, batch)
    assert largest_difference(other.weights, reference.weights) <= 1e-6
    assert largest_difference(other.moving, reference.moving) <= 1e-6
    # A tolerance says little beside how far the run has gone.
    start = {variable.path: variable.numpy() for variable in model(name).trainable_variables}
    assert largest_difference(start, reference.weights) > 1e-3


# Whole runs. The training set is as large as the real one, since the order of examples follows from its size.


@functools.cache
def splits():
    arrays = small_cifar.made_arrays()
    train = Examples(arrays["x_train"], arrays["y_train"].astype(np.int32))
    mean, deviation = cifar10.channel_statistics(train.images)
    return Splits(train, None, noise(40)).prepared(functools.partial(cifar10.prepare, 0, mean, deviation))


def train(run_dir, **changes):
    settings = hb.Settings(**{
        "dataset": "cifar10", "model": "resnet9", "batch_size": BATCH, "micro_batch_size": 16, "bn_span": SPAN,
        "train_steps": UPDATES, "learning_rate": 0.05, "eval_batch_size": 20, "run_dir": str(run_dir), **changes})
    return hb.train(settings, splits=splits())


def variables(result):
    return {variable.path: variable.numpy() for variable in result.model.variables}


def test_the_same_command_goes_on_with_the_same_crops_and_statistics(tmp_path):
    undisturbed = train(tmp_path / "undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        after(patch, 2, terminate)
        assert train(tmp_path / "run", steps_per_loop=1).exit_code == 143
    assert json.loads((tmp_path / "run" / "status.json").read_text())["step"] == 2
    resumed = train(tmp_path / "run", steps_per_loop=1)
    expected, found = variables(undisturbed), variables(resumed)
    assert {path for path in expected if "moving" in path} and expected.keys() == found.keys()
    for path, value in expected.items():
        assert found[path].tobytes() == value.tobytes(), path
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == (tmp_path / "undisturbed" / "metrics.jsonl").read_text()


@pytest.mark.parametrize("prepare", [
    lambda images, *keys, training: splits().train.prepare(images, *keys, False),
    lambda images, *keys, training: functools.partial(cifar10.prepare, 1, *splits().train.prepare.args[1:])(
        images, *keys, training),
], ids=["not at all", "by another seed"])
def test_where_images_are_shifted_otherwise_weights_go_elsewhere(tmp_path, as_they_are, prepare):
    """The test above can fail: images, standardisation, order and initial weights are the same here, crops are not."""
    def otherwise(images, numbers, epochs, training):
        return prepare(images, numbers, epochs, training=training)

    other = two_updates(tmp_path / "run", splits().prepared(otherwise))
    assert largest_difference(as_they_are, other) > 1e-3


@pytest.fixture(scope="module")
def as_they_are(tmp_path_factory):
    return two_updates(tmp_path_factory.mktemp("as they are") / "run", splits())


def two_updates(run_dir, data):
    """The weights after two updates."""
    result = hb.train(hb.Settings(dataset="cifar10", model="resnet9", batch_size=BATCH, bn_span=SPAN, micro_batch_size=BATCH,
                                  train_steps=2, run_dir=str(run_dir)), splits=data)
    return {variable.path: variable.numpy() for variable in result.model.trainable_variables}
