"""The frontier: a point is a search's final runs, a rule is beside it and never in it, and other searches stay out."""

import json
import pathlib
import re

import numpy as np
import pytest

from reference import made_figures as made
from reference.drawn import loaded, texts
from tf_hugebatch import published
from tf_hugebatch.reports import catalogue, frontier
from tf_hugebatch.reports.sheets import ON_TEST
from tf_hugebatch.runs import load_runs

ROOT = pathlib.Path(__file__).parents[2]
SPACES = {name: json.loads((ROOT / f"flags/sweeps/frontier_{space}.json").read_text())
          for name, (_, space) in frontier.OPTIMIZERS.items()}


def draw(folder):
    return catalogue.draw("frontier", *loaded(folder))


def change(folder, plan=None, trials=None, space=None):
    """A search's folder with these entries in its plan and its space, and so many trials done."""
    path = folder / "sweep.json"
    old = json.loads(path.read_text())
    path.write_text(json.dumps({**old, **(plan or {}), "space": {**old["space"], **(space or {})}}))
    if trials is not None:
        path = folder / "result.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "trials": {"done": trials, "diverged": 0, "failed": 0}}))


def points(found):
    """{label: [[batch, accuracy]]} of the lines with bars."""
    [panel] = found.figure.axes
    return {bars.get_label(): np.column_stack(bars[0].get_data()).tolist() for bars in panel.containers}


def test_a_line_is_the_mean_of_fresh_seeds_and_a_table_row_says_the_rest(tmp_path):
    made.write_frontier(tmp_path, "muon", 8192, [0.987, 0.993])
    made.write_frontier(tmp_path, "muon", "full", [0.993, 0.994])
    made.write_frontier(tmp_path, "lamb", "full", [0.96, None])
    found = draw(tmp_path)
    assert points(found) == {"muon": [[8192, pytest.approx(99.0)], [60000, pytest.approx(99.35)]],
                             "lamb": [[60000, pytest.approx(96.0)]]}
    rows = {(row["optimizer"], row["batch"]): row for row in found.rows}
    assert set(rows) == {("muon", 8192), ("muon", 60000), ("lamb", 60000)}
    row = rows["muon", 60000]
    assert (row["by"], row["updates"], row["n"], row["seeds_at_target"], row["updates_to_target"]) == ("tuned", 30, 2, 2, 22)
    assert rows["muon", 8192]["seeds_at_target"] == 1 and rows["lamb", 60000]["diverged"] == 1
    assert (row["verdict"], row["reason"]) == (None, None)
    assert "B_L and B_H are open: sgd is not tuned in this space at 256 yet, which A and xi are of." in found.caption
    assert all(text in texts(found.figure) for text in ("1,000 epochs", "the paper's target 98.704%", "the paper's baseline 99.2%"))
    assert "98.3% at 60,000" in found.caption


def test_nothing_is_cut_off_however_low_it_is(tmp_path):
    made.write_frontier(tmp_path, "muon", "full", [0.9999, 1.0])
    made.write_frontier(tmp_path, "lars", "full", [0.42, 0.0987])
    panel = draw(tmp_path).figure.axes[0]
    low, high = panel.get_ylim()
    assert low < 9.87 and high >= 100
    heights = panel.transData.transform([(1, tick) for tick in panel.get_yticks()])[:, 1]
    assert heights.size >= 5 and np.diff(heights).min() > 8  # 99 and 99.5 are told apart, and labels don't touch


def test_both_momentums_are_lines_of_their_own(tmp_path):
    made.write_frontier(tmp_path, "sgd", 256, [0.99])
    assert "Frontier: nesterov, batch 256" in [blank.what for blank in draw(tmp_path).blanks]
    made.write_frontier(tmp_path, "nesterov", 256, [0.98])
    assert points(draw(tmp_path)) == {"sgd": [[256, pytest.approx(99.0)]], "nesterov": [[256, pytest.approx(98.0)]]}


def test_a_choice_by_one_run_a_setting_is_said(tmp_path):
    made.write_frontier(tmp_path, "lamb", "full", [0.96])
    folder = made.write_frontier(tmp_path, "muon", "full", [0.99])
    path = folder / "sweep.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "confirm": 3}))
    for figure in ("frontier", "full_batch"):
        assert ("Chosen by one run a setting, without repeats of the best: lamb, 60,000."
                in catalogue.draw(figure, *loaded(tmp_path)).caption)


