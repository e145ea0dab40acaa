"""Every number of the paper that the package compares itself with or takes as a default. No other file has any.

Source, unless a row says otherwise: You, Wang, Zhang, Zhang, Demmel, Hsieh, "The Limit of the Batch Size",
2020; `source` names the table, figure or section. Accuracies are top-1 in percent unless a name says
otherwise. Batches that the paper writes with K are binary (8K = 8,192), data-set sizes are decimal
(60K = 60,000). Figures whose curves are only drawn have no numbers here: none is read off a plot.
"""

from __future__ import annotations

import dataclasses

# ------------------------------------------------------------------------------------- section 2: definitions

# Large batch: linear scaling alone reaches this share of the baseline's accuracy, in the baseline's epochs,
# and a validation loss at most this many times the baseline's. Huge: all techniques together miss the share.
TARGET_SHARE = 0.995
LOSS_FACTOR = 1.2


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A row of Table 2. large (closed) and huge (open) are (from, to) in examples; target is 99.5% of top1 as
    the paper rounds it."""

    dataset: str
    model: str
    train_examples: int
    test_examples: int
    classes: int
    batch: int
    epochs: int
    top1: float
    target: float
    large: tuple[int, int]
    huge: tuple[int, int]
    full: int
    source: str = "Table 2, section 2"


BASELINES = {
    "mnist": Baseline("mnist", "LeNet", 60_000, 10_000, 10, 256, 30, 99.2, 98.704,
                      (2_048, 8_192), (8_192, 60_000), 60_000),
    "cifar10": Baseline("cifar10", "ResNet-50 v1", 50_000, 10_000, 10, 128, 200, 93.9, 93.43,
                        (2_048, 25_000), (25_000, 50_000), 50_000),
    "imagenet2012": Baseline("imagenet2012", "ResNet-50 v1.5", 1_281_167, 50_000, 1_000, 256, 90, 75.9, 75.52,
                             (2_048, 65_536), (65_536, 1_281_167), 1_281_167),
}

# Batches that the experiments use inside the large and the huge regime (Tables 2 and 3, figures 1, 4, 5, 13,
# 22; CIFAR-10's huge one is between Table 2's bounds, not from a table).
REGIME_BATCHES = {
    "mnist": {"large": 8_192, "huge": 32_768},
    "cifar10": {"large": 25_000, "huge": 32_768},
    "imagenet2012": {"large": 32_768, "huge": 819_200},
}

# Section 3.1 (Table 3, figures 3 to 5) splits MNIST 55K/5K/10K; Table 2 and section 3.2 use 60K/10K.
MNIST_VALIDATION_EXAMPLES = 5_000

# ---------------------------------------------------------------------------------------------- recipe ladder


@dataclasses.dataclass(frozen=True)
class Rung:
    """A rung of the ladder of section 3.1: what it adds to the one before, and top-1 at the end."""

    rung: int
    adds: str
    top1: float
    source: str = "section 3.1, figure 1: ImageNet, batch 819,200, 90 epochs"


LADDER_BATCH = 819_200
LADDER_EPOCHS = 90
LADDER_UPDATES = 141
LADDER = (
    Rung(0, "momentum SGD, scaled rate, cosine decay, gradient clipping, ghost batch norm", 0.0977),
    Rung(1, "learning-rate warm-up", 2.712),
    Rung(2, "learning rate and warm-up epochs tuned", 4.563),
    Rung(3, "label smoothing", 4.226),
    Rung(4, "LARS instead of momentum SGD", 18.95),
)

# ---------------------------------------------------------------------------------------------------- Table 3


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of Table 3: top-1, or in words why there is none ('diverges', 'unstable')."""

    top1: float | None
    words: str = ""


@dataclasses.dataclass(frozen=True)
class Table3Row:
    """MNIST, 30 epochs. baseline: this solver at batch 256; the others at `TABLE_3_BATCH`, None where the
    paper has no such cell."""

    solver: str
    baseline: Cell
    original: Cell
    layerwise: Cell | None
    bounded: Cell | None
    source: str = "Table 3"


TABLE_3_BATCH = 8_192
TABLE_3_EPOCHS = 30
TABLE_3 = (
    Table3Row("sgd", Cell(99.2), Cell(None, "diverges"), Cell(99.2), Cell(99.2)),
    Table3Row("adagrad", Cell(99.2), Cell(98.3), Cell(99.3), Cell(99.3)),
    Table3Row("rmsprop", Cell(99.2), Cell(98.6), Cell(None, "diverges"), Cell(99.0)),
    Table3Row("adam", Cell(99.3), Cell(99.1), Cell(None, "unstable"), Cell(99.4)),
    Table3Row("lars", Cell(99.3), Cell(99.4), None, None),
)

# ---------------------------------------------------------------------------------------------------- Table 4


