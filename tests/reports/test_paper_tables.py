"""Tables 1 to 4: the paper's numbers are published.py's, ours are those of the made runs, the rest is blank with a command."""

import json
import pathlib
import re
import shlex

import pytest

from reference.made_runs import made_run, made_seeds, made_sweep
from tf_hugebatch import command_line, published
from tf_hugebatch.reports import table3_cells, tables
from tf_hugebatch.reports.outcomes import setting_of
from tf_hugebatch.runs import load_runs, load_sweeps

ROOT = pathlib.Path(__file__).parents[2]
BASE = {"dataset": "mnist", "schedule": "polynomial", "epochs": 30, "warmup_epochs": 0, "warmup_from": "zero",
        "lr_scaling": "linear"}


def table(number, folder=None):
    runs = load_runs(folder) if folder else []
    try:
        sweeps = load_sweeps(folder) if folder else []
    except FileNotFoundError:
        sweeps = []
    return tables.make(number, runs, sweeps)


def cell(found, **wanted):
    [row] = [row for row in found.rows if all(row.get(name) == value for name, value in wanted.items())]
    return row


# The paper's numbers.


def test_table_1_has_the_papers_records():
    rows = table(1).rows
    assert [(row["who"], row["date"], row["paper_percent"], row["paper_seconds"], row["optimizer"]) for row in rows] == \
        [(record.who, record.date, record.top1, record.seconds, record.optimizer) for record in published.TABLE_1]
    for record in published.TABLE_1:
        assert f"| {record.who} | {record.date} | {record.top1:g}% | {record.optimizer} |" in table(1).markdown


def test_table_2_has_the_papers_baselines():
    for row in published.BASELINES.values():
        found = cell(table(2), dataset=row.dataset)
        assert (found["paper_percent"], found["baseline_batch"], found["paper_full"]) == (row.top1, row.batch, row.full)
        assert (found["paper_large_from"], found["paper_large_to"]) == row.large
        assert (found["paper_huge_from"], found["paper_huge_to"]) == row.huge
        assert f"| {row.model} | {row.batch:,} | {row.epochs} | {row.top1:g}% |" in table(2).markdown


@pytest.mark.parametrize("network", table3_cells.NETWORKS)
def test_table_3_has_the_papers_cells_each_twice(network):
    found = table(3)
    for row in published.TABLE_3:
        at_256 = cell(found, network=network, solver=row.solver, batch=256)
        assert (at_256["paper_percent"], at_256["form"]) == (row.baseline.top1, "original")
        for form in ("original", "layerwise", "bounded"):
            theirs = getattr(row, form)
            ways = [one for one in found.rows if (one["network"], one["solver"], one["form"], one["batch"]) ==
                    (network, row.solver, form, published.TABLE_3_BATCH)]
            assert [one["way"] for one in ways] == (["(a) rule", "(b) tuned"] if theirs else [])
            assert all((one["paper_percent"], one["paper_words"]) == (theirs.top1, theirs.words or None) for one in ways)


def test_table_4_has_the_papers_rows():
    rows = table(4).rows
    assert [(row["peak_rate"], row["warmup_epochs"], row["momentum"], row["tpu_chips"], row["paper_percent"])
            for row in rows] == \
        [(row.learning_rate, row.warmup_epochs, row.momentum, row.tpu_chips, row.top1) for row in published.TABLE_4]
    assert {row["batch"] for row in rows} == {published.TABLE_4_BATCH}
    assert "| 28 | 25 epochs | 0.94429 | 256 | 73.37% |" in table(4).markdown


@pytest.mark.parametrize("number", tables.NUMBERS)
def test_without_runs_nothing_of_ours_is_there(number):
    found = table(number)
    assert found.blanks and all(blank.what and blank.command and blank.cost for blank in found.blanks)
    assert all(row.get(name) is None for row in found.rows for name in ("n", "mean_percent", "words", "trials"))
    assert set(found.rows[0]) <= set(found.columns) and found.csv.count("\n") == len(found.rows) + 1


