"""The table of settings, one Field a flag: flags, --help, checks, hash and README's table are made from it.

kind says what a change means for a run that is resumed: `experiment` values must agree (they are hashed),
`layout` values say how and where the same updates are computed, `reporting` values what is written down.
`regime` and `optimizer_preset` are shorthands: only the values they stand for are hashed.
"""

from __future__ import annotations

import dataclasses

from tf_hugebatch import durations, parsers, registry
from tf_hugebatch.regimes import REGIMES
from tf_hugebatch.parsers import Parser


@dataclasses.dataclass(frozen=True)
class Field:
    """One setting. takes: what its value looks like, in words. default: the lowest level; None means 'not
    set', or 'filled by a row' where a regime, optimizer, schedule, model or data set states it. row: the table
    whose rows must list the setting to take it ('optimizer', 'schedule', 'model', 'dataset'), or ''."""

    name: str
    kind: str
    group: str
    takes: str
    parse: Parser
    default: object
    help: str
    choices: tuple[str, ...] = ()
    optional: bool = False  # None is a value that can be given
    row: str = ""

    @property
    def is_boolean(self) -> bool:
        """A switch: --name and --noname stand for true and false."""
        return self.takes.startswith("true|false")


def _field(kind: str, group: str, name: str, takes: object, parse: Parser | None, default: object, help: str,
           **marks) -> Field:
    """`takes` is a description, or the tuple of names to choose from."""
    if isinstance(takes, tuple):
        parse = parsers.choice(*takes)
        return Field(name, kind, group, "|".join(takes), parse, default, help, takes, **marks)
    if marks.get("optional") and parse is not parsers.exclusions:
        parse = parsers.optional(parse)
    return Field(name, kind, group, takes, parse, default, help, **marks)


def _experiment(group, name, takes, parse, default, help, **marks):
    return _field("experiment", group, name, takes, parse, default, help, **marks)


def _layout(group, name, takes, parse, default, help, **marks):
    return _field("layout", group, name, takes, parse, default, help, **marks)


def _reporting(group, name, takes, parse, default, help, **marks):
    return _field("reporting", group, name, takes, parse, default, help, **marks)


def _rate(name, takes, parse, default, help, **marks):
    return _experiment("learning rate", name, takes, parse, default, help, **marks)


def _optimizer(name, takes, parse, help, **marks):
    return _experiment("optimizer", name, takes, parse, None, help, row="optimizer", **marks)


def _model(name, takes, parse, help, **marks):
    return _experiment("model", name, takes, parse, None, help, row="model", **marks)


_positive = parsers.number(low=0, above=True)
_not_negative = parsers.number(low=0)
_fraction = parsers.number(low=0, high=1, below=True)
_memory = parsers.number(low=0, high=parsers.LARGEST_MEMORY)
_count = parsers.integer(low=1)

_REGIME_NAMES = tuple(dict.fromkeys(name for recipes in REGIMES.values() for name in recipes))
_PRESETS = tuple(dict.fromkeys(name for presets in registry.PRESETS.values() for name in presets))
_PLACEMENTS = tuple(dict.fromkeys(
    name for row in registry.OPTIMIZERS.values() for name in row.facts.get("epsilon_placement", ())))

_EXCLUSIONS_HELP = "on variable.path, separated by commas; none: no variable; default: biases and norms"

