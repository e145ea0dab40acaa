"""Checks of constructor arguments: each returns the value in one form, or raises with value, reason and
remedy.
"""

import inspect
import math
import numbers

import numpy as np
import tensorflow as tf

from tf_hugebatch import registry
from tf_hugebatch.keras_versions import global_policy, variable_path
from tf_hugebatch.optimizers.roles import check_patterns
from tf_hugebatch.parsers import LARGEST, LARGEST_MEMORY
from tf_hugebatch.settings import CONSTRUCTOR_NAMES


def check_number(name, value, low, high=LARGEST, but=None):
    """`value` as a float; TypeError unless it is a number, ValueError unless low <= value <= high, value !=
    but.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r} is no number: give one from {low} to {high}")
    if not low <= value <= high or value == but:
        excluded = "" if but is None else f", {but} excluded"
        raise ValueError(f"{name}={value!r} is out of range: give a number from {low} to {high}{excluded}")
    return float(value)


def check_float32(variables):
    """ValueError for a variable that is not float32, and for the policy mixed_float16."""
    if global_policy().name == "mixed_float16":
        # Keras would wrap the optimizer in a loss scale, whose skipped updates no schedule here knows of.
        raise ValueError("the policy 'mixed_float16' needs loss scaling, which these optimizers do not have: use "
                         "'mixed_bfloat16' or 'float32'")
    wrong = {variable_path(v): str(v.dtype) for v in variables if tf.as_dtype(v.dtype) != tf.float32}
    if wrong:
        raise ValueError(f"these variables are not float32: {wrong}. Slots and trust ratios need float32: use the "
                         f"policy 'float32' or 'mixed_bfloat16', not a pure 16-bit or 64-bit one")


#: Arguments of Keras' and others' optimizers, and what takes their place.
_INSTEAD = {
    **dict.fromkeys(("clipnorm", "clipvalue", "global_clipnorm"), "clip_global_norm clips the global batch's gradient"),
    **dict.fromkeys(("use_ema", "ema_momentum", "ema_overwrite_frequency"), "no average of weights is kept: write a callback"),
    "gradient_accumulation_steps": "hb.train and the command line add up micro-batches: micro_batch_size",
    "loss_scale_factor": "the policy 'mixed_bfloat16' needs none",
    "lr": "here learning_rate", "eeta": "here trust_coefficient", "weight_decay_rate": "here weight_decay",
    "exclude_from_weight_decay": "here exclude_from_decay", "exclude_from_layer_adaptation": "here exclude_from_adaptation"}


def refuse_accumulation(optimizer):
    """ValueError where Keras' gradient_accumulation_steps was set as an attribute: it would count micro-batches as updates."""
    steps = getattr(optimizer, "gradient_accumulation_steps", None)
    if steps is not None:
        raise ValueError(f"gradient_accumulation_steps={steps!r}: {_INSTEAD['gradient_accumulation_steps']}")


def refuse_twice(name, indices):
    """ValueError where a variable, known by its index, stands twice in one update, before it has moved: a layer-wise rule keeps
    one trust ratio of each."""
    if len({*indices}) < len(indices):
        raise ValueError(f"{name}: a variable stands twice among those of one update; add its gradients up first")


def refuse_unknown_arguments(constructor, given):
    """TypeError for names of arguments that an optimizer's constructor does not have, with what to take in their place."""
    known = inspect.signature(constructor).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        return  # whoever subclasses hands them on
    unknown = [f"{name} ({_INSTEAD[name]})" if name in _INSTEAD else f"{name}{registry.close_matches(name, known)}"
               for name in given if name not in known]
    if unknown:
        raise TypeError(f"{constructor.__name__} has no argument {', '.join(unknown)}. It has {', '.join(known)}")


def as_config(value):
    """An argument as `get_config` has it: tuples, nested ones too, as lists."""
    return [as_config(part) for part in value] if isinstance(value, tuple) else value


