"""Settings: which level decides, what follows from the values, what is hashed."""

import copy
import json
import math
import pickle

import pytest

from tf_hugebatch import registry
from tf_hugebatch.fields import FIELDS
from tf_hugebatch.regimes import REGIMES, Value
from tf_hugebatch.settings import Refusal, Settings, resolve


def resolved(*levels):
    settings, problems = resolve(levels)
    assert problems == []
    return settings


# Priority.


def test_each_level_gives_way_to_the_one_above():
    default = Settings()
    assert (default.batch_size, default.sources["batch_size"]) == (256, "regime baseline")
    assert (default.momentum, default.sources["momentum"]) == (0.9, "optimizer row sgd")
    assert (default.model, default.sources["model"]) == ("lenet", "dataset row mnist")
    assert (default.seed, default.sources["seed"]) == (0, "default")
    both = resolved(("command line", {"batch_size": "512"}),
                    ("flagfile a", {"batch_size": "1024", "seed": "7"}))
    assert (both.batch_size, both.sources["batch_size"]) == (512, "command line")
    assert (both.seed, both.sources["seed"]) == (7, "flagfile a")


@pytest.mark.parametrize("given, updates, epochs", [
    ({"regime": "large", "epochs": 2}, 15, 5 / 30 * 15 * 8192 / 60_000),
    ({"regime": "large", "train_steps": 10}, 10, 5 / 30 * 10 * 8192 / 60_000),
    ({"regime": "huge", "epochs": 10}, 19, 15 / 30 * 19 * 32768 / 60_000), ({"regime": "large", "epochs": 6}, 44, 5.0),
    ({"dataset": "imagenet2012", "train_steps": 2}, 2, 5 / 90 * 2 * 256 / 1_281_167)])
def test_a_regimes_warm_up_keeps_its_share_of_a_run_that_is_shorter_than_it(given, updates, epochs):
    settings = Settings(**given)
    assert settings.total_updates == updates and settings.warmup_epochs == pytest.approx(epochs)
    assert settings.warmup_updates <= updates
    assert ("share of a shorter run" in settings.sources["warmup_epochs"]) == (epochs != 5.0)
    assert settings.replace(seed=3).warmup_epochs == settings.warmup_epochs
    with pytest.raises(Refusal, match="longer than the run"):
        Settings(**given, warmup_epochs=50)


def test_preset_lies_between_the_row_and_the_user():
    settings = Settings(optimizer="lars", optimizer_preset="larc", epsilon=0.5)
    assert settings.trust_coefficient == 0.02
    assert settings.sources["trust_coefficient"] == "optimizer_preset larc"
    assert settings.epsilon == 0.5
    assert settings.momentum == 0.9
    assert settings.exclude_from_decay == ()


@pytest.mark.parametrize("preset", registry.PRESETS["lars"])
def test_preset_displaces_the_regimes_values_for_what_it_states(preset, monkeypatch):
    recipe = {**REGIMES["mnist"]["large"],
              "epsilon": Value(0.25, "ours", "for this test"),
              "momentum": Value(0.75, "ours", "for this test")}
    monkeypatch.setitem(REGIMES["mnist"], "large", recipe)
    settings = Settings(regime="large", optimizer_preset=preset)
    for name, value in registry.PRESETS["lars"][preset].items():
        assert getattr(settings, name) == value, name
        assert settings.sources[name] == f"optimizer_preset {preset}"
    assert (settings.momentum, settings.sources["momentum"]) == (0.75, "regime large")
    assert (settings.learning_rate, settings.batch_size) == (recipe["learning_rate"].value, 8_192)


def test_mlperf_under_the_large_regime_excludes_biases_and_norms_again():
    assert Settings(regime="large").exclude_from_adaptation == ()
    settings = Settings(regime="large", optimizer_preset="mlperf")
    assert settings.exclude_from_decay is None and settings.exclude_from_adaptation is None
    assert Settings(**settings.as_dict()) == settings


def test_a_span_that_norm_local_displaced_is_no_span_beside_it():
    settings = Settings(dataset="cifar10", norm="local", micro_batch_size=32)
    assert settings.bn_span is None and Settings(**settings.as_dict()) == settings


