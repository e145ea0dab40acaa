"""The script of the frontier: every command is one that runs, each point is there once, and the same command goes on."""

import os
import pathlib
import shlex
import subprocess
import sys

import pytest

from tf_hugebatch import command_line, sweep_main
from tf_hugebatch.reports import catalogue, frontier

ROOT = pathlib.Path(__file__).parents[2]
BATCHES = {256: 256, 8192: 8192, 32768: 32768, "full": 60000}


def called(*words, **environment):
    return subprocess.run([ROOT / "scripts/reproduce_frontier.sh", *words], cwd=ROOT, env={**os.environ, **environment},
                          capture_output=True, text=True, check=False)


def parsed(line):
    program, *words = shlex.split(line.removeprefix("python -m tf_hugebatch."))
    own = {"sweep_main": sweep_main.OWN}.get(program, ())
    command = command_line.parse([f"--flagfile={ROOT / word.partition('=')[2]}" if word.startswith("--flagfile=") else word
                                  for word in words], program=program, description="", dataset="mnist", own=own)
    assert command.problems == [], line
    return program, command


@pytest.fixture(scope="module")
def commands():
    lines = called(str(ROOT), "256 8192 32768 full", "1", "RUNS", DRY_RUN="1").stdout.splitlines()
    assert lines[-1] == ("python -m tf_hugebatch.report_main --runs=RUNS --figure=frontier,full_batch,noise_by_optimizer "
                         "--output=RUNS/report")
    return [parsed(line) for line in lines[:-1]]


def name_of(settings):
    return {"sgd": "nesterov" if settings.nesterov else "sgd"}.get(settings.optimizer, settings.optimizer)


def test_every_optimizer_is_searched_alike_at_every_batch(commands):
    searches = {(name_of(command.settings), command.settings.batch_size): command.own
                for program, command in commands if program == "sweep_main"}
    assert set(searches) == {(name, batch) for name in frontier.OPTIMIZERS for batch in BATCHES.values()}
    for (name, _), own in searches.items():
        assert (own["method"], own["trials"], own["confirm"], own["final_seeds"]) == ("random", 20, 3, 5)
        assert own["space"].endswith(f"frontier_{frontier.OPTIMIZERS[name][1]}.json") and (ROOT / own["space"]).exists()


def test_with_its_images_cifar10_is_compared_as_the_report_asks_for_it(commands):
    lines = called(str(ROOT), "256 8192 32768 full", "1", "RUNS", "lenet5", "CIFAR", DRY_RUN="1").stdout.splitlines()
    assert len(lines) == len(commands) + 1 + 5
    asked = {source.command for source in catalogue.FIGURES["full_batch"].sources if "cifar10" in source.label}
    assert {line.replace("=CIFAR", "=DIR").replace("--jobs=1 ", "").replace("RUNS/", "runs/frontier/") for line in lines[-6:-1]
            } == asked


def test_the_rules_scale_what_256_chose_and_say_on_what_it_was_chosen(commands):
    ruled = [command.settings for program, command in commands
             if program == "mnist_main" and "/rules/" in command.settings.run_dir]
    assert len(ruled) == 5 * 3 * 2 * 5 and {one.selected_on for one in ruled} == {"validation"}
    assert {(one.batch_size, one.lr_scaling) for one in ruled} == {
        (batch, rule) for batch in (8192, 32768, 60000) for rule in ("linear", "sqrt")}
    assert {one.learning_rate for one in ruled} == {0.1}
    assert ruled[0].replace(batch_size=8192, lr_scaling="linear").peak_rate == pytest.approx(0.1 * 32)


def test_the_noise_scale_is_measured_at_what_256_chose_of_every_optimizer(commands):
    measured = [command.settings for _, command in commands if command.settings.diagnostics]
    assert {(name_of(one), one.seed) for one in measured} == {(name, seed) for name in frontier.OPTIMIZERS for seed in (1, 2, 3)}
    assert {(one.batch_size, one.micro_batch_size, one.diagnostics, one.peak_rate, one.selected_on) for one in measured} == {
        (256, 128, ("noise_scale",), 0.1, "validation")}


def test_the_full_batch_is_confirmed_on_the_papers_network(commands):
    lenet = [command.settings for _, command in commands if command.settings.model == "lenet"]
    assert {one.batch_size for one in lenet} == {60000} and {one.total_updates for one in lenet} == {30}
    chosen = [one for one in lenet if one.selected_on == "validation"]
    assert {name_of(one) for one in chosen} == set(frontier.OPTIMIZERS) and len(chosen) == 25
    assert {(one.peak_rate, one.warmup_updates) for one in lenet if one.selected_on == "none"} == {(0.1, 3)}


