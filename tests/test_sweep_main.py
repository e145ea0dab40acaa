"""The sweep's main program: what it refuses, what it prints, and real sweeps of a few updates."""

import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
from reference.small_sweeps import read

from tf_hugebatch import sweep_main
from tf_hugebatch.fields import FIELDS
from tf_hugebatch.runs import load_runs, load_sweeps
from tf_hugebatch.tuning import space_file

ROOT = pathlib.Path(__file__).parents[1]
FLAGS = ROOT / "flags" / "sweeps"
WORDS = ("--dataset=mnist5k", "--batch_size=1000", "--epochs=4")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.json").write_text('{"learning_rate": [0.01, 0.1], "momentum": [0.5, 0.9]}')
    return tmp_path


def refused(capsys, *words):
    assert sweep_main.main(list(words)) == 2
    said = capsys.readouterr()
    first, *problems, last = said.err.splitlines()
    assert said.out == "" and first.startswith(f"Refused: {len(problems)} problem") and "--help" in last
    return problems


def test_every_problem_is_in_one_message_and_nothing_is_written(elsewhere, capsys):
    (elsewhere / "bad.json").write_text('{"lerning_rate": [1], "momentum": []}')
    before = sorted(elsewhere.rglob("*"))
    problems = refused(capsys, *WORDS, "--optimizer=larz", "--space=bad.json", "--method=gird", "--jobs=0", "--spase=x",
                       "--run_dir=r", "--trials=many")
    for part in ("larz", "lerning_rate", "momentum", "gird", "--jobs=0", "--spase=x", "--run_dir=r", "many"):
        assert sum(part in problem for problem in problems) == 1, (part, problems)
    assert len(problems) == 8 and sorted(elsewhere.rglob("*")) == before


@pytest.mark.parametrize("words, said", [
    ((), "--space is missing"),
    (("--space=s.json", "--resume=never"), "--resume=never: a sweep always goes on"),
    (("--space=s.json", "--validation_examples=0"), "--validation_examples=0: a sweep selects on held-out examples"),
    (("--space=s.json", "--validation_examples=9", "--select_on_test"), "the test split selects"),
    (("--space=s.json", "--validation_examples=4000"), "some must be left to train on"),
    (("--space=s.json", "--method=grid", "--trials=3"), "a grid tries every point"),
    (("--space=s.json", "--trials=5"), "the space has only 4 points"),
    (("--space=s.json", "--momentum=0.3"), "momentum: it is searched, and the command line gives it too"),
    (("--space=s.json", "--sweep_dir=s.json"), "--sweep_dir=s.json: that is a file"),
    (("--space=nowhere.json",), "--space=nowhere.json: No such file"),
    (("--space=s.json", "--batch_size=3900"), "3,600 training examples"),
    (("--space=s.json", "--seed=4294967295"), "--seed=4294967295: the sweep's runs would take seeds up to 4294967300"),
    (("--ladder", "--optimizer=sgd"), "--optimizer=sgd (command line): the rungs of a ladder decide it"),
])
def test_what_a_sweep_cannot_do_is_named(elsewhere, capsys, words, said):
    problems = refused(capsys, *(word for word in WORDS if word.split("=")[0] not in {w.split("=")[0] for w in words}), *words)
    assert any(said in problem for problem in problems), problems
    assert not (elsewhere / "runs").exists()


def test_a_grid_has_as_many_points_as_it_has(elsewhere, capsys):
    (elsewhere / "s.json").write_text('{"learning_rate": {"low": 0.01, "high": 1.0, "log": true, "points": 600}}')
    assert sweep_main.main([*WORDS, "--space=s.json", "--method=grid", "--dry_run"]) == 0
    assert "600, grid" in capsys.readouterr().out


def test_bad_data_are_found_before_any_run(elsewhere, capsys):
    [problem] = refused(capsys, "--dataset=mnist", "--data_dir=not/there", "--space=s.json")
    assert "not/there" in problem
    (elsewhere / "data").mkdir()
    [problem] = refused(capsys, "--dataset=mnist", "--data_dir=data", "--space=s.json")
    assert "data" in problem and not (elsewhere / "runs").exists()


def test_without_optuna_it_says_what_to_install(elsewhere, capsys, monkeypatch):
    ordinary = sweep_main.importlib.util.find_spec
    monkeypatch.setattr(sweep_main.importlib.util, "find_spec", lambda name: None if name == "optuna" else ordinary(name))
    assert "pip install 'tf_hugebatch[sweep]'" in refused(capsys, *WORDS, "--space=s.json")[0]


def test_help_is_light_and_names_its_own_flags_first(elsewhere):
    code = ("import sys, tf_hugebatch.sweep_main as main\n"
            "try:\n    main.main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
            "roots = {name.partition('.')[0] for name in sys.modules}\n"
            "heavy = roots & {'tensorflow', 'keras', 'optuna', 'scipy', 'matplotlib'}\n"
            "assert not heavy, heavy")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    for name in ("space", "method", "trials", "jobs", "final_seeds", "sweep_dir", "select_on_test", "ladder"):
        assert f"--{name}=" in result.stdout
    assert result.stdout.index("--space=") < result.stdout.index("--batch_size=")


