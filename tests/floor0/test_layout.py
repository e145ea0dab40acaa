"""The cut of a global batch: every position once, groups whole, padding where it should be."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_hugebatch.layout import Layout, LayoutError, ceil_div, micro_batch_sizes, one_round_micro_batch

sizes = st.integers(1, 200)


@given(batch=sizes, micro=sizes, replicas=st.integers(1, 8), span=st.none() | sizes)
def test_every_position_lies_in_exactly_one_cell_in_order(batch, micro, replicas, span):
    try:
        layout = Layout(batch, micro, replicas, span)
    except LayoutError:
        return
    seen = []
    for round_, replica in itertools.product(range(layout.rounds), range(replicas)):
        cell = layout.cell(round_, replica)
        assert 0 <= cell.count <= micro
        seen.extend(range(cell.first, cell.first + cell.count))
    assert seen == list(range(batch))
    assert layout.padding == layout.rounds * replicas * micro - batch


@given(batch=sizes, micro=sizes, replicas=st.integers(1, 8), span=sizes)
def test_groups_are_even_runs_that_never_straddle_a_round_or_a_replica_that_could_hold_them(
        batch, micro, replicas, span):
    try:
        layout = Layout(batch, micro, replicas, span)
    except LayoutError as error:
        group = -(-batch // -(-batch // span))
        assert group > micro * replicas
        assert str(group) in str(error)
        return
    group_of = [((p + 1) * layout.groups - 1) // batch for p in range(batch)]
    counts = [group_of.count(g) for g in range(layout.groups)]
    assert layout.groups == -(-batch // span)
    assert group_of == sorted(group_of) and max(counts) - min(counts) <= 1 and max(counts) <= span
    assert [layout.group_start(g) for g in range(layout.groups)] == [group_of.index(g) for g in range(layout.groups)]
    rounds_of, cells_of = {}, {}
    for round_, replica in itertools.product(range(layout.rounds), range(replicas)):
        cell = layout.cell(round_, replica)
        for position in range(cell.first, cell.first + cell.count):
            rounds_of.setdefault(group_of[position], set()).add(round_)
            cells_of.setdefault(group_of[position], set()).add((round_, replica))
    assert all(len(found) == 1 for found in rounds_of.values())
    if max(counts) <= micro:
        assert not layout.across_replicas
        assert all(len(found) == 1 for found in cells_of.values())


@pytest.mark.parametrize("batch, micro, replicas, span, rounds, across, padding", [
    (64, 64, 1, 16, 1, False, 0),
    (64, 16, 4, 16, 1, False, 0),
    (64, 16, 2, 16, 2, False, 0),
    (64, 8, 4, 16, 2, True, 0),
    (61, 16, 4, 16, 1, False, 3),
    (1_281_167, 128, 2048, 64, 5, False, 29_553),
    (7, 4, 1, None, 2, False, 1),
    (500, 500, 1, 64, 1, False, 0),  # groups of 62 and 63
    (1000, 500, 2, 64, 1, False, 0),
    (8192, 8192, 1, 100, 1, False, 0),
    (61, 31, 2, 16, 1, False, 1),
])
def test_known_layouts(batch, micro, replicas, span, rounds, across, padding):
    layout = Layout(batch, micro, replicas, span)
    assert (layout.rounds, layout.across_replicas, layout.padding) == (rounds, across, padding)


@given(batch=sizes, replicas=st.integers(1, 8), span=st.none() | sizes)
def test_one_round_micro_batch_is_the_smallest_that_holds_the_batch_in_one_round(batch, replicas, span):
    size = one_round_micro_batch(batch, replicas, span)
    assert Layout(batch, size, replicas, span).rounds == 1
    smaller = Layout(batch, size - 1, replicas, span) if size - 1 >= Layout(batch, size, replicas, span).largest_group else None
    assert smaller is None or smaller.rounds > 1


def test_a_layout_that_cannot_hold_a_group_names_the_sizes_that_can():
    with pytest.raises(LayoutError, match=r"--micro_batch_size=32 .* or 64"):
        Layout(128, 16, 2, 64)
    Layout(128, 32, 2, 64), Layout(128, 64, 2, 64)


@given(batch=sizes, replicas=st.integers(1, 8), span=st.none() | sizes, largest=sizes)
def test_sizes_worth_trying_hold_the_groups(batch, replicas, span, largest):
    candidates = micro_batch_sizes(batch, replicas, span, largest)
    assert candidates == sorted(candidates) and candidates
    for size in candidates:
        layout = Layout(batch, size, replicas, span)
        if span is None:
            assert size <= largest
            # Even shares: less than one round of padding per replica and round.
            assert layout.padding < layout.rounds * replicas + replicas * layout.rounds
    group = ceil_div(batch, ceil_div(batch, span or batch))
    if span is not None and group <= largest:
        slots = [batch + Layout(batch, size, replicas, span).padding for size in range(group, largest + 1, group)]
        for size in candidates:
            layout = Layout(batch, size, replicas, span)
            assert batch + layout.padding <= 1.1 * min(slots)
            assert size == group or Layout(batch, size - group, replicas, span).rounds > layout.rounds


@pytest.mark.parametrize("batch, replicas, span, largest, chosen", [
    (576, 1, 64, 512, 192), (768, 1, 128, 512, 384), (1_281_167, 2048, 128, 1024, 640), (1_281_167, 2048, 128, 512, 128)])
def test_the_largest_worth_trying_is_not_the_one_that_pads_most(batch, replicas, span, largest, chosen):
    assert micro_batch_sizes(batch, replicas, span, largest)[-1] == chosen
