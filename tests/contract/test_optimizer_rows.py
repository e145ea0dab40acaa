"""What every optimizer row keeps, whichever rule it is. A new row is tested by being in the registry."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import optimizers as twin
from reference.variables import variables_of

from tf_hugebatch import optimizers, registry, schedules
from tf_hugebatch.keras_versions import native, set_global_policy, variable_path

ROWS = optimizers.names()
# Those that `fit` can't serve have factors of every update, which only our own step takes.
FACTORED = [row for row in ROWS if registry.OPTIMIZERS[row].resolve().needs_factors]
RATES = (0.02, 0.05, 0.04, 0.0, 0.03, 0.01, 0.02)
NAMES = ("first/kernel", "first/bias", "second/kernel")
EXCLUDED = ("first/bias",)


def rate_for(row):
    """LARS' coefficient of 0.001 is part of its rate, and momentum 0.9 multiplies a layer-wise rate by up to
    ten.
    """
    return {"lars": 5.0, "sgd_layerwise": 0.005, "sgd_layerwise_bounded": 0.005}.get(row, 0.05)


def weights_and_gradients(updates=len(RATES)):
    """Non-uniform weights, a bias at zero, and one gradient that is all zero at update 2."""
    generator = np.random.default_rng(0)
    weights = {"first/kernel": generator.normal(size=(5, 4)), "first/bias": np.zeros(4),
               "second/kernel": 3.0 * generator.normal(size=(4, 2))}
    gradients = [{name: generator.normal(size=w.shape) * (0.2 + t) for name, w in weights.items()}
                 for t in range(updates)]
    gradients[2]["second/kernel"] *= 0.0
    return ({k: w.astype("float32") for k, w in weights.items()},
            [{k: g.astype("float32") for k, g in update.items()} for update in gradients])


def small_model(seed=0):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.layers.Input((6,)), keras.layers.Dense(8, activation="tanh"),
                             keras.layers.BatchNormalization(), keras.layers.Dense(3)])


def batch():
    generator = np.random.default_rng(1)
    x = generator.normal(size=(32, 6)).astype("float32")
    return x, np.argmax(x[:, :3] + 0.1 * generator.normal(size=(32, 3)), axis=-1)


def factors_of(variables, number=0):
    """{path of a kernel: (A, G)} as update `number` might have them; a bias beside the kernel is a row of A."""
    paths = [variable_path(variable) for variable in variables]
    generator, found = np.random.default_rng(100 + number), {}
    for path, variable in zip(paths, variables):
        scope, _, name = path.rpartition("/")
        if name == "kernel":
            sizes = int(np.prod(variable.shape[:-1])) + (f"{scope}/bias" in paths), variable.shape[-1]
            seen = [generator.normal(size=(2 * size, size)) for size in sizes]
            found[path] = tuple((x.T @ x / len(x)).astype("float32") for x in seen)
    return found


def one_update(optimizer, gradients, variables, number=0, reduced=False):
    """An update by `apply`, as `fit` makes it, or with `reduced`, and where factors are needed, by `apply_reduced`."""
    if not reduced and not optimizer.needs_factors:
        return optimizer.apply(gradients, variables)
    optimizer.build(variables)
    factors = factors_of(variables, number) if optimizer.needs_factors else None
    return optimizer.apply_reduced(gradients, variables, factors=factors)


def compiled(row, rate):
    model = small_model()
    # Eager, because tracing 14 train steps takes most of the time; fit in graphs is tested under strategies.
    model.compile(run_eagerly=True, optimizer=optimizers.get(row, learning_rate=rate, weight_decay=0.01),
                  loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def state_of(optimizer, variables):
    return [variable.numpy() for variable in (*variables, *optimizer.variables)]


@pytest.mark.parametrize("row", ROWS)
def test_optimises_without_retracing(row, caplog):
    model, (x, y) = small_model(), batch()
    variables, optimizer = model.trainable_variables, optimizers.get(row, learning_rate=rate_for(row))
    optimizer.build(variables)
    traces = []

    @tf.function
    def update():
        traces.append(1)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(y, model(x), from_logits=True))
        norms = one_update(optimizer, tape.gradient(loss, variables), variables, reduced=True)
        return loss, norms

    losses = [float(update()[0]) for _ in range(60)]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.6 * losses[0]
    assert len(traces) == 1
    assert not [record for record in caplog.records if "AutoGraph" in record.getMessage()]
    assert optimizer.iterations.numpy() == 60
    assert np.isfinite(list(optimizer.trust_ratios().values())).all()


@pytest.mark.parametrize("row", ROWS)
def test_state_is_float32_under_mixed_precision(row):
    set_global_policy("mixed_bfloat16")
    try:
        model = small_model()
    finally:
        set_global_policy("float32")
    variables, optimizer = model.trainable_variables, optimizers.get(row, learning_rate=rate_for(row))
    with tf.GradientTape() as tape:
        outputs = model(batch()[0], training=True)
        loss = tf.reduce_mean(tf.square(tf.cast(outputs, tf.float32)))
    assert outputs.dtype == tf.bfloat16
    one_update(optimizer, tape.gradient(loss, variables), variables)
    assert {tf.as_dtype(v.dtype).name for v in (*variables, *optimizer.variables)} <= {"float32", "int64"}
    assert all(np.isfinite(v.numpy()).all() for v in variables)


OTHERS_OF_MUON = {"newton_schulz_steps": 3, "newton_schulz_coefficients": (3.0, -3.5, 1.5),
                  "newton_schulz_epsilon": 0.3, "update_scale": "rms",
                  "exclude_from_orthogonalization": ["second"], "reshape_kernels": False, "adam_rate_ratio": 0.3,
                  "adam_nesterov": True, "bias_correction": True}


OTHERS_OF_SECOND_ORDER = {"statistics_decay": 0.7, "block_size": 3, "inverse_interval": 2, "damping": 0.3, "kl_clip": 0.5}


def changed(optimizer):
    """Constructor arguments that differ from the row's, so that a lost one shows."""
    other = {"weight_decay": 0.03, "momentum": 0.8, "beta_1": 0.8, "epsilon": 0.01, "clip_global_norm": 0.5,
             "rho": 0.7, "exclude_from_decay": ["kernel"], "exclude_from_adaptation": ["second"],
             "trust_bounds": (0.1, 0.7), "trust_coefficient": 0.5, "nesterov": True, "name": "other",
             "decoupled_weight_decay": True, **OTHERS_OF_MUON, **OTHERS_OF_SECOND_ORDER}
    taken = inspect.signature(type(optimizer).__init__).parameters
    ratio = {"exclude_from_adaptation", "trust_bounds", "trust_coefficient"}
    return {k: v for k, v in other.items()
            if k in taken and (k not in ratio or getattr(optimizer, "layerwise"))}


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("scheduled", [False, True], ids=["number", "schedule"])
def test_config_round_trip_gives_the_same_next_update(row, scheduled):
    weights, gradients = weights_and_gradients()
    rate = schedules.Polynomial(0.1, 10) if scheduled else 0.1
    original = optimizers.get(row, learning_rate=rate, **changed(optimizers.get(row)))
    config = keras.optimizers.serialize(original)
    restored = keras.optimizers.deserialize(config)
    assert restored.get_config() == original.get_config()
    assert type(restored) is type(original)
    taken = set(inspect.signature(type(original).__init__).parameters) - {"self"}
    assert set(original.get_config()) == taken
    results = []
    for optimizer in (original, restored):
        variables = variables_of(weights)
        for number, update in enumerate(gradients[:3]):
            one_update(optimizer, list(update.values()), variables, number)
        results.append(state_of(optimizer, variables))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("row", ROWS)
