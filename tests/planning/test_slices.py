"""The table of slices: names, sizes and peaks that agree with each other, and refusals that help."""

import math

import pytest

from tf_hugebatch.planning.slices import GENERATIONS, RECORDS, SLICES, find
from tf_hugebatch.settings import Refusal


@pytest.mark.parametrize("one", SLICES.values(), ids=SLICES)
def test_a_name_counts_what_its_grid_holds(one):
    assert math.prod(map(int, one.grid.split("x"))) == one.chips
    # v2 to v5p count TensorCores, two a chip; the small chips v5e and v6e are counted themselves.
    counted = one.chips * (1 if one.name.startswith(("v5litepod", "v6e")) else 2)
    assert one.name.endswith(f"-{counted}")


@pytest.mark.parametrize("name, topology, replicas, flops", [
    ("v3-2048", "v3:32x32", 2048, 61.5e12), ("v2-512", "v2:16x16", 512, 22.5e12), ("v4-8", "v4:2x2x1", 4, 275e12),
    ("v5litepod-256", "v5e:16x16", 256, 197e12), ("v5p-128", "v5p:4x4x4", 64, 459e12), ("v6e-1", "v6e:1x1", 1, 918e12),
])
def test_what_the_compiler_is_told(name, topology, replicas, flops):
    found = find(name)
    assert (found.topology, found.replicas, found.flops) == (topology, replicas, flops)


@pytest.mark.parametrize("generation", GENERATIONS.values(), ids=GENERATIONS)
def test_a_program_gets_nearly_all_of_a_device_s_memory(generation):
    assert 0.9 < generation.usable * generation.devices / generation.memory < 1.01


@pytest.mark.parametrize("name, nearest", [
    ("v3-2000", "v3-2048"), ("v3-8192", "v3-2048"), ("v5litepod-512", "v5litepod-256"), ("v5e-8", "v5litepod"),
    ("V3-8", "v3-8"), ("local", "v3-2048"), ("grpc://10.0.0.2:8470", "v3-2048"),
])
def test_a_slice_that_is_not_there_is_refused_with_one_that_is(name, nearest):
    with pytest.raises(Refusal) as refusal:
        find(name)
    [problem] = refusal.value.problems
    assert f"--tpu={name}" in problem and nearest in problem


def test_a_published_speed_is_below_what_its_slice_could_do_by_arithmetic_alone():
    for record in RECORDS:
        target = find(record.slice)
        # ResNet-50 needs 22.5 GFLOP an image forward and backward at least.
        assert record.images_per_second < target.replicas * target.flops / 22.5e9


@pytest.mark.parametrize("name, bandwidth", [("v3-8", 450e9), ("v4-8", 1200e9), ("v5p-128", 2765e9), ("v6e-1", 1640e9)])
def test_a_devices_bandwidth_is_its_share_of_the_chips(name, bandwidth):
    assert find(name).bandwidth == bandwidth
