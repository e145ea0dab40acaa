"""A batch that grows beside a rate that falls (Smith et al. 2018): one accuracy against epochs, in a third of the updates."""

from . import commands
from .commands import SEEDS
from .drawing import LINES, headline, panels, style
from .outcomes import updates
from .sheets import mark_of
from .sources import (Figure, Source, alike, ended, fits, groups_of, in_words, mean_curve, noted, numbers, one_network,
                      other_networks)

NAME = "batch_growth"
#: What happens, and after which epochs (flags/growth).
_STEPS = ((9.0, 5), (18.0, 5), (24.0, 5))
_SETTINGS = {"decay": ("the rate falls", {"schedule": "steps", "rate_drops": (_STEPS,)}),
             "growth": ("the batch grows", {"schedule": "constant", "batch_growth": (_STEPS,)})}


def row(of, model):
    """The catalogue's row, of Table 2's row `of`."""
    sources = tuple(
        Source(label, {"dataset": of.dataset, "batch_size": of.batch, "epochs": of.epochs, **wanted},
               commands.train([f"--flagfile=flags/growth/{name}.flags"], of.dataset, f"{commands.FOLDER}/growth/{name}",
                              range(1, SEEDS + 1)), model, SEEDS * of.epochs * of.full, seeds=SEEDS)
        for name, (label, wanted) in _SETTINGS.items())
    return Figure(NAME, f"a batch that grows where the rate would fall, {of.dataset}", NAME, of.dataset, (of.batch,),
                  (of.epochs,), sources, (), "Not the paper's: Smith et al. 2018, arXiv 1711.00489, figure 2, on CIFAR-10.")


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs): test accuracy against epochs and updates."""
    fed = ended(runs, *(source.wanted for source in figure.sources))
    used = one_network(fed)
    found, others = alike({source: groups_of(one for one in used if fits(one.values, source.wanted))
                           for source in figure.sources}, "schedule", "rate_drops", "batch_growth")
    missing = [source for source in figure.sources if source not in found]
    curves = {source: points for source, group in found.items() if (points := mean_curve(group))}
    rows = [{"setting": source.label, **point} for source, points in curves.items() for point in points]
    rows += [{"setting": source.label, "final": "yes", "update": updates(group.values), **numbers(group)}
             for source, group in found.items()]
    remarks = [f"{source.label.capitalize()}: {in_words(numbers(group))} in {updates(group.values):,} updates."
               for source, group in found.items()]
    if others:
        remarks.append(f"{others} other setting{'s' * (others > 1)} of the two not drawn.")
    if not curves:
        return None, rows, remarks, missing
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, 2, (9.6, 3.6), sharey=True)
        for panel, along, words in zip(axes[0], ("epoch", "update"), ("epochs", "updates")):
            for (source, points), line in zip(curves.items(), LINES):
                mark = mark_of(found[source].select_on)
                panel.plot([point[along] for point in points], [point["accuracy_percent"] for point in points], **line,
                           markersize=4, label=f"{source.label}, n = {found[source].n}{mark}")
            panel.set(xlabel=words, xlim=(0, None))
            panel.xaxis.set_major_formatter("{x:,g}")
        for epoch, _ in _STEPS:
            axes[0, 0].axvline(epoch, color="#bbbbbb", linewidth=0.8, zorder=0)
        highest = max(point["accuracy_percent"] for points in curves.values() for point in points)
        axes[0, 0].set(ylabel="test accuracy (%), mean of seeds", ylim=(max(0, highest - 3), None))
        axes[0, 1].legend(loc="lower right")
        headline(picture, f"{figure.name}: {figure.shows}")
    remarks += [*other_networks(fed, used), *noted([one.run for group in found.values() for one in group.outcomes]),
                "Grey lines: where the rate falls to a fifth, or the batch grows five times."]
    return picture, rows, remarks, missing
