"""The exact commands that fill what a report leaves blank, written so that a shell takes them as they stand."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping

from tf_hugebatch import published, registry
from tf_hugebatch.fields import FIELDS, kind_of
from tf_hugebatch.parsers import pair
from tf_hugebatch.reports.blanks import cost_in_words
from tf_hugebatch.runs import Sweep
from tf_hugebatch.settings import resolve

#: Seeds of a setting that a number is made of.
SEEDS = 5
#: Trials of a search, how many of its best settings are confirmed by two more seeds, and the most examples that it holds out.
TRIALS, CONFIRM = 20, 3
#: Runs of a search before its final ones, where no confirmed setting diverges.
SEARCH_RUNS = TRIALS + 2 * CONFIRM
HELD_OUT = published.MNIST_VALIDATION_EXAMPLES
#: Where the commands put their runs.
FOLDER = "runs"

_NAMES_FIRST = ("dataset", "model", "batch_size", "optimizer", "schedule")
_DISPLACED = ("bn_span",)  # by norm=local, which takes its place


def program_of(dataset: str) -> str:
    """The program that trains on a data set."""
    return registry.DATASETS[dataset].facts["program"]


def words_of(values: Mapping) -> list[str]:
    """Flags that resolve to the experiment of `values` (the seed apart): names first, then what differs from their rows."""
    names = {name: values[name] for name in _NAMES_FIRST if values.get(name) is not None}
    rows, _ = resolve([("names", names)])
    words = dict(names)
    for name in FIELDS:
        value = values.get(name)
        if name in (*names, "seed") or kind_of(name, values) != "experiment" or value == getattr(rows, name):
            continue
        if value is None and (name in _DISPLACED or not FIELDS[name].optional):
            continue  # displaced by a partner, which is stated
        if name == "dataset_size" and not registry.DATASETS[values["dataset"]].facts["embedded"]:
            continue  # counted in data_dir
        words[name] = value
    return [f"--{name}={as_typed(value)}" for name, value in words.items()]


def selected(split: str) -> list[str]:
    """What runs say of the split that chose their setting, which is no part of the experiment; nothing where none did."""
    return [f"--selected_on={split}"] if split in ("validation", "test") else []


def train(words: Iterable[str], dataset: str, folder: str, seeds: Iterable[int], variable: str = "") -> str:
    """One run a seed, in `folder`/seed<seed>. variable: a flag that the shell is to fill in."""
    seeds = list(seeds)
    words = [*map(quoted, words), *([variable] if variable else []), *_data(dataset)]
    one = " ".join([f"python -m tf_hugebatch.{program_of(dataset)}", *words])
    if len(seeds) == 1:
        return f"{one} --seed={seeds[0]} --run_dir={quoted(f'{folder}/seed{seeds[0]}')}"
    return (f"for seed in {' '.join(map(str, seeds))}; do {one} --seed=$seed "
            f"--run_dir={quoted(folder)}/seed$seed; done")


def quoted(word: str) -> str:
    """A word as a shell takes it; what can't be printed (escape codes, bytes that are no text) as bash's $'...' has it."""
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(chr(byte) if 32 <= byte < 127 and chr(byte) not in "'\\" else f"\\x{byte:02x}"
                          for byte in os.fsencode(word)) + "'"


def chosen_value(sweep_dir: str, name: str) -> str:
    """A shell word: the value of `name` that a sweep chose."""
    code = f"import json; print(json.load(open(\"{sweep_dir}/result.json\"))[\"chosen\"][\"values\"][\"{name}\"])"
    return f"$(python -c '{code}')"


def sweep(words: Iterable[str], dataset: str, folder: str, space: str) -> str:
    """A search of `space`, and the chosen setting with fresh seeds, in `folder`."""
    return " ".join(["python -m tf_hugebatch.sweep_main", *map(quoted, words), *_data(dataset), f"--space={space}",
                     f"--method=random --trials={TRIALS} --confirm={CONFIRM} --final_seeds={SEEDS}",
                     f"--sweep_dir={quoted(folder)}"])


def sweep_again(sweep: Sweep, more: int) -> str:
    """The command of a sweep with `more` trials than it was asked for; '' where its plan doesn't say, and for a grid, which has
    no more points."""
    words, trials = sweep.plan.get("command_line"), sweep.plan.get("trials")
    if sweep.plan.get("method") == "grid" or not isinstance(words, list) or not words or not isinstance(trials, int):
        return ""
    program, *words = map(str, words)
    words = [word for word in words if not word.startswith("--trials=")]
    return " ".join([f"python -m tf_hugebatch.{program}", *map(quoted, [*words, f"--trials={trials + more}"])])


def train_cost(model: str, examples: int, epochs: float, seeds: int) -> str:
    """What `seeds` runs on `examples` training images cost."""
    return cost_in_words(model, seeds * epochs * examples, seeds)


def sweep_cost(model: str, examples: int, epochs: float) -> str:
    """What a search, its repeats and its final runs cost."""
    held_out = min(HELD_OUT, examples // 10)  # as sweep_main does
    return cost_in_words(model, epochs * (SEARCH_RUNS * (examples - held_out) + SEEDS * examples), SEARCH_RUNS + SEEDS)


def _data(dataset: str) -> list[str]:
    return [] if registry.DATASETS[dataset].facts["embedded"] else ["--data_dir=DIR"]


def as_typed(value) -> str:
    """A setting's value as a command line has it."""
    if value is None:
        return "none"
    if isinstance(value, (tuple, list)):
        return ",".join(pair(part) if isinstance(part, (tuple, list)) else str(part) for part in value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
