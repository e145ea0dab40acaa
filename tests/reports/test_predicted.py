"""The prediction of B_L from the noise scale: its rule on known numbers, and where its numbers come from."""

import numpy as np
import pytest
from reference import made_figures as made
from reference.drawn import loaded

from tf_hugebatch.reports import catalogue, predicted
from tf_hugebatch.reports.predicted import Measured


def test_the_factor_and_the_prediction_are_as_wide_as_what_they_are_made_of():
    fixes = Measured(100.0, (80.0, 125.0), (250, 2000))
    low, high = predicted.factor(fixes)
    assert (low, high) == (2.0, 25.0)
    assert predicted.predicted(Measured(20.0, (10.0, 40.0), (None, None)), (low, high)) == (20.0, 1000.0)


@pytest.mark.parametrize("limits, said", [
    ((64, 128), "agrees"), ((999, 5000), "agrees"), ((1000, 5000), "differs"), ((4, 20), "agrees"), ((4, 19), "differs"),
    ((None, 128), "not measured"), ((64, None), "not measured")])
def test_a_prediction_agrees_where_the_intervals_meet(limits, said):
    assert predicted.verdict(Measured(20.0, (10.0, 40.0), limits), (20.0, 1000.0)) == said


def noise(scale):
    power = 0.0 if scale == np.inf else 1.0
    return lambda step: ({"gradient_power": power, "gradient_variance": scale if power else 1.0, "noise_scale": scale}, [])


def network(folder, model, scale, accuracies, seeds=5, told=None):
    """A baseline with a noise scale, in `told` of its seeds, and linear scaling at larger batches: {batch: accuracy}."""
    for seed in range(seeds):
        made.write_run(folder / f"{model}_256_{seed}", regime="baseline", model=model, seed=seed, accuracy=0.99,
                       more_rows=noise(scale) if seed < (told or seeds) else None)
        for batch, accuracy in accuracies.items():
            made.write_run(folder / f"{model}_{batch}_{seed}", regime="baseline", model=model, seed=seed, batch_size=batch,
                           accuracy=accuracy)


def test_the_noise_scale_is_that_of_the_baselines_own_setting(tmp_path):
    network(tmp_path, "lenet5", 50.0, {1024: 0.99, 2048: 0.90})
    others = {"nesterov": {"nesterov": True}, "rate": {"learning_rate": 0.2}, "schedule": {"schedule": "constant"}}
    for name, own in others.items():
        for seed in range(9):
            made.write_run(tmp_path / f"a_{name}" / f"{seed}", regime="baseline", model="lenet5", seed=seed, accuracy=0.999,
                           more_rows=noise(1.0), **own)
    [row] = catalogue.draw("predicted_large_batch", *loaded(tmp_path)).rows
    assert row["noise_scale"] == 50.0


def test_one_network_fixes_the_factor_and_another_is_predicted(tmp_path):
    network(tmp_path, "lenet5", 50.0, {1024: 0.99, 2048: 0.90})
    network(tmp_path, "lenet", 100.0, {1024: 0.99, 2048: 0.99, 4096: 0.90})
    found = catalogue.draw("predicted_large_batch", *loaded(tmp_path))
    first, second = found.rows
    assert (first["noise_scale"], first["holds_at"], first["fails_at"], first["verdict"]) == (50.0, 1024, 2048, "fixes c")
    assert first["predicted_low"] is None
    assert (second["predicted_low"], second["predicted_high"]) == pytest.approx((2048.0, 4096.0))
    assert (second["holds_at"], second["fails_at"], second["verdict"]) == (2048, 4096, "agrees")
    assert [blank.what for blank in found.blanks] == ["Predicted large batch: cifar10, resnet20"]
    assert "B_L = c S with c from 20.5 to 41" in found.caption


def test_seeds_that_ran_without_measuring_too_hide_no_noise_scale(tmp_path):
    network(tmp_path / "b", "lenet5", 50.0, {1024: 0.99, 2048: 0.90}, seeds=3)
    network(tmp_path / "a", "lenet", 100.0, {}, seeds=3)
    for model in ("lenet5", "lenet"):
        for seed in range(5):
            made.write_run(tmp_path / "a_plain" / f"{model}{seed}", regime="baseline", model=model, seed=seed, accuracy=0.99)
    found = catalogue.draw("predicted_large_batch", *loaded(tmp_path))
    assert [row["seeds"] for row in found.rows] == [3, 3] and found.rows[0]["verdict"] == "fixes c"


def test_s_is_the_median_over_stretches_and_then_over_seeds(tmp_path):
    for seed, scale in enumerate((10.0, 20.0, 900.0)):
        # A third of the run has 40 times the scale, a sixth hardly any.
        def rows(step, scale=scale):
            here = scale * (40 if step > 4688 else 0.01 if step < 1172 else 1)
            return {"gradient_power": 1.0, "gradient_variance": here, "noise_scale": here}, []
        made.write_run(tmp_path / str(seed), regime="baseline", model="lenet5", seed=seed, accuracy=0.99, rows=300, more_rows=rows)
    [row] = catalogue.draw("predicted_large_batch", *loaded(tmp_path)).rows
    assert (row["noise_scale"], row["noise_scale_low"], row["noise_scale_high"], row["seeds"]) == (20.0, 10.0, 900.0, 3)


def test_neither_one_seed_nor_a_scale_beyond_what_shows_fixes_or_predicts(tmp_path):
    for name, of_first, of_second in (("few", {"told": 2}, {}), ("infinite", {"scale": np.inf}, {}), ("second", {}, {"told": 2})):
        network(tmp_path / name, "lenet5", **{"scale": 50.0, "accuracies": {1024: 0.99, 2048: 0.90}, **of_first})
        network(tmp_path / name, "lenet", **{"scale": 100.0, "accuracies": {1024: 0.99, 2048: 0.99, 4096: 0.90}, **of_second})
        found = catalogue.draw("predicted_large_batch", *loaded(tmp_path / name))
        assert [row["verdict"] for row in found.rows] == ["fixes c" if name == "second" else "no prediction", "no prediction"]
        assert ("does not say c yet" in found.caption) == (name != "second") and found.figure is not None


def test_without_the_first_network_nothing_is_predicted_and_the_caption_says_why(tmp_path):
    network(tmp_path, "lenet", 100.0, {1024: 0.99, 2048: 0.90})
    found = catalogue.draw("predicted_large_batch", *loaded(tmp_path))
    assert [row["verdict"] for row in found.rows] == ["no prediction"]
    assert "mnist, lenet5 does not say c yet" in found.caption


def test_the_limit_of_other_images_is_not_set_beside_the_noise_scale(tmp_path):
    network(tmp_path, "lenet5", 50.0, {512: 0.99, 1024: 0.90})
    alone = catalogue.draw("predicted_large_batch", *loaded(tmp_path)).rows
    for seed in range(5):
        for batch, accuracy in ((256, 0.99), (4096, 0.99), (8192, 0.90)):
            made.write_run(tmp_path / f"other_{batch}_{seed}", regime="baseline", model="lenet5", seed=seed, batch_size=batch,
                           accuracy=accuracy, note="recompressed")
    assert (alone[0]["holds_at"], alone[0]["fails_at"]) == (512, 1024)
    assert catalogue.draw("predicted_large_batch", *loaded(tmp_path)).rows == alone
