"""A sweep of fake runs: what is tried, chosen, tested, written and refused."""

import io
import json
import math
import os
import pathlib

import pytest
from reference.small_sweeps import RATES, WORDS, make_plan, read, refuses_to_list, run, runs_of

from tf_hugebatch import command_line
from tf_hugebatch.runs import load_sweeps
from tf_hugebatch.settings import Refusal
from tf_hugebatch.tuning.children import outcome_of_exit
from tf_hugebatch.tuning.study import Study


def rates_of(folder):
    return [float(settings["learning_rate"]) for settings, _ in runs_of(folder).values()]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """(folder, exit code, what it said) of an ordinary sweep."""
    folder, stream = tmp_path_factory.mktemp("swept") / "sweep", io.StringIO()
    code = run(folder, stream=stream)
    return folder, code, stream.getvalue()


@pytest.mark.parametrize("held_out, split", [(400, "validation"), (0, "test")])
def test_final_runs_say_on_which_split_their_setting_was_chosen(tmp_path, held_out, split):
    plan = make_plan(tmp_path / "s", validation_examples=held_out, words=(*WORDS, "--selected_on=test"))
    settings = command_line.parse(plan.final_command({"learning_rate": 0.1}, 3)[len(plan.runner):], program="", description="",
                                  dataset="mnist").settings
    assert settings.selected_on == split
    for command in (plan.trial_command(0, {"learning_rate": 0.1}), plan.repeat_command(0, {"learning_rate": 0.1}, 1001)):
        searching = command_line.parse(command[len(plan.runner):], program="", description="", dataset="mnist").settings
        assert searching.selected_on == "test"  # stated, or the split that it reads
    assert "--selected_on=validation" not in plan.final_command({}, 3)  # a rung by the rule: nothing was chosen


@pytest.mark.parametrize("resume", ["never", "required"])
def test_an_interrupted_run_goes_on_whatever_a_flagfile_says(tmp_path, resume):
    run(tmp_path / "s", words=(*WORDS, f"--resume={resume}"))
    for part in ("trials", "final"):
        assert {settings["resume"] for settings, _ in runs_of(tmp_path / "s", part).values()} == {"auto"}


def test_the_best_on_validation_is_trained_on_everything_with_fresh_seeds(swept):
    folder, code, _ = swept
    assert code == 0
    trials, final = runs_of(folder), runs_of(folder, "final")
    assert list(trials) == [f"{number:04d}" for number in range(6)] and list(final) == ["seed1", "seed2"]
    assert {(settings["validation_examples"], settings["evaluate_test"], settings["seed"]) for settings, _ in trials.values()} \
        == {("400", "false", "0")}
    rates = rates_of(folder)
    best = min(range(6), key=lambda number: abs(math.log10(rates[number] / 0.1)))
    for name, (settings, starts) in final.items():
        assert (settings["validation_examples"], settings["evaluate_test"]) == ("0", "true")
        assert (settings["seed"], settings["selected_on"], starts) == (name[-1], "validation", 1)
        assert float(settings["learning_rate"]) == rates[best]
    assert len(set(rates)) == 6 and all(0.01 <= rate <= 0.5 for rate in rates)
    result = read(folder / "result.json")
    assert result["status"] == "done" and result["trials"] == {"done": 6, "diverged": 0, "failed": 0}
    accuracy = pytest.approx(0.99 - 0.1 * math.log10(rates[best] / 0.1) ** 2)
    assert result["chosen"] == {"trial": best, "values": {"learning_rate": rates[best]}, "split": "validation",
                                "accuracy": accuracy, "accuracies": [accuracy]}
    assert not (folder / "repeats").exists() and result["repeats"] == {"done": 0, "diverged": 0, "failed": 0}
    assert result["edges"] == result["failed"] == result["final_failed"] == []


def test_the_plan_says_what_was_done_and_reports_find_the_runs(swept):
    folder, _, _ = swept
    [found] = load_sweeps(folder)
    plan = found.plan
    assert (plan["program"], plan["method"], plan["trials"], plan["final_seeds"]) == ("mnist_main", "random", 6, 2)
    assert plan["select_on"] == "validation" and plan["schema_version"] == 1
    assert plan["space"] == RATES and plan["settings"]["batch_size"] == 1000 and plan["settings"]["validation_examples"] == 0
    assert len(found.trials) == 6 and [run.part for run in found.final] == ["final", "final"]


