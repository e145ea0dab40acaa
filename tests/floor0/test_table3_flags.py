"""Flagfiles and spaces of Table 3: one recipe for all, every solver with the same budget and as many decades."""

import json
import math
import pathlib

import pytest

from tf_hugebatch import command_line, published
from tf_hugebatch.fields import FIELDS
from tf_hugebatch.reports import table3_cells

ROOT = pathlib.Path(__file__).parents[2]
CELLS = sorted({(row.solver + suffix, batch) for row in published.TABLE_3 for form, suffix in table3_cells.FORMS.items()
                if getattr(row, form) for batch in (256, published.TABLE_3_BATCH)})
DECADES = 3


def settings_of(path, *words):
    command = command_line.parse([f"--flagfile={path}", *words], program="sweep_main", description="", dataset="mnist")
    assert command.problems == []
    return command.settings


def space_of(optimizer, batch):
    return json.loads((ROOT / table3_cells.space_file(optimizer, batch)).read_text())


def test_there_is_one_for_every_cell_and_no_other():
    assert {path.stem for path in (ROOT / "flags/table3").iterdir()} == {"base", *(f"{name}_{batch}" for name, batch in CELLS)}
    assert len(CELLS) == 2 * 13


@pytest.mark.parametrize("optimizer, batch", CELLS)
def test_a_flagfile_is_the_recipe(optimizer, batch):
    path = ROOT / table3_cells.flagfile(optimizer, batch)
    found = settings_of(path)
    assert (found.dataset, found.optimizer, found.batch_size) == ("mnist", optimizer, batch)
    assert found.epochs == published.TABLE_3_EPOCHS
    assert (found.schedule, found.lr_scaling, found.warmup_epochs) == ("polynomial", "linear", 0)
    assert found.label_smoothing == 0 and found.clip_global_norm is None
    other = settings_of(ROOT / table3_cells.flagfile(optimizer, 256 if batch != 256 else published.TABLE_3_BATCH))
    assert found.replace(batch_size=other.batch_size).experiment_hash() == other.experiment_hash()
    stated = table3_cells.recipe(found.model, optimizer)
    differs = {name for name, value in found.as_dict().items() if FIELDS[name].kind == "experiment" and value != stated[name]}
    assert differs <= {"batch_size", "seed"}
    header = path.read_text()
    assert f"--space={table3_cells.space_file(optimizer, batch)}" in header
    assert f"--flagfile={table3_cells.flagfile(optimizer, batch)}" in header
    assert "55K/5K/10K" in header


@pytest.mark.parametrize("row", published.TABLE_3, ids=lambda row: row.solver)
def test_what_is_expected_is_published(row):
    for form, suffix in table3_cells.FORMS.items():
        if cell := getattr(row, form):
            said = (ROOT / table3_cells.flagfile(row.solver + suffix, published.TABLE_3_BATCH)).read_text()
            assert f"# expected: {cell.words or f'{cell.top1:g}%'} in the paper\n" in said
    assert f"# expected: {row.baseline.top1:g}% in the paper\n" in (ROOT / table3_cells.flagfile(row.solver, 256)).read_text()


@pytest.mark.parametrize("optimizer, batch", CELLS)
def test_a_space_is_as_wide_as_every_other_and_holds_the_rows_own_scale(optimizer, batch):
    space = space_of(optimizer, batch)
    rate = space["learning_rate" if batch == 256 else "peak_learning_rate"]
    assert set(rate) == {"low", "high", "log"} and rate["log"]
    assert math.log10(rate["high"] / rate["low"]) == pytest.approx(DECADES)
    scale = settings_of(ROOT / table3_cells.flagfile(optimizer, batch)).learning_rate * math.sqrt(batch / 256)
    assert rate["low"] * 10 < scale < rate["high"] / 10  # a decade or more on both sides
    assert set(space) == ({"learning_rate"} if batch == 256 else {"peak_learning_rate", "warmup_epochs"})


def test_every_solver_has_the_same_warm_ups():
    lists = {tuple(space_of(name, batch)["warmup_epochs"]) for name, batch in CELLS if batch != 256}
    assert len(lists) == 1 and 0 in next(iter(lists)) and max(next(iter(lists))) < published.TABLE_3_EPOCHS


SPACES = [path for pattern in ("table3_*", "regimes_*") for path in sorted((ROOT / "flags/sweeps").glob(f"{pattern}.json"))]


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_the_corners_of_a_space_are_settings_that_a_run_could_have(path):
    name, _, batch = path.stem.removeprefix("table3_").rpartition("_")
    flags = [f"--flagfile={ROOT / table3_cells.flagfile(name, batch)}"] if path.stem.startswith("table3") else \
        [f"--regime={'large' if batch == 'lars' else 'huge'}", "--batch_size=full", "--epochs=30"]
    for flag, values in json.loads(path.read_text()).items():
        for value in (values["low"], values["high"]) if isinstance(values, dict) else values:
            assert FIELDS[flag].parse(value) == value
            command = command_line.parse([*flags, f"--{flag}={value}"], program="", description="", dataset="mnist")
            assert command.problems == []
