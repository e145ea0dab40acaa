"""Flagfiles of published recipes hold the published numbers; what is unpublished has a space to search in beside it."""

import itertools
import json
import math
import pathlib

import pytest

from tf_hugebatch import command_line, published
from tf_hugebatch.fields import FIELDS

FLAGS = pathlib.Path(__file__).parents[2] / "flags"
IMAGENET, CIFAR = published.BASELINES["imagenet2012"], published.BASELINES["cifar10"]


def settings_of(path, *words):
    command = command_line.parse([f"--flagfile={path}", *words], program="imagenet_main", description="",
                                 dataset="imagenet2012")
    assert command.problems == []
    return command.settings


@pytest.mark.parametrize("path", sorted(FLAGS.rglob("*.flags")), ids=lambda path: str(path.relative_to(FLAGS)))
def test_every_flagfile_parses_and_says_what_it_is(path):
    settings_of(path)
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    # A schedule may be explained between them.
    said = [line.partition(":")[0] for line in header[1:]]
    assert [name for name in said if name != "# schedule"] == ["# source", "# expected", "# cost", "# command"]
    command = header[-1]
    assert f"--flagfile=flags/{path.relative_to(FLAGS)}" in command or "not run by itself" in command


MLPERF = {
    "b2048": (2_048, ""), "b4096": (4_096, ""), "b8192": (8_192, ""), "b16384": (16_384, "v0.6"),
    "b32768": (32_768, "v1.0"), "b32768_v06": (32_768, "v0.6"), "b32768_rcp": (32_768, "RCP"),
    "b65536": (65_536, "v0.7 TF"), "b65536_jax": (65_536, "v0.7 JAX"),
}


def test_every_row_of_mlperf_has_a_flagfile():
    assert {path.stem for path in (FLAGS / "mlperf").iterdir()} == set(MLPERF)
    assert sorted(MLPERF.values()) == sorted((row.batch, row.version) for row in published.MLPERF)


@pytest.mark.parametrize("name", MLPERF)
def test_mlperf_flagfiles_are_the_rows(name):
    row, found = published.mlperf_row(*MLPERF[name]), settings_of(FLAGS / "mlperf" / f"{name}.flags")
    steps = math.ceil(IMAGENET.train_examples / row.batch)  # MLPerf counts every epoch up
    assert found.batch_size == row.batch and found.train_steps == steps * row.epochs[1]
    assert found.warmup_steps == steps * row.warmup_epochs and found.warmup_from == "zero"
    assert (found.peak_rate, found.momentum, found.weight_decay) == (row.peak_rate, row.momentum, row.weight_decay)
    assert row.batch_norm_span[0] <= found.bn_span <= row.batch_norm_span[1]
    assert found.zero_init_gamma is True and found.dataset == "imagenet2012"
    assert (found.optimizer, found.lars_denominator, found.momentum_convention) == ("lars", "sum", "unscaled")
    assert found.epsilon == 0 and found.exclude_from_decay is None
    assert (found.schedule, found.poly_power) == ("polynomial", published.MLPERF_POLY_POWER)
    assert found.end_learning_rate == published.MLPERF_END_LEARNING_RATE
    assert found.label_smoothing == published.MLPERF_LABEL_SMOOTHING
    assert found.eval_every_epochs == published.MLPERF_EPOCHS_BETWEEN_EVALUATIONS
    assert (found.model, found.image_size, found.bn_momentum, found.resnet_version) == ("resnet50", 224, 0.9, "v1.5")


def test_table_4_is_there_row_by_row():
    files = sorted((FLAGS / "table4").iterdir())
    assert len(files) == len(published.TABLE_4)
    for row in published.TABLE_4:
        found = settings_of(FLAGS / "table4" / f"lr{row.learning_rate:g}_chips{row.tpu_chips}.flags")
        assert found.batch_size == published.TABLE_4_BATCH and found.optimizer == "lars"
        assert (found.peak_rate, found.momentum) == (row.learning_rate, row.momentum)
        assert found.warmup_epochs == row.warmup_epochs and found.epochs == IMAGENET.epochs
        assert found.weight_decay == published.TABLE_4_WEIGHT_DECAY and found.schedule == "cosine"
        assert found.label_smoothing == published.TABLE_4_LABEL_SMOOTHING


