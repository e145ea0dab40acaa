"""Every figure of the paper has a row, draws what run folders hold, and says by which command the rest is filled."""

import csv
import itertools
import json
import math
import pathlib
import re
import shlex

import matplotlib
import numpy as np
import pytest

from reference import made_figures as made
from reference.drawn import lines, loaded, meshes, texts
from tf_hugebatch import command_line, published
from tf_hugebatch.fields import FIELDS
from tf_hugebatch.reports import catalogue, drawing, measured
from tf_hugebatch.reports.page import write_page
from tf_hugebatch.reports.sheets import ON_TEST
from tf_hugebatch.reports.sources import fits

ROOT = pathlib.Path(__file__).parents[2]
ALL = [*catalogue.NUMBERS, *measured.FIGURES, catalogue.ADAPTED, catalogue.NOISES, catalogue.PREDICTED,
       catalogue.STEPS_TO_TARGET, "batch_growth", "frontier", "full_batch", "noise_by_optimizer"]
DATASET = {"mnist_main": "mnist", "cifar10_main": "cifar10", "imagenet_main": "imagenet2012", "sweep_main": "mnist"}
OF_A_SWEEP = {"space", "method", "trials", "confirm", "final_seeds", "sweep_dir", "ladder"}


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    return made.write_everything(tmp_path_factory.mktemp("runs"))


def words_of(command):
    """(program, flags) of a command as it is typed; of a loop over seeds those of its last."""
    loop = re.fullmatch(r"for seed in ([\d ]+); do (.*); done", command)
    if loop:
        command = loop[2].replace("$seed", loop[1].split()[-1])
    # What a search chose, which the shell looks up.
    _, _, program, *words = shlex.split(re.sub(r"\$\(python -c '.*?'\)", "0.1", command))
    return program.removeprefix("tf_hugebatch."), words


def parsed(command, folder):
    """The settings of a run that a command makes; of a search those that it starts from."""
    program, words = words_of(command.replace("=DIR", f"={folder}"))
    of_a_run = [word for word in words if program != "sweep_main" or word[2:].partition("=")[0] not in OF_A_SWEEP]
    return command_line.parse(of_a_run, program=program, description="", dataset=DATASET[program])


# ------------------------------------------------------------------------------------------------- for every figure


def test_every_figure_of_the_paper_has_a_row():
    assert list(catalogue.FIGURES) == ALL and len(ALL) == 45 and set(ALL[33:]) == set(catalogue.NAMES)
    assert {row.kind for row in catalogue.FIGURES.values()} == set(catalogue.KINDS)


@pytest.mark.parametrize("number", ALL)
def test_with_all_its_runs_it_is_drawn_labelled_and_nothing_is_missing(number, everything):
    found = catalogue.draw(number, *everything)
    assert found.blanks == [] and found.rows and "Missing" not in found.caption
    row = catalogue.FIGURES[number]
    assert found.caption.startswith(row.name) and row.shows in found.figure.get_suptitle()
    for panel in found.figure.axes:
        assert panel.get_ylabel() or panel.get_xlabel() or panel.get_subplotspec().get_topmost_subplotspec()
    assert any(panel.get_xlabel() or panel.patches for panel in found.figure.axes)


@pytest.fixture(scope="module")
def chosen_on_test(tmp_path_factory):
    """The same runs, had the test split chosen every setting."""
    runs, sweeps = made.write_everything(tmp_path_factory.mktemp("on_test"))
    for run in runs:
        run.settings["selected_on"] = "test"
    for sweep in [*sweeps, *(run.sweep for run in runs if run.sweep)]:
        sweep.plan["select_on"] = "test"
    return runs, sweeps


# The other figures draw schedules, ladders (made here without a search), or what is no accuracy.
@pytest.mark.parametrize("number", [2, 3, 4, 5, 7, 8, 9, 10, 11, 12, *range(15, 23), *range(30, 34), catalogue.ADAPTED,
                                    catalogue.NOISES, catalogue.STEPS_TO_TARGET, "batch_growth", "frontier", "full_batch"])
