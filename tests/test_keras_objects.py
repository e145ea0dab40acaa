"""A model trained with fit, saved, and loaded in a fresh process makes the same next update."""

import os
import pathlib
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

import tf_hugebatch as hb
from tf_hugebatch.keras_versions import KERAS_2

NEXT_UPDATE = """
import sys
import warnings
import numpy as np
{load}
data = np.load(sys.argv[2])
model.train_on_batch(data["x"], data["y"])
np.savez(sys.argv[3], *[w for w in model.get_weights()], *[v.numpy() for v in model.optimizer.variables])
"""
LOADERS = {
    "hb.load_model": "import tf_hugebatch as hb\nmodel = hb.load_model(sys.argv[1])",
    "keras.models.load_model": "import keras, tf_hugebatch.keras_objects\nmodel = keras.models.load_model(sys.argv[1])",
}


def trained_model():
    """Batch norm, LARS and a schedule with a warm-up, a few updates in; no randomness is left in the next one."""
    model = keras.Sequential([
        keras.Input((6, 6, 1)),
        keras.layers.Conv2D(4, 3, kernel_initializer=keras.initializers.GlorotUniform(seed=1)),
        hb.layers.GhostBatchNormalization(span=4),
        keras.layers.Flatten(),
        hb.layers.Dropout(0.0),
        keras.layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(seed=2)),
    ])
    schedule = hb.schedules.Warmup(steps=3, after=hb.schedules.Polynomial(5.0, steps=20))
    model.compile(
        optimizer=hb.optimizers.LARS(schedule, weight_decay=1e-3, clip_global_norm=1.0),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(24, 6, 6, 1)).astype(np.float32), generator.integers(0, 3, 24)
    model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    return model, x[:8], y[:8]


@pytest.mark.parametrize("loader", LOADERS)
def test_the_next_update_of_a_loaded_model_is_the_same(loader, tmp_path):
    model, x, y = trained_model()
    model.save(tmp_path / "m.keras")
    np.savez(tmp_path / "batch.npz", x=x, y=y)
    model.train_on_batch(x, y)
    expected = [*model.get_weights(), *[variable.numpy() for variable in model.optimizer.variables]]
    root = pathlib.Path(hb.__file__).parent.parent
    subprocess.run(
        [sys.executable, "-c", NEXT_UPDATE.format(load=LOADERS[loader]), *(
            str(tmp_path / name) for name in ("m.keras", "batch.npz", "after.npz"))],
        check=True, timeout=120, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True,
    )
    after = np.load(tmp_path / "after.npz")
    assert len(after.files) == len(expected)
    for name, value in zip(after.files, expected):
        np.testing.assert_array_equal(after[name], value)


@pytest.mark.parametrize("optimizer", [
    lambda: hb.LARS(0.1), lambda: hb.LAMB(hb.schedules.Polynomial(0.1, steps=20)), lambda: hb.SGD(0.1, momentum=0.9),
    lambda: keras.optimizers.Adam(0.1)])
@pytest.mark.parametrize("trained_before", [False, True])
def test_a_model_that_was_compiled_and_not_trained_is_loaded(optimizer, trained_before, tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="a"), keras.layers.Dense(3, name="b")])
    if trained_before:  # by another optimizer, with all layers
        fitted(model, hb.LARS(0.1))
        model.layers[0].trainable = False
    model.compile(optimizer=optimizer(), loss="mse", jit_compile=False)
    model.save(tmp_path / "m.keras")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        loaded = hb.load_model(tmp_path / "m.keras")
    assert not [one for one in said if "optimizer" in str(one.message)]
    data = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    for each in (model, loaded):
        each.fit(data, data[:, :3], shuffle=False, verbose=0)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x + 1)])
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="safe"):
        hb.load_model(tmp_path / "m.keras")


def test_a_file_that_holds_no_state_of_the_optimizer_is_refused(tmp_path):
    model, _, _ = trained_model()
    model.save(tmp_path / "m.h5")
    with pytest.raises(ValueError, match="only a .keras file"):
        hb.load_model(tmp_path / "m.h5")


