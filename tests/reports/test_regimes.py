"""B_L and B_H of made runs with known answers: decided, undecided, missing, not monotone; what is missing is said."""

import json
import os
import shlex

import pytest

from reference.made_runs import RULE, made_run, made_seeds, made_sweep
from tf_hugebatch import command_line, published
from tf_hugebatch.reports import regime_blanks, regime_tables
from tf_hugebatch.reports.outcomes import read_outcomes
from tf_hugebatch.reports.regimes import find
from tf_hugebatch.reports.stats import group_runs
from tf_hugebatch.runs import load_runs, load_sweeps

GOOD, CLOSE, BAD = [0.9918, 0.9920, 0.9922], [0.9868, 0.9870, 0.9874], [0.950, 0.951, 0.952]
APART = [None, 0.10, None, 0.955, None, 0.3]  # no mean of two survivors is clear of anything, yet no seed comes near
BASELINE = [0.9918, 0.9919, 0.9920, 0.9921, 0.9922]  # A = 99.2%, target 98.704%


def linear(folder, batch, accuracies, losses=0.030, **settings):
    return made_seeds(folder / f"linear_{batch}", accuracies, losses,
                      **{"dataset": "mnist", "batch_size": batch, **RULE, **settings})


def lars(folder, batch, accuracies, **more):
    return made_sweep(folder / f"lars_{batch}", accuracies,
                      **{"dataset": "mnist", "batch_size": batch, "optimizer": "lars", "schedule": "polynomial",
                         "chosen": {"peak_learning_rate": 20.0, "warmup_epochs": 5.0},
                         "space": {"peak_learning_rate": {"low": 0.5, "high": 500.0, "log": True}, "warmup_epochs": [0, 5]},
                         **more})


def evidence(folder):
    try:
        sweeps = load_sweeps(folder)
    except FileNotFoundError:
        sweeps = []
    return group_runs(read_outcomes(load_runs(folder))[0])[0], sweeps


def regimes_of(folder, dataset="mnist"):
    """The regimes of a data set's only family with a baseline, or its only family."""
    found = [one for one in find(*evidence(folder)) if one.family.dataset == dataset]
    [one] = [one for one in found if one.baseline] or found
    return one


@pytest.fixture
def known(tmp_path):
    """B_L in (1,024, 2,048], B_H in [8,192, 16,384)."""
    linear(tmp_path, 256, BASELINE)
    for batch, accuracies in ((512, GOOD), (1024, GOOD), (2048, BAD), (4096, [None] * 3)):
        linear(tmp_path, batch, accuracies)
    for batch, accuracies in ((2048, GOOD), (4096, GOOD), (8192, GOOD), (16384, BAD)):
        lars(tmp_path, batch, accuracies)
    return tmp_path


def test_noise_and_fixed_ratios_are_no_attempt_at_the_target(known):
    plain = regimes_of(known)
    linear(known / "noise", 16384, GOOD, inject_noise="labels", noise_stddev=0.1)
    linear(known / "noise", 256, [0.9999] * 5, inject_noise="labels", noise_stddev=0.1)
    lars(known / "ratios", 32768, GOOD, fixed_trust_ratios="kernel=0.1")
    one = regimes_of(known)
    assert (one.target, one.other_baselines) == (plain.target, ())
    for before, after in ((plain.large, one.large), (plain.huge, one.huge)):
        assert [(verdict.batch, verdict.holds) for verdict in after.verdicts] == \
            [(verdict.batch, verdict.holds) for verdict in before.verdicts]


def test_the_baseline_gives_the_target(known):
    one = regimes_of(known)
    assert one.baseline.n == 5 and one.target == pytest.approx(0.995 * 0.992) and one.loss_limit == pytest.approx(1.2 * 0.03)
    assert one.epochs == 30 and one.full == 60_000 and one.family.published is published.BASELINES["mnist"]


def test_known_boundaries(known):
    one = regimes_of(known)
    assert (one.large.holds_at, one.large.fails_at, one.large.value, one.large.decided) == (1024, 2048, 2048, True)
    assert (one.huge.holds_at, one.huge.fails_at, one.huge.value, one.huge.decided) == (8192, 16384, 8192, True)
    assert [verdict.word for verdict in one.large.verdicts] == ["holds", "holds", "fails", "fails"]
    assert "diverges with all 3 seeds" in one.large.verdicts[-1].reason
    assert one.large.out_of_order == one.huge.out_of_order == ()


def test_the_report_says_brackets_search_space_and_trials(known):
    table = regime_tables.regimes_table(find(*evidence(known)))
    for words in ("1,024 < B_L <= 2,048", "8,192 <= B_H < 16,384", "| B_F | 60,000: the training examples", "A = 99.20%",
                  "the paper has A = 99.2%",
                  "batch 16,384: 20 trials of lars over peak_learning_rate 0.5 to 500.0 (log); warmup_epochs 0, 5, chosen on "
                  "validation", "2,048 (LeNet)", "8,192 (LeNet)", "60,000 (LeNet)"):
        assert words in table.markdown
    rows = {row["boundary"]: row for row in table.rows if row["dataset"] == "mnist"}
    assert [rows["B_L"][name] for name in ("value", "holds_at", "fails_at", "paper")] == [2048, 1024, 2048, 2048]
    assert (rows["B_H"]["value"], rows["B_H"]["fails_at"], rows["B_H"]["trials"]) == (8192, 16384, 80)
    assert not [blank for blank in table.blanks if "mnist" in blank.what]


