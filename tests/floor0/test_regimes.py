"""ImageNet's regimes: the published values, what is marked as whose, and what a choice of the user's displaces."""

import pytest

from tf_hugebatch import published, regimes
from tf_hugebatch.regimes import REGIMES
from tf_hugebatch.settings import Settings

IMAGENET = REGIMES["imagenet2012"]


@pytest.mark.parametrize("regime, batch, optimizer, schedule, updates", [
    ("baseline", 256, "sgd", "cosine", 450_411), ("large", 32_768, "lars", "polynomial", 2_346),
    ("huge", 819_200, "lars", "cosine", 141), ("full", 1_281_167, "lars", "cosine", 90),
])
@pytest.mark.parametrize("dataset", ["imagenet2012", "synthetic"])
def test_a_regime_alone_is_a_run(dataset, regime, batch, optimizer, schedule, updates):
    found = Settings(dataset=dataset, regime=regime)
    assert (found.batch_size, found.optimizer, found.schedule) == (batch, optimizer, schedule)
    assert found.total_updates == updates and 0 < found.warmup_updates < updates
    assert found.model == "resnet50" and found.sources["batch_size"] == f"regime {regime}"


def test_baseline_is_the_rate_that_linear_scaling_starts_from():
    assert Settings(dataset="imagenet2012").peak_rate == pytest.approx(0.1)
    assert Settings(dataset="imagenet2012", batch_size=8_192).peak_rate == pytest.approx(3.2)


def test_large_is_the_submission_of_v1_0_with_mlperfs_lars():
    found, row = Settings(dataset="imagenet2012", regime="large"), published.mlperf_row(32_768, "v1.0")
    assert (found.peak_rate, found.momentum, found.weight_decay) == (row.peak_rate, row.momentum, row.weight_decay)
    assert (found.epochs, found.warmup_epochs, found.bn_span) == (60, 18, 64)
    assert (found.poly_power, found.end_learning_rate, found.warmup_from) == (2, 1e-4, "zero")
    # What the preset says the row says already: rates of this size mean a trust coefficient of 0.001.
    preset = Settings(dataset="imagenet2012", regime="large", optimizer_preset="mlperf")
    assert found.trust_coefficient == 0.001 and preset.experiment_hash() == found.experiment_hash()


@pytest.mark.parametrize("regime", ["huge", "full"])
def test_what_the_paper_does_not_publish_is_not_marked_as_its_own(regime):
    recipe = IMAGENET[regime]
    for name in ("peak_learning_rate", "warmup_epochs", "momentum", "weight_decay"):
        assert recipe[name].mark == "ours", name
    assert {recipe[name].mark for name in ("batch_size", "epochs", "optimizer", "schedule")} == {"paper"}
    assert "publishes none" in recipe["peak_learning_rate"].note


@pytest.mark.parametrize("regime", IMAGENET)
def test_mlperfs_mark_is_the_large_regimes_alone(regime):
    assert ("MLPerf" in {value.mark for value in IMAGENET[regime].values()}) == (regime == "large")


def test_another_optimizer_takes_neither_the_peak_nor_the_momentum_of_the_regime():
    found = Settings(dataset="imagenet2012", regime="large", optimizer="lamb")
    assert found.peak_learning_rate is None and found.momentum is None and found.weight_decay == 0.01
    assert found.learning_rate == 0.002 and found.lr_scaling == "sqrt"
    assert found.schedule == "polynomial" and found.bn_span == 64


def test_a_rate_of_the_users_displaces_the_regimes_peak():
    found = Settings(dataset="imagenet2012", regime="huge", learning_rate=0.01)
    assert found.peak_learning_rate is None and found.peak_rate == pytest.approx(0.01 * 819_200 / 256)


# CIFAR-10.


@pytest.mark.parametrize("regime, batch, optimizer, updates", [
    ("baseline", 128, "sgd", 78_125), ("large", 25_000, "lars", 400), ("huge", 32_768, "lars", 306),
    ("full", 50_000, "lars", 200),
])
def test_a_regime_of_cifar10_alone_is_a_run(regime, batch, optimizer, updates):
    found = Settings(dataset="cifar10", regime=regime)
    assert (found.batch_size, found.optimizer, found.total_updates) == (batch, optimizer, updates)
    assert (found.epochs, found.model, found.bn_span) == (200, "resnet50_v1", published.BATCH_NORM_EXAMPLES)
    assert found.peak_rate == pytest.approx(0.1) if regime == "baseline" else found.peak_rate > 1


@pytest.mark.parametrize("regime", REGIMES["cifar10"])
def test_what_the_paper_does_not_say_of_cifar10_is_not_marked_as_its_own(regime):
    recipe = REGIMES["cifar10"][regime]
    papers = {name for name, value in recipe.items() if value.mark == "paper"}
    assert papers <= {"batch_size", "epochs", "optimizer", "lr_scaling"}
    assert ("batch_size" in papers) == (regime != "huge")


def test_a_data_set_may_take_anothers_regimes():
    assert regimes.of("synthetic") is regimes.of("imagenet2012") and regimes.of("cifar10") is REGIMES["cifar10"]
