"""Accuracy against batch size, a line an optimizer: tuned at every batch, beside rules from what was tuned at the baseline's.

A point is the final runs of a search of flags/sweeps/frontier_*.json: chosen on validation, fresh seeds on all images. All
points are of one network and the same images. Target: 99.5% of the paper's baseline, as its definition of a huge batch has it.
What an optimizer comes to where its setting at the baseline's batch is kept and only the rate is scaled, linearly or by the
square root, stands in the table and in the caption (scripts/reproduce_frontier.sh makes these runs), and so does where each
optimizer's large and huge batches begin.
"""

import collections
import statistics

from .. import published
from . import commands, limits
from .baselines import Family, is_scaling_of
from .drawing import LINES, PAPER, apart, batch_in_words, headline, panels, style
from .figures import accuracy_axis
from .limits import TUNED
from .markup import number
from .outcomes import updates
from .sheets import ON_TEST
from .sources import Figure, Source, ended, fits, groups_of, numbers, one_network, other_networks

NAME = "frontier"
#: Who is compared, by the name of the flagfile: what tells its runs, and the name of its space.
OPTIMIZERS = {
    "sgd": ({"optimizer": "sgd", "nesterov": False}, "sgd"), "nesterov": ({"optimizer": "sgd", "nesterov": True}, "sgd"),
    "lars": ({"optimizer": "lars"}, "lars"), "lamb": ({"optimizer": "lamb"}, "lamb"), "muon": ({"optimizer": "muon"}, "muon"),
}
_RULES = ("linear", "sqrt")
#: The last: the split that chose what the verdict rests on, the baseline and what a rule scales included.
_VERDICT = ("verdict", "reason", "verdict_selected_on")


def _space(momentum, rate, decay):
    """A space: the name that the momentum has, and where three decades of rate and of decay begin."""
    return {momentum: [0.8, 0.9, 0.95, 0.98], "peak_learning_rate": {"low": rate, "high": 1000 * rate, "log": True},
            "poly_power": [0.5, 1, 2], "warmup_epochs": [0, 1, 2, 3, 5],
            "weight_decay": {"low": decay, "high": 1000 * decay, "log": True}}


#: flags/sweeps/frontier_*.json by name: a search of anything else is not the frontier's. The files are not installed.
SPACES = {"sgd": _space("momentum", 0.005, 1e-5), "lars": _space("momentum", 0.2, 1e-5), "lamb": _space("beta_1", 0.0005, 1e-4),
          "muon": _space("momentum", 0.002, 1e-4)}


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
                  "Not in the paper: Muon is of 2024. Shampoo and K-FAC, which the library has too, are not compared.")


def points(runs, dataset, epochs):
    """{(optimizer, 'tuned' or a rule, batch): Group} of one network and family, optimizers in their order, batches ascending.

    Of several searches of an optimizer at a batch one with commands.TRIALS counts, else the one with most trials. A rule's
    point is what was tuned at the baseline's batch with its rate scaled and nothing else changed.
    """
    return _points(_fed(runs, dataset, epochs), dataset)[0]


def _fed(runs, dataset, epochs):
    shared = {"dataset": dataset, "epochs": epochs, "schedule": "polynomial"}
    return ended(runs, *({**shared, **own} for own, _ in OPTIMIZERS.values()))


def _points(fed, dataset):
    """(`points`, sentences about what looks like a point and is none)."""
    start = published.BASELINES[dataset].batch
    searched = groups_of(one_network([outcome for outcome in fed if is_searched(outcome)]))
    tuned = _one_family(searched, start)
    best = {(_name(group.values), TUNED, group.values["batch_size"]): group for group in sorted(
        reversed(tuned), key=lambda group: (group.trials == commands.TRIALS, group.trials or 0, group.n))}
    family, no_points = Family.of(tuned[0]) if tuned else None, collections.Counter()
    for group in groups_of(outcome for outcome in fed if _is_by_rule(outcome)):
        name = _name(group.values)
        source = best.get((name, TUNED, start))
        if source and is_scaling_of(group, source):
            best.setdefault((name, group.values["lr_scaling"], group.values["batch_size"]), group.taken_from(source))
        elif Family.of(group) == family:
            no_points[name] += 1
    others = sorted({str(Family.of(group)) for group in searched} - {str(family)})
    said = [f"Also run on other data and not drawn: {'; '.join(others)}."] if others else []
    if no_points:
        listed = ", ".join(f"{name} {count}" for name, count in no_points.items())
        said.append(f"Left out, settings with a rate by a rule that are not what the optimizer's search at {start:,} chose: "
                    f"{listed}.")
    order = list(OPTIMIZERS)
    return {place: best[place] for place in sorted(best, key=lambda place: (order.index(place[0]), place[1:]))}, said


