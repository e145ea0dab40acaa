"""Other people's optimizers, run beside ours on the same weights and gradients: the rows of docs/PARITY.md.

A row says how they are called, which arguments of ours are the same rule, and which are the neighbouring rule that must
not be. optax and timm are looked for when a row runs; `missing` says what a machine lacks for one.
"""

import dataclasses
import importlib
import importlib.util
import operator
import pathlib
import sys
import types

import keras
import numpy as np

from reference.variables import variables_of

from tf_hugebatch import optimizers
from tf_hugebatch.keras_versions import KERAS_2

UPDATES = 20
TOLERANCE = 2e-5  # of max|w|, as for the recordings: 1 - beta^t in float32 alone makes 1e-5
WARM_UP = 5


def schedule(peak):
    """The rate of each update: a ramp, then a line down. A rule that puts the rate elsewhere shows where it changes."""
    return [np.float32(peak * min((t + 1) / WARM_UP, (UPDATES + 1 - t) / (UPDATES + 1 - WARM_UP))) for t in range(UPDATES)]


class Problem:
    """Weights as they are initialised and gradients that turn and grow, from a seed; float32.

    shapes: {path: shape}. gradients(t): one array per path; the last kernel's is all zero at update `silent_at`.
    """

    def __init__(self, shapes, seed=0, silent_at=7):
        generator = np.random.default_rng(seed)
        self.weights = {path: self._weight(path, shape, generator) for path, shape in shapes.items()}
        self._bases = [[generator.standard_normal(shape, dtype=np.float32) * np.float32(0.02 * (1 + i % 5))
                        for i, shape in enumerate(shapes.values())] for _ in range(2)]
        self._silent_at = silent_at
        self._silent = max(i for i, path in enumerate(shapes) if is_kernel(path))

    @staticmethod
    def _weight(path, shape, generator):
        noise = generator.standard_normal(shape, dtype=np.float32)
        if is_kernel(path):
            return noise * np.float32(np.sqrt(2.0 / np.prod(shape[:-1])))
        return 1 + np.float32(0.1) * noise if path.endswith("gamma") else 0 * noise

    def gradients(self, t):
        first, second = (np.float32(0.3 + 0.1 * t) * np.float32(value) for value in (1.0, np.sin(t)))
        found = [first * a + second * b for a, b in zip(*self._bases)]
        if t == self._silent_at:
            found[self._silent] = 0 * found[self._silent]
        return found


def is_kernel(path):
    return path.endswith("kernel")


# A peer is a function of (weights, rates) that returns (update(t, gradients), read() -> the weights now).


def in_keras(make):
    """A peer from a function of the first rate that gives a Keras optimizer, ours or Keras' own."""
    def start(weights, rates):
        variables, optimizer = variables_of(weights), make(float(rates[0]))

        def update(t, gradients):
            optimizer.learning_rate = float(rates[t])
            optimizer.apply(gradients, variables)

        return update, lambda: [variable.numpy() for variable in variables]

    return start


def in_optax(name, kernels_only=(), **arguments):
    """A peer from an optimizer of optax; `kernels_only` names masks that leave out all but kernels."""
    def start(weights, rates):
        import jax
        import optax
        import optax.contrib

        table = jax.numpy.asarray(rates)
        masks = {mask: [is_kernel(path) for path in weights] for mask in kernels_only}
        rule = operator.attrgetter(name)(optax)(lambda count: table[count], **arguments, **masks)
        held = [[jax.numpy.asarray(value) for value in weights.values()]]
        held.append(rule.init(held[0]))

        @jax.jit
        def updated(values, state, gradients):
            steps, state = rule.update(gradients, state, values)
            return optax.apply_updates(values, steps), state

        def update(t, gradients):
            held[:] = updated(*held, [jax.numpy.asarray(gradient) for gradient in gradients])

        return update, lambda: [np.asarray(value) for value in held[0]]

    return start


def of_timm(name):
    """A class of timm.optim; timm's own __init__ would import its models, and torchvision with them."""
    spec = importlib.util.find_spec("timm")
    root = pathlib.Path(spec.origin).parent
    for package, folder in (("timm", root), ("timm.optim", root / "optim")):
        if package not in sys.modules:
            sys.modules[package] = types.ModuleType(package)
            sys.modules[package].__path__, sys.modules[package].__spec__ = [str(folder)], spec
    return getattr(importlib.import_module(f"timm.optim.{name.lower()}"), name)


