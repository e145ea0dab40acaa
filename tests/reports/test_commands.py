"""Commands that a report prints are command lines of the settings that it means."""

import os
import pathlib
import shlex
import subprocess
import sys

import pytest

from reference.made_runs import made_sweep
from tf_hugebatch import command_line, registry
from tf_hugebatch.reports import commands
from tf_hugebatch.settings import Settings

FLAGS = pathlib.Path(__file__).parents[2] / "flags"


def from_words(words):
    command = command_line.parse(words, program="mnist_main", description="", dataset="mnist")
    assert command.problems == []
    return command.settings


def check(settings):
    words = commands.words_of({name: getattr(settings, name) for name in settings.as_dict()})
    assert from_words([*words, f"--seed={settings.seed}"]).experiment_hash() == settings.experiment_hash()


@pytest.mark.parametrize("optimizer", registry.OPTIMIZERS)
def test_words_are_the_experiment_of_every_optimizer(optimizer):
    check(Settings(dataset="mnist5k", optimizer=optimizer, seed=3))


@pytest.mark.parametrize("regime", ["baseline", "large", "huge", "full"])
@pytest.mark.parametrize("dataset", ["mnist", "cifar10", "imagenet2012"])
def test_words_are_the_experiment_of_every_regime(dataset, regime):
    check(Settings(dataset=dataset, regime=regime))


@pytest.mark.parametrize("path", sorted(FLAGS.rglob("*.flags")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_words_are_the_experiment_of_every_flagfile(path):
    check(from_words([f"--flagfile={path}"]))


@pytest.mark.parametrize("given", [
    {"dataset": "cifar10", "norm": "local", "micro_batch_size": 32, "train_steps": 5, "warmup_steps": 2},
    {"regime_adaptation": True},
    {"optimizer": "adam_layerwise_bounded", "trust_bounds": "0,inf", "clip_global_norm": 1},
    {"optimizer": "sgd_layerwise_bounded", "trust_bounds": "none"}, {"regime": "large", "exclude_from_decay": "default"},
    {"regime": "large", "peak_learning_rate": 3, "exclude_from_adaptation": ["bias", "a b|c$"]}, {"validation_examples": 5000},
    {"dataset": "synthetic", "dataset_size": (512, 64), "batch_size": 64, "model": "resnet18", "image_size": 32}])
def test_words_are_the_experiment_of_odd_settings(given):
    check(Settings(**{"dataset": "mnist", **given}))


def test_a_shell_takes_the_words_as_they_stand(tmp_path):
    folder = tmp_path / "a folder"
    command = commands.train(["--exclude_from_decay=a b|c$"], "mnist", str(folder), [1, 2])
    script = command.replace("python -m tf_hugebatch.mnist_main", f"{sys.executable} -c 'import sys; print(sys.argv[1:])'")
    said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert said == [str(["--exclude_from_decay=a b|c$", "--data_dir=DIR", f"--seed={seed}", f"--run_dir={folder}/seed{seed}"])
                    for seed in (1, 2)]
    one = shlex.split(commands.train([], "mnist5k", "r", [4]))
    assert one[2:] == ["tf_hugebatch.mnist_main", "--seed=4", "--run_dir=r/seed4"]


def test_a_folder_with_escape_codes_is_printable_and_the_folder_that_it_was():
    folder = "a\x1b[2J'b\udce4\\"
    command = commands.train([], "mnist5k", folder, [4])
    assert command.isprintable()
    word = command.partition("--run_dir=")[2]
    said = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout
    assert said == os.fsencode(f"{folder}/seed4")


def test_a_shell_reads_the_value_that_a_sweep_chose(tmp_path):
    made_sweep(tmp_path / "sweep", [0.9], chosen={"learning_rate": 0.0125})
    script = f"rate={commands.chosen_value(f'{tmp_path}/sweep', 'learning_rate')} && echo $rate"
    script = script.replace("python", sys.executable)
    assert subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout == "0.0125\n"


def test_costs_count_every_image_of_every_run():
    assert commands.train_cost("lenet5", 60_000, 30, 5).startswith("9,000,000 images")
    assert commands.sweep_cost("lenet5", 60_000, 30).startswith(f"{30 * (26 * 55_000 + 5 * 60_000):,} images")
    assert commands.sweep_cost("lenet5", 4_000, 30).startswith(f"{30 * (26 * 3_600 + 5 * 4_000):,} images")
