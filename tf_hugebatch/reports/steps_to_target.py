"""Updates until the target against batch size, beside perfect scaling (Shallue et al. 2018, arXiv 1811.03600, figure 1).

A point is a search at one batch: of its trials the fewest updates to the first evaluation at or above the target, since
Shallue et al. choose each batch's setting by that count. A trial that diverged reaches nothing. A line is searches that
agree in everything that was not searched (optimizer, network, data, length, split, number of trials), but for the batch.
A run of its own is no point: nothing says that its setting is a good one. Target: 99.5% of the paper's baseline.
"""

import dataclasses
import textwrap

from .. import published
from ..runs import Run, Sweep
from .commands import TRIALS
from .drawing import LINES, apart, headline, panels, style
from .heat_maps import RATES
from .outcomes import trials_planned
from .sheets import mark_of
from .sources import ENDED, differences, fits, notes, one_network, other_networks, settings_or_reason, shared_setting
from .stats import selected_on

_FEWEST = 3  # batches of a line


@dataclasses.dataclass(frozen=True, eq=False)
class Search:
    """A search that has ended. updates: the fewest to the target, None where no trial reached it; longest: that any trial
    made; run, values: the trial that counts, else the longest, and its settings; trials: that ended, `reached` of them at
    the target. split: that updates are counted on, by which the setting is chosen too. line: {name: value} that searches of
    one line share."""

    sweep: Sweep
    values: dict
    updates: int | None
    longest: int
    run: Run
    trials: int
    reached: int
    split: str
    line: dict

    @property
    def batch(self):
        return self.values["batch_size"]

    @property
    def mark(self):
        return mark_of(self.split)


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs); a panel for each data set with a point."""
    datasets = dict.fromkeys(source.wanted["dataset"] for source in figure.sources)
    found, held, remarks = {}, [], []
    for dataset in datasets:
        searches, aside = _searches(sweeps, dataset)
        used = one_network(searches)
        lines, not_drawn = _lines(used)
        held += used
        if lines:
            found[dataset] = lines
        remarks += [*(_in_words(dataset, name, line) for name, line in lines.items()), *not_drawn,
                    *other_networks(searches, used), *aside]
    missing = [source for source in figure.sources
               if not any(search.trials >= TRIALS and fits(search.values, source.wanted) for search in held)]
    rows = [_row(dataset, name, search) for dataset, lines in found.items() for name, line in lines.items() for search in line]
    if not found:
        return None, rows, remarks, missing
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, len(found), (max(7.0, 4.6 * len(found)), 4.6))
        for panel, (dataset, lines) in zip(axes[0], found.items()):
            _draw_panel(panel, dataset, lines)
        axes[0][0].set_ylabel("updates to the target")
        headline(picture, f"{figure.name}: {figure.shows}")
    return picture, rows, remarks, missing


def _searches(sweeps, dataset):
    """(searches on the whole of a data set, sentences about those that have not ended)."""
    found, aside = [], []
    target = published.BASELINES[dataset].target / 100
    for sweep in sorted(sweeps, key=lambda sweep: sweep.path):
        split = selected_on(sweep)
        if not trials_planned(sweep) or not sweep.space or split == "unknown":
            continue
        trials = {run: values for run in sweep.trials if run.status.get("status") in ENDED
                  and isinstance(values := settings_or_reason(run), dict) and fits(values, {"dataset": dataset})}
        if not trials:
            continue
        if sweep.result.get("status") != "done":
            aside.append(f"Left aside: {sweep.path}: the search has not ended.")
            continue
        steps = {run: (_first(run, split, target), _last(run)) for run in trials}
        reached = {run: first for run, (first, _) in steps.items() if first is not None}
        longest = max(steps, key=lambda run: steps[run][1])
        best = min(reached, key=reached.get) if reached else longest
        found.append(Search(sweep, trials[best], reached.get(best), steps[longest][1], best, len(trials), len(reached), split,
                            _line(sweep, trials, split)))
    return found, aside


def _line(sweep, trials, split):
    values, searched = next(iter(trials.values())), sorted(sweep.space)
    return {**shared_setting(values, *searched, *RATES, "lr_scaling", "batch_size"), "counted on": split,
            "trials": trials_planned(sweep), "searched": searched, "evaluated every": values["eval_every_epochs"],
            "data": "; ".join(notes(trials)) or "as published"}


def _first(run, split, target):
    if run.status.get("status") != "done":
        return None
    for row in run.eval_rows(split):
        if row.get("accuracy") is not None and row["accuracy"] >= target:
            return row["step"]
    return None


def _last(run):
    return max((row["step"] for row in run.metrics), default=0)


def _lines(searches):
    """({words: searches by batch}, sentences about what is not drawn); those with most batches first."""
    alike, aside = {}, []
    for search in searches:
        _, line = alike.setdefault(str(search.line), (search.line, {}))
        first = line.setdefault(search.batch, search)
        if first is not search:
            aside.append(f"Left aside: {search.sweep.path}: a search like {first.sweep.path}, which is shown.")
    found = sorted(alike.values(), key=lambda one: -len(one[1]))
    # Searches at one or two batches, such as Table 3's, say little of scaling where there is a line that says more.
    most = max((len(line) for _, line in found), default=0)
    kept = [one for one in found if len(one[1]) >= min(_FEWEST, most)][:len(LINES)]
    if len(kept) < len(alike):
        aside.append(f"{len(alike) - len(kept)} more lines, or searches at fewer than {_FEWEST} batches, are not drawn.")
    named = {}
    for optimizer in dict.fromkeys(shared["optimizer"] for shared, _ in kept):
        of_one = [(shared, line) for shared, line in kept if shared["optimizer"] == optimizer]
        for words, (_, line) in zip(_told_apart([shared for shared, _ in of_one]), of_one):
            named[", ".join(filter(None, [optimizer, words]))] = [line[batch] for batch in sorted(line)]
    return named, aside


def _told_apart(settings):
    """What tells searches apart, in words: what was searched and how often stands in the caption, if the rest is enough."""
    rest = differences([{name: value for name, value in one.items() if name not in ("searched", "trials")} for one in settings])
    short = [", ".join(part for part in words.split(", ") if not part.endswith(" none")) for words in rest]
    return short if len(set(short)) == len(short) else differences(settings)


def _in_words(dataset, name, line):
    first = line[0]
    reached = sum(search.updates is not None for search in line)
    trials = " or ".join(map(str, sorted({search.trials for search in line})))
    target, searched = published.BASELINES[dataset].target, " and ".join(first.line["searched"])
    return (f"{dataset}, {first.values['model']}, {name}: the paper's target, {target}%, is reached at {reached} of "
            f"{len(line)} batches. Each batch shows the best of {trials} trials over {searched}, chosen by the updates "
            f"themselves, counted at evaluations on the {first.split} split{first.mark}; no fresh seed repeats it.")


def _row(dataset, name, search):
    return {"dataset": dataset, "line": name, "model": search.values["model"], "optimizer": search.values["optimizer"],
            "batch": search.batch, "updates": search.updates or "", "longest": search.longest,
            "target": published.BASELINES[dataset].target, "trials": search.trials, "reached": search.reached,
            "selected_on": search.split, "data_note": "; ".join(notes([search.run])), "run": search.run.path}


def _draw_panel(panel, dataset, lines):
    batches = sorted({search.batch for line in lines.values() for search in line})
    for look, (name, line) in zip(LINES, lines.items()):
        reached = [search for search in line if search.updates]
        short = [search for search in line if not search.updates]
        if reached:
            first, ends = reached[0], [reached[0].batch, batches[-1]]
            panel.plot([search.batch for search in reached], [search.updates for search in reached],
                       label=f"{name}{first.mark}", **look)
            panel.plot(ends, [first.updates * first.batch / batch for batch in ends], color=look["color"], linewidth=0.9,
                       linestyle=(0, (1, 2)), label=f"perfect scaling from {first.batch:,}")
        for search in reached if len(lines) == 1 else ():
            panel.annotate(f"{search.updates:,}{search.mark}", (search.batch, search.updates), xytext=(5, 5),
                           textcoords="offset points", fontsize=7)
        if short:  # an arrow up: it would take more
            panel.plot([search.batch for search in short], [search.longest for search in short], color=look["color"],
                       label=f"{name}{short[0].mark}: not reached in so many", marker=r"$\uparrow$", markersize=9,
                       linestyle="none")
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.xaxis.set_major_formatter("{x:,.0f}")
    panel.yaxis.get_major_locator().set_params(subs=(1.0, 2.0, 5.0))
    panel.yaxis.set_major_formatter("{x:,.0f}")
    panel.yaxis.set_minor_formatter("")
    panel.set_xticks(apart(batches), minor=False)
    panel.tick_params(axis="x", rotation=45)
    panel.set_xlabel("batch size")
    model = next(iter(lines.values()))[0].values["model"]
    panel.set_title(f"{dataset}, {model}, the paper's target {published.BASELINES[dataset].target}%", loc="left")
    handles, labels = panel.get_legend_handles_labels()
    panel.legend(handles, [textwrap.fill(label, 34) for label in labels], loc="center left", bbox_to_anchor=(1.0, 0.5))