def in_timm(name, undecayed=False, **arguments):
    """A peer from an optimizer of timm; with `undecayed`, all but kernels in a group without weight decay."""
    def start(weights, rates):
        import torch

        values = [torch.tensor(value) for value in weights.values()]
        groups = [{"params": values}]
        if undecayed:
            parts = [[v for path, v in zip(weights, values) if is_kernel(path) == decayed] for decayed in (True, False)]
            groups = [{"params": parts[0]}, {"params": parts[1], "weight_decay": 0.0}]
        rule = of_timm(name)(groups, lr=float(rates[0]), **arguments)

        def update(t, gradients):
            for group in rule.param_groups:
                group["lr"] = float(rates[t])
            for value, gradient in zip(values, gradients):
                value.grad = torch.from_numpy(gradient)
            rule.step()

        return update, lambda: [value.numpy() for value in values]

    return start


@dataclasses.dataclass(frozen=True)
class Ours:
    """A call of ours: a class, or with `preset` its preset, and arguments without the learning rate."""

    name: str
    arguments: dict
    preset: str | None = None

    def make(self, rate):
        if self.preset:
            return getattr(optimizers, self.name).preset(self.preset, rate, **self.arguments)
        return getattr(optimizers, self.name)(rate, **self.arguments)

    def changed(self, **arguments):
        return dataclasses.replace(self, arguments=self.arguments | arguments)

    def __str__(self):
        first = f'{self.name}.preset("{self.preset}", rate' if self.preset else f"{self.name}(rate"
        return ", ".join([first, *(f"{key}={written(value)}" for key, value in self.arguments.items())]) + ")"


def written(value):
    return f'"{value}"' if isinstance(value, str) else str(value).replace("'", '"')


@dataclasses.dataclass(frozen=True)
class Row:
    """theirs: their call, as they write it. neighbour: arguments that turn `ours` into another rule.

    apart: what keeps `ours` from being the same rule, where nothing of ours is; such a row has no neighbour.
    """

    theirs: str
    peer: object
    ours: Ours
    neighbour: dict
    rate: float
    needs: tuple = ()
    apart: str = ""


def keras_row(name, arguments, ours, neighbour, rate):
    call = ", ".join([f"keras.optimizers.{name}(rate", *(f"{key}={written(value)}" for key, value in arguments.items())])
    return Row(call + ")", in_keras(lambda first: getattr(keras.optimizers, name)(first, **arguments)), ours, neighbour, rate)


def optax_row(name, arguments, ours, neighbour, rate, kernels_only=()):
    words = [f"{key}={written(value)}" for key, value in arguments.items()] + [f"{mask}=kernels" for mask in kernels_only]
    return Row(", ".join([f"optax.{name}(rate", *words]) + ")", in_optax(name, kernels_only, **arguments), ours, neighbour,
               rate, ("optax",))


def timm_row(name, arguments, ours, neighbour, rate, undecayed=False):
    words = [f"{key}={written(value)}" for key, value in arguments.items()]
    who = "groups: kernels, the rest with weight_decay=0" if undecayed else "weights"
    return Row(", ".join([f"timm.optim.{name}({who}", "lr=rate", *words]) + ")", in_timm(name, undecayed, **arguments), ours,
               neighbour, rate, ("torch", "timm"))