@pytest.mark.skipif(KERAS_2, reason="Keras 2 leaves models' names out of paths from the start")
@pytest.mark.parametrize("patterns", [["enc/", "bias"], ["^(?!.*dec/)"], ["whole/enc|bias"]])
def test_patterns_name_layers_of_nested_models_after_a_save_too(patterns, tmp_path):
    # Keras leaves 'd/kernel' of 'whole/enc/d/kernel' and of 'whole/dec/d/kernel'.
    def part(name):
        return keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, name="d")], name=name)

    inputs = keras.Input((4,))
    model = keras.Model(inputs, part("dec")(part("enc")(inputs)), name="whole")
    model.compile(optimizer=hb.optimizers.LARS(1.0, exclude_from_adaptation=patterns), loss="mse")
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    model.fit(x, x, shuffle=False, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = hb.load_model(tmp_path / "m.keras")
    assert loaded.optimizer.describe() == model.optimizer.describe()
    assert len({*model.optimizer.adapted()}) == 2
    for each in (model, loaded):
        each.fit(x, x, shuffle=False, verbose=0)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(ours, theirs)
    config = model.optimizer.get_config()
    assert hb.optimizers.LARS.from_config(config).get_config() == config
    # An optimizer of that configuration for another model goes by that model's own paths.
    other = part("enc")
    again = hb.optimizers.LARS.from_config({**model.optimizer.get_config(), "exclude_from_adaptation": ["bias"]})
    again.build(other.trainable_variables)
    assert again.adapted() == [True, False]


@keras.saving.register_keras_serializable("tests")
class Block(keras.layers.Layer):
    """Two layers without names of their own: what Keras calls them depends on what the process made before."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.second = keras.layers.Dense(4, activation="relu"), keras.layers.Dense(4)

    def build(self, shape):
        self.first.build(shape)
        self.second.build(shape)
        self.built = True

    def call(self, x):
        return x + self.second(self.first(x))


def fitted(model, optimizer):
    model.compile(optimizer=optimizer, loss="mse", jit_compile=False)
    data = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    model.fit(data, data[:, :3], shuffle=False, verbose=0)
    return lambda one: one.fit(data, data[:, :3], shuffle=False, verbose=0)


@pytest.mark.skipif(KERAS_2, reason="a layer's own layers have other paths there")
@pytest.mark.parametrize("made_before, made_since", [(0, 1), (1, 0), (3, 9)])
def test_patterns_follow_layers_that_another_process_numbers_otherwise(made_before, made_since, tmp_path):
    def made(count):
        keras.utils.clear_session()
        for _ in range(count):
            keras.layers.Dense(1)

    made(made_before)
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(3, name="out")(Block(name="block")(inputs)))
    last = f"dense_{made_before + 1}/"
    step = fitted(model, hb.optimizers.LARS(1.0, weight_decay=0.1, exclude_from_decay=[last, "bias"]))
    model.save(tmp_path / "m.keras")
    made(made_since)
    loaded = hb.load_model(tmp_path / "m.keras")
    assert loaded.optimizer.describe() == model.optimizer.describe()
    assert loaded.optimizer.get_config()["paths"] == model.optimizer.get_config()["paths"]
    for one in (model, loaded):
        step(one)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(ours, theirs)


def perceptron():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(5, name="a"), keras.layers.Dense(3, name="b")], name="net")


@pytest.mark.skipif(KERAS_2, reason="Keras 2 leaves models' names out of paths from the start")
def test_what_muon_leaves_to_adam_may_be_named_with_its_model(tmp_path):
    model = perceptron()
    fitted(model, hb.optimizers.Muon(0.1, exclude_from_orthogonalization=["^net/b/"]))
    model.save(tmp_path / "m.keras")
    assert hb.load_model(tmp_path / "m.keras").optimizer.describe() == model.optimizer.describe()
    with pytest.raises(ValueError, match="exclude_from_orthogonalization=^net/c/: matches no variable".replace("^", r"\^")):
        fitted(perceptron(), hb.optimizers.Muon(0.1, exclude_from_orthogonalization=["^net/c/"]))


@pytest.mark.parametrize("arguments", [{}, {"exclude_from_decay": ["b/bias", "a/"]},
                                       {"exclude_from_adaptation": ["bias"], "fixed_trust_ratios": {"a/": 0.01, "b/": 0.02}}])
def test_a_state_of_other_variables_than_those_that_train_is_refused_and_the_weights_can_be_had(arguments, tmp_path):
    model = perceptron()
    step = fitted(model, hb.optimizers.LARS(1.0, weight_decay=0.1, **arguments))
    model.layers[0].trainable = False
    step(model)
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="frozen or freed after training began.*keras.saving.load_model"):
        hb.load_model(tmp_path / "m.keras")
    with pytest.warns(UserWarning, match="Skipping variable loading"):
        loaded = keras.saving.load_model(tmp_path / "m.keras")
    for ours, theirs in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(ours, theirs)


def test_other_warnings_of_keras_are_passed_on(tmp_path, monkeypatch):
    def load(path, safe_mode):
        warnings.warn("something else", UserWarning)
        return "model"

    monkeypatch.setattr(keras.saving, "load_model", load)
    with pytest.warns(UserWarning, match="something else"):
        assert hb.load_model(tmp_path / "m.keras") == "model"
