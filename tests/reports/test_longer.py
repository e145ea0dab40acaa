"""Accuracy against epochs: seeds of a duration, its commands, its labels; loss and accuracy at equal updates."""

import itertools
import re
import shlex

import numpy as np
import pytest

from reference import made_figures as made
from reference.drawn import lines, loaded, texts
from tf_hugebatch import command_line
from tf_hugebatch.fields import kind_of
from tf_hugebatch.reports import catalogue
from tf_hugebatch.reports.blanks import cost_in_words
from tf_hugebatch.reports.longer import _alike
from tf_hugebatch.reports.outcomes import checked_settings
from tf_hugebatch.reports.sheets import ON_TEST
from tf_hugebatch.runs import load_runs

LAMB = {"batch_size": 32768, **made.HUGE_LONGER}


@pytest.mark.parametrize("number", [8, 9, 18, 19, 20, 21, 22])
def test_a_duration_is_trained_with_five_seeds_a_long_one_with_one(number):
    for source in catalogue.FIGURES[number].sources:
        epochs, one = source.wanted["epochs"], source.wanted["epochs"] >= 300
        folder = f"runs/figures/fig{number:02}/b{source.wanted['batch_size']}_e{epochs}"
        assert source.seeds == (1 if one else 5)
        assert source.command.startswith("python -m " if one else "for seed in 1 2 3 4 5; do python -m ")
        assert source.command.endswith(f"--seed=1 --run_dir={folder}/seed1" if one else
                                       f"--seed=$seed --run_dir={folder}/seed$seed; done")
        assert f" --epochs={epochs} " in source.command


def test_the_cost_is_of_all_seeds():
    blank = next(blank for blank in catalogue.draw(18, [], []).blanks if "--epochs=30 " in blank.command)
    assert blank.cost == cost_in_words("lenet5", 5 * 30 * 60_000)


@pytest.mark.parametrize("first, on", [("b32768_e30", "none"), ("b32768_e30/seed0", "none"), ("b32768_e30", "test")])
def test_seeds_that_a_duration_lacks_are_trained_beside_those_that_it_has(tmp_path, first, on):
    values = {**LAMB, "epochs": 30, "weight_decay": 0.02, "selected_on": on}
    made.write_run(tmp_path / first, seed=0, accuracy=0.98, **values)
    blank = next(blank for blank in catalogue.draw(18, *loaded(tmp_path)).blanks if "30 epochs" in blank.what)
    assert blank.what == "Figure 18: batch 32,768, 30 epochs: 4 more seeds"
    assert blank.cost == cost_in_words("lenet5", 4 * 30 * 60_000)
    command = re.fullmatch(r"for seed in 1 2 3 4; do python -m tf_hugebatch.mnist_main (.*) --seed=\$seed --run_dir=(.*); done",
                           blank.command)
    assert command[2] == f"{tmp_path}/b32768_e30/seed$seed"
    words = shlex.split(command[1].replace("=DIR", f"={tmp_path}"))
    settings = command_line.parse(words, program="", description="", dataset="mnist").settings.as_dict()
    [begun] = map(checked_settings, load_runs(tmp_path))
    assert [name for name in begun if kind_of(name, begun) == "experiment" and begun[name] != settings[name]] == []
    assert settings["selected_on"] == on  # else they would be a group of their own
    for seed in (1, 2, 3, 4):
        made.write_run(tmp_path / "b32768_e30" / f"seed{seed}", seed=seed, accuracy=0.98, **values)
    found = catalogue.draw(18, *loaded(tmp_path))
    assert [row["n"] for row in found.rows] == [5] and not any(" 30 epochs" in blank.what for blank in found.blanks)


def test_another_recipe_is_not_continued_and_the_line_prefers_the_commands(tmp_path):
    made.write_run(tmp_path / "fig04", epochs=30, accuracy=0.99, batch_size=32768, optimizer="lars")
    made.write_run(tmp_path / "fig05", epochs=30, accuracy=0.99, validation_examples=5000, **LAMB)
    found = catalogue.draw(18, *loaded(tmp_path))
    assert "Figure 18: batch 32,768, 30 epochs" in [blank.what for blank in found.blanks]
    assert {row["chosen"] for row in found.rows} == {"", f"best on test{ON_TEST}"} and ON_TEST in found.caption
    assert f"batch 32,768: its line at best 99.00% (n = 1){ON_TEST} in 30 epochs, la" in found.caption
    made.write_run(tmp_path / "fig18", epochs=30, accuracy=0.98, **LAMB)
    found = catalogue.draw(18, *loaded(tmp_path))
    assert "Figure 18: batch 32,768, 30 epochs: 4 more seeds" in [blank.what for blank in found.blanks]
    assert ON_TEST not in found.caption
    assert "at best 98.00% (n = 1) in 30 epochs, lamb on lenet5" in found.caption  # not the higher ones beside the line
    assert "Faint points, a little to the right of their epochs, are other settings of the same optimizer." in found.caption
    assert "In the CSV alone, since they are other recipes: settings with lars." in found.caption
    np.testing.assert_allclose(lines(found.figure.axes[0])["batch 32,768"], [[30, 98]])