@pytest.mark.parametrize("accuracies, losses, word", [
    (GOOD, 0.030, "holds"), (BAD, 0.030, "fails"), (GOOD, 0.060, "fails"), (CLOSE, 0.030, "undecided"),
    (GOOD, [0.030, 0.036, 0.042], "undecided"), (GOOD, [0.030, None, 0.030], "undecided"), ([0.9920], 0.030, "undecided"),
    ([0.1], 0.030, "undecided"), ([None], 0.030, "undecided"), ([None, None], 0.030, "fails"),
    ([None, *GOOD], 0.030, "undecided"),
    ([None, *BAD], 0.030, "fails"),
    (APART, 0.030, "fails"), (APART[:5], 0.030, "undecided"), ([*APART[:5], 0.9920], 0.030, "undecided"),
    ([0.10, 0.98, 0.981, 0.982, 0.98, 0.97], 0.030, "fails"), ([0.10, 0.98, 0.981, 0.982, 0.97, 0.9860], 0.030, "undecided"),
    # A seed that falls apart widens the interval of the loss too; each seed may miss by another of the two.
    ([0.10, *GOOD, *CLOSE[:2]], [2.3, 0.040, 0.037, 0.050, 0.040, 0.040], "fails"),
    ([None, 0.10, *GOOD, 0.98], [None, 2.3, 0.040, 0.037, 0.050, 0.030], "fails"),
    ([0.10, *GOOD, *CLOSE[:2]], [2.3, 0.040, 0.035, 0.050, 0.040, 0.040], "undecided"),
    ([0.10, *GOOD, *CLOSE[:2]], [2.3, 0.040, None, 0.050, 0.040, 0.040], "undecided"),
    ([0.10, *GOOD, CLOSE[0]], [2.3, 0.040, 0.037, 0.050, 0.040], "undecided")])
def test_one_batch_by_definition_2_1(tmp_path, accuracies, losses, word):
    linear(tmp_path, 256, BASELINE)
    linear(tmp_path, 512, accuracies, losses)
    [verdict] = regimes_of(tmp_path).large.verdicts
    assert verdict.word == word and verdict.reason


def test_a_seed_less_boundary_is_undecided_and_more_seeds_are_asked_for(tmp_path):
    linear(tmp_path, 256, BASELINE)
    linear(tmp_path, 512, CLOSE)
    linear(tmp_path, 1024, BAD)
    one = regimes_of(tmp_path)
    assert (one.large.holds_at, one.large.fails_at, one.large.value, one.large.decided) == (256, 1024, None, False)
    assert one.large.open_batches == [512]
    said = regime_tables.words_of(one, one.large)
    assert said.startswith("undecided: ") and "undecided at 512" in said
    [blank] = [blank for blank in regime_blanks.blanks_of([one]) if "B_L" in blank.what]
    assert "for seed in 4 5;" in blank.command and f"{tmp_path}/linear_512/seed$seed" in blank.command


def test_not_monotone_is_said(tmp_path):
    linear(tmp_path, 256, BASELINE)
    for batch, accuracies in ((512, GOOD), (1024, BAD), (2048, GOOD)):
        linear(tmp_path, batch, accuracies)
    one = regimes_of(tmp_path)
    assert (one.large.value, one.large.out_of_order) == (1024, (2048,))
    assert "not monotone: holds again at 2,048" in regime_tables.words_of(one, one.large)


def test_above_huge_nothing_reaches_so_a_failure_below_a_batch_that_holds_is_no_boundary(tmp_path):
    linear(tmp_path, 256, BASELINE)
    for batch, accuracies in ((4096, GOOD), (8192, BAD), (16384, GOOD)):
        lars(tmp_path, batch, accuracies)
    one = regimes_of(tmp_path)
    assert (one.huge.holds_at, one.huge.fails_at, one.huge.value, one.huge.decided) == (16384, None, None, False)
    lars(tmp_path, 32768, BAD)
    one = regimes_of(tmp_path)
    assert (one.huge.holds_at, one.huge.fails_at, one.huge.value, one.huge.out_of_order) == (16384, 32768, 16384, (8192,))
    assert regime_tables.words_of(one, one.huge).startswith("16,384 <= B_H < 32,768: ")
    assert "not monotone: fails below it at 8,192" in regime_tables.words_of(one, one.huge)


def test_a_batch_without_an_answer_above_one_that_fails_leaves_b_h_open(tmp_path):
    linear(tmp_path, 256, BASELINE)
    for batch, accuracies in ((8192, GOOD), (16384, BAD), (32768, CLOSE)):
        lars(tmp_path, batch, accuracies)
    one = regimes_of(tmp_path)
    assert (one.huge.holds_at, one.huge.fails_at, one.huge.decided, one.huge.value) == (8192, 16384, False, None)
    assert one.huge.open_batches == [32768] and "undecided at 32,768" in regime_tables.words_of(one, one.huge)
    assert [blank for blank in regime_blanks.blanks_of([one]) if "B_H of" in blank.what and "32,768" in blank.what]
    lars(tmp_path / "again", 32768, GOOD)
    assert regimes_of(tmp_path).huge.holds_at == 32768


