"""What feeds a figure is grouped as tables group it: a seed once, data notes apart, diverged seeds in n."""

import json
import pathlib

import pytest

from reference import made_figures as made
from reference.drawn import loaded
from tf_hugebatch.reports import catalogue
from tf_hugebatch.reports.sheets import ON_TEST
from tf_hugebatch.reports.sources import differences, ended, fits, groups_of, in_words, numbers
from tf_hugebatch.runs import Run

LAMB = {"batch_size": 32768, "epochs": 30, "optimizer": "lamb"}
LARS = {"batch_size": 8192, "epochs": 30, "optimizer": "lars", "schedule": "polynomial", "warmup_epochs": 5}


def points(folder, number=18):
    return catalogue.draw(number, *loaded(folder)).rows


def test_a_copy_of_a_seed_counts_once(tmp_path):
    for folder, seed in (("a", 1), ("b", 2), ("copy of b", 2)):
        made.write_run(tmp_path / folder, seed=seed, accuracy=0.97 + 0.01 * seed, **LAMB)
    [row] = points(tmp_path)
    assert (row["n"], row["mean_percent"]) == (2, pytest.approx(98.5))


def test_runs_on_other_data_are_another_point(tmp_path):
    made.write_run(tmp_path / "a", seed=1, accuracy=0.98, **LAMB)
    made.write_run(tmp_path / "b", seed=2, accuracy=0.96, note="recompressed images", **LAMB)
    assert [(row["n"], row["data_note"]) for row in points(tmp_path)] == [(1, None), (1, "recompressed images")]


def test_a_diverged_seed_counts_in_n_and_in_no_mean(tmp_path):
    for seed, accuracy in enumerate([0.98, 0.97, None], start=1):
        made.write_run(tmp_path / f"{seed}", seed=seed, accuracy=accuracy, status="done" if accuracy else "diverged", **LAMB)
    [row] = points(tmp_path)
    assert (row["n"], row["diverged"], row["words"], row["mean_percent"]) == (3, 1, "unstable", pytest.approx(97.5))
    assert "at best 97.50% unstable (n = 3, 97.00 to 98.00, 1 diverged)" in catalogue.draw(18, *loaded(tmp_path)).caption


def test_a_folder_that_is_older_than_a_setting_had_its_default(tmp_path):
    for seed in (1, 2):
        made.write_run(tmp_path / f"{seed}", seed=seed, accuracy=0.98, **LAMB)
    path = tmp_path / "1" / "settings.json"
    settings = json.loads(path.read_text())
    del settings["norm"], settings["shuffle"]
    path.write_text(json.dumps(settings))
    assert [row["n"] for row in points(tmp_path)] == [2]


def test_a_run_and_the_seeds_in_its_folder_are_one_setting(tmp_path):
    made.write_run(tmp_path / "b32768_e30", accuracy=0.98, **LAMB)
    for seed in (1, 2):
        made.write_run(tmp_path / "b32768_e30" / f"seed{seed}", seed=seed, accuracy=0.98, **LAMB)
    assert [row["n"] for row in points(tmp_path)] == [3]


def write_kinds(folder):
    """A setting of its own, one that a search chose, one that a rule sets; their paths sort the other way round."""
    made.write_run(folder / "b_own", seed=1, accuracy=0.99, **LARS)
    for name, trials, rate in (("a_rule", 0, 3), ("c_tuned", 20, 5)):
        sweep = made.write_plan(folder / name, "mnist", space={}, method="random", trials=trials, **LARS)
        made.write_run(sweep / "final" / "seed1", seed=1, accuracy=0.98, **{**LARS, "peak_learning_rate": rate})


def test_what_a_search_chose_comes_first_and_what_a_rule_sets_last(tmp_path):
    write_kinds(tmp_path)
    order = [pathlib.Path(group.outcomes[0].run.path).relative_to(tmp_path).parts[0]
             for group in groups_of(ended(loaded(tmp_path)[0], {}))]
    assert order == ["c_tuned", "b_own", "a_rule"]


def test_a_curve_is_drawn_of_a_run_of_its_own_before_one_that_a_rule_sets(tmp_path):
    write_kinds(tmp_path)
    for path in (tmp_path / "c_tuned").rglob("metrics.jsonl"):
        path.unlink()
    caption = catalogue.draw(3, *loaded(tmp_path)).caption
    assert "b_own, seed 1, is drawn" in caption and "2 other settings fit and are not drawn" in caption


def test_of_two_searches_the_one_with_more_seeds_is_drawn(tmp_path):
    for name, seeds in (("a", 1), ("b", 2)):
        sweep = made.write_plan(tmp_path / name, "mnist", space={}, method="random", trials=20, **LARS)
        for seed in range(seeds):
            made.write_run(sweep / "final" / f"seed{seed}", seed=seed, accuracy=0.98, **LARS)
    assert f"{tmp_path / 'b'}/final/seed0, seed 0, is drawn, of 2 seeds" in catalogue.draw(3, *loaded(tmp_path)).caption


