"""The benchmark's arithmetic: what an update costs from two measurements, and FLOPs by hand."""

import importlib.util
import pathlib
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "bench_beside_lars.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("bench_beside_lars", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_beside_lars"] = module
    spec.loader.exec_module(module)
    return module


def test_the_parts_of_an_update_come_back(script):
    """a = 2, b = 5, and a round in which the machine was three times as slow for both."""
    rounds = {1: [7.0, 21.0, 7.0], script.MANY: [5 + 2.0 * script.MANY, 3 * (5 + 2.0 * script.MANY), 5 + 2.0 * script.MANY]}
    assert script.parts(rounds) == pytest.approx((2.0, 5.0))


def test_flops_of_a_convolution_and_a_dense_layer(script):
    layers = [(9, 4, 16), (64, 10, 1)]  # 3x3 to 4 channels at 16 places; 64 to 10
    network = 4 * 16 * 9 * 4 + 6 * 64 * 10
    assert script.flops(layers, "lars", 1) == (network, 0)
    per_example, per_update = script.flops(layers, "shampoo", 10)
    assert per_example == network
    assert per_update == pytest.approx(4 * (9 * 4 * 13 + 64 * 10 * 74) + 1.1 * (9**3 + 4**3 + 64**3 + 10**3))
    # 3,136 rows are seven blocks of 448, 1,024 columns two of 512.
    assert script.flops([(3136, 1024, 1)], "shampoo", 1)[1] == 14 * (4 * 448 * 512 * 960 + 11 * (448**3 + 512**3))
    per_example, per_update = script.flops(layers, "kfac", 1)
    assert per_example == network + 2 * 16 * (10**2 + 4**2) + 2 * (65**2 + 10**2)
    assert per_update == 2 * (10 * 4 * 14 + 65 * 10 * 75) + 2 * (10**3 + 4**3 + 65**3 + 10**3)
    per_example, per_update = script.flops(layers, "muon", 1)
    assert per_example == network
    assert per_update == 5 * (4 * 4**2 * 9 + 2 * 4**3 + 4 * 10**2 * 64 + 2 * 10**3)


def test_layers_are_found_in_the_network(script):
    from tf_hugebatch.models.lenet import lenet5

    assert script.layers_of(lenet5()) == [(25, 6, 784), (150, 16, 100), (400, 120, 1), (120, 84, 1), (84, 10, 1)]


def test_rows_are_rows(script):
    from tf_hugebatch import optimizers, registry

    assert optimizers.get("muon", learning_rate=0.1).newton_schulz_steps == script.NEWTON_SCHULZ_STEPS
    assert optimizers.get("shampoo", learning_rate=0.1).block_size == script.SHAMPOO_BLOCK

    for row, arguments in script.ROWS.values():
        assert set(arguments) <= set(registry.OPTIMIZERS[row].flags)
