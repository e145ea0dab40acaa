import json
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import schedules as twin

from tf_hugebatch import durations, registry, schedules

STEPS = 141
BEYOND = np.arange(STEPS + 20)

CASES = {
    "constant": (schedules.Constant(0.3), lambda t: twin.constant(t, 0.3)),
    "polynomial": (schedules.Polynomial(0.3, STEPS), lambda t: twin.polynomial(t, 0.3, STEPS)),
    "polynomial to an end": (schedules.Polynomial(0.3, STEPS, power=0.5, end_learning_rate=0.01),
                             lambda t: twin.polynomial(t, 0.3, STEPS, 0.5, 0.01)),
    "cosine": (schedules.Cosine(0.3, STEPS), lambda t: twin.cosine(t, 0.3, STEPS)),
    "cosine to an end": (schedules.Cosine(0.3, STEPS, end_learning_rate=0.02),
                         lambda t: twin.cosine(t, 0.3, STEPS, 0.02)),
    "restarts": (schedules.CosineRestarts(0.3, STEPS, cycles=4),
                 lambda t: twin.cosine_restarts(t, 0.3, STEPS, 4)),
    "restarts to an end": (schedules.CosineRestarts(0.3, STEPS, cycles=16, end_learning_rate=0.02),
                           lambda t: twin.cosine_restarts(t, 0.3, STEPS, 16, 0.02)),
    "triangles": (schedules.Cyclical(0.3, STEPS, cycles=3), lambda t: twin.triangles(t, 0.3, STEPS, 3)),
    "triangles on a base": (schedules.Cyclical(0.3, STEPS, cycles=4, end_learning_rate=0.1),
                            lambda t: twin.triangles(t, 0.3, STEPS, 4, 0.1)),
    "halving triangles": (schedules.Cyclical(0.3, STEPS, cycles=3, end_learning_rate=0.1, shrink=0.5),
                          lambda t: twin.triangles(t, 0.3, STEPS, 3, 0.1, lambda t, cycle: 0.5 ** (cycle - 1))),
    "shrinking triangles": (schedules.Cyclical(0.3, STEPS, cycles=4, shrink=0.98 ** (STEPS / 4), shrink_each="update"),
                            lambda t: twin.triangles(t, 0.3, STEPS, 4, 0.0, lambda t, cycle: 0.98 ** t)),
}


@pytest.mark.parametrize("case", CASES)
def test_schedule_is_its_formula_in_float64(case):
    schedule, formula = CASES[case]
    expected = np.array([formula(t) for t in BEYOND.tolist()])
    np.testing.assert_allclose(schedule(BEYOND).numpy(), expected, rtol=2e-6, atol=3e-8)


@pytest.mark.parametrize("decay_from", ["warmup_end", "start"])
@pytest.mark.parametrize("start", ["first", "zero"])
@pytest.mark.parametrize("shape", ["linear", "cosine"])
@pytest.mark.parametrize("warm", [1, 2, 25])
def test_warmup_is_its_formula_in_float64(shape, start, decay_from, warm):
    schedule = schedules.Warmup(warm, schedules.Polynomial(0.3, STEPS, power=0.5, end_learning_rate=1e-4),
                                shape=shape, start=start, decay_from=decay_from)
    expected = [
        twin.warmup(t, warm, 0.3, lambda u: twin.polynomial(u, 0.3, STEPS, 0.5, 1e-4),
                    shape, start, decay_from)
        for t in BEYOND.tolist()
    ]
    np.testing.assert_allclose(schedule(BEYOND).numpy(), expected, rtol=2e-6, atol=3e-8)