ALL = {"exclude_from_decay": (), "exclude_from_adaptation": ()}
# Adapted nowhere, layerwise=True leaves momentum SGD with the rate outside the velocity.
OUTSIDE = {"layerwise": True, "exclude_from_adaptation": (".",)}
ROWS = (
    optax_row("sgd", {"momentum": 0.9}, Ours("SGD", {"momentum": 0.9, **OUTSIDE}),
              {"layerwise": False, "exclude_from_adaptation": None}, 0.1),
    optax_row("sgd", {"momentum": 0.9, "nesterov": True}, Ours("SGD", {"momentum": 0.9, "nesterov": True, **OUTSIDE}),
              {"nesterov": False}, 0.1),
    optax_row("lars", {"weight_decay": 0.05}, Ours("LARS", {"momentum": 0.9, "weight_decay": 0.05}, "optax"),
              {"denominator": "sum"}, 10.0),
    optax_row("lars", {"weight_decay": 0.05, "nesterov": True},
              Ours("LARS", {"momentum": 0.9, "weight_decay": 0.05, "nesterov": True}, "optax"), {"nesterov": False}, 10.0),
    optax_row("lars", {"weight_decay": 0.05},
              Ours("LARS", {"momentum": 0.9, "weight_decay": 0.05, "exclude_from_decay": None, "exclude_from_adaptation": None},
                   "optax"), ALL, 10.0, kernels_only=("weight_decay_mask", "trust_ratio_mask")),
    optax_row("lamb", {"weight_decay": 0.05}, Ours("LAMB", {"weight_decay": 0.05, **ALL}), {"bias_correction": False}, 0.02),
    optax_row("lamb", {"weight_decay": 0.05}, Ours("LAMB", {"weight_decay": 0.05, "exclude_from_adaptation": ()}),
              {"exclude_from_adaptation": None}, 0.02, kernels_only=("mask",)),
    optax_row("adagrad", {"eps": 0.001}, Ours("Adagrad", {"epsilon": 0.001}), {"epsilon_placement": "outside"}, 0.02),
    optax_row("rmsprop", {"eps": 0.001}, Ours("RMSprop", {"epsilon": 0.001}), {"epsilon_placement": "outside"}, 0.02),
    optax_row("rmsprop", {"eps": 0.001, "eps_in_sqrt": False},
              Ours("RMSprop", {"epsilon": 0.001, "epsilon_placement": "outside"}), {"epsilon_placement": "inside"}, 0.02),
    optax_row("adam", {"eps": 0.001}, Ours("Adam", {"epsilon": 0.001, "epsilon_placement": "corrected"}),
              {"epsilon_placement": "uncorrected"}, 0.02),
    keras_row("SGD", {}, Ours("SGD", {}), {"momentum": 0.9}, 0.1),
    keras_row("SGD", {"momentum": 0.9}, Ours("SGD", {"momentum": 0.9}), {"nesterov": True}, 0.1),
    keras_row("SGD", {"momentum": 0.9}, Ours("SGD", {"momentum": 0.9}), OUTSIDE, 0.1),
    keras_row("SGD", {"momentum": 0.9, "nesterov": True}, Ours("SGD", {"momentum": 0.9, "nesterov": True}),
              {"nesterov": False}, 0.1),
    keras_row("Adagrad", {"epsilon": 0.001}, Ours("Adagrad", {"epsilon": 0.001}), {"epsilon_placement": "outside"}, 0.02),
    keras_row("RMSprop", {"epsilon": 0.001}, Ours("RMSprop", {"epsilon": 0.001}), {"epsilon_placement": "outside"}, 0.02),
    keras_row("RMSprop", {"momentum": 0.9}, Ours("RMSprop", {"momentum": 0.9}), {"momentum": 0.0}, 0.02),
    keras_row("Adam", {"epsilon": 0.001}, Ours("Adam", {"epsilon": 0.001}), {"epsilon_placement": "corrected"}, 0.02),
    keras_row("SGD", {"momentum": 0.9, "weight_decay": 0.05},
              Ours("SGD", {"momentum": 0.9, "weight_decay": 0.05, "decoupled_weight_decay": True, "exclude_from_decay": ()}),
              {"decoupled_weight_decay": False}, 0.1),
    # Keras adapts every variable.
    keras_row("Lamb", {}, Ours("LAMB", {"epsilon": 1e-7, **ALL}), {"weight_decay": 0.05}, 0.02),
    keras_row("Lamb", {"weight_decay": 0.05},
              Ours("LAMB", {"weight_decay": 0.05, "decoupled_weight_decay": True, "epsilon": 1e-7, **ALL}),
              {"decoupled_weight_decay": False}, 0.02),
    timm_row("Lars", {"momentum": 0.9, "weight_decay": 0.05, "trust_coeff": 0.001, "trust_clip": True},
             Ours("LARS", {"momentum": 0.9, "weight_decay": 0.05, "trust_coefficient": 0.001}, "larc"), {"trust_clip": None},
             0.2),
    timm_row("Lars", {"momentum": 0.9, "weight_decay": 0.05, "nesterov": True},
             Ours("LARS", {"momentum": 0.9, "weight_decay": 0.05, "nesterov": True, "momentum_convention": "after",
                           "epsilon": 1e-8, **ALL}), {"momentum_convention": "unscaled"}, 10.0),
    timm_row("Lars", {"momentum": 0.9, "weight_decay": 0.05},
             Ours("LARS", {"momentum": 0.9, "weight_decay": 0.05, "momentum_convention": "after", "epsilon": 1e-8}), ALL, 10.0,
             undecayed=True),
    timm_row("Lamb", {}, Ours("LAMB", {"weight_decay": 0.01, "clip_global_norm": 1.0, **ALL}), {"clip_global_norm": None},
             0.02),
    timm_row("Lamb", {"weight_decay": 0.05, "trust_clip": True},
             Ours("LAMB", {"weight_decay": 0.05, "clip_global_norm": 1.0, "trust_bounds": (0.0, 1.0), **ALL}),
             {"trust_bounds": None}, 0.02),
    timm_row("Lamb", {"weight_decay": 0.05, "max_grad_norm": None}, Ours("LAMB", {"weight_decay": 0.05}), ALL, 0.02,
             undecayed=True),
    timm_row("Lamb", {"weight_decay": 0.05, "bias_correction": False, "max_grad_norm": None},
             Ours("LAMB", {"weight_decay": 0.05, "bias_correction": False, **ALL}), {"bias_correction": True}, 0.02),
    optax_row("adam", {"nesterov": True, "eps": 0.001},
              Ours("Adam", {"nesterov": True, "epsilon": 0.001, "epsilon_placement": "corrected"}), {"nesterov": False}, 0.02),
    optax_row("contrib.muon", {}, Ours("Muon", {"momentum": 0.95}, "optax"), {"bias_correction": False}, 0.02),
    optax_row("contrib.muon", {"weight_decay": 0.05, "adam_weight_decay": 0.05, "consistent_rms": 0.2},
              Ours("Muon", {"momentum": 0.95, "weight_decay": 0.05, "update_scale": "rms"}, "optax"),
              {"update_scale": "width"}, 0.02),
    keras_row("Muon", {}, Ours("Muon", {"momentum": 0.95, "weight_decay": 0.004}, "keras"), {"reshape_kernels": True}, 0.02),
    keras_row("Muon", {"momentum": 0.9, "nesterov": False, "rms_rate": None},
              Ours("Muon", {"weight_decay": 0.004, "nesterov": False, "update_scale": "none"}, "keras"), {"nesterov": True},
              0.02),
)


