"""Figures 11 and 12: laws are recovered from paths that follow them, and only from rows that hold a distance."""

import json

import numpy as np
import pytest

from reference import made_figures as made
from reference.drawn import lines, loaded, texts
from tf_hugebatch.reports import catalogue, distance

STEPS = np.arange(1, 1001)


def paths(alpha, seeds=6, noise=0.02, scale=1.5, seed=0):
    """Paths with E||w_t - w_0||^2 near scale^2 (log t)^(4 / alpha): each has a random walk of its own on top."""
    generator = np.random.default_rng(seed)
    walks = noise * np.cumsum(generator.normal(size=(seeds, len(STEPS))), 1) / np.sqrt(len(STEPS))
    return scale * np.log(STEPS + 1e-9) ** (2 / alpha) * np.exp(walks) + 1e-12


@pytest.mark.parametrize("alpha", [1.2, 2.0, 3.5])
def test_alpha_of_paths_that_follow_the_law_is_found_within_its_interval(alpha):
    law = distance.fit(STEPS, paths(alpha))
    assert law.alpha == pytest.approx(alpha, rel=0.05) and law.scale == pytest.approx(1.5, rel=0.1)
    low, high = law.interval
    assert low < law.alpha < high and low - 0.02 * alpha < alpha < high + 0.02 * alpha
    assert law.better == "(log t)^(2/alpha)" and law.off_log < 0.2 * law.off_walk < law.off_sqrt


@pytest.mark.parametrize("seeds", [2, 5])
def test_the_interval_holds_alpha_about_as_often_as_it_says(seeds):
    held = 0
    for seed in range(200):
        low, high = distance.fit(STEPS, paths(2.0, seeds=seeds, noise=0.2, seed=seed)).interval
        held += low <= 2.0 <= high
    assert 0.91 <= held / 200 <= 0.99  # 0.95 and two and a half standard deviations; resampled seeds' percentiles have 0.8 of 5


def test_where_no_growth_is_within_the_interval_alpha_has_no_upper_end():
    flat = np.exp(np.array([[0.1], [-0.1]]) * np.log(np.log(STEPS + 1.0)))
    assert distance.fit(STEPS, flat).interval[1] == np.inf


def test_a_random_walk_on_a_flat_potential_is_told_apart():
    generator = np.random.default_rng(0)
    walk = np.cumsum(generator.normal(size=(8, len(STEPS), 400)), 1)
    law = distance.fit(STEPS, np.linalg.norm(walk, axis=-1))
    assert law.better == "sqrt(a + c t)" and law.off_walk <= law.off_sqrt < 0.02 < law.off_log


@pytest.mark.parametrize("a, c, first", [(9.0, 0.01, 10), (-30.0, 1.0, 40)])
def test_a_walk_from_where_a_descent_ended_is_no_logarithm(a, c, first):
    law = distance.fit(STEPS, np.sqrt(np.maximum(a + c * STEPS, 1e-9))[None], first)
    assert law.better == "sqrt(a + c t)" and law.off_walk < 2e-3
    assert 10 * law.off_walk < min(law.off_log, law.off_power, law.off_sqrt)


def test_a_free_power_is_told_from_a_logarithm_where_the_path_says_so():
    power = distance.fit(STEPS, 2.0 * STEPS[None] ** 0.1)
    assert power.power == pytest.approx(0.1) and power.off_power < 1e-6 < 1e-3 < power.off_log
    logarithm = distance.fit(STEPS, paths(2.0, noise=0.0))
    assert logarithm.off_log < 1e-6 < 1e-2 < logarithm.off_power < logarithm.off_walk < logarithm.off_sqrt
    # After the descent both are slow, and what tells them apart is a hundredth in log distance.
    late = distance.fit(STEPS, paths(10.0, noise=0.0), first=60)
    assert late.columns()["off_power"] == late.off_power < 0.02 < 0.3 < late.off_sqrt


def test_few_seeds_have_no_interval_and_few_rows_no_law():
    assert distance.fit(STEPS, paths(2.0, seeds=1)).interval is None
    assert distance.fit(STEPS[:11], paths(2.0)[:, :11]) is None


def test_late_updates_do_not_decide_alone():
    # The law changes at update 100: most updates come after it, most of log t before.
    bent = np.where(STEPS <= 100, np.log(STEPS + 1e-9), np.log(100.0) * (STEPS / 100) ** 0.5)[None]
    law = distance.fit(STEPS, bent + 1e-12)
    assert law.alpha > 0.9  # over all updates alike it would come to 0.75


