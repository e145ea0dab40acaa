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
    assert durations.warmup_updates(epochs, examples, batch) == updates


@given(epochs=st.decimals("0.001", "1000", places=3), examples=st.integers(1, 10**7),
       batch=st.integers(1, 10**7))
def test_updates_are_the_least_number_that_covers_the_epochs(epochs, examples, batch):
    updates = durations.updates_for_epochs(float(epochs), examples, batch)
    assert (updates - 1) * batch < Fraction(epochs) * examples <= updates * batch


@pytest.mark.parametrize("rule, expected", [("none", 0.1), ("linear", 3.2), ("sqrt", 0.1 * math.sqrt(32))])
def test_scaling_rules(rule, expected):
    assert durations.scaled_learning_rate(0.1, 8_192, 256, rule) == pytest.approx(expected, rel=1e-15)
    assert durations.scaled_learning_rate(0.1, 256, 256, rule) == pytest.approx(0.1, rel=1e-15)


def test_unknown_rule_is_refused_with_the_rules_there_are():
    with pytest.raises(ValueError, match="'cubic'.*none, linear, sqrt"):
        durations.scaled_learning_rate(0.1, 512, 256, "cubic")
