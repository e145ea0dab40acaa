"""Full batch, update by update: a panel a data set, a line an optimizer; of searches over the frontier's spaces and no others."""

import json
import pathlib
import re

import pytest

from reference import made_figures as made
from reference.drawn import loaded
from tf_hugebatch import command_line
from tf_hugebatch.reports import catalogue
from tf_hugebatch.reports.blanks import cost_in_words
from tf_hugebatch.reports.sheets import ON_TEST

ROOT = pathlib.Path(__file__).parents[2]
CIFAR = {"dataset": "cifar10", "model": "resnet9", "epochs": 60, "note": "JPEG-recompressed"}


def drawn(folder):
    return catalogue.draw("full_batch", *loaded(folder))


def test_a_panel_a_data_set_and_a_line_an_optimizer_with_its_seeds(tmp_path):
    made.write_frontier(tmp_path / "mnist", "muon", "full", [0.99, 0.98])
    made.write_frontier(tmp_path / "mnist", "lars", "full", [0.95, None, 0.97])
    made.write_frontier(tmp_path / "cifar10", "muon", "full", [0.70, 0.72, 0.74], **CIFAR)
    found = drawn(tmp_path)
    panels = found.figure.axes
    assert [panel.get_title() for panel in panels] == ["MNIST, lenet5", "CIFAR10, resnet9"]
    assert [[text.get_text() for text in panel.get_legend().get_texts()] for panel in panels] == [
        ["lars, n = 2", "muon, n = 2"], ["muon, n = 3"]]
    last = {(row["dataset"], row["optimizer"]): row for row in found.rows if row.get("final")}
    assert last["cifar10", "muon"]["mean_percent"] == pytest.approx(72) and last["cifar10", "muon"]["update"] == 60
    assert (last["mnist", "lars"]["n"], last["mnist", "lars"]["diverged"]) == (3, 1)
    curve = [row for row in found.rows if (row["dataset"], row["optimizer"]) == ("cifar10", "muon") and not row.get("final")]
    assert curve[-1]["accuracy_percent"] == pytest.approx(72)
    assert (curve[-1]["lowest_percent"], curve[-1]["highest_percent"]) == (pytest.approx(70), pytest.approx(74))
    assert "JPEG-recompressed" in found.caption
    assert "(n = 2, 98.00 to 99.00), chosen in 20 trials" in found.caption
    missing = found.caption.partition("Missing: ")[2]
    assert "cifar10, lars" in missing and "sgd, full batch" in missing and "cifar10, muon" not in missing


def test_what_was_tried_on_a_part_is_said_and_a_choice_on_test_is_marked(tmp_path):
    folder = made.write_frontier(tmp_path / "a", "muon", "full", [0.70, 0.72, 0.74], **CIFAR)
    plan = json.loads((folder / "sweep.json").read_text())
    plan["settings"]["batch_size"], plan["select_on"] = 5000, "test"
    (folder / "sweep.json").write_text(json.dumps(plan))
    found = drawn(tmp_path)
    assert "chosen in 20 trials at the full batch of 5,000 images" in found.caption and ON_TEST in found.caption
    assert [text.get_text() for text in found.figure.axes[0].get_legend().get_texts()] == [f"muon{ON_TEST}, n = 3"]


def test_fewer_seeds_than_asked_for_are_drawn_and_missing(tmp_path):
    made.write_frontier(tmp_path, "muon", "full", [0.70, 0.72], **CIFAR)
    found = drawn(tmp_path)
    assert found.figure is not None and "cifar10, muon" in found.caption.partition("Missing: ")[2]


def test_the_network_that_is_not_drawn_is_named(tmp_path):
    made.write_frontier(tmp_path / "a", "muon", "full", [0.99, 0.98])
    made.write_frontier(tmp_path / "a", "lars", "full", [0.99, 0.98])
    made.write_frontier(tmp_path / "b", "muon", "full", [0.99, 0.98], model="lenet")
    assert "Also run and not drawn: lenet." in drawn(tmp_path).caption


@pytest.mark.parametrize("accuracy", [0.95, 0.9997, 0.1009])
def test_seeds_that_agree_are_drawn(tmp_path, accuracy):
    """A mean of equal numbers in floating point may lie outside them, and error bars of negative length are no picture."""
    made.write_frontier(tmp_path, "muon", "full", [accuracy] * 3)
    runs = loaded(tmp_path)
    assert drawn(tmp_path).figure is not None and catalogue.draw("frontier", *runs).figure is not None


def test_other_searches_runs_without_one_and_other_batches_are_no_lines(tmp_path):
    made.write_run(tmp_path / "plain", "cifar10", accuracy=0.7, batch_size="full", epochs=60, model="resnet9", optimizer="muon",
                   schedule="polynomial")
    made.write_frontier(tmp_path / "half", "muon", 25_000, [0.7, 0.7], **CIFAR)
    made.write_frontier(tmp_path / "long", "muon", "full", [0.7, 0.7], **{**CIFAR, "epochs": 200})
    found = drawn(tmp_path)
    assert found.figure is None and not found.rows and len(found.blanks) == len(catalogue.FIGURES["full_batch"].sources)


def test_all_seeds_diverged_is_a_row_and_no_line(tmp_path):
    made.write_frontier(tmp_path, "sgd", "full", [None, None], **CIFAR)
    found = drawn(tmp_path)
    assert found.figure is None and [row["diverged"] for row in found.rows] == [2]
    assert "sgd diverges" in found.caption


def test_commands_are_sweeps_of_a_tenth_whose_final_runs_have_every_image(monkeypatch):
    monkeypatch.chdir(ROOT)
    sources = [source for source in catalogue.FIGURES["full_batch"].sources if source.wanted["dataset"] == "cifar10"]
    assert len(sources) == 5
    for source in sources:
        words = source.command.split()
        assert words[2] == "tf_hugebatch.sweep_main"
        flags = [word for word in words[3:] if word.split("=")[0][2:] not in
                 ("space", "method", "trials", "confirm", "final_seeds", "sweep_dir", "data_dir")]
        settings = command_line.parse(flags, program="sweep_main", description="", dataset="mnist").settings
        assert (settings.batch_size, settings.model, settings.total_updates) == (5000, "resnet9", 60)
        final = settings.replace(validation_examples=0, batch_size="full")
        assert (final.batch_size, final.total_updates, final.train_examples) == (50_000, 60, 50_000)
        trials_and_repeats = 20 + 3 * 2
        assert source.seeds == 3 and source.blank("x").cost == cost_in_words(
            "resnet9", 60 * (trials_and_repeats * 5000 + 3 * 50_000))
        name = re.search(r"frontier/(\w+)\.flags", source.command)[1]
        assert f"# command: {source.command}\n" in (ROOT / f"flags/frontier/{name}.flags").read_text()