KERAS_LAMB_DECAYS = keras_row("Lamb", {"weight_decay": 0.05}, Ours("LAMB", {"weight_decay": 0.05, "epsilon": 1e-7, **ALL}),
                              {}, 0.02)
APART = (dataclasses.replace(KERAS_LAMB_DECAYS, apart="Keras decays before the update, outside the trust ratio (w -= rate * "
                             "weight_decay * w), as ours does with decoupled_weight_decay=True; by default here, and in the "
                             "paper, decay is part of what the ratio scales"),)


def missing(row):
    """The packages that this row needs and that are not installed; Keras' rows are of Keras 3's optimizers."""
    absent = [name for name in row.needs if importlib.util.find_spec(name) is None]
    return absent + (["keras 3"] if KERAS_2 and row.theirs.startswith("keras.") else [])


def difference(values, others):
    """The largest |value - other| / max|other| over variables; NaN if any is."""
    return float(np.max([np.abs(value - other).max() / np.abs(other).max()
                         for value, other in zip(values, others, strict=True)]))


def measured(row, problem):
    """(ours against theirs, the neighbouring rule against theirs): differences of the weights after all updates.

    Without a neighbour the second equals the first.
    """
    runners = [make(problem.weights, schedule(row.rate)) for make in (
        in_keras(row.ours.make), in_keras(row.ours.changed(**row.neighbour).make), row.peer)]
    for t in range(UPDATES):
        gradients = problem.gradients(t)
        for update, _ in runners:
            update(t, gradients)
    ours, neighbour, theirs = (read() for _, read in runners)
    return difference(ours, theirs), difference(neighbour, theirs)
