import json
import math
import subprocess
import sys

import matplotlib
import numpy as np
import pytest

from tf_hugebatch.reports.figures import MOST_POINTS, save_training_curves, training_curves
from tf_hugebatch.runs import Run

SETTINGS = {"optimizer": "lars", "batch_size": 8192, "dataset": "mnist", "model": "lenet", "epochs": 30.0,
            "schedule": "polynomial", "warmup_epochs": 5.0, "warmup_steps": None, "seed": 3}


def made_run(folder, losses, accuracies=(), *, status="done", final=None, reason=None, **more):
    """A run folder with a training row for each loss and evaluations spread evenly over the run."""
    total = len(losses)
    rows = [{"kind": "train", "step": step, "epoch": step / 7, "loss": loss, "learning_rate": 0.01 * step}
            for step, loss in enumerate(losses, start=1)]
    rows += [{"kind": "eval", "split": "test", "step": i * total // len(accuracies), "accuracy": accuracy}
             for i, accuracy in enumerate(accuracies, start=1)]
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "settings.json").write_text(json.dumps(SETTINGS))
    (folder / "status.json").write_text(json.dumps(
        {"status": status, "step": total, "total_steps": total, "reason": reason, "final": final or {}, **more}))
    return Run(folder)


def curve(panel):
    """(x, y) of the first line of a panel."""
    x, y = panel.lines[0].get_data()
    return np.asarray(x, float), np.asarray(y, float)


def texts(figure):
    found = [figure.get_suptitle(), *(panel.get_title(loc="left") for panel in figure.axes)]
    for panel in figure.axes:
        found += [text.get_text() for text in panel.texts]
        found += [text.get_text() for text in panel.get_legend().get_texts()] if panel.get_legend() else []
    return "\n".join(found)


def test_the_three_panels_show_what_the_run_wrote(tmp_path):
    figure = training_curves(made_run(tmp_path, [2.3, 1.2, 0.8, 0.7], [0.5, 0.75]))
    loss, accuracy, rate = figure.axes
    np.testing.assert_allclose(curve(loss), [[1, 2, 3, 4], [2.3, 1.2, 0.8, 0.7]])
    np.testing.assert_allclose(curve(accuracy), [[2, 4], [50, 75]])
    np.testing.assert_allclose(curve(rate), [[1, 2, 3, 4], [0.01, 0.02, 0.03, 0.04]])
    labels = [panel.get_ylabel() for panel in figure.axes]
    assert "loss" in labels[0] and "%" in labels[1] and "rate" in labels[2] and rate.get_xlabel() == "updates"


def test_the_title_names_the_essentials_and_the_final_accuracy(tmp_path):
    said = texts(training_curves(made_run(tmp_path, [2.3, 1.0], [0.9931], final={"test_accuracy": 0.9931})))
    for part in ("lars", "batch 8,192", "mnist lenet", "test accuracy 99.31%", "2 updates", "30 epochs",
                 "learning rate to 0.02", "polynomial", "warm-up 5 epochs", "seed 3", "test, last 99.31%"):
        assert part in said


@pytest.mark.parametrize("final", [{"test_accuracy": 0.9}, {"validation_accuracy": 0.9}])
def test_words_on_the_data_stand_in_the_title(tmp_path, final):
    note = "JPEG-recompressed, $5} to $6"
    figure = training_curves(made_run(tmp_path, [2.3, 1.0], final=final, data_note=note))
    assert "JPEG-recompressed" in figure.get_suptitle()


@pytest.mark.parametrize("split", ["test", "validation", "none"])
def test_a_setting_that_the_test_split_chose_is_said_in_the_title(tmp_path, split):
    run = made_run(tmp_path, [2.3, 1.0], final={"test_accuracy": 0.9})
    run.settings["selected_on"] = split
    figure = training_curves(run)
    assert ("chosen on the test split" in figure.get_suptitle().replace("\n", " ")) == (split == "test")


def test_an_accuracy_of_0_is_an_accuracy(tmp_path):
    figure = training_curves(made_run(tmp_path, [2.3, 1.0], [0.0, 0.0]))
    assert "no evaluation yet" not in texts(figure) and (figure.axes[1].lines[0].get_ydata() == 0).all()


@pytest.mark.parametrize("final", [{}, {"test_accuracy": None}])
def test_a_missing_accuracy_is_left_out_and_never_0(tmp_path, final):
    figure = training_curves(made_run(tmp_path, [2.3, 1.0], status="interrupted", final=final))
    assert "test accuracy" not in texts(figure) and "interrupted" in figure.get_suptitle()
    assert "no evaluation yet" in texts(figure) and not figure.axes[1].lines


def test_a_diverged_run_is_a_gap_and_a_mark_at_the_first_bad_update(tmp_path):
    losses = [2.3, 2.5, 4.0, None, float("inf"), None]
    figure = training_curves(made_run(tmp_path, losses, [0.1], status="diverged"))
    x, y = curve(figure.axes[0])
    assert np.isnan(y[3:]).all() and np.isfinite(y[:3]).all()
    for panel in figure.axes:
        assert any(list(line.get_xdata()) == [4, 4] for line in panel.lines)
    assert "not finite at update 4" in texts(figure) and "diverged" in figure.get_suptitle()


def test_a_run_that_diverged_with_finite_losses_says_why(tmp_path):
    reason = "final loss 2.4 is not below the initial 2.3"
    assert reason in texts(training_curves(made_run(tmp_path, [2.3, 2.4], status="diverged", reason=reason)))


