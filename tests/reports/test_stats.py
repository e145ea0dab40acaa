"""Means over seeds: against SciPy, against numbers worked out by hand, and never more sure than the runs allow."""

import json
import math
import shutil
import statistics

import pytest
import scipy.stats
from hypothesis import given, settings, strategies as st

from reference.made_runs import made_run, made_seeds, made_sweep
from tf_hugebatch.reports.outcomes import read_outcomes
from tf_hugebatch.reports.stats import group_runs, mean_of, t_quantile, wilson
from tf_hugebatch.runs import load_runs


@pytest.mark.parametrize("degrees", [*range(1, 12), 29, 30, 99, 1000])
@pytest.mark.parametrize("probability", [0.75, 0.95, 0.975, 0.995])
def test_t_quantiles_are_scipys(degrees, probability):
    assert t_quantile(probability, degrees) == pytest.approx(scipy.stats.t.ppf(probability, degrees), rel=1e-9)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None, max_examples=60)
def test_the_interval_of_a_share_is_scipys(counts):
    correct, examples = counts
    theirs = scipy.stats.binomtest(correct, examples).proportion_ci(0.95, method="wilson")
    assert wilson(correct / examples, examples) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_seeds_and_test_images_add_in_quadrature():
    mean = mean_of([0.990, 0.992, 0.994], 10_000)
    assert mean.mean == pytest.approx(0.992) and mean.deviation == pytest.approx(0.002) and mean.n == 3
    seeds = 4.302653 * 0.002 / math.sqrt(3)
    low, high = wilson(0.992, 10_000)
    assert 0.992 - mean.low == pytest.approx(math.hypot(seeds, 0.992 - low), rel=1e-6)
    assert mean.high - 0.992 == pytest.approx(math.hypot(seeds, high - 0.992), rel=1e-6)
    assert mean.range == (0.990, 0.994)


def test_more_seeds_do_not_shrink_the_error_of_a_shared_test_set():
    mean = mean_of([0.98] * 50, 1_000)
    low, high = wilson(0.98, 1_000)
    assert (mean.low, mean.high) == (pytest.approx(low), pytest.approx(high)) and high - low > 0.015


def test_an_interval_of_accuracies_stays_among_accuracies():
    mean = mean_of([0.1, 0.9], 1_000)
    assert (mean.low, mean.high) == (0.0, 1.0)


def test_one_seed_has_no_interval():
    mean = mean_of([0.99], 10_000)
    assert (mean.low, mean.high, mean.deviation) == (None, None, None) and mean.sampling is not None
    assert mean_of([]) is None


def test_the_loss_has_the_interval_of_its_seeds():
    losses = [0.03, 0.05, 0.04]
    mean = mean_of(losses)
    theirs = scipy.stats.t.interval(0.95, 2, statistics.fmean(losses), scipy.stats.sem(losses))
    assert (mean.low, mean.high) == pytest.approx(theirs) and mean.sampling is None


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.integers(1, 60_000))
@settings(deadline=None)
def test_an_interval_holds_its_mean(values, examples):
    mean = mean_of(values, examples)
    assert mean.low <= mean.mean + 1e-12 and mean.mean - 1e-12 <= mean.high


# Groups.


def groups(folder):
    outcomes, aside = read_outcomes(load_runs(folder))
    assert aside == []
    return group_runs(outcomes)


def test_seeds_are_grouped_and_layout_does_not_matter(tmp_path):
    made_seeds(tmp_path / "a", [0.98, 0.97])
    made_run(tmp_path / "b", 0.96, seed=7, micro_batch_size=32, eval_every_epochs=5)
    made_run(tmp_path / "c", 0.5, seed=7, learning_rate=0.1)
    found, _ = groups(tmp_path)
    assert sorted(group.seeds for group in found) == [[1, 2, 7], [7]]


def test_a_seed_counts_once(tmp_path):
    made_run(tmp_path / "a", 0.98, seed=1)
    made_run(tmp_path / "copy", 0.98, seed=1)
    [group], aside = groups(tmp_path)
    assert group.n == 1 and [one.path for one in aside] == [str(tmp_path / "copy")]
    assert "same setting and seed" in aside[0].reason and str(tmp_path / "a") in aside[0].reason


def test_other_words_on_the_data_make_another_group(tmp_path):
    made_run(tmp_path / "a", 0.98, seed=1)
    made_run(tmp_path / "b", 0.60, seed=2, note="JPEG-recompressed")
    found, _ = groups(tmp_path)
    assert sorted((group.n, group.note) for group in found) == [(1, ""), (1, "JPEG-recompressed")]


