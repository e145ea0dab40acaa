"""Accuracy against batch size, a line an optimizer: tuned at every batch, beside rules from what was tuned at the baseline's.

A point is the final runs of a search of flags/sweeps/frontier_*.json: chosen on validation, fresh seeds, test read once.
Target: 99.5% of the paper's baseline, as its definition of a huge batch has it. What an optimizer comes to where its setting
at the baseline's batch is kept and only the rate is scaled, linearly or by the square root, stands in the table and in the
caption (scripts/reproduce_frontier.sh makes these runs), and so does where each optimizer's large and huge batches begin.
"""

import statistics

from .. import published
from . import commands, limits
from .drawing import LINES, PAPER, apart, batch_in_words, headline, panels, style
from .figures import accuracy_axis
from .markup import number
from .outcomes import updates
from .sheets import ON_TEST
from .sources import FULL, Figure, Source, ended, fits, groups_of, numbers, one_network, other_networks

NAME = "frontier"
#: Who is compared, by the name of the flagfile: what tells its runs, and the name of its space.
OPTIMIZERS = {
    "sgd": ({"optimizer": "sgd", "nesterov": False}, "sgd"), "nesterov": ({"optimizer": "sgd", "nesterov": True}, "sgd"),
    "lars": ({"optimizer": "lars"}, "lars"), "lamb": ({"optimizer": "lamb"}, "lamb"), "muon": ({"optimizer": "muon"}, "muon"),
}
#: Searched here and in no other search of these optimizers.
_SEARCHED = {"poly_power", "weight_decay"}
_RULES = ("linear", "sqrt")


def row(baseline, model, batches):
    """The catalogue's row on the data set of `baseline` (of Table 2); `batches`: where every optimizer is searched."""
    sources = []
    for name, (own, space) in OPTIMIZERS.items():
        for batch in batches:
            wanted = {"dataset": baseline.dataset, "batch_size": batch, "epochs": baseline.epochs, "schedule": "polynomial",
                      **own}
            command = (f"python -m tf_hugebatch.sweep_main --flagfile=flags/frontier/{name}.flags --batch_size={batch} "
                       f"--model={model} --data_dir=DIR --space=flags/sweeps/frontier_{space}.json --method=random "
                       f"--trials={commands.TRIALS} --confirm={commands.CONFIRM} --final_seeds={commands.SEEDS} "
                       f"--sweep_dir={commands.FOLDER}/frontier/{model}/{name}_{batch}")
            images = baseline.epochs * baseline.full * (commands.SEARCH_RUNS + commands.SEEDS)
            sources.append(Source(f"{name}, {batch_in_words(batch)}", wanted, command, model, images))
    at_best = {}
    for result in published.RESULTS:
        if result.dataset == baseline.dataset and not result.approximate:
            at_best[result.batch, result.epochs] = max(at_best.get((result.batch, result.epochs), result), result,
                                                       key=lambda one: one.top1)
    return Figure(NAME, f"accuracy against batch size by optimizer, {baseline.dataset}", NAME, baseline.dataset, tuple(batches),
                  (baseline.epochs,), tuple(sources), tuple(at_best.values()),
                  "Not in the paper: Muon is of 2024. Every optimizer has the same quasi-random trials over as many decades.")


def points(runs, dataset, epochs):
    """{(optimizer, 'tuned' or a rule, batch): Group} of one network, optimizers in their order, batches ascending.

    Of several searches of an optimizer at a batch the one with most trials counts, of runs by a rule the setting of most seeds.
    """
    return _points(_fed(runs, dataset, epochs))


def _fed(runs, dataset, epochs):
    shared = {"dataset": dataset, "epochs": epochs, "schedule": "polynomial"}
    return ended(runs, *({**shared, **own} for own, _ in OPTIMIZERS.values()))


