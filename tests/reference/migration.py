"""Which arguments of ours do what another implementation did: the rows of docs/MIGRATION.md, and what they are tested on.

A row names a recorded case (tests/goldens) of the implementation: how that was called is read from the recording, ours is
written here as a user would write it, and tests/optimizers/test_migration.py runs just that. apex was not recorded; its
rows are tested against its rule, written in that test.
"""

import dataclasses

from reference.peers import ALL, Ours, written
from reference.recorded import CASES, INEXPRESSIBLE

BOTH = {"exclude_from_decay": None, "exclude_from_adaptation": None}
MOMENTUM = {"momentum": 0.9, "weight_decay": 0.05}
# timm's way to leave out biases and norms, as its recorded constructor puts it, and as it is said here.
TWO_GROUPS = "one group; second group with weight_decay=0.0: bn/gamma, bn/beta, dense/bias"


@dataclasses.dataclass(frozen=True)
class Move:
    """One row: a recorded case, or how apex is called, and the call of ours."""

    case: str | None
    ours: Ours
    theirs: str = ""


@dataclasses.dataclass(frozen=True)
class Section:
    """One implementation. callee: what its users write. cannot: recorded cases that ours do not express, by their prefix."""

    title: str
    callee: str
    moves: tuple
    notes: str
    cannot: tuple = ()