def test_every_run_that_ends_is_a_line_with_best_and_time_left(swept):
    _, _, said = swept
    lines = [line for line in said.splitlines() if line.startswith("trial ")]
    assert len(lines) == 6 and all("best 9" in line and "left" in line and "learning_rate=" in line for line in lines)
    assert "6 of 6 trials" in lines[-1] and "\x1b" not in said
    assert "Chosen: trial " in said and "(6 done, 0 diverged, 0 failed)" in said and "2 of 2 seeds" in said
    assert "On the edge" not in said and "test split" not in said and "Not confirmed" not in said
    assert "GPUs" not in said, "there are none to share"


def test_the_same_command_again_does_nothing(swept):
    folder, _, said = swept
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    stream = io.StringIO()
    assert run(folder, stream=stream) == 0
    assert {path: path.read_bytes() for path in before} == before
    assert stream.getvalue().splitlines()[-2:] == said.splitlines()[-2:]


@pytest.mark.parametrize("changed, said", [
    ({"content": {"learning_rate": {"low": 0.01, "high": 0.6, "log": True}}}, ["space is", "0.5", "0.6"]),
    ({"method": "tpe"}, ['method is "random" there and "tpe" here']),
    ({"words": (*WORDS, "--momentum=0.8", "--label_smoothing=0.1")}, ["momentum is 0.9 there and 0.8 here", "label_smoothing"]),
    ({"words": (*WORDS, "--seed=5")}, ["seed is 0 there and 5 here"]),
    ({"validation_examples": 0}, ['select_on is "validation" there and "test" here']),
    ({"validation_examples": 300}, ["validation_examples is 400 there and 300 here"]),
])
def test_the_folder_of_another_sweep_is_refused_with_what_differs(swept, changed, said):
    folder, _, _ = swept
    before = sorted(folder.rglob("*"))
    with pytest.raises(Refusal) as refused:
        run(folder, **changed)
    [problem] = refused.value.problems
    assert all(part in problem for part in [str(folder), "another sweep", *said])
    assert sorted(folder.rglob("*")) == before


def test_layout_may_change_and_other_folders_are_refused(swept, tmp_path):
    assert make_plan(swept[0], words=(*WORDS, "--micro_batch_size=10")).problems() == []
    (tmp_path / "notes.txt").touch()
    [problem] = make_plan(tmp_path).problems()
    assert "notes.txt" in problem and "no sweep" in problem
    [problem] = make_plan(tmp_path / "notes.txt").problems()
    assert "a file" in problem
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "sweep.json").write_text('{"schema')
    [problem] = make_plan(tmp_path / "torn").problems()
    assert "sweep.json can't be read" in problem


def test_what_only_the_final_runs_cannot_do_is_named_before_the_first_trial(tmp_path):
    # Two updates an epoch while half of the images validate, four afterwards: then the warm-up has 16 of 10 updates.
    words = ("--dataset=mnist5k", "--batch_size=1000", "--train_steps=10", "--warmup_epochs=4")
    with pytest.raises(Refusal, match="--warmup_epochs=4.*longer than the run"):
        make_plan(tmp_path / "s", words=words, validation_examples=2000)


@pytest.mark.parametrize("version", [0, 2, None])
def test_a_plan_of_another_schema_is_refused(tmp_path, version):
    run(tmp_path / "s", trials=1, final_seeds=0)
    plan = read(tmp_path / "s" / "sweep.json")
    (tmp_path / "s" / "sweep.json").write_text(json.dumps({**plan, "schema_version": version}))
    with pytest.raises(Refusal, match=f"schema version {version} and this release writes 1"):
        run(tmp_path / "s", trials=1, final_seeds=0)


def test_what_goes_wrong_is_reported_and_not_repeated(tmp_path):
    rates = {"learning_rate": [0.001, 0.1, 0.7, 2.0]}
    stream = io.StringIO()
    assert run(tmp_path / "s", content=rates, method="grid", trials=4, stream=stream) == 0
    result = read(tmp_path / "s" / "result.json")
    assert result["trials"] == {"done": 1, "diverged": 1, "failed": 2} and result["chosen"]["trial"] == 1
    reasons = {row["trial"]: row["reason"] for row in result["failed"]}
    assert reasons == {0: "refused: one thing; another", 2: "exit code 1: ValueError: too steep"}
    said = stream.getvalue()
    assert all(reason in said for reason in reasons.values()) and "diverged (the loss was not finite)" in said
    starts = {name: starts for name, (_, starts) in runs_of(tmp_path / "s").items()}
    logs = {path.name: path.read_text() for path in (tmp_path / "s" / "logs").iterdir()}
    assert run(tmp_path / "s", content=rates, method="grid", trials=4) == 0
    assert {name: starts for name, (_, starts) in runs_of(tmp_path / "s").items()} == starts
    assert {path.name: path.read_text() for path in (tmp_path / "s" / "logs").iterdir()} == logs, "one was started again"
    assert {row["trial"]: row["reason"] for row in read(tmp_path / "s" / "result.json")["failed"]} == reasons


