"""Training longer: accuracy against epochs with the target line (8, 9, 18-22); loss and accuracy at equal updates (10)."""

import dataclasses
import os

import numpy as np

from .. import published
from . import commands, frontier
from .drawing import GREY, LINES, PAPER, apart, batch_in_words, headline, panels, style
from .figures import accuracy_axis, column, thinned
from .outcomes import train_size, updates
from .sheets import ON_TEST
from .sources import (FULL, Figure, Source, ended, fits, groups_of, in_words, noted, numbers, one_network,
                      other_networks)

_LABEL_POINTS = 6  # accuracies nearer than so many points have labels that touch, where their epochs are near too
_ASIDE = 1.07  # of their epochs, where settings beside a line stand, so that bars don't hide each other
_BEST_ON_TEST, _OWN, _ANOTHER = f"best on test{ON_TEST}", "the command's", "not the command's"


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs).

    A point is a setting: the mean of its seeds, a bar from the lowest to the highest. A batch's line goes through the setting
    of its source's command, since durations are compared under one recipe; where that did not run another's point stands, which
    no line joins. Of several it takes the one that was chosen on validation, then the one of most seeds; of these the highest,
    and the caption says that this chose on test. Other settings of the command's optimizer are faint points. Other optimizers,
    which Table 3 and the frontier compare, are in the CSV alone: beside a command's setting, and at durations that no command
    has. A duration is missing until a setting of its command has as many seeds as that trains.
    """
    wanted = {batch: {"dataset": figure.dataset, "batch_size": batch} for batch in figure.batch}
    # The frontier's runs on recompressed images are not to stand beside the paper's numbers.
    every = ended(runs, *wanted.values())
    fed = [outcome for outcome in every if not (outcome.note and frontier.is_searched(outcome))]
    apart_from = [f"{len(every) - len(fed)} runs of the frontier on other data are not drawn here."] * (len(fed) < len(every))
    used = one_network(fed)
    groups = {batch: groups_of(one for one in used if fits(one.values, of_batch)) for batch, of_batch in wanted.items()}
    own = {source.wanted["batch_size"]: source.own for source in figure.sources}
    points = {batch: _points(of_batch, own[batch]) for batch, of_batch in groups.items()}
    missing = [found for source in figure.sources if (found := _still_to_run(source, groups[source.wanted["batch_size"]]))]
    rows = [row for found in points.values() for row in found]
    durations = {(source.wanted["batch_size"], source.wanted["epochs"]) for source in figure.sources}
    drawn = {batch: [row for row in found if _has_mean(row) and (
        row["optimizer"] == own[batch]["optimizer"] or row["chosen"] and (batch, row["epochs"]) in durations)]
             for batch, found in points.items()}
    shown = [row for found in drawn.values() for row in found]
    if not shown:
        return None, rows, [*_diverged(rows), *apart_from], missing
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, 1, (7.0, 4.4))
        panel = axes[0, 0]
        best = max(row["mean_percent"] for row in shown)
        _draw_target(panel, figure)
        for line, (batch, found) in zip(LINES, drawn.items()):
            _draw_batch(panel, _name(figure, batch, found), found, line)
        _draw_paper(panel, figure)
        panel.set_xscale("log")
        ticks = [row["epochs"] for row in shown] + [result.epochs for result in figure.paper if result.epochs]
        panel.set_xticks(apart(ticks), minor=False)
        panel.set_xticks([], minor=True)
        panel.xaxis.set_major_formatter("{x:,g}")
        panel.set(xlabel="epochs of training (a run each)", ylabel="test accuracy at the end (%); bars: all seeds")
        _scale(panel, shown, figure, best)
        panel.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        headline(picture, f"{figure.name}: {figure.shows}")
    remarks = [f"{_name(figure, batch, found)}: {_best(found)}." for batch, found in drawn.items() if found]
    if not all(row["chosen"] for row in shown):
        remarks.append("Faint points, a little to the right of their epochs, are other settings of the same optimizer.")
    if others := sorted({row["optimizer"] for row in rows if _has_mean(row) and row not in shown}):
        remarks.append(f"In the CSV alone, since they are other recipes: settings with {', '.join(others)}.")
    if any(row["chosen"] == _BEST_ON_TEST for row in shown):
        remarks.append(f"Where several settings ran at one duration the line goes through the highest on test{ON_TEST}.")
    if any(row["chosen"] == _ANOTHER for row in shown):
        remarks.append("Where no run of the commands' recipe has ended another's point stands, which no line joins.")
    if any(row["n"] == 1 for row in shown):
        remarks.append("A point of one seed has no bar: how far seeds differ there is unknown.")
    return picture, rows, [*remarks, *_diverged(rows), *other_networks(fed, used), *apart_from], missing


def _still_to_run(source, groups):
    """The source as far as it is still to be run: the seeds that its setting lacks, beside those that it has. None where it has
    all of them."""
    groups = [group for group in groups if _epochs(group.values) == source.wanted["epochs"] and fits(group.values, source.own)]
    if any(group.n >= source.seeds for group in groups):
        return None
    # Further seeds of what a search chose are its own affair: runs beside its folder would be another setting.
    begun = max((group for group in groups if not group.outcomes[0].run.part), key=lambda group: group.n, default=None)
    if begun is None:
        return source
    lacking, first, path = source.seeds - begun.n, max(begun.seeds) + 1, begun.outcomes[0].run.path
    folder = os.path.dirname(path) if os.path.basename(path).startswith("seed") else path
    return dataclasses.replace(
        source, label=f"{source.label}: {lacking} more seed{'s' * (lacking > 1)}", seeds=lacking,
        images=source.images * lacking / source.seeds, command=commands.train(
            [*commands.words_of(begun.values), *commands.selected(begun.select_on)], begun.values["dataset"], folder,
            range(first, first + lacking)))


def _points(groups, own):
    """CSV rows of a batch by epochs; `chosen` says why a row is the batch's point there, empty where it isn't. own: of the
    settings that the commands train."""
    by_epochs = {}
    for group in groups:
        by_epochs.setdefault(_epochs(group.values), []).append(group)
    rows = []
    for epochs, groups in sorted(by_epochs.items()):
        of_epochs = [{"batch": group.values["batch_size"], "epochs": epochs, "updates": updates(group.values),
                      **{name: group.values[name] for name in ("model", "optimizer")},
                      "tuned": group.sweep is not None, **numbers(group), "chosen": ""} for group in groups]
        able = [(fits(group.values, own), row) for group, row in zip(groups, of_epochs) if _has_mean(row)]
        if able:
            ours = any(fit for fit, _ in able)
            able = [row for fit, row in able if fit == ours]
            first = max(map(_soundness, able))
            able = [row for row in able if _soundness(row) == first]
            best = max(able, key=lambda row: row["mean_percent"])
            best["chosen"] = _BEST_ON_TEST if len(able) > 1 else _OWN if ours else _ANOTHER
        rows += of_epochs
    return rows


def _epochs(values):
    """Of training: as set, or what the updates of a run that was set in updates come to."""
    if values["epochs"] is not None:
        return values["epochs"]
    return round(updates(values) * values["batch_size"] / train_size(values), 2)


def _soundness(row):
    """What comes first of two settings whatever their accuracy, as of two baselines."""
    return row["selected_on"] == "validation", row["n"] - row["diverged"]


def _has_mean(row):
    return row["mean_percent"] is not None


def _name(figure, batch, rows):
    return batch_in_words(batch, {row["batch"] for row in rows} or {published.BASELINES[figure.dataset].full})


def _draw_batch(panel, name, rows, line):
    if not rows:
        return
    def draw(rows, label, aside=1, **look):
        if rows:
            mark = ON_TEST if any(row["selected_on"] == "test" for row in rows) else ""
            panel.plot([aside * row["epochs"] for row in rows], [row["mean_percent"] for row in rows], label=f"{label}{mark}",
                       **{**line, **look})

    draw([row for row in rows if row["chosen"] in (_OWN, _BEST_ON_TEST)], name)
    draw([row for row in rows if row["chosen"] == _ANOTHER], f"{name}, another recipe", linestyle="none")
    draw([row for row in rows if not row["chosen"]], f"{name}, other settings", _ASIDE, linestyle="none", alpha=0.6,
         markersize=4)
    for row in rows:
        if row["n"] - row["diverged"] > 1:
            at = row["epochs"] * (1 if row["chosen"] else _ASIDE)
            panel.vlines(at, row["lowest_percent"], row["highest_percent"], color=line["color"], linewidth=2.6, alpha=0.5)


def _draw_target(panel, figure):
    baseline = published.BASELINES[figure.dataset]
    panel.axhline(baseline.top1, color="#111111", linewidth=1.1, label=f"paper's baseline, {baseline.top1}%")
    panel.axhline(baseline.target, color="#111111", linewidth=1.1, linestyle=(0, (4, 3)),
                  label=f"{100 * published.TARGET_SHARE:g}% of it, {baseline.target}%")


def _draw_paper(panel, figure):
    for number, result in enumerate(result for result in figure.paper if result.epochs):
        panel.plot(result.epochs, result.top1, label="the paper" if number == 0 else None, **PAPER, zorder=5)
        crowded = any(other.epochs and other.epochs < result.epochs < 2 * other.epochs
                      and abs(other.top1 - result.top1) < _LABEL_POINTS for other in figure.paper)
        panel.annotate(f"{result.top1:g}%", (result.epochs, result.top1), xytext=(0, 7 if crowded else -14),
                       textcoords="offset points", ha="center", fontsize=7, color=GREY,
                       bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6})


def _scale(panel, rows, figure, best):
    """Accuracies near the target are told apart only where the scale follows the error."""
    values = [row["lowest_percent"] for row in rows] + [result.top1 for result in figure.paper]
    if best < 90:
        panel.set_ylim(min(0, *values), 100)
        return
    top = 100 - (100 - max(best, published.BASELINES[figure.dataset].top1)) / 1.6
    accuracy_axis(panel, max(0, 100 - 1.6 * (100 - min(values))), top)


def _best(rows):
    """The highest point of a batch's line: settings beside the line were not compared under its recipe."""
    joined = [row for row in rows if row["chosen"] in (_OWN, _BEST_ON_TEST)]
    row = max(joined or (row for row in rows if row["chosen"]), key=lambda row: row["mean_percent"])
    on_test = ON_TEST if row["chosen"] == _BEST_ON_TEST else ""
    whose = "its line" if joined else "another recipe"
    return f"{whose} at best {in_words(row)}{on_test} in {row['epochs']:,g} epochs, {row['optimizer']} on {row['model']}"


