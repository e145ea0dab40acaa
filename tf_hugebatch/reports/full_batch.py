"""Full batch: test accuracy against updates of every optimizer of the frontier at its own tuned setting, a panel a data set.

On CIFAR-10 a trial at full batch takes an hour of a core, so settings are tried at the full batch of a tenth of the training
set, the other nine validating, with as many updates; the chosen ones train on all of it.
"""

from .. import published
from . import commands, frontier
from .drawing import LINES, headline, panels, style
from .figures import accuracy_axis
from .outcomes import train_size, updates
from .sheets import mark_of
from .sources import FULL, Figure, Source, ended, fits, groups_of, in_words, mean_curve, numbers, one_network, other_networks

NAME = "full_batch"
#: Of CIFAR-10, flags/frontier/cifar10.flags: the network, updates, held-out images of a trial, final seeds.
_MODEL, _UPDATES, _HELD_OUT, _SEEDS = "resnet9", 60, 45_000, 3


def row(*frontiers):
    """The catalogue's row. frontiers: the frontier's rows, whose sources at full batch are part of it."""
    sources = [source for one in frontiers for source in one.sources if source.wanted["batch_size"] == FULL]
    cifar = published.BASELINES["cifar10"]
    for name, (own, space) in frontier.OPTIMIZERS.items():
        wanted = {"dataset": cifar.dataset, "batch_size": FULL, "epochs": _UPDATES, "schedule": "polynomial", **own}
        command = (f"python -m tf_hugebatch.sweep_main --flagfile=flags/frontier/cifar10_{name}.flags --data_dir=DIR "
                   f"--validation_examples={_HELD_OUT} --space=flags/sweeps/frontier_{space}.json --method=random "
                   f"--trials={commands.TRIALS} --confirm={commands.CONFIRM} --final_seeds={_SEEDS} "
                   f"--sweep_dir={commands.FOLDER}/frontier/cifar10/{name}_full")
        images = _UPDATES * (commands.SEARCH_RUNS * (cifar.full - _HELD_OUT) + _SEEDS * cifar.full)
        sources.append(Source(f"{cifar.dataset}, {name}", wanted, command, _MODEL, images, seeds=_SEEDS))
    return Figure(NAME, "accuracy against updates, by optimizer", NAME, None, (FULL,), (),
                  tuple(sources), (),
                  "Not in the paper. The optimizers' spaces span as many decades each (flags/sweeps/frontier_*.json).")


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs): a panel a data set, a line an optimizer."""
    found, others = {}, []
    for dataset in dict.fromkeys(source.wanted["dataset"] for source in figure.sources):
        sources = [source for source in figure.sources if source.wanted["dataset"] == dataset]
        fed = [one for one in ended(runs, *(source.wanted for source in sources)) if frontier.is_searched(one)]
        used = one_network(fed)
        others += other_networks(fed, used)
        for source in sources:
            groups = groups_of(one for one in used if fits(one.values, source.wanted))
            if groups:
                found.setdefault(dataset, {})[source] = max(groups, key=lambda group: (group.trials or 0, group.n))
    held = {source: group for panel in found.values() for source, group in panel.items()}
    rows = [{"dataset": dataset, "optimizer": _name(source), **point}
            for dataset, panel in found.items() for source, group in panel.items() for point in mean_curve(group)]
    rows += [{"dataset": dataset, "optimizer": _name(source), "final": "yes", "model": group.values["model"],
              "update": updates(group.values), **numbers(group)}
             for dataset, panel in found.items() for source, group in panel.items()]
    missing = [source for source in figure.sources
               if source not in held or held[source].n < source.seeds or (held[source].trials or 0) < commands.TRIALS]
    said = {dataset: "; ".join(f"{_name(source)} {in_words(numbers(group))}{_search(group)}" for source, group in panel.items())
            for dataset, panel in found.items()}
    remarks = [f"{dataset.upper()}, {_network(found[dataset])}: {words}." for dataset, words in said.items()]
    remarks += [*frontier.unconfirmed(held.values()), *others]
    if not any(mean_curve(group) for group in held.values()):
        return None, rows, remarks, missing
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, len(found), (4.9 * len(found) + 0.6, 4.0))
        for panel, (dataset, groups) in zip(axes[0], found.items()):
            _draw_panel(panel, dataset, groups)
        headline(picture, f"{figure.name}: {figure.shows}")
    return picture, rows, remarks, missing


def _draw_panel(panel, dataset, groups):
    for name, look in zip(frontier.OPTIMIZERS, LINES):
        for source, group in groups.items():
            if _name(source) == name and (points := mean_curve(group)):
                means = [point["accuracy_percent"] for point in points]
                ends = [[mean - point["lowest_percent"] for mean, point in zip(means, points)],
                        [point["highest_percent"] - mean for mean, point in zip(means, points)]]
                panel.errorbar([point["update"] for point in points], means, yerr=ends, capsize=2, markersize=4,
                               label=f"{name}{mark_of(group.select_on)}, n = {points[0]['seeds']}", **look)
    panel.set(xlabel="updates", ylabel="test accuracy (%), mean and range of seeds", xlim=(0, None),
              title=f"{dataset.upper()}, {_network(groups)}")
    ends = [end for group in groups.values() for point in mean_curve(group)
            for end in (point["lowest_percent"], point["highest_percent"])]
    accuracy_axis(panel, max(0, 100 - 1.1 * (100 - min(ends))), 100 - (100 - max(ends)) / 1.3)
    panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)


def _search(group):
    """What chose a setting: on CIFAR-10 a part of the training set is tried, at its own full batch."""
    settings = group.sweep.plan.get("settings")
    tried = settings.get("batch_size") if isinstance(settings, dict) else None
    on = f" at the full batch of {tried:,} images" if isinstance(tried, int) and tried < 0.9 * train_size(group.values) else ""
    return f", chosen in {group.trials or 0} trials{on}"


def _network(groups):
    return next(iter(groups.values())).values["model"]


def _name(source):
    return next(name for name, (own, _) in frontier.OPTIMIZERS.items() if fits(source.wanted, own))
