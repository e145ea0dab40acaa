"""Our optimizers against recordings of the public implementations (tests/goldens/README.md)."""

import json
import pathlib

import numpy as np
import pytest
from reference.variables import variables_of

from tf_hugebatch import optimizers, registry

FOLDER = pathlib.Path(__file__).parents[1] / "goldens"
RECORDED = json.loads((FOLDER / "recorded.json").read_text())
WEIGHTS = dict(np.load(FOLDER / "recorded.npz"))
SHAPES = RECORDED["variables"]
CASES = {case["case"]: case for case in RECORDED["cases"]}
TOLERANCE = 2e-5  # of max|w|; the recordings' own rounding reaches 1e-5

DECOUPLED = "decay outside the update and the trust ratio (w -= lr * wd * w first); ours is always inside"
INEXPRESSIBLE = {
    "keras_sgd-m0.9-n0-wd0.05-ex": DECOUPLED,
    "keras_sgd-m0.9-n1-wd0.05-ex": DECOUPLED,
    "keras_sgd-m0.9-n0-wd0.05-path_words": DECOUPLED,
    "keras_adagrad-eps-wd0.05": DECOUPLED,
    "keras_rmsprop-wd0.05": DECOUPLED,
    "keras_adam-wd0.05": DECOUPLED,
    "keras_lamb-wd1e-4": DECOUPLED,
    "keras_lamb-wd0.05": DECOUPLED,
    "keras_lamb-wd0.05-ex": DECOUPLED,
    "keras_lamb-wd0.05-path_words": DECOUPLED,
    "timm_lamb-decoupled": DECOUPLED,
    "timm_lamb-no_grad_averaging": "the first moment sums gradients without 1 - beta_1",
    "timm_lamb-caution": "updates that disagree in sign with the gradient are masked",
    "keras_adam-amsgrad": "running maximum of the second moment",
    "keras_rmsprop-m0.9-centered-eps": "variance in place of the mean square",
    "optax_rmsprop-centered-m0.9": "variance in place of the mean square",
    "optax_rmsprop-bias_correction": "bias-corrected mean square",
    "optax_rmsprop-m0.9-nesterov-init1": "Nesterov momentum and a mean square that starts at 1",
    "optax_adam-nesterov": "Nesterov first moment",
    "optax_adam-eps": "a second epsilon inside the root",
    "optax_lamb-betas_eps": "a second epsilon inside the root",
}
# Recorded weights that are another case's to the last bit, so running ours once does for both.
SAME = {name: name.replace("contrib115", "mlperf_tf1") for name in CASES if name.startswith("contrib115")}
EXPRESSIBLE = [name for name in CASES if name not in INEXPRESSIBLE and name not in SAME]


def arguments_of(neutral):
    """(class, constructor arguments) for a neutral description; every key that matters is read here."""
    family = neutral["family"]
    exact = [f"^{path}$" for path in neutral["excluded_from_decay"]]
    arguments = {"weight_decay": neutral["weight_decay"], "exclude_from_decay": exact}
    if family in ("lars", "lamb"):
        arguments["exclude_from_adaptation"] = [f"^{path}$" for path in neutral["excluded_from_adaptation"]]
    if family == "lars":
        multiplies = (neutral["trust_multiplies"], neutral["lr_multiplies"])
        convention = {("before momentum", "before momentum"): "unscaled",
                      ("before momentum", "after momentum"): "after",
                      ("after momentum", "after momentum"): "scaled"}[multiplies]
        if neutral["trust_denominator"] == "update":
            assert convention == "scaled"
            convention = "update_norm"
        arguments |= {
            "momentum": neutral["momentum"], "nesterov": neutral["nesterov"], "epsilon": neutral["trust_eps"],
            "trust_coefficient": neutral["trust_coefficient"], "momentum_convention": convention,
            "denominator": {"sum": "sum", "decayed": "joint", "update": "sum"}[neutral["trust_denominator"]],
            "trust_clip": {None: None, "larc": True}[neutral["trust_clip"]],
        }
        if neutral["decay_enters"] == "never":
            assert neutral["decay_in_trust_denominator"] == "every adapted variable"
            arguments |= {"decay_in_update": False, "exclude_from_decay": ()}
        return optimizers.LARS, arguments
    if family == "lamb":
        assert neutral["epsilon_position"] == "outside sqrt, after bias correction"
        arguments |= {key: neutral[key] for key in ("beta_1", "beta_2", "epsilon", "bias_correction")}
        arguments["clip_global_norm"] = neutral["global_clip_norm"]
        if neutral["trust_clip_max"] is not None:
            arguments["trust_bounds"] = (0.0, neutral["trust_clip_max"])
        return optimizers.LAMB, arguments
    if family == "adam":
        placement = {"epsilon-hat (bias correction folded into lr)": "uncorrected",
                     "outside sqrt, after bias correction": "corrected"}[neutral["epsilon_position"]]
        arguments |= {key: neutral[key] for key in ("beta_1", "beta_2", "epsilon")}
        return optimizers.Adam, arguments | {"epsilon_placement": placement}
    if family == "sgd":
        return optimizers.SGD, arguments | {"momentum": neutral["momentum"], "nesterov": neutral["nesterov"]}
    placement = {"inside sqrt": "inside", "outside sqrt": "outside"}[neutral["epsilon_position"]]
    arguments |= {"epsilon": neutral["epsilon"], "epsilon_placement": placement}
    if family == "adagrad":
        return optimizers.Adagrad, arguments | {"initial_accumulator_value": neutral["initial_accumulator"]}
    assert family == "rmsprop"
    return optimizers.RMSprop, arguments | {"rho": neutral["rho"], "momentum": neutral["momentum"]}


def split(flat):
    sizes = np.cumsum([int(np.prod(shape)) for shape in SHAPES.values()])[:-1]
    return {path: part.reshape(shape) for (path, shape), part in zip(SHAPES.items(), np.split(flat, sizes))}


def error(case, optimizer_class, arguments):
    """The largest |ours - recorded| / max|recorded| over updates and variables."""
    variables = variables_of(split(WEIGHTS["w0"]))
    optimizer = optimizer_class(CASES[case]["lr"][0], **arguments)
    worst = 0.0
    for gradient, rate, recorded in zip(WEIGHTS["g"], CASES[case]["lr"], WEIGHTS[case], strict=True):
        optimizer.learning_rate = rate
        optimizer.apply(list(split(gradient).values()), variables)
        for variable, expected in zip(variables, split(recorded).values()):
            worst = max(worst, np.abs(variable.numpy() - expected).max() / np.abs(expected).max())
    return worst


@pytest.mark.parametrize("case", EXPRESSIBLE)
def test_equals_the_recording(case):
    assert error(case, *arguments_of(CASES[case]["neutral"])) < TOLERANCE


def test_every_listed_case_exists():
    assert set(INEXPRESSIBLE) <= set(CASES)
    assert len(EXPRESSIBLE) == 140


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
    "sgd nesterov": ("keras_sgd-m0.9-n1", {"nesterov": False}),
    "sgd momentum": ("keras_sgd-m0.9-n0", {"momentum": 0.8}),
}


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_recordings_tell_neighbours_apart(neighbour):
    case, change = NEIGHBOURS[neighbour]
    optimizer_class, arguments = arguments_of(CASES[case]["neutral"])
    assert error(case, optimizer_class, arguments | change) > 10 * TOLERANCE