def test_what_it_takes_to_the_target_and_what_whole_runs_take_are_medians_over_seeds(tmp_path):
    folder = made.write_frontier(tmp_path, "muon", "full", [0.993, 0.994, 0.988])
    for seconds, path in zip((10.0, 20.0, 900.0), sorted(folder.glob("final/*/status.json")), strict=True):
        path.write_text(json.dumps({**json.loads(path.read_text()), "wall_seconds": seconds}))
    found = draw(tmp_path)
    [row] = found.rows
    assert (row["seeds_at_target"], row["updates_to_target"], row["run_seconds"]) == (3, 22, 20.0)  # the third is there at 30
    assert "seconds" not in row
    assert "run_seconds in the table is the time of whole runs, not the time to the target" in found.caption


@pytest.mark.parametrize("trials, counts", [({"a": 5, "b": 19, "c": 7}, "b"), ({"a": 5, "b": 20, "c": 40}, "b"),
                                            ({"a": 20, "b": 30, "c": 40}, "a"), ({"a": 5, "b": 30, "c": 40}, "c")])
def test_of_several_searches_the_standards_counts_else_the_one_with_most_trials_whatever_it_found(tmp_path, trials, counts):
    accuracies = {"a": 0.99, "b": 0.95, "c": 0.98}
    for name, accuracy in accuracies.items():
        folder = made.write_frontier(tmp_path / name, "muon", 8192, [accuracy, accuracy], momentum=0.5 + 0.001 * trials[name])
        change(folder, {"trials": trials[name]}, trials[name])
    assert points(draw(tmp_path)) == {"muon": [[8192, pytest.approx(100 * accuracies[counts])]]}


def test_a_rule_is_in_the_table_and_the_caption_and_in_no_line(tmp_path):
    made.write_frontier(tmp_path, "sgd", 256, [0.98])
    made.write_frontier(tmp_path, "sgd", 8192, [0.99])
    made.write_frontier(tmp_path, "sgd", 8192, [0.5], rule="linear")
    made.write_frontier(tmp_path, "sgd", 32768, [0.4], rule="sqrt")
    found = draw(tmp_path)
    assert points(found) == {"sgd": [[256, pytest.approx(98.0)], [8192, pytest.approx(99.0)]]}
    assert [(row["by"], row["batch"]) for row in found.rows] == [
        ("linear", 8192), ("sqrt", 32768), ("tuned", 256), ("tuned", 8192)]
    assert "Left out" not in found.caption


@pytest.mark.parametrize("changed", [{"momentum": 0.5}, {"weight_decay": 0.05}, {"poly_power": 2}, {"warmup_epochs": 5},
                                     {"learning_rate": 0.03}])
def test_a_rule_is_of_what_was_tuned_at_256_and_of_nothing_else(tmp_path, changed):
    write_line(tmp_path, "sgd", {256: 0.99})
    write_line(tmp_path, "sgd", {8192: 0.99, 32768: 0.99}, rule="linear", **changed)
    write_line(tmp_path / "own", "sgd", {32768: 0.9}, rule="linear")
    found = draw(tmp_path)
    assert [(row["by"], row["batch"], row["mean_percent"]) for row in found.rows] == [
        ("linear", 32768, pytest.approx(90)), ("tuned", 256, pytest.approx(99))]
    assert ("Left out, settings with a rate by a rule that are not what the optimizer's search at 256 chose: sgd 2."
            in found.caption)
    assert "sgd, linear: B_L is above 256 and at most 32,768 (256 holds, 32,768 fails)." in found.caption


def test_without_its_search_at_256_an_optimizer_has_no_rules(tmp_path):
    write_line(tmp_path, "sgd", {256: 0.99})
    write_line(tmp_path, "muon", {8192: 0.99})
    write_line(tmp_path, "muon", {8192: 0.9}, rule="sqrt")
    found = draw(tmp_path)
    assert "sqrt" not in [row["by"] for row in found.rows] and "at 256 chose: muon 1." in found.caption