def test_where_the_full_batch_holds_none_is_huge_and_nothing_is_asked_for(tmp_path):
    linear(tmp_path, 256, BASELINE)
    lars(tmp_path, 16384, CLOSE)
    lars(tmp_path, "full", GOOD)
    one = regimes_of(tmp_path)
    assert (one.huge.decided, one.huge.value, one.huge.fails_at, one.huge.open_batches) == (True, 60_000, None, [])
    assert regime_tables.words_of(one, one.huge).startswith("no batch is huge: ")
    assert not [blank for blank in regime_blanks.blanks_of([one]) if "B_H of" in blank.what]


def test_a_batch_without_an_answer_ends_what_is_small_and_not_what_is_reached(tmp_path):
    linear(tmp_path, 256, BASELINE)
    for batch, accuracies in ((512, CLOSE), (1024, GOOD), (2048, BAD)):
        linear(tmp_path, batch, accuracies)
    for batch, accuracies in ((8192, GOOD), (16384, CLOSE), (32768, BAD)):
        lars(tmp_path, batch, accuracies)
    one = regimes_of(tmp_path)
    assert (one.large.holds_at, one.large.fails_at, one.large.decided, one.large.open_batches) == (256, 2048, False, [512])
    # 512 and 2,048, which nothing is known to reach, lie below a batch that something reaches.
    assert (one.huge.holds_at, one.huge.fails_at, one.huge.decided, one.huge.open_batches) == (8192, 32768, False, [16384])
    lars(tmp_path / "more", 16384, GOOD)
    one = regimes_of(tmp_path)
    assert (one.huge.holds_at, one.huge.value, one.huge.decided, one.huge.open_batches) == (16384, 16384, True, [])


def test_a_run_that_measured_gives_way_to_one_of_its_seed_that_did_not(tmp_path):
    made_seeds(tmp_path / "a", [0.5] * 5, 0.03, dataset="mnist", batch_size=256, diagnostics="noise_scale", **RULE)
    linear(tmp_path, 256, BASELINE)
    assert regimes_of(tmp_path).target == pytest.approx(0.995 * 0.992)


def test_a_boundary_that_was_not_reached(tmp_path):
    linear(tmp_path, 256, BASELINE)
    linear(tmp_path, 512, GOOD)
    one = regimes_of(tmp_path)
    assert (one.large.holds_at, one.large.fails_at, one.large.decided) == (512, None, False)
    missing = [blank.what.rpartition(" ")[2] for blank in regime_blanks.blanks_of([one]) if "B_L" in blank.what]
    assert missing == ["8,192", "2,048", "32,768", "1,024", "4,096", "16,384", "60,000"]  # each halves what is open


@pytest.mark.parametrize("change", [{"learning_rate": 0.1}, {"warmup_epochs": 1}, {"lr_scaling": "sqrt"}, {"momentum": 0.8},
                                    {"epochs": 60},
                                    {"model": "lenet5"}, {"label_smoothing": 0.1}, {"validation_examples": 5000}])
def test_linear_scaling_changes_the_batch_alone(tmp_path, change):
    linear(tmp_path, 256, BASELINE)
    linear(tmp_path, 512, BAD, **change)
    assert regimes_of(tmp_path).large.verdicts == ()


def test_layout_and_reporting_may_differ(tmp_path):
    linear(tmp_path, 256, BASELINE)
    linear(tmp_path, 512, BAD, micro_batch_size=64, eval_every_epochs=5)
    assert regimes_of(tmp_path).large.fails_at == 512


def test_a_baseline_that_a_sweep_tuned_scales_too(tmp_path):
    made_sweep(tmp_path / "tuned", BASELINE, dataset="mnist", **{**RULE, "chosen": {"peak_learning_rate": 0.08}})
    linear(tmp_path, 512, BAD, learning_rate=0.08)
    linear(tmp_path, 1024, BAD)
    assert [verdict.batch for verdict in regimes_of(tmp_path).large.verdicts] == [512]


def tuned(folder, accuracies, rate=0.2, **more):
    """Final runs of a search at 256."""
    return made_sweep(folder, accuracies, dataset="mnist", **{**RULE, "chosen": {"peak_learning_rate": rate}, **more})


@pytest.mark.parametrize("ours, theirs", [(0.992, 0.990), (0.990, 0.992)])
def test_the_baseline_tuned_on_validation_comes_first_whatever_its_accuracy(tmp_path, ours, theirs):
    tuned(tmp_path / "tuned", [ours] * 5)
    linear(tmp_path, 256, [theirs] * 5)
    linear(tmp_path, 512, BAD)
    one = regimes_of(tmp_path)
    assert (one.baseline.select_on, one.target, len(one.other_baselines)) == ("validation", pytest.approx(0.995 * ours), 1)
    assert one.large.verdicts == ()  # at 512 the other rate was scaled
    said = regime_tables.regimes_table([one]).markdown
    assert "rate 0.2 (chosen on validation in 20 trials), 5 seeds" in said
    assert "Not taken: rate 0.05 (not searched), 5 seeds. Of several settings the one counts" in said


