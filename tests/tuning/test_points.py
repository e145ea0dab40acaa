"""Which points are tried: grids, quasi-random sequences, and the auto-tuner's."""

import itertools
import math
import random

import pytest
from reference.small_sweeps import make_plan

from tf_hugebatch.tuning import points, space_file
from tf_hugebatch.tuning.children import Outcome
from tf_hugebatch.tuning.study import Study

WORDS = ("--dataset=mnist5k", "--batch_size=1000", "--epochs=4")
PLANE = {"learning_rate": {"low": 0.001, "high": 1.0, "log": True}, "warmup_epochs": {"low": 0.0, "high": 4.0}}


def make(content, **how):
    return space_file.make(content, WORDS, where="s.json", **how)


def unit(point):
    """A point of PLANE in the unit square."""
    return math.log10(point["learning_rate"] / 0.001) / 3, point["warmup_epochs"] / 4


def star_discrepancy(square):
    """sup over boxes [0, x) x [0, y) of |share of points - area|, exactly enough: at the points' own coordinates."""
    xs, ys = ([*sorted(coordinates), 1.0] for coordinates in zip(*square))
    worst = 0.0
    for x, y in itertools.product(xs, ys):
        inside = sum(a < x and b < y for a, b in square) / len(square)
        closed = sum(a <= x and b <= y for a, b in square) / len(square)
        worst = max(worst, abs(inside - x * y), abs(closed - x * y))
    return worst


def test_a_grid_is_the_product_each_point_once():
    space = make({"learning_rate": {"low": 0.01, "high": 1.0, "log": True, "points": 3}, "schedule": ["cosine", "constant"],
                  "warmup_epochs": [2, 0]}, grid=True)
    grid = points.first(space, "grid", 0, 100)
    assert [tuple(point.values()) for point in grid] == list(
        itertools.product([0.01, 0.1, 1.0], ["cosine", "constant"], [0, 2]))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_quasi_random_points_are_more_even_than_random_ones(seed):
    square = [unit(point) for point in points.first(make(PLANE), "random", seed, 64)]
    generator = random.Random(seed)
    ordinary = [star_discrepancy([(generator.random(), generator.random()) for _ in range(64)]) for _ in range(20)]
    assert star_discrepancy(square) < min(ordinary)
    # A property of Sobol points: each of 64 equal strips holds one, in either direction.
    for axis in (0, 1):
        assert sorted({int(64 * min(place[axis], 1 - 1e-9)) for place in square}) == pytest.approx(range(64), abs=1)


def test_the_seed_decides_the_points_and_more_points_begin_with_the_same():
    space = make(PLANE)
    assert points.first(space, "random", 3, 5) == points.first(space, "random", 3, 20)[:5]
    assert points.first(space, "random", 3, 5) != points.first(space, "random", 4, 5)
    turned = make(dict(reversed(PLANE.items())))
    assert points.first(turned, "random", 3, 5) == points.first(space, "random", 3, 5), "the order of keys decided"


def test_lists_are_sampled_evenly_and_no_point_comes_twice():
    space = make({"schedule": ["cosine", "constant", "polynomial"], "warmup_epochs": [0, 1, 2, 3]})
    found = points.first(space, "random", 0, 100)
    assert len(found) == 12 and sorted(map(str, found)) == sorted(map(str, space.grid()))
    space = make({**PLANE, "schedule": ["cosine", "constant"]})
    schedules = [point["schedule"] for point in points.first(space, "random", 0, 32)]
    assert abs(schedules.count("cosine") - 16) <= 3


def test_numbers_have_four_digits_and_stay_in_their_range():
    space = make({"learning_rate": {"low": 0.1234567, "high": 0.1234599}})
    assert all(0.1234567 <= point["learning_rate"] <= 0.1234599 for point in points.first(space, "random", 0, 2))
    assert all(len(f"{point['learning_rate']:g}".replace("0.", "").lstrip("0")) <= 4
               for point in points.first(make(PLANE), "random", 0, 20))


def accuracy_of(point):
    """Best, 1, at rate 0.03 and warm-up 1."""
    x, y = unit(point)
    return 1 - (x - unit({"learning_rate": 0.03, "warmup_epochs": 1})[0]) ** 2 - (y - 0.25) ** 2


def searched(tmp_path, method, seed, trials, order=None, jobs=1):
    """The points of a study, `jobs` runs at a time, of which `order` (a Random) says which ends first."""
    plan = make_plan(tmp_path, PLANE, method=method, words=(*WORDS, f"--seed={seed}"), trials=trials)
    tmp_path.mkdir(parents=True)
    study = Study(plan)
    while len(study.trials) < trials or any(trial.outcome is None for trial in study.trials):
        running = [trial for trial in study.trials if trial.outcome is None]
        values = study.next_values(jobs) if len(study.trials) < trials and len(running) < jobs else None
        if values is not None:
            study.add(values)
        else:
            trial = order.choice(running) if order else running[0]
            study.end(trial, Outcome("done", accuracy_of(trial.values)))
    return [trial.values for trial in study.trials]