def test_preset_lies_below_what_any_level_of_the_user_states():
    settings = resolved(("command line", {"optimizer_preset": "mlperf", "regime": "large"}),
                        ("flagfile a", {"exclude_from_decay": "none"}))
    assert (settings.exclude_from_decay, settings.sources["exclude_from_decay"]) == ((), "flagfile a")
    assert settings.exclude_from_adaptation is None


@pytest.mark.parametrize("given, gone", [
    ({"train_steps": 10}, ["epochs"]),
    ({"regime_adaptation": True}, ["epochs"]),
    ({"warmup_steps": 3}, ["warmup_epochs"]),
    ({"peak_learning_rate": 0.3}, ["learning_rate", "lr_scaling"]),
])
def test_a_value_displaces_its_partners_from_lower_levels(given, gone):
    settings = Settings(**given)
    assert all(getattr(settings, name) is None for name in gone)


def test_partners_on_two_levels_the_higher_stays():
    settings = resolved(("command line", {"epochs": "2"}), ("flagfile a", {"train_steps": "7"}))
    assert (settings.epochs, settings.train_steps) == (2.0, None)


def test_learning_rate_above_leaves_the_scaling_rule_below_alone():
    settings = resolved(("command line", {"learning_rate": "0.2", "batch_size": "512"}),
                        ("flagfile a", {"lr_scaling": "sqrt"}))
    assert settings.peak_rate == pytest.approx(0.2 * math.sqrt(2))


def test_another_optimizer_brings_its_own_rate_and_flags_not_the_regimes(monkeypatch):
    recipe = {**REGIMES["mnist"]["large"],
              "weight_decay": Value(0.125, "ours", "for this test")}
    monkeypatch.setitem(REGIMES["mnist"], "large", recipe)
    own, other = Settings(regime="large"), Settings(regime="large", optimizer="adam")
    assert own.sources["learning_rate"] == "regime large" and own.weight_decay == 0.125
    row = registry.OPTIMIZERS["adam"].settings
    assert (other.learning_rate, other.lr_scaling) == (row["learning_rate"], row["lr_scaling"])
    assert other.weight_decay == row["weight_decay"]
    assert (other.batch_size, other.schedule) == (own.batch_size, own.schedule)


def test_naming_the_regimes_own_optimizer_changes_nothing():
    assert Settings(regime="large", optimizer="lars") == Settings(regime="large")


def test_another_schedule_brings_its_own_flags(monkeypatch):
    recipe = {**REGIMES["mnist"]["large"],
              "end_learning_rate": Value(0.125, "ours", "for this test")}
    monkeypatch.setitem(REGIMES["mnist"], "large", recipe)
    assert Settings(regime="large").end_learning_rate == 0.125
    assert Settings(regime="large", schedule="cosine").end_learning_rate == 0.0


@pytest.mark.parametrize("regime, batch, optimizer, updates", [
    ("baseline", 256, "sgd", 7_032), ("large", 8_192, "lars", 220), ("huge", 32_768, "lamb", 55),
    ("full", 60_000, "lamb", 30),
])
def test_regimes_of_mnist(regime, batch, optimizer, updates):
    settings = Settings(regime=regime)
    assert (settings.batch_size, settings.optimizer, settings.total_updates) == (batch, optimizer, updates)
    assert 0 <= settings.warmup_updates < settings.total_updates
    assert settings.momentum is None if optimizer == "lamb" else settings.momentum == 0.9


def test_replicas_may_be_counted_without_naming_the_strategy():
    settings = Settings(num_replicas=4)
    assert (settings.strategy, settings.num_replicas) == ("auto", 4)


# What follows.


def test_full_batch_is_what_the_split_leaves():
    settings = Settings(batch_size="full", validation_examples=5_000, epochs=3)
    assert (settings.batch_size, settings.train_examples, settings.total_updates) == (55_000, 55_000, 3)
    assert Settings(dataset="mnist5k", batch_size="full").batch_size == 4_000


def test_regime_adaptation_makes_as_many_updates_as_the_baseline():
    assert Settings(batch_size=32_768, regime_adaptation=True).total_updates == Settings().total_updates


