"""Recordings of the public implementations (tests/goldens/README.md), and what of ours they ask for.

`CASES` and `WEIGHTS` are the copy in tests/goldens. The set that it was copied from, where a machine has it, is
`whole_set()`: the folder that HUGEBATCH_GOLDENS names, else ../shared/goldens beside the checkout.
"""

import json
import os
import pathlib

import numpy as np
from reference.variables import variables_of

from tf_hugebatch import optimizers

FOLDER = pathlib.Path(__file__).parents[1] / "goldens"
WHOLE = pathlib.Path(os.environ.get("HUGEBATCH_GOLDENS", FOLDER.parents[2] / "shared" / "goldens"))
RECORDED = json.loads((FOLDER / "recorded.json").read_text())
WEIGHTS = dict(np.load(FOLDER / "recorded.npz"))
SHAPES = RECORDED["variables"]
CASES = {case["case"]: case for case in RECORDED["cases"]}
TOLERANCE = 2e-5  # of max|w|; the recordings' own rounding reaches 1e-5

INEXPRESSIBLE = {
    "timm_lamb-no_grad_averaging": "the first moment sums gradients without 1 - beta_1",
    "timm_lamb-caution": "updates that disagree in sign with the gradient are masked",
    "keras_adam-amsgrad": "running maximum of the second moment",
    "keras_rmsprop-m0.9-centered-eps": "variance in place of the mean square",
    "optax_rmsprop-centered-m0.9": "variance in place of the mean square",
    "optax_rmsprop-bias_correction": "bias-corrected mean square",
    "optax_rmsprop-m0.9-nesterov-init1": "Nesterov momentum and a mean square that starts at 1",
    "optax_adam-eps": "a second epsilon inside the root",
    "optax_lamb-betas_eps": "a second epsilon inside the root",
    "optax_muon-wd0.05": "a weight decay of its own for the variables of Adam",
    "optax_muon-ns3-spectral": "divided by the spectral norm before the iterations, not by the root sum of squares",
}
# Recorded weights that are another case's to the last bit, so running ours once does for both.
SAME = {name: name.replace("contrib115", "mlperf_tf1") for name in CASES if name.startswith("contrib115")}
EXPRESSIBLE = [name for name in CASES if name not in INEXPRESSIBLE and name not in SAME]


PLACEMENTS = {"epsilon-hat (bias correction folded into lr)": "uncorrected",
              "outside sqrt, after bias correction": "corrected"}


def arguments_of(neutral):
    """(class, constructor arguments) for a neutral description; every key that matters is read here."""
    family = neutral["family"]
    exact = [f"^{path}$" for path in neutral["excluded_from_decay"]]
    arguments = {"weight_decay": neutral["weight_decay"], "exclude_from_decay": exact}
    if neutral["decay_enters"] == "decoupled":
        arguments["decoupled_weight_decay"] = True
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
        arguments |= {key: neutral[key] for key in ("beta_1", "beta_2", "epsilon", "nesterov")}
        return optimizers.Adam, arguments | {"epsilon_placement": PLACEMENTS[neutral["epsilon_position"]]}
    if family == "muon":
        return optimizers.Muon, arguments | arguments_of_muon(neutral)
    if family == "sgd":
        return optimizers.SGD, arguments | {"momentum": neutral["momentum"], "nesterov": neutral["nesterov"]}
    placement = {"inside sqrt": "inside", "outside sqrt": "outside"}[neutral["epsilon_position"]]
    arguments |= {"epsilon": neutral["epsilon"], "epsilon_placement": placement}
    if family == "adagrad":
        return optimizers.Adagrad, arguments | {"initial_accumulator_value": neutral["initial_accumulator"]}
    assert family == "rmsprop"
    return optimizers.RMSprop, arguments | {"rho": neutral["rho"], "momentum": neutral["momentum"]}


