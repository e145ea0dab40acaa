"""Every kind of bad setting is refused with value, reason and remedy, and all of them at once."""

import pytest

from tf_hugebatch import registry
from tf_hugebatch.fields import FIELDS
from tf_hugebatch.settings import Refusal, Settings, resolve


def problems(**given):
    return resolve([("command line", given)])[1]


@pytest.mark.parametrize("given, words", [
    # names
    ({"optimizer": "larz"}, ["--optimizer=larz", "did you mean lars"]),
    ({"schedule": "polynomal"}, ["--schedule=polynomal", "did you mean polynomial"]),
    ({"model": "lenet6"}, ["--model=lenet6", "lenet5"]),
    ({"dataset": "mnst"}, ["--dataset=mnst", "mnist5k"]),
    ({"regime": "hug"}, ["--regime=hug", "huge"]),
    ({"optimizer": "lars", "optimizer_preset": "mlpref"}, ["mlpref", "mlperf"]),
    ({"optimzer": "lars"}, ["--optimzer=lars", "unknown setting", "did you mean optimizer"]),
    # sizes
    ({"batch_size": 70_000}, ["--batch_size=70000", "60,000", "--batch_size=full"]),
    ({"batch_size": 55_001, "validation_examples": 5_000}, ["55001", "55,000"]),
    ({"dataset": "mnist5k", "regime": "large"}, ["8192", "regime large", "4,000", "full", "--dataset=mnist"]),
    ({"dataset": "mnist5k", "regime": "huge"}, ["32768", "4,000", "full", "--dataset=mnist"]),
    ({"batch_size": 0}, ["--batch_size=0", "at least 1"]),
    ({"batch_size": "ful"}, ["--batch_size=ful", "full"]),
    ({"batch_size": 1.5}, ["--batch_size=1.5", "whole number"]),
    ({"batch_size": "1e3"}, ["--batch_size=1e3", "whole number"]),
    ({"batch_size": True}, ["--batch_size=True", "whole number"]),
    ({"micro_batch_size": 0}, ["--micro_batch_size=0", "at least 1"]),
    ({"micro_batch_size": -4}, ["--micro_batch_size=-4", "at least 1"]),
    ({"validation_examples": 60_000}, ["--validation_examples=60000", "60,000", "fewer"]),
    ({"eval_batch_size": 0}, ["--eval_batch_size=0"]),
    ({"train_steps": 0}, ["--train_steps=0"]),
    ({"epochs": 0}, ["--epochs=0", "greater than 0"]),
    # numbers
    ({"learning_rate": -1}, ["--learning_rate=-1", "greater than 0"]),
    ({"peak_learning_rate": "-0.5"}, ["--peak_learning_rate=-0.5", "greater than 0"]),
    ({"learning_rate": "nan"}, ["--learning_rate=nan", "finite"]),
    ({"learning_rate": float("inf")}, ["--learning_rate=inf", "finite"]),
    ({"learning_rate": 1e38, "batch_size": 60_000}, ["--learning_rate=1e+38", "finite", "give less"]),
    ({"learning_rate": 1e39}, ["--learning_rate=1e+39", "32 bits"]),
    ({"batch_size": 10**400}, ["at most 9,223,372,036,854,775,807"]),
    ({"learning_rate": "fast"}, ["--learning_rate=fast", "number"]),
    ({"learning_rate": [0.1]}, ["--learning_rate=[0.1]", "number"]),
    ({"label_smoothing": 1}, ["--label_smoothing=1", "less than 1"]),
    ({"label_smoothing": 1.2}, ["--label_smoothing=1.2", "less than 1"]),
    ({"label_smoothing": -0.1}, ["--label_smoothing=-0.1", "at least 0"]),
    ({"momentum": 1}, ["--momentum=1", "less than 1"]),
    ({"weight_decay": -1e-4}, ["--weight_decay=-0.0001", "at least 0"]),
    ({"clip_global_norm": 0}, ["--clip_global_norm=0", "greater than 0"]),
    ({"seed": -1}, ["--seed=-1", "at least 0"]),
    ({"dry_run": "maybe"}, ["--dry_run=maybe", "true"]),
    ({"end_learning_rate": 1.0}, ["--end_learning_rate=1", "peak rate 0.05"]),
    # pairs
    ({"optimizer": "lars", "trust_bounds": "3,1"}, ["--trust_bounds=3,1", "lower bound 3", "upper bound 1"]),
    ({"optimizer": "lars", "trust_bounds": "-1,1"}, ["--trust_bounds=-1,1", "negative"]),
    ({"optimizer": "lars", "fixed_trust_ratios": "kernel"}, ["--fixed_trust_ratios=kernel", "kernel=0.01"]),
    ({"optimizer": "lars", "fixed_trust_ratios": "kernel=0"}, ["--fixed_trust_ratios=kernel=0", "greater than 0"]),
    ({"optimizer": "lars", "fixed_trust_ratios": "kernel=0.1,=1"}, ["--fixed_trust_ratios", "empty regular expression"]),
    ({"optimizer": "lars", "fixed_trust_ratios": "(=1"}, ["--fixed_trust_ratios=(=1", "no regular expression"]),
    ({"optimizer": "sgd", "fixed_trust_ratios": "kernel=1"}, ["--fixed_trust_ratios", "does not take it", "lars"]),
    ({"optimizer": "lars", "trust_bounds": "1"}, ["--trust_bounds=1", "lo,hi"]),
    ({"optimizer": "lars", "trust_bounds": "a,b"}, ["--trust_bounds=a,b", "number"]),
    ({"optimizer": "lars", "trust_bounds": "nan,1"}, ["--trust_bounds=nan,1", "nan"]),
    ({"optimizer": "lamb", "weight_norm_bounds": (5, 2)}, ["--weight_norm_bounds=(5, 2)", "swap"]),
    ({"profile_steps": "3,1"}, ["--profile_steps=3,1", "swap"]),
    ({"profile_steps": "0,1"}, ["--profile_steps=0,1", "at least 1"]),
    ({"profile_steps": "7"}, ["--profile_steps=7", "10,12"]),
    ({"profile_steps": "2,9", "train_steps": 5}, ["--profile_steps=2,9", "5 updates"]),
    ({"optimizer": "lars", "exclude_from_decay": "bias,("}, ["'('", "regular expression"]),
    ({"optimizer": "lars", "exclude_from_decay": "bias,"}, ["--exclude_from_decay=bias,", "comma"]),
    # what excludes each other
    ({"epochs": 3, "train_steps": 3}, ["--epochs=3", "--train_steps=3", "keep one"]),
    ({"epochs": 3, "regime_adaptation": True}, ["--epochs=3", "--regime_adaptation=True", "keep one"]),
    ({"warmup_epochs": 1, "warmup_steps": 3}, ["--warmup_epochs=1", "--warmup_steps=3", "keep one"]),
    ({"peak_learning_rate": 1, "learning_rate": 2}, ["--peak_learning_rate=1", "--learning_rate=2", "keep"]),
    ({"peak_learning_rate": 1, "lr_scaling": "sqrt"}, ["--peak_learning_rate=1", "--lr_scaling=sqrt"]),
    # what the choice doesn't take
    ({"optimizer": "adam", "momentum": 0.9}, ["--momentum=0.9", "adam does not take it", "sgd", "lars"]),
    ({"optimizer": "adam", "nesterov": False}, ["--nesterov=False", "adam does not take it"]),
    ({"optimizer": "sgd_layerwise", "trust_bounds": "0,1"}, ["--trust_bounds=0.0,1.0", "sgd_layerwise_b"]),
    ({"schedule": "cosine", "poly_power": 2}, ["--poly_power=2", "cosine does not take it", "polynomial"]),
    ({"schedule": "polynomial", "cycles": 2}, ["--cycles=2", "cosine_fine", "cyclical"]),
    ({"optimizer": "sgd", "optimizer_preset": "mlperf"}, ["--optimizer_preset=mlperf", "--optimizer=lars"]),
    ({"optimizer": "adam", "epsilon_placement": "inside"}, ["--epsilon_placement=inside", "uncorrected"]),
    ({"bn_span": 64}, ["--bn_span=64", "it has no batch norm", "resnet50"]),
    ({"image_size": 64}, ["--image_size=64", "mnist does not take it", "imagenet2012"]),
    ({"dataset_size": "10,2"}, ["--dataset_size=10,2", "mnist does not take it"]),
    ({"model": "resnet50"}, ["--model=resnet50", "does not fit mnist"]),
    ({"dataset": "synthetic", "model": "lenet"}, ["--model=lenet", "does not fit synthetic", "resnet50"]),
    ({"dataset": "synthetic", "image_size": 31}, ["--image_size=31", "resnet50", "at least 32"]),
    ({"dataset": "synthetic", "model": "resnet9", "image_size": 7}, ["--image_size=7", "resnet9", "at least 8"]),
    ({"dataset": "synthetic", "dataset_size": "10"}, ["--dataset_size=10", "such as 240,60"]),
    ({"dataset": "synthetic", "dataset_size": "0,5"}, ["--dataset_size=0,5", "at least 1"]),
    ({"dataset": "synthetic", "dataset_size": "200,5"}, ["--batch_size=256", "200", "full"]),
    ({"shuffle": "shards"}, ["--shuffle=shards", "mnist does not come in shards"]),
    ({"dataset": "imagenet2012", "shuffle": "shards", "validation_examples": 9},
     ["--validation_examples=9", "shards", "another --shuffle", "--select_on_test"]),
    ({"dataset": "imagenet2012", "shuffle": "shards", "diagnostics": "trust,snr"}, ["--diagnostics=snr", "shards"]),
    ({"dataset": "imagenet2012", "shuffle": "shards", "diagnostics": "sharpness"}, ["--diagnostics=sharpness", "shards"]),
    # what needs another
    ({"evaluate_test": False}, ["--evaluate_test=false", "hold some out"]),
    ({"dataset": "synthetic", "evaluate_test": False, "validation_examples": 9, "mllog": True},
     ["--validation_examples=9", "--mllog=true", "drop one"]),
    ({"num_replicas": 2, "strategy": "one"}, ["--num_replicas=2", "strategy one", "--strategy=mirrored"]),
    ({"tpu": "pod", "strategy": "one"}, ["--tpu=pod", "--strategy=one", "drop one"]),
    ({"tpu": "pod", "num_replicas": 2}, ["--num_replicas=2", "TPU"]),
    ({"dataset": "synthetic", "norm": "local", "micro_batch_size": 8, "bn_span": 8}, ["--bn_span=8", "--norm=local"]),
    ({"num_replicas": 0, "strategy": "mirrored"}, ["--num_replicas=0", "at least 1"]),
    ({"momentum": 0, "nesterov": True}, ["--nesterov=True", "--momentum=0"]),
    ({"optimizer": "shampoo", "trust_coefficient": 0.1}, ["--trust_coefficient=0.1", "--grafting=lars"]),
    ({"optimizer": "shampoo", "exclude_from_adaptation": "none"}, ["--exclude_from_adaptation", "--grafting=lars"]),
    ({"optimizer": "shampoo", "epsilon": 0}, ["--epsilon=0", "more than 0"]),
    ({"optimizer": "shampoo", "statistics_decay": 1.1}, ["--statistics_decay=1.1", "at most 1"]),
    ({"optimizer": "adam_layerwise_bounded", "trust_bounds": "none", "trust_bounds_schedule": "adabound"},
     ["adabound", "--trust_bounds"]),
    ({"batch_growth": "10"}, ["--batch_growth=10", "such as 10:5"]),
    ({"batch_growth": "10:5,10:5"}, ["--batch_growth=10:5,10:5", "ascend"]),
    ({"batch_growth": "10:1"}, ["--batch_growth=10:1", "at least 2"]),
    ({"batch_growth": "10:2.5"}, ["--batch_growth=10:2.5", "whole number"]),
    ({"batch_growth": "0:2"}, ["--batch_growth=0:2", "greater than 0"]),
    ({"batch_growth": "1:5,2:50"}, ["--batch_growth=1:5,2:50", "from 256 to 64,000", "60,000", "--batch_size"]),
    ({"batch_growth": "40:2"}, ["--batch_growth=40:2", "512", "the run has 7,032", "train longer"]),
    ({"batch_growth": "1:2", "train_steps": 20}, ["--batch_growth=1:2", "after 235 updates", "has 20"]),
    ({"dataset": "synthetic", "norm": "local", "micro_batch_size": 8, "batch_growth": "1:2"},
     ["--batch_growth=1:2", "--norm=local", "--norm=span"]),
    ({"dataset": "synthetic", "mllog": True, "batch_growth": "1:2"}, ["--batch_growth=1:2", "--mllog=true", "drop one"]),
    ({"rate_drops": "10:5"}, ["--rate_drops=10:5", "polynomial does not take it", "steps"]),
    ({"schedule": "steps"}, ["--rate_drops=30:10,60:10,80:10", "schedule row steps", "before epoch 30 begins", "train longer"]),
    ({"schedule": "steps", "epochs": 3, "rate_drops": "1:10,3:10"}, ["--rate_drops=1:10,3:10", "before epoch 3 begins"]),
    ({"dataset": "synthetic", "bn_span": "full", "batch_growth": "1:2"}, ["--batch_growth=1:2", "--bn_span=full", "a number"]),
    ({"schedule": "steps", "rate_drops": "10:1"}, ["--rate_drops=10:1", "greater than 1"]),
    # the run's length
    ({"dataset": "mnist5k", "epochs": 1e9}, ["--epochs=1000000000.0", "500,000,000 updates", "larger batch"]),
    ({"dataset": "mnist5k", "batch_size": "full", "epochs": "1e9"}, ["--epochs=1000000000.0", "500,000,000"]),
    ({"epochs": 1e30}, ["--epochs=1e+30", "500,000,000 updates"]),
    ({"train_steps": 500_000_001}, ["--train_steps=500000001", "500,000,000 updates", "train less"]),
    ({"warmup_steps": 6, "train_steps": 5}, ["--warmup_steps=6", "run of 5"]),
    ({"warmup_epochs": 31}, ["--warmup_epochs=31", "longer than the run"]),
    ({"regime": "large", "train_steps": 10, "warmup_epochs": 5}, ["--warmup_epochs=5", "run of 10"]),
    ({"schedule": "cosine_fine", "train_steps": 20, "warmup_steps": 10}, ["--cycles=16", "10 updates"]),
    ({"schedule": "cyclical", "train_steps": 7}, ["--cycles=4", "7 updates", "cyclical takes at least 2"]),
    ({"schedule": "steps", "rate_drops": "1:10,2:10", "warmup_epochs": 3, "decay_from": "start"},
     ["--rate_drops=1:10,2:10", "warm-up of 703", "--decay_from=warmup_end"]),
    # folders
    ({"data_dir": "no/such/folder"}, ["--data_dir=no/such/folder", "no such folder"]),
    ({"data_dir": __file__}, [f"--data_dir={__file__}", "a file"]),
    ({"dataset": "mnist5k", "data_dir": "."}, ["--data_dir=.", "reads no folder"]),
])
def test_one_bad_thing_gives_one_problem_with_value_reason_and_remedy(given, words):
    found = problems(**given)
    assert len(found) == 1, found
    assert [word for word in words if word not in found[0]] == [], found[0]