def test_points_are_of_the_same_images(tmp_path):
    write_line(tmp_path / "other", "sgd", {256: 0.95}, note="recompressed")
    write_line(tmp_path, "muon", {256: 0.98, 8192: 0.96})
    found = draw(tmp_path)
    assert {(row["optimizer"], row["verdict"]) for row in found.rows} == {("muon", None)}
    assert "B_L and B_H are open: sgd is not tuned in this space at 256 yet" in found.caption
    assert "Also run on other data and not drawn: mnist, lenet5 (recompressed)." in found.caption
    write_line(tmp_path, "sgd", {256: 0.99})
    write_line(tmp_path / "other", "muon", {256: 0.999}, note="recompressed")
    write_line(tmp_path / "other", "muon", {8192: 0.9}, rule="linear", note="recompressed")
    found = draw(tmp_path)
    # 0.995 A of the other images, 94.5%, would have been reached.
    assert "muon, tuned: no batch tried is below B_H (256 fails, 8,192 fails)." in found.caption
    assert not any(row["data_note"] for row in found.rows)
    assert "linear" not in found.caption and "Left out" not in found.caption


def test_of_as_many_points_on_two_data_sets_those_count_that_have_the_baseline(tmp_path):
    write_line(tmp_path / "a", "lars", {256: 0.98}, note="recompressed")
    write_line(tmp_path / "b", "sgd", {256: 0.99})
    assert [row["optimizer"] for row in draw(tmp_path).rows] == ["sgd"]


def write_line(folder, name, by_batch, rule=None, **values):
    """{batch: mean of five seeds that hardly differ, or None: all diverge}."""
    for batch, mean in by_batch.items():
        made.write_frontier(folder, name, batch, [None if mean is None else mean + 1e-4 * (seed - 2) for seed in range(5)],
                            rule=rule, **values)


def test_large_and_huge_begin_where_the_definitions_say_with_one_baseline_for_all(tmp_path):
    # 0.995 A is 98.505%; with a test set of 10,000 a mean is clear of it at about 98.8 and 98.2%.
    write_line(tmp_path, "sgd", {256: 0.99, 8192: 0.98, "full": 0.9})
    write_line(tmp_path, "sgd", {8192: None, "full": None}, rule="linear")
    write_line(tmp_path, "muon", {256: 0.992, 8192: 0.991, 32768: 0.985, "full": 0.991})
    write_line(tmp_path, "muon", {8192: 0.991, 32768: 0.97, "full": 0.5}, rule="sqrt")
    write_line(tmp_path, "lamb", {256: 0.97, 8192: 0.98})
    write_line(tmp_path, "lars", {256: 0.99, 8192: 0.99})
    found = draw(tmp_path)
    for said in (
            "sgd, tuned: B_H is at least 256 and below 8,192 (256 holds, 8,192 fails, 60,000 fails).",
            "sgd, linear: B_L is above 256 and at most 8,192 (256 holds, 8,192 fails, 60,000 fails).",
            "lars, tuned: B_H is above every batch tried (256 holds, 8,192 holds).",
            "lamb, tuned: no batch tried is below B_H (256 fails, 8,192 fails).",
            "muon, tuned: no batch is huge, as 60,000 is every training example (256 holds, 8,192 holds, 32,768 undecided, 60,000 "
            "holds).",
            "muon, sqrt: B_L is above 8,192 and at most 32,768 (256 holds, 8,192 holds, 32,768 fails, 60,000 fails)."):
        assert said in found.caption
    rows = {(row["optimizer"], row["by"], row["batch"]): row for row in found.rows}
    assert rows["sgd", "linear", 8192]["reason"] == "diverges with all 5 seeds"
    assert rows["muon", "tuned", 60000]["verdict"] == "holds" and "missed" in rows["sgd", "tuned", 8192]["reason"]


def test_a_loss_too_high_is_large_though_the_accuracy_holds(tmp_path):
    write_line(tmp_path, "sgd", {256: 0.99})
    folder = made.write_frontier(tmp_path, "sgd", 8192, [0.991] * 5, rule="linear")
    for path in folder.glob("seed*/status.json"):
        status = json.loads(path.read_text())
        path.write_text(json.dumps({**status, "final": {**status["final"], "test_loss": 0.2}}))
    [row] = [row for row in draw(tmp_path).rows if row["by"] == "linear"]
    assert (row["verdict"], row["reason"]) == ("fails", "loss above 1.2 xi")


