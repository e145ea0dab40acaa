#!/usr/bin/env python3
"""Flagfiles of controls for trust ratios, made from runs with --diagnostics=trust: frozen, global and shuffled ratios.

    python scripts/trust_controls.py runs/lars/final OUT        writes OUT/frozen.flags, OUT/global.flags, OUT/shuffled.flags

The runs are seeds of one setting that are done and found their ratios themselves; others are refused, by name, but for seeds
that diverged, which are left out, by name. Each file gives --fixed_trust_ratios, beside which the flags of those runs stay as they are:

    frozen     every variable keeps the mean of the ratios that it had: what is lost is that ratios change
    global     all keep the mean of these means: what is lost besides is that layers differ (momentum SGD, but for a factor)
    shuffled   every layer keeps another layer's means: layers differ, but not as LARS found

Means are geometric, since a ratio multiplies, and over the updates and runs in which the ratio was one: with a learning rate
above 0, and norms above 0. A variable whose ratio was always 1 was excluded from adaptation, and is left out. Layers change
places with layers that have variables of the same names, so that a bias keeps a bias's ratio; none keeps its own.
"""

import argparse
import os
import pathlib
import sys

import numpy as np

import tf_hugebatch as hb
from tf_hugebatch.reports.outcomes import read_outcomes, setting_of
from tf_hugebatch.reports.sources import differences, shared_setting

FEWEST_LAYERS = 2


def alike(runs):
    """(those of the runs that did not diverge, those that did). Raises ValueError, naming folders, unless they are seeds of one
    setting that have ended, with trust ratios of their own."""
    outcomes, aside = read_outcomes(runs)
    wrong, settings = [f"{one.path}: {one.reason}" for one in aside], {}
    for outcome in outcomes:
        settings.setdefault(setting_of(outcome.values), []).append(outcome)
        reason = _at_fault(outcome)
        wrong += [f"{outcome.run.path}: {reason}"] if reason else []
    if wrong:
        raise ValueError("\n".join(["trust ratios are averaged over runs that are done and found their own; not so", *wrong,
                                    "Name a folder, or a pattern in quotes ('runs/lars/final/seed[1-3]'), of the others."]))
    if len(settings) > 1:
        told = differences([shared_setting(of_one[0].values) for of_one in settings.values()])
        raise ValueError("\n".join([
            f"{len(settings)} settings, whose ratios have no mean:",
            *(f"{', '.join(outcome.run.path for outcome in of_one)}: {words}"
              for of_one, words in zip(settings.values(), told)),
            "Name the folder of one of them."]))
    kept = [outcome.run for outcome in outcomes if not outcome.diverged]
    if not kept:
        raise ValueError("every run diverged, and their ratios are of no run that trained; name runs that are done")
    return kept, [outcome.run for outcome in outcomes if outcome.diverged]


def _at_fault(outcome):
    """Why a run's ratios are no part of a mean; None where they are."""
    if outcome.is_trial:
        return "searched, as part of a sweep: the chosen setting's runs are in its folder final"
    if outcome.values["fixed_trust_ratios"] is not None:
        return "its trust ratios were fixed (--fixed_trust_ratios)"
    if not outcome.diverged and not outcome.run.diagnostic_rows("trust"):
        return "no trust ratios were written down; --diagnostics=trust does that"
    return None


def mean_ratios(runs):
    """{variable's path without the model's name: geometric mean of its trust ratio}, over all runs.

    Raises:
        ValueError: no run holds such rows, or runs are of networks with other variables.
    """
    logs = {}
    for run in runs:
        rates = {row["step"]: row.get("learning_rate") for row in run.train_rows}
        of_run = {}
        for row in run.diagnostic_rows("trust"):
            # Update `step` moved the weights with the rate that its train row has.
            if not rates.get(row["step"]):
                continue
            for path, ratio in row["trust_ratios"].items():
                values = of_run.setdefault(path, [])
                if ratio and row["weight_norms"][path] and row["gradient_norms"][path]:
                    values.append(np.log(ratio))
        if logs and of_run and set(of_run) != set(logs):
            raise ValueError(f"{run.path}: its network has other variables than that of the runs before it; name runs of one")
        for path, values in of_run.items():
            logs.setdefault(path, []).extend(values)
    # Of networks built of layers the first part is a layer's name; a model's own is the same in every path.
    of_model = len({path.partition("/")[0] for path in logs}) == 1
    means = {(of_model and path.partition("/")[2]) or path: float(np.exp(np.mean(values)))
             for path, values in logs.items() if np.any(values)}
    if not means:
        raise ValueError("no trust ratio was written down; name runs of a layer-wise rule with --diagnostics=trust")
    return means


def shuffled(means, seed):
    """The means with layers in other places; what is the layer's last name stays a variable's own.

    Raises:
        ValueError: no two layers have variables of the same names.
    """
    layers = {}
    for path in means:
        layer, _, name = path.rpartition("/")
        layers.setdefault(layer, []).append(name)
    alike = {}
    for layer, names in layers.items():
        alike.setdefault(tuple(names), []).append(layer)
    lonely = [layer for group in alike.values() if len(group) < FEWEST_LAYERS for layer in group]
    if lonely:
        raise ValueError(f"layers {', '.join(lonely)}: no other layer has variables of the same names to change places with")
    generator, moved = np.random.default_rng(seed), {}
    for names, group in alike.items():
        order = generator.permutation(len(group))
        while np.any(order == np.arange(len(group))):
            order = generator.permutation(len(group))
        moved.update({f"{layer}/{name}": means[f"{group[place]}/{name}"]
                      for layer, place in zip(group, order) for name in names})
    return {path: moved[path] for path in means}


def controls(means, seed):
    """{name: what --fixed_trust_ratios takes}."""
    overall = float(np.exp(np.mean(np.log(list(means.values())))))
    return {"frozen": means, "global": {".": overall}, "shuffled": shuffled(means, seed)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", help="a run folder, or one of several of one setting")
    parser.add_argument("output", help="folder for the three flagfiles")
    parser.add_argument("--shuffle_seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        runs, diverged = alike(hb.load_runs(arguments.runs))
        made = controls(mean_ratios(runs), arguments.shuffle_seed)
    except (FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    for run in diverged:
        print(f"left out, diverged: {run.path}", file=sys.stderr)
    output = pathlib.Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    for name, ratios in made.items():
        text = ",".join(f"{pattern}={ratio:.6g}" for pattern, ratio in ratios.items())
        (output / f"{name}.flags").write_text(
            f"# Trust ratios {name}, from the geometric means of {len(runs)} run(s) under {os.path.basename(arguments.runs)}; "
            f"shuffle seed {arguments.shuffle_seed}. Made by scripts/trust_controls.py.\n--fixed_trust_ratios={text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
