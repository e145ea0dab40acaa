"""What counts as a result and what is left aside, with the reason; nothing in a folder stops the reading."""

import json
import types

import pytest
from hypothesis import given, settings, strategies as st

from reference.made_runs import made_run, made_sweep
from tf_hugebatch.reports.outcomes import read_outcomes, trials_planned, updates
from tf_hugebatch.reports.stats import group_runs
from tf_hugebatch.runs import load_runs
from tf_hugebatch.settings import Settings


def change(folder, name, **values):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def reading(folder):
    """(outcomes, reasons) of the runs below a folder."""
    outcomes, aside = read_outcomes(load_runs(folder))
    return outcomes, [one.reason for one in aside]


def test_a_run_that_is_done_counts(tmp_path):
    made_run(tmp_path, 0.98, 0.07, seed=3)
    [found], reasons = reading(tmp_path)
    assert (found.accuracy, found.loss, found.seed, found.diverged, reasons) == (0.98, 0.07, 3, False, [])
    expected = Settings(dataset="mnist5k", seed=3, run_dir=str(tmp_path))
    assert found.values == {name: getattr(expected, name) for name in expected.as_dict()}


@pytest.mark.parametrize("break_it", [
    lambda path: path.unlink(), lambda path: (path.unlink(), path.mkdir()), lambda path: (path.unlink(), path.symlink_to("gone"))])
def test_a_run_that_lost_its_settings_is_left_aside_and_not_passed_over(tmp_path, break_it):
    made_run(tmp_path / "a", 0.98)
    made_run(tmp_path / "b", 0.98)
    break_it(tmp_path / "b" / "settings.json")
    outcomes, reasons = reading(tmp_path)
    assert len(outcomes) == 1 and len(reasons) == 1 and "settings.json is missing" in reasons[0]


@pytest.mark.parametrize("name, text, reason", [
    ("settings.json", "", "no JSON object"), ("settings.json", '{"dataset": "mnist5k"', "no JSON object"),
    ("settings.json", "[1, 2]", "no JSON object"), ("settings.json", "[" * 100_000, "no JSON object"),
    ("status.json", '{"status": "done"', "not started, or cut off"), ("status.json", "null", "not started, or cut off"),
    ("status.json", "{}", "not started, or cut off")])
def test_files_that_are_cut_off(tmp_path, name, text, reason):
    made_run(tmp_path)
    (tmp_path / name).write_text(text)
    outcomes, [found] = reading(tmp_path)
    assert outcomes == [] and reason in found


@pytest.mark.parametrize("values, reason", [
    ({"batch_size": "many"}, "batch_size=many"), ({"batch_size": [256]}, "batch_size=[256]"),
    ({"batch_size": None}, "no batch_size"), ({"validation_examples": None}, "validation_examples=null"),
    ({"batch_size": 10**400}, "batch_size=1000"), ({"dataset": "fashion"}, "dataset=fashion"), ({"seed": -1}, "seed=-1"),
    ({"learning_rate": {"a": 1}}, "learning_rate="), ({"epochs": float("nan")}, "epochs=nan"),
    ({"epochs": 10**400}, "epochs=1000"), ({"batch_size": "full"}, "writes the number"),
    ({"batch_size": 9_999_999}, "of 4,000 training examples"), ({"schema_version": 2}, "schema version 2")])
def test_settings_of_the_wrong_kind_are_named(tmp_path, values, reason):
    made_run(tmp_path)
    change(tmp_path, "settings.json", **values)
    outcomes, [found] = reading(tmp_path)
    assert outcomes == [] and reason in found


@pytest.mark.parametrize("status, reason", [
    ({"status": "running", "step": 2, "total_steps": 9}, "still running, or killed: at update 2 of 9"),
    ({"status": "failed", "reason": "no | memory"}, "failed (no | memory)"), ({"status": "interrupted"}, "interrupted"),
    ({"status": "finished"}, "status=finished"), ({"status": ["done"]}, "status=['done']"),
    ({"final": {"test_accuracy": "0.99"}}, "test_accuracy=0.99"),
    ({"final": {"test_accuracy": float("nan")}}, "test_accuracy=nan"),
    ({"final": {"test_accuracy": 99.4}}, "test_accuracy=99.4"), ({"final": {"test_accuracy": True}}, "test_accuracy=True"),
    ({"final": {"test_accuracy": -0.1}}, "test_accuracy=-0.1"), ({"final": {}}, "no test_accuracy"),
    ({"final": {"test_accuracy": None}}, "no test_accuracy"), ({"final": "0.99"}, "no test_accuracy"),
    ({"final": None}, "no test_accuracy"), ({"final": {"validation_accuracy": 0.9}}, "no test_accuracy"),
    ({"final": {"test_accuracy": 0.9, "test_loss": 10**400}}, "test_loss=1000"),
    ({"final": {"test_accuracy": 0.9, "test_loss": [1]}}, "test_loss=[1]")])
def test_what_has_not_ended_or_ended_oddly_is_left_aside(tmp_path, status, reason):
    made_run(tmp_path)
    change(tmp_path, "status.json", **status)
    outcomes, [found] = reading(tmp_path)
    assert outcomes == [] and reason in found


def test_a_diverged_run_needs_no_accuracy(tmp_path):
    made_run(tmp_path, status="diverged", final={"test_accuracy": None, "train_loss": None})
    [found], reasons = reading(tmp_path)
    assert found.diverged and found.accuracy is None and reasons == []