@pytest.mark.parametrize("text", ["", "  "])
@pytest.mark.parametrize("name", FIELDS)
def test_an_empty_value_is_refused_whatever_the_setting(name, text):
    [problem] = problems(**{name: text})
    remedy = "drop the flag, or write none" if FIELDS[name].optional else "drop the flag"
    assert problem == f"--{name}={text}: an empty value; {remedy}"


@pytest.mark.parametrize("name", ["data_dir", "profile_steps", "num_replicas"])
@pytest.mark.parametrize("word", ["none", "null", None])
def test_none_is_none_where_it_is_a_value(name, word):
    assert getattr(Settings(**{name: word}), name) is None


def test_the_longest_run_is_accepted():
    assert Settings(train_steps=500_000_000).total_updates == 500_000_000


def test_local_norm_needs_a_number(monkeypatch):
    row = registry.MODELS["lenet"]
    table = {**registry.MODELS, "lenet": registry.Row("lenet", row.target, facts={"batch_norm": True})}
    monkeypatch.setattr(registry, "MODELS", table)
    [problem] = problems(norm="local")
    assert "--norm=local" in problem and "--micro_batch_size" in problem
    assert problems(norm="local", micro_batch_size=16) == []


def test_all_problems_are_named_at_once_and_nothing_that_follows_from_them():
    found = problems(optimizer="larz", batch_size="70000", warmup_epochs="1", warmup_steps="3",
                     learning_rate="-1", foo="2", trust_coefficient="2", label_smoothing="1",
                     data_dir="no/such/folder")
    # trust_coefficient is taken by what larz was meant to be: not refused on account of the regime's
    # optimizer.
    names = ["optimizer=larz", "batch_size=70000", "warmup_epochs=1", "learning_rate=-1", "foo=2",
             "label_smoothing=1", "data_dir=no"]
    assert len(found) == len(names)
    assert all(any(name in problem for problem in found) for name in names)


