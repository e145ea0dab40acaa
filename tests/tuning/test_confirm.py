"""The best settings of a search, run again with more seeds before one is chosen."""

import io
import json
import math
import types

import pytest
from reference.small_sweeps import WORDS, make_plan, read, run, runs_of

from tf_hugebatch.runs import load_sweeps
from tf_hugebatch.settings import Refusal
from tf_hugebatch.tuning import sweep

RATES = [0.02, 0.07, 0.09, 0.1, 0.2]
SEARCH = {"content": {"learning_rate": RATES}, "method": "grid", "trials": len(RATES)}
BY_ACCURACY = [3, 2, 1, 4, 0]  # trials, the best first: fake_run's accuracy is a parabola in log(rate)


def accuracy(rate, seed):
    return 0.99 - 0.1 * math.log10(rate / 0.1) ** 2 - 1e-4 * seed


def repeats(folder):
    return sorted(runs_of(folder, "repeats"))


def unstable(monkeypatch, *trials):
    monkeypatch.setenv("FAKE_UNSTABLE", json.dumps([RATES[trial] for trial in trials]))


def test_the_best_are_repeated_on_the_validation_split_with_seeds_of_their_own(tmp_path):
    stream = io.StringIO()
    assert run(tmp_path / "s", **SEARCH, confirm=2, stream=stream) == 0
    assert repeats(tmp_path / "s") == sorted(f"{trial:04d}-seed{seed}" for trial in BY_ACCURACY[:2] for seed in (1001, 1002))
    for name, (settings, starts) in runs_of(tmp_path / "s", "repeats").items():
        assert (settings["validation_examples"], settings["evaluate_test"], starts) == ("400", "false", 1)
        assert float(settings["learning_rate"]) == RATES[int(name[:4])] and settings["seed"] == name[-4:]
    result = read(tmp_path / "s" / "result.json")
    of_seed = [accuracy(0.1, seed) for seed in (0, 1001, 1002)]
    assert result["chosen"]["trial"] == 3 and result["chosen"]["accuracies"] == pytest.approx(of_seed)
    assert result["chosen"]["accuracy"] == pytest.approx(sum(of_seed) / 3)
    assert result["repeats"] == {"done": 4, "diverged": 0, "failed": 0} and read(tmp_path / "s" / "sweep.json")["confirm"] == 2
    assert "Chosen: trial 3" in stream.getvalue() and "trial 2, seed 1002: validation accuracy" in stream.getvalue()
    [found] = load_sweeps(tmp_path / "s")
    assert (len(found.trials), len(found.final)) == (5, 2), "a repeat is neither a trial nor a final run"


def test_a_repeat_that_failed_while_its_sweep_was_stopped_is_reported_and_not_repeated(tmp_path):
    folder = tmp_path / "s"
    assert run(folder, **SEARCH, confirm=1) == 0
    path = folder / "repeats" / "0003-seed1002" / "status.json"
    path.write_text(json.dumps({"status": "failed", "reason": "out of luck"}))
    assert run(folder, **SEARCH, confirm=1) == 0
    result = read(folder / "result.json")
    assert result["repeat_failed"] == [{"trial": 3, "seed": 1002, "reason": "out of luck"}]
    assert result["repeats"] == {"done": 1, "diverged": 0, "failed": 1}
    assert result["chosen"]["accuracies"] == pytest.approx([accuracy(0.1, seed) for seed in (0, 1001)])
    assert {starts for _, starts in runs_of(folder, "repeats").values()} == {1}


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_setting_that_diverges_with_another_seed_is_not_chosen_and_the_next_best_takes_its_place(tmp_path, monkeypatch, jobs):
    unstable(monkeypatch, *BY_ACCURACY[:2])
    assert run(tmp_path / "s", **SEARCH, confirm=2, jobs=jobs) == 0
    result = read(tmp_path / "s" / "result.json")
    assert result["chosen"]["trial"] == BY_ACCURACY[2]
    assert {name[:4] for name in repeats(tmp_path / "s")} == {f"{trial:04d}" for trial in BY_ACCURACY[:4]}
    assert result["repeats"]["diverged"] == 2
    assert {float(settings["learning_rate"]) for settings, _ in runs_of(tmp_path / "s", "final").values()} == {RATES[1]}