def test_the_relative_error_stays_small_where_the_rate_is_small():
    schedule = schedules.Cosine(1.0, 100_000)
    assert float(schedule(99_999)) == pytest.approx((np.pi / 200_000) ** 2, rel=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_a_vector_a_scalar_and_a_traced_step_agree(case):
    schedule, _ = CASES[case]
    one_by_one = [float(schedule(t)) for t in range(0, 160, 7)]
    traced = tf.function(schedule.__call__)
    in_a_graph = [float(traced(tf.constant(t, tf.int64))) for t in range(0, 160, 7)]
    np.testing.assert_allclose(schedule(np.arange(0, 160, 7)).numpy(), one_by_one, rtol=1e-6, atol=3e-8)
    np.testing.assert_allclose(in_a_graph, one_by_one, rtol=1e-6, atol=3e-8)
    matrix = schedule(tf.reshape(tf.range(6), [2, 3]))
    assert matrix.dtype == tf.float32 and matrix.shape == (2, 3)


@pytest.mark.parametrize("case", [c for c in CASES if c != "constant"])
def test_nothing_moves_after_the_end(case):
    schedule, _ = CASES[case]
    after = schedule([STEPS, STEPS + 1, 10 * STEPS, 2**40]).numpy()
    np.testing.assert_array_equal(after, np.full(4, np.float32(schedule.end_learning_rate)))


def test_zero_start_wastes_the_first_update_and_first_does_not():
    after = schedules.Constant(0.5)
    assert float(schedules.Warmup(10, after, start="zero")(0)) == 0.0
    assert float(schedules.Warmup(10, after, start="first")(0)) == pytest.approx(0.05)
    assert float(schedules.Warmup(10, after, start="zero")(10)) == 0.5
    assert float(schedules.Warmup(10, after, start="first")(9)) == 0.5


def test_the_authors_mnist_recipe():
    """35 updates at full batch: gamma t / w, then power 0.5 to 1e-4 over all 35; a step down at the join."""
    gamma, warm = 0.02, 7
    schedule = schedules.Warmup(warm, schedules.Polynomial(gamma, 35, power=0.5, end_learning_rate=1e-4),
                                start="zero", decay_from="start")
    expected = [gamma * t / warm if t < warm else (gamma - 1e-4) * (1 - t / 35) ** 0.5 + 1e-4
                for t in range(35)]
    np.testing.assert_allclose(schedule(np.arange(35)).numpy(), expected, rtol=2e-6)
    assert float(schedule(warm)) < gamma


def test_restarts_come_when_they_are_due_at_any_size():
    """A restart is update ceil(c x steps / cycles), also where float32 can't hold the product."""
    steps, cycles = 30_000_001, 16
    schedule = schedules.CosineRestarts(1.0, steps, cycles=cycles)
    for c in range(1, cycles):
        due = -(-c * steps // cycles)
        assert float(schedule(due)) == pytest.approx(1.0)
        assert float(schedule(due - 1)) == pytest.approx(0.0, abs=1e-6)


def settings(**changes):
    values = dict(schedule="polynomial", total_updates=100, warmup_updates=20, peak_rate=0.4,
                  warmup_shape="linear", warmup_from="first", decay_from="warmup_end", poly_power=2.0,
                  end_learning_rate=0.0, cycles=4, rate_drops=((2, 10), (4, 10)), stages=durations.Stages(10, 200))
    return types.SimpleNamespace(**{**values, **changes})


def test_build_gives_the_decay_what_the_warmup_leaves():
    table = schedules.build(settings())(np.arange(101)).numpy()
    expected = [0.4 * (t + 1) / 20 if t < 20 else 0.4 * (1 - (t - 20) / 80) ** 2 for t in range(101)]
    np.testing.assert_allclose(table, expected, rtol=2e-6, atol=1e-8)


def test_build_from_start_decays_over_the_whole_run():
    table = schedules.build(settings(decay_from="start", poly_power=0.5))(np.arange(20, 101)).numpy()
    expected = [0.4 * (1 - t / 100) ** 0.5 for t in range(20, 101)]
    np.testing.assert_allclose(table, expected, rtol=2e-6, atol=1e-8)


@pytest.mark.parametrize("decay_from", ["warmup_end", "start"])
def test_build_drops_rates_where_epochs_begin_whatever_the_warmup(decay_from):
    # 40 examples and batches of 7, then 14: epoch 2 begins in update 11, epoch 4 in update 18, which reads 154 to 167.
    stages = durations.Stages(7, 40, [(2, 2)])
    given = settings(schedule="steps", warmup_updates=3, rate_drops=((2, 10), (4, 4)), stages=stages, decay_from=decay_from)
    table = schedules.build(given)(np.arange(22)).numpy()
    expected = [0.4 * (t + 1) / 3 if t < 3 else 0.4 / (1 if t < 12 else 10 if t < 18 else 40) for t in range(22)]
    np.testing.assert_allclose(table, expected, rtol=2e-6)


def test_a_drop_that_falls_into_the_warmup_is_made_when_that_is_over():
    given = settings(schedule="steps", warmup_updates=20, rate_drops=((1, 10), (2, 2), (5, 4)), stages=durations.Stages(10, 100))
    table = schedules.build(given)(np.array([19, 20, 49, 50])).numpy()
    np.testing.assert_allclose(table, [0.4, 0.02, 0.02, 0.005], rtol=2e-6)


def test_a_drop_is_a_division_before_its_update():
    schedule = schedules.Steps(0.8, rate_drops=((0, 2), (3, 10)))
    np.testing.assert_allclose(schedule(np.arange(5)).numpy(), [0.4, 0.4, 0.4, 0.04, 0.04], rtol=2e-6)
    again = schedules.Steps.from_config(json.loads(json.dumps(schedule.get_config())))
    assert float(again(7)) == float(schedule(7)) and again.get_config() == schedule.get_config()
    assert float(schedules.Steps(0.8)(10)) == pytest.approx(0.8)


def test_a_row_by_name_needs_drops_by_updates():
    with pytest.raises(ValueError, match="'steps' needs rate_drops, \\(update, factor\\) pairs"):
        schedules.get("steps", 0.1, 7000)
    assert float(schedules.get("steps", 0.1, 7000, rate_drops=((5, 10),))(5)) == pytest.approx(0.01)


@pytest.mark.parametrize("drops", [((3, 2), (1, 2)), ((1, 2), (1, 2)), ((-1, 2),), ((1, 0),), ((1, float("nan")),),
                                   ((1.5, 10),), (3,)])
def test_drops_that_can_not_be_made_are_refused(drops):
    with pytest.raises(ValueError, match="rate_drops=.*(Order them|Give a factor|give pairs)"):
        schedules.Steps(0.8, rate_drops=drops)


def test_build_without_warmup_is_the_decay_alone():
    assert isinstance(schedules.build(settings(warmup_updates=0)), schedules.Polynomial)


def test_build_lets_the_warmup_fill_the_run_and_no_more():
    table = schedules.build(settings(warmup_updates=100))(np.arange(100)).numpy()
    np.testing.assert_allclose(table, 0.4 * np.arange(1, 101) / 100, rtol=2e-6)
    with pytest.raises(ValueError, match="101 updates.*longer than the run of 100.*--warmup_epochs"):
        schedules.build(settings(warmup_updates=101))


@pytest.mark.parametrize("name", registry.SCHEDULES)
def test_every_row_builds_peaks_at_the_peak_and_stays_finite(name):
    cycles = registry.SCHEDULES[name].settings.get("cycles")
    table = schedules.build(settings(schedule=name, cycles=cycles))(np.arange(120)).numpy()
    assert np.isfinite(table).all() and (table >= 0).all()
    assert table.max() == pytest.approx(0.4)


@pytest.mark.parametrize("steps", range(2, 12))
def test_a_triangle_that_is_accepted_moves(steps):
    for cycles in range(1, steps // 2 + 1):
        table = schedules.Cyclical(1.0, steps, cycles=cycles)(np.arange(steps)).numpy()
        assert table.max() >= 0.5 and np.count_nonzero(table == 0.0) <= cycles


@pytest.mark.parametrize("name, cycles", [("cosine_regular", 4), ("cosine_fine", 16), ("cosine_coarse", 2)])
def test_the_three_grains_are_numbers_of_restarts(name, cycles):
    table = schedules.get(name, 0.4, 160)(np.arange(160)).numpy()
    assert np.count_nonzero(np.diff(table) > 0) == cycles - 1
    assert np.count_nonzero(table == np.float32(0.4)) == cycles


def test_get_refuses_what_a_row_does_not_take():
    with pytest.raises(ValueError, match="'cosine' does not take cycles.*end_learning_rate"):
        schedules.get("cosine", 0.4, 10, cycles=3)
    with pytest.raises(registry.UnknownName, match="cosine"):
        schedules.get("cosin", 0.4, 10)


@pytest.mark.parametrize("make, names", [
    (lambda: schedules.Polynomial(-0.1, 10), ["peak_learning_rate=-0.1", "at least 0"]),
    (lambda: schedules.Polynomial(float("nan"), 10), ["peak_learning_rate=nan", "finite"]),
    (lambda: schedules.Polynomial(0.1, 10, end_learning_rate=-1), ["end_learning_rate=-1", "at least 0"]),
    (lambda: schedules.Polynomial(0.1, 10, end_learning_rate=0.2), ["0.2", "0.1", "at most"]),
    (lambda: schedules.Polynomial(0.1, 10, power=0), ["power=0", "above 0"]),
    (lambda: schedules.Cosine(0.1, 0), ["steps=0", "at least 1"]),
    (lambda: schedules.Cosine(0.1, -3), ["steps=-3", "at least 1"]),
    (lambda: schedules.Cosine(0.1, 2.5), ["steps=2.5", "round"]),
    (lambda: schedules.Cyclical(0.1, 10, cycles=0), ["cycles=0", "at least 1"]),
    (lambda: schedules.Cyclical(0.1, 10, cycles=2, shrink=0), ["shrink=0", "(0, 1]"]),
    (lambda: schedules.Cyclical(0.1, 10, cycles=2, shrink_each="epoch"), ["'epoch'", "cycle, update"]),
    (lambda: schedules.CosineRestarts(0.1, 10, cycles=11), ["cycles=11", "steps=10", "at most 10"]),
    (lambda: schedules.Cyclical(0.1, 11, cycles=6), ["cycles=6", "steps=11", "at least 2", "at most 5"]),
    (lambda: schedules.Warmup(0, schedules.Constant(0.1)), ["steps=0", "at least 1"]),
    (lambda: schedules.Warmup(2, schedules.Constant(0.1), shape="square"), ["'square'", "linear, cosine"]),
    (lambda: schedules.Warmup(2, schedules.Constant(0.1), start="last"), ["'last'", "first, zero"]),
    (lambda: schedules.Warmup(2, schedules.Constant(0.1), decay_from="end"), ["'end'", "warmup_end, start"]),
    (lambda: schedules.Warmup(11, schedules.Cosine(0.1, 10), decay_from="start"), ["11", "10", "warmup_end"]),
    (lambda: schedules.Warmup(11, schedules.Scaled(schedules.Cosine(0.1, 10)), decay_from="start"), ["11", "10", "warmup_end"]),
    (lambda: schedules.Polynomial("0.1", 10), ["peak_learning_rate='0.1'", "no number"]),
    (lambda: schedules.Polynomial(True, 10), ["peak_learning_rate=True", "no number"]),
    (lambda: schedules.Polynomial(0.1, True), ["steps=True", "whole number"]),
    (lambda: schedules.Polynomial(0.1, 10, power="2"), ["power='2'", "no number"]),
    (lambda: schedules.Constant(1e39), ["peak_learning_rate=1e+39", "finite"]),
    (lambda: schedules.Scaled(schedules.Constant(0.1), "2"), ["scale='2'", "no number"]),
    (lambda: schedules.Cyclical(0.1, 10, cycles=2, shrink="a"), ["shrink='a'", "no number"]),
])
def test_bad_values_are_refused_with_value_and_remedy(make, names):
    with pytest.raises((TypeError, ValueError)) as refused:
        make()
    for name in names:
        assert name in str(refused.value)


@pytest.mark.parametrize("after, end", [
    (schedules.Constant(0.1, steps=5), None), (schedules.Steps(0.1, 5, rate_drops=((12, 10),)), 12), (schedules.Steps(0.1, 5), None),
    (schedules.Warmup(5, schedules.Polynomial(1.0, 100)), 105),
    (schedules.Warmup(5, schedules.Polynomial(1.0, 100), decay_from="start"), 100),
    (lambda: schedules.Scaled(schedules.Cosine(1.0, 30)), 30)])  # its variable is not made before the devices are
def test_a_decay_is_over_where_its_rate_changes_no_more(after, end):
    after = after if isinstance(after, keras.optimizers.schedules.LearningRateSchedule) else after()
    rates = np.asarray(after(tf.range(200)))
    changes = np.flatnonzero(np.diff(rates))
    assert after.ends_at == end and (end is None or changes[-1] + 1 == end)
    schedules.Warmup(end or 200, after, decay_from="start")
    if end:
        with pytest.raises(ValueError, match=f"outlast the {end} updates"):
            schedules.Warmup(end + 1, after, decay_from="start")


def test_a_warmup_needs_something_with_a_peak():
    with pytest.raises(TypeError, match="0.1 has no peak_learning_rate"):
        schedules.Warmup(5, 0.1)


def test_a_scaled_peak_is_what_a_warmup_climbs_to_and_follows_the_scale():
    scaled = schedules.Scaled(schedules.Polynomial(1.0, 10), 0.5)
    warmed = schedules.Warmup(3, scaled)
    np.testing.assert_allclose([warmed(t) for t in range(4)], [0.5 / 3, 1 / 3, 0.5, 0.5], rtol=1e-6)
    outside = schedules.Scaled(schedules.Warmup(3, schedules.Polynomial(1.0, 10)), 0.5)
    scaled.scale.assign(0.25)
    outside.scale.assign(0.25)
    np.testing.assert_allclose(warmed(tf.range(12)), outside(tf.range(12)), rtol=1e-6)
    with pytest.raises(TypeError, match="schedule=0.1 is no LearningRateSchedule"):
        schedules.Scaled(0.1)


@pytest.mark.parametrize("case", CASES)
def test_round_trip_through_config_alone_and_inside_a_warmup(case):
    schedule, _ = CASES[case]
    warm = schedules.Warmup(9, schedule, shape="cosine", start="zero")
    for original in (schedule, warm):
        config = keras.saving.serialize_keras_object(original)
        again = keras.saving.deserialize_keras_object(config, safe_mode=True)
        assert type(again) is type(original) and again.get_config() == original.get_config()
        np.testing.assert_array_equal(again(BEYOND).numpy(), original(BEYOND).numpy())


def test_a_schedule_survives_saving_inside_an_optimizer_and_goes_on(tmp_path):
    after = schedules.CosineRestarts(0.2, 8, cycles=2, end_learning_rate=0.05)
    schedule = schedules.Warmup(3, after, start="zero", shape="cosine", decay_from="start")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(optimizer=keras.optimizers.SGD(schedule), loss="mse")
    x, y = np.ones((4, 3), "float32"), np.ones((4, 2), "float32")
    for _ in range(4):
        model.train_on_batch(x, y)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.optimizer.iterations.numpy() == 4
    loaded.train_on_batch(x, y)
    model.train_on_batch(x, y)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(ours, theirs)


def test_a_warmup_may_fill_a_decay_that_is_counted_from_the_start():
    whole = schedules.Warmup(10, schedules.Polynomial(0.4, 10), decay_from="start")
    np.testing.assert_allclose(whole(np.arange(11)).numpy(), [*(0.04 * np.arange(1, 11)), 0], rtol=2e-6)
    with pytest.raises(ValueError, match="steps=11 of warm-up outlast the 10 updates.*at most 10"):
        schedules.Warmup(11, schedules.Polynomial(0.4, 10), decay_from="start")