def test_another_recipe_is_a_point_that_no_line_joins(tmp_path):
    made.write_run(tmp_path / "fig04", epochs=30, accuracy=0.99, batch_size=32768, optimizer="lars")
    found = catalogue.draw(18, *loaded(tmp_path))
    assert "Faint" not in found.caption and "batch 32,768" not in lines(found.figure.axes[0])
    assert "no run of the commands' recipe has ended another's point stands, which no line joins" in found.caption
    for epochs in (100, 300):
        made.write_run(tmp_path / f"fig18_{epochs}", epochs=epochs, accuracy=0.98, **LAMB)
    panel = catalogue.draw(18, *loaded(tmp_path)).figure.axes[0]
    np.testing.assert_allclose(lines(panel)["batch 32,768"], [[100, 98], [300, 98]])
    np.testing.assert_allclose(lines(panel)["batch 32,768, another recipe"], [[30, 99]])
    assert {line.get_label(): line.get_linestyle() for line in panel.lines}["batch 32,768, another recipe"] == "None"


def test_other_optimizers_neither_stand_in_the_picture_nor_stretch_it(tmp_path):
    made.write_run(tmp_path / "lamb", epochs=30, accuracy=0.98, **LAMB)
    made.write_run(tmp_path / "another_rate", epochs=30, accuracy=0.97, **{**LAMB, "peak_learning_rate": 0.5})
    [before] = catalogue.draw(18, *loaded(tmp_path)).figure.axes
    for optimizer, epochs in (("sgd", 30), ("adam_layerwise", 30), ("adam", 40)):
        made.write_run(tmp_path / optimizer, epochs=epochs, accuracy=0.1, batch_size=32768, optimizer=optimizer)
    found = catalogue.draw(18, *loaded(tmp_path))
    [after] = found.figure.axes
    np.testing.assert_allclose(lines(after)["batch 32,768, other settings"], [[30 * 1.07, 97]])
    assert {label: points.tolist() for label, points in lines(after).items()} == {
        label: points.tolist() for label, points in lines(before).items()}
    assert after.get_ylim() == before.get_ylim() and after.get_xlim() == before.get_xlim()
    assert len(found.rows) == 5 and "settings with adam, adam_layerwise, sgd." in found.caption


def test_what_a_search_chose_is_not_continued_beside_its_folder(tmp_path):
    sweep = made.write_plan(tmp_path, "mnist", space={}, method="random", trials=20, epochs=30, **LAMB)
    made.write_run(sweep / "final" / "seed1", epochs=30, seed=1, accuracy=0.98, **LAMB)
    assert any(blank.what.endswith("batch 32,768, 30 epochs") and "flags/figures/fig18.flags" in blank.command
               for blank in catalogue.draw(18, *loaded(tmp_path)).blanks)


def test_a_long_duration_needs_one_seed_and_says_that_its_spread_is_unknown(tmp_path):
    for seed in (0, 1):
        made.write_run(tmp_path / f"{seed}", epochs=30, seed=seed, accuracy=0.98, **LAMB)
    made.write_run(tmp_path / "long", epochs=1000, accuracy=0.99, **LAMB)
    found = catalogue.draw(18, *loaded(tmp_path))
    assert not any("1,000" in blank.what for blank in found.blanks)
    assert "30 epochs: 3 more seeds" in found.caption and "A point of one seed has no bar" in found.caption
    [panel] = found.figure.axes
    np.testing.assert_allclose(lines(panel)["batch 32,768"], [[30, 98], [1000, 99]])


def test_the_full_batch_says_how_large_it_was(tmp_path):
    made.write_run(tmp_path / "a", batch_size="full", epochs=30, accuracy=0.98, validation_examples=5000)
    found = catalogue.draw(19, *loaded(tmp_path))
    assert "full batch (55,000)" in texts(found.figure) and "full batch (55,000): another recipe at best" in found.caption


def test_a_run_that_was_set_in_updates_stands_at_its_epochs(tmp_path):
    made.write_run(tmp_path / "a", train_steps=366, accuracy=0.98, **LAMB)
    [row] = catalogue.draw(18, *loaded(tmp_path)).rows
    assert (row["epochs"], row["updates"]) == (round(366 * 32768 / 60_000, 2), 366)


def test_seeds_that_diverged_are_told_where_the_line_passes(tmp_path):
    for seed, accuracy in enumerate([0.98, None]):
        made.write_run(tmp_path / f"{seed}", epochs=30, seed=seed, accuracy=accuracy, status="done" if accuracy else "diverged",
                       **LAMB)
    made.write_run(tmp_path / "other", epochs=30, accuracy=None, status="diverged", batch_size=32768, optimizer="sgd")
    found = catalogue.draw(18, *loaded(tmp_path))
    assert "Diverged: batch 32,768 at 30 epochs (1 of 2 seeds)." in found.caption


