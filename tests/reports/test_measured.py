"""The figures of diagnostics that the paper doesn't have: ratios of layers, and the noise scale."""

import json
import re
import types

import numpy as np
import pytest

from reference import made_figures as made
from reference.drawn import lines, loaded, texts
from tf_hugebatch.reports import catalogue, figures, noise_scales, regimes, tables
from tf_hugebatch.reports.outcomes import read_outcomes
from tf_hugebatch.reports.stats import group_runs
from tf_hugebatch.runs import Run


def test_ratios_are_drawn_of_kernels_and_of_runs_that_hold_them(tmp_path):
    made.write_run(tmp_path / "a", regime="baseline", rows=40, more_rows=lambda step: (
        {}, [made.trust_row({"c/kernel": 3.0 * step, "c/bias": 7.0})]))
    made.write_run(tmp_path / "b", regime="large", rows=40)
    found = catalogue.draw("layer_ratios", *loaded(tmp_path))
    [panel] = found.figure.axes
    [(label, data)] = lines(panel).items()
    assert label == "c/kernel" and panel.get_yscale() == "log"
    np.testing.assert_allclose(data[:, 1], 3.0 * data[:, 0])
    assert [blank.what for blank in found.blanks] == ["Layer ratios: lars, batch 8,192", "Layer ratios: lamb, full batch (60,000)"]


def test_a_gradient_of_norm_zero_is_a_gap(tmp_path):
    def rows(step):
        row = made.trust_row({"c/kernel": 2.0})
        if step % 2 == 0:
            row["gradient_norms"] = {"c/kernel": 0.0}
        return {}, [row]

    made.write_run(tmp_path / "a", regime="baseline", losses=[1.0] * 10, more_rows=rows)
    found = catalogue.draw("layer_ratios", *loaded(tmp_path))
    assert all(np.isfinite(row["weight_over_gradient_norm"]) for row in found.rows)


def test_text_where_a_number_belongs_is_missing():
    rows = [{"a": 1}, {"a": "2"}, {"a": None}, {}, {"a": [3]}, {"a": True}, {"a": float("inf")}, {"a": 10**400}, {"a": 4.5}]
    np.testing.assert_array_equal(figures.column(rows, "a"), [1.0, *[np.nan] * 7, 4.5])


def test_the_noise_scale_is_a_quotient_of_means_not_a_mean_of_quotients(tmp_path):
    generator = np.random.default_rng(0)

    def rows(step):
        power = 1.0 + 0.99 * (-1) ** generator.integers(2)  # 0.01 or 1.99: mean 1; the mean of quotients would be near 50
        return {"gradient_power": power, "gradient_variance": 300.0, "noise_scale": 300.0 / power}, []

    folder = made.write_run(tmp_path / "a", regime="baseline", rows=6000, more_rows=rows)
    epochs, scales = noise_scales.quotients(Run(folder))
    assert len(scales) == noise_scales.STRETCHES and epochs[-1] <= 30
    assert np.mean(scales) == pytest.approx(300, rel=0.05) and scales.max() < 500
    found = catalogue.draw("noise_scale", *loaded(tmp_path))
    np.testing.assert_allclose(lines(found.figure.axes[0])["sgd, batch 256"][:, 1], scales)


def test_a_stretch_without_a_signal_is_above_what_can_be_told_and_a_gap_in_the_picture(tmp_path):
    folder = made.write_run(tmp_path / "a", regime="baseline", rows=60, more_rows=lambda step: (
        {"gradient_power": -1.0 if step > 3000 else 1.0, "gradient_variance": 10.0 if step > 500 else -1.0, "noise_scale": 1.0}, []))
    epochs, scales = noise_scales.quotients(Run(folder))
    assert len(scales) == noise_scales.STRETCHES and set(scales) == {0.0, 10.0, np.inf}
    assert (scales[epochs < 2] == 0).all() and (scales[epochs > 13] == np.inf).all() and np.median(scales) == np.inf
    found = catalogue.draw("noise_scale", *loaded(tmp_path))
    [data] = lines(found.figure.axes[0]).values()
    np.testing.assert_array_equal(np.isnan(data[:, 1]), scales != 10.0)
    assert f"{(scales != 10.0).sum()} of 30 stretches are gaps" in found.caption and "median inf" in found.caption


