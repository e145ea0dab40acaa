"""RELIABILITY.md: what tests of faults came to is what stands there."""

import importlib.util
import json
import pathlib
import types

import pytest
from reference import fault_records

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("reliability", ROOT / "scripts/reliability.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outcome(name, fails=None, when="call", skipped=False, **said):
    """The arguments of `record` for a test of that name."""
    mark = pytest.mark.fault("kill -9", holds="all | bits").mark
    item = types.SimpleNamespace(nodeid=f"tests/test_kills.py::{name}", user_properties=list(said.items()),
                                 get_closest_marker=lambda of: mark if of == "fault" and name != "ordinary" else None)
    call = types.SimpleNamespace(excinfo=fails and types.SimpleNamespace(typename="AssertionError", value=fails))
    report = types.SimpleNamespace(when=when, skipped=skipped, passed=not (fails or skipped), failed=bool(fails), duration=2.25)
    return item, call, report


@pytest.fixture
def record(tmp_path, monkeypatch):
    monkeypatch.setenv(fault_records.VARIABLE, str(tmp_path / "records.jsonl"))
    return lambda *of, **said: fault_records.record(*outcome(*of, **said))


def test_outcomes_become_rows_of_the_page(script, record, tmp_path):
    record("test_a", tried=3, measured="2 updates made again")
    record("test_a", when="teardown")
    record("test_b")
    record("ordinary")
    record("test_c", skipped=True)
    lines = (tmp_path / "records.jsonl").read_text().splitlines()
    assert [json.loads(line)["test"] for line in lines] == ["tests/test_kills.py::test_a", "tests/test_kills.py::test_b"]
    page = script.page(script.newest(lines))
    assert "1 faults, tried 4 times in 2 tests" in page and "Nothing was lost." in page
    assert r"| kill -9 | 4 | nothing | all \| bits | 2 updates made again | 4 | `tests/test_kills.py` |" in page


def test_a_loss_is_said_until_the_test_passes(script, record, tmp_path):
    record("test_a")
    record("test_b", fails="weights differ\nmore")
    path = tmp_path / "records.jsonl"
    page = script.page(script.newest(path.read_text().splitlines()))
    assert "| AssertionError: weights differ |" in page and "1 of the tests lost something" in page
    record("test_b", fails="a child was left", when="teardown")
    assert "| AssertionError: a child was left |" in script.page(script.newest(path.read_text().splitlines()))
    record("test_b")
    assert "Nothing was lost." in script.page(script.newest(path.read_text().splitlines()))


def test_nothing_is_written_unless_asked(tmp_path, monkeypatch):
    monkeypatch.delenv(fault_records.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    fault_records.record(*outcome("test_a"))
    assert list(tmp_path.iterdir()) == []


def test_the_page_is_made_of_the_records_and_they_of_tests_that_are_there(script):
    rows = script.newest(script.RECORDS.read_text().splitlines())
    assert script.PAGE.read_text() == script.page(rows)
    for row in rows:
        path, name = row["test"].split("::")[:2]
        assert f"def {name.partition('[')[0]}(" in (ROOT / path).read_text(), row["test"]