@pytest.mark.parametrize("accuracies, more", [
    (BASELINE[:4], {}), ([*BASELINE[:4], None], {}), ([*BASELINE[:4], 0.97], {}), (BASELINE, {"select_on": "test"}),
    (BASELINE, {"epochs": 60})])
def test_a_tuned_baseline_that_lacks_something_gives_way(tmp_path, accuracies, more):
    tuned(tmp_path / "tuned", accuracies, **more)
    linear(tmp_path, 256, BASELINE)
    one = regimes_of(tmp_path)
    assert one.baseline.select_on == "" and one.doubt == ""


def test_seeds_that_are_missing_are_better_than_seeds_that_diverge(tmp_path):
    tuned(tmp_path / "tuned", [*BASELINE[:2], None, None, None])
    linear(tmp_path, 256, BASELINE[:1])
    one = regimes_of(tmp_path)
    assert one.baseline.select_on == "" and one.doubt == "the baseline has 1 seed, fewer than 5"


@pytest.mark.parametrize("accuracies, doubt", [
    (BASELINE[:4], "the baseline has 4 seeds, fewer than 5"), (BASELINE[:1], "the baseline has 1 seed, fewer than 5"),
    ([*BASELINE, None], "1 of the baseline's 6 seeds diverged"),
    ([*BASELINE[:3], None], "1 of the baseline's 4 seeds diverged"),
    ([*BASELINE[:4], 0.1135], "the baseline is unstable: its accuracies range over 87.86 points")])
def test_a_baseline_that_is_not_sound_decides_nothing(tmp_path, accuracies, doubt):
    linear(tmp_path, 256, accuracies)
    linear(tmp_path, 512, [0.1135] * 5)
    linear(tmp_path, 1024, [None] * 5)
    lars(tmp_path, 4096, [0.999] * 5)
    lars(tmp_path, 8192, [None] * 5)
    one = regimes_of(tmp_path)
    for edge in (one.large, one.huge):
        assert (edge.decided, edge.value, edge.fails_at) == (False, None, None)
        assert {(verdict.word, verdict.reason) for verdict in edge.verdicts} == {("undecided", doubt)}
        assert regime_tables.words_of(one, edge) == f"undecided: {doubt}"
    assert f"It decides nothing: {doubt}." in regime_tables.regimes_table([one]).markdown
    assert {row["verdict"] for row in regime_tables.batches_table([one]).rows} == {"undecided"}


def test_few_seeds_of_the_baseline_are_said_and_asked_for(tmp_path):
    linear(tmp_path, 256, BASELINE[:2])
    linear(tmp_path, 512, BAD * 2)
    one = regimes_of(tmp_path)
    table = regime_tables.regimes_table([one])
    assert "2 seeds, fewer than 5" in table.markdown
    assert "for seed in 3 4 5;" in table.blanks[0].command and "3 more seeds" in table.blanks[0].what
    # What has its five seeds beside it is not asked for again: the baseline's seeds decide it.
    assert not [blank for blank in table.blanks if "B_L" in blank.what.partition(",")[0] and "512" in blank.what]


def test_seeds_of_a_tuned_baseline_keep_word_of_what_chose_them(tmp_path):
    tuned(tmp_path / "tuned", BASELINE[:3])
    [first, *_] = regime_blanks.blanks_of([regimes_of(tmp_path)])
    assert "for seed in 4 5;" in first.command and f"--run_dir={tmp_path}/tuned/final/seed$seed" in first.command
    settings = command_line.parse(train_words(first.command), program="", description="", dataset="mnist").settings
    assert (settings.selected_on, settings.peak_learning_rate) == ("validation", 0.2)


@pytest.mark.parametrize("accuracies", [[*BASELINE[:3], None, None], [None, None]])
def test_an_unstable_baseline_needs_another_rate(tmp_path, accuracies):
    tuned(tmp_path / "tuned", accuracies, rate=0.4)
    linear(tmp_path, 256, [None, None], learning_rate=0.2)
    one = regimes_of(tmp_path)
    blanks = regime_blanks.blanks_of([one])
    assert "a stable baseline of mnist, lenet" in blanks[0].what and "--learning_rate=" in blanks[0].command
    assert not [blank for blank in blanks if "linear scaling" in blank.what]  # of a rate that is not to be scaled
    settings = command_line.parse(train_words(blanks[0].command), program="", description="", dataset="mnist").settings
    assert settings.peak_rate == 0.1 and settings.batch_size == 256  # 0.2 was tried
    values = {name: value for name, value in settings.as_dict().items() if name not in ("seed", "run_dir")}
    made_seeds(tmp_path / "lower", BASELINE, **values)
    one = regimes_of(tmp_path)
    assert one.doubt == "" and one.baseline.values["learning_rate"] == 0.1