# Ours.


@pytest.fixture
def sgd(tmp_path):
    """lenet5's row of momentum SGD: the rate tuned at 256, (a) diverging, (b) chosen on test; layer-wise (b) unstable."""
    rate = {"learning_rate": {"low": 0.002, "high": 2.0, "log": True}}
    common = {**BASE, "model": "lenet5"}
    made_sweep(tmp_path / "sgd_256", [0.990, 0.991, 0.992], chosen={"learning_rate": 0.08}, space=rate, batch_size=256,
               optimizer="sgd", **common)
    made_seeds(tmp_path / "sgd_8192_rule", [None, None, None], learning_rate=0.08, batch_size=8192, optimizer="sgd", **common)
    made_sweep(tmp_path / "sgd_8192", [0.985, 0.986], chosen={"peak_learning_rate": 0.5, "warmup_epochs": 5.0},
               select_on="test",
               batch_size=8192, optimizer="sgd", **common)
    made_sweep(tmp_path / "layerwise", [0.985, 0.97, 0.98], chosen={"peak_learning_rate": 0.01, "warmup_epochs": 2.0},
               batch_size=8192, optimizer="sgd_layerwise", **common)
    made_seeds(tmp_path / "guess", [0.95], learning_rate=0.05, batch_size=8192, optimizer="sgd", **common)
    return tmp_path


def test_each_cell_has_its_runs(sgd):
    found = table(3, sgd)
    at_256 = cell(found, network="lenet5", solver="sgd", way="rate tuned")
    assert (at_256["n"], at_256["trials"], at_256["selected_on"], at_256["peak_rate"]) == (3, 20, "validation", 0.08)
    assert at_256["mean_percent"] == pytest.approx(99.1)
    rule = cell(found, network="lenet5", optimizer="sgd", way="(a) rule")
    assert (rule["n"], rule["diverged"], rule["words"]) == (3, 3, "diverges")
    assert (rule["trials"], rule["peak_rate"]) == (None, 0.08 * 32)
    assert rule.get("mean_percent") is None and rule["agreement"] == "agrees" and at_256["agreement"] == "agrees"
    tuned = cell(found, network="lenet5", optimizer="sgd", way="(b) tuned")
    assert (tuned["n"], tuned["selected_on"], tuned["peak_rate"], tuned["warmup_epochs"]) == (2, "test", 0.5, 5.0)
    assert cell(found, network="lenet5", optimizer="sgd_layerwise", way="(b) tuned")["words"] == "unstable"
    assert cell(found, network="lenet5", optimizer="sgd_layerwise", way="(a) rule").get("n") is None
    assert all(row.get("n") is None for row in found.rows if row["network"] == "lenet")
    for words in ("diverges: 3 of 3 diverged", "98.55%†", "97.83% unstable", "† The setting was chosen on the test split"):
        assert words in found.markdown


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_rule_that_says_what_chose_its_rate_stands_in_its_cell_with_the_mark(tmp_path, split):
    rate = {"learning_rate": {"low": 0.002, "high": 2.0, "log": True}}
    common = {**BASE, "model": "lenet5", "optimizer": "sgd"}
    made_sweep(tmp_path / "sgd_256", [0.990, 0.991], chosen={"learning_rate": 0.08}, space=rate, select_on=split, batch_size=256,
               **common)
    [blank] = [blank for blank in table(3, tmp_path).blanks if "lenet5, sgd at 8,192, (a)" in blank.what]
    assert f" --selected_on={split} " in blank.command
    made_seeds(tmp_path / "rule", [0.90, 0.91], learning_rate=0.08, batch_size=8192, selected_on=split, **common)
    rule = cell(table(3, tmp_path), network="lenet5", optimizer="sgd", way="(a) rule")
    assert (rule["n"], rule["selected_on"]) == (2, split)