def test_a_miss_takes_a_whole_search_and_a_baseline_five_seeds(tmp_path):
    write_line(tmp_path, "sgd", {256: 0.99})
    folder = made.write_frontier(tmp_path, "muon", 8192, [0.97, 0.9701, 0.9702])
    plan = json.loads((folder / "sweep.json").read_text())
    (folder / "result.json").write_text(json.dumps({**json.loads((folder / "result.json").read_text()),
                                                    "trials": {"done": 7, "diverged": 0, "failed": 0}}))
    assert plan["trials"] == 20 and "muon, tuned: B_H is open (8,192 undecided)." in draw(tmp_path).caption
    made.write_frontier(tmp_path / "few", "sgd", 256, [0.99, 0.99])
    assert "B_L and B_H are open: the baseline has 2 seeds, fewer than 5." in draw(tmp_path / "few").caption


def test_a_reach_with_more_trials_than_the_comparison_has_decides_nothing_and_a_miss_does(tmp_path):
    write_line(tmp_path, "sgd", {256: 0.99})
    for name, mean in (("muon", 0.993), ("lamb", 0.95)):
        write_line(tmp_path, name, {8192: mean})
        change(tmp_path / f"{name}_8192", {"trials": 40}, 40)
    found = draw(tmp_path)
    assert "muon, tuned: B_H is open (8,192 undecided)." in found.caption and "(8,192 fails)" in found.caption
    [row] = [row for row in found.rows if row["optimizer"] == "muon"]
    assert row["reason"] == "reached with 40 trials, where the comparison has 20 each"


def test_a_baseline_that_was_searched_less_decides_nothing(tmp_path):
    write_line(tmp_path, "sgd", {256: 0.99})
    write_line(tmp_path, "muon", {8192: 0.99})
    change(tmp_path / "sgd_256", trials=3)
    assert "B_L and B_H are open: the search of sgd at 256 has 3 trials, fewer than 20." in draw(tmp_path).caption


def test_budgets_are_said_as_they_are(tmp_path):
    write_line(tmp_path, "sgd", {256: 0.99})
    write_line(tmp_path, "muon", {8192: 0.99})
    write_line(tmp_path, "lars", {8192: 0.95})
    assert "Every search here has 20 quasi-random trials over as many decades." in draw(tmp_path).caption
    change(tmp_path / "lars_8192", {"trials": 3}, 3)
    change(tmp_path / "muon_8192", {"trials": 40}, 40)
    caption = draw(tmp_path).caption
    assert ("Budgets differ from 20 quasi-random trials over as many decades: lars, 8,192: 3; muon, 8,192: 40." in caption
            and "Every" not in caption)
    assert "quasi-random" not in catalogue.draw("frontier", [], []).caption


@pytest.mark.parametrize("plan, space", [
    ({}, {"poly_power": [1]}), ({}, {"epochs": [1, 30]}), ({}, {"weight_decay": {"low": 1e-5, "high": 0.1, "log": True}}),
    ({}, {"peak_learning_rate": SPACES["lars"]["peak_learning_rate"]}), ({}, {"clip_global_norm": [1, 5]}),
    ({"method": "grid"}, {}), ({"settings": {"epochs": 10}}, {})])
def test_a_search_of_another_space_method_or_length_makes_no_point(tmp_path, plan, space):
    write_line(tmp_path, "sgd", {256: 0.99})
    folder = made.write_frontier(tmp_path, "muon", 8192, [0.95] * 5)
    assert len(draw(tmp_path).rows) == 2
    settings = json.loads((folder / "sweep.json").read_text())["settings"]
    change(folder, {name: {**settings, **value} if name == "settings" else value for name, value in plan.items()}, space=space)
    found = draw(tmp_path)
    assert [row["optimizer"] for row in found.rows] == ["sgd"] and "muon, tuned" not in found.caption


def test_every_search_that_lies_in_results_is_a_point():
    runs = load_runs(ROOT / "results/frontier/lenet5")
    assert {f"{name}_{'full' if batch == 60000 else batch}" for name, _, batch in frontier.points(runs, "mnist", 30)} == {
        folder.name for folder in (ROOT / "results/frontier/lenet5").iterdir()}