def test_checkpoint_restores_mid_run(row, tmp_path):
    weights, gradients = weights_and_gradients()

    def fresh():
        variables = variables_of(weights)
        optimizer = optimizers.get(row, learning_rate=0.05, weight_decay=0.01)
        optimizer.build(variables)
        checkpoint = tf.train.Checkpoint(optimizer=optimizer, weights=[native(v) for v in variables])
        return variables, optimizer, checkpoint

    variables, optimizer, checkpoint = fresh()
    for number, update in enumerate(gradients[:3]):
        one_update(optimizer, list(update.values()), variables, number, reduced=True)
    path = checkpoint.save(str(tmp_path / "state"))
    for number, update in enumerate(gradients[3:], 3):
        one_update(optimizer, list(update.values()), variables, number, reduced=True)
    uninterrupted = state_of(optimizer, variables)

    variables, optimizer, checkpoint = fresh()
    checkpoint.restore(path).assert_consumed()
    for number, update in enumerate(gradients[3:], 3):
        one_update(optimizer, list(update.values()), variables, number, reduced=True)
    for a, b in zip(uninterrupted, state_of(optimizer, variables), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("row", ROWS)
def test_keras_file_gives_the_same_next_update(row, tmp_path):
    model, (x, y) = compiled(row, schedules.Polynomial(rate_for(row), 10)), batch()
    if row in FACTORED:
        with pytest.raises(ValueError, match="hb.train"):
            model.train_on_batch(x, y)

    def update(model):
        if row not in FACTORED:
            return model.train_on_batch(x, y)
        gradients = [np.full(variable.shape, 0.1, "float32") for variable in model.trainable_variables]
        return one_update(model.optimizer, gradients, model.trainable_variables)

    update(model)
    update(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is type(model.optimizer)
    # By position: Keras may drop the model's name from the paths of a loaded model.
    assert list(loaded.optimizer.trust_ratios().values()) == list(model.optimizer.trust_ratios().values())
    assert loaded.optimizer.iterations.numpy() == 2
    loaded.run_eagerly = True
    for each in (model, loaded):
        update(each)
    before = state_of(model.optimizer, model.trainable_variables)
    for a, b in zip(before, state_of(loaded.optimizer, loaded.trainable_variables), strict=True):
        np.testing.assert_array_equal(a, b)


#: How an update is called: Keras' way, ours, and ours compiled by XLA, whose kernels and norms are others.
CALLS = ("apply", "reduced", "xla")


def run(optimizer, weights, gradients, call):
    variables, history = variables_of(weights), []
    optimizer.build(variables)
    factored = optimizer.needs_factors

    def way(gradients, factors):
        if call == "apply" and not factored:
            return optimizer.apply(gradients, variables)
        return optimizer.apply_reduced(gradients, variables, factors=factors)

    update = tf.function(way, jit_compile=True) if call == "xla" else way
    for number, (now, rate) in enumerate(zip(gradients, RATES, strict=True)):
        optimizer.learning_rate = rate
        update(list(now.values()), factors_of(variables, number) if factored else None)
        history.append(([v.numpy() for v in variables], optimizer.trust_ratios()))
    return history


def twin_history(row, weights, gradients, **options):
    """The twin of a row, by name: the first word is the rule, the rest how it is adapted."""
    rule, _, adapted = row.partition("_")
    defaults = {"sgd": {"momentum": 0.9}, "lamb": {"epsilon": 1e-6}}.get(rule, {})
    if rule == "kfac":
        factors = [factors_of(variables_of(weights), number) for number in range(len(gradients))]
        return twin.kfac(weights, gradients, RATES, factors, undecayed=EXCLUDED, **options)
    if rule == "shampoo":
        return twin.shampoo(weights, gradients, RATES, undecayed=EXCLUDED, unadapted=EXCLUDED, **options)
    if rule == "lars":
        return twin.lars(weights, gradients, RATES, undecayed=EXCLUDED, unadapted=EXCLUDED, **options)
    if rule == "muon":
        return twin.muon(weights, gradients, RATES, by_adam=EXCLUDED, undecayed=EXCLUDED, unadapted=EXCLUDED,
                         layerwise=bool(adapted), trust_bounds=(0.001, 1.0) if adapted.endswith("bounded") else None, **options)
    bounds = {"sgd": (0.01, 100.0)}.get(rule, (0.001, 1.0)) if adapted.endswith("bounded") else None
    return twin.family(rule, weights, gradients, RATES, undecayed=EXCLUDED, unadapted=EXCLUDED,
                       layerwise=bool(adapted), trust_bounds=bounds, **defaults, **options)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("call", CALLS)
def test_equals_its_twin(row, call):
    weights, gradients = weights_and_gradients()
    options = {"weight_decay": 0.05, "clip_global_norm": 6.0}
    ours = run(optimizers.get(row, learning_rate=0.1, **options), weights, gradients, call)
    theirs = twin_history(row, weights, gradients, **options)
    for (mine, ratios), (expected, expected_ratios) in zip(ours, theirs, strict=True):
        for weight, name in zip(mine, NAMES):
            largest = np.abs(expected[name]).max()
            np.testing.assert_allclose(weight, expected[name], rtol=0, atol=2e-5 * largest)
            np.testing.assert_allclose(ratios[name], expected_ratios[name], rtol=2e-4)


LAYERWISE = [row for row in ROWS if row in ("lars", "lamb") or "_layerwise" in row]


@pytest.mark.parametrize("row", LAYERWISE)
def test_with_fixed_trust_ratios_a_layer_moves_as_in_the_original_rule_at_its_own_rate(row):
    """A layer-wise rule whose ratio is a constant c is its original rule at c times the rate."""
    weights, gradients = weights_and_gradients()
    original, same = {"lars": ("sgd", {}), "lamb": ("adam", {"epsilon": 1e-6, "epsilon_placement": "corrected"})}.get(
        row, (row.partition("_")[0], {}))
    fixed = {"first/kernel": 0.25, "second/kernel": 0.5}
    optimizer = optimizers.get(row, learning_rate=0.1, weight_decay=0.05, fixed_trust_ratios=fixed)
    variables = variables_of(weights)
    others = {name: optimizers.get(original, learning_rate=0.1 * fixed.get(name, 1.0), weight_decay=0.05, **same)
              for name in NAMES}
    alone = {name: variables_of(weights) for name in NAMES}
    for each, its in ((optimizer, variables), *((others[name], alone[name]) for name in NAMES)):
        each.build(its)
        for update in gradients:
            each.apply_reduced(list(update.values()), its)
    for place, name in enumerate(NAMES):
        np.testing.assert_allclose(variables[place].numpy(), alone[name][place].numpy(), rtol=2e-5, atol=1e-7)
    assert optimizer.trust_ratios() == {**fixed, "first/bias": 1.0}


@pytest.mark.parametrize("row", LAYERWISE)
def test_fixed_trust_ratios_survive_a_config_and_must_name_every_adapted_variable_once(row):
    weights, gradients = weights_and_gradients(3)
    given = optimizers.get(row, learning_rate=0.1, fixed_trust_ratios={"first/kernel": 0.25, "second": 0.5})
    restored = keras.optimizers.deserialize(keras.optimizers.serialize(given))
    assert restored.get_config() == given.get_config()
    results = []
    for optimizer in (given, restored):
        variables = variables_of(weights)
        optimizer.build(variables)
        for update in gradients:
            optimizer.apply_reduced(list(update.values()), variables)
        results.append(state_of(optimizer, variables))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)
    assert "fixed at 0.25" in given.describe()
    for wrong, about in (({"first/kernel": 0.5}, r"second/kernel \(0\)"), ({"kernel": 0.5, "second": 1.0}, r"second/kernel \(2\)"),
                         ({"kernel": 0.5, "bias": 1.0}, "no adapted variable: bias")):
        with pytest.raises(ValueError, match=f"fixed_trust_ratios.*{about}"):
            optimizers.get(row, fixed_trust_ratios=wrong).build(variables_of(weights))


@pytest.mark.parametrize("row", ["lars", "lamb"])
def test_bounds_hold_fixed_trust_ratios_too(row):
    weights, gradients = weights_and_gradients(3)
    optimizer = optimizers.get(row, learning_rate=0.1, trust_bounds=(0.3, 0.4),
                               fixed_trust_ratios={"first/kernel": 0.25, "second/kernel": 0.5})
    variables = variables_of(weights)
    optimizer.build(variables)
    optimizer.apply_reduced(list(gradients[0].values()), variables)
    assert optimizer.trust_ratios() == pytest.approx({"first/kernel": 0.3, "first/bias": 1.0, "second/kernel": 0.4})