def _diverged(rows):
    """Sentences on settings that lost seeds: those that a line goes through, and those of a duration that has no point."""
    reached = {(row["batch"], row["epochs"]) for row in rows if row["chosen"]}
    lost = [f"batch {row['batch']:,} at {row['epochs']:,g} epochs ({row['diverged']} of {row['n']} seeds)"
            for row in rows if row["diverged"] and (row["chosen"] or (row["batch"], row["epochs"]) not in reached)]
    return [f"Diverged: {', '.join(lost)}."] if lost else []


def _alike(lengths):
    """{source: run} of {source: {run: updates}}, a run each: lengths alike first, since a schedule ends with its run; then the
    longest. The shortest of the best choice is one of these runs, and beside it the next longer ones are the most alike."""
    choices = []
    for shortest in {length for of_source in lengths.values() for length in of_source.values()}:
        longer = {source: {run: length for run, length in of_source.items() if length >= shortest}
                  for source, of_source in lengths.items()}
        if all(longer.values()):
            chosen = {source: min(of_source, key=of_source.get) for source, of_source in longer.items()}
            longest = max(longer[source][run] for source, run in chosen.items())
            choices.append((longest / max(1, shortest), -shortest, chosen))
    return min(choices, key=lambda choice: choice[:2])[2]


