"""The real TPU compiler on small models and slices; scripts/plan_lane.sh installs it and runs these."""

import io

import pytest

pytest.importorskip("libtpu")

from tf_hugebatch.planning.compile import Cache, CompileFailed, Compiler, Program
from tf_hugebatch.planning.planner import Planner
from tf_hugebatch.planning.screen import Screen
from tf_hugebatch.planning.slices import find
from tf_hugebatch.settings import Settings


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(str(tmp_path_factory.mktemp("cache")))


def fitting(cache, name="v3-8", **given):
    target = find(name)
    compiler = Compiler(target, cache, timeout=3600.0)
    return Planner(Settings(**given), target, cache, compiler, Screen(io.StringIO())).find()


def taps(size, kernel=5):
    """Pairs of an output and a kernel position along one side that lie inside the image, with padding 'same'."""
    half = kernel // 2
    return sum(0 <= place + tap - half < size for place in range(size) for tap in range(kernel))


def test_flops_of_lenet_are_those_of_its_layers(cache):
    size = 64
    found = fitting(cache, dataset="mnist5k", model="lenet", batch_size=8 * size, optimizer="sgd").accumulate.figures
    first = 2 * taps(28) ** 2 * 32
    others = 2 * (taps(14) ** 2 * 32 * 64 + 7 * 7 * 64 * 1024 + 1024 * 10)
    # Forward, and back to weights and inputs; nobody asks for the images' gradient.
    assert found.flops == pytest.approx(size * (2 * first + 3 * others), rel=0.05)


def test_a_larger_micro_batch_needs_more_memory(cache):
    given = {"dataset": "mnist5k", "model": "lenet5", "batch_size": 4000}
    memory = [fitting(cache, **given, micro_batch_size=size).accumulate.figures.temporaries for size in (50, 100, 250, 500)]
    assert memory == sorted(memory) and memory[0] < memory[-1]


@pytest.mark.parametrize("name", ["v2-8", "v4-8", "v5litepod-4", "v5p-8", "v6e-1"])
def test_every_generation_is_compiled_for(cache, name):
    found = fitting(cache, name, dataset="mnist5k", model="lenet5", batch_size=64)
    assert found.fits and found.accumulate.figures.flops > 0 and found.apply.figures.memory > 0


def test_what_updates_in_place_shares_its_memory(cache):
    found = fitting(cache, dataset="mnist5k", model="lenet", batch_size=512, optimizer="lars")
    weights = 4 * (5 * 5 * 32 + 32 + 5 * 5 * 32 * 64 + 64 + 7 * 7 * 64 * 1024 + 1024 + 1024 * 10 + 10)
    # Weights and momentum in the end of an update, sums in a micro-batch; the compiler lays arrays out with room around.
    assert found.apply.figures.aliased >= 2 * weights
    assert found.accumulate.figures.aliased >= weights


def test_batch_norm_groups_compile_inside_and_across_replicas(cache):
    given = {"dataset": "cifar10", "model": "resnet9", "batch_size": 256, "bn_span": 32}
    inside, across = (fitting(cache, **given, micro_batch_size=size) for size in (32, 16))
    assert inside.fits and not inside.layout.across_replicas and inside.accumulate.program.all_reduces == 0
    assert across.fits and across.layout.across_replicas and across.accumulate.program.all_reduces > 0


def test_two_batch_norm_groups_move_twice_the_bytes_of_one(cache):
    given = {"dataset": "cifar10", "model": "resnet9", "batch_size": 512, "bn_span": 32}
    one, two = (fitting(cache, **given, micro_batch_size=size).accumulate for size in (32, 64))
    assert two.figures.bytes < 2.1 * one.figures.bytes


def test_what_does_not_fit_is_refused_in_the_compiler_s_words(cache):
    given = {"dataset": "synthetic", "dataset_size": (10**6, 10), "image_size": 1024, "model": "resnet18", "batch_size": 32768}
    target = find("v2-8")
    planner = Planner(Settings(**given, micro_batch_size=4096), target, cache, Compiler(target, cache, timeout=3600.0),
                      Screen(io.StringIO()))
    assert planner.find() is None
    assert "Ran out of memory" in planner.attempts[0].reason and "HBM" in planner.attempts[0].reason


def test_a_program_that_is_none_ends_with_the_reason(cache):
    with pytest.raises(CompileFailed, match="exit code 1"):
        Compiler(find("v3-8"), cache, timeout=600.0)(Program("nonsense", 0, 0, 0, b"nonsense"))


@pytest.mark.slow
def test_resnet_50_on_a_board(cache):
    given = {"dataset": "imagenet2012", "model": "resnet50", "precision": "mixed_bfloat16", "bn_span": 64}
    small, large = (fitting(cache, **given, batch_size=8 * size, micro_batch_size=size) for size in (64, 128))
    assert small.fits and large.fits
    # 4.1 billion multiplications and additions an image, forward, back to weights and back to inputs.
    assert small.accumulate.figures.flops / 64 == pytest.approx(3 * 2 * 4.09e9, rel=0.1)
    assert large.accumulate.figures.temporaries > small.accumulate.figures.temporaries
    assert large.accumulate.figures.flops == pytest.approx(2 * small.accumulate.figures.flops, rel=0.02)
    assert small.apply.program.all_reduce_bytes == pytest.approx(102e6, rel=0.02)