def test_a_batch_larger_than_the_data_has_no_baseline(tmp_path):
    made_seeds(tmp_path, [0.0], dataset="imagenet2012", dataset_size=(240, 10), model="resnet18", batch_size=48,
               optimizer="lars")
    one = next(one for one in find(*evidence(tmp_path)) if one.family.dataset_size)
    table = regime_tables.regimes_table([one])
    assert "its batch, 256, is more than the 240 training examples" in table.markdown and table.blanks == []


def test_without_a_baseline_nothing_is_decided(tmp_path):
    linear(tmp_path, 512, GOOD)
    lars(tmp_path, 8192, BAD)
    one = regimes_of(tmp_path)
    table = regime_tables.regimes_table([one])
    assert one.baseline is None and "there is no baseline" in table.markdown
    assert [row.get("value") for row in table.rows] == [None, None, 60_000]
    [blank] = table.blanks
    assert "baseline" in blank.what and "--regime=baseline" in blank.command


def test_no_runs_at_all_are_three_data_sets_of_blanks(tmp_path):
    table = regime_tables.regimes_table(find([], []))
    assert [row["dataset"] for row in table.rows][::3] == ["mnist", "cifar10", "imagenet2012"]
    assert len(table.blanks) == 3


# Huge.


def test_a_miss_takes_a_search(tmp_path):
    linear(tmp_path, 256, BASELINE)
    linear(tmp_path, 512, BAD)
    one = regimes_of(tmp_path)
    assert one.large.decided and not one.huge.decided
    assert one.huge.verdicts[0].holds is None and "nothing was searched" in one.huge.verdicts[0].reason


def test_any_setting_may_reach_it(tmp_path):
    linear(tmp_path, 256, BASELINE)
    lars(tmp_path, 4096, BAD)
    made_seeds(tmp_path / "adam", GOOD, dataset="mnist", batch_size=4096, optimizer="adam")
    [verdict] = regimes_of(tmp_path).huge.verdicts
    assert verdict.holds and verdict.group.values["optimizer"] == "adam"
    assert "best of 2 settings by test accuracy" in verdict.reason and verdict.by_test


def chosen_with(sweep, accuracy, split="validation"):
    path = os.path.join(sweep.path, "result.json")
    result = json.load(open(path))
    result["chosen"].update(accuracy=accuracy, split=split)
    json.dump(result, open(path, "w"))


def rows_of(folder, batch=4096):
    [row] = [row for row in regime_tables.batches_table([regimes_of(folder)]).rows if row["boundary"] == "B_H" and row["batch"] == batch]
    return row


def test_of_several_searches_validation_picks_the_one_that_speaks(tmp_path):
    linear(tmp_path, 256, BASELINE)
    chosen_with(lars(tmp_path / "a", 4096, [0.9930, 0.9931, 0.9932], optimizer="adam"), 0.991)
    chosen_with(lars(tmp_path / "b", 4096, GOOD), 0.992)
    row = rows_of(tmp_path)
    assert (row["verdict"], row["optimizer"], row["selected_on"]) == ("holds", "lars", "validation")
    assert "of 2 settings the best by validation accuracy" in row["reason"]
    assert "†" not in regime_tables.regimes_table([regimes_of(tmp_path)]).markdown


def test_where_the_best_on_validation_misses_another_is_picked_by_test_and_marked(tmp_path):
    linear(tmp_path, 256, BASELINE)
    chosen_with(lars(tmp_path / "a", 4096, GOOD, optimizer="adam"), 0.991)
    chosen_with(lars(tmp_path / "b", 4096, BAD), 0.992)
    row = rows_of(tmp_path)
    assert (row["verdict"], row["optimizer"], row["selected_on"]) == ("holds", "adam", "test")
    text = regime_tables.regimes_table([regimes_of(tmp_path)]).markdown
    assert "99.20%†" in text and "† The setting was chosen on the test split" in text


@pytest.mark.parametrize("odd", [None, "0.99", True, 2.0, [1], float("nan")])
def test_a_validation_accuracy_that_is_none_picks_nothing(tmp_path, odd):
    linear(tmp_path, 256, BASELINE)
    chosen_with(lars(tmp_path / "a", 4096, [0.9930, 0.9931, 0.9932], optimizer="adam"), 0.991)
    chosen_with(lars(tmp_path / "b", 4096, GOOD), odd)
    assert rows_of(tmp_path)["optimizer"] == "adam"


def test_a_setting_beside_seeds_that_can_reach_nothing_was_not_picked(tmp_path):
    linear(tmp_path, 256, BASELINE)
    made_seeds(tmp_path / "adam", GOOD, dataset="mnist", batch_size=4096, optimizer="adam")
    made_seeds(tmp_path / "lars", [0.97], dataset="mnist", batch_size=4096, optimizer="lars")
    assert (rows_of(tmp_path)["verdict"], rows_of(tmp_path)["selected_on"]) == ("holds", None)


