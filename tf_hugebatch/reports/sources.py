"""Which run folders a figure is drawn from: what a run must be, and the numbers of a setting as tables have them.

A run that has not ended counts nowhere; a diverged one counts in n, and its accuracy enters no mean.
"""

import dataclasses
import json
from collections.abc import Mapping

from .. import published, registry
from .blanks import Blank, cost_in_words
from .markup import number
from .outcomes import checked_settings, read_outcomes, setting_of
from .sheets import NUMBER_COLUMNS, mark_of, numbers_of
from .stats import Group, group_runs, mean_between

FULL = "full"
ENDED = ("done", "diverged")
_TOP1 = "test_accuracy"
#: Settings of experiments on how training works (appendix 6.3; batches that grow, and the step decay beside them, which the
#: paper doesn't have): such a run is no attempt at what other figures show.
APART = ("inject_noise", "fixed_trust_ratios", "batch_growth", "rate_drops")
MOMENTUM_SGD = {"optimizer": "sgd", "nesterov": False}  # Nesterov's step is another optimizer


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """One curve, bar, map or point of a figure.

    label: in the legend. wanted: settings a run must have; a tuple is a choice, None takes any value, `FULL` is every
    training example after the split; `warmup` True or False asks whether there is one. command: what makes the runs, as it
    is typed. model, images: what that trains, for its cost. metric: of the status's final numbers. seeds: that the command
    trains. own: what tells its runs from others that are wanted too.
    """

    label: str
    wanted: Mapping[str, object]
    command: str
    model: str
    images: float
    metric: str = _TOP1
    seeds: int = 1
    own: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def blank(self, what):
        """The gap that this source leaves in a figure."""
        cost = cost_in_words(self.model, self.images) if self.images else "seconds; nothing is trained"
        return Blank(f"{what}: {self.label}", self.command, cost)


@dataclasses.dataclass(frozen=True, eq=False)
class Figure:
    """A row of the catalogue: figure `number` of the paper, drawn as `kind` (a key of catalogue.KINDS).

    shows: in words. dataset, batch, epochs: of the paper's runs, None where it states none. sources: what it is drawn from.
    paper: the numbers that the text states. note: what the paper leaves open or where it slips.
    """

    number: int | str
    shows: str
    kind: str
    dataset: str | None
    batch: tuple
    epochs: tuple
    sources: tuple[Source, ...]
    paper: tuple[published.Result, ...] = ()
    note: str = ""

    @property
    def name(self):
        """'Figure 4', or the name of one that the paper doesn't have."""
        return f"Figure {self.number}" if isinstance(self.number, int) else self.number.replace("_", " ").capitalize()


def full_batch(settings):
    """Training examples after the split; None for a data set without a row in published.py."""
    row = published.BASELINES.get(settings.get("dataset"))
    return row and row.full - (settings.get("validation_examples") or 0)


def fits(settings, wanted):
    """Whether settings are what a source wants; those of a run on a part of a data set never are, nor those of a run that is
    about one of APART unless that is wanted."""
    if any(settings.get(name) is not None and name not in wanted for name in APART):
        return False
    size, whole = settings.get("dataset_size"), published.BASELINES.get(settings.get("dataset"))
    if size and whole and list(size)[:1] != [whole.train_examples]:
        return False
    for name, value in wanted.items():
        if name == "warmup":
            found = bool(settings.get("warmup_epochs") or settings.get("warmup_steps"))
        elif name == "batch_size" and value == FULL:
            found, value = settings.get(name), (FULL, full_batch(settings))
        else:
            found = settings.get(name)
        if value is not None and _tuples(found) not in (value if isinstance(value, tuple) else (value,)):
            return False
    return True


def _tuples(value):
    """The pairs of a setting, which settings.json has as lists, as they are once checked."""
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def ended(runs, *wanted):
    """Outcomes of the runs that have ended and fit one of `wanted`: those of a sweep's chosen setting and runs of their own.

    Settings are the checked ones, so a folder that is older than a setting has that setting's default.
    """
    outcomes, _ = read_outcomes(run for run in runs if run.part in ("", "final"))
    return [outcome for outcome in outcomes if any(fits(outcome.values, one) for one in wanted)]


def first_runs(figure, runs, read):
    """({source: (run, what `read` found in it)}, sources without one, sentences about networks): of each the first run in which
    it finds anything, all on the network on which most sources have one, but for sources that name their own."""
    found, first = {}, {}
    for source in figure.sources:
        # Read before they are grouped: a group has one run of a seed, which may be one that measured nothing.
        held = {outcome.run: rows for outcome in ended(runs, source.wanted) if (rows := read(outcome.run))}
        for group in groups_of(ended(held, source.wanted)):
            first.setdefault((source, _network(group)), group)
        found.update(held)
    free = [group for (source, _), group in first.items() if "model" not in source.wanted]
    used = one_network(free)
    drawn = {}
    for (source, _), group in first.items():
        if "model" in source.wanted or group in used:
            drawn.setdefault(source, (group.outcomes[0].run, found[group.outcomes[0].run]))
    named = [f"On {' at '.join(filter(None, _network(used[0])))}."] if used else []
    return drawn, [source for source in figure.sources if source not in drawn], [*named, *other_networks(free, used)]


def settings_or_reason(run):
    """A run's checked settings, a dict; where they can't be used the reason, a str."""
    try:
        return checked_settings(run)
    except (ValueError, TypeError, AttributeError) as error:
        return str(error)