def test_the_window_begins_where_the_loss_has_fallen_for_good():
    steps, losses = np.arange(1, 101), np.full(100, 2.0)
    losses[30:] = 0.9
    losses[40] = 1.01  # above half once more
    assert distance.window_start(steps, losses, 0.5) == 42
    assert distance.window_start(steps, losses, 0.6) == 31
    assert distance.window_start(steps, losses, None) == distance.FIRST_UPDATE
    assert distance.window_start(steps, losses, 0.1) is None  # it never falls so far
    assert distance.window_start(steps, np.full(100, np.nan), 0.5) is None
    assert distance.window_start(steps, np.r_[2.0, np.full(99, 0.1)], 0.5) == distance.FIRST_UPDATE


def test_a_descent_before_the_walk_is_in_no_fit_but_that_of_all_updates(tmp_path):
    def descent(step):
        return np.log(step) if step > 60 else np.log(60) * (step / 60) ** 2

    made.write_run(tmp_path / "a", batch_size=1024, rows=1000, **made.DIFFUSION, distance=descent,
                   losses=[2.3] * 60 + [0.5] * 940)
    found = catalogue.draw(11, *loaded(tmp_path))
    laws = {row["loss_stays_below_share"]: row for row in found.rows if "alpha" in row}
    assert laws[0.5]["fitted_from"] == laws[0.25]["fitted_from"] == 61 and laws[0.5]["alpha"] == pytest.approx(2.0)
    assert laws[""]["fitted_from"] == 10 and laws[""]["alpha"] < 1.5
    assert set(laws) == {0.5, 0.25, ""}  # the loss never falls to a tenth
    for words in ("from update 61 on alpha 2", "in log distance, sqrt(a + c t) by", ", t^0.18 by", "in other windows: from 10 alpha"):
        assert words in found.caption


def test_a_run_that_diverged_cuts_no_path_and_has_no_part_in_the_loss_at_the_end(tmp_path):
    for seed, status in ((1, "done"), (2, "diverged")):
        folder = made.write_run(tmp_path / str(seed), batch_size=1024, rows=1000, seed=seed, status=status,
                                **made.DIFFUSION, distance=np.log)
        if status == "diverged":
            rows = folder / "metrics.jsonl"
            rows.write_text("".join(line for line in rows.open() if json.loads(line)["step"] <= 40))
        path = folder / "status.json"
        found = json.loads(path.read_text())
        path.write_text(json.dumps({**found, "final": {**found["final"], "train_loss": 0.1 if status == "done" else 9.0}}))
    found = catalogue.draw(11, *loaded(tmp_path))
    [row] = [row for row in found.rows if row.get("loss_stays_below_share") == 0.5]
    assert row["updates"] == 1000 and "without 1 seed that diverged" in found.caption
    assert row["n"] == 1 and row["train_loss"] == pytest.approx(0.1)


def test_a_seed_that_never_descended_is_in_no_mean(tmp_path):
    for seed in (1, 2, 3):
        folder = made.write_run(tmp_path / str(seed), batch_size=1024, rows=1000, seed=seed, **made.DIFFUSION, distance=np.log)
        if seed == 3:
            rows = folder / "metrics.jsonl"
            rows.write_text("".join(json.dumps({**row, "loss": 2.3} if "loss" in row else row) + "\n"
                                    for row in map(json.loads, rows.read_text().splitlines())))
    found = catalogue.draw(11, *loaded(tmp_path))
    [row] = [row for row in found.rows if row.get("loss_stays_below_share") == 0.5]
    assert row["n"] == 2 and "without 1 seed that diverged or whose loss never stayed below half" in found.caption


def without_distance(folder, gone):
    """Takes the distance out of the rows of a run whose update is `gone`, a function of it."""
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    (folder / "metrics.jsonl").write_text("".join(json.dumps(
        {name: value for name, value in row.items() if name != "distance_from_start" or not gone(row["step"])}) + "\n"
        for row in rows))


LATE_LOSSES = [2.3] * 60 + [0.5 * (1 - place / 1e4) for place in range(940)]  # after the descent no half of its first is left


def test_a_run_measured_from_a_resume_on_descended_before_and_what_is_missing_is_named(tmp_path):
    for seed in (1, 2, 3):
        made.write_run(tmp_path / str(seed), batch_size=1024, seed=seed, **made.DIFFUSION, distance=np.log, losses=LATE_LOSSES)
    without_distance(tmp_path / "3", lambda step: step <= 300)
    found = catalogue.draw(11, *loaded(tmp_path))
    [row] = [row for row in found.rows if row.get("loss_stays_below_share") == 0.5]
    assert row["n"] == 3 and row["fitted_from"] == 61 and row["alpha"] == pytest.approx(2.0)
    assert "without 1 seed" not in found.caption
    assert f"{tmp_path}/3: no distance in 240 of 940 rows from update 61 on, between updates 61 and 300." in found.caption
    assert f"{tmp_path}/1: no distance" not in found.caption