@pytest.mark.parametrize("scale", [300.0, 10_000.0])
def test_the_median_of_noisy_stretches_is_the_noise_scale_whether_or_not_they_hold_a_signal(scale):
    # Cross products of two halves of 128 in 20 directions, as a run at 256 has them: at 10,000 half of the stretches hold none.
    generator, found = np.random.default_rng(0), []
    for seed in range(8):
        means = generator.normal(size=(2, 6000, 20)) * np.sqrt(scale / 20 / 128) + 1 / np.sqrt(20)
        power, variance = (means[0] * means[1]).sum(-1), 64 * ((means[0] - means[1]) ** 2).sum(-1)
        rows = [{"epoch": 0.0, "gradient_power": one, "gradient_variance": other} for one, other in zip(power, variance)]
        found.append(np.median(noise_scales.quotients(types.SimpleNamespace(train_rows=rows))[1]))
    assert np.median(found) == pytest.approx(scale, rel=0.15)


def test_signal_and_noise_are_drawn_from_the_last_survey(tmp_path):
    # What is drawn beside the values is the law, which these don't follow.
    made.write_run(tmp_path / "a", regime="baseline", losses=[2.0, 1.0], more_rows=lambda step: (
        {}, [{**made.snr_row(signal=step), "noise": [None, *np.array(made.snr_row()["noise"][1:]) ** 1.2]}]))
    found = catalogue.draw("signal_and_noise", *loaded(tmp_path))
    [panel] = found.figure.axes
    drawn = lines(panel)
    signal, noise = drawn["signal, slope 1.00"], drawn["noise, slope 0.50"]
    without = np.sqrt(1 - noise[:, 0] / made.snr_row()["examples"])
    np.testing.assert_allclose(signal[:, 1], 7032 * signal[:, 0])
    assert np.isnan(noise[0, 1]) and np.isfinite(noise[1:, 1]).all()
    for name, values, law in (("slope 1", signal, signal[:, 0]),
                              ("slope 0.5 times √(1 - B/N)", noise, np.sqrt(noise[:, 0]) * without)):
        first = np.flatnonzero(np.isfinite(values[:, 1]))[0]
        np.testing.assert_allclose(drawn[name][:, 1], values[first, 1] * law / law[first])
    assert not any(row["batch"] == 64 and row["what"] == "noise" for row in found.rows)


SHARP = {"kind": "sharpness", "eigenvalue": 40.0, "residual": 0.1, "products": 9, "examples": 1000}


@pytest.mark.parametrize("name, good, bad", [
    ("signal_and_noise", made.snr_row(), {"kind": "snr"}),
    ("signal_and_noise", made.snr_row(), {**made.snr_row(), "examples": "many"}),
    ("signal_and_noise", made.snr_row(), {**made.snr_row(), "signal": ["a"] * 8}),
    ("signal_and_noise", made.snr_row(), {**made.snr_row(), "noise": [1.0]}),
    ("signal_and_noise", made.snr_row(), {**made.snr_row(), "batch_sizes": [0] * 8}),
    ("sharpness", SHARP, {"kind": "sharpness"}),
    ("sharpness", SHARP, {**SHARP, "eigenvalue": "large"}),
    ("sharpness", SHARP, {**SHARP, "examples": None})])
def test_an_odd_survey_is_left_aside_by_name_and_takes_no_figure_with_it(tmp_path, name, good, bad):
    made.write_run(tmp_path / "a", regime="baseline", losses=[2.0, 1.0, 0.5], more_rows=lambda step: (
        {}, [bad if step > 5000 else good]))
    made.write_run(tmp_path / "b", regime="large", losses=[2.0, 1.0], more_rows=lambda step: ({}, [good]))
    found = catalogue.draw(name, *loaded(tmp_path))
    assert {row["source"] for row in found.rows} == {"sgd, batch 256", "lars, batch 8,192"}
    assert f"Left aside: {tmp_path}/a: {good['kind']} at update 7,032: " in found.caption
    assert f"Left aside: {tmp_path}/b" not in found.caption
    steps = {row.get("step", row.get("epoch")) for row in found.rows if row["source"] == "sgd, batch 256"}
    assert len(steps) == 2  # the two surveys before
    made.write_run(tmp_path / "alone" / "c", regime="baseline", diagnostics=good["kind"], losses=[2.0],
                   more_rows=lambda step: ({}, [bad]))
    alone = catalogue.draw(name, *loaded(tmp_path / "alone"))
    assert alone.figure is None and alone.rows == [] and f"Left aside: {tmp_path}/alone/c: " in alone.caption


