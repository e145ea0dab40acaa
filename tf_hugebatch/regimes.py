"""Batch regimes: what `--regime` fills in for each data set, and how far each value can be trusted.

A regime is the paper's row for a data set: batch, duration, optimizer, rate, schedule. What the paper does not say is
marked as MLPerf's or ours. Regimes are a level of their own in the priority of settings (levels.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tf_hugebatch import published, registry


@dataclasses.dataclass(frozen=True)
class Value:
    """One value of a regime. mark: 'paper', 'MLPerf' or 'ours'; the note says where, or how it was chosen."""

    value: object
    mark: str
    note: str


_MNIST = published.BASELINES["mnist"]
_UNTUNED = "untuned"


def _budget(batch: object, batch_note: str) -> dict[str, Value]:
    return {"batch_size": Value(batch, "paper", batch_note),
            "epochs": Value(_MNIST.epochs, "paper", "Table 2: the baseline's epochs")}


_BASELINE_REGIME = {
    **_budget(_MNIST.batch, "Table 2"),
    "optimizer": Value("sgd", "paper", "Table 3: momentum SGD"),
    "learning_rate": Value(0.05, "ours", _UNTUNED),
    "lr_scaling": Value("linear", "paper", "section 2"),
    "schedule": Value("polynomial", "ours", _UNTUNED),
    "warmup_epochs": Value(0.0, "ours", "the baseline needs none"),
    "label_smoothing": Value(0.0, "ours", "smoothing is a rung of the ImageNet ladder only"),
}
_LARGE_REGIME = {
    **_budget(published.REGIME_BATCHES["mnist"]["large"], "Table 3, figure 3"),
    "optimizer": Value("lars", "paper", "Table 3, figure 3"),
    "learning_rate": Value(0.75, "ours", "2026-11-22: of peaks 12 and 24 with lenet (24: 99.40%, 12: 99.26% "
                           "of 5,000 validation images) after 4 to 32 with lenet5"),
    "lr_scaling": Value("linear", "paper", "section 2"),
    "exclude_from_decay": Value((), "ours", "the authors' public MNIST code excludes nothing"),
    "exclude_from_adaptation": Value((), "ours", "a LeNet has no batch norm to absorb biases that move at a "
                                     "LARS rate"),
    "schedule": Value("polynomial", "paper", "figure 3"),
    "warmup_epochs": Value(5.0, "ours", "figure 3 has a warm-up; its length is ours, " + _UNTUNED),
    "warmup_from": Value("zero", "ours", "as the authors' public MNIST code: zero biases don't jump in "
                         "update 0"),
    "label_smoothing": Value(0.0, "ours", "smoothing is a rung of the ImageNet ladder only"),
}
_HUGE_REGIME = {
    **_budget(published.REGIME_BATCHES["mnist"]["huge"], "figures 4, 5"),
    "optimizer": Value("lamb", "paper", "figure 5"),
    "learning_rate": Value(0.0053, "ours", "of peaks 0.06 and 0.12 the better on 5,000 validation images with lenet5, "
                                           "2026-11-22"),
    "lr_scaling": Value("sqrt", "ours", _UNTUNED),
    "schedule": Value("polynomial", "paper", "figure 5"),
    "warmup_epochs": Value(15.0, "ours", "figure 5: 'extremely long'; the length is ours, " + _UNTUNED),
    "label_smoothing": Value(0.0, "ours", "smoothing is a rung of the ImageNet ladder only"),
}
_FULL_REGIME = {
    **_HUGE_REGIME,
    **_budget("full", "Table 2: every training example in every update"),
    "optimizer": Value("lamb", "ours", "figure 5's recipe carried over to the full batch"),
    "learning_rate": Value(0.0065, "ours", "of peaks 0.1 and 0.2 the better on 5,000 validation images with lenet5, "
                                           "2026-11-22"),
    "schedule": Value("polynomial", "ours", "figure 5's recipe carried over to the full batch"),
}
_SMALL_FULL_REGIME = {
    **_FULL_REGIME,
    "learning_rate": Value(0.0125, "ours", "2026-11-22: of peaks 0.02, 0.05 and 0.1 the best on 500 "
                           "validation images"),
    "epochs": Value(100.0, "ours", "4,000 images: a run of about a minute, " + _UNTUNED),
    "warmup_epochs": Value(20.0, "ours", _UNTUNED),
}

_CIFAR = published.BASELINES["cifar10"]
_CIFAR_UNPUBLISHED = "the paper publishes none; " + _UNTUNED


def _cifar_budget(batch: object, batch_note: str) -> dict[str, Value]:
    return {"batch_size": Value(batch, "paper", batch_note),
            "epochs": Value(_CIFAR.epochs, "paper", "Table 2: the baseline's epochs"),
            "weight_decay": Value(5e-4, "ours", "the public code that the paper cites for its baseline; not on norms "
                                                "and biases"),
            "schedule": Value("cosine", "ours", "section 3.1's ladder, and the cited code"),
            "bn_span": Value(published.BATCH_NORM_EXAMPLES, "ours", "the baseline's whole batch, kept at all batches")}


_CIFAR_BASELINE = {
    **_cifar_budget(_CIFAR.batch, "Table 2"),
    "optimizer": Value("sgd", "ours", "momentum SGD, as the public code that the paper cites"),
    "learning_rate": Value(0.1, "ours", "the public code that the paper cites, untuned here"),
    "lr_scaling": Value("linear", "paper", "section 2"),
    "warmup_epochs": Value(0.0, "ours", "the baseline needs none"),
    "label_smoothing": Value(0.0, "ours", "a rung of the ladder, not of the baseline"),
}
_CIFAR_LARGE = {
    **_cifar_budget(published.REGIME_BATCHES["cifar10"]["large"], "figure 13"),
    "optimizer": Value("lars", "paper", "the ladder's rung 4, figure 13"),
    "peak_learning_rate": Value(20.0, "ours", _CIFAR_UNPUBLISHED),
    "warmup_epochs": Value(20.0, "ours", _CIFAR_UNPUBLISHED),
    "label_smoothing": Value(0.1, "ours", "the ladder's rung 3; the amount is Table 4's"),
}
_CIFAR_HUGE = {
    **_CIFAR_LARGE,
    **_cifar_budget(published.REGIME_BATCHES["cifar10"]["huge"], "between Table 2's bounds of huge"),
}
_CIFAR_HUGE["batch_size"] = dataclasses.replace(_CIFAR_HUGE["batch_size"], mark="ours")
_CIFAR_FULL = {
    **_CIFAR_LARGE,
    **_cifar_budget("full", "Table 2, figures 14 and 15: every training example in every update"),
    "optimizer": Value("lars", "paper", "figures 14 and 15"),
}
_CIFAR_REGIMES = {"baseline": _CIFAR_BASELINE, "large": _CIFAR_LARGE, "huge": _CIFAR_HUGE, "full": _CIFAR_FULL}

_IMAGENET = published.BASELINES["imagenet2012"]
_LARGE_ROW = published.mlperf_row(published.REGIME_BATCHES["imagenet2012"]["large"], "v1.0")
_ROW_NOTE = f"the {_LARGE_ROW.version} submissions at {_LARGE_ROW.batch:,}"
_SPAN_NOTE = "one core's share at 32K on 256 cores"


def _imagenet_budget(batch: object, batch_note: str) -> dict[str, Value]:
    return {"batch_size": Value(batch, "paper", batch_note),
            "epochs": Value(_IMAGENET.epochs, "paper", "Table 2: the baseline's epochs")}


_IMAGENET_BASELINE = {
    **_imagenet_budget(_IMAGENET.batch, "Table 2"),
    "optimizer": Value("sgd", "paper", "section 3.1: momentum SGD"),
    "weight_decay": Value(1e-4, "ours", "He et al. 2015; not on norms and biases"),
    "learning_rate": Value(0.1, "ours", "Goyal et al. 2017 at 256, untuned here"),
    "lr_scaling": Value("linear", "paper", "section 2"),
    "schedule": Value("cosine", "paper", "section 3.1: cosine decay"),
    "warmup_epochs": Value(5.0, "ours", "Goyal et al. 2017, untuned here"),
    "label_smoothing": Value(0.0, "ours", "a rung of the ladder, not of the baseline"),
    "bn_span": Value(published.BATCH_NORM_EXAMPLES, "paper", _SPAN_NOTE),
}
_IMAGENET_LARGE = {
    "batch_size": Value(_LARGE_ROW.batch, "paper", "section 4.1, figure 8"),
    "epochs": Value(_LARGE_ROW.epochs[1], "MLPerf", _ROW_NOTE),
    "optimizer": Value("lars", "MLPerf", _ROW_NOTE),
    "momentum": Value(_LARGE_ROW.momentum, "MLPerf", _ROW_NOTE),
    "weight_decay": Value(_LARGE_ROW.weight_decay, "MLPerf", _ROW_NOTE),
    "peak_learning_rate": Value(_LARGE_ROW.peak_rate, "MLPerf", _ROW_NOTE),
    "schedule": Value("polynomial", "MLPerf", _ROW_NOTE),
    "poly_power": Value(published.MLPERF_POLY_POWER, "MLPerf", "closed rules"),
    "end_learning_rate": Value(published.MLPERF_END_LEARNING_RATE, "MLPerf", "closed rules"),
    "warmup_epochs": Value(_LARGE_ROW.warmup_epochs, "MLPerf", _ROW_NOTE),
    "warmup_from": Value("zero", "MLPerf", "gamma(t) = peak t / w with t updates done"),
    "label_smoothing": Value(published.MLPERF_LABEL_SMOOTHING, "MLPerf", "reference"),
    "bn_span": Value(_LARGE_ROW.batch_norm_span[0], "MLPerf", _ROW_NOTE),
}
_IMAGENET_HUGE = {
    **_imagenet_budget(published.REGIME_BATCHES["imagenet2012"]["huge"], "section 3.1, figure 1"),
    "optimizer": Value("lars", "paper", "the ladder's rung 4"),
    "momentum": Value(published.TABLE_4[0].momentum, "ours", "Table 4's, at a smaller batch"),
    "weight_decay": Value(published.TABLE_4_WEIGHT_DECAY, "ours", "Table 4's, at a smaller batch"),
    "peak_learning_rate": Value(35.0, "ours", "the paper publishes none; " + _UNTUNED),
    "schedule": Value("cosine", "paper", "section 3.1: cosine decay"),
    "warmup_epochs": Value(40.0, "ours", "the paper publishes none; " + _UNTUNED),
    "label_smoothing": Value(published.TABLE_4_LABEL_SMOOTHING, "ours", "the ladder's rung 3; the amount is Table 4's"),
    "bn_span": Value(published.BATCH_NORM_EXAMPLES, "paper", _SPAN_NOTE),
}
_IMAGENET_FULL = {
    **_IMAGENET_HUGE,
    **_imagenet_budget("full", "Table 2: every training example in every update"),
}
_IMAGENET_REGIMES = {"baseline": _IMAGENET_BASELINE, "large": _IMAGENET_LARGE, "huge": _IMAGENET_HUGE,
                     "full": _IMAGENET_FULL}

# mnist5k keeps MNIST's rows, also those whose batch it can't fill: choosing one is refused with the remedy.
REGIMES: Mapping[str, Mapping[str, Mapping[str, Value]]] = {
    "mnist": {"baseline": _BASELINE_REGIME, "large": _LARGE_REGIME, "huge": _HUGE_REGIME,
              "full": _FULL_REGIME},
    "mnist5k": {"baseline": _BASELINE_REGIME, "large": _LARGE_REGIME, "huge": _HUGE_REGIME,
                "full": _SMALL_FULL_REGIME},
    "cifar10": _CIFAR_REGIMES,
    "imagenet2012": _IMAGENET_REGIMES,
}


def of(dataset: str) -> Mapping[str, Mapping[str, Value]]:
    """Regime -> setting -> Value for a data set: its own, or those of the data set that its row names."""
    return REGIMES[registry.DATASETS[dataset].facts.get("regimes", dataset)]
