"""The results table: seeds of a setting in one row, diverged runs named and kept out of means, blanks stay blank."""

import types

from tf_hugebatch.reports.tables import results_table


def run(optimizer="lars", batch=8192, accuracy=0.99, status="done", **more):
    return types.SimpleNamespace(
        settings={"optimizer": optimizer, "batch_size": batch, "model": "lenet", "epochs": 30.0},
        status={"status": status, "total_steps": 220, "final": {"test_accuracy": accuracy}, **more},
    )


def row_of(table, optimizer):
    [row] = [line for line in table.splitlines() if line.startswith(f"| `{optimizer}`")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_seeds_are_averaged_and_the_range_is_given():
    table = results_table([run(accuracy=0.991), run(accuracy=0.9925), run(accuracy=0.994)])
    assert row_of(table, "lars") == ["`lars`", "8,192", "lenet", "30", "220", "3", "99.25% (99.10 to 99.40)", "99.4%"]


def test_a_diverged_run_is_a_result_and_enters_no_mean():
    table = results_table([run("sgd"), run("sgd", accuracy=0.1, status="diverged")])
    assert row_of(table, "sgd")[5:] == ["2", "99.00%, 1 diverged", "diverges"]
    assert row_of(results_table([run("adam", status="diverged")]), "adam")[6] == "1 diverged"


def test_what_has_not_ended_does_not_count_and_what_the_paper_lacks_is_blank():
    table = results_table([run("lamb"), run("lamb", accuracy=0.5, status="running"), run("lars", status="failed")])
    assert row_of(table, "lamb")[5:] == ["1", "99.00%", ""]
    assert "`lars`" not in table


def test_words_on_the_data_stand_beside_the_accuracy_and_are_no_part_of_another_mean():
    table = results_table([run(accuracy=0.6, data_note="JPEG-recompressed"), run(accuracy=0.9)])
    rows = [line for line in table.splitlines() if line.startswith("| `lars`")]
    assert len(rows) == 2
    assert sorted("60.00% (JPEG-recompressed)" in row for row in rows) == [False, True]
