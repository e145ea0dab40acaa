"""Rows are complete plain data; names that aren't there are refused with close matches."""

import pathlib

import pytest

from tf_hugebatch import published, registry
from tf_hugebatch.fields import FIELDS
from tf_hugebatch.regimes import REGIMES

PACKAGE = pathlib.Path(registry.__file__).parent


def rows():
    return [pytest.param(row, id=f"{table}-{name}") for table, names in registry.TABLES.items()
            for name, row in names.items()]


@pytest.mark.parametrize("row", rows())
def test_target_names_a_definition_in_a_file_of_the_package(row):
    module, attribute = row.target.split(":")
    source = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py").read_text()
    assert f"class {attribute}(" in source or f"def {attribute}(" in source


@pytest.mark.parametrize("row", rows())
def test_row_states_every_flag_that_it_takes_with_a_value_its_field_accepts(row):
    assert set(row.flags) <= set(row.settings)
    for name, value in row.settings.items():
        assert name in FIELDS
        if value is not None:
            FIELDS[name].parse(value)


def test_table_3_rows_are_the_product_of_solvers_and_techniques():
    expected = [solver + suffix for solver in ("sgd", "adagrad", "rmsprop", "adam")
                for suffix in ("", "_layerwise", "_layerwise_bounded")]
    assert list(registry.OPTIMIZERS)[:len(expected) + 2] == [*expected, "lars", "lamb"]
    for solver in ("sgd", "adagrad", "rmsprop", "adam"):
        original, layerwise, bounded = (registry.OPTIMIZERS[solver + suffix]
                                        for suffix in ("", "_layerwise", "_layerwise_bounded"))
        assert "trust_coefficient" not in original.flags
        assert "trust_coefficient" in layerwise.flags and "trust_bounds" not in layerwise.flags
        low, high = bounded.settings["trust_bounds"]
        assert low < high and "trust_bounds (" in bounded.source


@pytest.mark.parametrize("solver", ["adagrad", "rmsprop", "adam", "muon"])
def test_bounded_adaptive_rows_never_step_further_than_the_original(solver):
    row = registry.OPTIMIZERS[f"{solver}_layerwise_bounded"]
    assert row.settings["trust_bounds"][1] == 1.0
    assert "at the same rate the bounded step is never longer" in row.source


def test_every_row_takes_clip_global_norm():
    assert all("clip_global_norm" in row.flags for row in registry.OPTIMIZERS.values())


def test_the_presets_of_muon_make_every_choice_that_peers_make_differently():
    keras, optax = registry.PRESETS["muon"].values()
    assert list(registry.PRESETS["muon"]) == ["keras", "optax"]
    # optax adds its 1e-8 to the norm of a moving average, which is none here.
    assert set(keras) == {*optax, "newton_schulz_epsilon"} <= set(registry.OPTIMIZERS["muon"].flags)
    assert not {"momentum", "nesterov", "weight_decay", "learning_rate"} & set(keras)
    assert {name for name in optax if keras[name] != optax[name]} == {
        "bias_correction", "update_scale", "exclude_from_orthogonalization", "adam_nesterov", "epsilon", "epsilon_placement"}


def test_presets_differ_pairwise_in_the_choices_that_name_them_and_set_only_flags_of_lars():
    presets = registry.PRESETS["lars"]
    assert list(presets) == ["contrib", "mlperf", "tf_models", "optax", "larc"]
    for values in presets.values():
        assert set(values) <= set(registry.OPTIMIZERS["lars"].flags)
    assert presets["contrib"]["decay_in_update"] is False
    assert presets["contrib"]["momentum_convention"] == "scaled"
    assert presets["mlperf"]["exclude_from_decay"] is None
    assert presets["optax"]["lars_denominator"] == "joint"
    assert presets["larc"]["trust_clip"] is True and presets["larc"]["trust_coefficient"] == 0.02


def test_every_dataset_has_every_regime_and_every_value_is_marked():
    for dataset, regimes in REGIMES.items():
        assert dataset in registry.DATASETS
        assert list(regimes) == ["baseline", "large", "huge", "full"]
        for recipe in regimes.values():
            for name, value in recipe.items():
                assert value.mark in ("paper", "MLPerf", "ours") and value.note
                assert FIELDS[name].parse(value.value) == value.value


def test_regime_batches_are_the_papers():
    batches = {name: recipe["batch_size"].value for name, recipe in REGIMES["mnist"].items()}
    assert batches == {"baseline": 256, "large": 8192, "huge": 32768, "full": "full"}
    assert registry.DATASETS["mnist"].facts["train_examples"] == published.BASELINES["mnist"].full


@pytest.mark.parametrize("table, name, expected", [
    ("optimizer", "larz", "lars"), ("schedule", "polynomal", "polynomial"), ("model", "lenet6", "lenet5"),
    ("dataset", "mnst", "mnist"),
])
def test_unknown_names_are_refused_with_close_matches_and_all_names(table, name, expected):
    with pytest.raises(registry.UnknownName) as caught:
        registry.find(table, name)
    message = str(caught.value)
    assert repr(name) in message and expected in message.partition("did you mean")[2].partition("?")[0]
    assert all(known in message for known in registry.TABLES[table])


def test_an_unknown_name_without_a_close_match_is_a_sentence_of_its_own():
    with pytest.raises(registry.UnknownName) as caught:
        registry.find("dataset", "tulips")
    assert str(caught.value) == f"unknown dataset 'tulips'. There are: {', '.join(registry.DATASETS)}."
