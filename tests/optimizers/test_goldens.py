"""Our optimizers against recordings of the public implementations (tests/goldens/README.md)."""

import numpy as np
import pytest
from reference.recorded import (CASES, EXPRESSIBLE, INEXPRESSIBLE, SAME, TOLERANCE, WEIGHTS, arguments_of, error, neighbour_of,
                                whole_set)

from tf_hugebatch import optimizers, registry


@pytest.mark.parametrize("case", EXPRESSIBLE)
def test_equals_the_recording(case):
    assert error(case, *arguments_of(CASES[case]["neutral"])) < TOLERANCE


@pytest.mark.parametrize("case", EXPRESSIBLE)
def test_the_neighbouring_rule_is_far_from_the_recording(case):
    assert error(case, *neighbour_of(case)) > 10 * TOLERANCE


def test_every_listed_case_exists():
    assert set(INEXPRESSIBLE) <= set(CASES)
    assert len(EXPRESSIBLE) == 163


def test_the_copy_is_the_whole_set():
    whole = whole_set()
    if whole is None:
        pytest.skip("the recordings that were copied are not on this machine")
    cases, weights = whole
    assert len(cases) == 183
    assert {case for case in cases if case not in INEXPRESSIBLE} == {*EXPRESSIBLE, *SAME}
    assert list(cases) == list(CASES)
    for name in ("w0", "g", *CASES):
        np.testing.assert_array_equal(weights[name], WEIGHTS[name], err_msg=name)
    assert all(cases[name][key] == CASES[name][key] for name in CASES for key in ("neutral", "constructor", "lr"))


@pytest.mark.parametrize("case", SAME)
def test_contrib_1_15_is_the_mlperf_rule(case):
    np.testing.assert_array_equal(WEIGHTS[case], WEIGHTS[SAME[case]])
    assert CASES[case]["neutral"] == CASES[SAME[case]]["neutral"]


PRESET_CASES = {
    "contrib": "contrib114-wd0.05-e0.001-all-n1",
    "mlperf": "mlperf_tf1-wd0.05-e0.001-ex-n0",
    "tf_models": "tfm_lars-classic-wd0.05-e0.001-all-n1",
    "optax": "optax_lars-wd0.05-e0.001-all-n1",
    "larc": "timm_larc-wd0.05-e0.001-all-n1",
}


@pytest.mark.parametrize("preset", registry.PRESETS["lars"])
def test_preset_is_its_namesake(preset):
    case = PRESET_CASES[preset]
    neutral = CASES[case]["neutral"]
    given = {"momentum": neutral["momentum"], "weight_decay": neutral["weight_decay"],
             "nesterov": neutral["nesterov"]}
    if preset == "larc":  # apex' coefficient is 0.02; the recording is timm's, at 0.001
        given["trust_coefficient"] = neutral["trust_coefficient"]

    def make(rate):
        return optimizers.LARS.preset(preset, learning_rate=rate, **given)

    assert error(case, make, {}) < TOLERANCE


