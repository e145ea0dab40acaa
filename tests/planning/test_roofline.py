"""The bound: arithmetic or memory, whichever takes longer, K times and once."""

import pytest

from tf_hugebatch.layout import Layout
from tf_hugebatch.planning.compile import Figures
from tf_hugebatch.planning.roofline import Roofline
from tf_hugebatch.planning.slices import find

V3 = find("v3-8")  # 8 cores of 61.5 TFLOP/s and 450 GB/s


def test_time_is_k_micro_batches_and_one_end():
    bound = Roofline(V3, Layout(1000, 25, 8), Figures(flops=123e12, bytes=45e9), Figures(flops=61.5e9, bytes=450e9))
    # 5 rounds of 2 s arithmetic (0.1 s of traffic), then 1 s of traffic (1 ms of arithmetic).
    assert bound.layout.rounds == 5
    assert bound.seconds == pytest.approx(5 * 2 + 1)
    assert bound.flops == pytest.approx(5 * 123e12 + 61.5e9)
    assert bound.bytes == pytest.approx(5 * 45e9 + 450e9)
    assert bound.images_per_second == pytest.approx(1000 / 11)
    assert bound.bound_by == "arithmetic"


def test_memory_decides_where_it_is_slower():
    bound = Roofline(V3, Layout(8, 1, 8), Figures(flops=61.5e12, bytes=900e9), Figures())
    assert (bound.seconds, bound.bound_by) == (pytest.approx(2), "memory")


def test_chip_hours_count_chips_not_cores():
    bound = Roofline(V3, Layout(8, 1, 8), Figures(flops=61.5e12), Figures())
    assert bound.chip_hours(3600) == pytest.approx(4)


def test_memory_of_a_program_counts_what_is_aliased_once():
    assert Figures(arguments=10, outputs=7, aliased=6, temporaries=100, code=1).memory == 112


def test_padding_is_no_image():
    layout = Layout(990, 25, 8)
    bound = Roofline(V3, layout, Figures(flops=61.5e12), Figures())
    assert layout.padding == 10 and bound.images_per_second == pytest.approx(990 / 5)