def test_a_rate_that_was_not_tuned_at_256_is_not_the_papers_rule_and_not_hidden(sgd):
    found = table(3, sgd)
    others = found.markdown.partition("stand in no cell")[2]
    assert "95.00%" in others and "peak 1.6, warm-up 0" in others
    assert "95.00%" not in found.markdown.partition("stand in no cell")[0]


def test_what_is_there_is_not_asked_for(sgd):
    asked = [blank.what for blank in table(3, sgd).blanks]
    assert len(asked) == 2 * 31 - 4
    assert not [what for what in asked if "lenet5, sgd at" in what or "lenet5, sgd_layerwise at 8,192, (b)" in what]
    assert [what for what in asked if "lenet5, sgd_layerwise at 8,192, (a)" in what]


def test_the_rule_takes_its_rate_from_the_sweep_at_256(sgd):
    import shutil

    shutil.rmtree(sgd / "sgd_8192_rule")
    [blank] = [blank for blank in table(3, sgd).blanks if "lenet5, sgd at 8,192, (a)" in blank.what]
    assert "--learning_rate=0.08 " in blank.command and "sweep_main" not in blank.command
    assert "9,000,000 images" in blank.cost


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_of_two_searches_the_one_that_chose_on_validation_stands_in_the_cell(tmp_path, names):
    common = {**BASE, "model": "lenet5", "optimizer": "sgd", "batch_size": 8192, "chosen": {"peak_learning_rate": 0.5}}
    made_sweep(tmp_path / names[0], [0.99] * 5, select_on="test", **common)
    made_sweep(tmp_path / names[1], [0.98] * 2, **common)
    row = cell(table(3, tmp_path), network="lenet5", optimizer="sgd", way="(b) tuned")
    assert (row["selected_on"], row["n"]) == ("validation", 2)


def test_a_search_that_chose_the_rules_own_setting_is_not_the_rule(tmp_path):
    common = {**BASE, "model": "lenet5", "optimizer": "sgd"}
    made_sweep(tmp_path / "at_256", [0.99, 0.99], chosen={"learning_rate": 0.08}, batch_size=256, **common)
    made_sweep(tmp_path / "at_8192", [0.98, 0.98], chosen={"learning_rate": 0.08}, batch_size=8192, **common)
    found = table(3, tmp_path)
    assert cell(found, network="lenet5", optimizer="sgd", way="(a) rule").get("n") is None
    assert cell(found, network="lenet5", optimizer="sgd", way="(b) tuned")["n"] == 2


def test_a_search_that_found_nothing_is_a_result(tmp_path):
    made_sweep(tmp_path / "b", chosen=None, diverged=20, batch_size=8192, optimizer="rmsprop_layerwise", model="lenet5", **BASE)
    made_sweep(tmp_path / "a", chosen=None, diverged=20, batch_size=256, optimizer="rmsprop_layerwise", model="lenet5", **BASE)
    found = table(3, tmp_path)
    tuned, rule = (cell(found, network="lenet5", optimizer="rmsprop_layerwise", way=way) for way in ("(b) tuned", "(a) rule"))
    assert (tuned["words"], tuned["trials"]) == ("diverges in every trial", 20) and rule["words"] == "no rate at 256 trains"
    assert not [blank for blank in found.blanks if "lenet5, rmsprop_layerwise at 8" in blank.what]
    assert (tuned["agreement"], rule["agreement"]) == ("agrees", "agrees")  # the paper: diverges


