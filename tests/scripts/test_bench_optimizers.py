"""The benchmark's rows run, its ratios are what it says, and its goals name rows that there are."""

import importlib.util
import pathlib
import sys

import numpy as np
import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "bench_optimizers.py"
SHAPES = [("conv/kernel", (3, 3, 4, 8)), ("bn/gamma", (8,)), ("dense/kernel", (80, 64)), ("dense/bias", (64,))]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("bench_optimizers", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_optimizers"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("row", ["SGD momentum", "LARS", "Adam", "LAMB", "Keras Lamb", "Muon"])
def test_a_row_updates_alike_with_and_without_xla(script, row):
    make, after = script.optimizers()[row][1], {}
    for compiled in (False, True):
        optimizers = []
        update = script.keras_update(lambda: optimizers.append(make()) or optimizers[0], SHAPES, script.arrays(SHAPES, 1), compiled)
        for _ in range(3):
            update()
        after[compiled] = [variable.numpy() for variable in optimizers[0]._trainable_variables]
    for before, plain, compiled in zip(script.arrays(SHAPES, 0), after[False], after[True], strict=True):
        moved = np.abs(plain - before).max()
        assert moved > 0 and np.abs(compiled - plain).max() < 0.001 * moved


def test_a_ratio_is_the_median_over_rounds_and_a_floor_counts_passes_in_halves_of_a_copy(script, capsys):
    # Medians of the times alone would give LARS 2.0; within rounds it is 1.5, 1.5, 4.
    measured = {"copy": [(0.002, 0.002)] * 3, "Keras SGD momentum": [(0.01, 0.02), (0.02, 0.02), (0.01, 0.02)],
                "LARS": [(0.015, 0.03), (0.03, 0.03), (0.04, 0.03)]}
    script.report(measured, {"Keras SGD momentum": 5, "LARS": 7}, 1_000_000, "graph")
    printed = capsys.readouterr().out
    assert "LARS / Keras SGD momentum: 1.50 (1.50 to 4.00), goal 1.7: met; of processor time 1.50 (1.50 to 1.50)" in printed
    assert "4.0 GB/s" in printed
    [floor] = [line for line in printed.splitlines() if line.startswith("LARS  ")]
    assert floor.endswith("4.29 (2.14 to 5.71)")


def test_goals_name_rows(script):
    rows = set(script.optimizers())
    assert all({row, peer} <= rows and where in ("graph", "XLA") for row, peer, where, _ in script.GOALS)