def test_the_rule_from_a_rate_that_test_chose_has_the_mark_in_both_tables(tmp_path):
    made_sweep(tmp_path / "sgd", BASELINE, chosen={"learning_rate": 0.08}, select_on="test", dataset="mnist", batch_size=256, **RULE)
    linear(tmp_path, 4096, GOOD, learning_rate=0.08)
    one = regimes_of(tmp_path)
    found = [row["selected_on"] for row in regime_tables.batches_table([one]).rows if row["batch"] == 4096]
    assert found == ["test", "test"]
    commands = [blank.command for blank in regime_blanks.blanks_of([one]) if "linear scaling at" in blank.what]
    new = [command for command in commands if "linear_4096" not in command]
    assert new and all("--selected_on=test" in command for command in new)


def test_failed_searches_at_the_baselines_batch_are_no_search_for_b_h(tmp_path):
    linear(tmp_path, 256, BASELINE)
    for batch in (64, 256):
        lars(tmp_path, batch, [], chosen=None, diverged=20)
    one = regimes_of(tmp_path)
    assert one.searches == ()
    [row] = [row for row in regime_tables.regimes_table([one]).rows if row["boundary"] == "B_H"]
    assert row["trials"] == 0


@pytest.mark.parametrize("accuracies, word", [(BAD, "fails"), (CLOSE, "undecided"), (GOOD, "holds"), ([0.95], "undecided"),
                                              ([0.95, None], "undecided"), ([None, None], "fails"), ([None], "undecided"),
                                              ([*GOOD, None], "undecided"), (APART, "fails"), (APART[:5], "undecided"),
                                              ([*APART[:5], 0.9920], "undecided")])
def test_one_batch_by_definition_2_2(tmp_path, accuracies, word):
    linear(tmp_path, 256, BASELINE)
    lars(tmp_path, 4096, accuracies)
    [verdict] = regimes_of(tmp_path).huge.verdicts
    assert verdict.word == word


def test_one_seed_of_the_chosen_setting_that_diverges_decides_nothing_whatever_else_misses(tmp_path):
    linear(tmp_path, 256, BASELINE)
    lars(tmp_path, 4096, [None])
    made_seeds(tmp_path / "adam", BAD, dataset="mnist", batch_size=4096, optimizer="adam")
    [verdict] = regimes_of(tmp_path).huge.verdicts
    assert verdict.word == "undecided" and "has one seed" in verdict.reason


@pytest.mark.parametrize("done, failed", [(19, 1), (10, 0), (13, 4)])
def test_a_search_that_lacks_results_is_asked_for_more_trials_by_its_own_command(tmp_path, done, failed):
    linear(tmp_path, 256, BASELINE)
    lars(tmp_path, 4096, BAD, trials=done)
    for name, change in (("sweep.json", {"trials": done + failed, "command_line": [
            "sweep_main", "--data_dir=my data", f"--trials={done + failed}", "--sweep_dir=there"]}),
            ("result.json", {"trials": {"done": done, "diverged": 0, "failed": failed}})):
        path = tmp_path / "lars_4096" / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    one = regimes_of(tmp_path)
    [blank] = [blank for blank in regime_blanks.blanks_of([one]) if "B_H" in blank.what and "4,096" in blank.what]
    assert blank.what.endswith(f"{20 - done} more trials") and blank.command == \
        f"python -m tf_hugebatch.sweep_main '--data_dir=my data' --sweep_dir=there --trials={20 + failed}"


@pytest.mark.parametrize("searched", [{"epochs": [1, 5, 30]}, {"batch_size": [512, 4096]}, {"train_steps": [10, 100]}])
@pytest.mark.parametrize("chosen", [{"peak_learning_rate": 20.0}, None])
def test_a_search_over_how_long_or_at_which_batch_to_train_decides_no_miss(tmp_path, searched, chosen):
    linear(tmp_path, 256, BASELINE)
    lars(tmp_path, 4096, BAD if chosen else [], chosen=chosen, trials=20, diverged=0 if chosen else 20, space=searched)
    assert not regimes_of(tmp_path).huge.decided


def test_a_search_in_which_everything_diverged_is_a_miss(tmp_path):
    linear(tmp_path, 256, BASELINE)
    lars(tmp_path, 4096, [], chosen=None, diverged=20)
    one = regimes_of(tmp_path)
    assert (one.huge.holds_at, one.huge.fails_at, one.huge.decided) == (256, 4096, True)
    assert "none of them trained" in regime_tables.regimes_table([one]).markdown


@pytest.mark.parametrize("accuracies, chosen, trials, word", [
    (BAD, {"peak_learning_rate": 20.0}, 19, "undecided"), (BAD, {"peak_learning_rate": 20.0}, 20, "fails")])
def test_a_search_of_few_trials_decides_no_miss(tmp_path, accuracies, chosen, trials, word):
    linear(tmp_path, 256, BASELINE)
    lars(tmp_path, 4096, accuracies, chosen=chosen, trials=trials)
    [verdict] = regimes_of(tmp_path).huge.verdicts
    assert verdict.word == word


@pytest.mark.parametrize("changes, word", [({}, "fails"), ({"epochs": 1}, "undecided")])
def test_a_search_of_shorter_runs_decides_no_miss(tmp_path, changes, word):
    linear(tmp_path, 256, BASELINE)
    lars(tmp_path, 4096, BAD, chosen={"peak_learning_rate": 20.0}, trials=20, **changes)
    [verdict] = regimes_of(tmp_path).huge.verdicts
    assert verdict.word == word


