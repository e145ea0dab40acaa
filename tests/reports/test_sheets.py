"""CSV and Markdown that hold whatever a run folder says, and nothing where nothing is known."""

import csv
import io
import json
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from reference.made_runs import made_seeds, made_sweep
from tf_hugebatch.reports.outcomes import read_outcomes
from tf_hugebatch.reports.sheets import cells_of, code, csv_text, markdown_table, notes_of, numbers_of, plain
from tf_hugebatch.reports.stats import group_runs
from tf_hugebatch.runs import load_runs


def read_csv(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_numbers_are_raw_and_what_is_missing_is_blank():
    rows = [{"a": -0.1, "b": 99.123456789, "c": None, "e": math.nan, "f": np.float32(0.5)}, {"a": 0, "b": True, "d": "x, y"}]
    text = csv_text(("a", "b", "c", "d", "e", "f"), rows)
    assert text == "a,b,c,d,e,f\n-0.1,99.123456789,,,,0.5\n0,True,,\"x, y\",,\n"


@pytest.mark.parametrize("text", ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "  =cmd|' /C calc'!A0", "\r=1"])
def test_a_spreadsheet_runs_nothing(text):
    [row] = read_csv(csv_text(("cell",), [{"cell": text}]))
    assert row["cell"][0] == "'"


@given(st.lists(st.fixed_dictionaries({"a": st.text(max_size=8),
                                       "b": st.none() | st.floats() | st.integers() | st.text(max_size=8)}),
                max_size=4))
@settings(deadline=None)
def test_no_text_breaks_a_row(rows):
    found = list(csv.reader(io.StringIO(csv_text(("a", "b"), rows), newline="")))
    assert [len(cells) for cells in found if cells] == [2] * (len(rows) + 1)
    lines = markdown_table(("a", "b"), rows).splitlines()
    assert len(lines) == len(rows) + 2
    assert all(re.sub(r"\\.", "", line).count("|") == 3 for line in lines)


def test_markup_is_text():
    assert plain("a | b\n<script>x</script> ![p](q) 1 < 2 &lt;") == r"a \| b &lt;script>x&lt;/script> !\[p\](q) 1 < 2 &amp;lt;"
    assert code("echo ```").startswith("````bash\n")


def group_in(folder):
    [group] = group_runs(read_outcomes(load_runs(folder))[0])[0]
    return group


def test_a_group_in_numbers_and_in_words(tmp_path):
    made_seeds(tmp_path, [0.981, 0.982, None], note="JPEG-recompressed")
    group = group_in(tmp_path)
    numbers, cells = numbers_of(group), cells_of(group)
    assert (numbers["n"], numbers["diverged"], numbers["words"]) == (3, 1, "unstable")
    assert numbers["data_note"] == "JPEG-recompressed"
    assert numbers["mean_percent"] == pytest.approx(98.15) and numbers["trials"] is None
    assert cells["mean"] == "98.15% unstable: 1 of 3 diverged (JPEG-recompressed)"
    assert cells["spread"] == "98.10 to 98.20 (sd 0.07)"


def test_one_seed_says_so_and_a_diverged_setting_has_no_number(tmp_path):
    made_seeds(tmp_path / "a", [0.98])
    made_seeds(tmp_path / "b", [None, None])
    assert cells_of(group_in(tmp_path / "a"))["95% interval"] == "unknown: one seed"
    numbers, cells = numbers_of(group_in(tmp_path / "b")), cells_of(group_in(tmp_path / "b"))
    assert "mean_percent" not in numbers and cells["mean"] == "diverges: 2 of 2 diverged" and cells["95% interval"] == ""


@pytest.mark.parametrize("select_on, mark", [("test", "†"), ("validation", "")])
def test_what_was_chosen_on_test_is_marked(tmp_path, select_on, mark):
    made_sweep(tmp_path, [0.98, 0.98], chosen={"learning_rate": 0.1}, select_on=select_on)
    group = group_in(tmp_path)
    assert cells_of(group)["mean"] == f"98.00%{mark}" and cells_of(group)["chosen on"] == select_on
    assert ("†" in notes_of([None, group])) == bool(mark)
    assert numbers_of(group)["selected_on"] == select_on and numbers_of(group)["trials"] == 20


@pytest.mark.parametrize("edges, words", [
    ([{"flag": "learning_rate", "value": 10.0, "end": "highest"}], "highest learning_rate"), ([], ""), (None, ""), ("x", ""),
    ([1], "")])
def test_a_winner_on_the_edge_of_its_space_is_said(tmp_path, edges, words):
    sweep = made_sweep(tmp_path, [0.98, 0.98], chosen={"learning_rate": 10.0})
    (tmp_path / "result.json").write_text(json.dumps({**sweep.result, "edges": edges}))
    group = group_in(tmp_path)
    assert cells_of(group)["runs searched"] == (f"20, winner at the {words}" if words else "20")
    assert numbers_of(group)["edges"] == (words or None)


@pytest.mark.parametrize("earlier, words", [
    ((), "validation"), (("trial0003",), "validation; test read before: 1 earlier choice"),
    (("trial0003", "trial0007"), "validation; test read before: 2 earlier choices")])
def test_earlier_choices_that_read_the_test_split_are_said(tmp_path, earlier, words):
    made_sweep(tmp_path, [0.98, 0.98], chosen={"learning_rate": 0.1}, tested_before=earlier)
    group = group_in(tmp_path)
    assert cells_of(group)["chosen on"] == words and numbers_of(group)["tested_before"] == (len(earlier) or None)
    assert ("Test read before: the search had chosen another setting" in notes_of([group])) == bool(earlier)


def test_no_group_is_blank():
    assert numbers_of(None) == cells_of(None) == {}