def test_a_training_set_without_a_group_is_no_empty_panel(tmp_path):
    empty = {"kind": "snr", "examples": 100, "batch_sizes": [], "groups": [], "signal": [], "noise": [], "signal_slope": None,
             "noise_slope": None, "full_gradient_norm": 1.0}
    made.write_run(tmp_path / "a", regime="baseline", more_rows=lambda step: ({}, [empty]))
    made.write_run(tmp_path / "b", regime="large", losses=[2.0, 1.0], more_rows=lambda step: ({}, [made.snr_row()]))
    found = catalogue.draw("signal_and_noise", *loaded(tmp_path))
    assert len(found.figure.axes) == 1
    assert f"Left aside: {tmp_path}/a: snr at update 352: of 100 examples no batch size has groups enough, and 19 rows more." in found.caption


def test_a_diagnostic_of_any_run_is_drawn_where_none_of_the_figures_own_ran(tmp_path):
    power = {"gradient_power": 1.0, "gradient_variance": 50.0, "noise_scale": 50.0}
    own = {"dataset": "mnist5k", "model": "lenet5", "batch_size": 512, "epochs": 3, "optimizer": "lars", "diagnostics": "noise_scale,sharpness"}
    made.write_run(tmp_path / "a", **own, more_rows=lambda step: (power, []))
    made.write_run(tmp_path / "b", **own, inject_noise="labels", noise_stddev=0.1, more_rows=lambda step: (power, []))
    made.write_run(tmp_path / "c", **{**own, "optimizer": "sgd", "diagnostics": "trust"})
    found = catalogue.draw("noise_scale", *loaded(tmp_path))
    assert set(lines(found.figure.axes[0])) == {
        "mnist5k lenet5, lars, batch 512", "mnist5k lenet5, lars, batch 512, inject_noise labels"}
    assert "None of the runs that this figure is of" in found.caption and len(found.blanks) == 3
    assert ", mnist" not in "".join(texts(found.figure))
    assert catalogue.draw("sharpness", *loaded(tmp_path)).figure is None  # asked for, and nothing came of it
    made.write_run(tmp_path / "d", regime="baseline", epochs=30, more_rows=lambda step: (power, []))
    assert set(lines(catalogue.draw("noise_scale", *loaded(tmp_path)).figure.axes[0])) == {"sgd, batch 256"}


def test_sharpness_is_drawn_over_epochs(tmp_path):
    made.write_run(tmp_path / "a", regime="large", losses=[2.0, 1.0, 0.5], more_rows=lambda step: (
        {}, [{"kind": "sharpness", "eigenvalue": float(step), "residual": 0.1, "products": 5, "examples": 1000}]))
    found = catalogue.draw("sharpness", *loaded(tmp_path))
    [data] = lines(found.figure.axes[0]).values()
    np.testing.assert_allclose(data[:, 1], [73, 147, 220])
    assert found.caption.count("of the loss of 1,000 examples") == 1
    assert found.figure.axes[0].get_yscale() == "linear" and found.figure.axes[0].get_ylim()[0] == 0


@pytest.mark.parametrize("values", [[-3.0, 10.0, 20.0], [1.0, 20.0, 90.0]])
def test_sharpness_that_changes_sign_or_over_decades_is_logarithmic(tmp_path, values):
    rising = iter(values)
    made.write_run(tmp_path / "a", regime="large", losses=[2.0, 1.0, 0.5], more_rows=lambda step: (
        {}, [{"kind": "sharpness", "eigenvalue": next(rising), "residual": 0.1, "products": 5, "examples": 1000}]))
    assert catalogue.draw("sharpness", *loaded(tmp_path)).figure.axes[0].get_yscale() == "symlog"


def test_sgd_and_lars_alone_are_no_picture_of_noise(tmp_path):
    made.write_noise(tmp_path / "sgd", 32768, None)
    found = catalogue.draw("noise_and_ratios", *loaded(tmp_path))
    assert found.figure is None and found.rows == [] and len(found.blanks) == 11
    made.write_noise(tmp_path / "labels", 32768, "labels")
    assert len(catalogue.draw("noise_and_ratios", *loaded(tmp_path)).rows) == 2