def test_an_unknown_dataset_brings_no_complaints_about_another_ones_sizes():
    assert len(problems(dataset="mnst", batch_size="70000", warmup_steps="9", train_steps="20")) == 1


def test_problem_in_a_flagfile_names_the_file():
    _, [problem] = resolve([("command line", {}), ("flagfile a.flags", {"seed": "x"})])
    assert "a.flags" in problem


def test_settings_raise_with_all_problems():
    with pytest.raises(Refusal) as caught:
        Settings(learning_rate=-1, batch_size=0)
    assert len(caught.value.problems) == 2
    assert isinstance(caught.value, ValueError) and "--batch_size=0" in str(caught.value)


def test_resolve_names_the_settings_not_to_build_on():
    settings, _ = resolve([("command line", {"data_dir": "no/such/folder", "seed": "3"})])
    assert settings.failed == {"data_dir"} and settings.seed == 3
    assert Settings().failed == frozenset()


def test_a_growth_where_the_run_ends_is_refused():
    [problem] = problems(batch_growth="1:2", train_steps=235)
    assert "after 235 updates, and the run has 235" in problem


@pytest.mark.parametrize("given", [
    {"profile_steps": "4,5", "train_steps": 5},
    {"warmup_steps": 5, "train_steps": 5},
    {"peak_learning_rate": 0.1, "end_learning_rate": 0.1},
    {"schedule": "cyclical", "train_steps": 8},
    {"dataset": "synthetic", "image_size": 32},
    {"batch_size": 12_000, "batch_growth": "1:5"},
    {"schedule": "steps", "rate_drops": "1:10,2:10", "warmup_epochs": 2, "decay_from": "start"},
])
def test_what_just_fits_is_taken(given):
    assert problems(**given) == []


def test_a_part_of_a_data_set_is_what_validation_is_held_out_of():
    [problem] = problems(dataset="synthetic", dataset_size="200,5", batch_size=10, validation_examples=200)
    assert "--validation_examples=200" in problem and "has 200 training" in problem