def test_nothing_finite_at_all_is_still_a_figure(tmp_path):
    save_training_curves(made_run(tmp_path, [None, None], [None], status="diverged"), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5_000


def test_a_single_update_is_a_visible_dot(tmp_path):
    figure = training_curves(made_run(tmp_path, [2.3], [0.3]))
    assert all(panel.lines[0].get_marker() not in (None, "None", "") for panel in figure.axes)
    assert "1 update ·" in texts(figure)


def test_a_long_run_is_thinned_and_its_extremes_stay_in_sight(tmp_path):
    losses = (2.0 + np.sin(np.arange(20_000))).tolist()
    losses[7_777], losses[9_999] = 30.0, None
    panel = training_curves(made_run(tmp_path, losses)).axes[0]
    x, y = curve(panel)
    assert len(x) <= MOST_POINTS and np.isfinite(y).all()
    assert x[0] < 30 and x[-1] > 19_970
    assert panel.collections[0].get_paths()[0].vertices[:, 1].max() == 30.0
    assert y.max() < 5.0


def test_a_whole_run_is_drawn_to_scale_also_when_it_stopped_early(tmp_path):
    run = made_run(tmp_path, [2.3, 2.0], status="interrupted")
    run.status["total_steps"] = 50
    assert training_curves(run).axes[2].get_xlim()[1] >= 50


@pytest.mark.parametrize("accuracies, magnified", [([0.5, 0.992, 0.994], True), ([0.3, 0.8, 0.802], False)])
def test_the_accuracy_axis_magnifies_small_errors_only(tmp_path, accuracies, magnified):
    panel = training_curves(made_run(tmp_path, [2.3, 1.0, 0.5], accuracies)).axes[1]
    low, middle, high = (panel.transData.transform((1, 100 * accuracy))[1] for accuracy in accuracies)
    assert low < middle < high
    assert ((high - middle) > 0.05 * (middle - low)) == magnified


@pytest.mark.parametrize("accuracy", [0.0, 0.95, 1.0])
def test_every_accuracy_lies_inside_the_axis(tmp_path, accuracy):
    panel = training_curves(made_run(tmp_path, [2.3, 1.0], [0.1, accuracy])).axes[1]
    low, high = panel.get_ylim()
    assert low <= 100 * accuracy <= high and math.isfinite(panel.transData.transform((1, 100 * accuracy))[1])


def test_the_epoch_axis_counts_epochs(tmp_path):
    panel = training_curves(made_run(tmp_path, [2.0] * 14)).axes[0]
    (epochs,) = panel.child_axes
    assert epochs.get_xlabel() == "epochs"
    assert epochs.get_xlim()[1] == pytest.approx(panel.get_xlim()[1] / 7)


def test_the_epoch_axis_follows_a_batch_that_grows(tmp_path):
    run = made_run(tmp_path, [2.0] * 14)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    # An update is a tenth of an epoch up to update 10, then a whole one.
    lines = [{**row, "epoch": min(row["step"], 10) / 10 + max(row["step"] - 10, 0)} for row in rows]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    (tmp_path / "settings.json").write_text(json.dumps({**SETTINGS, "batch_growth": [[1, 10]]}))
    figure = training_curves(Run(run.path))
    panel = figure.axes[0]
    (axis,) = panel.child_axes
    figure.draw_without_rendering()
    for step, epoch in ((1, 0.1), (10, 1.0), (14, 5.0)):
        at = panel.transData.transform((step, 0))[0]
        assert at == pytest.approx(axis.transData.transform((epoch, 0))[0], abs=0.5)
    assert "batch 8,192, growing" in figure.get_suptitle() + texts(figure)


def test_the_picture_is_a_png_with_something_on_it(tmp_path):
    save_training_curves(made_run(tmp_path, [2.3, 1.0, 0.2], [0.9, 0.95]), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    pixels = matplotlib.image.imread(tmp_path / "curves.png")
    assert pixels.shape[:2] == (1050, 1050) and (pixels[..., :3].mean(axis=2) < 0.4).mean() > 0.005


def test_lines_differ_without_colour(tmp_path):
    made_run(tmp_path, [2.3, 1.0], [0.5, 0.6])
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "eval", "split": "validation", "step": 2, "accuracy": 0.55}\n')
    test, validation = training_curves(Run(tmp_path)).axes[1].lines
    assert test.get_marker() != validation.get_marker() and test.get_linestyle() != validation.get_linestyle()


def test_a_run_without_training_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path}.*no training rows.*dry run"):
        training_curves(made_run(tmp_path, []))


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'tf_hugebatch\[report\]'"):
        training_curves(made_run(tmp_path, [1.0]))


def test_drawing_leaves_the_users_style_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    training_curves(made_run(tmp_path, [2.3, 1.0], [0.5]))
    assert dict(matplotlib.rcParams) == before


def test_reports_import_neither_tensorflow_nor_a_window(tmp_path):
    made_run(tmp_path, [2.3, 1.0], [0.5])
    code = ("import sys; from tf_hugebatch.reports import figures; from tf_hugebatch.runs import Run\n"
            "assert not {'tensorflow', 'keras', 'matplotlib'} & set(sys.modules)\n"
            "figures.training_curves(Run(sys.argv[1]))\n"
            "assert not {'tensorflow', 'matplotlib.pyplot'} & set(sys.modules)")
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, timeout=60)
