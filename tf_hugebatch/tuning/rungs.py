"""The rungs of the recipe ladder of section 3.1: what each adds, and what is searched for it.

Rungs 0 and 1 follow the paper's rule: the rate is tuned at the baseline batch, scaled linearly, and not tuned again. Every
other rung is tuned with one number of trials, over rates that span equally many decades. Rung 0 tuned, and rung 4 without
each of its parts, say how much of the ladder's height is the tuning's and how much each technique's.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping

from tf_hugebatch import published, regimes, registry
from tf_hugebatch.settings import Settings

#: Warm-up of the rule's rung 1, Goyal et al. 2017; a sixth of a run that is shorter than 30 epochs.
RULE_WARMUP_EPOCHS, RULE_WARMUP_SHARE = 5.0, 1 / 6
_SMOOTHING = [0.05, published.TABLE_4_LABEL_SMOOTHING, 0.2]


def default_spaces(epochs: float) -> dict[str, dict]:
    """What is searched where --space says nothing else; all rates span three decades.

    baseline: momentum SGD at the baseline batch, around the 0.05 to 0.1 of the public recipes. sgd: from below such a rate to
    where momentum SGD diverges. lars: with trust coefficient 0.001 (the registry's) MLPerf's rates lie between 8.5 and 31, ours
    on MNIST at 24. Warm-up up to half of the run: 'extremely long' helps at huge batches (figure 5).
    """
    others = {"warmup_epochs": {"low": 0.0, "high": epochs / 2}, "label_smoothing": _SMOOTHING}
    return {"baseline": {"learning_rate": {"low": 0.003, "high": 3.0, "log": True}},
            "sgd": {"peak_learning_rate": {"low": 0.03, "high": 30.0, "log": True}, **others},
            "lars": {"peak_learning_rate": {"low": 0.1, "high": 100.0, "log": True}, **others}}


@dataclasses.dataclass(frozen=True)
class Rung:
    """name, adds: as in the paper, or what is left out. folder: below the ladder's. kind: 'baseline_rate', 'rule', 'tuned' or
    'leave_one_out'. words: above the base. solver, tunes: the part of the space that is searched. n_a: why it can't be, or
    None."""

    name: str
    adds: str
    folder: str
    kind: str
    words: tuple[str, ...]
    solver: str = ""
    tunes: tuple[str, ...] = ()
    n_a: str | None = None


_RATE, _WARMUP, _LABELS = "peak_learning_rate", "warmup_epochs", "label_smoothing"


def rungs(settings: Settings) -> list[Rung]:
    """The rungs for a base, in the order in which they are run; the rule's rungs lack their rate, which is yet to be found."""
    has_norm = registry.find("model", settings.model).facts["batch_norm"]
    batch = registry.find("dataset", settings.dataset).facts["baseline_batch"]
    sgd, lars = ("--optimizer=sgd",), ("--optimizer=lars",)
    plain = (*sgd, "--label_smoothing=0")
    if not has_norm:
        # A bias that takes the bare rate of LARS, a thousand times SGD's, has no batch norm to absorb it.
        lars += ("--exclude_from_adaptation=none",)
    no_norm = None if has_norm else f"{settings.model} has no batch norm"
    adds = [rung.adds for rung in published.LADDER]
    adds[0] += f" (n/a: {no_norm})" if no_norm else ""
    warmup = min(RULE_WARMUP_EPOCHS, settings.epochs * RULE_WARMUP_SHARE)

    def without(what, *words, tunes=(_RATE, _WARMUP, _LABELS), n_a=None):
        return Rung(f"4 without {what}", f"all but {what}", f"rung4_without_{what.replace(' ', '_')}", "leave_one_out",
                    (*lars, *words), "lars", tunes, n_a)

    return [
        Rung("baseline rate", f"the rate that rungs 0 and 1 scale, tuned at batch {batch}", "baseline_rate", "baseline_rate",
             (*plain, f"--batch_size={batch}", "--lr_scaling=linear", "--warmup_epochs=0"), "baseline", ("learning_rate",)),
        Rung("0", adds[0], "rung0", "rule", (*plain, "--lr_scaling=linear", "--warmup_epochs=0")),
        Rung("1", adds[1], "rung1", "rule", (*plain, "--lr_scaling=linear", f"--warmup_epochs={warmup:g}")),
        Rung("0 tuned", f"{adds[0]}; the rate tuned", "rung0_tuned", "tuned", (*plain, "--warmup_epochs=0"), "sgd", (_RATE,)),
        Rung("2", adds[2], "rung2", "tuned", plain, "sgd", (_RATE, _WARMUP)),
        Rung("3", adds[3], "rung3", "tuned", sgd, "sgd", (_RATE, _WARMUP, _LABELS)),
        Rung("4", adds[4], "rung4", "tuned", lars, "lars", (_RATE, _WARMUP, _LABELS)),
        without("warm-up", "--warmup_epochs=0", tunes=(_RATE, _LABELS)),
        without("label smoothing", "--label_smoothing=0", tunes=(_RATE, _WARMUP)),
        without("clipping", "--clip_global_norm=none",
                n_a=None if settings.clip_global_norm else "the base clips nothing"),
        without("ghost batch norm", "--bn_span=full", n_a=no_norm),
        without("decay", "--schedule=constant", n_a="the base decays nothing" if settings.schedule == "constant" else None),
    ]


def shared_words(settings: Settings) -> list[str]:
    """What all rungs have beside the base, where the base does not say it: rung 0's parts, and one momentum and decay."""
    weight_decay = regimes.of(settings.dataset)["baseline"].get("weight_decay")
    shared = {"momentum": 0.9, "weight_decay": weight_decay.value if weight_decay else published.TABLE_4_WEIGHT_DECAY,
              "schedule": "cosine", "clip_global_norm": 1.0, "warmup_from": "zero"}
    if registry.find("model", settings.model).facts["batch_norm"]:
        shared["bn_span"] = published.BATCH_NORM_EXAMPLES
    return [f"--{name}={value}" for name, value in shared.items() if not is_given(settings, name)]


def is_given(settings: Settings, name: str) -> bool:
    """Whether the base says it: no default and no regime's."""
    return settings.sources[name].startswith(("command line", "flagfile"))


def problems_of_spaces(where: str, given: Mapping, spaces: Mapping) -> Iterator[str]:
    """Parts that are unknown or incomplete, and rates that do not span equally many decades.

    Args:
        where: what to call the space file.
        given: the parts that it has, name -> the object of a space file.
        spaces: the same with the default of each part that it lacks.
    """
    known = default_spaces(1)
    for name, content in given.items():
        if name not in known:
            yield (f"{where}: {name}: unknown part{registry.close_matches(name, known) or ';'} a ladder's space has the parts "
                   f"{', '.join(known)}, each a space of its own")
        elif not isinstance(content, dict) or set(content) != set(known[name]):
            yield f"{where}: {name}: a ladder searches {', '.join(known[name])} there; give just those"
    decades = {name: _decades(spaces[name][_RATE]) for name in ("sgd", "lars") if isinstance(spaces[name], dict)
               and _RATE in spaces[name]}
    if None not in decades.values() and len({round(length, 6) for length in decades.values()}) > 1:
        lengths = ", ".join(f"{name} {length:.3g}" for name, length in decades.items())
        yield f"{where}: {_RATE}: rungs are compared, so their rates span equally many decades ({lengths}); widen one of them"


def _decades(content):
    """Of a range of rates, or of the numbers in a list; None for what another check refuses."""
    ends = [content.get("low"), content.get("high")] if isinstance(content, dict) else content
    try:
        return math.log10(max(ends) / min(ends))
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