def test_trials_and_the_final_runs_of_an_earlier_choice_count_nowhere(tmp_path):
    sweep = made.write_plan(tmp_path, "mnist", space={}, method="random", trials=20, **LAMB)
    for part in ("trials/0000", "final_before/0/seed1", "final/seed2"):
        made.write_run(sweep / part, seed=1, accuracy=0.98, **LAMB)
    assert [row["runs"] for row in points(tmp_path)] == [str(tmp_path / "final" / "seed2")]


def test_runs_that_repeat_trials_count_nowhere(tmp_path):
    class Repeat(Run):
        part = "repeats"

    folder = made.write_run(tmp_path / "a", seed=1, accuracy=0.98, **LAMB)
    assert ended([Repeat(folder)], {}) == [] and len(ended([Run(folder)], {})) == 1


def test_what_an_older_folder_does_not_say_fits_as_its_default(tmp_path):
    folder = made.write_run(tmp_path / "a", seed=1, accuracy=0.98, **LAMB)
    settings = json.loads((folder / "settings.json").read_text())
    (folder / "settings.json").write_text(json.dumps({name: value for name, value in settings.items() if name != "norm"}))
    assert len(ended([Run(folder)], {"norm": "span"})) == 1


def test_a_rung_counts_its_seeds_once_and_its_diverged_ones(tmp_path):
    made.write_ladder(tmp_path, "cifar10", 25000, {"4": [0.90, 0.92, 0.5]})
    [status] = (tmp_path / "rung0").rglob("seed3/status.json")
    status.write_text(json.dumps({**json.loads(status.read_text()), "status": "diverged"}))
    [settings] = (tmp_path / "rung0").rglob("seed2/settings.json")
    copy = tmp_path / "rung0" / "final" / "seed9"
    copy.mkdir()
    for name in ("settings.json", "status.json"):
        (copy / name).write_text((settings.parent / name).read_text())
    found = catalogue.draw(13, *loaded(tmp_path))
    row = next(row for row in found.rows if row["n"])
    assert (row["n"], row["diverged"], row["mean_percent"]) == (3, 1, pytest.approx(91.0))
    assert any("1 of 3\ndiverged" in tick.get_text() for tick in found.figure.axes[1].get_xticklabels())


def test_a_rung_on_two_data_sets_of_one_name_says_what_is_not_drawn(tmp_path):
    made.write_ladder(tmp_path, "cifar10", 25000, {"4": [0.90, 0.92, 0.5]})
    [status] = (tmp_path / "rung0").rglob("seed3/status.json")
    status.write_text(json.dumps({**json.loads(status.read_text()), "data_note": "other images"}))
    found = catalogue.draw(13, *loaded(tmp_path))
    assert next(row["mean_percent"] for row in found.rows if row["n"]) == pytest.approx(91.0)
    assert "rung 4: 1 more runs, of another setting or on other data, are not drawn" in found.caption


def test_another_share_takes_the_place_of_the_accuracy(tmp_path):
    for seed in (1, 2):
        made.write_run(tmp_path / f"{seed}", seed=seed, accuracy=0.5 + 0.02 * seed, **LAMB)
    [group] = groups_of(ended(loaded(tmp_path)[0], {}))
    assert numbers(group, "test_top5")["mean_percent"] == pytest.approx(73.0)  # made top-5 is 20 more
    assert numbers(group)["mean_percent"] == pytest.approx(53.0)
    assert numbers(group, "test_top9")["n"] is None and numbers(None)["mean_percent"] is None


@pytest.mark.parametrize("row, words", [
    ({"n": None}, ""),
    ({"n": 1, "mean_percent": 98.5}, "98.50% (n = 1)"),
    ({"n": 2, "mean_percent": 98.5, "lowest_percent": 98, "highest_percent": 99, "selected_on": "test"},
     f"98.50%{ON_TEST} (n = 2, 98.00 to 99.00)"),
    ({"n": 3, "mean_percent": 98.5, "diverged": 2, "words": "unstable"}, "98.50% unstable (n = 3, 2 diverged)"),
    ({"n": 2, "diverged": 2, "words": "diverges"}, "diverges (n = 2, 2 diverged)")])
def test_a_row_in_words(row, words):
    assert in_words({"diverged": 0, "words": None, "mean_percent": None, "selected_on": None, **row}) == words


def test_differences_name_what_tells_settings_apart():
    assert differences([{"a": 1, "b": [1, 2]}]) == [""]
    assert differences([{"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 3], "c": 0}]) == ["b 1,2, c none", "b 1,3, c 0"]


def test_a_run_about_noise_or_fixed_ratios_is_in_no_figure_that_does_not_ask_for_it():
    values = made.settings_of("mnist", regime="huge").as_dict()
    wanted = {"dataset": "mnist", "batch_size": 32768}
    assert fits(values, wanted)
    for name, value in (("inject_noise", "labels"), ("fixed_trust_ratios", [["kernel", 0.1]])):
        assert not fits({**values, name: value}, wanted)
        assert fits({**values, name: value}, {**wanted, name: None})