def test_the_highest_mean_is_chosen_not_the_highest_trial(tmp_path):
    # The search's trial is the best by a hair and loses by its repeats, whose accuracies are made up.
    plan = make_plan(tmp_path / "s", **SEARCH, confirm=2)
    run(tmp_path / "s", **SEARCH, final_seeds=0)
    for trial, found in ((3, 0.8), (2, 0.95)):
        for seed in plan.repeat_seeds:
            folder = tmp_path / "s" / "repeats" / f"{trial:04d}-seed{seed}"
            folder.mkdir(parents=True)
            (folder / "settings.json").write_text("{}")
            (folder / "status.json").write_text(json.dumps({"status": "done", "final": {"validation_accuracy": found}}))
    run(tmp_path / "s", **SEARCH, confirm=2, final_seeds=0)
    assert read(tmp_path / "s" / "result.json")["chosen"]["trial"] == 2


def test_where_none_holds_the_best_trial_is_chosen_and_said_not_to_be_confirmed(tmp_path, monkeypatch):
    unstable(monkeypatch, *range(5))
    stream = io.StringIO()
    assert run(tmp_path / "s", **SEARCH, confirm=1, stream=stream) == 0
    result = read(tmp_path / "s" / "result.json")
    assert result["chosen"]["trial"] == 3 and len(result["chosen"]["accuracies"]) == 1
    assert result["repeats"]["diverged"] == 5 and "Not confirmed" in stream.getvalue()


def test_repeats_asked_for_later_go_on_and_an_earlier_choice_is_set_aside_and_taken_back(tmp_path, monkeypatch):
    run(tmp_path / "s", **SEARCH)
    unstable(monkeypatch, 3)
    run(tmp_path / "s", **SEARCH, confirm=1)
    result = read(tmp_path / "s" / "result.json")
    assert result["chosen"]["trial"] == 2 and result["tested_before"] == ["trial0003"]
    assert {starts for _, starts in runs_of(tmp_path / "s").values()} == {1}
    run(tmp_path / "s", **SEARCH)
    assert read(tmp_path / "s" / "result.json") == result and read(tmp_path / "s" / "sweep.json")["confirm"] == 1
    # The two repeats that made trial 3 fall are gone: it holds, and its final runs are there already.
    monkeypatch.setenv("FAKE_UNSTABLE", "[]")
    for folder in (tmp_path / "s" / "repeats").glob("0003-*"):
        (folder / "status.json").unlink()
    run(tmp_path / "s", **SEARCH)
    result = read(tmp_path / "s" / "result.json")
    assert result["chosen"]["trial"] == 3 and result["tested_before"] == ["trial0002"]
    assert {starts for _, starts in runs_of(tmp_path / "s", "final").values()} == {1}


def test_a_repeat_that_fails_is_reported_and_not_made_again(tmp_path, monkeypatch):
    run(tmp_path / "s", **SEARCH, final_seeds=0)
    bad = tmp_path / "bad_run.py"
    bad.write_text("import sys; print('out of paper'); sys.exit(1)")
    monkeypatch.setattr("reference.small_sweeps.FAKE", (*make_plan(tmp_path / "s").runner[:1], str(bad)))
    for _ in range(2):
        assert run(tmp_path / "s", **SEARCH, confirm=1, final_seeds=0) == 0
    result = read(tmp_path / "s" / "result.json")
    assert result["repeat_failed"] == [{"trial": trial, "seed": seed, "reason": "exit code 1: out of paper"}
                                       for trial in range(5) for seed in (1001, 1002)]
    assert result["repeats"]["failed"] == 10 and result["chosen"]["trial"] == 3
    assert (tmp_path / "s" / "logs" / "repeats-0003-seed1001.txt").read_text() == "out of paper\n"


@pytest.mark.parametrize("failed, chosen, confirmed", [((1001, 1002), 2, {3, 2, 1}), ((1002,), 3, {3, 2})])
def test_a_single_lucky_run_does_not_compete_with_settings_that_were_repeated(tmp_path, failed, chosen, confirmed):
    run(tmp_path / "s", **SEARCH, final_seeds=0)
    for seed in failed:
        folder = tmp_path / "s" / "repeats" / f"0003-seed{seed}"
        folder.mkdir(parents=True)
        (folder / "settings.json").write_text("{}")
        (folder / "status.json").write_text(json.dumps({"status": "failed", "reason": "a full memory"}))
        (folder / "starts").write_text("start\n")
    stream = io.StringIO()
    run(tmp_path / "s", **SEARCH, confirm=2, final_seeds=0, stream=stream)
    result = read(tmp_path / "s" / "result.json")
    assert result["chosen"]["trial"] == chosen and len(result["chosen"]["accuracies"]) == (3 if chosen == 2 else 2)
    assert {int(name[:4]) for name in repeats(tmp_path / "s")} == confirmed
    assert "Not confirmed" not in stream.getvalue()


