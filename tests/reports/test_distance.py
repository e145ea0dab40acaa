"""Figures 11 and 12: laws are recovered from paths that follow them, and only from rows that hold a distance."""

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
    assert law.better == "(log t)^(2/alpha)" and law.off_log < 0.2 * law.off_sqrt


def test_the_interval_holds_alpha_about_as_often_as_it_says():
    held = 0
    for seed in range(60):
        low, high = distance.fit(STEPS, paths(2.0, seeds=12, noise=0.2, seed=seed)).interval
        held += low <= 2.0 <= high
    assert 0.8 <= held / 60 <= 1.0  # a bootstrap over 12 paths is somewhat narrow


def test_a_random_walk_on_a_flat_potential_is_told_apart():
    generator = np.random.default_rng(0)
    walk = np.cumsum(generator.normal(size=(8, len(STEPS), 400)), 1)
    law = distance.fit(STEPS, np.linalg.norm(walk, axis=-1))
    assert law.better == "sqrt(t)" and law.off_sqrt < 0.02 < law.off_log


def test_few_seeds_have_no_interval_and_few_rows_no_law():
    assert distance.fit(STEPS, paths(2.0, seeds=2)).interval is None
    assert distance.fit(STEPS[:11], paths(2.0)[:, :11]) is None


def test_late_updates_do_not_decide_alone():
    # The law changes at update 100: most updates come after it, most of log t before.
    bent = np.where(STEPS <= 100, np.log(STEPS + 1e-9), np.log(100.0) * (STEPS / 100) ** 0.5)[None]
    law = distance.fit(STEPS, bent + 1e-12)
    assert law.alpha > 0.9  # over all updates alike it would come to 0.75


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
    np.testing.assert_allclose(fit[:, 1], np.sqrt(np.mean([(2 + 0.01 * s) ** 2 for s in (1, 2, 3)])) * np.log(fit[:, 0]),
                               rtol=1e-6)
    assert far.get_xscale() == "log"
    summary = found.rows[-1]
    assert summary["alpha"] == pytest.approx(2.0) and summary["n"] == 3 and summary["updates"] == 1000
    assert summary["test_accuracy_percent"] == pytest.approx(97.0) and summary["train_loss"] == pytest.approx(0.02)
    assert "alpha 2 (2.00 to 2.00)" in found.caption and "test accuracy 97.00%" in found.caption
    assert {blank.what.split(": ")[1] for blank in found.blanks} == \
        {"batch 256", "batch 8,192", "batch 32,768", "full batch (60,000)"}
