"""Every row of docs/MIGRATION.md reproduces what it says it does, and the page says what the rows say."""

import pathlib
import re

import numpy as np
import pytest
from reference import migration, peers
from reference.recorded import CASES, TOLERANCE, error

PAGE = (pathlib.Path(__file__).parents[2] / "docs" / "MIGRATION.md").read_text()
MOVES = [move for section in migration.SECTIONS for move in section.moves]
RECORDED = {move.case: move for move in MOVES if move.case}
OF_APEX = {move.theirs: move for move in MOVES if move.case is None}
SHAPES = {"conv/kernel": (3, 3, 4, 8), "bn/gamma": (8,), "bn/beta": (8,), "dense/kernel": (16, 10), "dense/bias": (10,)}


@pytest.mark.parametrize("case", RECORDED)
def test_the_row_reproduces_the_recording(case):
    assert error(case, RECORDED[case].ours.make, {}) < TOLERANCE


@pytest.mark.parametrize("case", RECORDED)
def test_every_argument_of_the_row_matters(case):
    """Leaving one out misses the recording, unless it is the default or the recorded updates can't tell (zero epsilon)."""
    ours = RECORDED[case].ours
    for left_out in ours.arguments:
        rest = {name: value for name, value in ours.arguments.items() if name != left_out}
        without = peers.Ours(ours.name, rest, ours.preset)
        if left_out == "epsilon" and ours.arguments["epsilon"] <= 1e-6:
            continue
        if getattr(without.make(0.1), left_out) == getattr(ours.make(0.1), left_out):
            continue
        assert error(case, without.make, {}) > TOLERANCE, left_out


def apex_larc(weights, gradients_of, rates, *, coefficient=0.02, clip=True, nesterov=False, momentum=0.9, weight_decay=0.05,
              epsilon=1e-8):
    """apex.parallel.LARC around SGD, float64: where both norms are positive the gradient becomes (g + decay w) times
    coefficient ||w|| / (||g|| + decay ||w|| + epsilon), with clip over the rate and at most 1; elsewhere it stays g."""
    w = [value.astype(float) for value in weights.values()]
    v = [np.zeros_like(value) for value in w]
    for t, rate in enumerate(rates):
        for i, g in enumerate(np.asarray(g, float) for g in gradients_of(t)):
            if np.linalg.norm(w[i]) != 0 and np.linalg.norm(g) != 0:
                ratio = coefficient * np.linalg.norm(w[i]) / (np.linalg.norm(g) + weight_decay * np.linalg.norm(w[i]) + epsilon)
                g = (g + weight_decay * w[i]) * (min(ratio / rate, 1) if clip else ratio)
            v[i] = momentum * v[i] + g
            w[i] = w[i] - rate * (g + momentum * v[i] if nesterov else v[i])
    return w


def ours_on(ours, problem, rates):
    update, read = peers.in_keras(ours.make)(problem.weights, rates)
    for t in range(len(rates)):
        update(t, problem.gradients(t))
    return read()


@pytest.mark.parametrize("theirs", OF_APEX)
def test_apex_larc(theirs):
    problem, rates = peers.Problem(SHAPES, silent_at=None), peers.schedule(0.5)
    coefficient = re.search(r"trust_coefficient=([\d.]+)", theirs)
    said = {"clip": "clip=False" not in theirs, "nesterov": "nesterov=True" in theirs,
            "coefficient": float(coefficient.group(1)) if coefficient else 0.02}
    expected = apex_larc(problem.weights, problem.gradients, rates, **said)
    assert peers.difference(ours_on(OF_APEX[theirs].ours, problem, rates), expected) < TOLERANCE
    neighbour = OF_APEX[theirs].ours.changed(trust_clip=not said["clip"])
    assert peers.difference(ours_on(neighbour, problem, rates), expected) > 10 * TOLERANCE


def test_apex_is_another_rule_where_a_gradient_is_zero():
    problem, rates = peers.Problem(SHAPES), peers.schedule(0.5)
    expected = apex_larc(problem.weights, problem.gradients, rates)
    assert peers.difference(ours_on(next(iter(OF_APEX.values())).ours, problem, rates), expected) > 10 * TOLERANCE


def test_the_page_is_made_from_the_rows():
    assert PAGE == migration.page()


def test_every_test_that_the_page_names_exists():
    named = re.findall(r"\| `(test_\w+)\[(.*)\]` \|$", PAGE, re.MULTILINE)
    run = {"test_the_row_reproduces_the_recording": RECORDED, "test_apex_larc": OF_APEX}
    assert len(named) == len(MOVES) == len(RECORDED) + len(OF_APEX)
    assert all(callable(globals()[test]) and row in run[test] for test, row in named)
    assert set(RECORDED) <= set(CASES)