def test_noise_and_fixed_ratios_stand_beside_each_other_with_their_sharpness(tmp_path):
    for seed in (1, 2, 3):
        made.write_noise(tmp_path / "sgd" / f"seed{seed}", 32768, None, seed, accuracy=0.90 + 0.01 * seed)
        made.write_noise(tmp_path / "labels" / f"seed{seed}", 32768, "labels", seed, accuracy=0.80)
        made.write_run(tmp_path / "lars_shuffled" / f"seed{seed}", batch_size=32768, epochs=30, optimizer="lars", seed=seed,
                       accuracy=0.7, fixed_trust_ratios="kernel=0.1")
    diverged = made.write_noise(tmp_path / "labels" / "seed4", 32768, "labels", 4, accuracy=None, status="diverged")
    diverged = diverged / "metrics.jsonl"
    diverged.write_text(re.sub(r'"eigenvalue": [^,]*', '"eigenvalue": 1e9', diverged.read_text()))
    made.write_noise(tmp_path / "elsewhere", 8192, "labels", accuracy=0.99)
    found = catalogue.draw("noise_and_ratios", *loaded(tmp_path))
    rows = {row["setting"]: row for row in found.rows}
    assert list(rows) == ["momentum SGD", "SGD, noise on labels", "fixed ratios: lars_shuffled"]
    assert [round(row["mean_percent"], 6) for row in rows.values()] == [92.0, 80.0, 70.0]
    assert [row["n"] for row in rows.values()] == [3, 4, 3] and {row["batch"] for row in rows.values()} == {"batch 32,768"}
    assert rows["SGD, noise on labels"]["sharpness"] == pytest.approx(20.0)
    assert rows["momentum SGD"]["sharpness"] == pytest.approx(20.0)
    assert rows["momentum SGD"]["sharpness_low"] < 10 < 30 < rows["momentum SGD"]["sharpness_high"]
    assert rows["fixed ratios: lars_shuffled"]["sharpness"] is None
    assert len(found.figure.axes) == 2 and len(found.blanks) == 10


def test_searches_of_other_questions_are_no_controls_of_noise(tmp_path):
    made.write_noise(tmp_path / "z_noise" / "sgd", 32768, None, accuracy=0.80)
    made.write_noise(tmp_path / "z_noise" / "labels", 32768, "labels", accuracy=0.81)
    made.write_noise(tmp_path / "nesterov", 32768, None, accuracy=0.97, nesterov=True)
    for optimizer in ("sgd", "lars"):  # as flags/frontier has them
        made.write_noise(tmp_path / f"frontier_{optimizer}", 32768, None, accuracy=0.97, optimizer=optimizer, warmup_from="first")
    made.write_run(tmp_path / "a_without_sharpness", batch_size=32768, epochs=30, accuracy=0.5, optimizer="sgd",
                   schedule="polynomial", warmup_from="zero", peak_learning_rate=3.0)
    found = catalogue.draw("noise_and_ratios", *loaded(tmp_path))
    assert {row["setting"]: round(row["mean_percent"], 6) for row in found.rows} == {
        "momentum SGD": 80.0, "SGD, noise on labels": 81.0}
    assert "LARS, batch 32,768" in found.caption.partition("Missing")[2]


def test_a_growing_batch_stands_beside_the_falling_rate_and_feeds_nothing_else(tmp_path):
    for seed in (1, 2):
        for name, updates, values in (("decay", 7032, {"schedule": "steps", "rate_drops": made.GROWTH}),
                                      ("growth", 2601, {"schedule": "constant", "batch_growth": made.GROWTH})):
            made.write_run(tmp_path / name / f"seed{seed}", batch_size=256, epochs=30, optimizer="sgd", seed=seed,
                           accuracy=0.98 + 0.002 * seed, **values)
            assert json.loads((tmp_path / name / f"seed{seed}" / "status.json").read_text())["total_steps"] == updates
    found = catalogue.draw("batch_growth", *loaded(tmp_path))
    ends = {row["setting"]: row for row in found.rows if row.get("final")}
    assert {name: (row["update"], row["n"], round(row["mean_percent"], 6)) for name, row in ends.items()} == {
        "the rate falls": (7032, 2, 98.3), "the batch grows": (2601, 2, 98.3)}
    by_epochs, by_updates = (lines(panel) for panel in found.figure.axes)
    assert by_updates["the batch grows, n = 2"][-1].tolist() == pytest.approx([2601, 98.3])
    assert by_epochs["the batch grows, n = 2"][-1].tolist() == pytest.approx([(1_445_120 + 12 * 32_000) / 60_000, 98.3])
    assert by_epochs["the rate falls, n = 2"][-1].tolist() == pytest.approx([7032 * 256 / 60_000, 98.3])
    assert found.caption.count("98.30% (n = 2") == 2 and "in 2,601 updates" in found.caption and found.blanks == []
    # Its batch is 256 for a third of the run only: no cell, no boundary, no curve of that batch counts it.
    runs, sweeps = loaded(tmp_path / "growth")
    groups, _ = group_runs(read_outcomes(runs)[0])
    assert groups and all(one.baseline is None for one in regimes.find(groups))
    assert "98.3" not in tables.make(2, runs, sweeps).markdown and "98.30%" not in tables.make(3, runs, sweeps).markdown
    assert all(catalogue.draw(number, *loaded(tmp_path)).rows == [] for number in (19, "frontier", "steps_to_target"))
    assert "| `sgd` | 256, growing | lenet5 | 30 | 2,601 | 2 | 98.30% (98.20 to 98.40) |  |" in tables.results_table(runs)


