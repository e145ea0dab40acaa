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

ROOT = pathlib.Path(__file__).parents[2]
SPACES = {name: json.loads((ROOT / f"flags/sweeps/frontier_{space}.json").read_text())
          for name, (_, space) in frontier.OPTIMIZERS.items()}


def draw(folder):
    return catalogue.draw("frontier", *loaded(folder))


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


def test_what_it_takes_to_the_target_are_medians_over_seeds(tmp_path):
    folder = made.write_frontier(tmp_path, "muon", "full", [0.993, 0.994, 0.988])
    for seconds, path in zip((10.0, 20.0, 900.0), sorted(folder.glob("final/*/status.json")), strict=True):
        path.write_text(json.dumps({**json.loads(path.read_text()), "wall_seconds": seconds}))
    [row] = draw(tmp_path).rows
    assert (row["seeds_at_target"], row["updates_to_target"], row["seconds"]) == (3, 22, 20.0)  # the third is there at 30


def test_of_two_searches_the_one_with_more_trials_counts_whatever_it_found(tmp_path):
    for name, accuracy, trials in (("a", 0.99, 5), ("b", 0.95, 20), ("c", 0.98, 7)):
        folder = made.write_frontier(tmp_path / name, "muon", 8192, [accuracy, accuracy], momentum=0.5 + 0.01 * trials)
        path = folder / "sweep.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "trials": trials}))
        (folder / "result.json").write_text(json.dumps(
            {**json.loads((folder / "result.json").read_text()), "trials": {"done": trials, "diverged": 0, "failed": 0}}))
    assert points(draw(tmp_path)) == {"muon": [[8192, pytest.approx(95.0)]]}


def test_a_rule_is_in_the_table_and_the_caption_and_in_no_line(tmp_path):
    made.write_frontier(tmp_path, "sgd", 8192, [0.99])
    made.write_frontier(tmp_path, "sgd", 8192, [0.5], rule="linear")
    made.write_frontier(tmp_path, "sgd", 32768, [0.4], rule="sqrt")
    found = draw(tmp_path)
    assert points(found) == {"sgd": [[8192, pytest.approx(99.0)]]}
    assert [(row["by"], row["batch"]) for row in found.rows] == [("linear", 8192), ("sqrt", 32768), ("tuned", 8192)]


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


def test_of_two_searches_the_one_with_more_trials_counts(tmp_path):
    made.write_frontier(tmp_path / "a", "lars", "full", [0.98])
    folder = made.write_frontier(tmp_path / "b", "lars", "full", [0.97])
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**result, "trials": {"done": 40, "diverged": 0, "failed": 0}}))
    assert points(draw(tmp_path)) == {"lars": [[60000, pytest.approx(97.0)]]}


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


def write_noise_scale(folder, name, power, seed=1):
    """A run at 256 whose |G|^2 is power / epoch in its first half and a thousandth of that later; tr(Sigma) 100."""
    own = {"sgd": {"optimizer": "sgd", "nesterov": "false"}}.get(name, {"optimizer": name})
    made.write_run(folder / f"noise_{name}" / f"seed{seed}", batch_size=256, epochs=30, schedule="polynomial", rows=60, seed=seed,
                   selected_on="validation", peak_learning_rate=0.02, **own, more_rows=lambda step: (
                       {"gradient_power": power if step < 3600 else power / 1000, "gradient_variance": 100.0, "noise_scale": 1.0},
                       []))


def test_early_noise_scales_stand_beside_where_large_batches_begin(tmp_path):
    write_line(tmp_path, "sgd", {256: 0.99})
    write_line(tmp_path, "sgd", {8192: 0.9, "full": None}, rule="linear")
    write_line(tmp_path, "muon", {256: 0.99})
    write_line(tmp_path, "muon", {8192: 0.99, 32768: 0.99, "full": 0.9}, rule="linear")
    for seed, factor in ((1, 1), (2, 2), (3, 4)):
        write_noise_scale(tmp_path, "sgd", 1.0 * factor, seed)
        write_noise_scale(tmp_path, "muon", 0.1, seed)
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
        made.write_run(tmp_path / name, batch_size=256, epochs=30, schedule="polynomial", rows=600, optimizer=name,
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