def test_a_dry_run_says_what_would_run_and_runs_nothing(elsewhere, capsys):
    pytest.importorskip("mlxtend")
    assert sweep_main.main([*WORDS, "--space=s.json", "--method=grid", "--dry_run", "--seed=3"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"folder +runs/sweep-mnist5k-[0-9a-f]{8}\n", said)
    assert "4, grid; 15 updates each" in said and "400 validation examples" in said
    assert "5 of the chosen setting, seeds 4, 5, 6, 7, 8" in said and "learning_rate=0.01, momentum=0.5" in said
    assert sweep_main.main([*WORDS, "--space=s.json", "--select_on_test", "--trials=2", "--dry_run"]) == 0
    assert "the test split: every number of this sweep is marked so" in capsys.readouterr().out
    assert sweep_main.main([*WORDS, "--ladder", "--dry_run"]) == 0
    assert "4 without warm-up" in capsys.readouterr().out
    assert not (elsewhere / "runs").exists()


def command_of(path):
    [command] = re.findall(r"^# command: python -m tf_hugebatch\.sweep_main (.*)$", path.read_text(), re.MULTILINE)
    return [word for word in shlex.split(command) if "=DIR" not in word]


EXAMPLES = [path for path in sorted(FLAGS.glob("*.flags")) if "tf_hugebatch.sweep_main" in path.read_text()]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_accepted(path, monkeypatch, capsys, tmp_path):
    pytest.importorskip("optuna")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sweep_main, "_look_at_data", lambda settings: ())
    assert sweep_main.main([*command_of(path), f"--sweep_dir={tmp_path / 'new'}", "--dry_run"]) == 0, capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_the_examples_space_of_the_ladder_is_the_default(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sweep_main, "_look_at_data", lambda settings: ())
    texts = []
    for more in ([], ["--space=flags/sweeps/ladder_mnist.json"]):
        assert sweep_main.main([*command_of(FLAGS / "ladder_mnist.flags"), "--dry_run", *more]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("path", sorted(FLAGS.rglob("*.json")), ids=lambda path: path.stem)
def test_every_space_file_names_flags_of_a_run(path):
    content = space_file.read(path)
    parts = [content] if set(content) <= set(FIELDS) else content.values()
    assert content and all(set(part) <= set(FIELDS) for part in parts)


# Real runs.


def start(folder, *words, trials=2):
    command = [sys.executable, "-m", "tf_hugebatch.sweep_main", "--dataset=mnist5k", "--batch_size=500", "--train_steps=12",
               "--eval_every_epochs=10", "--space=s.json", f"--trials={trials}", "--final_seeds=1", "--jobs=2",
               "--checkpoint_every_steps=1", f"--sweep_dir={folder}", *words]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)


def results_of(folder):
    [sweep] = load_sweeps(folder)
    runs = {os.path.relpath(run.path, folder): (run.status["status"], run.status["final"], run.metrics)
            for run in load_runs(folder)}
    return sweep.result, runs


def killed_and_finished(folder, **how):
    """(result, runs) of a sweep that was killed while its trials trained; what they had made is not made again."""
    killed, trial = start(folder, **how), folder / "trials" / "0000"
    end = time.monotonic() + 120
    while not ((trial / "status.json").exists() and read(trial / "status.json")["step"] >= 1):
        assert time.monotonic() < end and killed.poll() is None, killed.stdout.read()
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    again = start(folder, **how)
    said = again.communicate(timeout=300)[0]
    assert again.returncode == 0, said
    assert read(trial / "status.json")["step"] == 12 and len(read(trial / "versions.json")["earlier"]) <= 1
    return results_of(folder)


@pytest.mark.fault("kill -9 of a sweep of real runs", holds="its trial goes on, and the choice is of validation")
def test_a_real_sweep_killed_on_the_way_comes_to_its_end(elsewhere):
    pytest.importorskip("mlxtend")
    result, runs = killed_and_finished(elsewhere / "killed", trials=1)
    assert sorted(runs) == ["final/seed1", "trials/0000"]
    assert result["chosen"]["accuracy"] == runs["trials/0000"][1]["validation_accuracy"]
    assert "test_accuracy" in runs["final/seed1"][1] and "validation_accuracy" not in runs["final/seed1"][1]


@pytest.mark.slow
@pytest.mark.fault("kill -9 of a sweep of real runs", holds="the same runs, numbers and choice as of one that nobody killed")
def test_a_real_sweep_killed_on_the_way_comes_to_the_same(elsewhere):
    pytest.importorskip("mlxtend")
    whole = start(elsewhere / "whole")
    said = whole.communicate(timeout=300)[0]
    assert whole.returncode == 0, said
    result, runs = killed_and_finished(elsewhere / "killed")
    assert (result, runs) == results_of(elsewhere / "whole")
    on_validation = [runs[name][1]["validation_accuracy"] for name in ("trials/0000", "trials/0001")]
    assert result["chosen"]["accuracy"] == max(on_validation)