def test_what_diverged_with_one_seed_is_not_run_with_the_next(tmp_path):
    run(tmp_path / "s", **SEARCH, final_seeds=0)
    folder = tmp_path / "s" / "repeats" / "0003-seed1001"
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps({"status": "diverged", "final": {"train_loss": None}}))
    run(tmp_path / "s", **SEARCH, confirm=1, final_seeds=0)
    made = sorted(path.name for path in folder.parent.iterdir())
    assert made == ["0002-seed1001", "0002-seed1002", "0003-seed1001"]
    assert read(tmp_path / "s" / "result.json")["chosen"]["trial"] == 2


def test_of_equal_settings_the_first_is_repeated_and_chosen(tmp_path):
    space = {"content": {"learning_rate": [0.1], "momentum": [0.5, 0.8, 0.9]}, "method": "grid", "trials": 3, "final_seeds": 0}
    for confirm, repeated in ((0, []), (1, ["0000"]), (2, ["0000", "0001"])):
        assert run(tmp_path / "s", **space, confirm=confirm) == 0
        result = read(tmp_path / "s" / "result.json")
        assert result["chosen"]["trial"] == 0 and len(result["chosen"]["accuracies"]) == (3 if confirm else 1)
        assert repeated == sorted({path.name[:4] for path in (tmp_path / "s").glob("repeats/*")})


def test_where_the_test_split_selects_it_confirms_too(tmp_path):
    assert run(tmp_path / "s", **SEARCH, confirm=1, final_seeds=0, validation_examples=0) == 0
    assert {settings["validation_examples"] for settings, _ in runs_of(tmp_path / "s", "repeats").values()} == {"0"}
    result = read(tmp_path / "s" / "result.json")
    assert result["repeats"] == {"done": 2, "diverged": 0, "failed": 0}
    assert result["chosen"]["accuracies"] == pytest.approx([accuracy(0.1, seed) for seed in (0, 1001, 1002)])


def test_the_plan_says_what_will_be_repeated(tmp_path):
    said = "\n".join(make_plan(tmp_path / "s", words=WORDS, confirm=3).text())
    assert "the 3 best that do not diverge, with seeds 1001, 1002 too" in said
    assert "repeats" not in "\n".join(make_plan(tmp_path / "s").text())


@pytest.mark.parametrize("jobs, left", [(1, "10 s"), (2, "5 s")])
def test_the_time_left_counts_the_repeats_that_are_to_come(tmp_path, monkeypatch, jobs, left):
    monkeypatch.setattr(sweep, "statistics", types.SimpleNamespace(mean=lambda took: 1.0))
    monkeypatch.setattr(sweep, "duration", lambda seconds: f"{seconds:g} s")
    stream = io.StringIO()
    assert run(tmp_path / "s", **SEARCH, confirm=2, jobs=jobs, stream=stream) == 0
    [first] = [line for line in stream.getvalue().splitlines() if "1 of 5 trials" in line]
    assert first.endswith(f"1 of 5 trials, about {left} left")  # 4 trials, 2 x 2 repeats, 2 final runs


def test_the_time_left_after_the_last_trial_counts_the_repeats_that_are_left(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "statistics", types.SimpleNamespace(mean=lambda took: 1.0))
    monkeypatch.setattr(sweep, "duration", lambda seconds: f"{seconds:g} s")
    run(tmp_path / "s", **{**SEARCH, "trials": 4}, confirm=2)
    stream = io.StringIO()
    run(tmp_path / "s", **SEARCH, confirm=2, final_seeds=5, jobs=1, stream=stream)
    [last] = [line for line in stream.getvalue().splitlines() if line.startswith("trial 4:")]
    assert last.endswith("5 of 5 trials, about 3 s left")  # no repeat, and three of five final runs


def test_the_seeds_of_the_repeats_are_seeds(tmp_path):
    last = 2**32 - 1 - 1002
    for seed, confirm in ((last, 1), (last + 1, 0)):
        assert make_plan(tmp_path / "s", words=(*WORDS, f"--seed={seed}"), confirm=confirm).seed == seed
    with pytest.raises(Refusal, match=f"--seed={last + 1}: the sweep's runs would take seeds up to {2**32}"):
        make_plan(tmp_path / "s", words=(*WORDS, f"--seed={last + 1}"), confirm=1)