def _one_family(groups, start):
    """The groups of the family that most are of, the baseline's where they tie: A and xi judge no other images."""
    by_family = {}
    for group in groups:
        by_family.setdefault(Family.of(group), []).append(group)

    def weight(family):
        return len(by_family[family]), any(_name(group.values) == "sgd" and group.values["batch_size"] == start
                                           for group in by_family[family])

    return by_family[max(by_family, key=weight)] if by_family else []


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs); `points` says which runs are a point."""
    fed = _fed(runs, figure.dataset, figure.epochs[0])
    best, no_points = _points(fed, figure.dataset)
    used = [outcome for group in best.values() for outcome in group.outcomes]
    found = limits.find(best, published.BASELINES[figure.dataset].batch)
    verdicts = _verdicts(found)
    rows = [{"optimizer": name, "by": by, "model": group.values["model"], "batch": batch, "updates": updates(group.values),
             **_to_target(group, figure.dataset), **verdicts.get((name, by, batch), dict.fromkeys(_VERDICT)),
             **numbers(group)} for (name, by, batch), group in best.items()]
    tuned = [row for row in rows if row["by"] == "tuned" and row["mean_percent"] is not None]
    missing = [source for source in figure.sources if not any(
        by == "tuned" and fits(group.values, source.wanted) for (_, by, _), group in best.items())]
    remarks = [*limits.in_words(found), *_budgets(best), *unconfirmed(best.values()), *no_points, *other_networks(fed, used)]
    if rows:
        remarks.append("run_seconds in the table is the time of whole runs, not the time to the target: "
                       "scripts/bench_beside_lars.py measures what an update costs beside one of LARS.")
    if not tuned:
        return None, rows, remarks, missing
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, 1, (7.6, 4.6))
        _draw_panel(axes[0, 0], figure, tuned)
        headline(picture, f"{figure.name}: {figure.shows}")
    return picture, rows, remarks, missing


def is_searched(outcome):
    """Whether a run is of a setting that its optimizer's own search chose: over SPACES, by quasi-random points, with trials as
    long as the run. How many trials it has is said, and is the limits' concern."""
    sweep, name = outcome.sweep, _name(outcome.values)
    return (sweep is not None and name is not None and sweep.space == SPACES[OPTIMIZERS[name][1]]
            and sweep.plan.get("method") == "random" and sweep.settings.get("epochs") == outcome.values["epochs"])


def _budgets(best):
    """A sentence on how many trials the searches have; none without a search."""
    trials = {f"{name}, {batch:,}": group.trials for (name, by, batch), group in best.items() if by == TUNED}
    other = [f"{where}: {'unknown' if count is None else count}" for where, count in trials.items() if count != commands.TRIALS]
    if other:
        return [f"Budgets differ from {commands.TRIALS} quasi-random trials over as many decades: {'; '.join(other)}."]
    return [f"Every search here has {commands.TRIALS} quasi-random trials over as many decades."] if trials else []


def unconfirmed(groups):
    """A sentence on searches whose choice hangs on one run of each setting, which favours the edge of stability."""
    names = {f"{_name(group.values)}, {group.values['batch_size']:,}" for group in groups
             if group.sweep is not None and not group.sweep.plan.get("confirm")}
    return [f"Chosen by one run a setting, without repeats of the best: {'; '.join(sorted(names))}."] if names else []


def _name(values):
    """Of a run's settings or of a source's; None of an optimizer that is not compared."""
    return next((name for name, (own, _) in OPTIMIZERS.items() if fits(values, own)), None)


def _is_by_rule(outcome):
    """Whether a run says that a split chose its setting and has a rate by a rule; what was tuned says whose setting that is."""
    values = outcome.values
    return (outcome.sweep is None and values["selected_on"] != "none" and values["peak_learning_rate"] is None
            and values["lr_scaling"] in _RULES)


def _to_target(group, dataset):
    """{"seeds_at_target", "updates_to_target", "run_seconds"}: seeds that end at the target or above, the median of the updates
    at which an evaluation first found these there, and the median of the seconds that whole runs of all seeds took."""
    target = published.BASELINES[dataset].target / 100
    at = [outcome for outcome in group.outcomes if not outcome.diverged and outcome.accuracy >= target]
    first = [next((row["step"] for row in outcome.run.eval_rows("test") if (row.get("accuracy") or 0) >= target), None)
             for outcome in at]
    known = [step for step in first if step is not None]
    seconds = [found for outcome in group.outcomes if (found := number(outcome.run.status.get("wall_seconds"))) is not None]
    return {"seeds_at_target": len(at), "updates_to_target": statistics.median(known) if known else None,
            "run_seconds": statistics.median(seconds) if seconds else None}


def _verdicts(found):
    """{(optimizer, by, batch): columns}."""
    return {(name, by, verdict.batch): dict(zip(_VERDICT, (verdict.word, verdict.reason, verdict.group.select_on)))
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