def test_regime_adaptation_stretches_every_period_that_no_user_gave():
    baseline = Settings(dataset="cifar10", schedule="steps", peak_learning_rate=0.1)
    adapted = Settings(dataset="cifar10", schedule="steps", peak_learning_rate=0.1, batch_size=12_800, regime_adaptation=True)
    at = [[one.stages.whole_updates(epoch) for epoch, _ in one.rate_drops] for one in (baseline, adapted)]
    assert at[1] == pytest.approx(at[0], abs=1) and "stretched by regime adaptation, 100" in adapted.sources["rate_drops"]
    given = Settings(dataset="cifar10", schedule="steps", peak_learning_rate=0.1, batch_size=12_800, regime_adaptation=True,
                     rate_drops="30:10")
    assert given.rate_drops == ((30, 10),)
    plain, long = Settings(regime="huge"), Settings(regime="huge", regime_adaptation=True)
    shares = [one.warmup_updates / one.total_updates for one in (plain, long)]
    assert shares[1] == pytest.approx(shares[0], abs=0.01) and long.total_updates == Settings().total_updates
    assert Settings(regime="huge", regime_adaptation=True, warmup_epochs=5).warmup_epochs == 5


def test_settings_can_be_given_again_where_a_rows_last_drop_comes_too_late():
    settings = Settings(dataset="cifar10", schedule="steps", epochs=70, peak_learning_rate=0.1)
    assert Settings(**settings.as_dict()) == settings


def test_warmup_and_peak():
    settings = Settings(batch_size=8_192, warmup_epochs=5, learning_rate=0.1, lr_scaling="linear")
    assert settings.warmup_updates == 37
    assert settings.peak_rate == pytest.approx(3.2)
    assert Settings(batch_size=8_192, warmup_steps=4, peak_learning_rate=1.5).warmup_updates == 4
    assert Settings(batch_size=8_192, peak_learning_rate=1.5).peak_rate == 1.5


def test_a_batch_that_grows_is_counted_in_epochs():
    settings = Settings(batch_size=256, epochs=30, batch_growth="10:5,20:5", warmup_epochs=11)
    assert settings.total_updates == 2_907 and settings.updates_per_epoch == 234.375
    assert settings.warmup_updates == 2_344 + 47  # 11 epochs end 46.825 updates of 1,280 later
    text = settings.text()
    assert "10:5,20:5" in text and "to 1,280 after 2,344 updates, epoch 10" in text and "to 6,400" in text


def test_values_that_the_choice_does_not_take_are_blank():
    settings = Settings(optimizer="adam", schedule="constant")
    assert settings.momentum is None and settings.lars_denominator is None
    assert settings.poly_power is None and settings.cycles is None


@pytest.mark.parametrize("name", list(registry.OPTIMIZERS))
def test_optimizer_arguments_are_every_flag_of_the_row_by_the_constructors_name(name):
    arguments = Settings(optimizer=name).optimizer_arguments()
    flags = registry.OPTIMIZERS[name].flags
    assert list(arguments) == ["denominator" if flag == "lars_denominator" else flag for flag in flags]


@pytest.mark.parametrize("text, value", [("0.5,inf", (0.5, math.inf)), ("1,1", (1.0, 1.0)), ("none", None)])
def test_bounds(text, value):
    assert Settings(optimizer="adam_layerwise_bounded", trust_bounds=text).trust_bounds == value


@pytest.mark.parametrize("text, value", [
    ("none", ()), ("null", ()), ("default", None), ("bias,.*gamma", ("bias", ".*gamma")),
    (("a{1,2}",), ("a{1,2}",)),
])
def test_exclusions(text, value):
    assert Settings(optimizer="lars", exclude_from_decay=text).exclude_from_decay == value
    assert Settings(optimizer="lars").exclude_from_decay is None


# Identity.


@pytest.mark.parametrize("given", [
    {}, {"regime": "large", "seed": 3}, {"optimizer": "lars", "optimizer_preset": "contrib"},
    {"optimizer": "sgd_layerwise_bounded", "trust_bounds": "0.5,inf", "exclude_from_decay": "none"},
    {"batch_size": "full", "train_steps": 5, "warmup_steps": 2, "peak_learning_rate": 0.5},
    {"profile_steps": "1,2", "data_dir": "."}, {"optimizer": "lars", "fixed_trust_ratios": "conv=0.1,dense=2e-3"},
    {"regime_adaptation": True, "strategy": "mirrored", "num_replicas": 2},
    {"batch_growth": f"10:5,{1 / 3 + 20}:2"}, {"schedule": "steps", "rate_drops": "10:5,20:2.5"}, {"schedule": "steps", "rate_drops": "none"},
])
def test_settings_json_gives_the_same_settings_back(given):
    settings = Settings(**given)
    stored = json.loads(json.dumps(settings.as_dict(), allow_nan=False))
    again = Settings(**stored)
    assert again == settings and again.experiment_hash() == settings.experiment_hash()
    assert set(stored) == set(FIELDS)