def test_the_papers_full_batch_stands_in_figure_8(tmp_path):
    made.write_run(tmp_path / "a", "imagenet2012", batch_size="full", epochs=90, accuracy=0.7)
    found = catalogue.draw(8, *loaded(tmp_path))
    assert "71.1% at 1,281,167, 15,000 epochs" in found.caption and "71.1%" in texts(found.figure)


def test_labels_of_the_papers_numbers_do_not_touch(tmp_path):
    made.write_run(tmp_path / "a", "imagenet2012", batch_size="full", epochs=90, accuracy=0.7)
    figure = catalogue.draw(8, *loaded(tmp_path)).figure
    figure.draw_without_rendering()
    boxes = [text.get_window_extent().padded(3) for text in figure.axes[0].texts]
    assert len(boxes) == 5
    assert not any(one.overlaps(other) for number, one in enumerate(boxes) for other in boxes[:number])


def test_the_frontiers_runs_on_recompressed_images_do_not_stand_beside_the_papers_numbers(tmp_path):
    own = {"dataset": "cifar10", "model": "resnet9", "epochs": 60}
    made.write_frontier(tmp_path / "a", "muon", "full", [0.77, 0.78], note="JPEG-recompressed", **own)
    found = catalogue.draw(20, *loaded(tmp_path))
    assert found.figure is None and not found.rows and "2 runs of the frontier on other data are not drawn" in found.caption
    made.write_frontier(tmp_path / "b", "muon", "full", [0.67, 0.68], **own)
    assert [row["mean_percent"] for row in catalogue.draw(20, *loaded(tmp_path)).rows] == [pytest.approx(67.5)]


def test_a_setting_chosen_on_validation_and_one_of_more_seeds_come_before_a_higher_one(tmp_path):
    for seed, accuracy in enumerate((0.97, 0.975, 0.98)):
        made.write_run(tmp_path / f"many{seed}", seed=seed, accuracy=accuracy, epochs=30, poly_power=1.0, **LAMB)
    made.write_run(tmp_path / "one", accuracy=0.99, epochs=30, poly_power=3.0, **LAMB)
    found = catalogue.draw(18, *loaded(tmp_path))
    np.testing.assert_allclose(lines(found.figure.axes[0])["batch 32,768"], [[30, 97.5]])
    assert ON_TEST not in found.caption
    for seed in (1, 2):
        made.write_run(tmp_path / f"chosen{seed}", seed=seed, accuracy=0.96, epochs=30, selected_on="validation", **LAMB)
    found = catalogue.draw(18, *loaded(tmp_path))
    np.testing.assert_allclose(lines(found.figure.axes[0])["batch 32,768"], [[30, 96]])
    assert ON_TEST not in found.caption


def test_equal_updates_are_of_one_network_and_name_their_split(tmp_path):
    values = {"train_steps": 40, "warmup_steps": 0, "rows": 40}
    made.write_run(tmp_path / "a", "imagenet2012", batch_size=32768, accuracy=0.5, **values)
    made.write_run(tmp_path / "b", "imagenet2012", batch_size="full", accuracy=0.4, validation_examples=5000, **values)
    made.write_run(tmp_path / "c", "imagenet2012", batch_size="full", accuracy=0.9, model="resnet18", **values)
    found = catalogue.draw(10, *loaded(tmp_path))
    assert f"{tmp_path / 'b'}, accuracy on validation." in found.caption
    assert "Also run and not drawn: resnet18 at 224." in found.caption
    assert f"{tmp_path / 'a'}, accuracy on test." in found.caption


def test_equal_updates_takes_runs_of_lengths_alike_and_then_the_longest(tmp_path):
    def brute(lengths):
        choices = itertools.product(*(of_source.items() for of_source in lengths.values()))
        updates = [[length for _, length in choice] for choice in choices]
        return min((max(found) / max(1, min(found)), -min(found)) for found in updates)

    generator = np.random.default_rng(0)
    for _ in range(200):
        lengths = {source: {f"{source}{run}": int(generator.integers(0, 9)) for run in range(generator.integers(1, 4))}
                   for source in "abc"}
        found = [lengths[source][run] for source, run in _alike(lengths).items()]
        assert len(found) == 3 and (max(found) / max(1, min(found)), -min(found)) == brute(lengths)


def test_seeds_that_diverged_do_not_make_a_setting_come_first(tmp_path):
    for seed, accuracy in enumerate((0.99, None, None)):
        made.write_run(tmp_path / f"lost{seed}", seed=seed, accuracy=accuracy, status="done" if accuracy else "diverged",
                       epochs=30, poly_power=1.0, **LAMB)
    for seed in (0, 1):
        made.write_run(tmp_path / f"whole{seed}", seed=seed, accuracy=0.97, epochs=30, poly_power=3.0, **LAMB)
    found = catalogue.draw(18, *loaded(tmp_path))
    np.testing.assert_allclose(lines(found.figure.axes[0])["batch 32,768"], [[30, 97]])
