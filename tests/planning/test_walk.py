"""Layouts to try: every number of rounds that can be had, each with the least padding, all of them holding the groups."""

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from tf_hugebatch.layout import Layout, LayoutError
from tf_hugebatch.planning.walk import layouts


def possible(batch_size, replicas, span):
    """{rounds: smallest micro-batch}, by trying all of them."""
    found = {}
    for size in range(2 * batch_size, 0, -1):
        try:
            found[Layout(batch_size, size, replicas, span).rounds] = size
        except LayoutError:
            break
    return found


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 9), st.one_of(st.none(), st.integers(1, 64)))
def test_every_number_of_rounds_with_about_the_smallest_micro_batch(batch_size, replicas, span):
    walked = list(layouts(batch_size, replicas, span))
    smallest = possible(batch_size, replicas, span)
    assert [one.rounds for one in walked] == sorted(smallest)
    for one in walked:
        assert smallest[one.rounds] <= one.micro_batch_size <= 1.1 * smallest[one.rounds]


def test_a_group_stays_in_a_replica_where_that_costs_a_tenth_at_most():
    by_rounds = {one.rounds: one for one in layouts(1_281_167, 2048, 128)}
    assert [(one.rounds, one.micro_batch_size) for one in by_rounds.values()][:5] == [
        (1, 640), (2, 384), (3, 256), (5, 128), (6, 105)]
    assert not by_rounds[5].across_replicas and by_rounds[6].across_replicas


def test_replicas_share_one_group_rather_than_idle():
    [one] = layouts(256, 8, 256)
    assert one.micro_batch_size == 32 and one.padding == 0


@pytest.mark.parametrize("span, micro_batches, size, padding", [(64, 2, 320, 0.023), (128, 5, 128, 0.023)])
def test_layouts_that_were_found_by_hand(span, micro_batches, size, padding):
    found = next(one for one in layouts(1_281_167, 2048, span) if one.rounds == micro_batches)
    assert found.micro_batch_size == size
    assert found.padding / (found.padding + found.batch_size) == pytest.approx(padding, abs=0.001)