def test_a_run_that_was_never_started_and_a_dry_run(tmp_path):
    for name in ("dry", "new"):
        made_run(tmp_path / name)
        (tmp_path / name / "status.json").unlink()
    change(tmp_path / "dry", "settings.json", dry_run=True)
    assert reading(tmp_path) == ([], ["a dry run: it trained nothing",
                                      "no status.json that can be read: not started, or cut off"])


def test_metrics_cut_mid_line_are_said_and_the_run_counts(tmp_path):
    made_run(tmp_path)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "eval", "split": "te')
    [found], [reason] = reading(tmp_path)
    assert found.accuracy == 0.99 and "1 of 5 lines torn" in reason


def test_metrics_that_are_no_file(tmp_path):
    made_run(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").mkdir()
    [found], [reason] = reading(tmp_path)
    assert found.accuracy == 0.99 and "no curves to draw" in reason


def test_of_two_runs_of_a_seed_the_one_that_kept_its_metrics_counts(tmp_path):
    for name in ("a_half", "b_whole"):
        made_run(tmp_path / name)
    (tmp_path / "a_half" / "metrics.jsonl").unlink()
    outcomes, [lost] = read_outcomes(load_runs(tmp_path))
    [group], [repeated] = group_runs(outcomes)
    assert group.outcomes[0].run.path == str(tmp_path / "b_whole")
    assert [lost.path, repeated.path] == [f"{tmp_path}/a_half/metrics.jsonl", f"{tmp_path}/a_half"]


def test_how_a_setting_was_chosen_must_be_known(tmp_path):
    made_sweep(tmp_path, [0.9, 0.9], chosen={"learning_rate": 0.1}, select_on="test")
    (tmp_path / "sweep.json").write_text('{"select_on": "te')
    outcomes, reasons = reading(tmp_path)
    assert [outcome for outcome in outcomes if not outcome.is_trial] == []
    assert sum("sweep.json can't be read" in reason for reason in reasons) == 2


def test_a_setting_that_the_folder_does_not_know_had_its_default(tmp_path):
    made_run(tmp_path / "old", seed=1)
    made_run(tmp_path / "new", seed=2)
    stored = json.loads((tmp_path / "old" / "settings.json").read_text())
    del stored["clip_global_norm"]
    (tmp_path / "old" / "settings.json").write_text(json.dumps(stored))
    [group], _ = group_runs(reading(tmp_path)[0])
    assert group.n == 2


@pytest.mark.parametrize("given", [{}, {"epochs": 2.5}, {"train_steps": 7}, {"regime_adaptation": True},
                                   {"batch_size": "full"}])
def test_updates_are_those_of_the_run(given):
    values = Settings(dataset="mnist5k", **given)
    assert updates({name: getattr(values, name) for name in values.as_dict()}) == values.total_updates


JUNK = st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
                    max_leaves=5)


@given(name=st.sampled_from(["settings.json", "status.json"]), data=st.data())
@settings(deadline=None, max_examples=150)
def test_no_value_in_a_folder_stops_the_reading(tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("run")
    made_run(folder)
    stored = json.loads((folder / name).read_text())
    for key in data.draw(st.lists(st.sampled_from(sorted(stored)), min_size=1, max_size=3)):
        stored[key] = data.draw(JUNK)
    (folder / name).write_text(json.dumps(stored))
    outcomes, aside = read_outcomes(load_runs(folder))
    assert len(outcomes) + len(aside) == 1
    for outcome in outcomes:
        assert outcome.accuracy is None or 0 <= outcome.accuracy <= 1
        group_runs(outcomes)


@given(name=st.sampled_from(["settings.json", "status.json", "metrics.jsonl"]), junk=st.binary(max_size=40), at=st.floats(0, 1))
@settings(deadline=None, max_examples=150)
def test_no_cut_and_no_bytes_stop_the_reading(tmp_path_factory, name, junk, at):
    folder = tmp_path_factory.mktemp("run")
    made_run(folder)
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(at * len(whole))] + junk)
    outcomes, aside = read_outcomes(load_runs(folder))
    assert len(outcomes) + len(aside) >= 1


def test_runs_that_repeat_settings_of_a_search_are_no_results(tmp_path):
    class Repeat(type(made_run(tmp_path / "again"))):
        part = "repeats"  # of a search that tries its best settings with more seeds before it chooses

    made_run(tmp_path / "held_out", final={"test_accuracy": None, "validation_accuracy": 0.9}, validation_examples=400)
    outcomes, aside = read_outcomes([Repeat(tmp_path / "again"), Repeat(tmp_path / "held_out")])
    assert [outcome.is_trial for outcome in outcomes] == [True, True] and aside == []
    assert group_runs(outcomes) == ([], [])


def test_final_runs_of_an_earlier_choice_count_nowhere(tmp_path):
    made_sweep(tmp_path / "sweep", (0.98, 0.99), chosen={"peak_learning_rate": 2.0})
    made_run(tmp_path / "sweep" / "final_before" / "trial0003" / "seed1", accuracy=0.999)
    outcomes, aside = reading(tmp_path)
    assert 0.999 not in [outcome.accuracy for outcome in outcomes if not outcome.is_trial]
    assert [reason for reason in aside if "before more trials chose another" in reason]


@pytest.mark.parametrize("asked, planned", [(3, 3), (0, 0), (-2, 0), (True, 0), ("3", 0), (None, 0)])
def test_a_plan_that_does_not_say_how_many_trials_planned_none(asked, planned):
    assert trials_planned(types.SimpleNamespace(plan={"trials": asked})) == planned and trials_planned(None) == 0
