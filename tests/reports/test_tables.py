"""The results table: seeds of a setting in one row, diverged runs named and kept out of means, blanks stay blank."""

import pytest

from reference.made_runs import made_run, made_seeds, made_sweep
from tf_hugebatch.reports.tables import results_table
from tf_hugebatch.runs import load_runs

LARS = {"dataset": "mnist", "optimizer": "lars", "batch_size": 8192, "model": "lenet", "epochs": 30}
SGD = {**LARS, "optimizer": "sgd"}


def rows_of(folder, optimizer):
    table = results_table(load_runs(folder))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()
            if line.startswith(f"| `{optimizer}`")]


def test_seeds_are_averaged_and_the_range_is_given(tmp_path):
    made_seeds(tmp_path, [0.991, 0.9925, 0.994], **LARS)
    assert rows_of(tmp_path, "lars") == [["`lars`", "8,192", "lenet", "30", "220", "3", "99.25% (99.10 to 99.40)", "99.4%"]]


def test_a_diverged_run_is_a_result_and_enters_no_mean(tmp_path):
    made_seeds(tmp_path / "sgd", [0.99, None], **SGD)
    made_seeds(tmp_path / "adam", [None], **{**LARS, "optimizer": "adam"})
    assert rows_of(tmp_path, "sgd")[0][5:] == ["2", "99.00%, 1 diverged", "diverges"]
    assert rows_of(tmp_path, "adam")[0][6] == "1 diverged"


def test_what_has_not_ended_does_not_count_and_what_the_paper_lacks_is_blank(tmp_path):
    made_run(tmp_path / "a", 0.99, seed=1, **{**LARS, "optimizer": "lamb"})
    made_run(tmp_path / "b", 0.5, seed=2, status="running", **{**LARS, "optimizer": "lamb"})
    made_run(tmp_path / "c", 0.5, status="failed", **LARS)
    made_run(tmp_path / "d", 0.9, **{**LARS, "optimizer": "adagrad", "epochs": 60})
    assert rows_of(tmp_path, "lamb")[0][5:] == ["1", "99.00%", ""]
    assert rows_of(tmp_path, "lars") == [] and rows_of(tmp_path, "adagrad")[0][7] == ""


def test_where_table_3_has_no_cell_the_papers_best_at_that_batch_is_beside(tmp_path):
    made_run(tmp_path / "full", 0.9935, **{**LARS, "optimizer": "muon", "batch_size": 60_000})
    made_run(tmp_path / "other", 0.9935, **{**LARS, "optimizer": "lamb", "batch_size": 16_384})
    assert rows_of(tmp_path, "muon")[0][7] == "98.30% at best, in 1,000 epochs" and rows_of(tmp_path, "lamb")[0][7] == ""


def test_words_on_the_data_stand_beside_the_accuracy_and_are_no_part_of_another_mean(tmp_path):
    made_run(tmp_path / "a", 0.6, note="JPEG-recompressed", **LARS)
    made_run(tmp_path / "b", 0.9, **LARS)
    assert sorted("60.00% (JPEG-recompressed)" in row[6] for row in rows_of(tmp_path, "lars")) == [False, True]


@pytest.mark.parametrize("change, words", [
    ({"learning_rate": 0.2}, "learning_rate 0.2"), ({"validation_examples": 5000}, "validation_examples 5000"),
    ({"schedule": "cosine"}, "schedule cosine"), ({"label_smoothing": 0.1}, "label_smoothing 0.1")])
def test_settings_that_differ_are_rows_of_their_own_that_say_in_what(tmp_path, change, words):
    made_seeds(tmp_path / "a", [0.99, 0.99], **SGD)
    made_seeds(tmp_path / "b", [0.95, 0.95], **{**SGD, **change})
    first, second = sorted(rows_of(tmp_path, "sgd"), key=lambda row: row[6])
    assert (first[6], second[6]) == ("95.00% (95.00 to 95.00)", "99.00% (99.00 to 99.00)")
    assert first[0] == f"`sgd` ({words})" and second[0].startswith("`sgd` (") and words not in second[0]


def test_a_search_counts_by_its_final_runs_alone(tmp_path):
    made_sweep(tmp_path, [0.98, 0.98], chosen={"peak_learning_rate": 1.0}, select_on="test", **SGD)
    assert [row[5:7] for row in rows_of(tmp_path, "sgd")] == [["2", "98.00%† (98.00 to 98.00)"]]
    assert "† The setting was chosen on the test split" in results_table(load_runs(tmp_path))