def regime_adaptation(name, row, batches):
    """The catalogue's row of a figure 10 on the data set of Table 2's `row`: the baseline, and batches with its updates."""
    updates = -(-row.epochs * row.full // row.batch)
    start = f"python -m tf_hugebatch.{commands.program_of(row.dataset)}"

    def source(batch, words, **wanted):
        images = updates * (row.full if batch == FULL else batch)
        return Source(batch_in_words(batch, {row.full}), {"dataset": row.dataset, "batch_size": batch, **wanted},
                      f"{start} {words} --data_dir=DIR --run_dir={commands.FOLDER}/figures/{name}/b{batch}", "lenet5", images)

    sources = (source(row.batch, "--regime=baseline --model=lenet5", optimizer="sgd", epochs=row.epochs),
               *(source(batch, f"--flagfile=flags/figures/{name}.flags --batch_size={batch}", regime_adaptation=True)
                 for batch in batches))
    return Figure(name, f"{updates:,} updates, the baseline's, whatever the batch, {row.dataset}",
                  "equal updates", row.dataset, (row.batch, *batches), (), sources, (),
                  "Not in the paper, whose figure 10 is of ImageNet.")


def draw_equal_updates(figure, runs, sweeps):
    """Training loss and test accuracy against updates, a line a batch, as far as the shortest of them goes."""
    fed = ended(runs, *(source.wanted for source in figure.sources))
    able = one_network([outcome for outcome in fed if outcome.run.train_rows])
    lengths = {one.run: one.run.train_rows[-1]["step"] for one in able}
    found = {source: {one.run: lengths[one.run] for one in able if fits(one.values, source.wanted)}
             for source in figure.sources}
    found = {source: fit for source, fit in found.items() if fit}
    drawn = _alike(found) if found else {}
    missing = [source for source in figure.sources if source not in drawn]
    if not drawn:
        return None, [], [], missing
    shared = min(found[source][run] for source, run in drawn.items())
    rows, remarks = [], [f"Drawn to update {shared:,}, the last that all of them have."]
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 2, 1, (7.0, 5.6), sharex=True)
        for line, (source, run) in zip(LINES, drawn.items()):
            split = "test" if run.eval_rows("test") else "validation"  # with a validation split the test split is read once
            accuracy, mark = run.eval_rows(split), ON_TEST if split == run.selected_on == "test" else ""
            for panel, name, of, factor in ((axes[0, 0], "loss", run.train_rows, 1), (axes[1, 0], "accuracy", accuracy, 100)):
                of = [row for row in of if row["step"] <= shared]
                steps, values, _, _ = thinned(column(of, "step"), factor * column(of, name))
                marker = line["marker"] if len(steps) <= 45 else None
                panel.plot(steps, values, label=f"{source.label}{mark}", **{**line, "marker": marker})
                rows += [{"batch": source.label, "curve": f"{'training ' if factor == 1 else ''}{name}", "update": step,
                          "value": value} for step, value in zip(steps.tolist(), values.tolist()) if np.isfinite(value)]
            remarks += [f"{source.label}: {run.path}, accuracy on {split}{mark}.", *noted([run])]
        axes[0, 0].set(ylabel="training loss (nats)", yscale="log")
        axes[0, 0].yaxis.set_major_formatter("{x:g}")
        axes[0, 0].yaxis.set_minor_formatter("")
        axes[1, 0].set(ylabel="accuracy (%)", xlabel="updates")
        axes[1, 0].xaxis.set_major_formatter("{x:,.0f}")
        axes[1, 0].axhline(published.BASELINES[figure.dataset].top1, color="#111111", linewidth=1.1,
                           label=f"paper's baseline, {published.BASELINES[figure.dataset].top1}%")
        axes[1, 0].legend()
        headline(picture, f"{figure.name}: {figure.shows}")
    return picture, rows, [*remarks, *other_networks(fed, able)], missing
