"""RESULTS.md quotes the committed report, and that report is made of the committed runs."""

import csv
import importlib.util
import io
import pathlib

import pytest

from tf_hugebatch.reports import tables
from tf_hugebatch.runs import load_runs, load_sweeps

ROOT = pathlib.Path(__file__).parents[2]
REPORT = ROOT / "results/mnist/report"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("write_results", ROOT / "scripts/write_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_script_writes(script):
    page = (ROOT / "RESULTS.md").read_text()
    assert page.count("<!-- made: ") == page.count("<!-- /made -->") == 4
    assert script.written(page, script.blocks(REPORT)) == page


def test_the_committed_report_is_made_of_the_committed_runs():
    runs = ROOT / "results/mnist"
    assert (REPORT / "table3.csv").read_text() == tables.make(3, load_runs(runs), load_sweeps(runs)).csv


def test_every_cell_is_counted_once(script):
    rows = list(csv.DictReader(io.StringIO((REPORT / "table3.csv").read_text())))
    counted = script.blocks(REPORT)["counts"].splitlines()[2:]
    for line in counted:
        network, batch, way, cells, *verdicts = [word.strip() for word in line.strip("|").split("|")]
        way, _, searched_on = way.partition(", taken over from ")
        of = [row for row in rows if (row["network"], row["batch"], row["way"], row["searched_on"]) ==
              (network, batch.replace(",", ""), way, searched_on or network)]
        assert int(cells) == len(of) == sum(map(int, verdicts))
        for verdict, count in zip(("agrees", "differs", "undecided"), verdicts):
            assert int(count) == sum(row["agreement"].startswith(verdict) for row in of)
    assert sum(int(line.split("|")[4]) for line in counted) == len(rows)


def test_pictures_that_the_page_shows_are_there(script):
    pictures = [line.partition("](")[2].rstrip(")") for line in (ROOT / "RESULTS.md").read_text().splitlines()
                if line.startswith("![")]
    assert pictures and all((ROOT / picture).is_file() for picture in pictures)


def test_words_around_the_marks_stay_and_another_mark_is_an_error(script):
    page = "Before.\n<!-- made: counts -->\nold\n<!-- /made -->\nAfter.\n"
    assert script.written(page, {"counts": "new"}) == page.replace("old", "new")
    with pytest.raises(KeyError):
        script.written(page.replace("counts", "another"), {"counts": "new"})