_ALL = [
    _reporting("run", "regime", _REGIME_NAMES, None, "baseline",
               "fills batch, duration, optimizer, rate, schedule, warm-up from the rows for this data set"),
    _reporting("run", "run_dir", "path", parsers.path, None,
               "run folder; not set: runs/<dataset>-<8 characters of the experiment's hash>"),
    _reporting("run", "resume", ("auto", "never", "required"), None, "auto",
               "auto: go on where the folder's run stopped; never: refuse a folder with a run; required: "
               "refuse one without"),
    _experiment("run", "seed", "whole number", parsers.integer(low=0, high=2**32 - 1), 0,
                "decides weights, order of examples, crops and dropout"),
    _experiment("run", "deterministic", "true|false", parsers.boolean, False,
                "bit-reproducible kernels on this machine, at some cost"),
    _reporting("run", "dry_run", "true|false", parsers.boolean, False,
               "resolve, build, print, write settings.json and schedule.csv; train nothing"),

    _experiment("data", "dataset", tuple(registry.DATASETS), None, "mnist", "data set"),
    _layout("data", "data_dir", "path", parsers.path, None,
            "folder with the data: npz, IDX files, TFRecord shards, class folders, or a prepared TFDS folder; not set: "
            "TFDS' own folder, or a download", optional=True),
    _experiment("data", "dataset_size", "train,test", parsers.sizes, None,
                "examples, where they are not the data set's own: counted in data_dir; synthetic: as many as you like",
                row="dataset", optional=True),
    _experiment("data", "image_size", "pixels", parsers.integer(low=1, high=4096), None,
                "side of the images that the network sees", row="dataset"),
    _experiment("data", "validation_examples", "whole number", parsers.integer(low=0), 0,
                "the last n of a fixed stratified permutation of the training set validate"),
    _experiment("data", "shuffle", ("examples", "shards", "none"), None, "examples",
                "examples: a new permutation every epoch; shards: TFRecords as streams, for storage without fast random "
                "access"),
    _experiment("model", "model", tuple(registry.MODELS), None, None, "network"),
    _experiment("model", "norm", ("span", "local"), None, "span",
                "who shares batch-norm statistics: bn_span examples, or each replica's micro-batch"),
    _model("bn_span", "examples or full", parsers.integer(low=1, words=("full",)),
           "examples that share batch-norm statistics, wherever they lie", optional=True),
    _model("bn_momentum", "number in [0, 1]", parsers.number(low=0, high=1), "momentum of the moving statistics"),
    _model("zero_init_gamma", "true|false", parsers.boolean, "the last batch norm of each block starts at gamma 0"),
    _model("resnet_version", ("v1.5", "v1"), None, "v1.5: a bottleneck's 3x3 convolution has the stride; v1: its first 1x1"),
    _model("recalibrate_bn_batches", "batches", parsers.integer(low=0),
           "global batches from which the moving statistics are made anew before an evaluation"),
    _experiment("model", "precision", ("float32", "mixed_bfloat16"), None, "float32", "of activations; float32: never TF32"),

    _experiment("batch", "batch_size", "examples or full", parsers.integer(low=1, words=("full",)), None,
                "global batch; full: every training example after the split"),
    _layout("batch", "micro_batch_size", "examples or auto", parsers.integer(low=1, words=("auto",)), "auto",
            "examples that one replica holds at once (part of the experiment when norm is local)"),
    _experiment("batch", "epochs", "number", _positive, None,
                "duration, may be fractional: ceil(epochs x N / B) updates"),
    _experiment("batch", "train_steps", "updates", _count, None, "duration in updates"),
    _experiment("batch", "batch_growth", "epoch:factor,... or none", parsers.at_epochs(parsers.integer(low=2)), None,
                "the batch grows by whole factors as epochs begin, instead of a rate that falls; batch_size is the first",
                optional=True),
    _experiment("batch", "regime_adaptation", "true|false", parsers.boolean, False,
                "duration: as many updates as the data set's baseline makes; a regime's warm-up and a schedule's own drops are "
                "stretched with it, yours are in passes through the data"),

    _experiment("optimizer", "optimizer", tuple(registry.OPTIMIZERS), None, None, "update rule"),
    _reporting("optimizer", "optimizer_preset", _PRESETS, None, None,
               "lars, muon: the choices of a public implementation"),
    _optimizer("momentum", "number in [0, 1)", _fraction, "momentum"),
    _optimizer("nesterov", "true|false", parsers.boolean, "Nesterov momentum"),
    _optimizer("beta_1", "number in [0, 1)", _memory, "decay of the first moment"),
    _optimizer("beta_2", "number in [0, 1)", _memory, "decay of the second moment"),
    _optimizer("epsilon", "number", _not_negative,
               "added to the denominator; shampoo: floor of eigenvalues, relative to the largest"),
    _optimizer("epsilon_placement", _PLACEMENTS, None, "where epsilon stands"),
    _optimizer("bias_correction", "true|false", parsers.boolean, "correct the moments' start at zero"),
    _optimizer("weight_decay", "number", _not_negative, "lambda, part of the direction"),
    _optimizer("trust_coefficient", "number", _positive, "eta, multiplies the trust ratio"),
    _optimizer("trust_bounds", "lo,hi or none", parsers.bounds, "bounds of the trust ratio; hi may be inf",
               optional=True),
    _optimizer("trust_bounds_schedule", ("fixed", "adabound"), None,
               "adabound: bounds tighten with the update"),
    _optimizer("trust_bounds_rate", "number", _positive, "how fast adabound's bounds tighten"),
    _optimizer("weight_norm_bounds", "lo,hi or none", parsers.bounds, "phi: bounds of ||w||", optional=True),
    _optimizer("lars_denominator", ("sum", "joint"), None,
               "sum: ||g|| + lambda ||w|| + epsilon; joint: ||g + lambda w||"),
    _optimizer("momentum_convention", ("unscaled", "scaled", "after", "update_norm", "corrected"), None,
               "where rate and trust ratio enter the momentum"),
    _optimizer("decay_in_update", "true|false", parsers.boolean, "false: lambda in the trust ratio only"),
    _optimizer("trust_clip", "true|false or none", parsers.boolean,
               "trust ratio / rate at most 1 (apex LARC)", optional=True),
    _optimizer("newton_schulz_steps", "whole number", _count, "iterations that orthogonalise a matrix"),
    _optimizer("newton_schulz_epsilon", "number", _not_negative, "added to the norm that a matrix is divided by before them"),
    _optimizer("update_scale", ("width", "rms", "none"), None,
               "of an orthogonal update: sqrt(max(1, fan_out / fan_in)), 0.2 sqrt(max(fan_in, fan_out)), or 1"),
    _optimizer("exclude_from_orthogonalization", "regexes", parsers.exclusions,
               "variables for Adam, on variable.path, separated by commas; none: no matrix; default: biases, norms, embeddings",
               optional=True),
    _optimizer("reshape_kernels", "true|false", parsers.boolean, "kernels of convolutions are orthogonalised too, as matrices"),
    _optimizer("adam_rate_ratio", "number", _positive, "rate of what is not orthogonalised, which Adam moves, over the rate"),
    _optimizer("adam_nesterov", "true|false", parsers.boolean, "Nesterov's first moment in that Adam"),
    _optimizer("exclude_from_decay", "regexes", parsers.exclusions,
               "variables without weight decay; " + _EXCLUSIONS_HELP, optional=True),
    _optimizer("exclude_from_adaptation", "regexes", parsers.exclusions,
               "variables whose trust ratio is 1; " + _EXCLUSIONS_HELP, optional=True),
    _optimizer("fixed_trust_ratios", "regex=ratio,... or none", parsers.ratios,
               "trust ratios that stay, in the place of computed ones; each adapted variable's path matches one",
               optional=True),
    _optimizer("clip_global_norm", "number or none", _positive,
               "largest global gradient norm, after the reduce", optional=True),
    _optimizer("statistics_decay", "number in [0, 1]", parsers.number(low=0, high=1),
               "memory of the Kronecker factors' moving averages; 1: sums (shampoo), means over all updates (kfac)"),
    _optimizer("block_size", "whole number", _count, "largest side of a block with Kronecker factors of its own"),
    _optimizer("inverse_interval", "updates", _count,
               "updates from one computation of the factors' inverses (shampoo: inverse roots) to the next"),
    _optimizer("damping", "number", _positive, "lambda of factored Tikhonov damping"),
    _optimizer("kl_clip", "number or none", _positive,
               "largest learning_rate^2 <natural gradient, gradient>", optional=True),
    _optimizer("grafting", ("sgd", "lars"), None, "whose length a turned update has"),
    _experiment("noise", "inject_noise", ("activations", "weights", "gradients", "labels"), None, None,
                "Gaussian noise, the same on every layout: on outputs of layers, on weights after an update, on the global "
                "batch's gradient, on one-hot targets"),
    _experiment("noise", "noise_stddev", "number", _positive, None, "its standard deviation at update 0"),
    _experiment("noise", "noise_decay", "number", _not_negative, None,
                "its variance falls as (1 + updates)^-noise_decay; not set: it stays"),
    _experiment("optimizer", "label_smoothing", "number in [0, 1)", _fraction, 0.0, "label smoothing"),

    _rate("learning_rate", "number", _positive, None, "rate at the baseline batch"),
    _rate("lr_scaling", durations.SCALING_RULES, None, "linear",
          "how the rate grows with batch / baseline batch"),
    _rate("peak_learning_rate", "number", _positive, None,
          "the peak itself, instead of learning_rate and lr_scaling"),
    _rate("schedule", tuple(registry.SCHEDULES), None, "constant", "decay after the warm-up"),
    _rate("poly_power", "number", _positive, None, "power of the polynomial", row="schedule"),
    _rate("end_learning_rate", "number", _not_negative, None, "rate at the end, or a cycle's base",
          row="schedule"),
    _rate("cycles", "whole number", _count, None, "cycles in the run", row="schedule"),
    _rate("rate_drops", "epoch:factor,... or none", parsers.at_epochs(parsers.number(low=1, above=True)), None,
          "what the rate is divided by as epochs begin", row="schedule", optional=True),
    _rate("warmup_epochs", "number", _not_negative, 0.0, "warm-up, round(epochs x N / B) updates"),
    _rate("warmup_steps", "updates", parsers.integer(low=0), None, "warm-up in updates"),
    _rate("warmup_shape", ("linear", "cosine"), None, "linear", "shape of the warm-up"),
    _rate("warmup_from", ("first", "zero"), None, "first",
          "first: update 0 has peak / w; zero: update 0 has rate 0"),
    _rate("decay_from", ("warmup_end", "start"), None, "warmup_end",
          "where the decay's clock starts"),

    _layout("layout", "strategy", ("auto", "one", "mirrored", "multiworker", "tpu"), None, "auto",
            "devices; multiworker: those of all processes that TF_CONFIG names"),
    _layout("layout", "tpu", "name, address or local", parsers.path, None,
            "the TPU, as TPUClusterResolver takes it; implies strategy=tpu", optional=True),
    _layout("layout", "num_replicas", "whole number", _count, None,
            "replicas, for strategy auto or mirrored; logical CPU devices where there is no accelerator",
            optional=True),
    _layout("layout", "steps_per_loop", "updates or auto", parsers.integer(low=1, words=("auto",)), "auto",
            "updates between two looks at the metrics"),
    _layout("layout", "eval_batch_size", "examples or auto", parsers.integer(low=1, words=("auto",)), 1000,
            "evaluation's own batch, padded and masked; auto: as training's round"),

    _reporting("reporting", "log_every_steps", "updates", _count, 1, "updates between two train rows"),
    _reporting("reporting", "eval_every_epochs", "number", _positive, 1.0, "epochs between two evaluations"),
    _reporting("reporting", "evaluate_test", "true|false", parsers.boolean, True,
               "false: the test split is not read at all, as in the trials of a sweep; needs validation_examples"),
    _reporting("reporting", "selected_on", ("none", "validation", "test"), None, "none",
               "the split whose accuracy chose this setting, for whoever reads the run: a sweep states it in its final runs"),
    _reporting("reporting", "checkpoint_every_steps", "updates or auto", parsers.integer(low=1, words=("auto",)), "auto",
               "updates between two checkpoints"),
    _reporting("reporting", "keep_checkpoints", "whole number", _count, 2,
               "newest checkpoints kept, beside the best on validation"),
    _reporting("reporting", "on_divergence", ("stop", "rewind"), None, "stop",
               "rewind: go back to the last checkpoint with a lower rate (then part of the experiment, as the next two)"),
    _reporting("reporting", "rewind_factor", "number in (0, 1)", parsers.number(low=0, high=1, above=True, below=True),
               0.5, "what each rewind multiplies every later learning rate by"),
    _reporting("reporting", "rewinds", "whole number", _count, 3, "how often a run goes back at most"),
    _reporting("reporting", "profile_steps", "first,last", parsers.step_range,
               None, "updates to profile, counted from 1", optional=True),
    _reporting("reporting", "mllog", "true|false", parsers.boolean, False,
               "write an MLPerf log, mllog.txt, in the run folder; evaluations come after whole epochs of ceil(N / B) updates"),
    _reporting("reporting", "diagnostics", "names or none", parsers.names(*registry.DIAGNOSTICS), (),
               f"what updates and evaluations tell besides, separated by commas: {', '.join(registry.DIAGNOSTICS)}; snr and "
               "sharpness cost, at each evaluation, gradients of the whole training set, 64 examples at a time, and 10 to 40 "
               "products with the Hessian of --survey_examples, with the host's memory for as many float64 vectors of the "
               "parameters"),
    _reporting("reporting", "survey_examples", "examples", _count, 1000, "training examples of whose loss sharpness is"),
]

FIELDS: dict[str, Field] = {field.name: field for field in _ALL}
GROUPS = tuple(dict.fromkeys(field.group for field in _ALL))

# Partners displace each other from lower levels and are refused on one level. A side may be several settings.
EXCLUSIVE = (
    (("epochs",), ("train_steps",), ("regime_adaptation",)),
    (("warmup_epochs",), ("warmup_steps",)),
    (("peak_learning_rate",), ("learning_rate", "lr_scaling")),
)


#: What a run that rewinds is an experiment of too: how far it goes back, how often, and with which rate.
OF_REWINDS = ("on_divergence", "rewind_factor", "rewinds", "checkpoint_every_steps")


def kind_of(name: str, values: dict) -> str:
    """The kind of a setting among `values`: with norm local the micro-batch belongs to the experiment, with rewinds all that
    they depend on."""
    if name == "micro_batch_size" and values.get("norm") == "local":
        return "experiment"
    if name in OF_REWINDS and values.get("on_divergence") == "rewind":
        return "experiment"
    return FIELDS[name].kind