def test_the_first_loss_is_that_of_the_first_row_and_a_later_one_is_named(tmp_path):
    folder = made.write_run(tmp_path / "a", batch_size=1024, **made.DIFFUSION, distance=np.log, losses=LATE_LOSSES)
    without_distance(folder, lambda step: step <= 20)
    whole = catalogue.draw(11, *loaded(tmp_path)).caption
    assert "no distance" not in whole and "stands for the first" not in whole  # before the window none is missed
    rows = [row for row in (folder / "metrics.jsonl").read_text().splitlines(keepends=True) if json.loads(row)["step"] > 20]
    (folder / "metrics.jsonl").write_text("".join(rows))
    assert "no loss before update 21, whose loss stands for the first" in catalogue.draw(11, *loaded(tmp_path)).caption


def test_text_in_the_place_of_a_distance_is_a_distance_that_is_missing(tmp_path):
    folder = made.write_run(tmp_path / "a", batch_size=1024, **made.DIFFUSION, distance=np.log, losses=LATE_LOSSES)
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    (folder / "metrics.jsonl").write_text("".join(json.dumps(
        {**row, "distance_from_start": "far"} if row["step"] == 500 and row["kind"] == "train" else row) + "\n" for row in rows))
    found = catalogue.draw(11, *loaded(tmp_path))
    assert f"{tmp_path}/a: no distance in 1 of 940 rows from update 61 on, between updates 500 and 500." in found.caption


def test_batches_of_one_setting_are_drawn_beside_each_other_and_no_others(tmp_path):
    common = {**made.DIFFUSION, "rows": 200, "distance": np.log}
    for batch in (256, 1024):
        made.write_run(tmp_path / f"z{batch}", batch_size=batch, learning_rate=0.05, model="lenet5", **common)
    made.write_run(tmp_path / "a", batch_size=1024, learning_rate=0.8, model="lenet5", **common)
    made.write_run(tmp_path / "b", batch_size=8192, learning_rate=0.05, model="lenet", **common)
    found = catalogue.draw(11, *loaded(tmp_path))
    assert {row["batch"] for row in found.rows} == {"batch 256", "batch 1,024"}
    assert "sgd on lenet5." in found.caption and "2 settings that fewer of these batches share: not drawn." in found.caption
    assert any(blank.what.endswith("batch 8,192") for blank in found.blanks)


def test_only_rows_that_hold_a_distance_are_drawn(tmp_path):
    for seed in (1, 2, 3):
        made.write_run(tmp_path / f"a{seed}", batch_size=1024, rows=100, seed=seed, accuracy=0.97, **made.DIFFUSION,
                       distance=lambda step, seed=seed: (2 + 0.01 * seed) * np.log(step))
    made.write_run(tmp_path / "b", batch_size=256, rows=100, **made.DIFFUSION)
    made.write_run(tmp_path / "c", batch_size=8192, rows=100, distance=np.log1p, epochs=30)
    found = catalogue.draw(11, *loaded(tmp_path))
    far, ends = found.figure.axes
    drawn = lines(far)
    assert set(label for label in drawn if label.startswith(("batch", "full"))) == {"batch 1,024, n = 3"}
    [fit] = [data for label, data in drawn.items() if label.startswith("(log t)")]
    together = np.sqrt(np.mean([(2 + 0.01 * s) ** 2 for s in (1, 2, 3)]))
    np.testing.assert_allclose(fit[:, 1], together * np.log(fit[:, 0]), rtol=1e-6)
    # The mean of the three would be 2e-5 lower.
    assert far.lines[0].get_ydata()[-1] == pytest.approx(together * np.log(1000), rel=1e-7)
    assert far.get_xscale() == "log"
    [summary] = [row for row in found.rows if row.get("loss_stays_below_share") == distance.WINDOW_SHARE]
    assert summary["alpha"] == pytest.approx(2.0) and summary["n"] == 3 and summary["updates"] == 1000
    assert summary["test_accuracy_percent"] == pytest.approx(97.0) and summary["train_loss"] == pytest.approx(0.02)
    assert "alpha 2 (2.00 to 2.00)" in found.caption and "test accuracy 97.00%" in found.caption
    assert {blank.what.split(": ")[1] for blank in found.blanks} == \
        {"batch 256", "batch 8,192", "batch 32,768", "full batch (60,000)"}


def test_seeds_that_ran_without_measuring_too_hide_no_distance(tmp_path):
    for seed in (1, 2, 3):
        made.write_run(tmp_path / "a" / str(seed), batch_size=1024, seed=seed, rows=100, **made.DIFFUSION)
        made.write_run(tmp_path / "b" / str(seed), batch_size=1024, seed=seed, rows=100, distance=np.log1p, **made.DIFFUSION)
    found = catalogue.draw(11, *loaded(tmp_path))
    assert "batch 1,024, n = 3" in texts(found.figure)