SECTIONS = (
    Section(
        "tfa.optimizers.LAMB", "tfa.optimizers.LAMB", (
            Move("tfa_lamb-wd0.05-all", Ours("LAMB", {"weight_decay": 0.05, **ALL})),
            Move("tfa_lamb-wd0.05-ex", Ours("LAMB", {"weight_decay": 0.05})),
            Move("tfa_lamb-separate_lists", Ours("LAMB", {"weight_decay": 0.05, "exclude_from_decay": ("bias",),
                                                          "exclude_from_adaptation": ("bn",)})),
            Move("tfa_lamb-adapt_list_only", Ours("LAMB", {"weight_decay": 0.05, "exclude_from_decay": ()})),
            Move("tfa_lamb-betas", Ours("LAMB", {"weight_decay": 0.05, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 0.001})),
        ),
        "Nothing said, TFA decays and adapts everything, ours leaves out biases and the scales and offsets of norms, by role. "
        "TFA's patterns are searched in the name of a variable, ours in its path (the recorded model's batch norm is called "
        "bn here); its list of adaptation, when empty, is its list of decay, here each stands for itself. "
        "What can't be had: tfa.optimizers.Lookahead, SWA and MovingAverage around one of ours. They take legacy optimizers "
        "(tf.keras.optimizers.legacy) only."),
    Section(
        "keras.optimizers.Lamb", "keras.optimizers.Lamb", (
            Move("keras_lamb-default", Ours("LAMB", {"epsilon": 1e-7, "exclude_from_adaptation": ()})),
            Move("keras_lamb-eps1e-3", Ours("LAMB", {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 0.001,
                                                     "exclude_from_adaptation": ()})),
            Move("keras_lamb-wd0.05", Ours("LAMB", {"weight_decay": 0.05, "decoupled_weight_decay": True, "epsilon": 1e-7,
                                                    **ALL})),
        ),
        "Keras takes rate x weight_decay x w off before the update, outside the trust ratio. Without "
        "decoupled_weight_decay=True ours is the paper's, where the ratio scales decay too, and which needs a weight decay of "
        "its own."),
    Section(
        "keras.optimizers.Muon", "keras.optimizers.Muon", (
            Move("keras_muon-default", Ours("Muon", {"momentum": 0.95, "weight_decay": 0.004}, "keras")),
            Move("keras_muon-nonesterov", Ours("Muon", {"weight_decay": 0.004, "nesterov": False}, "keras")),
            Move("keras_muon-rms_none-ns3", Ours("Muon", {"momentum": 0.95, "weight_decay": 0.004, "update_scale": "none",
                                                          "newton_schulz_steps": 3}, "keras")),
            Move("keras_muon-exclude_dense", Ours("Muon", {"weight_decay": 0.01,
                                                           "exclude_from_orthogonalization": ("dense",)}, "keras")),
        ),
        "Nothing said, Keras orthogonalises what has two axes and leaves the rest, convolutions too, to Adam at the same rate; "
        "ours takes kernels of convolutions as matrices, [height x width x channels in, channels out], and moves the rest at a "
        "tenth of the rate. adam_lr_ratio is adam_rate_ratio; weight_decay and adam_weight_decay are one number here, and "
        "exclude_from_decay says who decays (exclude_from_weight_decay there). exclude_layers adds to what Keras leaves to Adam, "
        "embeddings among it; exclude_from_orthogonalization says all of it but what has less than two axes: in a model with "
        "embeddings (\"(?i)embedding\", \"dense\")."),
    Section(
        "optax.contrib.muon", "optax.contrib.muon", (
            Move("optax_muon-default", Ours("Muon", {"momentum": 0.95}, "optax")),
            Move("optax_muon-nonesterov", Ours("Muon", {"nesterov": False, "adam_nesterov": False}, "optax")),
            Move("optax_muon-consistent_rms", Ours("Muon", {
                "momentum": 0.95, "weight_decay": 0.05, "update_scale": "rms", "exclude_from_decay": ("conv", "bn", "bias")},
                "optax")),
            Move("optax_muon-conv", Ours("Muon", {"momentum": 0.95, "reshape_kernels": True}, "optax")),
        ),
        "beta is momentum; nesterov there is Adam's too, here adam_nesterov. muon_weight_dimension_numbers that reduce over all "
        "axes but the last are reshape_kernels; others can't be had.", ("optax_muon",)),
    Section(
        "tf-models LARS (official.modeling.optimization)", "LARS", (
            Move("tfm_lars-classic-wd0.05-e0.001-all-n1", Ours("LARS", {**MOMENTUM, "nesterov": True}, "tf_models")),
            Move("tfm_lars-classic-wd0.05-e0.001-ex-n0", Ours("LARS", {**MOMENTUM, **BOTH}, "tf_models")),
            Move("tfm_lars-classic-separate_lists",
                 Ours("LARS", {**MOMENTUM, "trust_coefficient": 1.0, "exclude_from_decay": ("bias",),
                               "exclude_from_adaptation": ("bn",)}, "tf_models")),
            Move("tfm_lars-popular-wd0.05-e0.001-all-n1",
                 Ours("LARS", {**MOMENTUM, "nesterov": True, "momentum_convention": "update_norm"}, "tf_models")),
            Move("tfm_lars-popular-wd0.05-e0.001-ex-n0",
                 Ours("LARS", {**MOMENTUM, "momentum_convention": "update_norm", **BOTH}, "tf_models")),
        ),
        "Its list of adaptation, when empty or None, is its list of decay; here each stands for itself."),
    Section(
        "apex LARC (apex.parallel.LARC around torch.optim.SGD)", "LARC", (
            Move(None, Ours("LARS", MOMENTUM, "larc"), "LARC(SGD(weights, lr=rate, momentum=0.9, weight_decay=0.05))"),
            Move(None, Ours("LARS", {**MOMENTUM, "trust_coefficient": 0.001}, "larc"),
                 "LARC(SGD(weights, lr=rate, momentum=0.9, weight_decay=0.05), trust_coefficient=0.001)"),
            Move(None, Ours("LARS", {**MOMENTUM, "nesterov": True, "trust_clip": False}, "larc"),
                 "LARC(SGD(weights, lr=rate, momentum=0.9, weight_decay=0.05, nesterov=True), clip=False)"),
        ),
        "The same where neither norm is 0 (and at a zero-initialised variable's first update, at rates up to 1). What can't be "
        "had: where the norm of a variable or of its gradient is 0, apex leaves out the decay too and steps at the whole rate; "
        "here, as in timm, it is decayed and its ratio is 1 before the clip."),
    Section(
        "timm Lars", "timm.optim.Lars", (
            Move("timm_larc-wd0.05-e0.001-all-n1", Ours("LARS", {**MOMENTUM, "nesterov": True, "trust_coefficient": 0.001},
                                                        "larc")),
            Move("timm_larc-wd0.05-e0.001-ex-n0", Ours("LARS", {**MOMENTUM, "trust_coefficient": 0.001, **BOTH}, "larc")),
            Move("timm_lars-wd0.05-e0.001-all-n1",
                 Ours("LARS", {**MOMENTUM, "nesterov": True, "trust_coefficient": 0.001, "trust_clip": False}, "larc")),
            Move("timm_lars-wd0.05-e0.001-ex-n0",
                 Ours("LARS", {**MOMENTUM, "trust_coefficient": 0.001, "trust_clip": False, **BOTH}, "larc")),
            Move("timm_lars-always_adapt",
                 Ours("LARS", {**MOMENTUM, "trust_coefficient": 1.0, "trust_clip": False, "exclude_from_decay": None}, "larc")),
            Move("timm_lars-wd0_always_adapt",
                 Ours("LARS", {"momentum": 0.9, "trust_coefficient": 0.001, "trust_clip": False}, "larc")),
        ),
        "A group of timm's with weight_decay=0 is not adapted either, unless always_adapt=True; here the two lists say which "
        "is which. Without any weight decay timm's Lars is therefore momentum SGD unless always_adapt=True; ours adapts."),
    Section(
        "timm Lamb", "timm.optim.Lamb", (
            Move("timm_lamb-default", Ours("LAMB", {"weight_decay": 0.01, "clip_global_norm": 1.0, **ALL})),
            Move("timm_lamb-default_ex", Ours("LAMB", {"weight_decay": 0.01, "clip_global_norm": 1.0})),
            Move("timm_lamb-bc1-clip1-wd0.0001-all", Ours("LAMB", {"weight_decay": 0.0001, "trust_bounds": (0.0, 1.0), **ALL})),
            Move("timm_lamb-bc0-clip0-wd0.05-ex", Ours("LAMB", {"weight_decay": 0.05, "bias_correction": False})),
            Move("timm_lamb-decoupled", Ours("LAMB", {"weight_decay": 0.05, "decoupled_weight_decay": True, **ALL})),
            Move("timm_lamb-always_adapt", Ours("LAMB", {"weight_decay": 0.05, "exclude_from_adaptation": ()})),
        ),
        "max_grad_norm is clip_global_norm (1 there, off here, unless said), trust_clip bounds the ratio at 1, and groups are "
        "as in Lars.", ("timm_lamb",)),
    Section(
        "tf.contrib and MLPerf LARS", "LARSOptimizer", (
            Move("contrib114-wd0.05-e0.001-all-n1", Ours("LARS", {**MOMENTUM, "nesterov": True}, "contrib")),
            Move("contrib115-wd0.05-e0.001-ex-n0", Ours("LARS", MOMENTUM, "mlperf")),
            Move("mlperf_tf1-wd0.05-e0.001-ex-n0", Ours("LARS", MOMENTUM, "mlperf")),
            Move("mlperf_tf2-wd0.05-e0.001-ex-n0", Ours("LARS", {**MOMENTUM, "epsilon": 1e-7}, "mlperf")),
        ),
        "tf.contrib's of TensorFlow 1.14 and before is another rule than that of 1.15, which is MLPerf's."),
)