def arguments_of_muon(neutral):
    """Constructor arguments of ours, but for how decay enters."""
    adam, matrices = neutral["other_vars"], neutral["muon_vars"]
    decays = {path: 0.0 if path in neutral["excluded_from_decay"] else (neutral if path in matrices else adam)["weight_decay"]
              for path in SHAPES}
    weight_decay = max(decays.values())
    return {
        "momentum": neutral["momentum"], "nesterov": neutral["nesterov"],
        "bias_correction": {"ema": True, "sum": False}[neutral["momentum_form"]],
        "newton_schulz_steps": neutral["ns_steps"], "newton_schulz_coefficients": neutral["ns_coefficients"],
        "update_scale": {("width", 1.0): "width", ("moonlight", 0.2): "rms",
                         ("none", 1.0): "none"}[neutral["scale"], neutral["scale_c"]],
        "exclude_from_orthogonalization": [f"^{path}$" for path in SHAPES if path not in matrices],
        "adam_rate_ratio": 1.0, "adam_nesterov": adam["nesterov"],
        **{key: adam[key] for key in ("beta_1", "beta_2", "epsilon")},
        "epsilon_placement": PLACEMENTS[adam["epsilon_position"]], "weight_decay": weight_decay,
        "exclude_from_decay": [f"^{path}$" for path, decay in decays.items() if decay != weight_decay],
    }


def split(flat):
    sizes = np.cumsum([int(np.prod(shape)) for shape in SHAPES.values()])[:-1]
    return {path: part.reshape(shape) for (path, shape), part in zip(SHAPES.items(), np.split(flat, sizes))}


def error(case, optimizer_class, arguments):
    """The largest |ours - recorded| / max|recorded| over updates and variables."""
    variables = variables_of(split(WEIGHTS["w0"]))
    optimizer = optimizer_class(CASES[case]["lr"][0], **arguments)
    errors = []
    for gradient, rate, recorded in zip(WEIGHTS["g"], CASES[case]["lr"], WEIGHTS[case], strict=True):
        optimizer.learning_rate = rate
        optimizer.apply(list(split(gradient).values()), variables)
        for variable, expected in zip(variables, split(recorded).values()):
            errors.append(np.abs(variable.numpy() - expected).max() / np.abs(expected).max())
    return float(np.max(errors))  # which a NaN survives, as it would not Python's max


def neighbour_of(case):
    """(class, arguments): the rule beside the one that a case asks for."""
    ours, arguments = arguments_of(CASES[case]["neutral"])
    if ours is optimizers.LARS and arguments["momentum"]:
        other = "scaled" if arguments["momentum_convention"] in ("unscaled", "update_norm") else "unscaled"
        return ours, arguments | {"momentum_convention": other}
    if ours is optimizers.LARS:
        return ours, arguments | {"decay_in_update": False}
    if ours is optimizers.LAMB:
        return ours, arguments | {"bias_correction": not arguments["bias_correction"]}
    if ours is optimizers.Adam:  # without bias correction, as which LAMB adapting nothing serves
        del arguments["epsilon_placement"], arguments["nesterov"]
        return optimizers.LAMB, arguments | {"bias_correction": False, "exclude_from_adaptation": (".",)}
    if ours is optimizers.Adagrad:
        return ours, arguments | {"initial_accumulator_value": 0.1 - arguments["initial_accumulator_value"]}
    if ours is optimizers.Muon and not CASES[case]["neutral"]["muon_vars"]:
        return ours, arguments | {"adam_nesterov": not arguments["adam_nesterov"]}
    if ours in (optimizers.SGD, optimizers.Muon) and arguments["momentum"]:
        return ours, arguments | {"nesterov": not arguments["nesterov"]}
    return ours, arguments | {"momentum": 0.9 if arguments["momentum"] == 0.0 else 0.0}


def whole_set():
    """(cases by name, weights as in `WEIGHTS`) of the set that was copied; None without it."""
    if not (WHOLE / "set_a.json").exists():
        return None
    description = json.loads((WHOLE / "set_a.json").read_text())
    stored, cases = np.load(WHOLE / "set_a.npz"), {case["case"]: case for case in description["cases"]}

    def updates(prefix):
        return np.stack([np.concatenate([stored[f"{prefix}/{step}/{path}"].ravel() for path in SHAPES])
                         for step in range(description["steps"])])

    start = np.concatenate([stored[f"w0/{path}"].ravel() for path in SHAPES])
    return cases, {"w0": start, "g": updates("g"), **{name: updates(name) for name in cases}}
