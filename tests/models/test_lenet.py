import keras
import numpy as np
import pytest

from tf_hugebatch.keras_versions import global_policy, set_global_policy
from tf_hugebatch.models.lenet import lenet, lenet5

PARAMETERS = {lenet: 3_274_634, lenet5: 61_706}


@pytest.mark.parametrize("builder", PARAMETERS)
def test_parameter_counts(builder):
    assert builder().count_params() == PARAMETERS[builder]


def test_lenet_is_the_papers():
    layers = [(layer.__class__.__name__, tuple(layer.output.shape[1:])) for layer in lenet().layers]
    assert layers == [("Conv2D", (28, 28, 32)), ("MaxPooling2D", (14, 14, 32)), ("Conv2D", (14, 14, 64)),
                      ("MaxPooling2D", (7, 7, 64)), ("Flatten", (3136,)), ("Dense", (1024,)),
                      ("Dropout", (1024,)), ("Dense", (10,))]
    assert lenet().get_layer("dropout").rate == 0.4


def test_lenet5_is_lecuns():
    layers = [(layer.__class__.__name__, tuple(layer.output.shape[1:])) for layer in lenet5().layers]
    assert layers == [("Conv2D", (28, 28, 6)), ("MaxPooling2D", (14, 14, 6)), ("Conv2D", (10, 10, 16)),
                      ("MaxPooling2D", (5, 5, 16)), ("Flatten", (400,)), ("Dense", (120,)), ("Dense", (84,)),
                      ("Dense", (10,))]


@pytest.mark.parametrize("builder", PARAMETERS)
def test_the_seed_and_nothing_else_decides_the_weights(builder):
    keras.utils.set_random_seed(1)
    first = builder(seed=3).get_weights()
    keras.utils.set_random_seed(2)
    builder(seed=9)
    again, other = builder(seed=3).get_weights(), builder(seed=4).get_weights()
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert all(not np.array_equal(a, b) for a, b in zip(first, other) if a.std() > 0)


def test_building_leaves_numpys_global_generator_alone():
    np.random.seed(5)
    expected = np.random.RandomState(5).rand(3)
    lenet5(seed=1)
    np.testing.assert_array_equal(np.random.rand(3), expected)


def test_layers_of_one_model_start_differently():
    """Layers seeded alike would start with the same numbers, scaled."""
    first, second = (lenet5().get_layer(name).kernel.numpy().ravel()[:100] for name in ("dense1", "dense2"))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.5


@pytest.mark.parametrize("builder", PARAMETERS)
def test_logits_are_float32_unnormalised_and_as_many_as_the_classes(builder):
    policy = global_policy()
    set_global_policy("mixed_bfloat16")
    try:
        logits = builder(classes=7)(np.random.default_rng(0).random((3, 28, 28, 1), np.float32)).numpy()
    finally:
        set_global_policy(policy)
    assert logits.shape == (3, 7) and logits.dtype == np.float32
    assert (logits < 0).any() and not np.allclose(logits.sum(axis=1), 1.0)


def test_a_model_survives_saving(tmp_path):
    model = lenet5(seed=2)
    model.save(tmp_path / "m.keras")
    x = np.random.default_rng(1).random((2, 28, 28, 1), np.float32)
    np.testing.assert_array_equal(keras.models.load_model(tmp_path / "m.keras")(x), model(x))
