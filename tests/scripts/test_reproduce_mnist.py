"""The script that repeats the MNIST column: every command is one that runs, and all that is asked for is among them."""

import os
import pathlib
import re
import shlex
import subprocess

import pytest

from tf_hugebatch import command_line, published, sweep_main
from tf_hugebatch.reports import table3_cells

ROOT = pathlib.Path(__file__).parents[2]


def printed(*words, **environment):
    return subprocess.run([ROOT / "scripts/reproduce_mnist.sh", *words], cwd=ROOT, env={**os.environ, **environment},
                          capture_output=True, text=True, check=False)


def commands(model):
    """(program, command) of every line, each parsed as its program does."""
    found = []
    for line in printed(str(ROOT), model, "1", "RUNS", DRY_RUN="1").stdout.splitlines():
        program, *words = shlex.split(line.removeprefix("python -m tf_hugebatch."))
        own = {"sweep_main": sweep_main.OWN}.get(program, ())
        if program == "report_main":
            found.append((program, words))
            continue
        command = command_line.parse([f"--flagfile={ROOT / word.partition('=')[2]}" if word.startswith("--flagfile=") else word
                                      for word in words], program=program, description="", dataset="mnist", own=own)
        assert command.problems == [], line
        found.append((program, command))
    return found


@pytest.fixture(scope="module", params=table3_cells.NETWORKS)
def all_commands(request):
    return request.param, commands(request.param)


def test_table_3_is_searched_and_scaled_whole(all_commands):
    model, found = all_commands
    for solver in {place.optimizer for place in table3_cells.places(model)}:
        for batch in (256, published.TABLE_3_BATCH):
            [search] = [command for program, command in found if program == "sweep_main" and not command.own["method"] == "grid"
                        and (command.settings.optimizer, command.settings.batch_size) == (solver, batch)]
            own = search.own
            assert (own["trials"], own["confirm"], own["final_seeds"]) == (20, 3, 5)
            assert own["space"].endswith(table3_cells.space_file(solver, batch)) and (ROOT / own["space"]).exists()
            assert (search.settings.model, search.settings.epochs) == (model, 30)
        ruled = [command.settings for program, command in found if program == "mnist_main" and "_rule/" in command.settings.run_dir
                 and command.settings.optimizer == solver]
        assert sorted(one.seed for one in ruled) == [1, 2, 3, 4, 5] and {one.batch_size for one in ruled} == {8192}
        assert {one.learning_rate for one in ruled} == {0.1} and {one.warmup_epochs for one in ruled} == {0}


def test_the_papers_network_takes_over_every_cell_of_the_small_one(all_commands):
    model, found = all_commands
    runs = [command.settings for program, command in found if program == "mnist_main" and "_carried/" in command.settings.run_dir]
    if model != table3_cells.SEARCHED_ON:
        assert not runs
        return
    made = sorted((one.optimizer, one.batch_size, "rule" in one.run_dir, one.seed) for one in runs)
    cells = [(place.optimizer, place.batch, place.way == table3_cells.RULE) for place in table3_cells.places("lenet")]
    assert made == sorted((*cell, seed) for cell in cells for seed in (1, 2, 3, 4, 5))
    assert {(one.model, one.epochs, one.selected_on) for one in runs} == {("lenet", 30, "validation")}
    for one in runs:
        searched = one.batch_size == published.TABLE_3_BATCH and "rule" not in one.run_dir
        assert (one.learning_rate, one.peak_learning_rate) == ((None, 0.1) if searched else (0.1, None))
        assert one.warmup_epochs == (0.1 if searched else 0)


def test_the_papers_network_may_be_left_out():
    assert "--model=lenet " not in printed(str(ROOT), "lenet5", "1", "RUNS", "", DRY_RUN="1").stdout
    assert printed(str(ROOT), "lenet5", "1", "RUNS", "7", DRY_RUN="1").stdout.count("--model=lenet ") == 31


def test_no_folder_is_used_twice_and_no_experiment_is_run_twice(all_commands):
    _, found = all_commands
    runs = [command.settings for program, command in found if program == "mnist_main"]
    assert len({one.run_dir for one in runs}) == len(runs) > 100
    twice = {}
    for one in runs:
        twice.setdefault(one.experiment_hash(), []).append(one.run_dir)
    assert [folders for folders in twice.values() if len(folders) > 1] == []
    assert {program for program, _ in found} == {"mnist_main", "sweep_main", "report_main"}


def test_figures_18_and_19_go_out_to_1000_epochs(all_commands):
    _, found = all_commands
    at = {(command.settings.batch_size, command.settings.epochs) for program, command in found if program == "mnist_main"}
    assert {(batch, epochs) for batch in (32768, 60000) for epochs in (30, 300, 1000)} <= at
    searched = {(command.settings.batch_size, command.settings.epochs): command.own for program, command in found
                if program == "sweep_main" and command.own["space"].endswith("longer.json")}
    assert set(searched) == {(32768, 100), (60000, 100)}
    assert {(own["trials"], own["final_seeds"]) for own in searched.values()} == {(12, 5)}
    longer = [command.settings for program, command in found if program == "mnist_main" and re.search("fig1[89]/b(32|full)",
                                                                                              command.settings.run_dir)]
    assert {(one.peak_learning_rate, one.warmup_epochs, one.selected_on) for one in longer} == {(0.1, 0.1, "validation")}
    assert {(batch, epochs) for batch in (8192, 16384, 32768) for epochs in (30, 60, 100, 200)} <= at


def test_the_report_reads_what_was_written(all_commands):
    _, found = all_commands
    program, words = found[-1]
    assert program == "report_main" and words == ["--runs=RUNS", "--all", "--output=RUNS/report"]
    assert all(command.settings.run_dir.startswith("RUNS/") for program, command in found if program == "mnist_main")
    assert all(command.own["sweep_dir"].startswith("RUNS/") for program, command in found if program == "sweep_main")


def test_without_a_data_folder_it_says_what_it_needs():
    ended = printed(DRY_RUN="1")
    assert ended.returncode != 0 and "give the folder of mnist.npz" in ended.stderr and ended.stdout == ""


@pytest.mark.parametrize("code, goes_on", [(3, True), (2, False), (1, False), (143, False)])
def test_a_diverged_run_is_a_result_and_anything_else_ends_it(tmp_path, code, goes_on):
    stub = tmp_path / "python"
    stub.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\ncase "$*" in *sgd_256*sweep_dir*) exit {code};; esac\n')
    stub.chmod(0o755)
    ended = printed("DIR", PATH=f"{tmp_path}:{os.environ['PATH']}")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert ended.returncode == (0 if goes_on else code)
    assert len(calls) == 1 if not goes_on else calls[-1].startswith("-m tf_hugebatch.report_main")
    # The stub's result.json says nothing, so no rate is scaled.
    assert not [call for call in calls if "_rule/" in call]
