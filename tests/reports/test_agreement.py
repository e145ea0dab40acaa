"""When a number of ours agrees with the paper's."""

import pytest
from reference.made_runs import made_seeds

from tf_hugebatch.published import Cell
from tf_hugebatch.reports.agreement import agreement
from tf_hugebatch.reports.outcomes import read_outcomes
from tf_hugebatch.reports.stats import group_runs
from tf_hugebatch.runs import load_runs

DIVERGES, UNSTABLE = Cell(None, "diverges"), Cell(None, "unstable")
STEADY = [0.9920, 0.9921, 0.9919, 0.9920, 0.9920]


@pytest.mark.parametrize("accuracies, paper, verdict", [
    (STEADY, Cell(99.2), "agrees"),
    (STEADY, Cell(99.3), "agrees"),  # 10,000 test images alone leave 0.17 points
    (STEADY, Cell(99.5), "differs: -0.30 points"),
    (STEADY, Cell(98.6), "differs: +0.60 points"),
    ([0.9920], Cell(99.2), "undecided: one seed"),
    ([0.9920], Cell(90.0), "undecided: one seed"),
    ([0.9920], DIVERGES, "undecided: one seed"),
    ([0.9920], UNSTABLE, "undecided: one seed"),
    ([0.1135], DIVERGES, "undecided: one seed"),
    (STEADY, DIVERGES, "differs: trains"),
    (STEADY, UNSTABLE, "differs: trains"),
    ([0.99, None, 0.99], Cell(99.0), "differs: unstable"),
    ([0.99, None, 0.99], UNSTABLE, "agrees"),
    ([0.99, None, 0.99], DIVERGES, "differs: unstable"),
    ([0.99, 0.96, 0.99], UNSTABLE, "agrees"),
    ([None, None, None], DIVERGES, "agrees"),
    ([None], DIVERGES, "agrees"),
    ([None], UNSTABLE, "undecided: one seed"),  # an unstable setting has such seeds
    ([None], Cell(99.2), "differs: diverges"),
    ([None, None, None], Cell(99.2), "differs: diverges"),
    ([None, None, None], UNSTABLE, "differs: diverges"),
    ([0.1135, 0.1135, None], DIVERGES, "agrees: no better than guessing"),
    ([0.1135, 0.1135, None], UNSTABLE, "differs: no better than guessing"),
    ([0.1135, 0.1135], Cell(99.2), "differs: no better than guessing"),
    ([0.19, 0.19], DIVERGES, "agrees: no better than guessing"),
    ([0.25, 0.25], DIVERGES, "differs: trains"),
])
def test_agreement(tmp_path, accuracies, paper, verdict):
    made_seeds(tmp_path, accuracies, dataset="mnist", batch_size=8192, optimizer="sgd", model="lenet5", epochs=30)
    [group] = group_runs(read_outcomes(load_runs(tmp_path))[0])[0]
    assert agreement(group, paper) == verdict


def test_the_papers_number_stands_for_all_that_round_to_it(tmp_path):
    # All seeds alike: the interval is that of 10,000 test images, 98.80 to 99.18% around 99.0%.
    made_seeds(tmp_path, [0.99] * 5, dataset="mnist", batch_size=8192, optimizer="sgd", model="lenet5", epochs=30)
    [group] = group_runs(read_outcomes(load_runs(tmp_path))[0])[0]
    high = 100 * group.accuracy.high
    assert agreement(group, Cell(high + 0.04)) == "agrees" and agreement(group, Cell(high + 0.06)).startswith("differs")


def test_nothing_of_ours_says_nothing():
    assert agreement(None, Cell(99.2)) == "" and agreement(None, DIVERGES) == ""