@pytest.mark.parametrize("change", [
    {"strategy": "one"}, {"strategy": "mirrored", "num_replicas": 2}, {"micro_batch_size": 32},
    {"steps_per_loop": 3}, {"eval_batch_size": 10}, {"run_dir": "elsewhere"}, {"resume": "never"},
    {"log_every_steps": 5}, {"keep_checkpoints": 9}, {"dry_run": True}, {"profile_steps": "1,2"},
])
def test_layout_and_reporting_do_not_change_the_hash(change):
    assert Settings(**change).experiment_hash() == Settings().experiment_hash()


@pytest.mark.parametrize("change", [
    {"seed": 1}, {"batch_size": 255}, {"optimizer": "adam"}, {"epochs": 29}, {"learning_rate": 0.051},
    {"label_smoothing": 0.1}, {"validation_examples": 5_000}, {"precision": "mixed_bfloat16"},
    {"warmup_from": "zero", "warmup_steps": 1}, {"exclude_from_decay": "none"},
])
def test_the_experiment_changes_the_hash_and_the_default_folder(change):
    changed, plain = Settings(**change), Settings()
    assert changed.experiment_hash() != plain.experiment_hash()
    assert changed.run_dir != plain.run_dir
    assert changed.run_dir == f"runs/mnist-{changed.experiment_hash()[:8]}"


def test_micro_batch_belongs_to_the_experiment_where_it_is_the_norms_group(monkeypatch):
    row = registry.MODELS["lenet"]
    table = {**registry.MODELS, "lenet": registry.Row("lenet", row.target, facts={"batch_norm": True})}
    monkeypatch.setattr(registry, "MODELS", table)
    hashes = {(norm, size): Settings(norm=norm, micro_batch_size=size).experiment_hash()
              for norm in ("span", "local") for size in (16, 32)}
    assert hashes["span", 16] == hashes["span", 32]
    assert hashes["local", 16] != hashes["local", 32]


def test_how_a_value_was_said_does_not_change_the_hash():
    assert Settings(epochs="30", batch_size="256").experiment_hash() == Settings().experiment_hash()
    assert Settings(regime="large").experiment_hash() == Settings(
        **{name: value for name, value in Settings(regime="large").as_dict().items() if name != "regime"}
    ).experiment_hash()


def test_settings_are_immutable_and_travel():
    settings = Settings(seed=4)
    with pytest.raises(AttributeError, match="replace"):
        settings.seed = 5
    with pytest.raises(AttributeError):
        del settings.seed
    assert copy.deepcopy(settings) == pickle.loads(pickle.dumps(settings)) == settings
    assert settings != Settings(seed=5) and len({settings, Settings(seed=4)}) == 1


def test_replace_resolves_again_from_what_was_given():
    settings = Settings(dataset="mnist5k", batch_size="full", epochs=5)
    assert settings.replace(validation_examples=1_000).batch_size == 3_000
    assert settings.replace(train_steps=9).epochs is None
    lars = registry.OPTIMIZERS["lars"].settings
    assert settings.replace(optimizer="lars").learning_rate == lars["learning_rate"]
    with pytest.raises(Refusal, match="batch_size"):
        settings.replace(batch_size=4_001)


def test_text_names_every_value_that_applies_and_where_it_came_from():
    text = Settings(optimizer="lars", batch_size="full", seed=3).text()
    lines = {line.split()[0]: line for line in text.splitlines() if line.startswith("  ")}
    assert "60000" in lines["batch_size"] and "(arguments)" in lines["batch_size"]
    assert "(optimizer row lars)" in lines["learning_rate"]
    assert "(regime baseline: paper)" in lines["epochs"] and "(regime baseline: ours)" in lines["schedule"]
    assert "(" not in lines["shuffle"]
    assert "beta_1" not in lines and "train_steps" not in lines
    assert "default" in lines["exclude_from_decay"]
