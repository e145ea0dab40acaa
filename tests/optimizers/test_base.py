"""Construction, `apply_reduced`, and both paths under tf.distribute."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference.variables import variable_of, variables_of

from tf_hugebatch import LAMB, LARS, optimizers, registry
from tf_hugebatch.keras_versions import global_policy, native, set_global_policy

WEIGHTS = {"first/kernel": (5, 3), "first/bias": (3,), "second/kernel": (3, 2)}


def values(seed, scale=1.0):
    generator = np.random.default_rng(seed)
    return [(scale * generator.normal(size=shape)).astype("float32") for shape in WEIGHTS.values()]


def initial_variables():
    return variables_of(dict(zip(WEIGHTS, values(0))))


def made(row="lars", **options):
    variables = initial_variables()
    optimizer = optimizers.get(row, learning_rate=0.1, **options)
    optimizer.build(variables)
    return optimizer, variables


def everything(optimizer, variables):
    return [v.numpy() for v in (*variables, *optimizer.variables)]


def length(arrays):
    return np.sqrt(sum(np.sum(np.square(array, dtype=np.float64)) for array in arrays))


@pytest.mark.parametrize("row, options", [
    ("sgd", {}), ("sgd", {"nesterov": True}), ("sgd", {"weight_decay": 0.2, "decoupled_weight_decay": True}), ("adam", {}),
    ("lars", {}), ("lamb", {}), ("lamb", {"weight_decay": 0.2, "decoupled_weight_decay": True}),
])
def test_apply_reduced_returns_the_norms(row, options):
    optimizer, variables = made(row, clip_global_norm=0.5, **options)
    before = [v.numpy() for v in variables]
    result = optimizer.apply_reduced(values(1), variables)
    after = [v.numpy() for v in variables]
    of_each = {"gradient_norms": values(1), "weight_norms": before, "update_norms": [a - b for a, b in zip(after, before)]}
    assert set(result) == {"grad_norm", "weight_norm", "update_norm", "applied", *of_each}
    assert all(value.dtype == tf.float32 and value.shape == ((3,) if name in of_each else ())
               for name, value in result.items())
    for name, arrays in of_each.items():
        np.testing.assert_allclose(result[name], [length([array]) for array in arrays], rtol=1e-3)
    np.testing.assert_allclose(result["grad_norm"], length(values(1)), rtol=1e-6)
    np.testing.assert_allclose(result["weight_norm"], length(before), rtol=1e-6)
    step = [a - b for a, b in zip(after, before)]
    np.testing.assert_allclose(result["update_norm"], length(step), rtol=1e-4)
    assert float(result["applied"]) == 1.0


# A rule that needs factors refuses `apply` (contract tests); what else it keeps is in test_kfac.py.
ROWS = [row for row in optimizers.names() if not registry.OPTIMIZERS[row].resolve().needs_factors]


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("decoupled", [False, True], ids=["", "decoupled"])
def test_apply_reduced_is_apply(row, decoupled):
    options = {"clip_global_norm": 1.0, "weight_decay": 0.1}
    if decoupled and row != "lars":
        options["decoupled_weight_decay"] = True
    first, second = made(row, **options), made(row, **options)
    for update in range(3):
        first[0].apply(values(update), first[1])
        second[0].apply_reduced(values(update), second[1])
    for a, b in zip(everything(*first), everything(*second), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("row", ROWS)
def test_nothing_changes_when_the_update_is_bad(row):
    optimizer, variables = made(row, clip_global_norm=1.0, weight_decay=0.1)
    optimizer.apply_reduced(values(1), variables)
    before = everything(optimizer, variables)
    for ok, bad in ((False, 1.0), (True, np.nan), (True, np.inf)):
        gradients = values(2)
        gradients[1][0] = bad
        result = optimizer.apply_reduced(gradients, variables, ok=tf.constant(ok))
        assert float(result["applied"]) == 0.0 and float(result["update_norm"]) == 0.0
        assert np.isfinite(result["grad_norm"]) == np.isfinite(bad) and np.isfinite(result["weight_norm"])
        for a, b in zip(before, everything(optimizer, variables), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e20])
def test_clipping_hides_neither_a_bad_gradient_nor_one_whose_square_is_beyond_float32(bad):
    optimizer, variables = made("sgd", clip_global_norm=1.0)
    optimizer.apply([np.full_like(value, bad) for value in values(1)], variables)
    assert all(np.isnan(variable.numpy()).all() for variable in variables)


def test_apply_reduced_takes_variables_in_any_order_but_all_of_them():
    first, second = made(), made()
    first[0].apply_reduced(values(1), first[1])
    second[0].apply_reduced(values(1)[::-1], second[1][::-1])
    for a, b in zip(everything(*first), everything(*second), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"no gradient for \['first/kernel'\]"):
        first[0].apply_reduced(values(1)[1:], first[1][1:])
    with pytest.raises(ValueError, match="no gradient"):
        first[0].apply_reduced([None] + values(1)[1:], first[1])


def test_apply_reduced_needs_a_build_and_no_constraints():
    with pytest.raises(ValueError, match="call optimizer.build"):
        LARS(0.1).apply_reduced(values(0), initial_variables())
    layer = keras.layers.Dense(3, kernel_constraint=keras.constraints.NonNeg(), name="first")
    layer(np.zeros((1, 5)))
    optimizer = LARS(0.1)
    optimizer.build(layer.trainable_variables)
    with pytest.raises(ValueError, match="first/kernel.*constraint"):
        optimizer.apply_reduced(values(1)[:2], layer.trainable_variables)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # Keras 3 warns of it, Keras 2 logs it
def test_a_variable_without_gradient_keeps_its_weights_and_ratio_in_fit():
    optimizer, variables = made("lamb")
    optimizer.apply(values(1), variables)
    ratio, weight = optimizer.trust_ratios()["second/kernel"], variables[2].numpy()
    optimizer.apply(values(2)[:2] + [None], variables)
    assert optimizer.trust_ratios()["second/kernel"] == ratio != 1.0
    np.testing.assert_array_equal(variables[2].numpy(), weight)


def test_sparse_gradients_are_whole_gradients():
    dense = np.zeros((5, 3), "float32")
    dense[[1, 3]] = 1.0
    sparse = tf.IndexedSlices(tf.ones((2, 3)), tf.constant([1, 3]), tf.constant([5, 3]))
    results = []
    for gradient in (dense, sparse):
        optimizer, variables = made("lamb")
        optimizer.apply([gradient] + values(1)[1:], variables)
        results.append(variables[0].numpy())
    np.testing.assert_allclose(*results, rtol=1e-6)


@pytest.mark.parametrize("row", ["adam", "lars", "lamb", "muon", "shampoo"])
def test_gradients_of_a_shape_that_only_running_tells_are_taken(row):
    weights = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = []
    for make in (lambda g: tf.constant(g), lambda g: tf.numpy_function(lambda: g, [], tf.float32)):
        [variable] = variables_of({"dense/kernel": weights})
        optimizer = optimizers.get(row, learning_rate=0.1)
        optimizer.build([variable])
        step = tf.function(lambda: optimizer.apply([make(np.ones((3, 2), np.float32))], [variable]))
        step()
        found.append(variable.numpy())
    np.testing.assert_allclose(*found, rtol=1e-6)
    assert np.abs(found[0] - weights).max() > 0


def test_a_variable_that_stands_twice_in_an_update_is_refused_before_anything_moves():
    weights = {"dense/kernel": np.ones((3, 2), np.float32), "dense/bias": np.ones(2, np.float32)}
    variables, optimizer = variables_of(weights), optimizers.LARS(0.1)
    optimizer.build(variables)
    with pytest.raises(ValueError, match="lars: a variable stands twice"):
        optimizer.apply([np.ones((3, 2), np.float32)] * 2, [variables[0]] * 2)
    np.testing.assert_array_equal(variables[0].numpy(), weights["dense/kernel"])


def test_accumulation_of_keras_own_is_refused_as_an_attribute_too():
    optimizer = optimizers.Adam(0.1)
    optimizer.gradient_accumulation_steps = 2
    with pytest.raises(ValueError, match="gradient_accumulation_steps=2: hb.train"):
        optimizer.build(variables_of({"dense/kernel": np.ones((3, 2), np.float32)}))


def test_a_schedule_is_read_at_the_updates_done_so_far():
    steps = keras.optimizers.schedules.PiecewiseConstantDecay([0, 1], [1.0, 10.0, 100.0])
    variables = initial_variables()
    optimizer = optimizers.SGD(steps)
    optimizer.build(variables)
    for expected in (1.0, 10.0, 100.0):
        before = variables[0].numpy()
        optimizer.apply_reduced([np.ones_like(v) for v in values(0)], variables)
        np.testing.assert_allclose(before - variables[0].numpy(), expected, rtol=1e-5)


# ---------------------------------------------------------------------- construction


@pytest.mark.parametrize("make, message", [
    (lambda: optimizers.SGD(0.1, momentum=1.5), "momentum=1.5.*1.0 excluded"),
    (lambda: optimizers.SGD(-0.1), "learning_rate=-0.1"),
    (lambda: optimizers.SGD(0.1, weight_decay=-1e-4), "weight_decay=-0.0001"),
    (lambda: optimizers.SGD(0.1, trust_bounds=(0.1, 1.0)), "layerwise=True"),
    (lambda: optimizers.Adam(0.1, exclude_from_adaptation=()), "layerwise=True"),
    (lambda: optimizers.Adam(0.1, layerwise=True, trust_bounds=(2.0, 1.0)), "low <= high"),
    (lambda: optimizers.Adam(0.1, layerwise=True, trust_bounds_schedule="adabound"), "trust_bounds=None"),
    (lambda: optimizers.Adam(0.1, epsilon_placement="inside"), "'uncorrected', 'corrected'"),
    (lambda: LARS(0.1, denominator="product"), "'sum', 'joint'"),
    (lambda: LARS(0.1, momentum_convention="classic"), "'unscaled'"),
    (lambda: LARS.preset("apex", learning_rate=0.1), "'larc'"),
    (lambda: LAMB(0.1, weight_norm_bounds=(0.1,)), "weight_norm_bounds"),
    (lambda: LAMB(0.1, clip_global_norm=0.0), "clip_global_norm=0.0"),
    (lambda: optimizers.get("lambs"), "lamb"),
    (lambda: optimizers.Shampoo(0.1, grafting="adam"), "'sgd', 'lars'"),
    (lambda: optimizers.Shampoo(0.1, trust_coefficient=0.1), "Give grafting='lars'"),
    (lambda: optimizers.Shampoo(0.1, exclude_from_adaptation=()), "Give grafting='lars'"),
    (lambda: optimizers.SGD(0.1, clip_global_norm=float("inf")), "clip_global_norm=inf"),
    (lambda: optimizers.SGD(0.1, clip_global_norm=1e39), "clip_global_norm=1e\\+39"),
    (lambda: optimizers.SGD(0.1, weight_decay=float("inf")), "weight_decay=inf"),
    (lambda: optimizers.LARS(0.1, epsilon=float("inf")), "epsilon=inf"),
    (lambda: optimizers.LAMB(0.1, trust_bounds=(float("inf"), float("inf"))), "low finite"),
    (lambda: optimizers.Shampoo(0.1, epsilon=0.0), "epsilon=0.0"),
    (lambda: optimizers.Shampoo(0.1, block_size=0), "block_size=0.*from 1"),
    (lambda: optimizers.SGD(float("inf")), "learning_rate=inf"),
    (lambda: LAMB(float("nan")), "learning_rate=nan"),
    (lambda: LARS(1e39), r"learning_rate=1e\+39"),  # float32's infinity
    (lambda: optimizers.get("adam_layerwise", layerwise=False), "layerwise=False.*=True.*choose adam"),
])
def test_a_bad_value_is_refused_with_value_and_remedy(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("argument", ["clipnorm", "clipvalue", "global_clipnorm", "use_ema",
                                      "gradient_accumulation_steps", "loss_scale_factor"])
def test_arguments_of_the_keras_base_class_are_refused(argument):
    with pytest.raises(TypeError, match=argument):
        LARS(0.1, **{argument: 2})


def test_the_keras_way_to_exclude_from_decay_is_refused_with_ours():
    with pytest.raises(NotImplementedError, match="exclude_from_decay"):
        optimizers.SGD(0.1, weight_decay=0.5).exclude_from_weight_decay(var_names=["kernel"])


@pytest.mark.parametrize("make", [optimizers.SGD, optimizers.Muon, optimizers.Shampoo, LARS, LAMB],
                         ids=lambda make: make.__name__)
@pytest.mark.parametrize("shape", [(), (0, 3), (3, 0), (2, 0, 3)], ids=str)
def test_odd_shapes_by_the_name_of_kernel_are_updated_like_any(make, shape):
    odd, usual = variables_of({"odd/kernel": np.ones(shape), "usual/kernel": np.ones((2, 3))})
    optimizer = make(0.1)
    optimizer.build([odd, usual])
    optimizer.apply([tf.ones(shape), tf.ones((2, 3))], [odd, usual])
    assert odd.shape == shape and (usual.numpy() < 1).all() and (odd.numpy() < 1).all()


def test_the_rest_is_by_keyword_and_the_rate_a_number_or_schedule():
    with pytest.raises(TypeError):
        LARS(0.1, 0.9)
    with pytest.raises(TypeError, match="LearningRateSchedule"):
        LARS("0.1")
    assert float(LARS(1).learning_rate.numpy()) == 1.0


def test_sixteen_bit_variables_are_refused():
    with pytest.raises(ValueError, match="mixed_bfloat16"):
        LARS(0.1).build([variable_of("kernel", np.zeros(3), "bfloat16")])


def test_a_policy_that_needs_loss_scaling_is_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, dtype="mixed_float16")])
    before = global_policy()
    set_global_policy("mixed_float16")
    try:
        model.compile(LARS(0.1), loss="mse")
        with pytest.raises(ValueError, match="mixed_bfloat16"):
            model.fit(np.zeros((4, 3)), np.zeros((4, 1)), verbose=0)
    finally:
        set_global_policy(before)


def test_rows_carry_their_defaults_and_take_overrides():
    optimizer = optimizers.get("adam_layerwise_bounded")
    row = registry.find("optimizer", "adam_layerwise_bounded")
    assert optimizer.layerwise and optimizer.trust_bounds == tuple(row.settings["trust_bounds"])
    assert float(optimizer.learning_rate.numpy()) == pytest.approx(row.settings["learning_rate"])
    assert optimizers.get("adam_layerwise_bounded", trust_bounds=(0.1, 7)).trust_bounds == (0.1, 7.0)
    assert optimizers.get("lars", denominator="joint", name="other").denominator == "joint"
    assert optimizers.get("adam_layerwise", layerwise=True).layerwise
    assert optimizers.names() == tuple(registry.OPTIMIZERS)


# ---------------------------------------------------------------------- tf.distribute

DISTRIBUTED = {
    "sgd": {}, "adam_layerwise_bounded": {}, "lamb": {}, "rmsprop_layerwise": {"momentum": 0.9},
    "lars": {"momentum_convention": "corrected", "trust_coefficient": 0.1},
    "shampoo": {"grafting": "lars", "block_size": 2, "inverse_interval": 2, "statistics_decay": 0.5},
}


def reduced_run(strategy, row, options):
    """Five good updates and a bad one, in a tf.range loop around strategy.run."""
    with strategy.scope():
        optimizer, variables = made(row, clip_global_norm=2.0, weight_decay=0.01, **options)
    gradients = [np.stack([values(seed, 1 + seed)[index] for seed in range(6)]) for index in range(3)]

    @tf.function
    def loop(ok, *gradients):
        total = tf.constant(0.0)
        for update in tf.range(6):
            def replica(ok, *gradients):
                return optimizer.apply_reduced(list(gradients), variables, ok=ok)
            norms = strategy.run(replica, args=(ok[update], *[g[update] for g in gradients]))
            total += strategy.reduce("MEAN", norms["update_norm"], axis=None)
        return total

    total = loop(tf.constant([True, True, False, True, True, True]), *gradients)
    return optimizer, variables, total


@pytest.mark.parametrize("row", DISTRIBUTED)
def test_apply_reduced_under_strategies(row, mirrored):
    options = DISTRIBUTED[row]
    reference = reduced_run(tf.distribute.get_strategy(), row, options)
    assert reference[0].iterations.numpy() == 5
    for strategy in (tf.distribute.OneDeviceStrategy("CPU:0"), mirrored(2)):
        optimizer, variables, total = reduced_run(strategy, row, options)
        np.testing.assert_allclose(total, reference[2], rtol=1e-5)
        for a, b in zip(everything(*reference[:2]), everything(optimizer, variables), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        for variable in variables:
            copies = [copy.numpy() for copy in strategy.experimental_local_results(native(variable))]
            assert all(np.array_equal(copies[0], copy) for copy in copies)


def fitted(strategy):
    with strategy.scope():
        model = keras.Sequential([keras.layers.Input((5,)), keras.layers.Dense(4, activation="tanh"),
                                  keras.layers.Dense(2)])
        model.set_weights([np.random.default_rng(3).normal(size=w.shape) for w in model.get_weights()])
        optimizer = optimizers.get("lars", learning_rate=0.05, clip_global_norm=0.2, trust_coefficient=0.1)
        model.compile(optimizer=optimizer, loss="mse")
    generator = np.random.default_rng(4)
    x, y = generator.normal(size=(32, 5)), generator.normal(size=(32, 2))
    history = model.fit(x, y, batch_size=16, epochs=3, shuffle=False, verbose=0).history["loss"]
    for variable in (*model.trainable_variables, *optimizer.variables):
        copies = [copy.numpy() for copy in strategy.experimental_local_results(native(variable))]
        assert all(np.array_equal(copies[0], copy) for copy in copies), variable
    return history, model.get_weights(), list(model.optimizer.trust_ratios().values())


def test_fit_does_the_same_on_one_device_and_on_many(mirrored):
    """Clipping included: Keras' own global_clipnorm acts before the sum over replicas and would differ
    here.
    """
    losses, weights, ratios = fitted(tf.distribute.get_strategy())
    many_losses, many_weights, many_ratios = fitted(mirrored(2))
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(losses, many_losses, rtol=1e-5)
    np.testing.assert_allclose(ratios, many_ratios, rtol=1e-4)
    for a, b in zip(weights, many_weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("argument, said", [
    ("clipnorm", "clip_global_norm"), ("gradient_accumulation_steps", "micro_batch_size"), ("weigth_decay", "did you mean weight_decay"),
    ("lr", "learning_rate"), ("nothing_like_it", "It has learning_rate, momentum")])
def test_an_argument_that_it_does_not_have_is_named_with_what_takes_its_place(argument, said):
    with pytest.raises(TypeError, match=argument) as refused:
        optimizers.LARS(1.0, **{argument: 1.0})
    assert said in str(refused.value)


def test_a_subclass_may_hand_arguments_on():
    class Mine(optimizers.LARS):
        def __init__(self, learning_rate, **more):
            super().__init__(learning_rate, **more)

    config = Mine(1.0, momentum=0.5, weight_decay=0.1).get_config()
    assert config == optimizers.LARS(1.0, momentum=0.5, weight_decay=0.1).get_config()
    assert Mine.from_config(config).get_config() == config and Mine(1.0, momentum=0.5).momentum == 0.5

    class Own(Mine):
        def __init__(self, *rates, slower=2.0, **more):
            super().__init__(rates[0] / slower, **more)
            self.slower = slower

    assert Own(1.0, momentum=0.5).get_config()["slower"] == 2.0
    assert Own(1.0, momentum=0.5).get_config()["momentum"] == 0.5


def test_a_decay_that_turns_the_weights_round_leaves_the_ratios_of_their_length():
    """w - 0.1 * 15 * w is -w / 2, as long as w - 0.1 * 5 * w."""
    ratios = []
    for weight_decay in (5.0, 15.0):
        optimizer, variables = made("lamb", weight_decay=weight_decay, decoupled_weight_decay=True)
        optimizer.apply_reduced(values(1), variables)
        ratios.append(optimizer.trust_ratios())
    assert ratios[1] == pytest.approx(ratios[0], rel=1e-5) and set(ratios[0].values()) != {1.0}