def test_a_verdict_on_a_choice_by_the_test_split_is_marked_where_it_is_said(tmp_path):
    write_line(tmp_path, "sgd", {256: 0.99})
    write_line(tmp_path, "muon", {256: 0.99, 8192: 0.99, 32768: None})
    write_line(tmp_path, "muon", {8192: 0.99}, rule="linear")
    assert ON_TEST not in draw(tmp_path).caption
    write_line(tmp_path / "own", "muon", {8192: 0.99}, rule="sqrt", selected_on="test")
    for batch in (8192, 32768):
        change(tmp_path / f"muon_{batch}", {"select_on": "test"})
    found = draw(tmp_path)
    assert f"muon, tuned: B_H is at least 8,192 and below 32,768 (256 holds, 8,192 holds{ON_TEST}, 32,768 fails{ON_TEST})." in (
        found.caption)
    assert "muon, linear: B_L is above every batch tried (256 holds, 8,192 holds)." in found.caption
    assert f"muon, sqrt: B_L is above every batch tried (256 holds, 8,192 holds{ON_TEST})." in found.caption
    assert f"{ON_TEST} chosen on the test split." in found.caption and "every verdict rests" not in found.caption
    change(tmp_path / "muon_256", {"select_on": "test"})
    found = draw(tmp_path)
    assert f"muon, linear: B_L is above every batch tried (256 holds{ON_TEST}, 8,192 holds{ON_TEST})." in found.caption
    rows = {(row["optimizer"], row["by"], row["batch"]): row for row in found.rows}
    assert rows["muon", "linear", 8192]["selected_on"] == rows["muon", "linear", 8192]["verdict_selected_on"] == "test"
    assert rows["sgd", "tuned", 256]["verdict_selected_on"] == "validation"


def test_a_baseline_that_the_test_split_chose_marks_every_verdict_and_no_accuracy_of_others(tmp_path):
    write_line(tmp_path, "sgd", {256: 0.99})
    write_line(tmp_path, "muon", {256: 0.99, 8192: 0.99})
    write_line(tmp_path, "muon", {8192: 0.9}, rule="linear")
    change(tmp_path / "sgd_256", {"select_on": "test"})
    found = draw(tmp_path)
    for said in (f"A and xi{ON_TEST}, which every verdict rests on, are of a setting that was chosen on the test split.",
                 f"sgd, tuned: B_H is above every batch tried (256 holds{ON_TEST}).",
                 f"muon, tuned: B_H is above every batch tried (256 holds{ON_TEST}, 8,192 holds{ON_TEST}).",
                 f"muon, linear: B_L is above 256 and at most 8,192 (256 holds{ON_TEST}, 8,192 fails{ON_TEST})."):
        assert said in found.caption
    assert {row["verdict_selected_on"] for row in found.rows} == {"test"}
    assert {row["optimizer"]: row["selected_on"] for row in found.rows} == {"sgd": "test", "muon": "validation"}
    assert set(points(found)) == {f"sgd{ON_TEST}", "muon"}
    write_noise_scale(tmp_path, "muon", 1.0)
    caption = catalogue.draw("noise_by_optimizer", *loaded(tmp_path)).caption
    assert f", B_L{ON_TEST} above 256 and at most 8,192." in caption and f"{ON_TEST} chosen on the test split." in caption


@pytest.mark.parametrize("space", [None, [{"a": 1}], "poly_power", 3])
def test_a_space_that_is_none_makes_no_point(tmp_path, space):
    folder = made.write_frontier(tmp_path, "sgd", 8192, [0.99])
    plan = json.loads((folder / "sweep.json").read_text())
    (folder / "sweep.json").write_text(json.dumps({**plan, "space": space}))
    assert not draw(tmp_path).rows


def test_runs_and_searches_that_are_not_of_the_frontier_are_no_points(tmp_path):
    other = made.write_plan(tmp_path / "table3", "mnist", space={"peak_learning_rate": [1, 2]}, method="random", trials=20,
                            optimizer="sgd", batch_size=8192, epochs=30)
    made.write_run(other / "final" / "seed1", optimizer="sgd", batch_size=8192, epochs=30, seed=1)
    made.write_run(tmp_path / "own", optimizer="muon", batch_size="full", epochs=30, schedule="polynomial")
    found = draw(tmp_path)
    assert found.figure is None and found.rows == [] and len(found.blanks) == 5 * 8


def test_the_table_of_spaces_is_what_the_files_say():
    assert {name: frontier.SPACES[space] for name, (_, space) in frontier.OPTIMIZERS.items()} == SPACES


def test_what_the_comparison_leaves_out_is_said():
    assert "Shampoo and K-FAC, which the library has too, are not compared." in catalogue.draw("frontier", [], []).caption