def groups_of(outcomes):
    """Groups as tables have them, ordered by what a figure shows first: a setting that a search chose, a setting of its own,
    a rung of a ladder that a rule sets; among equals the one with most seeds."""
    return sorted(group_runs(outcomes)[0], key=lambda group: (_rank(group), -group.n, group.outcomes[0].run.path))


def _rank(group):
    if group.sweep is not None:
        return 0
    return 2 if group.outcomes[0].run.part == "final" else 1


def alike(groups, *without):
    """({source: Group} that differ in `without` alone, how many groups are left): of several such settings the one that most
    sources have, then the one of most seeds. groups: {source: its groups}, the first of a setting's counting."""
    by_rest = {}
    for source, of_source in groups.items():
        for group in of_source:
            by_rest.setdefault(setting_of(group.values, *without), {}).setdefault(source, group)
    best = max(by_rest.values(), key=lambda shared: (len(shared), sum(group.n for group in shared.values())), default={})
    return best, sum(map(len, groups.values())) - len(best)


def one_network(found):
    """Of things that have `values` those of the network that most of them are of, the paper's own where they tie: numbers of
    two networks are not one curve. A network at another size of image is another network."""
    by_network = {}
    for one in found:
        by_network.setdefault(_network(one), []).append(one)

    def weight(network):
        row = registry.DATASETS.get(by_network[network][0].values["dataset"])
        return len(by_network[network]), bool(row) and row.settings.get("model") == network[0]

    return by_network[max(by_network, key=weight)] if by_network else []


def _network(one):
    return str(one.values["model"]), str(one.values["image_size"] or "")


def other_networks(found, drawn):
    """A sentence for the caption about networks of `found` that `drawn` has none of; empty where there are none."""
    others = sorted({_network(one) for one in found} - {_network(one) for one in drawn})
    names = ", ".join(" at ".join(filter(None, network)) for network in others)
    return [f"Also run and not drawn: {names}."] if others else []


def shared_setting(values, *without):
    """{name: value} of the experiment but for the seed and `without`: what the points of one line or map have in common."""
    return json.loads(setting_of(values, *without))


def differences(settings):
    """For each of several {name: value} the words that tell it from the others; '' for one alone."""
    names = sorted({name for one in settings for name in one if any(one[name] != other.get(name) for other in settings)})
    return [", ".join(f"{name} {_in_short(one.get(name))}" for name in names) for one in settings]


def _in_short(value):
    return "none" if value is None else ",".join(map(str, value)) if isinstance(value, list) else str(value)


def numbers(group, metric=_TOP1):
    """A CSV row's part about a group, as tables have it, and the paths of its runs; None for what isn't known.

    metric: another share of the status's final numbers in the place of the accuracy; runs without it are left out.
    """
    if group is not None and metric != _TOP1:
        held = [dataclasses.replace(outcome, accuracy=None if percent is None else percent / 100)
                for outcome in group.outcomes
                if (percent := final_percent(outcome.run, metric)) is not None or outcome.diverged]
        group = Group(held) if held else None
    paths = " ".join(outcome.run.path for outcome in group.outcomes) if group else None
    return {**dict.fromkeys(NUMBER_COLUMNS), **numbers_of(group), "runs": paths}


def mean_curve(group):
    """[{update, epoch, seeds, accuracy_percent, lowest_percent, highest_percent}]: test accuracy of the seeds that didn't
    diverge, at every evaluation that all of them have."""
    by_update, alive = {}, [outcome for outcome in group.outcomes if not outcome.diverged]
    for outcome in alive:
        for row in outcome.run.eval_rows("test"):
            if (accuracy := number(row.get("accuracy"))) is not None:
                by_update.setdefault(row["step"], []).append((100 * accuracy, row.get("epoch")))
    points = []
    for update, found in sorted(by_update.items()):
        if len(found) == len(alive):
            accuracies, epochs = zip(*found)
            points.append({"update": update, "epoch": epochs[0], "seeds": len(found),
                           "accuracy_percent": mean_between(accuracies),
                           "lowest_percent": min(accuracies), "highest_percent": max(accuracies)})
    return points


def notes(runs):
    """What the runs say about their data, once each; it stands beside every number of theirs."""
    return sorted({str(run.status["data_note"]) for run in runs if run.status.get("data_note")})


def noted(runs):
    """The same as sentences for a caption."""
    return [f"Note on the data: {note}." for note in notes(runs)]


def final_percent(run, metric=_TOP1):
    """A number of the end of a run that is done, in percent; None where it is missing or not finite."""
    final = run.status.get("final")
    value = number(final.get(metric)) if isinstance(final, dict) else None
    return None if value is None or run.status.get("status") != "done" else 100 * value


def in_words(row):
    """A CSV row's accuracy as it is written into a figure or a caption; '' where nothing ran."""
    if not row["n"]:
        return ""
    counted, lost, mean = [f"n = {row['n']}"], row["diverged"], row["mean_percent"]
    if row["n"] - lost > 1:
        counted.append(f"{row['lowest_percent']:.2f} to {row['highest_percent']:.2f}")
    if lost:
        counted.append(f"{lost} diverged")
    shown = "" if mean is None else f"{mean:.2f}%{mark_of(row['selected_on'])}"
    return " ".join(filter(None, [shown, row["words"], f"({', '.join(counted)})"]))