@pytest.mark.parametrize("longer", [{"epochs": 1000}, {"train_steps": 10_000}])
def test_training_longer_is_no_answer(tmp_path, longer):
    linear(tmp_path, 256, BASELINE)
    lars(tmp_path, 4096, GOOD, **longer)
    assert regimes_of(tmp_path).huge.verdicts == ()


def test_training_shorter_is(tmp_path):
    linear(tmp_path, 256, BASELINE)
    lars(tmp_path, 4096, GOOD, epochs=20)
    assert regimes_of(tmp_path).huge.holds_at == 4096


def test_choosing_on_test_is_marked(tmp_path):
    linear(tmp_path, 256, BASELINE)
    lars(tmp_path, 4096, BAD, select_on="test")
    text = regime_tables.regimes_table([regimes_of(tmp_path)]).markdown
    assert "95.10%†" in text and "† The setting was chosen on the test split" in text and "chosen on test" in text


def test_words_on_the_data_keep_families_apart_and_stand_beside_numbers(tmp_path):
    linear(tmp_path / "a", 256, BASELINE)
    linear(tmp_path / "b", 256, [0.9] * 5, note="JPEG-recompressed")
    linear(tmp_path / "b", 512, BAD, note="JPEG-recompressed")
    found = [one for one in find(*evidence(tmp_path)) if one.family.dataset == "mnist"]
    assert [len(one.large.verdicts) for one in found] == [0, 1]
    assert "A = 90.00% (JPEG-recompressed)" in regime_tables.regimes_table(found).markdown


def test_a_small_data_set_of_no_paper(tmp_path):
    made_seeds(tmp_path / "linear_256", [0.97] * 5, dataset="mnist5k", batch_size=256, **RULE)
    made_seeds(tmp_path / "linear_4000", [0.80, 0.81], dataset="mnist5k", batch_size="full", **RULE)
    one = regimes_of(tmp_path, "mnist5k")
    assert (one.large.fails_at, one.full, one.family.published) == (4000, 4000, None)
    table = regime_tables.regimes_table([one])
    assert "the paper has no such data set" in table.markdown and "not in the paper" in table.markdown
    assert [blank.what.rpartition(" ")[2] for blank in table.blanks if "B_L" in blank.what] == ["1,024", "512", "2,048"]


def test_what_rests_on_what_is_in_the_second_table(known):
    table = regime_tables.batches_table(find(*evidence(known)))
    rows = [row for row in table.rows if row["boundary"] == "B_H" and row["batch"] == 16384]
    assert [(row["optimizer"], row["n"], row["trials"], row["verdict"]) for row in rows] == [("lars", 3, 20, "fails")]
    assert rows[0]["mean_percent"] == pytest.approx(95.1) and rows[0]["target_percent"] == pytest.approx(98.704)


# The commands that fill blanks.


def train_words(command):
    """The words of the run in a command of one loop."""
    line = command.partition("; do ")[2].rpartition("; done")[0] or command
    words = shlex.split(line.replace("$seed", "9"))
    assert words[:2] == ["python", "-m"]
    return [word for word in words[3:] if word != "--data_dir=DIR"]


def test_the_command_of_a_blank_is_the_run_that_counts(tmp_path):
    linear(tmp_path / "runs", 256, BASELINE, learning_rate=0.07, momentum=0.8)
    one = regimes_of(tmp_path)
    [blank] = [blank for blank in regime_blanks.blanks_of([one]) if blank.what.endswith("linear scaling at 512")]
    command = command_line.parse(train_words(blank.command), program="mnist_main", description="", dataset="mnist")
    assert command.problems == [] and command.settings.run_dir.endswith("seed9")
    values = command.settings.replace(run_dir=None).as_dict()
    made_seeds(tmp_path / "more", BAD, **{name: values[name] for name in values if name not in ("seed", "run_dir")})
    assert regimes_of(tmp_path).large.fails_at == 512


def test_sweeps_of_blanks_are_command_lines_of_runs_with_spaces_that_exist(tmp_path):
    import pathlib

    linear(tmp_path, 256, BASELINE)
    blanks = [blank for blank in regime_blanks.blanks_of([regimes_of(tmp_path)]) if "B_H" in blank.what]
    assert len(blanks) == 3 * 8
    own = ("--space=", "--method=", "--trials=", "--confirm=", "--final_seeds=", "--sweep_dir=")
    root = pathlib.Path(__file__).parents[2]
    for blank in blanks:
        words = train_words(blank.command)
        command = command_line.parse([word for word in words if not word.startswith(own)], program="sweep_main", description="",
                                     dataset="mnist")
        assert command.problems == [] and command.settings.epochs == 30
        [space] = [word.partition("=")[2] for word in words if word.startswith("--space=")]
        assert json.loads((root / space).read_text())
    assert "--batch_size=full" in blanks[-1].command and "images through lenet" in blanks[-1].cost