def test_everyone_has_the_same_trials_in_as_many_decades():
    def decades(space, name):
        return round(np.log10(space[name]["high"] / space[name]["low"]), 6)

    for space in SPACES.values():
        assert (decades(space, "peak_learning_rate"), decades(space, "weight_decay")) == (3, 3)
        momentum = space["beta_1"] if "beta_1" in space else space["momentum"]
        assert momentum == [0.8, 0.9, 0.95, 0.98]
        assert {name: space[name] for name in ("poly_power", "warmup_epochs")} == {
            "poly_power": [0.5, 1, 2], "warmup_epochs": [0, 1, 2, 3, 5]}
        # Sorted by name, the momentum comes first and the rate second for everyone, as the sequence of points needs it.
        assert sorted(space)[1:] == ["peak_learning_rate", "poly_power", "warmup_epochs", "weight_decay"]


def test_points_of_different_optimizers_are_the_same_places_in_their_spaces():
    pytest.importorskip("optuna")
    from tf_hugebatch.tuning import points as of, space_file

    shares = []
    for name, space in SPACES.items():
        made_space = space_file.make(space, [f"--flagfile={ROOT}/flags/frontier/{name}.flags", "--batch_size=full"], where=name)
        found = of.first(made_space, "random", 0, 20)
        rate = space["peak_learning_rate"]
        shares.append([[np.log10(point["peak_learning_rate"] / rate["low"]), point["poly_power"], point["warmup_epochs"],
                        point.get("momentum", point.get("beta_1"))] for point in found])
    for other in shares[1:]:
        np.testing.assert_allclose(other, shares[0], atol=2e-3)


def test_the_flagfiles_say_the_commands_that_a_report_prints():
    for source in catalogue.FIGURES["frontier"].sources:
        if "batch_size=full" in source.command:
            name = re.search(r"frontier/(\w+)\.flags", source.command)[1]
            assert f"# command: {source.command}\n" in (ROOT / f"flags/frontier/{name}.flags").read_text()


def test_the_papers_numbers_are_the_best_at_a_batch_and_a_length():
    paper = catalogue.FIGURES["frontier"].paper
    assert {(one.batch, one.epochs, one.top1) for one in paper} >= {(32768, 30, 98.7), (60000, 1000, 98.3)}
    assert set(paper) <= set(published.RESULTS)


# The noise scale by optimizer.


def write_noise_scale(folder, name, power, seed=1, **values):
    """A run of what was tuned at 256, `values` apart, whose |G|^2 is power / epoch in its first half and a thousandth of that
    later; tr(Sigma) 100."""
    own = {"sgd": {"optimizer": "sgd", "nesterov": "false"}}.get(name, {"optimizer": name})
    made.write_run(folder / f"noise_{name}" / f"seed{seed}", batch_size=256, epochs=30, schedule="polynomial", rows=60, seed=seed,
                   **{"selected_on": "validation", "peak_learning_rate": 0.02, "poly_power": 1, **own, **values},
                   more_rows=lambda step: ({"gradient_power": power if step < 3600 else power / 1000,
                                            "gradient_variance": 100.0, "noise_scale": 1.0}, []))


def test_early_noise_scales_stand_beside_where_large_batches_begin(tmp_path):
    write_line(tmp_path, "sgd", {256: 0.99})
    write_line(tmp_path, "sgd", {8192: 0.9, "full": None}, rule="linear")
    write_line(tmp_path, "muon", {256: 0.99})
    write_line(tmp_path, "muon", {8192: 0.99, 32768: 0.99, "full": 0.9}, rule="linear")
    for seed, factor in ((1, 1), (2, 2), (3, 4)):
        write_noise_scale(tmp_path, "sgd", 1.0 * factor, seed)
        write_noise_scale(tmp_path, "muon", 0.1, seed)
    write_line(tmp_path, "lamb", {256: 0.99})
    write_noise_scale(tmp_path, "lamb", 10.0)
    found = catalogue.draw("noise_by_optimizer", *loaded(tmp_path))
    rows = {row["optimizer"]: row for row in found.rows}
    # Two runs of the first 3 epochs each: their median, of tr(Sigma) / |G|^2.
    assert (rows["sgd"]["early"], rows["sgd"]["early_low"], rows["sgd"]["early_high"]) == pytest.approx((50, 25, 100))
    assert rows["muon"]["early"] == pytest.approx(1000) and rows["muon"]["whole_run"] > 1000
    assert {name: (row["holds_at"], row["fails_at"], row["seeds"]) for name, row in rows.items()} == {
        "sgd": (256, 8192, 3), "muon": (32768, 60000, 3), "lamb": (None, None, 1)}
    assert "Early S differs by a factor of 1e+02 between optimizers: lamb has the lowest, muon the highest." in found.caption
    assert "Of 1 pair of optimizers whose B_L differ, early S orders 1 alike." in found.caption
    assert "muon: early S 1e+03" in found.caption and "B_L above 32,768 and at most 60,000" in found.caption
    over, beside = found.figure.axes
    assert [line.get_label() for line in beside.lines] == ["sgd", "muon"] and len(over.lines) == 3
    assert [blank.what for blank in found.blanks] == ["Noise by optimizer: nesterov", "Noise by optimizer: lars"]