# The neighbouring rule, in the argument named, must miss the recording by more than ten tolerances.
NEIGHBOURS = {
    "sum, not joint": ("mlperf_tf1-wd0.05-e1-all-n0", {"denominator": "joint"}),
    "joint, not sum": ("tfm_lars-classic-wd0.05-e1-all-n0", {"denominator": "sum"}),
    "scaled, not unscaled": ("contrib114-wd0.05-e1-all-n0", {"momentum_convention": "unscaled"}),
    "unscaled, not scaled": ("mlperf_tf1-wd0.05-e1-all-n0", {"momentum_convention": "scaled"}),
    "unscaled, not corrected": ("mlperf_tf1-wd0.05-e1-all-n0", {"momentum_convention": "corrected"}),
    "after, not unscaled": ("timm_lars-wd0.05-e1-all-n0", {"momentum_convention": "unscaled"}),
    "after, not scaled": ("timm_lars-wd0.05-e1-all-n0", {"momentum_convention": "scaled"}),
    "update_norm, not scaled": ("tfm_lars-popular-wd0.05-e1-all-n0", {"momentum_convention": "scaled"}),
    "update_norm, not unscaled": ("tfm_lars-popular-wd0.05-e1-all-n0", {"momentum_convention": "unscaled"}),
    "decay in the update": ("mlperf_tf1-wd0.05-e1-all-n0", {"decay_in_update": False}),
    "decay not in the update": ("contrib114-wd0.05-e1-all-n0", {"decay_in_update": True}),
    "nesterov": ("contrib115-wd0.0001-e1-all-n1", {"nesterov": False}),
    "larc clip": ("timm_larc-wd0.05-e1-all-n0", {"trust_clip": None}),
    "lars excludes from adaptation": ("mlperf_tf1-wd0.05-e1-ex-n1", {"exclude_from_adaptation": ()}),
    "lars excludes from decay": ("mlperf_tf1-wd0.05-e1-ex-n1", {"exclude_from_decay": ()}),
    "lars coefficient": ("mlperf_tf1-wd0.05-e0.001-all-n1", {"trust_coefficient": 0.002}),
    "lars epsilon": ("mlperf_tf1-eps-wd0.05-e1-all-n0", {"epsilon": 0.0}),
    "lamb bias correction": ("tfa_lamb-wd0.05-all", {"bias_correction": False}),
    "lamb without bias correction": ("timm_lamb-bc0-clip0-wd0.0001-all", {"bias_correction": True}),
    "lamb decay": ("tfa_lamb-wd0.05-all", {"weight_decay": 0.0}),
    "lamb clip": ("timm_lamb-default", {"clip_global_norm": None}),
    "lamb ratio bound": ("timm_lamb-bc1-clip1-wd0.0001-all", {"trust_bounds": None}),
    "ratio bound, not phi": ("timm_lamb-bc1-clip1-wd0.0001-all",
                             {"trust_bounds": None, "weight_norm_bounds": (0.0, 1.0)}),
    "lamb excludes from decay": ("timm_lamb-always_adapt", {"exclude_from_decay": ()}),
    "lamb excludes from adaptation": ("tfm_lamb-adapt_list_only", {"exclude_from_adaptation": ()}),
    "lamb beta_2": ("tfm_lamb-betas", {"beta_2": 0.999}),
    "adagrad start": ("keras_adagrad-default", {"initial_accumulator_value": 0.0}),
    "adagrad epsilon inside": ("optax_adagrad-eps1e-3", {"epsilon_placement": "outside"}),
    "rmsprop epsilon outside": ("optax_rmsprop-eps_outside", {"epsilon_placement": "inside"}),
    "rmsprop momentum": ("keras_rmsprop-m0.9", {"momentum": 0.0}),
    "adam epsilon uncorrected": ("keras_adam-eps1e-3", {"epsilon_placement": "corrected"}),
    "lamb decays beside the update": ("keras_lamb-wd0.05", {"decoupled_weight_decay": False}),
    "lamb decays in the update": ("tfa_lamb-wd0.05-all", {"decoupled_weight_decay": True}),
    "rmsprop decay": ("keras_rmsprop-wd0.05", {"weight_decay": 0.0}),
    "sgd decays outside the momentum": ("keras_sgd-m0.9-n1-wd0.05-ex", {"decoupled_weight_decay": False}),
    "sgd nesterov": ("keras_sgd-m0.9-n1", {"nesterov": False}),
    "sgd momentum": ("keras_sgd-m0.9-n0", {"momentum": 0.8}),
}


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_recordings_tell_neighbours_apart(neighbour):
    case, change = NEIGHBOURS[neighbour]
    optimizer_class, arguments = arguments_of(CASES[case]["neutral"])
    assert error(case, optimizer_class, arguments | change) > 10 * TOLERANCE