@pytest.mark.parametrize("rates", [[1.0, 2.0], [0.001, 0.7, 3.0]])
def test_without_any_accuracy_nothing_is_chosen(tmp_path, rates):
    stream = io.StringIO()
    code = run(tmp_path / "s", content={"learning_rate": rates}, method="grid", trials=len(rates), stream=stream)
    assert code == 3 and not (tmp_path / "s" / "final").exists()
    result = read(tmp_path / "s" / "result.json")
    assert result["status"] == "done" and result["chosen"] is None
    assert "No trial came to an accuracy" in stream.getvalue() and "no final runs" in stream.getvalue()


def test_a_winner_on_the_edge_is_said_to_be(tmp_path):
    stream = io.StringIO()
    space = {"learning_rate": [0.2, 0.3, 0.4], "momentum": [0.9]}
    run(tmp_path / "s", content=space, method="grid", trials=3, stream=stream)
    assert read(tmp_path / "s" / "result.json")["edges"] == [{"flag": "learning_rate", "value": 0.2, "end": "lowest"}]
    assert "On the edge: learning_rate=0.2 is the lowest that was searched" in stream.getvalue()


def test_selecting_on_test_marks_every_number(tmp_path):
    stream = io.StringIO()
    run(tmp_path / "s", validation_examples=0, trials=2, stream=stream)
    assert {settings["validation_examples"] for settings, _ in runs_of(tmp_path / "s").values()} == {"0"}
    plan, result = read(tmp_path / "s" / "sweep.json"), read(tmp_path / "s" / "result.json")
    assert plan["select_on"] == result["select_on"] == result["chosen"]["split"] == "test"
    said = stream.getvalue()
    assert "Selected on the test split" in said and "2 of 2 seeds, selected on test" in said