def test_early_and_whole_are_medians_over_stretches_and_no_signal_is_said(tmp_path):
    for name, of_epoch in (("sgd", lambda epoch: 2.0 if epoch < 1.02 else 1.0 if epoch < 2.02 else 900.0 if epoch < 3.02 else 5.0),
                           ("lamb", lambda epoch: np.inf if epoch < 2.02 else 7.0)):
        own = {"nesterov": "false"} if name == "sgd" else {}
        write_line(tmp_path, name, {256: 0.99})
        made.write_run(tmp_path / name, batch_size=256, epochs=30, schedule="polynomial", poly_power=1, rows=600, optimizer=name,
                       selected_on="validation", peak_learning_rate=0.02, **own, more_rows=lambda step: (
                           {"gradient_power": 0.0 if (scale := of_epoch(step / 234.4)) == np.inf else 1.0,
                            "gradient_variance": 1.0 if scale == np.inf else scale, "noise_scale": 1.0}, []))
    found = catalogue.draw("noise_by_optimizer", *loaded(tmp_path))
    rows = {row["optimizer"]: row for row in found.rows}
    assert (rows["sgd"]["early"], rows["sgd"]["whole_run"]) == (2.0, 5.0)
    assert (rows["lamb"]["early"], rows["lamb"]["whole_run"]) == (np.inf, 7.0)
    assert "lamb: its early updates do not tell S." in found.caption and "differs by" not in found.caption


def test_the_opposite_order_is_said_too(tmp_path):
    write_line(tmp_path, "sgd", {256: 0.99})
    write_line(tmp_path, "sgd", {8192: 0.9}, rule="linear")
    write_line(tmp_path, "muon", {256: 0.99})
    write_line(tmp_path, "muon", {8192: 0.99, "full": 0.9}, rule="linear")
    write_noise_scale(tmp_path, "sgd", 0.1)
    write_noise_scale(tmp_path, "muon", 1.0)
    assert "early S orders 0 alike" in catalogue.draw("noise_by_optimizer", *loaded(tmp_path)).caption


def test_runs_without_the_noise_scale_are_no_picture_of_it(tmp_path):
    made.write_run(tmp_path / "a", batch_size=256, epochs=30, schedule="polynomial", optimizer="muon", selected_on="validation")
    found = catalogue.draw("noise_by_optimizer", *loaded(tmp_path))
    assert found.figure is None and len(found.blanks) == 5


@pytest.mark.parametrize("changed", [{"peak_learning_rate": 0.03}, {"momentum": 0.5}, {"poly_power": 2}])
def test_the_noise_scale_is_of_what_was_tuned_at_256(tmp_path, changed):
    write_line(tmp_path, "sgd", {256: 0.99})
    write_noise_scale(tmp_path / "other", "sgd", 1.0, **changed)
    write_noise_scale(tmp_path, "muon", 1.0)
    found = catalogue.draw("noise_by_optimizer", *loaded(tmp_path))
    assert found.figure is None and len(found.blanks) == 5
    assert "Left out, settings that are not what the optimizer's search at 256 chose: sgd 1, muon 1." in found.caption
    write_noise_scale(tmp_path, "sgd", 10.0)
    found = catalogue.draw("noise_by_optimizer", *loaded(tmp_path))
    assert [(row["optimizer"], row["early"]) for row in found.rows] == [("sgd", pytest.approx(10))]
    assert "search at 256 chose: sgd 1, muon 1." in found.caption