@dataclasses.dataclass(frozen=True)
class Table4Row:
    """ImageNet, ResNet-50, batch 131,072, LARS, cosine schedule."""

    learning_rate: float
    warmup_epochs: int
    momentum: float
    tpu_chips: int
    top1: float
    source: str = "Table 4"


TABLE_4_BATCH = 131_072
TABLE_4_WEIGHT_DECAY = 1e-4
TABLE_4_LABEL_SMOOTHING = 0.1
TABLE_4 = (
    Table4Row(26, 25, 0.94429, 256, 72.92),
    Table4Row(28, 25, 0.94429, 256, 73.37),
    Table4Row(30, 25, 0.94429, 256, 73.08),
    Table4Row(32, 25, 0.94429, 256, 72.82),
    Table4Row(26, 25, 0.94429, 512, 73.14),
    Table4Row(28, 25, 0.95, 512, 73.30),
    Table4Row(30, 25, 0.95, 512, 73.14),
    Table4Row(32, 25, 0.95, 512, 72.82),
)

# --------------------------------------------------------------------------------------------- MLPerf ResNet-50


@dataclasses.dataclass(frozen=True)
class MLPerfRow:
    """Hyper-parameters of a public MLPerf ResNet-50 submission or reference with LARS.

    epochs: to the target, from the fastest to the slowest logged run; batch_norm_span: likewise where submissions
    differ. version: of MLPerf, or RCP for a reference convergence point, or empty where the source states none.
    """

    batch: int
    version: str
    peak_rate: float
    warmup_epochs: int
    momentum: float
    weight_decay: float
    batch_norm_span: tuple[int, int]
    epochs: tuple[int, int]
    source: str = "mlcommons/training_results logs and mlcommons/logging reference convergence points"


MLPERF_TARGET = 75.9
MLPERF_EPOCHS_BETWEEN_EVALUATIONS = 4
MLPERF_POLY_POWER = 2
MLPERF_END_LEARNING_RATE = 1e-4
MLPERF_LABEL_SMOOTHING = 0.1
MLPERF_LARGEST_BATCH = 67_840
MLPERF = (
    MLPerfRow(2_048, "", 8.5, 5, 0.9, 2e-4, (64, 64), (38, 39)),
    MLPerfRow(4_096, "", 10.0, 5, 0.9, 2e-4, (64, 64), (39, 42)),
    MLPerfRow(8_192, "", 17.0, 5, 0.9, 2e-4, (64, 64), (41, 44)),
    MLPerfRow(16_384, "v0.6", 25.0, 5, 0.9, 2e-4, (128, 128), (64, 68)),
    MLPerfRow(32_768, "v0.6", 31.2, 25, 0.9, 1e-4, (32, 128), (72, 76)),
    MLPerfRow(32_768, "v1.0", 29.0, 18, 0.929, 1e-4, (64, 64), (60, 60)),
    MLPerfRow(32_768, "RCP", 21.2, 16, 0.94, 2.5e-5, (128, 128), (55, 57)),
    MLPerfRow(65_536, "v0.7 TF", 24.699, 31, 0.951807, 1e-4, (64, 64), (84, 88)),
    MLPerfRow(65_536, "v0.7 JAX", 23.081, 33, 0.953721, 1e-4, (64, 64), (88, 92)),
)


def mlperf_row(batch: int, version: str) -> MLPerfRow:
    """The row of a batch and version."""
    return next(row for row in MLPERF if (row.batch, row.version) == (batch, version))


# ------------------------------------------------------------------------ single results in text and captions


@dataclasses.dataclass(frozen=True)
class Result:
    """One number of the text. top1 in percent; epochs None where the paper says none; approximate: the paper
    says 'about', or gives a whole number."""

    dataset: str
    batch: int
    epochs: int | None
    top1: float
    recipe: str
    source: str
    approximate: bool = False


BEST_FOUND, _POLYNOMIAL = "best found", "LARS, warm-up, polynomial decay"
RESULTS = (
    Result("mnist", 256, 30, 99.3, "LARS", "Table 3"),
    Result("mnist", 32_768, 30, 95.8, _POLYNOMIAL, "figure 4 (test error 4.2%)"),
    Result("mnist", 32_768, 30, 92.0, "other optimizers", "figure 4 (test error 8%)", approximate=True),
    Result("mnist", 32_768, 30, 98.7, "LAMB, extremely long warm-up, polynomial decay", "figure 5"),
    Result("mnist", 32_768, 30, 87.3, "LARS, cyclical, untuned", "figure 32 (test error 12.7%)"),
    Result("mnist", 32_768, 30, 96.2, "LARS, cyclical, tuned, longer cycle", "figure 33 (test error 3.8%)"),
    Result("mnist", 32_768, 1_000, 99.16, BEST_FOUND, "figure 18"),
    Result("mnist", 60_000, 1_000, 98.30, BEST_FOUND, "figure 19"),
    Result("cifar10", 50_000, 5_000, 92.58, BEST_FOUND, "figure 20"),
    Result("imagenet2012", 32_768, 90, 76.7, "large batch", "section 4.1, figure 8"),
    Result("imagenet2012", 65_536, None, 75.9, "LARS", "Kumar et al., as quoted by the paper"),
    Result("imagenet2012", 262_144, 90, 65.0, BEST_FOUND, "figure 9", approximate=True),
    Result("imagenet2012", 819_200, 90, 19.0, BEST_FOUND, "figure 8", approximate=True),
    Result("imagenet2012", 819_200, 1_200, 70.0, BEST_FOUND, "figure 8", approximate=True),
    Result("imagenet2012", 819_200, 10_000, 71.8, BEST_FOUND, "figure 8"),
    Result("imagenet2012", 1_281_167, 15_000, 71.1, BEST_FOUND, "section 4.1, figure 8"),
)