def _points(fed):
    best = {}
    for group in groups_of(one_network([outcome for outcome in fed if _by(outcome)])):
        name = _name(group)
        by = _by(group.outcomes[0])
        place = best.setdefault((name, by, group.values["batch_size"]), group)
        if (group.trials or 0, group.n) > (place.trials or 0, place.n):
            best[name, by, group.values["batch_size"]] = group
    order = list(OPTIMIZERS)
    return dict(sorted(best.items(), key=lambda one: (order.index(one[0][0]), one[0][1:])))


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs); `points` says which runs are a point."""
    fed = _fed(runs, figure.dataset, figure.epochs[0])
    best = _points(fed)
    used = [outcome for group in best.values() for outcome in group.outcomes]
    found = limits.find(best, published.BASELINES[figure.dataset].batch)
    verdicts = _verdicts(found)
    rows = [{"optimizer": name, "by": by, "model": group.values["model"], "batch": batch, "updates": updates(group.values),
             **_to_target(group, figure.dataset), **verdicts.get((name, by, batch), {"verdict": None, "reason": None}),
             **numbers(group)} for (name, by, batch), group in best.items()]
    tuned = [row for row in rows if row["by"] == "tuned" and row["mean_percent"] is not None]
    missing = [source for source in figure.sources if not any(
        by == "tuned" and fits(group.values, source.wanted) for (_, by, _), group in best.items())]
    remarks = [*_limits_in_words(found), *unconfirmed(best.values()), *other_networks(fed, used)]
    if not tuned:
        return None, rows, remarks, missing
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, 1, (7.6, 4.6))
        _draw_panel(axes[0, 0], figure, tuned)
        headline(picture, f"{figure.name}: {figure.shows}")
    return picture, rows, remarks, missing


def is_searched(outcome):
    """Whether a run is of a setting that a search over flags/sweeps/frontier_*.json chose."""
    return outcome.sweep is not None and _SEARCHED <= set(outcome.sweep.space)


def unconfirmed(groups):
    """A sentence on searches whose choice hangs on one run of each setting, which favours the edge of stability."""
    names = {f"{_name(group)}, {group.values['batch_size']:,}" for group in groups
             if group.sweep is not None and not group.sweep.plan.get("confirm")}
    return [f"Chosen by one run a setting, without repeats of the best: {'; '.join(sorted(names))}."] if names else []


def _name(group):
    return next(name for name, (own, _) in OPTIMIZERS.items() if fits(group.values, own))


def _by(outcome):
    """'tuned', a rule, or '' for a run that is not of the frontier."""
    if outcome.sweep is not None:
        return "tuned" if is_searched(outcome) else ""
    by_rule = outcome.values["selected_on"] == "validation" and outcome.values["peak_learning_rate"] is None
    return outcome.values["lr_scaling"] if by_rule and outcome.values["lr_scaling"] in _RULES else ""


def _to_target(group, dataset):
    """{"seeds_at_target", "updates_to_target", "seconds"}: seeds that end at the target or above, the median of the updates
    at which an evaluation first found these there, and the median of the seconds that all took."""
    target = published.BASELINES[dataset].target / 100
    at = [outcome for outcome in group.outcomes if not outcome.diverged and outcome.accuracy >= target]
    first = [next((row["step"] for row in outcome.run.eval_rows("test") if (row.get("accuracy") or 0) >= target), None)
             for outcome in at]
    known = [step for step in first if step is not None]
    seconds = [found for outcome in group.outcomes if (found := number(outcome.run.status.get("wall_seconds"))) is not None]
    return {"seeds_at_target": len(at), "updates_to_target": statistics.median(known) if known else None,
            "seconds": statistics.median(seconds) if seconds else None}


def _limits_in_words(found):
    if found.doubt:
        return [f"B_L and B_H are open: {found.doubt}."]
    return [limits.in_words(name, by, boundary) for (name, by), boundary in found.boundaries.items()]


def _verdicts(found):
    """{(optimizer, by, batch): columns}."""
    return {(name, by, verdict.batch): {"verdict": verdict.word, "reason": verdict.reason}
            for (name, by), boundary in found.boundaries.items() for verdict in boundary.verdicts}


def _draw_panel(panel, figure, rows):
    baseline = published.BASELINES[figure.dataset]
    for height, label, dashes in ((baseline.top1, "baseline", (1, 1)), (baseline.target, "target", (4, 3))):
        panel.axhline(height, color="#111111", linewidth=0.9, linestyle=(0, dashes), label=f"the paper's {label} {height:g}%")
    looks = dict(zip(OPTIMIZERS, LINES))  # an optimizer's look is the same whichever others ran
    for name in dict.fromkeys(row["optimizer"] for row in rows):
        line = sorted((row for row in rows if row["optimizer"] == name), key=lambda row: row["batch"])
        means = [row["mean_percent"] for row in line]
        ends = [[mean - row["lowest_percent"] for mean, row in zip(means, line)],
                [row["highest_percent"] - mean for mean, row in zip(means, line)]]
        mark = ON_TEST if any(row["selected_on"] == "test" for row in line) else ""
        panel.errorbar([row["batch"] for row in line], means, yerr=ends, label=f"{name}{mark}", capsize=2, **looks[name])
    for result in figure.paper:
        panel.plot([result.batch], [result.top1], **PAPER)
        panel.annotate(f"{result.epochs:,} epochs", (result.batch, result.top1), xytext=(6, -11),
                       textcoords="offset points", fontsize=7)
    if figure.paper:
        panel.plot([], [], label="the paper", **PAPER)
    panel.set_xscale("log", base=2)
    panel.set_xticks(apart({row["batch"] for row in rows} | {result.batch for result in figure.paper}), minor=False)
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.tick_params(axis="x", rotation=45)
    panel.set(xlabel="batch size", ylabel="test accuracy (%)")
    panel.set_title(", ".join(sorted({row["model"] for row in rows})), loc="left")
    lows = [row["lowest_percent"] for row in rows] + [result.top1 for result in figure.paper]
    highs = [row["highest_percent"] for row in rows] + [result.top1 for result in figure.paper] + [baseline.top1]
    accuracy_axis(panel, max(0, 100 - 1.3 * (100 - min(lows))), 100 - (100 - max(highs)) / 1.3)
    panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