def test_the_auto_tuner_beats_random_points_on_a_quadratic(tmp_path):
    def best_of(method, seed):
        return max(map(accuracy_of, searched(tmp_path / f"{method}{seed}", method, seed, 30)))

    seeds = range(5)
    tuner, quasi = [best_of("tpe", seed) for seed in seeds], [best_of("random", seed) for seed in seeds]
    assert sum(1 - value for value in tuner) < 0.5 * sum(1 - value for value in quasi)
    assert sum(a > b for a, b in zip(tuner, quasi)) >= 4


def test_the_auto_tuner_asks_the_same_whichever_run_is_the_faster(tmp_path):
    asked = [searched(tmp_path / f"{seed}", "tpe", 0, 32, random.Random(seed), jobs=4) for seed in range(3)]
    assert asked[0] == asked[1] == asked[2]
    assert len({str(point) for point in asked[0]}) == 32, "a point came twice"


def test_the_auto_tuner_ends_with_every_point_of_a_small_space(tmp_path):
    space = make({"warmup_epochs": [0, 1, 2, 3], "schedule": ["cosine", "constant", "polynomial"]})
    tried = []
    for number in range(12):
        point = points.suggested(space, 0, tried)
        tried.append((point, None if number % 4 == 3 else 0.5))
    assert len({str(point) for point, _ in tried}) == 12


def test_the_study_outlives_its_process(tmp_path):
    plan = make_plan(tmp_path / "s", PLANE, words=WORDS)
    (tmp_path / "s").mkdir()
    study = Study(plan)
    outcomes = [Outcome("done", 0.5, None, 2.0), Outcome("diverged", None, "nan"), Outcome("failed", None, "x")]
    for outcome in outcomes:
        study.end(study.add(study.next_values(1)), outcome)
    study.add(study.next_values(1))
    again = Study(plan)
    assert [(trial.number, trial.values, trial.outcome) for trial in again.trials] == \
        [(trial.number, trial.values, trial.outcome) for trial in study.trials]
    assert [trial.outcome for trial in again.trials] == [*outcomes, None] and again.best().number == 0
    assert again.next_values(1) == study.next_values(1) == points.first(plan.space, "random", 0, 5)[4]


@pytest.mark.parametrize("content", [{"low": 1.0, "high": 1.0001, "log": False}, {"low": 0.01, "high": 10.0, "log": True}])
def test_a_range_has_as_many_points_as_its_size_says(content):
    space = space_file.make({"learning_rate": content}, WORDS, where="space.json", grid=False, dataset="mnist")
    assert space.size == 500
    # All of them are found: a sweep of as many trials ends.
    assert len({point["learning_rate"] for point in points.quasi_random(space, 0)}) == 500


@pytest.mark.parametrize("jobs, known", [(1, 10), (3, 8)])
def test_the_auto_tuner_waits_for_no_more_results_than_run_side_by_side(tmp_path, monkeypatch, jobs, known):
    plan = make_plan(tmp_path / "s", PLANE, method="tpe", words=WORDS, trials=12)
    (tmp_path / "s").mkdir()
    study = Study(plan)
    for _ in range(10):
        study.end(study.add(study.next_values(1)), Outcome("done", 0.5))
    monkeypatch.setattr(points, "suggested", lambda space, seed, tried: [value for _, value in tried])
    assert study.next_values(jobs) == [0.5] * known + [None] * (10 - known)


def test_the_auto_tuner_takes_a_diverged_run_for_bad_and_a_failed_one_for_no_result(tmp_path, monkeypatch):
    plan = make_plan(tmp_path / "s", PLANE, method="tpe", words=WORDS, trials=12)
    (tmp_path / "s").mkdir()
    study = Study(plan)
    for status, accuracy in (("diverged", None), ("failed", None), *[("done", 0.5)] * 8):
        study.end(study.add(study.next_values(1)), Outcome(status, accuracy))
    monkeypatch.setattr(points, "suggested", lambda space, seed, tried: tried)
    numbers = {str(trial.values): trial.number for trial in study.trials}
    told = [(numbers[str(values)], worth) for values, worth in study.next_values(1)]
    assert sorted(told) == [(0, 0.0), (1, None), *((number, 0.5) for number in range(2, 10))]
    assert study.best().number == 2, "of equals the earliest"