def test_a_number_that_the_test_split_chose_is_marked_in_the_picture_and_explained_below(number, chosen_on_test):
    found = catalogue.draw(number, *chosen_on_test)
    ticks = [tick.get_text() for panel in found.figure.axes for tick in panel.get_yticklabels()]
    assert ON_TEST in " ".join([texts(found.figure), *ticks])
    assert f"{ON_TEST} chosen on the test split" in found.caption


@pytest.mark.parametrize("number", ALL)
def test_without_runs_it_is_blank_with_commands_that_are_accepted(number, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    found = catalogue.draw(number, [], [])
    assert found.figure is None and found.rows == [] and len(found.blanks) == len(catalogue.FIGURES[number].sources) > 0
    for blank in found.blanks:
        assert blank.cost and blank.what.startswith(catalogue.FIGURES[number].name)
        assert parsed(blank.command, tmp_path).problems == []


@pytest.mark.parametrize("number", ALL)
def test_the_command_makes_a_run_that_feeds_the_figure(number, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    for source in catalogue.FIGURES[number].sources:
        assert fits(parsed(source.command, tmp_path).settings.as_dict(), {**source.wanted, **source.own})


@pytest.mark.parametrize("number", [number for number in ALL if len(catalogue.FIGURES[number].sources) > 1])
def test_with_some_of_its_runs_it_is_drawn_and_says_what_is_missing(number, everything):
    runs, sweeps = everything
    first, *others = catalogue.FIGURES[number].sources
    gone = {key: value for key, value in first.wanted.items() if value is not None}
    runs = [run for run in runs if not fits(run.settings, gone)]
    if catalogue.FIGURES[number].kind == "longer":  # a run set in updates trains for some number of epochs too
        runs = [run for run in runs if run.settings["train_steps"] is None]
    sweeps = [sweep for sweep in sweeps if not fits(sweep.plan["settings"], gone)
              and not any(fits(run.settings, gone) for run in sweep.trials)]
    found = catalogue.draw(number, runs, sweeps)
    assert found.figure is not None and first.label in found.caption.partition("Missing: ")[2]
    assert first.blank(catalogue.FIGURES[number].name) in found.blanks
    assert len(found.blanks) < len(catalogue.FIGURES[number].sources)


def test_half_written_folders_stop_no_figure(tmp_path):
    made.write_run(tmp_path / "whole", batch_size=8192, epochs=30, optimizer="lars", schedule="polynomial", warmup_epochs=5)
    settings = (tmp_path / "whole" / "settings.json").read_text()
    for number, (kept, status) in enumerate([
            (settings, None), (settings, "{"), (settings[:200], '{"status": "done"}'),
            ("{}", '{"status": "done", "final": null}'), ('{"batch_size": "x"}', '{"status": "running"}'),
            (settings, '{"status": "done", "final": {"test_accuracy": null}}'),
            (settings.replace('"lars"', "[]"), '{"status": "done", "final": []}')]):
        folder = tmp_path / f"torn{number}"
        folder.mkdir()
        (folder / "settings.json").write_text(kept)
        (folder / "schedule.csv").write_text("update,epoch,learning_rate\n1,")
        (folder / "metrics.jsonl").write_text('{"kind": "train", "step": 1, "epoch": 0.1, "lo')
        if status:
            (folder / "status.json").write_text(status)
    (tmp_path / "sweep" / "trials" / "0").mkdir(parents=True)
    (tmp_path / "sweep" / "sweep.json").write_text('{"space": 3')
    (tmp_path / "sweep" / "trials" / "0" / "settings.json").write_text(settings)
    runs, sweeps = loaded(tmp_path)
    drawn = {number: catalogue.draw(number, runs, sweeps) for number in ALL}
    assert drawn[3].figure is not None and "whole" in drawn[3].caption
    assert drawn[4].figure is None


def test_a_last_row_without_its_epoch_draws_the_test_error_nowhere(tmp_path):
    made.write_run(tmp_path / "run", batch_size=8192, epochs=30, optimizer="lars", schedule="polynomial", warmup_epochs=5,
                   validation_examples=5000)
    path = tmp_path / "run" / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [row for row in rows if row.get("split") != "test"]
    del [row for row in rows if row["kind"] == "train"][-1]["epoch"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert catalogue.draw(3, *loaded(tmp_path)).figure is not None


# --------------------------------------------------------------------------------------------- the paper's numbers


def test_stated_numbers_are_those_of_published_py():
    table_3 = next(row for row in published.TABLE_3 if row.solver == "lars").original.top1
    for number, row in catalogue.FIGURES.items():
        for result in row.paper:
            known = result in published.RESULTS or result.top1 in [rung.top1 for rung in published.LADDER] and number == 1 \
                or result.top1 == table_3 and number in (3, 30)
            assert known, (number, result)
    stated = {number: [result.top1 for result in row.paper] for number, row in catalogue.FIGURES.items() if row.paper}
    assert stated == {1: [0.0977, 2.712, 4.563, 4.226, 18.95], 3: [99.4], 4: [95.8, 92.0], 5: [98.7],
                      8: [76.7, 19.0, 70.0, 71.8, 71.1], 9: [65.0], 18: [99.16], 19: [98.30], 20: [92.58],
                      30: [99.4], 31: [95.8, 92.0], 32: [87.3], 33: [96.2], "frontier": [99.3, 98.7, 99.16, 98.30]}


@pytest.mark.parametrize("number", [8, 9, 18, 19, 20])
def test_they_are_drawn_where_they_belong(number, everything):
    [panel] = catalogue.draw(number, *everything).figure.axes
    markers = [(line.get_xdata()[0], line.get_ydata()[0]) for line in panel.lines if line.get_marker() == "D"
               and len(line.get_xdata()) == 1 and line.get_markerfacecolor() == "none"]
    assert sorted(markers) == sorted((result.epochs, result.top1) for result in catalogue.FIGURES[number].paper)
    baseline = published.BASELINES[catalogue.FIGURES[number].dataset]
    levels = [line.get_ydata()[0] for line in panel.lines if list(line.get_xdata()) == [0, 1]]
    assert levels == [baseline.top1, baseline.target]


# -------------------------------------------------------------------------------------------------- what is drawn


def test_a_ladder_has_a_bar_for_each_rung_and_the_papers_beside_it(tmp_path):
    made.write_ladder(tmp_path, "imagenet2012", published.LADDER_BATCH,
                      {"baseline rate": [0.7], "0": [0.001], "0 tuned": [0.01], "1": "diverged", "2": [0.04, 0.06], "3": None,
                       "4": [0.19], "4 without ghost batch norm": "it has no batch norm"})
    found = catalogue.draw(1, *loaded(tmp_path))
    [panel] = found.figure.axes
    ours = [bar.get_height() for bar in panel.patches if not bar.get_hatch()]
    theirs = [bar.get_height() for bar in panel.patches if bar.get_hatch()]
    np.testing.assert_allclose(ours, [0.1, 5.0, 19.0, 1.0])  # the baseline's rate is searched at another batch: no bar
    assert theirs == [rung.top1 for rung in published.LADDER]
    said = texts(found.figure)
    assert "diverges" in said and "not run" in said and "n/a" in said
    assert "it has no batch norm" in found.caption and len(found.blanks) == 1  # rung 3 has no runs yet
    row = found.rows[2]
    assert (row["n"], row["mean_percent"], row["lowest_percent"], row["highest_percent"]) == (2, 5.0, 4.0, 6.0)
    assert row["trials"] == 20


def test_a_rung_that_diverged_in_every_trial_is_done_with(tmp_path):
    rungs = {"0": [0.001], "1": [0.02], "2": [0.04], "3": [0.1], "4": [0.19], "4 without decay": None}
    folder = made.write_ladder(tmp_path, "imagenet2012", published.LADDER_BATCH, rungs)
    assert len(catalogue.draw(1, *loaded(tmp_path)).blanks) == 1
    (folder / "rung5" / "result.json").write_text(json.dumps(
        {"status": "done", "trials": {"done": 0, "diverged": 19, "failed": 1}, "chosen": None, "edges": []}))
    found = catalogue.draw(1, *loaded(tmp_path))
    assert not found.blanks and "diverges in every trial of 19" in found.caption and "not run" not in texts(found.figure)


def test_the_second_panel_of_figure_14_is_cifar_and_the_first_is_top_5(tmp_path):
    made.write_ladder(tmp_path / "a", "imagenet2012", "full", {"0": [0.3]})
    made.write_ladder(tmp_path / "b", "cifar10", "full", {"0": [0.5]})
    first, second = catalogue.draw(14, *loaded(tmp_path)).figure.axes
    assert first.patches[0].get_height() == pytest.approx(50.0) and "top-5" in first.get_ylabel()  # made top-5 is 20 more
    assert second.patches[0].get_height() == pytest.approx(50.0) and "top-1" in second.get_ylabel()


def write_maps(folder, select_on="validation"):
    for optimizer, share in (("sgd", 0.5), ("lars", 0.9)):
        made.write_grid(folder / optimizer, "mnist", rates=[2, 4, 8], warmups=[0, 5], batch_size="full", epochs=30,
                        optimizer=optimizer, missing={(8, 5)}, diverged={(8, 0)}, select_on=select_on,
                        accuracy=lambda rate, warmup, share=share: share + 0.01 * rate + 0.001 * warmup)
    return loaded(folder)


def test_heat_maps_share_a_scale_mark_the_best_hatch_the_diverged_and_leave_the_untried_blank(tmp_path):
    found = catalogue.draw(16, *write_maps(tmp_path))
    sgd, lars = meshes(found.figure).values()
    np.testing.assert_allclose(sgd.get_array().filled(np.nan).reshape(2, 3), [[52, 54, np.nan], [52.5, 54.5, np.nan]])
    np.testing.assert_allclose(lars.get_array().filled(np.nan).reshape(2, 3), [[92, 94, np.nan], [92.5, 94.5, np.nan]])
    assert sgd.get_clim() == lars.get_clim() == pytest.approx((52, 94.5))
    for panel in found.figure.axes[:2]:
        hatched = [patch.get_xy() for patch in panel.patches if patch.get_hatch()]
        framed = {tuple(np.round(np.array(patch.get_xy()) + patch.get_width() / 2))
                  for patch in panel.patches if not patch.get_fill()}
        assert hatched == [(1.5, -0.5)] and framed == {(1.0, 1.0)}
        assert [tick.get_text() for tick in panel.get_xticklabels()] == ["2", "4", "8"]
    assert ("LARS, lenet5, batch 55,000: best 94.50% on validation at rate 4, warm-up 5 epochs; 4 of 6 cells done, 1 diverged"
            in found.caption)
    untried = [list(row.values()) for row in found.rows if row["status"] == ""]
    assert untried == [[name, "lenet5", 55000, "", 8.0, 5.0, "", "", "validation", "", ""] for name in ("momentum SGD", "LARS")]


def test_a_map_that_was_selected_on_test_says_so(tmp_path):
    found = catalogue.draw(16, *write_maps(tmp_path, select_on="test"))
    assert ON_TEST in texts(found.figure) and "chosen on the test split" in found.caption
    assert all(row["selected_on"] == "test" for row in found.rows)


def test_what_runs_say_about_their_data_stands_in_the_caption(tmp_path):
    values = {"batch_size": 8192, "epochs": 30, "optimizer": "lars", "schedule": "polynomial", "warmup_epochs": 5}
    made.write_run(tmp_path / "own", note="4 images are missing", **values)
    made.write_grid(tmp_path / "grid", "mnist", rates=[2, 4], warmups=[0, 5], batch_size="full", epochs=30, optimizer="lars",
                    accuracy=lambda rate, warmup: 0.9, note="4 images are missing")
    made.write_run(tmp_path / "far", batch_size=256, note="4 images are missing", distance=np.log1p, **made.DIFFUSION)
    made.write_search(tmp_path / "search", "mnist", [0.9], batch_size=256, epochs=30, note="4 images are missing")
    for number in (3, 11, 16, 21, "steps_to_target"):
        assert "Note on the data: 4 images are missing." in catalogue.draw(number, *loaded(tmp_path)).caption


def test_light_to_dark_in_grey(tmp_path):
    found = catalogue.draw(16, *write_maps(tmp_path))
    [mesh, _] = meshes(found.figure).values()
    grey = mesh.cmap(np.linspace(0, 1, 64))[:, :3] @ [0.299, 0.587, 0.114]
    assert (np.diff(grey) < 0).all() and grey[0] - grey[-1] > 0.6


def test_curves_show_loss_errors_and_the_papers_error(tmp_path):
    losses = [2.3, 2.0, 2.5, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    made.write_run(tmp_path / "a", batch_size=32768, epochs=30, optimizer="lars", schedule="polynomial", warmup_epochs=5,
                   losses=losses, validation_examples=5000, accuracy=0.95)
    found = catalogue.draw(4, *loaded(tmp_path))
    loss, error = found.figure.axes
    np.testing.assert_allclose(loss.lines[0].get_ydata(), losses)
    drawn = lines(error)
    validation = next(data for label, data in drawn.items() if label.startswith("validation"))
    assert validation[-1, 1] == pytest.approx(5.0) and len(validation) == 2
    assert any(label.startswith("test, read once: 5.00%") for label in drawn)
    train = next(data for label, data in drawn.items() if label.startswith("train"))
    np.testing.assert_allclose(train[:, 1], 90 * np.exp(-5 * np.arange(1, 11) / 10))
    [theirs] = [data for label, data in drawn.items() if "polynomial decay: 4.2%" in label]
    np.testing.assert_allclose(theirs, [[30, 4.2]])
    assert next(data for label, data in drawn.items() if "batch 256: 0.8%" in label)[0, 1] == pytest.approx(0.8)


def test_the_legend_of_curves_covers_none_of_them(everything):
    figure = catalogue.draw(4, *everything).figure
    figure.draw_without_rendering()
    [legend] = figure.legends
    assert len(legend.get_texts()) == 6
    assert not any(legend.get_window_extent().overlaps(panel.get_tightbbox()) for panel in figure.axes)


def test_curves_of_a_diverged_run_end_where_it_did(tmp_path):
    made.write_run(tmp_path / "a", batch_size=8192, epochs=30, optimizer="lars", schedule="polynomial", warmup_epochs=5,
                   losses=[2.3, 3.0, None, None], accuracy=None, status="diverged")
    found = catalogue.draw(3, *loaded(tmp_path))
    assert "loss not finite" in texts(found.figure) and "diverged: loss not finite at update 3" in found.caption
    assert np.isnan(np.asarray(found.figure.axes[0].lines[0].get_ydata()[2:], float)).all()


@pytest.mark.parametrize("own", [{}, {"validation_examples": 5000}])
def test_of_several_settings_the_tuned_one_is_drawn_and_its_seeds_counted(tmp_path, own):
    values = {"batch_size": 8192, "epochs": 30, "optimizer": "lars", "schedule": "polynomial", "warmup_epochs": 5}
    sweep = made.write_plan(tmp_path / "sweep", "mnist", space={}, method="random", trials=20, **values)
    for seed in (1, 2):
        made.write_run(sweep / "final" / f"seed{seed}", accuracy=0.99 + seed / 1000, seed=seed, peak_learning_rate=10, **values)
    made.write_run(sweep / "trials" / "0000", accuracy=0.999, peak_learning_rate=11, **values)
    made.write_run(tmp_path / "own", accuracy=0.97, **values, **own)
    found = catalogue.draw(3, *loaded(tmp_path))
    assert "final/seed1, seed 1, is drawn, of 2 seeds" in found.caption.replace("\\", "/")
    assert "99.15% (n = 2, 99.10 to 99.20)" in found.caption and "1 other setting fits and is not drawn" in found.caption


def test_of_settings_that_nothing_tuned_one_with_a_validation_error_is_drawn(tmp_path):
    values = {"batch_size": 8192, "epochs": 30, "optimizer": "lars", "schedule": "polynomial", "warmup_epochs": 5}
    made.write_run(tmp_path / "a", accuracy=0.99, **values)
    made.write_run(tmp_path / "b", accuracy=0.97, validation_examples=5000, **values)
    assert f"{tmp_path / 'b'}, seed 0, is drawn" in catalogue.draw(3, *loaded(tmp_path)).caption


def test_a_curve_of_a_setting_that_was_selected_on_test_says_so(tmp_path):
    values = {"batch_size": 8192, "epochs": 30, "optimizer": "lars", "schedule": "polynomial", "warmup_epochs": 5}
    sweep = made.write_plan(tmp_path / "sweep", "mnist", space={}, method="random", trials=20, select_on="test", **values)
    made.write_run(sweep / "final" / "seed1", accuracy=0.99, seed=1, **values)
    caption = catalogue.draw(3, *loaded(tmp_path)).caption
    assert f"99.00%{ON_TEST} (n = 1)" in caption and "chosen on the test split" in caption


def test_training_longer_goes_through_the_means_and_names_its_best(tmp_path):
    for epochs, accuracies in ((30, (0.97, 0.98)), (1000, (0.99, 0.992))):
        for seed, accuracy in enumerate(accuracies):
            made.write_run(tmp_path / f"{epochs}_{seed}", batch_size=32768, epochs=epochs, accuracy=accuracy, seed=seed,
                           note="labels of 3 images are wrong", **made.HUGE_LONGER)
    made.write_run(tmp_path / "lenet", batch_size=32768, epochs=1000, accuracy=0.999, model="lenet")
    found = catalogue.draw(18, *loaded(tmp_path))
    [panel] = found.figure.axes
    np.testing.assert_allclose(lines(panel)["batch 32,768"], [[30, 97.5], [1000, 99.1]])
    assert "at best 99.10% (n = 2, 99.00 to 99.20) in 1,000 epochs, lamb on lenet5" in found.caption
    assert "Also run and not drawn: lenet." in found.caption
    assert "labels of 3 images are wrong" in found.caption and ON_TEST not in found.caption
    assert [blank.command for blank in found.blanks if "--epochs=100 " in blank.command]


def test_runs_on_a_part_of_a_data_set_are_no_runs_of_the_paper(tmp_path):
    made.write_run(tmp_path / "a", "imagenet2012", batch_size=256, epochs=90, accuracy=0.9, dataset_size="512,64")
    made.write_run(tmp_path / "b", "imagenet2012", batch_size=published.LADDER_BATCH, epochs=90, accuracy=0.2)
    runs, _ = loaded(tmp_path)
    assert [fits(run.settings, {"dataset": "imagenet2012"}) for run in runs] == [False, True]


@pytest.mark.parametrize("name, value", [("peak_learning_rate", "x"), ("warmup_epochs", "x"), ("warmup_epochs", [5])])
def test_a_bad_trial_is_left_aside_with_its_reason_and_the_map_stays(tmp_path, name, value):
    write_maps(tmp_path)
    path = sorted(tmp_path.rglob("trials/*/settings.json"))[0]
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    found = catalogue.draw(16, *loaded(tmp_path))
    assert found.figure is not None and "Left aside" in found.caption and str(path.parent) in found.caption


@pytest.mark.parametrize("change", [
    {"select_on": []}, {"settings": [1]}, {"space": {"peak_learning_rate": [10**400, 2], "warmup_epochs": [0, 5]}}])
def test_a_damaged_sweep_json_stops_neither_map_nor_page(tmp_path, change):
    write_maps(tmp_path / "runs")
    path = sorted((tmp_path / "runs").rglob("sweep.json"))[0]
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    runs, sweeps = loaded(tmp_path / "runs")
    assert catalogue.draw(16, runs, sweeps).figure is not None
    (tmp_path / "page").mkdir()
    assert "Heat maps" in pathlib.Path(write_page(runs, sweeps, tmp_path / "page")).read_text()


def test_trials_chosen_on_test_share_no_map_with_others(tmp_path):
    for split, rates, accuracy in (("validation", [2, 4], 0.9), ("test", [4, 8], 0.99)):
        made.write_grid(tmp_path / split, "mnist", rates=rates, warmups=[0, 5], batch_size="full", epochs=30, optimizer="lars",
                        select_on=split, accuracy=lambda rate, warmup: accuracy)
    found = catalogue.draw(16, *loaded(tmp_path))
    assert {row["peak_learning_rate"] for row in found.rows} == {2.0, 4.0}
    assert {row["accuracy"] for row in found.rows if row.get("accuracy") is not None} == {90.0}


def test_a_map_holds_one_network(tmp_path):
    for model, rates in (("lenet5", [2, 4]), ("lenet", [8])):
        made.write_grid(tmp_path / model, "mnist", rates=rates, warmups=[0, 5], batch_size="full", epochs=30, optimizer="lars",
                        model=model, accuracy=lambda rate, warmup: 0.9)
    found = catalogue.draw(16, *loaded(tmp_path))
    assert {row["peak_learning_rate"] for row in found.rows} == {2.0, 4.0}
    assert "LARS, lenet5, batch 55,000: best" in found.caption


def test_choosing_among_settings_by_test_is_marked(tmp_path):
    for rate, accuracy in ((0.01, 0.97), (0.02, 0.98)):
        made.write_run(tmp_path / f"{rate}", batch_size=32768, epochs=30, accuracy=accuracy, optimizer="lamb",
                       learning_rate=rate)
    found = catalogue.draw(18, *loaded(tmp_path))
    np.testing.assert_allclose(lines(found.figure.axes[0])["batch 32,768"], [[30, 98]])
    assert f"the highest on test{ON_TEST}" in found.caption
    assert [row["chosen"] for row in found.rows if row["chosen"]] == [f"best on test{ON_TEST}"]


def test_a_diverged_duration_is_a_finding_and_no_point(tmp_path):
    made.write_run(tmp_path / "a", batch_size="full", epochs=1000, accuracy=None, status="diverged", **made.FULL_LONGER)
    found = catalogue.draw(19, *loaded(tmp_path))
    assert found.figure is None and "Diverged: batch 60,000 at 1,000 epochs" in found.caption
    assert not any("--epochs=1000 " in blank.command for blank in found.blanks)


def test_equal_updates_are_cut_where_the_shorter_run_ends(tmp_path):
    for batch, steps in ((32768, 40), ("full", 30), ("full", 400)):
        made.write_run(tmp_path / f"{batch}_{steps}", "imagenet2012", batch_size=batch, train_steps=steps, warmup_steps=0,
                       rows=400, accuracy=0.5)
    found = catalogue.draw(10, *loaded(tmp_path))
    loss, accuracy = found.figure.axes
    assert {label: data[-1, 0] for label, data in lines(loss).items()} == {"batch 32,768": 30, "full batch (1,281,167)": 30}
    assert "full_30" in found.caption and "full_400" not in found.caption
    assert lines(accuracy)["full batch (1,281,167)"][-1].tolist() == [30, 50]


@pytest.mark.parametrize("number", range(23, 30))
def test_schedules_are_read_from_schedule_csv(number, tmp_path):
    schedule, warmup, shape = made._SCHEDULES[number - 23]
    folder = made.write_run(tmp_path / "a", epochs=30, schedule=schedule, warmup_epochs=warmup, warmup_shape=shape,
                            accuracy=None)
    (folder / "schedule.csv").write_text("update,epoch,learning_rate\n0,0.0,0.5\n1,0.1,1.0\n2,0.2,0.25\n3,0.3")
    found = catalogue.draw(number, *loaded(tmp_path))
    np.testing.assert_allclose(found.figure.axes[0].lines[0].get_ydata(), [0.5, 1.0, 0.25])
    others = [other for other in range(23, 30) if other != number and catalogue.draw(other, *loaded(tmp_path)).figure]
    assert others == []



# ------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("number", [1, 4, 10, 11, 16, 18, 24, "steps_to_target"])
def test_files_are_the_same_bytes_each_time_and_an_svg_has_text_and_no_date(number, everything, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for name in "ab":
        written = drawing.save(catalogue.draw(number, *everything), tmp_path / name / "figure")
    assert [pathlib.Path(path).name for path in written] == ["figure.png", "figure.svg", "figure.csv"]
    for suffix in ("png", "svg", "csv"):
        first, second = ((tmp_path / name / f"figure.{suffix}").read_bytes() for name in "ab")
        assert first == second and len(first) > 50
    svg = (tmp_path / "a" / "figure.svg").read_text()
    assert "<text" in svg and "dc:date" not in svg and re.search(r"<text[^>]*>[^<]*Steps|<text[^>]*>[^<]*Figure", svg)


def test_rows_beside_a_picture_are_its_numbers(everything, tmp_path):
    found = catalogue.draw(18, *everything)
    drawing.save(found, tmp_path / "figure18")
    with open(tmp_path / "figure18.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["batch"], row["epochs"], row["mean_percent"]) for row in rows] == \
        [(str(row["batch"]), str(row["epochs"]), str(row["mean_percent"])) for row in found.rows]


def test_a_blank_figure_leaves_no_picture(tmp_path):
    drawing.save(catalogue.draw(1, [], []), tmp_path / "figure1")
    assert [path.name for path in tmp_path.iterdir()] == ["figure1.csv"]


def test_drawing_leaves_the_users_style_alone(everything):
    before = dict(matplotlib.rcParams)
    for number in (1, 4, 16, 18):
        catalogue.draw(number, *everything)
    assert dict(matplotlib.rcParams) == before


# --------------------------------------------------------------------------------------------- flagfiles and spaces


FLAGFILES = sorted((ROOT / "flags" / "figures").glob("*.flags"))
SPACES = sorted(path for path in (ROOT / "flags" / "sweeps").glob("*.json") if path.stem.startswith(("fig", "steps")))


@pytest.mark.parametrize("path", FLAGFILES, ids=lambda path: path.stem)
def test_flagfiles_parse_and_say_source_expectation_cost_and_command(path):
    command = command_line.parse([f"--flagfile={path}"], program="", description="", dataset="mnist")
    assert command.problems == []
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert [line.split(":")[0] for line in head[1:]] == ["# source", "# expected", "# cost", "# command"]


@pytest.mark.parametrize("name", ["fig18", "fig19", "fig19_b256", "fig20", "fig21", "fig22", "steps_to_target"])
def test_the_command_in_a_flagfile_is_one_that_a_report_prints(name):
    [command] = re.findall(r"^# command: (.*)$", (ROOT / "flags" / "figures" / f"{name}.flags").read_text(), re.MULTILINE)
    assert command in [source.command for row in catalogue.FIGURES.values() for source in row.sources]


def test_every_flagfile_and_space_is_named_by_the_catalogue():
    commands = " ".join(source.command for row in catalogue.FIGURES.values() for source in row.sources)
    nested = {name for path in FLAGFILES for name in re.findall(r"^--flagfile=(.*)$", path.read_text(), re.MULTILINE)}
    assert {path.name for path in FLAGFILES if f"figures/{path.name}" not in commands and path.name not in nested} == set()
    assert {path.name for path in SPACES if path.name not in commands} == set()


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_the_corners_of_a_space_are_settings_that_a_run_can_have(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    space = json.loads(path.read_text())
    _, words = next(words_of(source.command) for row in catalogue.FIGURES.values() for source in row.sources
                    if f"/{path.name}" in source.command)
    base = [word for word in words if word[2:].partition("=")[0] not in {*OF_A_SWEEP, "data_dir"}]
    ends = [[f"--{name}={value}" for value in ((values["low"], values["high"]) if isinstance(values, dict) else values)]
            for name, values in space.items()]
    assert set(space) <= set(FIELDS)
    for corner in itertools.product(*ends):
        assert command_line.parse([*base, *corner], program="", description="", dataset="mnist").problems == []


@pytest.mark.parametrize("number", [number for number, row in catalogue.FIGURES.items() if row.kind == "heat map"])
def test_a_map_costs_a_run_a_cell(number):
    for source in catalogue.FIGURES[number].sources:
        space = json.loads((ROOT / re.search(r"--space=(\S+)", source.command).group(1)).read_text())
        baseline = published.BASELINES[source.wanted["dataset"]]
        assert source.images == math.prod(map(len, space.values())) * baseline.epochs * baseline.train_examples


def test_both_optimizers_of_a_map_search_equally_many_cells_over_as_wide_a_range():
    for number in (2, 7, 15, 16):
        sgd, lars = (json.loads((ROOT / "flags" / "sweeps" / f"fig{number:02}_{name}.json").read_text())
                     for name in ("sgd", "lars"))
        assert sgd["warmup_epochs"] == lars["warmup_epochs"]
        assert len(sgd["peak_learning_rate"]) == len(lars["peak_learning_rate"])
        width = [max(space["peak_learning_rate"]) / min(space["peak_learning_rate"]) for space in (sgd, lars)]
        assert width[0] == pytest.approx(width[1])