def test_a_search_of_crashes_is_no_divergence(tmp_path):
    made_sweep(tmp_path, chosen=None, diverged=20, batch_size=8192, optimizer="rmsprop_layerwise", model="lenet5", **BASE)
    result = json.loads((tmp_path / "result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps({**result, "trials": {"done": 0, "diverged": 1, "failed": 19}}))
    tuned = cell(table(3, tmp_path), network="lenet5", optimizer="rmsprop_layerwise", way="(b) tuned")
    assert not tuned.get("words") and not tuned.get("agreement")


@pytest.mark.parametrize("change", [{"label_smoothing": 0.1}, {"epochs": 60}, {"momentum": 0.8}, {"trials": 19},
                                    {"confirm": 0}, {"status": "running"}])
def test_another_search_that_found_nothing_says_nothing(tmp_path, change):
    made_sweep(tmp_path, chosen=None, diverged=change.get("trials", 20), **{**BASE, "batch_size": 8192, "optimizer": "rmsprop_layerwise",
                                                     "model": "lenet5", **change})
    assert not cell(table(3, tmp_path), network="lenet5", optimizer="rmsprop_layerwise", way="(b) tuned").get("words")


def test_a_longer_run_and_another_batch_fill_no_cell(tmp_path):
    for name, change in (("longer", {"epochs": 60}), ("larger", {"batch_size": 16384})):
        made_sweep(tmp_path / name, [0.99, 0.99], chosen={"peak_learning_rate": 0.5}, **{
            **BASE, "model": "lenet5", "optimizer": "sgd", "batch_size": 8192, **change})
    assert all(row.get("n") is None for row in table(3, tmp_path).rows)


@pytest.mark.parametrize("change", [{"label_smoothing": 0.1}, {"clip_global_norm": 1.0}, {"schedule": "cosine"},
                                    {"weight_decay": 1e-3}, {"trials": 40}, {"trials": 1}, {"confirm": 0}, {"confirm": 5}, {"warmup_from": "first"}])
def test_another_recipe_and_another_budget_fill_no_cell(tmp_path, change):
    made_sweep(tmp_path, [0.99, 0.99], chosen={"peak_learning_rate": 0.5}, **{
        **BASE, "model": "lenet5", "optimizer": "sgd", "batch_size": 8192, **change})
    assert all(row.get("n") is None for row in table(3, tmp_path).rows)


def test_a_subset_fills_no_cell(tmp_path):
    made_sweep(tmp_path, [0.99, 0.99], chosen={"peak_learning_rate": 0.5}, model="lenet5", optimizer="sgd", batch_size=8192,
               **BASE)
    assert cell(table(3, tmp_path), network="lenet5", optimizer="sgd", way="(b) tuned")["n"] == 2
    for path in tmp_path.glob("final/*/settings.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "dataset_size": [10000, 1000]}))
    assert all(row.get("n") is None for row in table(3, tmp_path).rows)


def test_words_on_the_data_stand_beside_the_number(tmp_path):
    made_sweep(tmp_path, [0.98, 0.98], chosen={"peak_learning_rate": 0.5}, batch_size=8192, optimizer="sgd", model="lenet5",
               note="JPEG-recompressed", **BASE)
    found = table(3, tmp_path)
    assert "98.00% (JPEG-recompressed)" in found.markdown
    assert cell(found, network="lenet5", optimizer="sgd", way="(b) tuned")["data_note"] == "JPEG-recompressed"


@pytest.mark.parametrize("blank", table(3).blanks, ids=lambda blank: blank.what)
def test_a_command_of_table_3_makes_the_runs_of_its_cell(blank):
    what = re.fullmatch(r"Table 3, (\w+), (\w+) at ([\d,]+), (.+)", blank.what)
    network, optimizer, batch, way = what[1], what[2], int(what[3].replace(",", "")), what[4]
    own = ("--space=", "--method=", "--trials=", "--confirm=", "--final_seeds=", "--sweep_dir=", "--data_dir=", "--run_dir=", "--seed=")
    parts = [part.strip() for part in re.split(r"&& rate=\$\(.*?\) &&|; do|; done", blank.command) if "python -m" in part]
    assert len(parts) == (2 if way == "(a) rule" else 1)
    for part, at in zip(parts, (256, batch) if len(parts) == 2 else (batch,)):
        words = shlex.split(part.replace("$rate", "0.5"))[3:]
        command = command_line.parse([f"--flagfile={ROOT / word.partition('=')[2]}" if word.startswith("--flagfile") else word
                                      for word in words if not word.startswith(own)], program="", description="",
                                      dataset="mnist")
        found = command.settings
        assert command.problems == []
        assert (found.model, found.optimizer, found.batch_size, found.epochs) == (network, optimizer, at, 30)
        assert (found.lr_scaling, found.warmup_updates, found.validation_examples) == ("linear", 0, 0)
        for word in words:
            if word.startswith("--space="):
                assert json.loads((ROOT / word.partition("=")[2]).read_text())
                assert {"--method=random", "--trials=20", "--confirm=3", "--final_seeds=5"} <= set(words)
    assert "two CPU cores" in blank.cost


def parsed(blank):
    """The settings of the runs that a blank's command makes, seed 1."""
    words = shlex.split(blank.command.partition("; do ")[2].partition("; done")[0].replace("$seed", "1"))[3:]
    words = [f"--flagfile={ROOT / word.partition('=')[2]}" if word.startswith("--flagfile") else word for word in words]
    command = command_line.parse([word for word in words if "data_dir" not in word], program="", description="", dataset="mnist")
    assert command.problems == []
    return {name: value for name, value in command.settings.as_dict().items() if name != "run_dir"}


def test_the_two_steps_of_the_rule_are_one_cell(tmp_path):
    # The run that the command of (a) makes is the one that the cell takes.
    sweep = {**BASE, "model": "lenet5", "optimizer": "lars", "exclude_from_decay": (), "exclude_from_adaptation": ()}
    made_sweep(tmp_path / "at_256", [0.99, 0.99], chosen={"learning_rate": 1.5}, batch_size=256, **sweep)
    [blank] = [blank for blank in table(3, tmp_path).blanks if "lenet5, lars at 8,192, (a)" in blank.what]
    made_run(tmp_path / "rule", 0.98, **parsed(blank))
    assert cell(table(3, tmp_path), network="lenet5", optimizer="lars", way="(a) rule")["n"] == 1


# What the paper's own network takes over.


@pytest.mark.parametrize("way, at", [("rate tuned", 256), ("(a) rule", 8192), ("(b) tuned", 8192)])
def test_the_command_of_a_cell_of_lenet_takes_over_what_lenet5_chose_and_makes_its_runs(sgd, way, at):
    [blank] = [one for one in table(3, sgd).blanks if one.what == f"Table 3, lenet, sgd at {at:,}, {way}, taken over from lenet5"]
    assert "sweep_main" not in blank.command and "9,000,000 images through lenet:" in blank.cost
    values = parsed(blank)
    theirs = [one for one in load_runs(sgd / {"rate tuned": "sgd_256", "(a) rule": "sgd_8192_rule", "(b) tuned": "sgd_8192"}[way])
              if one.settings["seed"] == 1][0].settings
    for name in ("batch_size", "learning_rate", "peak_learning_rate", "optimizer", "epochs"):
        assert values[name] == theirs[name], name
    assert values["model"] == "lenet" and (values["warmup_epochs"] or 0) == (theirs["warmup_epochs"] or 0)
    made_run(sgd / "taken_over", 0.98, **values)
    found = table(3, sgd)
    row = cell(found, network="lenet", optimizer="sgd", batch=at, way=way)
    assert (row["n"], row["trials"], row["searched_on"], row["mean_percent"]) == (1, None, "lenet5", pytest.approx(98.0))
    assert row["peak_rate"] == cell(found, network="lenet5", optimizer="sgd", batch=at, way=way)["peak_rate"]
    assert not [one for one in found.blanks if one.what == blank.what]
    assert f"| {way}, taken over from lenet5 |" in found.markdown and f"| {way} |" in found.markdown
    assert "98.00%" not in found.markdown.partition("stand in no cell")[2]


def test_a_cell_of_lenet_has_the_mark_of_the_search_that_it_took_over(sgd):
    # lenet5's (b) was chosen on the test split: so was lenet's, whatever its runs say.
    [blank] = [one for one in table(3, sgd).blanks if one.what == "Table 3, lenet, sgd at 8,192, (b) tuned, taken over from lenet5"]
    assert "--selected_on=test" in blank.command
    made_run(sgd / "taken_over", 0.98, **{**parsed(blank), "selected_on": "validation"})
    found = table(3, sgd)
    assert cell(found, network="lenet", optimizer="sgd", way="(b) tuned")["selected_on"] == "test" and "98.00%†" in found.markdown


@pytest.mark.parametrize("change", [{"peak_learning_rate": 0.25}, {"warmup_epochs": 4.0}, {"label_smoothing": 0.1}])
def test_another_setting_on_lenet_takes_nothing_over(sgd, change):
    [blank] = [one for one in table(3, sgd).blanks if one.what == "Table 3, lenet, sgd at 8,192, (b) tuned, taken over from lenet5"]
    made_run(sgd / "another", 0.98, **{**parsed(blank), **change})
    assert cell(table(3, sgd), network="lenet", optimizer="sgd", way="(b) tuned").get("n") is None


def test_a_search_of_lenet_itself_comes_before_what_it_could_take_over(sgd):
    [blank] = [one for one in table(3, sgd).blanks if one.what == "Table 3, lenet, sgd at 8,192, (b) tuned, taken over from lenet5"]
    made_seeds(sgd / "taken_over", [0.98] * 7, **{name: value for name, value in parsed(blank).items() if name != "seed"})
    made_sweep(sgd / "own", [0.97, 0.97], chosen={"peak_learning_rate": 0.7, "warmup_epochs": 1.0}, batch_size=8192,
               optimizer="sgd", model="lenet", **BASE)
    found = table(3, sgd)
    row = cell(found, network="lenet", optimizer="sgd", way="(b) tuned")
    assert (row["n"], row["trials"], row["searched_on"], row["peak_rate"]) == (2, 20, "lenet", 0.7)
    assert "98.00%" in found.markdown.partition("stand in no cell")[2]


def test_a_rate_that_lenet_tuned_itself_is_what_its_rule_scales(sgd):
    made_sweep(sgd / "own", [0.99, 0.99], chosen={"learning_rate": 0.03}, batch_size=256, optimizer="sgd", model="lenet", **BASE)
    [blank] = [one for one in table(3, sgd).blanks if one.what.startswith("Table 3, lenet, sgd at 8,192, (a) rule")]
    assert "taken over" not in blank.what and "--learning_rate=0.03 " in blank.command


def test_a_search_of_lenet_that_found_nothing_takes_nothing_over(sgd):
    made_sweep(sgd / "own", chosen=None, diverged=20, batch_size=8192, optimizer="sgd", model="lenet", **BASE)
    row = cell(table(3, sgd), network="lenet", optimizer="sgd", way="(b) tuned")
    assert (row["words"], row["trials"], row["searched_on"]) == ("diverges in every trial", 20, "lenet")


# Tables 1, 2 and 4 with runs.

IMAGENET = {"dataset": "imagenet2012", "model": "resnet50", "batch_size": 131072, "epochs": 90, "optimizer": "lars",
            "optimizer_preset": "mlperf", "peak_learning_rate": 28, "warmup_epochs": 25, "schedule": "cosine",
            "momentum": 0.94429, "weight_decay": 1e-4, "label_smoothing": 0.1, "bn_span": 128}


def test_tables_1_and_4_have_runs_on_all_of_imagenet(tmp_path):
    made_run(tmp_path / "all", 0.73, seed=1, **IMAGENET)
    made_run(tmp_path / "part", 0.99, seed=1, **IMAGENET, dataset_size=(131072, 100))
    row = cell(table(4, tmp_path), peak_rate=28, tpu_chips=256)
    assert (row["n"], row["mean_percent"], row["paper_percent"]) == (1, pytest.approx(73.0), 73.37)
    assert cell(table(4, tmp_path), peak_rate=28, tpu_chips=512).get("n") is None  # another momentum
    assert len(table(4, tmp_path).blanks) == 7
    ours = cell(table(1, tmp_path), who="ours")
    assert (ours["batch"], ours["seconds"], ours["mean_percent"]) == (131072, 60.0, pytest.approx(73.0))
    assert table(1, tmp_path).blanks == []


@pytest.mark.parametrize("row", published.TABLE_4)
def test_a_row_of_table_4_is_its_flagfile(row):
    path = ROOT / "flags" / "table4" / f"lr{row.learning_rate:g}_chips{row.tpu_chips}.flags"
    command = command_line.parse([f"--flagfile={path}"], program="", description="", dataset="imagenet2012")
    assert command.problems == []
    assert setting_of(command.settings.as_dict()) == setting_of(tables.table_4_recipe(row))


@pytest.mark.parametrize("change", [
    {"weight_decay": 5e-5}, {"label_smoothing": 0.0}, {"schedule": "polynomial"}, {"validation_examples": 10_000},
    {"clip_global_norm": 1.0}, {"bn_span": 64}, {"optimizer_preset": "contrib"}, {"warmup_shape": "cosine"},
    {"model": "resnet18"}, {"batch_size": 65536}])
def test_another_recipe_is_no_row_of_table_4(tmp_path, change):
    made_run(tmp_path, 0.73, seed=1, **{**IMAGENET, **change})
    assert all(row.get("n") is None for row in table(4, tmp_path).rows)


@pytest.mark.parametrize("change", [{"shuffle": "shards"}, {"precision": "mixed_bfloat16"}, {"micro_batch_size": 128}])
def test_what_table_4_leaves_open_may_differ(tmp_path, change):
    made_run(tmp_path, 0.73, seed=1, **{**IMAGENET, **change})
    assert cell(table(4, tmp_path), peak_rate=28, tpu_chips=256)["n"] == 1


def test_table_2_has_our_baseline_and_regimes(tmp_path):
    made_seeds(tmp_path / "a", [0.9918, 0.9919, 0.992, 0.9921, 0.9922], learning_rate=0.05, batch_size=256, optimizer="sgd",
               model="lenet", **BASE)
    made_seeds(tmp_path / "b", [0.95, 0.95], learning_rate=0.05, batch_size=512, optimizer="sgd", model="lenet", **BASE)
    row = cell(table(2, tmp_path), dataset="mnist")
    assert (row["n"], row["mean_percent"], row["ours_large_from"], row["ours_full"]) == (5, pytest.approx(99.2), 512, 60_000)
    assert "256 < B_L <= 512" in table(2, tmp_path).markdown


def test_table_2_decides_nothing_from_few_seeds(tmp_path):
    made_seeds(tmp_path / "a", [0.9918, 0.992, 0.9922], learning_rate=0.05, batch_size=256, optimizer="sgd", model="lenet",
               **BASE)
    made_seeds(tmp_path / "b", [0.95, 0.95], learning_rate=0.05, batch_size=512, optimizer="sgd", model="lenet", **BASE)
    found = table(2, tmp_path)
    row = cell(found, dataset="mnist")
    assert (row["n"], row["ours_large_from"], row["ours_large_decided"]) == (3, None, False)
    assert "undecided: the baseline has 3 seeds, fewer than 5" in found.markdown


def test_the_committed_runs_are_shown(tmp_path):
    found = table(3, ROOT / "results" / "mnist")
    assert "99.39%" in found.markdown and found.title.startswith("Table 3")


def test_seconds_of_table_1_are_of_all_seeds_or_blank(tmp_path):
    for run in made_seeds(tmp_path, [0.73, 0.74], **IMAGENET):
        path = pathlib.Path(run.path) / "status.json"
        status = json.loads(path.read_text())
        if run.settings["seed"] == 2:
            del status["wall_seconds"]
        path.write_text(json.dumps(status))
    assert cell(table(1, tmp_path), who="ours")["seconds"] is None
