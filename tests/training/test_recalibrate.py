"""Statistics made anew: NumPy's over the batches, whatever the layout; training goes on as if nothing had happened."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_hugebatch as hb
from tf_hugebatch import data
from tf_hugebatch.data.order import Stream
from tf_hugebatch.data.padding import training_micro_batches
from tf_hugebatch.data.splits import Examples
from tf_hugebatch.keras_versions import native
from tf_hugebatch.layers import ActivationNoise, GhostBatchNormalization
from tf_hugebatch.layout import Layout
from tf_hugebatch.training import trainer
from tf_hugebatch.training.evaluate import Evaluation
from tf_hugebatch.training.loop import train
from tf_hugebatch.training.recalibrate import Recalibration

BATCH, BATCHES, N = 14, 3, 60


def examples():
    generator = np.random.default_rng(2)
    return Examples(generator.integers(0, 256, (N, 4, 4, 3), dtype=np.uint8), np.zeros(N, np.int32))


def recalibrated(strategy, micro, span, *first):
    """(model, recalibration, iterator) on a model whose first layer is a batch norm, its input known exactly."""
    layout = Layout(BATCH, micro, strategy.num_replicas_in_sync, span)
    with strategy.scope():
        model = keras.Sequential([keras.Input((4, 4, 3)), *first, GhostBatchNormalization(span), keras.layers.ReLU(),
                                  keras.layers.Flatten(), keras.layers.Dense(2)])
    dataset = training_micro_batches(examples(), Stream(5, N), layout, 0, BATCHES)
    iterator = iter(strategy.distribute_datasets_from_function(lambda context: dataset))
    return model, Recalibration(strategy, model, layout, 5), iterator


def by_numpy(span):
    """Count-weighted mean of the groups' means and variances over the batches, in float64."""
    groups = -(-BATCH // span)
    statistics = []
    for batch in range(BATCHES):
        ids, _ = Stream(5, N).examples(batch * BATCH, BATCH)
        x = examples().images[ids].astype(np.float64) / 255
        for part in np.split(x, [group * BATCH // groups for group in range(1, groups)]):
            statistics.append((len(part), part.mean(axis=(0, 1, 2)), part.var(axis=(0, 1, 2))))
    counts = [count for count, _, _ in statistics]
    return [np.average([row[i] for row in statistics], axis=0, weights=counts) for i in (1, 2)]


@pytest.mark.parametrize("replicas, micro, span", [
    (1, 14, 14), (1, 7, 7), (1, 5, 4), (2, 7, 7), (2, 7, 14), (4, 2, 5),
])
def test_statistics_are_numpys_on_every_layout_and_every_replica(replicas, micro, span, mirrored):
    strategy = tf.distribute.OneDeviceStrategy("CPU:0") if replicas == 1 else mirrored(replicas)
    model, recalibration, iterator = recalibrated(strategy, micro, span)
    recalibration.assign(iterator, BATCHES, 0)
    norm = model.layers[0]
    for variable, expected in zip((norm.moving_mean, norm.moving_variance), by_numpy(span)):
        for value in strategy.experimental_local_results(native(variable)):
            np.testing.assert_allclose(value.numpy(), expected, rtol=1e-5)


def test_after_the_context_the_statistics_are_trainings_again_also_when_it_fails():
    model, recalibration, iterator = recalibrated(tf.distribute.OneDeviceStrategy("CPU:0"), 7, 7)
    before = [value.copy() for value in model.get_weights()]
    with pytest.raises(RuntimeError), recalibration(iterator, BATCHES, 0):
        assert not np.array_equal(model.layers[0].moving_mean.numpy(), before[2])
        raise RuntimeError
    for value, then in zip(model.get_weights(), before):
        np.testing.assert_array_equal(value, then)


@pytest.mark.parametrize("done, added", [(0, 4.0), (9, 0.4)])
def test_injected_noise_is_that_of_the_weights_update(done, added):
    model, recalibration, iterator = recalibrated(tf.distribute.OneDeviceStrategy("CPU:0"), 7, 7, ActivationNoise(2.0, decay=1.0))
    recalibration.assign(iterator, BATCHES, done)
    np.testing.assert_allclose(model.layers[1].moving_variance.numpy(), by_numpy(7)[1] + added, rtol=0.15)


def test_the_watchdog_waits_for_every_recalibration(tmp_path, monkeypatch):
    pauses = []

    class Dog(trainer.Watchdog):
        def __enter__(self):
            pauses.append(self)
            return super().__enter__()

    plain = Recalibration.assign

    def assign(self, *arguments):
        pauses.append(pauses[0]._pauses)
        return plain(self, *arguments)

    monkeypatch.setattr(trainer, "Watchdog", Dog)
    monkeypatch.setattr(Recalibration, "assign", assign)
    train(hb.Settings(dataset="synthetic", dataset_size=(32, 16), image_size=16, model="resnet9", batch_size=16, bn_span=8,
                      warmup_epochs=0, train_steps=2, recalibrate_bn_batches=1, run_dir=str(tmp_path / "run")))
    assert len(pauses) > 2 and all(count > 0 for count in pauses[1:])


@pytest.mark.slow
def test_a_run_trains_the_same_and_evaluates_with_the_new_statistics(tmp_path):
    """Four updates at momentum 0.999 leave the statistics at their initial values, which are far from the truth."""
    common = dict(dataset="synthetic", dataset_size=(64, 32), model="resnet18", image_size=32, batch_size=16, bn_span=16,
                  train_steps=4, bn_momentum=0.999, warmup_epochs=0, micro_batch_size=16)
    settings = [hb.Settings(**common, recalibrate_bn_batches=count, run_dir=str(tmp_path / str(count))) for count in (0, 2)]
    plain, new = map(train, settings)
    assert new.final["train_loss"] == plain.final["train_loss"]
    assert new.final["test_loss"] != plain.final["test_loss"]
    for one, other in zip(plain.model.trainable_variables, new.model.trainable_variables):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    moving = [variable for variable in new.model.non_trainable_variables if "moving_variance" in variable.path]
    assert all(np.abs(variable.numpy() - 1).max() > 0.01 for variable in moving)
    # What was reported is what the finished model does.
    found = Evaluation(tf.distribute.get_strategy(), new.model, data.load(settings[1]).test, 32)()
    assert found["loss"] == pytest.approx(new.final["test_loss"], rel=1e-5)
