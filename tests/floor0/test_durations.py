"""Epochs to updates, exactly; rates to batches."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_hugebatch import durations


@pytest.mark.parametrize("epochs, examples, batch, updates", [
    (90, 1_281_167, 819_200, 141),      # the paper's ladder
    (90, 1_281_167, 1_281_167, 90),     # full ImageNet
    (30, 60_000, 32_768, 55),
    (30, 60_000, 8_192, 220),
    (30, 60_000, 256, 7_032),           # 7031.25
    (30, 60_000, 60_000, 30),
    (200, 50_000, 50_000, 200),
    (1, 60_000, 60_000, 1),
    (0.1, 60_000, 6_000, 1),            # 0.1 as a float is a little more than a tenth: ceil would say 2
    (0.3, 10, 3, 1),
    (1e-9, 60_000, 256, 1),
])
def test_updates_of_known_runs(epochs, examples, batch, updates):
    assert durations.updates_for_epochs(epochs, examples, batch) == updates


@pytest.mark.parametrize("epochs, examples, batch, updates", [
    (5, 60_000, 8_192, 37),             # 36.6
    (0.5, 10, 10, 1),                   # a half goes up
    (2.5, 10, 10, 3),                   # also where banker's rounding would go down to 2
    (0.49, 10, 10, 0),
    (0, 60_000, 256, 0),
    (25, 1_281_167, 131_072, 244),
])
def test_warmup_rounds_half_up(epochs, examples, batch, updates):
    assert durations.Stages(batch, examples).nearest_update(epochs) == updates


@given(epochs=st.decimals("0.001", "1000", places=3), examples=st.integers(1, 10**7),
       batch=st.integers(1, 10**7))
def test_updates_are_the_least_number_that_covers_the_epochs(epochs, examples, batch):
    updates = durations.updates_for_epochs(float(epochs), examples, batch)
    assert (updates - 1) * batch < Fraction(epochs) * examples <= updates * batch


# A batch that grows.


def test_stages_of_a_known_run():
    # 10 epochs of 60,000 at 256 are 2,343.75 updates, then 468.5 of 1,280, then 93.7 of 6,400.
    stages = durations.Stages(256, 60_000, [(10, 5), (20, 5)])
    assert [*stages] == [durations.Stage(0, 0, 256), durations.Stage(2_344, 600_064, 1_280),
                         durations.Stage(2_813, 1_200_384, 6_400)]
    assert stages.whole_updates(30) == 2_813 + 94
    assert [stages.at(update) for update in (0, 2_343, 2_344, 2_812, 2_813, 10**9)] == [0, 0, 1, 1, 2, 2]


def test_growths_with_no_update_between_them_are_one():
    assert [*durations.Stages(10, 100, [(0.15, 2), (0.2, 3)])] == [durations.Stage(0, 0, 10), durations.Stage(2, 20, 60)]
    assert [*durations.Stages(10, 100, [(0.001, 2), (0.002, 3)])] == [durations.Stage(0, 0, 10), durations.Stage(1, 10, 60)]


@given(batch=st.integers(1, 500), examples=st.integers(1, 10_000), growth=st.lists(st.tuples(
    st.decimals("0.01", "30", places=2), st.integers(2, 6)), max_size=4, unique_by=lambda pair: pair[0]).map(sorted))
def test_stages_leave_no_example_out_and_begin_with_the_epoch(batch, examples, growth):
    stages = durations.Stages(batch, examples, growth)
    reads = [(stages[i].batch_size, stages[i + 1].update - stages[i].update) for i in range(len(stages) - 1)]
    assert [stage.position for stage in stages] == [
        sum(size * updates for size, updates in reads[:i]) for i in range(len(stages))]
    for epoch, _ in growth:
        # The update that begins at or after the epoch has the grown batch, the one before has not.
        grown = next(stage for stage in stages if stage.position >= Fraction(epoch) * examples)
        before = stages[stages.at(grown.update - 1)]
        assert grown.position - before.batch_size < Fraction(epoch) * examples
    for update in (*(stage.update for stage in stages), stages[-1].update + 3):
        assert stages.updates(stages.epoch(update)) == update
        assert stages.whole_updates(stages.epoch(update)) == update


@pytest.mark.parametrize("rule, expected", [("none", 0.1), ("linear", 3.2), ("sqrt", 0.1 * math.sqrt(32))])
def test_scaling_rules(rule, expected):
    assert durations.scaled_learning_rate(0.1, 8_192, 256, rule) == pytest.approx(expected, rel=1e-15)
    assert durations.scaled_learning_rate(0.1, 256, 256, rule) == pytest.approx(0.1, rel=1e-15)


def test_unknown_rule_is_refused_with_the_rules_there_are():
    with pytest.raises(ValueError, match="'cubic'.*none, linear, sqrt"):
        durations.scaled_learning_rate(0.1, 512, 256, "cubic")