def constructor_parameters(optimizer):
    """Names of the arguments that an optimizer's class takes, those included that it hands on to the class that it is of."""
    names = {}
    for one in optimizer.__mro__:
        if "__init__" in vars(one):
            own = list(inspect.signature(one.__init__).parameters.values())[1:]
            handed_on = [parameter for parameter in own if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)]
            names.update((parameter.name, None) for parameter in own if parameter not in handed_on)
            if not handed_on:
                break
    return list(names)


def refuse_arguments_without_effect(rule):
    """ValueError for arguments of an optimizer that others leave nothing to act on."""
    if not rule.layerwise and (rule.trust_bounds is not None or rule.trust_coefficient != 1.0
                               or rule.exclude_from_adaptation is not None or rule.fixed_trust_ratios is not None):
        raise ValueError(
            f"trust_bounds={rule.trust_bounds!r}, trust_coefficient={rule.trust_coefficient!r}, "
            f"exclude_from_adaptation={rule.exclude_from_adaptation!r}, fixed_trust_ratios={rule.fixed_trust_ratios!r}: "
            f"without layerwise=True there is no trust ratio for them to act on. Give layerwise=True or leave them out")
    if rule.trust_bounds_schedule == "adabound" and (rule.trust_bounds is None or rule.trust_bounds_rate == 0.0):
        raise ValueError(
            f"trust_bounds_schedule='adabound' tightens trust_bounds at trust_bounds_rate: give both, "
            f"not trust_bounds={rule.trust_bounds!r} and trust_bounds_rate={rule.trust_bounds_rate!r}")


def check_memory(name, value):
    """`value`, what a moving average keeps of itself, as a float; as `check_number` from 0 to LARGEST_MEMORY."""
    return check_number(name, value, 0.0, LARGEST_MEMORY)


def check_flag(name, value):
    """`value`; TypeError unless it is a bool, since any text is true."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={value!r} is no bool: give True or False")
    return bool(value)


def check_count(name, value):
    """`value`; TypeError unless it is a whole number, ValueError unless it is at least 1."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}={value!r} is no whole number: give one from 1")
    return int(check_number(name, value, 1))


def check_choice(name, value, choices):
    """`value`; ValueError unless it is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown: give one of {', '.join(map(repr, choices))}")
    return value


def check_bounds(name, bounds):
    """None, or (low, high) as floats; ValueError unless 0 <= low <= high, 0 < high, and low is finite."""
    if bounds is None:
        return None
    try:
        low, high = (math.nan if isinstance(bound, (str, bytes, bool)) else float(bound) for bound in bounds)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (0.0 <= low <= min(high, LARGEST) and high > 0.0):
        raise ValueError(f"{name}={bounds!r} are no bounds: give (low, high) with 0 <= low <= high, low "
                         f"finite and high > 0, or None for no bounds")
    return low, high


def check_ratios(name, ratios):
    """None, or ((regular expression, ratio), ...) from pairs or a dict; ValueError unless every ratio is finite and > 0."""
    if ratios is None:
        return None
    try:
        ratios = [(pattern, ratio) for pattern, ratio in (ratios.items() if isinstance(ratios, dict) else ratios)]
    except (TypeError, ValueError):
        raise TypeError(f"{name}={ratios!r}: give {{regular expression: ratio}}, or pairs of the two") from None
    pairs = tuple((pattern, check_number(f"{name}[{pattern!r}]", ratio, 0.0, but=0.0))
                  for pattern, ratio in ratios)
    check_patterns(name, [pattern for pattern, _ in pairs])
    return pairs


def constructor_arguments(settings):
    """Constructor arguments from a registry row's or preset's settings, which carry the names of flags."""
    return {CONSTRUCTOR_NAMES.get(name, name): value for name, value in settings.items()}


def preset_arguments(row, preset):
    """The constructor arguments that a preset of a registry row fills; ValueError for another preset's name."""
    presets = registry.PRESETS[row]
    check_choice("preset", preset, tuple(presets))
    return constructor_arguments(presets[preset])
