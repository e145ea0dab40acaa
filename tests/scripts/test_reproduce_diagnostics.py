"""The script that repeats the diagnostics' runs: every command is one that runs, and appendix 6.3 is whole."""

import json
import os
import pathlib
import re
import shlex
import subprocess

import pytest

from tf_hugebatch import command_line, sweep_main
from tf_hugebatch.fields import FIELDS
from tf_hugebatch.reports import catalogue
from tf_hugebatch.reports.commands import SEARCH_RUNS

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "scripts/reproduce_diagnostics.sh"
NOISES = ("activations", "weights", "gradients", "labels")


def printed(*words):
    return subprocess.run([SCRIPT, *words], cwd=ROOT, env={**os.environ, "DRY_RUN": "1"}, capture_output=True, text=True,
                          check=False)


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """(program, command) of every line but the two that read run folders."""
    runs, found = tmp_path_factory.mktemp("runs"), []
    for batch in ("32768", "full"):
        folder = runs / "noise/lenet5" / f"b{batch}" / "controls"
        folder.mkdir(parents=True)
        for name in ("frozen", "global", "shuffled"):
            (folder / f"{name}.flags").write_text("--fixed_trust_ratios=.=0.01\n")
    for line in printed(str(ROOT), "lenet5", "1", str(runs)).stdout.splitlines():
        words = shlex.split(line)
        if words[1] == "-m" and words[2] != "tf_hugebatch.report_main":
            program = words[2].rpartition(".")[2]
            own = {"sweep_main": sweep_main.OWN}.get(program, ())
            command = command_line.parse(
                [f"--flagfile={ROOT / word.partition('=')[2]}" if word.startswith("--flagfile=") else word
                 for word in words[3:]], program=program, description="", dataset="mnist", own=own)
            assert command.problems == [], line
            found.append((program, command))
    return found


def test_at_both_batches_every_noise_and_control_has_lars_own_budget(commands):
    for batch in (32768, 55000):
        searches = [command for program, command in commands if program == "sweep_main" and command.settings.batch_size == batch]
        about = [(one.settings.optimizer, one.settings.inject_noise, one.settings.fixed_trust_ratios is not None)
                 for one in searches]
        assert about == [("sgd", None, False), *(("sgd", kind, False) for kind in NOISES), ("lars", None, False),
                         *[("lars", None, True)] * 3]
        for one in searches:
            assert (one.own["trials"], one.own["final_seeds"], one.settings.validation_examples) == (20, 5, 5000)
            assert "sharpness" in one.settings.diagnostics and one.settings.epochs == 30
            space = json.loads((ROOT / one.own["space"]).read_text())
            assert ("noise_stddev" in space) == (one.settings.inject_noise is not None)
            for name, values in space.items():
                for value in (values["low"], values["high"]) if isinstance(values, dict) else values:
                    assert FIELDS[name].parse(value) == value
        assert len({one.own["sweep_dir"] for one in searches}) == 9
        assert "trust" in next(one for one in searches if one.settings.optimizer == "lars").settings.diagnostics


def test_a_flagfile_says_the_command_of_the_report_and_of_this_script_and_counts_its_runs(commands):
    def searched(command):
        own = {name: value for name, value in command.own.items() if name not in ("jobs", "sweep_dir", "space")}
        return own, pathlib.Path(command.own["space"]).name, {
            name: value for name, value in command.settings.as_dict().items() if name != "run_dir"}

    of_script = [searched(command) for program, command in commands
                 if program == "sweep_main" and command.settings.batch_size == 32768]
    sources = [source for source in catalogue.FIGURES["noise_and_ratios"].sources if "--batch_size=32768" in source.command]
    assert len(sources) == 6
    for source in sources:
        name = re.search(r"noise/(\w+)\.flags", source.command)[1]
        header = (ROOT / f"flags/noise/{name}.flags").read_text()
        assert f"# command: {source.command}\n" in header
        words = source.command.replace("=flags/", f"={ROOT}/flags/").replace("=DIR", f"={ROOT}")
        command = command_line.parse(
            shlex.split(words)[3:], program="sweep_main", description="", dataset="mnist", own=sweep_main.OWN)
        assert command.problems == [] and searched(command) in of_script
        runs = SEARCH_RUNS + command.own["final_seeds"]
        assert f"{runs} runs of 2 minutes on two cores, {2 * runs} minutes" in header


def test_growth_differs_from_decay_in_what_grows_and_what_falls_alone(commands):
    pairs = {}
    for _, command in commands:
        if "/growth/lenet5/" in command.settings.run_dir:
            pairs.setdefault(command.settings.seed, []).append(command.settings)
    assert len(pairs) == 5
    for decay, growth in pairs.values():
        assert {name for name, value in growth.as_dict().items() if value != decay.as_dict()[name]} == {
            "schedule", "rate_drops", "batch_growth", "run_dir"}
        assert dict(decay.rate_drops) == dict(growth.batch_growth)
        assert (decay.total_updates, growth.total_updates) == (7_032, 2_601)


def test_a_start_lies_inside_its_space_and_widths_are_alike(commands):
    widths = set()
    for program, command in commands:
        if program == "sweep_main":
            for name, values in json.loads((ROOT / command.own["space"]).read_text()).items():
                if isinstance(values, dict):
                    assert values["low"] < getattr(command.settings, name) < values["high"]
                    widths.add((name, round(values["high"] / values["low"])))
    assert {width for name, width in widths if name == "peak_learning_rate"} == {1000}


def test_figure_11_and_what_is_measured_are_whole(commands):
    runs = [command.settings for program, command in commands if program == "mnist_main"]
    assert {(one.batch_size, one.seed) for one in runs if "diffusion" in one.diagnostics} == \
        {(batch, seed) for batch in (256, 1024, 8192) for seed in range(1, 6)} | {(32768, 1), (60000, 1)}
    assert {one.batch_size for one in runs if "noise_scale" in one.diagnostics} == {256, 8192, 60000}
    assert len({one.run_dir for one in runs}) == len(runs)


def test_a_part_runs_alone_and_an_unknown_one_is_refused():
    alone = printed(str(ROOT), "lenet5", "1", "RUNS", "distance").stdout.splitlines()
    assert len(alone) == 18 and all("fig11" in line for line in alone[:-1]) and "report_main" in alone[-1]
    wrong = printed(str(ROOT), "lenet5", "1", "RUNS", "nosie")
    assert wrong.returncode == 2 and "nosie: no such part" in wrong.stderr and wrong.stdout == ""