def test_a_note_on_the_data_stands_beside_every_number(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_NOTE", "made images")
    stream = io.StringIO()
    run(tmp_path / "s", trials=2, stream=stream)
    said = [line for line in stream.getvalue().splitlines() if "%" in line]
    assert said and all("made images" in line for line in said)
    assert read(tmp_path / "s" / "result.json")["chosen"]["data_note"] == "made images"
    run(tmp_path / "s", trials=3, stream=stream)
    assert "made images" in stream.getvalue().splitlines()[-2], "the note outlives the process"


def test_more_trials_go_on_and_an_earlier_choice_is_set_aside(tmp_path):
    space = {"learning_rate": {"low": 0.01, "high": 0.5, "log": True}}
    run(tmp_path / "s", content=space, trials=1, final_seeds=1)
    first = read(tmp_path / "s" / "result.json")["chosen"]
    run(tmp_path / "s", content=space, trials=8, final_seeds=2)
    result = read(tmp_path / "s" / "result.json")
    assert {name: starts for name, (_, starts) in runs_of(tmp_path / "s").items()} == dict.fromkeys(
        [f"{number:04d}" for number in range(8)], 1)
    assert result["chosen"]["trial"] != 0 and result["tested_before"] == ["trial0000"]
    for settings, starts in runs_of(tmp_path / "s", "final").values():
        assert float(settings["learning_rate"]) == result["chosen"]["values"]["learning_rate"] and starts == 1
    [(settings, _)] = runs_of(tmp_path / "s" / "final_before", "trial0000").values()
    assert float(settings["learning_rate"]) == first["values"]["learning_rate"]
    run(tmp_path / "s", content=space, trials=3, final_seeds=2)
    assert read(tmp_path / "s" / "result.json") == result and read(tmp_path / "s" / "sweep.json")["trials"] == 8


SPACE = {"learning_rate": {"low": 0.01, "high": 0.5, "log": True}}


def test_without_its_note_a_choice_is_known_by_its_final_runs(tmp_path):
    for trials in (1, 8):
        run(tmp_path / "whole", content=SPACE, trials=trials)
    run(tmp_path / "s", content=SPACE, trials=1)
    (tmp_path / "s" / "result.json").unlink()
    assert run(tmp_path / "s", content=SPACE, trials=8) == 0
    for part in ("final", "final_before/trial0000"):
        rates = [{settings["learning_rate"] for settings, _ in runs_of(tmp_path / folder, part).values()}
                 for folder in ("whole", "s")]
        assert rates[0] == rates[1] and len(rates[0]) == 1
    assert read(tmp_path / "s" / "result.json") == read(tmp_path / "whole" / "result.json")


@pytest.mark.parametrize("settings", ['{"learning_rate": "0.3"}', "{"])
def test_a_final_run_of_no_trial_is_not_taken_for_the_choice(tmp_path, settings):
    run(tmp_path / "s", content={"learning_rate": [0.1, 0.2]}, trials=2, final_seeds=1)
    (tmp_path / "s" / "final" / "seed1" / "settings.json").write_text(settings)
    with pytest.raises(Refusal, match="final/seed1 is a run of no trial"):
        run(tmp_path / "s", content={"learning_rate": [0.1, 0.2]}, trials=2, final_seeds=1)
    assert (tmp_path / "s" / "final" / "seed1" / "settings.json").read_text() == settings


def test_a_plan_of_no_trials_makes_the_final_runs_only(tmp_path):
    plan_words = (*WORDS, "--learning_rate=0.1")
    from tf_hugebatch.tuning import sweep
    from tf_hugebatch.tuning.screen import Screen
    from tf_hugebatch.tuning.space import Space

    plan = make_plan(tmp_path / "s", words=WORDS)
    plan = type(plan)(**{**vars(plan), "space": Space(()), "trials": 0,
                         "base": type(plan.base)(**{**vars(plan.base), "words": plan_words})})
    assert sweep.run(plan, screen=Screen(io.StringIO())) == 0
    assert list(runs_of(tmp_path / "s", "final")) == ["seed1", "seed2"]
    result = read(tmp_path / "s" / "result.json")
    assert result["chosen"] is None and result["status"] == "done"


def test_a_final_run_that_fails_is_reported_and_not_repeated(tmp_path, monkeypatch):
    run(tmp_path / "s", trials=2, final_seeds=0)
    bad = tmp_path / "bad_run.py"
    bad.write_text("import sys; print('out of paper'); sys.exit(1)")
    monkeypatch.setattr("reference.small_sweeps.FAKE", (*make_plan(tmp_path / "s").runner[:1], str(bad)))
    for _ in range(2):
        assert run(tmp_path / "s", trials=2, final_seeds=1) == 1
    result = read(tmp_path / "s" / "result.json")
    assert result["final_failed"] == [{"seed": 1, "reason": "exit code 1: out of paper"}]
    assert pathlib.Path(tmp_path / "s" / "logs" / "final-seed1.txt").read_text() == "out of paper\n"


def test_a_final_run_that_failed_while_its_sweep_was_stopped_makes_it_fail(tmp_path):
    run(tmp_path / "s", trials=2)
    (tmp_path / "s" / "final" / "seed2" / "status.json").write_text(json.dumps({"status": "failed", "reason": "out of luck"}))
    stream = io.StringIO()
    assert run(tmp_path / "s", trials=2, stream=stream) == 1
    assert "final run, seed 2: failed (out of luck)" in stream.getvalue() and "1 of 2 seeds" in stream.getvalue()
    assert read(tmp_path / "s" / "result.json")["final_failed"] == [{"seed": 2, "reason": "out of luck"}]
    assert run(tmp_path / "s", trials=2, final_seeds=1) == 0, "what was not asked for did not fail"


def test_where_every_final_run_diverges_the_exit_code_says_that_there_is_no_accuracy(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_UNSTABLE", "[0.1]")
    how = {"content": {"learning_rate": [0.1]}, "trials": 1, "words": (*WORDS, "--seed=1001")}
    assert run(tmp_path / "s", **how, final_seeds=1) == 3
    assert run(tmp_path / "s", **how, final_seeds=2) == 0  # the other seed comes to one
    assert run(tmp_path / "none", **how, final_seeds=0) == 0


def test_the_choice_stays_on_record_while_more_trials_are_made(tmp_path, monkeypatch):
    run(tmp_path / "s", trials=2)
    before = read(tmp_path / "s" / "result.json")
    with monkeypatch.context() as patch:
        patch.setattr("tf_hugebatch.tuning.pool.Pool.make", lambda *how: 130)  # interrupted at once
        assert run(tmp_path / "s", trials=4) == 130
    assert read(tmp_path / "s" / "result.json") == {**before, "status": "running"}


def test_final_runs_that_one_choice_failed_are_made_of_the_next(tmp_path, monkeypatch):
    space = {"learning_rate": {"low": 0.01, "high": 0.5, "log": True}}
    fake = make_plan(tmp_path / "s").runner
    refused = tmp_path / "refused.py"
    refused.write_text("import runpy, sys\nif any('/final/' in word for word in sys.argv): sys.exit(2)\n"
                       f"sys.argv[0] = {fake[1]!r}\nrunpy.run_path({fake[1]!r}, run_name='__main__')\n")
    monkeypatch.setattr("reference.small_sweeps.FAKE", (fake[0], str(refused)))
    assert run(tmp_path / "s", content=space, trials=1, final_seeds=2) == 1
    monkeypatch.setattr("reference.small_sweeps.FAKE", fake)
    assert run(tmp_path / "s", content=space, trials=8, final_seeds=2) == 0
    result = read(tmp_path / "s" / "result.json")
    assert result["chosen"]["trial"] != 0 and result["final_failed"] == []
    assert len(runs_of(tmp_path / "s", "final")) == 2


@pytest.mark.fault("a kill between the moves of final runs and the note of the choice", holds="the same command goes on")
@pytest.mark.parametrize("moves", [1, 2])
def test_a_choice_that_comes_back_survives_a_kill_at_any_of_its_moves(tmp_path, monkeypatch, moves):
    space = {"learning_rate": {"low": 0.01, "high": 0.5, "log": True}}
    for trials in (1, 8):
        run(tmp_path / "s", content=space, trials=trials, final_seeds=1)
    assert read(tmp_path / "s" / "result.json")["chosen"]["trial"] != 0
    rates = [read(path)["learning_rate"] for path in sorted((tmp_path / "s" / "trials").glob("*/settings.json"))]
    monkeypatch.setenv("FAKE_UNSTABLE", json.dumps([float(rate) for rate in rates[1:]]))  # but the first, with other seeds
    moved, ordinary = [], os.rename

    def rename(*paths):
        ordinary(*paths)
        moved.append(paths)
        if len(moved) == moves:
            raise KeyboardInterrupt  # a kill leaves no more than this does

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "s", content=space, trials=8, final_seeds=1, confirm=1)
    assert run(tmp_path / "s", content=space, trials=8, final_seeds=1, confirm=1) == 0
    result = read(tmp_path / "s" / "result.json")
    assert result["chosen"]["trial"] == 0 and len(result["tested_before"]) == 1
    [(settings, starts)] = runs_of(tmp_path / "s", "final").values()
    assert float(settings["learning_rate"]) == result["chosen"]["values"]["learning_rate"] and starts == 1


@pytest.mark.fault("a sweep's journal or result.json is damaged, or another's", holds="named with the remedy, nothing changed")
@pytest.mark.parametrize("name, content, said", [
    ("journal.log", "another's", "is of another sweep (space is"), ("journal.log", b"\0\0\n", "line 1"),
    ("journal.log", b"[1]\n", "can't be read"), ("result.json", b'{"final_failed": 5}', "damaged"),
    ("result.json", b'{"chosen": [1]}', "damaged"), ("result.json", b'{"chosen": {"trial": "x"}}', "damaged"),
    ("result.json", b'{"repeat_failed": [{}]}', "damaged"), ("result.json", b'{"status": "do', "damaged"),
    ("result.json", b"", "damaged")])
def test_what_a_sweep_keeps_is_not_taken_for_its_own_when_it_is_not(tmp_path, name, content, said):
    run(tmp_path / "s", trials=2, final_seeds=0)
    if content == "another's":
        run(tmp_path / "other", trials=2, final_seeds=0, content={"learning_rate": [0.1, 0.2]})
        content = (tmp_path / "other" / name).read_bytes()
    (tmp_path / "s" / name).write_bytes(content)
    planned = (tmp_path / "s" / "sweep.json").read_bytes()
    with pytest.raises(Refusal) as refusal:
        run(tmp_path / "s", trials=3, final_seeds=0)
    assert name in str(refusal.value) and said in str(refusal.value)
    assert (tmp_path / "s" / name).read_bytes() == content and len(runs_of(tmp_path / "s")) == 2
    assert (tmp_path / "s" / "sweep.json").read_bytes() == planned


@pytest.fixture
def of_an_earlier_release(tmp_path):
    """A sweep of two trials whose journal holds no plan, with the settings that real runs write."""
    folder = tmp_path / "s"
    run(folder, trials=2, final_seeds=0)
    journal, plan = folder / "journal.log", make_plan(folder, trials=2, final_seeds=0)
    lines = journal.read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"plan"' not in line]
    assert len(kept) == len(lines) - 1
    journal.write_text("".join(kept))
    for name, (given, _) in runs_of(folder).items():
        written = plan.settings.replace(validation_examples=400, learning_rate=float(given["learning_rate"]))
        (folder / "trials" / name / "settings.json").write_text(json.dumps(written.as_dict()))
    return folder


def test_a_journal_that_a_kill_left_without_its_plan_gets_it(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    plan = make_plan(folder, trials=2, final_seeds=0)
    Study(plan)
    journal = folder / "journal.log"
    kept = [line for line in journal.read_text().splitlines(keepends=True) if '"plan"' not in line]
    journal.write_text("".join(kept))
    Study(plan)
    assert '"plan"' in journal.read_text()
    with pytest.raises(Refusal, match="of another sweep"):
        Study(make_plan(folder, {"learning_rate": [0.1, 0.2]}, trials=2, final_seeds=0))


def test_a_folder_that_cant_be_read_is_named(tmp_path, monkeypatch):
    plan = make_plan(tmp_path)
    monkeypatch.setattr(os, "listdir", refuses_to_list)
    assert plan.problems() == [f"--sweep_dir={tmp_path}: Permission denied; name another folder"]


def test_a_journal_of_an_earlier_release_is_known_by_its_runs(of_an_earlier_release):
    assert run(of_an_earlier_release, trials=3, final_seeds=0) == 0
    assert len(list((of_an_earlier_release / "trials").iterdir())) == 3


@pytest.mark.parametrize("change, said", [
    ({"batch_size": 500}, "trial 1: batch_size is 500 there and 1000 here"),
    ({"learning_rate": 0.25}, "trial 1: learning_rate is 0.25 there"), (None, "trial 1 has no")])
def test_a_journal_of_an_earlier_release_beside_other_runs_is_another_sweeps(of_an_earlier_release, change, said):
    path = of_an_earlier_release / "trials" / "0001" / "settings.json"
    path.write_text(json.dumps({**read(path), **change})) if change else path.unlink()
    with pytest.raises(Refusal) as refusal:
        run(of_an_earlier_release, trials=3, final_seeds=0)
    assert "journal.log is of another sweep" in str(refusal.value) and said in str(refusal.value)


@pytest.mark.parametrize("space", [{"learning_rate": {"low": 0.01, "high": 0.6, "log": True}}, {"momentum": [0.8, 0.9]}])
def test_a_journal_of_an_earlier_release_with_points_of_another_space(of_an_earlier_release, space):
    (of_an_earlier_release / "sweep.json").unlink()
    (of_an_earlier_release / "sweep.json").write_text(json.dumps(make_plan(of_an_earlier_release, space).as_json()))
    with pytest.raises(Refusal, match="another sweep.*trial 0 is a point of .*learning_rate.* there, and the space is"):
        run(of_an_earlier_release, content=space, trials=3, final_seeds=0)


@pytest.mark.parametrize("folder", ["file/below", "file"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path, folder):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Refusal, match="is a file; name"):
        run(tmp_path / folder, trials=1, final_seeds=0)
    assert (tmp_path / "file").read_text() == "mine"


def test_the_reason_of_a_failure_is_not_one_that_stood_in_the_log_before(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("Refused: 1 problem.\n  * --data_dir=x: not there\n")
    start = log.stat().st_size
    with open(log, "a") as file:
        file.write("ValueError: the reason\n")
    assert outcome_of_exit(1, str(tmp_path / "run"), "test", str(log), start).reason == "exit code 1: ValueError: the reason"


@pytest.mark.parametrize("code, reason", [(1, "the rate was too steep"), (2, "refused: it said nothing"),
                                          (-9, "killed by SIGKILL (out of memory?)"), (-11, "killed by SIGSEGV")])
def test_a_run_that_noted_its_reason_is_believed_unless_its_process_ended_otherwise(tmp_path, code, reason):
    (tmp_path / "status.json").write_text(json.dumps({"status": "failed", "reason": "the rate was too steep"}))
    (tmp_path / "log.txt").touch()
    found = outcome_of_exit(code, str(tmp_path), "test", str(tmp_path / "log.txt"))
    assert (found.status, found.reason) == ("failed", reason)