@pytest.mark.parametrize("accuracies, words", [
    ([0.98, 0.985], ""), ([0.98, 0.99], ""), ([0.98, 0.9901], "unstable"), ([0.98, None], "unstable"),
    ([None, None], "diverges"),
    ([None], "diverges"), ([0.98], "")])
def test_diverges_and_unstable(tmp_path, accuracies, words):
    made_seeds(tmp_path, accuracies)
    [group], _ = groups(tmp_path)
    assert group.words == words and group.diverged == accuracies.count(None)


def test_a_diverged_run_enters_no_mean(tmp_path):
    made_seeds(tmp_path / "a", [0.98, None, 0.99])
    made_run(tmp_path / "a" / "seed9", 0.1, seed=9, status="diverged")
    [group], _ = groups(tmp_path)
    assert (group.n, group.diverged, group.accuracy.values) == (4, 2, (0.98, 0.99))


def test_trials_are_in_no_group_and_the_final_runs_of_a_sweep_are_one(tmp_path):
    made_sweep(tmp_path / "sweep", [0.97, 0.98], chosen={"learning_rate": 0.1}, diverged=3)
    made_run(tmp_path / "alone", 0.90, seed=5, learning_rate=0.1)
    found, _ = groups(tmp_path)
    tuned, alone = sorted(found, key=lambda group: group.sweep is None)
    assert (tuned.seeds, tuned.trials, tuned.select_on) == ([1, 2], 20, "validation")
    assert (alone.seeds, alone.trials, alone.select_on) == ([5], None, "")


def test_a_sweep_without_trials_chose_nothing(tmp_path):
    made_sweep(tmp_path, [0.97, 0.98], chosen={"learning_rate": 0.1}, trials=0)
    [group], _ = groups(tmp_path)
    assert group.sweep is None and group.trials is None


@pytest.mark.parametrize("split", ["validation", "test"])
def test_final_runs_that_lost_their_sweep_still_say_what_chose_them(tmp_path, split):
    made_sweep(tmp_path / "sweep", [0.97, 0.98], chosen={"learning_rate": 0.1}, select_on=split)
    shutil.copytree(tmp_path / "sweep" / "final", tmp_path / "copied" / "final")
    for path in (tmp_path / "copied").rglob("settings.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "selected_on": split}))
    made_run(tmp_path / "copied" / "untuned", 0.90, seed=5, learning_rate=0.1)
    found, _ = groups(tmp_path / "copied")
    assert sorted((group.select_on, group.n, group.sweep) for group in found) == [("", 1, None), (split, 2, None)]
    assert {run.selected_on for run in load_runs(tmp_path / "copied" / "final")} == {split}


def test_a_sweep_says_more_than_its_runs(tmp_path):
    made_sweep(tmp_path, [0.97, 0.98], chosen={"learning_rate": 0.1}, select_on="test", selected_on="validation")
    [group], _ = groups(tmp_path)
    assert group.select_on == "test" and {run.selected_on for run in load_runs(tmp_path)} == {"test"}


@pytest.mark.parametrize("names, count", [(["trial0003", "trial0007"], 2), ([], 0), (None, 0), ("x", 0), ({"a": 1}, 0)])
def test_earlier_choices_that_were_tested_are_counted(tmp_path, names, count):
    made_sweep(tmp_path, [0.97, 0.98], chosen={"learning_rate": 0.1}, tested_before=names)
    [group], _ = groups(tmp_path)
    assert group.tested_before == count


def test_the_loss_is_of_validation_where_there_is_a_split(tmp_path):
    final = {"test_accuracy": 0.9, "test_loss": 5.0, "validation_accuracy": 0.8, "validation_loss": 0.25}
    made_run(tmp_path / "split", seed=1, validation_examples=400, final=final)
    made_run(tmp_path / "none", loss=0.125, seed=1)
    found, _ = groups(tmp_path)
    assert sorted((group.loss.mean, group.values["validation_examples"]) for group in found) == [(0.125, 0), (0.25, 400)]


def test_a_missing_loss_is_not_averaged_as_nothing(tmp_path):
    made_seeds(tmp_path, [0.98, 0.97], [0.03, None])
    [group], _ = groups(tmp_path)
    assert group.loss is None and group.accuracy.n == 2
