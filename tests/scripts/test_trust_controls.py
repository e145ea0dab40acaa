"""Controls for trust ratios: means from run folders, and flagfiles that a run takes."""

import importlib.util
import json
import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import tf_hugebatch as hb
from reference import made_figures as made
from tf_hugebatch import command_line

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "trust_controls.py"
LAYERS = ("conv1", "conv2", "dense1", "dense2", "logits")


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("trust_controls", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_run(folder, ratios, rates=(0.0, 1.0, 2.0), weight_norms=None, status="done", **values):
    """A run whose update t has the trust ratios ratios[t], each {path: r}."""
    made.write_run(folder, **{"batch_size": 32768, "epochs": 30, "optimizer": "lars", "peak_learning_rate": 32, **values},
                   status=status)
    lines = []
    for step, (of_step, rate) in enumerate(zip(ratios, rates), 1):
        ones = dict.fromkeys(of_step, 1.0)
        lines += [{"kind": "train", "step": step, "epoch": step, "learning_rate": rate},
                  {"kind": "trust", "step": step, "epoch": step, "trust_ratios": of_step, "gradient_norms": ones,
                   "weight_norms": {**ones, **(weight_norms or {}).get(step, {})}}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_means_are_geometric_over_the_updates_in_which_a_ratio_was_one(script, tmp_path):
    write_run(tmp_path / "1", [{"m/a/kernel": 7.0, "m/a/bias": 1.0, "m/n/gamma": 1.0},  # rate 0: nothing moved
                               {"m/a/kernel": 0.1, "m/a/bias": 1.0, "m/n/gamma": 1.0},  # the bias is 0: its ratio is none
                               {"m/a/kernel": 10.0, "m/a/bias": 0.5, "m/n/gamma": 1.0}], weight_norms={2: {"m/a/bias": 0.0}})
    write_run(tmp_path / "2", [{"m/a/kernel": 9.0, "m/a/bias": 9.0, "m/n/gamma": 1.0},
                               {"m/a/kernel": 4.0, "m/a/bias": 2.0, "m/n/gamma": 1.0}])
    means = script.mean_ratios(hb.load_runs(tmp_path))
    assert means == pytest.approx({"a/kernel": 4.0 ** (1 / 3), "a/bias": 1.0})


def test_a_network_without_a_name_of_its_own_in_its_paths_keeps_its_layers_apart(script, tmp_path):
    write_run(tmp_path / "1", [{"stem_conv/kernel": 2.0, "block1_conv/kernel": 8.0, "stem_norm/gamma": 1.0}] * 2)
    assert script.mean_ratios(hb.load_runs(tmp_path)) == pytest.approx({"stem_conv/kernel": 2.0, "block1_conv/kernel": 8.0})


def test_shuffling_moves_every_layer_and_keeps_kernels_kernels(script):
    means = {f"{layer}/{name}": place + 10 * (name == "bias") for place, layer in enumerate(LAYERS, 1)
             for name in ("kernel", "bias")}
    for seed in range(20):
        moved = script.shuffled(means, seed)
        assert list(moved) == list(means) and sorted(moved.values()) == sorted(means.values())
        assert all(moved[path] != means[path] for path in means)
        assert all(moved[f"{layer}/bias"] == moved[f"{layer}/kernel"] + 10 for layer in LAYERS)
    assert script.shuffled(means, 3) == script.shuffled(means, 3) != script.shuffled(means, 4)
    with pytest.raises(ValueError, match="dense: no other layer"):
        script.shuffled({"a/kernel": 1.0, "b/kernel": 2.0, "dense/kernel": 1.0, "dense/bias": 1.0}, 0)


def test_its_flagfiles_are_settings_of_a_run_on_the_same_network(tmp_path):
    ratios = {f"lenet5/{layer}/{name}": 0.01 * place for place, layer in enumerate(LAYERS, 1) for name in ("kernel", "bias")}
    write_run(tmp_path / "run", [ratios] * 3)
    subprocess.run([sys.executable, SCRIPT, tmp_path / "run", tmp_path / "out"], check=True, cwd=ROOT)
    taken = {}
    for name in ("frozen", "global", "shuffled"):
        command = command_line.parse(
            [f"--flagfile={ROOT}/flags/noise/lars.flags", f"--flagfile={tmp_path}/out/{name}.flags"], program="mnist_main",
            description="", dataset="mnist")
        assert command.problems == []
        taken[name] = dict(command.settings.fixed_trust_ratios)
    assert taken["frozen"] == pytest.approx({path.partition("/")[2]: ratio for path, ratio in ratios.items()})
    assert taken["global"] == pytest.approx({".": 0.01 * math.exp(np.mean(np.log([1, 2, 3, 4, 5])))})
    assert sorted(taken["shuffled"].values()) == pytest.approx(sorted(ratios.values()))


def test_runs_without_ratios_are_refused(tmp_path):
    write_run(tmp_path / "run", [{"m/a/kernel": 1.0}] * 3)
    for folder, about in ((tmp_path / "run", "no trust ratio was written down"), (tmp_path / "none", "neither a run folder")):
        ended = subprocess.run([sys.executable, SCRIPT, folder, tmp_path / "out"], capture_output=True, text=True, check=False,
                               cwd=ROOT)
        assert ended.returncode == 2 and about in ended.stderr and not (tmp_path / "out").exists()


RATIOS = [{f"lenet5/{layer}/kernel": 0.01 * place for place, layer in enumerate(LAYERS, 1)}] * 3


def ended(folder, output):
    return subprocess.run([sys.executable, SCRIPT, folder, output], capture_output=True, text=True, check=False, cwd=ROOT)


def test_runs_of_several_settings_are_refused_by_name_and_seeds_of_one_are_not(tmp_path):
    for seed in (1, 2):
        write_run(tmp_path / "runs" / "lars" / f"seed{seed}", RATIOS, seed=seed)
    assert ended(tmp_path / "runs" / "lars", tmp_path / "one").returncode == 0
    assert "means of 2 run(s)" in (tmp_path / "one" / "frozen.flags").read_text()
    write_run(tmp_path / "runs" / "lars_8" / "seed1", RATIOS, peak_learning_rate=8)
    refused = ended(tmp_path / "runs", tmp_path / "both")
    assert refused.returncode == 2 and not (tmp_path / "both").exists()
    for words in ("2 settings", f"{tmp_path}/runs/lars/seed1, {tmp_path}/runs/lars/seed2: peak_learning_rate 32",
                  f"{tmp_path}/runs/lars_8/seed1: peak_learning_rate 8", "Name the folder of one of them."):
        assert words in refused.stderr


def unended(folder):
    (folder / "status.json").unlink()


def torn(folder):
    with open(folder / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"kind": "tru')


def unmeasured(folder):
    rows = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(row for row in rows if '"trust"' not in row))


def test_a_seed_that_diverged_is_left_out_by_name_and_alone_it_is_refused(tmp_path):
    write_run(tmp_path / "runs" / "seed1", RATIOS, seed=1)
    bad = write_run(tmp_path / "runs" / "seed2", [{path: 9.0 for path in RATIOS[0]}] * 3, seed=2, status="diverged")
    done = ended(tmp_path / "runs", tmp_path / "out")
    assert done.returncode == 0 and f"left out, diverged: {bad}" in done.stderr
    frozen = (tmp_path / "out" / "frozen.flags").read_text()
    assert "means of 1 run(s)" in frozen and "conv1/kernel=0.01," in frozen
    refused = ended(bad, tmp_path / "none")
    assert refused.returncode == 2 and "every run diverged" in refused.stderr and not (tmp_path / "none").exists()


@pytest.mark.parametrize("values, change, reason", [
    ({"status": "running"}, None, "still running, or killed"),
    ({}, unended, "no status.json"), ({}, torn, "1 of 7 lines torn"), ({}, unmeasured, "--diagnostics=trust"),
    ({"fixed_trust_ratios": "kernel=0.1"}, None, "were fixed")])
def test_a_run_that_is_not_done_or_found_no_ratios_is_refused_by_name(script, tmp_path, values, change, reason):
    write_run(tmp_path / "good", RATIOS)
    script.alike(hb.load_runs(tmp_path))
    bad = write_run(tmp_path / "bad", RATIOS, **values)
    if change:
        change(bad)
    with pytest.raises(ValueError, match=f"(?s){bad}.*{reason}.*Name a folder, or a pattern in quotes") as refused:
        script.alike(hb.load_runs(tmp_path))
    assert f"{tmp_path}/good" not in str(refused.value)


def test_trials_of_a_sweep_are_refused_and_its_final_runs_are_not(script, tmp_path):
    made.write_plan(tmp_path / "lars", "mnist", space={}, batch_size=32768)
    write_run(tmp_path / "lars" / "final" / "seed1", RATIOS)
    script.alike(hb.load_runs(tmp_path / "lars" / "final"))
    write_run(tmp_path / "lars" / "trials" / "0000", RATIOS, validation_examples=5000)
    with pytest.raises(ValueError, match="trials/0000: searched, as part of a sweep"):
        script.alike(hb.load_runs(tmp_path / "lars"))
