"""A point is a whole search at one batch, a line one optimizer with everything else alike (Shallue et al. 2018)."""

import json

import numpy as np
import pytest

from reference import made_figures as made
from reference.drawn import lines, loaded, texts
from tf_hugebatch.reports import catalogue
from tf_hugebatch.reports.commands import TRIALS
from tf_hugebatch.reports.sheets import ON_TEST

REACHED, MISSED = 0.995, 0.5


def draw(folder):
    return catalogue.draw("steps_to_target", *loaded(folder))


def write(folder, batch, accuracies=(REACHED,), **more):
    """A search whose best trial has `accuracies`, filled up to TRIALS with trials that miss."""
    accuracies = [*accuracies, *[MISSED] * (TRIALS - len(accuracies))]
    return made.write_search(folder / f"b{batch}", "mnist", accuracies, batch_size=batch,
                             **{"epochs": 30, "optimizer": "sgd", "eval_every_epochs": 0.25, **more})


def panel_of(found):
    [panel] = found.figure.axes
    return lines(panel)


def test_a_line_is_the_fewest_updates_of_each_search_beside_perfect_scaling(tmp_path):
    for batch, best in ((256, REACHED), (1024, REACHED), (4096, MISSED)):
        write(tmp_path, batch, [best])
    found = draw(tmp_path)
    drawn = panel_of(found)
    np.testing.assert_allclose(drawn["sgd"], [[256, 6446], [1024, 1612]])  # the made accuracies jump at the end
    np.testing.assert_allclose(drawn["perfect scaling from 256"], [[256, 6446], [4096, 6446 / 16]])
    np.testing.assert_allclose(drawn["sgd: not reached in so many"], [[4096, 403]])
    assert [(row["batch"], row["updates"], row["trials"], row["reached"]) for row in found.rows] == [
        (256, 6446, 20, 1), (1024, 1612, 20, 1), (4096, "", 20, 0)]
    assert ("reached at 2 of 3 batches. Each batch shows the best of 20 trials over peak_learning_rate, chosen by the updates "
            "themselves, counted at evaluations on the validation split; no fresh seed repeats it") in found.caption
    assert ON_TEST not in found.caption


def test_the_fewest_of_a_search_count_and_a_diverged_trial_does_not(tmp_path):
    folder = write(tmp_path, 1024, [REACHED, REACHED, REACHED])
    for trial, (step, status) in {"0000": (900, "done"), "0001": (400, "done"), "0002": (100, "diverged")}.items():
        path = folder / "trials" / trial
        rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        (path / "metrics.jsonl").write_text("".join(
            json.dumps({**row, "step": step} if row["kind"] == "eval" else row) + "\n" for row in rows))
        (path / "status.json").write_text(json.dumps({**json.loads((path / "status.json").read_text()), "status": status}))
    [row] = draw(tmp_path).rows
    assert (row["updates"], row["reached"], row["run"]) == (400, 2, str(folder / "trials" / "0001"))


def test_a_run_of_its_own_is_no_point_and_fills_nothing(tmp_path):
    write(tmp_path, 256)
    made.write_run(tmp_path / "own", batch_size=1024, epochs=30, optimizer="sgd", accuracy=REACHED)
    found = draw(tmp_path)
    assert [row["batch"] for row in found.rows] == [256]
    blanks = {blank.what.rpartition("batch ")[2] for blank in found.blanks}
    assert "1,024" in blanks and "256" not in blanks and "Missing: momentum SGD, batch 512; " in found.caption


def test_a_smaller_search_is_drawn_by_itself_and_leaves_its_batch_blank(tmp_path):
    made.write_search(tmp_path, "mnist", [REACHED, MISSED, MISSED], batch_size=256, epochs=30, optimizer="sgd",
                      eval_every_epochs=0.25)
    found = draw(tmp_path)
    assert "best of 3 trials" in found.caption and any("batch 256" in blank.what for blank in found.blanks)


def test_a_search_for_a_table_is_no_point_of_the_line_and_leaves_its_batch_blank(tmp_path):
    write(tmp_path, 256, eval_every_epochs=1)
    assert any(blank.what.endswith("batch 256") for blank in draw(tmp_path).blanks)


def test_a_search_that_has_not_ended_is_left_aside(tmp_path):
    folder = write(tmp_path, 256, status="running")
    found = draw(tmp_path)
    assert found.figure is None and f"Left aside: {folder}: the search has not ended." in found.caption


@pytest.mark.parametrize("more, words", [
    ({"optimizer": "lamb"}, ("sgd", "lamb")),
    ({"label_smoothing": 0.1}, ("sgd, label_smoothing 0.0", "sgd, label_smoothing 0.1")),
    ({"epochs": 60}, ("sgd, epochs 30.0", "sgd, epochs 60.0")),
    ({"accuracies": [REACHED] * 30}, ("sgd, trials 20", "sgd, trials 30")),
    ({"eval_every_epochs": 1}, ("sgd, evaluated every 0.25", "sgd, evaluated every 1.0")),
    ({"select_on": "test"}, ("sgd, counted on validation, validation_examples 5000",
                             f"sgd, counted on test, validation_examples 0{ON_TEST}"))])
def test_searches_that_differ_in_anything_but_the_batch_are_lines_of_their_own(tmp_path, more, words):
    for batch in (256, 1024):
        write(tmp_path / "a", batch)
        write(tmp_path / "b", batch, **more)
    found = draw(tmp_path)
    [panel] = found.figure.axes
    assert set(lines(panel)) - {"perfect scaling from 256"} == set(words)
    assert sum(line.get_label() == "perfect scaling from 256" for line in panel.lines) == 2
    assert {row["line"] for row in found.rows} == {word.rstrip(ON_TEST) for word in words}


def test_the_split_that_the_search_chose_on_counts(tmp_path):
    for split, updates in (("validation", 1612), ("test", 100)):
        folder = write(tmp_path / split, 1024, select_on=split)
        path = folder / "trials" / "0000" / "metrics.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**rows[-1], "split": "test", "step": 100}) + "\n" for _ in range(1))
                        + "".join(json.dumps(row) + "\n" for row in rows))
        [row] = draw(tmp_path / split).rows
        assert (row["updates"], row["selected_on"]) == (updates, split)
    caption = draw(tmp_path / "test").caption
    assert f"on the test split{ON_TEST}" in caption and f"{ON_TEST} chosen on the test split" in caption


def test_searches_at_one_batch_or_two_stand_beside_no_line(tmp_path):
    for batch in (256, 1024, 4096):
        write(tmp_path / "line", batch)
    for batch in (256, 8192):
        write(tmp_path / "other", batch, optimizer="lamb")
    write(tmp_path / "again", 256)
    found = draw(tmp_path)
    assert {row["line"] for row in found.rows} == {"sgd"} and "lamb" not in texts(found.figure)
    assert "1 more lines, or searches at fewer than 3 batches, are not drawn" in found.caption
    assert f"Left aside: {tmp_path / 'line' / 'b256'}: a search like {tmp_path / 'again' / 'b256'}" in found.caption


def test_one_network_is_drawn(tmp_path):
    for batch in (256, 1024):
        write(tmp_path / "a", batch)
    write(tmp_path / "b", 4096, model="lenet")
    found = draw(tmp_path)
    assert {row["model"] for row in found.rows} == {"lenet5"} and "Also run and not drawn: lenet." in found.caption


def test_the_full_batch_is_that_of_its_trials(tmp_path):
    write(tmp_path, "full")
    found = draw(tmp_path)
    assert [row["batch"] for row in found.rows] == [55000] and not any("full" in blank.what for blank in found.blanks)
