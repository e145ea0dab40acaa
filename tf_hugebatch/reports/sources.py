"""Which run folders a figure is drawn from: what a run must be, which of several stands for a setting, its numbers.

A run that has not ended counts nowhere; a diverged one counts as such, its accuracy enters no mean.
"""

import dataclasses
import json
import statistics
from collections.abc import Mapping

from .. import durations, published, registry
from ..fields import FIELDS
from .blanks import Blank, cost_in_words
from .drawing import SELECTED_ON_TEST
from .markup import number

FULL = "full"
ENDED = ("done", "diverged")


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """One curve, bar, map or point of a figure.

    label: in the legend. wanted: settings a run must have; a tuple is a choice, None takes any value, `FULL` is every
    training example after the split; `warmup` True or False asks whether there is one. command: what makes the runs, as it
    is typed. model, images: what that trains, for its cost. metric: of the status's final numbers.
    """

    label: str
    wanted: Mapping[str, object]
    command: str
    model: str
    images: float
    metric: str = "test_accuracy"

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
    """Whether a run's settings are what a source wants; runs on a part of a data set never are."""
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
        if value is not None and found not in (value if isinstance(value, tuple) else (value,)):
            return False
    return True


def fitting(runs, wanted):
    """Runs that fit and have ended; those that search, or that an earlier choice made, left out."""
    return [run for run in runs
            if run.part not in ("trials", "final_before") and run.status.get("status") in ENDED and fits(run.settings, wanted)]


def one_network(runs):
    """Of runs of several networks those of the one with most runs, the paper's own where they tie: numbers of two networks
    are not one curve. A network at another size of image is another network."""
    by_network = {}
    for run in runs:
        by_network.setdefault(_network(run), []).append(run)

    def weight(network):
        row = registry.DATASETS.get(by_network[network][0].settings.get("dataset"))
        return len(by_network[network]), bool(row) and row.settings.get("model") == network[0]

    return by_network[max(by_network, key=weight)] if by_network else []


def _network(run):
    return str(run.settings.get("model")), str(run.settings.get("image_size") or "")


def other_networks(runs, drawn):
    """A sentence for the caption about networks of `runs` that `drawn` has none of; empty where there are none."""
    others = sorted({_network(run) for run in runs} - {_network(run) for run in drawn})
    names = ", ".join(" at ".join(filter(None, network)) for network in others)
    return [f"Also run and not drawn: {names}."] if others else []


@dataclasses.dataclass(frozen=True)
class Setting:
    """Runs that differ in seed alone, by seed. tuned: a sweep chose the setting and these are its fresh seeds."""

    runs: tuple
    tuned: bool

    @property
    def first(self):
        return self.runs[0]

    def accuracies(self, metric="test_accuracy"):
        """Percent, one a run that is done."""
        return [value for run in self.runs if (value := final_percent(run, metric)) is not None]

    @property
    def diverged(self):
        """How many of the runs diverged."""
        return sum(run.status.get("status") == "diverged" for run in self.runs)

    @property
    def mark(self):
        """The mark of numbers that were chosen on the test split, or nothing."""
        return SELECTED_ON_TEST if any(map(selected_on_test, self.runs)) else ""

    def summary(self, metric="test_accuracy"):
        """{n, mean, lowest, highest, diverged, ...} for a CSV row; blank where there is no accuracy."""
        found = self.accuracies(metric)
        numbers = (round(statistics.fmean(found), 4), round(min(found), 4), round(max(found), 4)) if found else ("", "", "")
        return {"n": len(found), "mean": numbers[0], "lowest": numbers[1], "highest": numbers[2], "diverged": self.diverged,
                "selected_on_test": bool(self.mark), "note": "; ".join(notes(self.runs)),
                "runs": " ".join(run.path for run in self.runs)}


def settings_of(runs):
    """Runs grouped by all that belongs to the experiment but the seed: tuned first, then a run's own, then by the rule."""
    groups = {}
    for run in runs:
        key = json.dumps([run.settings.get(name) for name, field in FIELDS.items()
                          if field.kind == "experiment" and name != "seed"])
        groups.setdefault((_rank(run), key), []).append(run)
    seed = lambda run: (run.settings.get("seed") or 0, run.path)
    return [Setting(tuple(sorted(groups[key], key=seed)), key[0] == 0) for key in sorted(groups)]


def _rank(run):
    if run.part != "final":
        return 1
    return 0 if run.sweep.plan.get("trials") else 2


def selected_on_test(run):
    """Whether the run's setting was chosen by its accuracy on the test split."""
    return bool(run.sweep and run.sweep.plan.get("select_on") == "test")


def notes(runs):
    """What the runs say about their data, once each; it stands beside every number of theirs."""
    return sorted({str(run.status["data_note"]) for run in runs if run.status.get("data_note")})


def noted(runs):
    """The same as sentences for a caption."""
    return [f"Note on the data: {note}." for note in notes(runs)]


def final_percent(run, metric="test_accuracy"):
    """A number of the end of a run that is done, in percent; None where it is missing or not finite."""
    final = run.status.get("final")
    value = number(final.get(metric)) if isinstance(final, dict) else None
    return None if value is None or run.status.get("status") != "done" else 100 * value


def peak_rate(settings):
    """The highest learning rate of a run by its settings; None where they don't say."""
    if settings.get("peak_learning_rate") is not None:
        return float(settings["peak_learning_rate"])
    row = registry.DATASETS.get(settings.get("dataset"))
    baseline = row and row.facts.get("baseline_batch")
    rate, batch = settings.get("learning_rate"), settings.get("batch_size")
    if not (baseline and isinstance(rate, (int, float)) and isinstance(batch, int)):
        return None
    return durations.scaled_learning_rate(rate, batch, baseline, settings.get("lr_scaling", "none"))


def in_words(row):
    """A CSV row's accuracy as it is written into a figure or a caption."""
    if not row["n"]:
        return f"{row['diverged']} diverged" if row["diverged"] else ""
    spread = f", {row['lowest']:.2f} to {row['highest']:.2f}" if row["n"] > 1 else ""
    also = f", {row['diverged']} diverged" if row["diverged"] else ""
    mark = SELECTED_ON_TEST if row["selected_on_test"] else ""
    return f"{row['mean']:.2f}%{mark} (n = {row['n']}{spread}{also})"