def test_a_subset_is_a_family_of_its_own_and_costs_what_it_holds(tmp_path):
    made_seeds(tmp_path, [0.9] * 2, dataset="synthetic", dataset_size=(1000, 100), model="resnet18", image_size=32,
               batch_size=256, optimizer="sgd", warmup_epochs=0, epochs=2)
    one = regimes_of(tmp_path, "synthetic")
    table = regime_tables.regimes_table([one])
    assert "### synthetic, 1,000 training images, resnet18" in table.markdown and one.full == 1000
    assert "--dataset_size=1000,100" in table.blanks[0].command and table.blanks[0].cost.startswith("6,000 images")


# Order, and where the runs go.


def blanks_in(folder):
    return regime_blanks.blanks_of(find(*evidence(folder)))


def test_what_decides_a_boundary_soonest_comes_first(tmp_path):
    linear(tmp_path, 256, BASELINE)
    linear(tmp_path, 512, CLOSE)
    linear(tmp_path, 8192, BAD)
    lars(tmp_path, 4096, CLOSE)
    linear(tmp_path / "lenet5", 256, BASELINE[:2], model="lenet5")
    found = [blank for blank in blanks_in(tmp_path) if "mnist" in blank.what]
    assert [blank.what for blank in found[:5]] == [
        "A and xi of mnist, lenet5, and B_L and B_H with them: 3 more seeds",
        "B_L of mnist, lenet: linear scaling at 512: 2 more seeds",
        "B_H of mnist, lenet: the best setting at 512, lars", "B_H of mnist, lenet: the best setting at 512, lamb",
        "B_H of mnist, lenet: the best setting at 512, muon"]
    assert [blank.what for blank in found if "the best setting at 4,096: 2 more seeds" in blank.what]
    scaled = [blank.what.rpartition(" ")[2] for blank in found if "mnist, lenet: linear scaling at" in blank.what]
    assert scaled[1:] == ["2,048", "1,024", "4,096"]
    of_a_turn = [blank.what for blank in found if "2,048" in blank.what and "lenet:" in blank.what]
    assert "linear scaling" in of_a_turn[0]  # five runs before a search


def run_dirs(blanks):
    import re

    return [found for blank in blanks for found in re.findall(r"--(?:run|sweep)_dir=(\S+?);?(?:\s|$)", blank.command)]


def test_experiments_that_differ_have_folders_that_differ(tmp_path):
    linear(tmp_path / "a", 256, BASELINE)
    linear(tmp_path / "held out", 256, BASELINE, validation_examples=5000)
    linear(tmp_path / "rate", 256, BASELINE, learning_rate=0.1, model="lenet5")
    linear(tmp_path / "note", 256, BASELINE, note="JPEG-recompressed")
    for number, size in enumerate([(1000, 100), (2000, 100)]):
        made_seeds(tmp_path / f"subset{number}", [0.9] * 5, dataset="synthetic", dataset_size=size, model="resnet18",
                   image_size=32, batch_size=256, optimizer="sgd", warmup_epochs=0, epochs=2)
    for number, examples in enumerate([300, 400]):  # no baseline
        made_seeds(tmp_path / f"small{number}", [0.9], dataset="imagenet2012", dataset_size=(examples, 10), model="resnet18",
                   batch_size=48, optimizer="lars")
    blanks = blanks_in(tmp_path)
    folders = run_dirs(blanks)
    assert len(folders) == len(blanks) > 50 and len(set(folders)) == len(folders)
    assert "runs/regimes/mnist_lenet/linear_512/seed$seed" in folders  # nothing beyond what the name says


def test_runs_of_several_experiments_in_one_folder_get_no_more_seeds_there(tmp_path):
    made_run(tmp_path / "runs" / "seed1", 0.992, dataset="mnist", batch_size=256, seed=1, **RULE)
    made_run(tmp_path / "runs" / "seed2", 0.992, dataset="mnist", batch_size=256, seed=2, validation_examples=5000, **RULE)
    folders = [folder for blank, folder in zip(blanks_in(tmp_path), run_dirs(blanks_in(tmp_path))) if "A and xi" in blank.what]
    assert len(set(folders)) == 2 and not [folder for folder in folders if folder.startswith(str(tmp_path))]


def test_seeds_in_folders_of_another_name_get_more_seeds_elsewhere(tmp_path):
    for seed, name in ((1, "monday"), (2, "tuesday")):
        made_run(tmp_path / name, 0.992, dataset="mnist", batch_size=256, seed=seed, **RULE)
    [folder] = [folder for blank, folder in zip(blanks_in(tmp_path), run_dirs(blanks_in(tmp_path))) if "A and xi" in blank.what]
    assert folder.startswith("runs/regimes/mnist_lenet/sgd_256_") and folder.endswith("/seed$seed")


def test_of_two_groups_of_the_rule_at_one_batch_the_one_with_more_seeds_counts(tmp_path):
    linear(tmp_path, 256, BASELINE)
    linear(tmp_path, 512, GOOD)
    linear(tmp_path / "few", 512, GOOD[:2], selected_on="validation")
    [verdict] = regimes_of(tmp_path).large.verdicts
    assert verdict.group.n == 3