def theirs(section, move):
    """Their call, from what the recording says of its constructor."""
    if move.case is None:
        return move.theirs
    said = dict(CASES[move.case]["constructor"])
    words = [f"{key}={written(value)}" for key, value in said.items()
             if key not in ("learning_rate", "lr", "params") and (value is not None or key in ("max_grad_norm", "rms_rate"))]
    if "params" in said:
        groups = "groups: kernels, the rest with weight_decay=0" if said["params"] == TWO_GROUPS else "weights"
        words = [groups, "lr=rate", *words]
    else:
        words = ["rate", *words]
    return f"{section.callee}({', '.join(words)})"


def test_of(move):
    """The id of the test that runs a row."""
    if move.case is None:
        return f"test_apex_larc[{move.theirs}]"
    return f"test_the_row_reproduces_the_recording[{move.case}]"


def page():
    """The text of docs/MIGRATION.md."""
    text = ("# From another implementation\n\nMade by `python scripts/parity_table.py --migration` from "
            "`tests/reference/migration.py`; every row is run by the test named, in `tests/optimizers/test_migration.py`, on 8 "
            "recorded updates of the implementation itself (apex: on its rule). Names without a prefix are "
            "`tf_hugebatch.optimizers`'; what is not said has its default. How close: [PARITY.md](PARITY.md).\n")
    for section in SECTIONS:
        text += f"\n## {section.title}\n\n| theirs | ours | test |\n|---|---|---|\n"
        for move in section.moves:
            text += f"| `{theirs(section, move)}` | `{move.ours}` | `{test_of(move)}` |\n"
        text += f"\n{section.notes}\n"
        cannot = [case for case in INEXPRESSIBLE if case.startswith(section.cannot)] if section.cannot else []
        for reason in dict.fromkeys(INEXPRESSIBLE[case] for case in cannot):
            cases = ", ".join(case for case in cannot if INEXPRESSIBLE[case] == reason)
            text += f"\n* can't be had: {reason} (recorded as {cases})"
        text += "\n" if cannot else ""
    return text