LADDER = {"imagenet_819200": published.LADDER_BATCH, "imagenet_1281167": IMAGENET.full, "imagenet_262144": 262_144,
          "cifar10_25000": CIFAR.large[1], "cifar10_full": CIFAR.full}


@pytest.mark.parametrize("stem", LADDER)
def test_the_ladder_adds_one_thing_a_rung(stem):
    rungs = [settings_of(FLAGS / "ladder" / f"{stem}_rung{rung.rung}.flags") for rung in published.LADDER]
    baseline = CIFAR if stem.startswith("cifar10") else IMAGENET
    assert IMAGENET.epochs == published.LADDER_EPOCHS
    for found in rungs:
        assert (found.dataset, found.batch_size, found.epochs) == (baseline.dataset, LADDER[stem], baseline.epochs)
        assert found.schedule == "cosine" and found.clip_global_norm and found.bn_span == published.BATCH_NORM_EXAMPLES
    if stem == "imagenet_819200":
        assert {found.total_updates for found in rungs} == {published.LADDER_UPDATES}
    assert [found.optimizer for found in rungs] == ["sgd"] * 4 + ["lars"]
    assert [bool(found.warmup_updates) for found in rungs] == [False, True, True, True, True]
    assert [bool(found.label_smoothing) for found in rungs] == [False, False, False, True, True]
    assert rungs[0].peak_rate == rungs[1].peak_rate == pytest.approx(0.1 * LADDER[stem] / baseline.batch)
    assert rungs[2].peak_rate == rungs[3].peak_rate != rungs[1].peak_rate


CIFAR_FLAGS = {"baseline": (CIFAR.batch, "sgd", "93.9%"), "large_25000": (CIFAR.large[1], "lars", "93.43%"),
               "full": (CIFAR.full, "lars", "92.58%")}


def test_cifar10_is_there_at_the_papers_three_batches():
    assert {path.stem for path in (FLAGS / "cifar10").iterdir()} == {*CIFAR_FLAGS, "resnet20_3epochs"}
    for name, (batch, optimizer, number) in CIFAR_FLAGS.items():
        path = FLAGS / "cifar10" / f"{name}.flags"
        found = settings_of(path)
        assert (found.dataset, found.model, found.epochs) == ("cifar10", "resnet50_v1", CIFAR.epochs)
        assert (found.batch_size, found.optimizer) == (batch, optimizer)
        assert number in path.read_text()
    best = next(result.top1 for result in published.RESULTS if (result.dataset, result.batch) == ("cifar10", CIFAR.full))
    assert (CIFAR.top1, CIFAR.target, best) == (93.9, 93.43, 92.58)


@pytest.mark.parametrize("path", sorted((FLAGS / "ladder").glob("*_rung*.flags")), ids=lambda path: path.stem)
def test_a_rung_says_that_it_is_unpublished_and_has_a_space_that_holds_it(path):
    assert "unpublished starting point" in path.read_text()
    space, found = json.loads(path.with_suffix(".json").read_text()), settings_of(path)
    assert space
    for name, values in space.items():
        if isinstance(values, dict):
            assert set(values) == {"low", "high", "log"} and (values["low"] > 0 or not values["log"])
            assert FIELDS[name].parse(values["low"]) <= getattr(found, name) <= FIELDS[name].parse(values["high"])
        else:
            assert getattr(found, name) in [FIELDS[name].parse(value) for value in values]
    # And its corners are settings that a run could have.
    ends = [[f"--{name}={value}" for value in ((values["low"], values["high"]) if isinstance(values, dict) else values)]
            for name, values in space.items()]
    for corner in itertools.product(*ends):
        settings_of(path, *corner)
