"""The gradient noise scale by optimizer, early in a run, beside where that optimizer's large batches begin.

If the noise scale S is what limits a batch (McCandlish et al. 2018, arXiv 1812.06162), S measured early should order optimizers
as their B_L does, and move with the optimizer if B_L does. S is a property of the weights where it is measured, so an optimizer
moves it only by going elsewhere. Runs: what each optimizer's search of the frontier chose at B0, with
`--diagnostics=noise_scale` (scripts/reproduce_frontier.sh). S early: the median over the stretches of the first EARLY epochs,
infinite where half of them hold no signal.
"""

import collections
import itertools

import numpy as np

from . import commands, frontier, limits
from .baselines import is_scaling_of
from .drawing import LINES, headline, panels, style
from .noise_scales import or_gaps, quotients
from .sheets import mark_of
from .sources import Figure, Source, ended, fits, groups_of, noted

NAME = "noise_by_optimizer"
#: Epochs that count as early: a tenth of the run.
EARLY = 3
_SEARCHED = ("peak_learning_rate", "poly_power", "warmup_epochs", "weight_decay")


def row(baseline, model):
    """The catalogue's row on the data set of `baseline` (of Table 2)."""
    sources = []
    for name, (own, _) in frontier.OPTIMIZERS.items():
        search = f"{commands.FOLDER}/frontier/{model}/{name}_{baseline.batch}"
        chosen = " ".join(f"--{flag}={commands.chosen_value(search, flag)}"
                          for flag in ("beta_1" if name == "lamb" else "momentum", *_SEARCHED))
        words = [f"--flagfile=flags/frontier/{name}.flags", f"--batch_size={baseline.batch}", f"--model={model}",
                 "--diagnostics=noise_scale", f"--micro_batch_size={baseline.batch // 2}", "--selected_on=validation"]
        command = commands.train(words, baseline.dataset, f"{commands.FOLDER}/frontier/noise/{model}/{name}", [1], chosen)
        sources.append(Source(name, {"dataset": baseline.dataset, "batch_size": baseline.batch, "epochs": baseline.epochs,
                                     "schedule": "polynomial", "selected_on": "validation", **own},
                              command, model, baseline.epochs * baseline.full))
    return Figure(NAME, f"gradient noise scale by optimizer, {baseline.dataset}", NAME, baseline.dataset, (baseline.batch,),
                  (baseline.epochs,), tuple(sources), (), "Not in the paper.")


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs): S over epochs, and early S beside B_L."""
    points = frontier.points(runs, figure.dataset, figure.epochs[0])
    measured = groups_of(one for one in ended(runs, *(source.wanted for source in figure.sources)) if quotients(one.run))
    found, others = {}, collections.Counter()
    for source in figure.sources:
        tuned = points.get((source.label, limits.TUNED, figure.batch[0]))
        for group in measured:
            if not fits(group.values, source.wanted):
                continue
            if tuned and is_scaling_of(group, tuned):
                found.setdefault(source.label, group.outcomes)
            else:
                others[source.label] += 1
    missing = [source for source in figure.sources if source.label not in found]
    listed = ", ".join(f"{name} {count}" for name, count in others.items())
    left_out = [f"Left out, settings that are not what the optimizer's search at {figure.batch[0]:,} chose: {listed}."
                ] if others else []
    if not found:
        return None, [], left_out, missing
    edges = limits.find(points, figure.batch[0]).boundaries
    rows = [_row(name, outcomes, edges.get((name, "linear"))) for name, outcomes in found.items()]
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, 2, (9.6, 4.0), width_ratios=(3, 2))
        over, beside = axes[0]
        for look, row_ in zip(LINES, rows):
            epochs, scales = quotients(found[row_["optimizer"]][0].run)
            over.plot(epochs, or_gaps(scales), label=row_["optimizer"], **look, markersize=4)
            if _told(row_) and row_["holds_at"] is not None and row_["fails_at"] is not None:
                beside.plot([row_["early"]] * 2, [row_["holds_at"], row_["fails_at"]], label=row_["optimizer"], **look)
        over.axvspan(0, EARLY, color="#eeeeee", zorder=0)
        over.set(yscale="log", xlabel="epochs (grey: early)", ylabel="noise scale S  (examples)")
        over.legend(loc="best")
        beside.set(xscale="log", yscale="log", xlabel="early S  (examples)", ylabel="B_L by linear scaling, between")
        if not beside.lines:
            beside.set(xticks=[], yticks=[], ylabel="B_L is not known of any of them")
        headline(picture, f"{figure.name}: {figure.shows}")
    return picture, rows, [*_in_words(rows), *left_out, *noted([one.run for of in found.values() for one in of])], missing


def _row(name, outcomes, edge):
    early = []
    for outcome in outcomes:
        epochs, scales = quotients(outcome.run)
        if (epochs <= EARLY).any():
            early.append(float(np.median(scales[epochs <= EARLY])))
    whole = [float(np.median(quotients(outcome.run)[1])) for outcome in outcomes]
    return {"optimizer": name, "seeds": len(outcomes), "early": float(np.median(early)) if early else None,
            "early_low": min(early, default=None), "early_high": max(early, default=None), "whole_run": float(np.median(whole)),
            "holds_at": edge and edge.holds_at, "fails_at": edge and edge.fails_at,
            "limits_selected_on": edge and limits.selected_on(edge),
            "runs": " ".join(outcome.run.path for outcome in outcomes)}


def _told(row):
    return row["early"] is not None and 0 < row["early"] < np.inf


def _in_words(rows):
    known = list(filter(_told, rows))
    yield from (f"{row['optimizer']}: its early updates do not tell S." for row in rows if not _told(row))
    for row_ in known:
        between = ("" if None in (row_["holds_at"], row_["fails_at"]) else
                   f", B_L{mark_of(row_['limits_selected_on'])} above {row_['holds_at']:,} and at most {row_['fails_at']:,}")
        yield f"{row_['optimizer']}: early S {row_['early']:,.3g}, whole run {row_['whole_run']:,.3g}{between}."
    if len(known) > 1:
        low, high = (pick(known, key=lambda row: row["early"]) for pick in (min, max))
        yield (f"Early S differs by a factor of {high['early'] / low['early']:.2g} between optimizers: "
               f"{low['optimizer']} has the lowest, {high['optimizer']} the highest.")
    # Pairs whose brackets of B_L don't overlap say which B_L is larger; the others say nothing.
    apart = [(one, other) for one, other in itertools.permutations(known, 2)
             if None not in (one["fails_at"], other["holds_at"]) and one["fails_at"] <= other["holds_at"]]
    if apart:
        alike = sum(one["early"] < other["early"] for one, other in apart)
        pairs = f"{len(apart)} pair{'s' * (len(apart) > 1)}"
        yield f"Of {pairs} of optimizers whose B_L differ, early S orders {alike} alike."
