"""Ours beside other people's optimizers, side by side, and docs/PARITY.md, which says how far apart they are.

Rows against optax and timm skip where these are not installed; the recordings (test_goldens.py) hold without them.
"""

import importlib.util
import pathlib
import sys

import pytest
from reference import peers, recorded

ROOT = pathlib.Path(__file__).parents[2]
SMALL = {"conv/kernel": (3, 3, 4, 8), "bn/gamma": (8,), "bn/beta": (8,), "dense/kernel": (16, 10), "dense/bias": (10,)}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("parity_table", ROOT / "scripts" / "parity_table.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["parity_table"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def resnet50(script):
    return peers.Problem(script.shapes_of_resnet50())


def named(row):
    change = ",".join(row.neighbour)
    return f"{row.theirs} not {change}" if change else row.theirs


def check(row, problem):
    lacking = peers.missing(row)
    if lacking:
        pytest.skip(f"{', '.join(lacking)} not installed: pip install them to run this row")
    ours, neighbour = peers.measured(row, problem)
    if row.apart:
        assert ours > 10 * peers.TOLERANCE
    else:
        assert ours < peers.TOLERANCE
        assert neighbour > 10 * max(ours, peers.TOLERANCE)


@pytest.mark.parametrize("row", (*peers.ROWS, *peers.APART), ids=named)
def test_small_variables(row):
    check(row, peers.Problem(SMALL))


@pytest.mark.slow
@pytest.mark.parametrize("row", (*peers.ROWS, *peers.APART), ids=named)
def test_resnet50(row, resnet50):
    check(row, resnet50)


def test_every_preset_and_family_has_a_row_or_a_recording():
    classes = {row.ours.name for row in peers.ROWS}
    assert classes == {"SGD", "Adagrad", "RMSprop", "Adam", "LARS", "LAMB", "Muon"}
    assert {row.ours.preset for row in peers.ROWS} >= {"optax", "larc", "keras"}
    for package in ("optax", "keras", "timm"):
        assert any(row.theirs.startswith(package) for row in peers.ROWS)


def test_the_page_shows_the_rows_and_its_numbers_are_within_the_bounds(script):
    text = script.PAGE.read_text()
    rows, apart, groups, versions = script.shown_in(text)
    assert len(rows) == len(peers.ROWS) and len(apart) == len(peers.APART)
    assert text == script.page(rows, apart, groups, versions)
    for ours, neighbour in (*rows, *groups.values()):
        assert ours < peers.TOLERANCE
        assert neighbour > 10 * max(ours, peers.TOLERANCE)
    assert min(apart) > 10 * peers.TOLERANCE
    assert set(groups) == {script.group_of(case) for case in recorded.EXPRESSIBLE}


def test_the_page_lists_every_recorded_case_that_is_not_ours(script):
    text = script.PAGE.read_text()
    assert len(recorded.CASES) == 183
    assert all(case in text for case in recorded.INEXPRESSIBLE)