def test_without_either_there_is_no_picture_of_growth(tmp_path):
    made.write_run(tmp_path / "a", batch_size=256, epochs=30, optimizer="sgd", schedule="constant")
    found = catalogue.draw("batch_growth", *loaded(tmp_path))
    assert found.figure is None and len(found.blanks) == 2 and "flags/growth/growth.flags" in found.blanks[1].command


def grown(folder, name, seed, **values):
    own = {"decay": {"schedule": "steps", "rate_drops": made.GROWTH}, "growth": {"schedule": "constant", "batch_growth": made.GROWTH}}
    made.write_run(folder / name / f"{values.get('optimizer', 'sgd')}{seed}", **{
        "batch_size": 256, "epochs": 30, "optimizer": "sgd", "seed": seed, **own[name], **values})


def test_growth_stands_beside_the_decay_that_differs_in_nothing_else(tmp_path):
    for seed in (1, 2, 3):
        grown(tmp_path, "decay", seed, optimizer="lars", accuracy=0.5)
    for name in ("decay", "growth"):
        grown(tmp_path, name, 1, accuracy=0.98)
    found = catalogue.draw("batch_growth", *loaded(tmp_path))
    assert [(row["setting"], row["mean_percent"]) for row in found.rows if row.get("final")] == [
        ("the rate falls", 98.0), ("the batch grows", 98.0)]
    assert "1 other setting of the two not drawn." in found.caption


def test_a_seed_that_diverges_takes_no_curve_away(tmp_path):
    for name in ("decay", "growth"):
        grown(tmp_path, name, 1, accuracy=0.98)
    grown(tmp_path, "growth", 2, accuracy=None, status="diverged")
    found = catalogue.draw("batch_growth", *loaded(tmp_path))
    [end] = [row for row in found.rows if row.get("final") and row["setting"] == "the batch grows"]
    assert (end["n"], end["diverged"], end["mean_percent"], end["update"]) == (2, 1, 98.0, 2601)
    assert "the batch grows, n = 2" in lines(found.figure.axes[0]) and "diverged" in found.caption


def test_a_run_of_the_same_setting_and_seed_that_measured_nothing_hides_none(tmp_path):
    made.write_run(tmp_path / "a", regime="baseline", rows=40)
    made.write_run(tmp_path / "b", regime="baseline", rows=40, more_rows=lambda step: ({}, [made.trust_row({"c/kernel": 3.0})]))
    found = catalogue.draw("layer_ratios", *loaded(tmp_path))
    assert found.figure is not None and "/b." in found.caption


def test_a_figure_of_what_was_measured_is_of_one_network_and_names_it(tmp_path):
    """Of two networks the one on which more of its sources ran, however many seeds the other has."""
    def rows(step):
        return {"gradient_power": 1.0, "gradient_variance": 300.0, "noise_scale": 300.0}, []

    for seed in (0, 1, 2):
        made.write_run(tmp_path / f"a{seed}", regime="baseline", model="lenet", seed=seed, rows=60, more_rows=rows)
    found = catalogue.draw("noise_scale", *loaded(tmp_path))
    assert "On lenet." in found.caption and "not drawn" not in found.caption
    for regime in ("baseline", "large"):
        made.write_run(tmp_path / regime, regime=regime, rows=60, more_rows=rows)
    found = catalogue.draw("noise_scale", *loaded(tmp_path))
    assert "On lenet5. Also run and not drawn: lenet." in found.caption and f"{tmp_path}/a" not in found.caption
    assert set(lines(found.figure.axes[0])) == {"sgd, batch 256", "lars, batch 8,192"}