def test_no_folder_is_used_twice_and_no_experiment_is_run_twice(commands):
    runs = [command.settings for program, command in commands if program == "mnist_main"]
    assert len({one.run_dir for one in runs}) == len({one.experiment_hash() for one in runs}) == len(runs)


def test_a_batch_whose_name_begins_like_256_is_another_batch():
    lines = called(str(ROOT), "256 25600 1256", "1", "RUNS", DRY_RUN="1").stdout.splitlines()
    ruled = [parsed(line)[1].settings.batch_size for line in lines if "/rules/" in line]
    assert set(ruled) == {25600, 1256} and len(ruled) == 5 * 2 * 2 * 5


STUB = """#!/bin/sh
case "$1" in -c) shift; exec {python} -c "$@";; esac
echo "$@" >> {folder}/calls
case "$*" in *sweep_dir=*) exec {python} {folder}/stub.py "$@";; esac
"""
RESULT = """import json, os, sys
[folder] = [word.partition("=")[2] for word in sys.argv if word.startswith("--sweep_dir=")]
os.makedirs(folder, exist_ok=True)
values = {"peak_learning_rate": 0.25, "poly_power": 1, "weight_decay": 0.001}
json.dump({"chosen": {"values": values} if "lars" not in folder else None}, open(f"{folder}/result.json", "w"))
"""


def test_what_a_search_chose_becomes_words_and_an_optimizer_without_one_is_passed_over(tmp_path):
    (tmp_path / "stub.py").write_text(RESULT)
    (tmp_path / "python").write_text(STUB.format(python=sys.executable, folder=tmp_path))
    (tmp_path / "python").chmod(0o755)
    ended = called("DIR", "256 full", "1", str(tmp_path / "runs"), PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert ended.returncode == 0, ended.stderr
    calls = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
    ruled = [call for call in calls if any("/rules/" in word for word in call)]
    assert len(ruled) == 4 * 2 * 5
    assert all({"--learning_rate=0.25", "--poly_power=1", "--weight_decay=0.001", "--batch_size=full"} <= set(call)
               and not any("peak" in word for word in call) for call in ruled)
    confirmed = [call for call in calls if "--model=lenet" in call]
    assert len(confirmed) == 4 * 5 and all("--peak_learning_rate=0.25" in call for call in confirmed)
    assert not any("lars" in word for call in [*ruled, *confirmed] for word in call)


@pytest.mark.parametrize("searched", [(), ("muon", "lars")])
def test_without_256_the_rules_are_those_of_earlier_searches_and_the_rest_goes_on(tmp_path, searched):
    (tmp_path / "stub.py").write_text(RESULT)
    (tmp_path / "python").write_text(STUB.format(python=sys.executable, folder=tmp_path))
    (tmp_path / "python").chmod(0o755)
    for name in searched:
        subprocess.run([sys.executable, tmp_path / "stub.py", f"--sweep_dir={tmp_path}/runs/lenet5/{name}_256"], check=True)
    ended = called("DIR", "full", "1", str(tmp_path / "runs"), PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert ended.returncode == 0, ended.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert sum("/rules/" in call for call in calls) == 2 * 5 * ("muon" in searched)  # the search of lars chose nothing
    assert sum("--model=lenet " in call for call in calls) == 4 * 5 and "report_main" in calls[-1]
    passed_over = [line for line in ended.stderr.splitlines() if "so no rules; they need 256 among BATCHES" in line]
    assert [line.partition(":")[0] for line in passed_over] == [name for name in frontier.OPTIMIZERS
                                                                if name != "muon" or name not in searched]
    assert "Traceback" not in ended.stderr


def test_a_refused_command_ends_it_and_without_a_folder_it_says_what_it_needs(tmp_path):
    (tmp_path / "python").write_text("#!/bin/sh\nexit 2\n")
    (tmp_path / "python").chmod(0o755)
    assert called("DIR", PATH=f"{tmp_path}:{os.environ['PATH']}").returncode == 2
    ended = called(DRY_RUN="1")
    assert ended.returncode != 0 and "give the folder of mnist.npz" in ended.stderr and ended.stdout == ""
