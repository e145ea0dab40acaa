"""Appendix 6.3: momentum SGD with four kinds of noise beside LARS, and LARS with trust ratios that stay fixed.

The paper says that noise, tuned, did not improve the accuracy of huge batches, that LARS does, and supposes that this is
because its trust ratios act as noise which leads out of sharp minima. So each setting has its accuracy and its sharpness side
by side. The runs are those of searches with one budget (`flags/noise`, scripts/reproduce_diagnostics.sh); what a control of
trust ratios is about, its folder's name tells (scripts/trust_controls.py).
"""

import os

from . import commands
from .drawing import LINES, batch_in_words, headline, panels, style
from .markup import number
from .sheets import mark_of
from .sources import MOMENTUM_SGD, Figure, Source, ended, fits, groups_of, noted, numbers, one_network, other_networks
from .stats import mean_of

_KINDS = ("activations", "weights", "gradients", "labels")
_HELD_OUT, _FINAL_SEEDS = 5000, 5
#: What flags/noise/base.flags says, and flags/frontier, whose searches have another budget, don't.
_SEARCHED_FROM = {"schedule": "polynomial", "warmup_from": "zero"}


def figure(name, row, batches):
    """The catalogue's row, of Table 2's `row` at `batches`."""
    plain = {"sgd": ("momentum SGD", MOMENTUM_SGD), "lars": ("LARS", {"optimizer": "lars"}),
             **{f"sgd_{kind}": (f"SGD, noise on {kind}", {**MOMENTUM_SGD, "inject_noise": kind}) for kind in _KINDS}}
    sources = tuple(
        Source(f"{label}, {batch_in_words(batch, {row.full})}",
               {"dataset": row.dataset, "batch_size": batch, "epochs": row.epochs, **_SEARCHED_FROM, **wanted},
               f"python -m tf_hugebatch.sweep_main --flagfile=flags/noise/{kind}.flags --batch_size={batch} "
               f"--validation_examples={_HELD_OUT} --data_dir=DIR --space=flags/sweeps/noise_{kind.removeprefix('sgd_')}.json "
               f"--method=random --trials={commands.TRIALS} --confirm={commands.CONFIRM} --final_seeds={_FINAL_SEEDS} "
               f"--sweep_dir={commands.FOLDER}/noise/lenet5/b{batch}/{kind}", "lenet5",
               (commands.SEARCH_RUNS + _FINAL_SEEDS) * row.epochs * row.full)
        for batch in batches for kind, (label, wanted) in plain.items())
    return Figure(name, f"noise, LARS, and LARS with fixed trust ratios, {row.dataset}", name, row.dataset, tuple(batches),
                  (row.epochs,), sources, (), "The paper names neither data set, batch nor amounts of noise.")


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs): two panels a batch, accuracy and sharpness."""
    fed = ended(runs, *(source.wanted for source in figure.sources), *(_any_ratios(figure, batch) for batch in figure.batch))
    used = one_network(fed)
    found = {source: min(groups, key=lambda group: _sharpness(group)["sharpness"] is None) for source in figure.sources
             if (groups := groups_of(one for one in used if fits(one.values, source.wanted)))}
    missing = [source for source in figure.sources if source not in found]
    # Other figures' runs of SGD and LARS fit too; without noise or fixed ratios they compare nothing.
    if not any("inject_noise" in source.wanted for source in found) and not any(
            list(_controls(used, _any_ratios(figure, batch))) for batch in figure.batch):
        return None, [], [], missing
    rows, remarks = [], other_networks(fed, used)
    for batch in figure.batch:
        named = [(source.label.rpartition(", ")[0], group) for source, group in found.items()
                 if source.wanted["batch_size"] == batch]
        named += _controls(used, _any_ratios(figure, batch))
        rows += [{"batch": batch_in_words(batch), "setting": label, **numbers(group), **_sharpness(group)}
                 for label, group in named]
        remarks += noted([outcome.run for _, group in named for outcome in group.outcomes])
    batches = list(dict.fromkeys(row["batch"] for row in rows))
    with style() as matplotlib:
        picture, axes = panels(matplotlib, len(batches), 2, (9.6, 1.2 + 3.2 * len(batches)), sharey="row")
        for (accuracy, sharpness), batch in zip(axes, batches):
            of_batch = [row for row in rows if row["batch"] == batch][::-1]
            _points(accuracy, of_batch, "mean_percent", "interval_low_percent", "interval_high_percent", LINES[0])
            _points(sharpness, of_batch, "sharpness", "sharpness_low", "sharpness_high", LINES[1])
            accuracy.set_yticks(range(len(of_batch)), [f"{row['setting']}, n = {row['n']}{mark_of(row['selected_on'])}"
                                                       for row in of_batch])
            accuracy.set(xlabel="test accuracy at the end (%)")
            accuracy.set_title(batch, loc="left")
            sharpness.set(xlabel="largest eigenvalue of the Hessian at the end", xscale="symlog")
            if all(row["sharpness"] is None for row in of_batch):
                sharpness.set(xlabel="largest eigenvalue of the Hessian: no run has it", xticks=[])
        headline(picture, f"{figure.name}: {figure.shows}")
    if any("noise on" in row["setting"] for row in rows):
        remarks.append("A search with noise has two settings more, its amount and decay, among as many trials; its space holds "
                       "SGD without noise, as good as, so a setting below that of SGD may be the budget's doing.")
    return picture, rows, [*dict.fromkeys(remarks), "Bars are 95% intervals over seeds; one seed has none."], missing


def _any_ratios(figure, batch):
    return {"dataset": figure.dataset, "batch_size": batch, "epochs": figure.epochs[0], "fixed_trust_ratios": None}


def _controls(outcomes, wanted):
    """(label, group) of the settings with fixed trust ratios, named by their folders."""
    for group in groups_of(one for one in outcomes if fits(one.values, wanted)):
        if group.values["fixed_trust_ratios"] is not None:
            folder = group.sweep.path if group.sweep else os.path.dirname(group.outcomes[0].run.path)
            yield f"fixed ratios: {os.path.basename(folder)}", group


def _sharpness(group):
    """Mean of the last survey's eigenvalue over seeds that did not diverge, and its interval; blank without surveys."""
    last = [rows[-1].get("eigenvalue") for outcome in group.outcomes
            if not outcome.diverged and (rows := outcome.run.diagnostic_rows("sharpness"))]
    mean = mean_of(value for value in map(number, last) if value is not None)
    return {"sharpness": mean and mean.mean, "sharpness_low": mean and mean.low, "sharpness_high": mean and mean.high}


def _points(panel, rows, middle, low, high, line):
    for place, row in enumerate(rows):
        if row[middle] is not None:
            panel.plot(row[middle], place, color=line["color"], marker=line["marker"], linestyle="none")
            if row[low] is not None:
                panel.plot([row[low], row[high]], [place, place], color=line["color"], linewidth=1.2)