# {figure: {batch: epochs}} that text or caption name; the baseline's stand beside a longest.
TRAINED_LONGER = {
    8: {32_768: (90,), 819_200: (90, 1_200, 3_000, 10_000), 1_281_167: (90, 15_000)}, 9: {262_144: (90, 500)},
    18: {32_768: (30, 1_000)}, 19: {60_000: (30, 1_000)}, 20: {50_000: (200, 5_000)},
    21: {16_384: (30, 200)}, 22: {25_000: (200, 1_000)}}

# Epochs that batch 256 needs for what the full batch reaches at best on MNIST (figure 19).
MNIST_BASELINE_EPOCHS_TO_FULL_BATCH_BEST = 10

# Examples that share batch-norm statistics in the paper's runs: one core's share at 32K on 256 cores.
BATCH_NORM_EXAMPLES = 128
# Sections 4.1 and 6.6: the largest pod, and images of ResNet-50 that keep a GPU busy (how many, width, height).
LARGEST_POD_CORES, LARGEST_USEFUL_BATCH = 2_048, 262_144
GPU_IS_BUSY_WITH, GPU_IS_BUSY_WITH_LARGE = (32, 224, 224), (1, 1_920, 1_080)

# ---------------------------------------------------------------------------------------------------- Table 1


@dataclasses.dataclass(frozen=True)
class Record:
    """A row of Table 1: ImageNet / ResNet-50 speed records; the date as year-month-day."""

    who: str
    date: str
    top1: float
    seconds: float
    optimizer: str
    source: str = "Table 1"


TABLE_1 = (
    Record("He et al.", "2015-12-10", 75.3, 29 * 3600, "momentum"),
    Record("Goyal et al.", "2017-06-08", 76.3, 65 * 60, "momentum"),
    Record("You et al.", "2017-11-02", 75.3, 48 * 60, "LARS"),
    Record("You et al.", "2017-11-07", 75.3, 31 * 60, "LARS"),
    Record("Akiba et al.", "2017-11-12", 74.9, 15 * 60, "RMSprop"),
    Record("You et al.", "2017-12-07", 74.9, 14 * 60, "LARS"),
    Record("Jia et al.", "2018-07-30", 75.8, 6.6 * 60, "LARS"),
    Record("Mikami et al.", "2018-11-14", 75.0, 3.7 * 60, "LARS"),
    Record("Ying et al.", "2018-11-16", 76.3, 2.2 * 60, "LARS"),
    Record("Yamazaki et al.", "2019-03-29", 75.1, 1.25 * 60, "LARS"),
    Record("Kumar et al.", "2019-10-02", 75.9, 67.1, "LARS"),
)

# ------------------------------------------------------------------ results of others, for comparison columns


@dataclasses.dataclass(frozen=True)
class OtherResult:
    """A result from outside the paper. duration is in the words of its source, empty where it states none."""

    dataset: str
    batch: int
    top1: float
    duration: str
    method: str
    source: str


OTHERS = (
    OtherResult("imagenet2012", 131_072, 75.0, "100 epochs", "K-FAC", "Osawa et al. 2019, arXiv 1811.12019"),
    OtherResult("imagenet2012", 131_072, 74.9, "873 steps", "SP-NGD", "Osawa et al. 2020, arXiv 2002.06015"),
    OtherResult("imagenet2012", 98_304, 75.3, "", "ConAdv", "Liu et al. 2022, arXiv 2106.00221"),
    OtherResult("imagenet2012", 98_304, 76.2, "", "ConAdv with augmentation",
                "Liu et al. 2022, arXiv 2106.00221"),
    OtherResult("imagenet2012", 32_768, 75.92, "2,512 steps", "Nesterov momentum",
                "Nado et al. 2021, arXiv 2102.06356"),
    OtherResult("imagenet2012", 32_768, 75.9, "1,729 steps", "Distributed Shampoo",
                "google-research scalable_shampoo README"),
)
