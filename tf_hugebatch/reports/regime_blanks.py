"""The commands for what is missing between a family's runs and its regimes, those that decide a boundary soonest first.

First what makes the baseline sound, without which nothing is decided; then, a turn of every boundary after the other, the
batches that were tried without an answer, and new ones, each halving what those before it leave open.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence

from tf_hugebatch import regimes as recipes
from tf_hugebatch import registry
from tf_hugebatch.fields import FIELDS
from tf_hugebatch.reports import commands
from tf_hugebatch.reports.baselines import baseline_rate, epochs_of
from tf_hugebatch.reports.blanks import Blank, cheapest_first
from tf_hugebatch.reports.outcomes import checked_settings, setting_of
from tf_hugebatch.reports.regimes import Boundary, Regimes, trials_lacking
from tf_hugebatch.reports.stats import Group
from tf_hugebatch.runs import Run
from tf_hugebatch.settings import resolve

_FRESH = range(1, commands.SEEDS + 1)
# What is searched at a batch, (regime, what is given besides, space): the paper's optimizers, and the one beyond the paper that
# came furthest here (RESULTS.md). A power of the decay is part of its space.
_TECHNIQUES = (("large", {}, None), ("huge", {}, None),
               ("huge", {"optimizer": "muon", "schedule": "polynomial"}, "flags/sweeps/frontier_muon.json"))


def blanks_of(found: Iterable[Regimes]) -> list[Blank]:
    """What is missing for A and for each boundary of every family, with the command that fills it: first of those that have a
    baseline; within a turn cheapest first."""
    found = list(found)
    blanks = []
    for begun in (True, False):
        turns = itertools.zip_longest(*(_turns(one) for one in found if (one.baseline is not None) == begun), fillvalue=[])
        blanks += [blank for turn in turns for blank in cheapest_first(itertools.chain(*turn))]
    return blanks


def ladder(baseline_batch: int, full: int) -> list[int]:
    """The batches to try: doubling from the baseline's, and the full one."""
    batches, batch = [], 2 * baseline_batch
    while batch < full:
        batches.append(batch)
        batch *= 2
    return [*batches, full] if full > baseline_batch else batches


def _turns(one: Regimes) -> list[list[Blank]]:
    """Of one family: the baseline, then a turn for every batch that its boundaries lack."""
    if one.family.train_size < one.family.baseline_batch:
        return []
    first = _baseline_blank(one)
    if one.baseline is None:
        return [[first]]
    large, huge = one.tentative
    # An unstable rate is not worth scaling; how good the best setting at a batch is does not hang on it.
    scaled = [] if one.baseline.words else [[_linear(one, batch)] for batch in _in_order(one, large)]
    # A sweep's final runs train on all images, so they are of the family that holds none out.
    searched = [] if one.family.validation_examples else [_search(one, batch) for batch in _in_order(one, huge)]
    turns = itertools.zip_longest(scaled, searched, fillvalue=[])
    return [*([[first]] if first else []), *(list(itertools.chain(*turn)) for turn in turns)]


def _in_order(one: Regimes, edge: Boundary) -> list[int]:
    """Batches whose answer would narrow the bracket: those tried without one, upwards, then those within it not tried."""
    answered = {verdict.batch for verdict in edge.verdicts if verdict.holds is not None}
    within = [batch for batch in {*ladder(one.family.baseline_batch, one.full), *edge.open_batches} - answered
              if batch > edge.holds_at and (edge.fails_at is None or batch < edge.fails_at or batch in edge.open_batches)]
    open_ones = sorted(batch for batch in within if batch in edge.open_batches)
    return [*open_ones, *_halving(sorted(set(within) - set(open_ones)))]


def _halving(batches: Sequence[int]) -> Iterator[int]:
    """The middle one, then the middles of what is left on both sides, and so on; on a ladder of doublings these are middles
    on a logarithmic scale."""
    spans = [batches]
    for span in spans:
        if span:
            middle = (len(span) - 1) // 2
            yield span[middle]
            spans += [span[:middle], span[middle + 1:]]


# ------------------------------------------------------------------------------------------------- one blank each


def _baseline_blank(one: Regimes) -> Blank | None:
    """What would make the baseline sound: its first runs, the seeds it lacks, or another rate where it is unstable."""
    family, known = one.family, one.baseline or next(iter(one.other_baselines), None)
    name = f"linear_{family.baseline_batch}"
    if known is None or (rate := baseline_rate(known.values, at_baseline=True)) is None:
        words = [*_names(one), "--regime=baseline", *_held_out(one)]
        epochs = recipes.of(family.dataset)["baseline"]["epochs"].value
        return _seeds(one, f"the baseline of {family}, and B_L and B_H with it", words,
                      _folder(one, name, _resolved(one, regime="baseline"), regime="baseline"), epochs)
    if known.words:
        taken = {baseline_rate(group.values, at_baseline=True) for group in (known, *one.other_baselines)}
        while rate in taken:
            rate /= 2
        values = {**known.values, "learning_rate": rate, "lr_scaling": "linear", "peak_learning_rate": None}
        return _seeds(one, f"a stable baseline of {family}, and B_L and B_H with it: a rate that was not tried, {rate:.4g}, by "
                      "halving", commands.words_of(values), _folder(one, name, values, regime="baseline"), epochs_of(values))
    return _more_seeds(one, f"A and xi of {family}, and B_L and B_H with them", known) if one.doubt else None


def _linear(one: Regimes, batch: int) -> Blank:
    what = f"B_L of {one.family}: linear scaling at {batch:,}"
    known = next((verdict.group for verdict in one.tentative[0].verdicts if verdict.batch == batch), None)
    if known:
        return _more_seeds(one, what, known)
    values = {**one.baseline.values, "batch_size": batch, "lr_scaling": "linear", "peak_learning_rate": None,
              "learning_rate": baseline_rate(one.baseline.values, at_baseline=True)}
    folder = _folder(one, f"linear_{batch}", values, regime="baseline", batch_size=batch)
    words = [*commands.words_of(values), *commands.selected(one.baseline.select_on)]
    return _seeds(one, what, words, folder, one.epochs)


def _search(one: Regimes, batch: int) -> list[Blank]:
    family, what = one.family, f"B_H of {one.family}: the best setting at {batch:,}"
    verdict = next((verdict for verdict in one.tentative[1].verdicts if verdict.batch == batch), None)
    searched = {sweep.path: (trials_lacking(sweep, one.epochs), sweep) for at, sweep in one.searches if at == batch}
    lacking = sorted((count, path) for path, (count, _) in searched.items() if count is not None)
    if lacking and not lacking[0][0] and verdict and verdict.group:
        return [_more_seeds(one, what, verdict.group)]
    if lacking and lacking[0][0]:
        count, path = lacking[0]
        # A failed trial is not repeated: as many more as lack a result.
        if again := commands.sweep_again(searched[path][1], count):
            cost = commands.train_cost(family.model, family.train_size, one.epochs, count + commands.SEEDS)
            return [Blank(f"{what}: {count} more trials", again, cost)]
    found: dict[str, Blank] = {}
    for regime, given, space in _TECHNIQUES:
        optimizer = given.get("optimizer", recipes.of(family.dataset)[regime]["optimizer"].value)
        stated = {"regime": regime, "batch_size": batch, **given}
        words = [*_names(one), f"--regime={regime}", *(f"--{name}={value}" for name, value in given.items()),
                 f"--batch_size={'full' if batch == one.full else batch}", f"--epochs={one.epochs:g}"]
        folder = _folder(one, f"{optimizer}_{batch}", _resolved(one, **stated, epochs=one.epochs), **stated)
        command = commands.sweep(words, family.dataset, folder, space or f"flags/sweeps/regimes_{optimizer}.json")
        cost = commands.sweep_cost(family.model, family.train_size, one.epochs)
        found.setdefault(optimizer, Blank(f"{what}, {optimizer}", command, cost))
    return [*found.values()]


def _more_seeds(one: Regimes, what: str, group: Group) -> Blank:
    """As many further seeds as make five, or five more, beside the runs that are there."""
    more = commands.SEEDS - group.n if group.n < commands.SEEDS else commands.SEEDS
    first, values = max(group.seeds) + 1, group.values
    name = f"{values['optimizer']}_{values['batch_size']}"
    return _seeds(one, f"{what}: {more} more seeds", [*commands.words_of(values), *commands.selected(group.select_on)],
                  _home(group) or _folder(one, name, values), epochs_of(values), range(first, first + more))


def _seeds(one: Regimes, what: str, words, folder: str, epochs: float, seeds=_FRESH) -> Blank:
    family = one.family
    return Blank(what, commands.train(words, family.dataset, folder, seeds),
                 commands.train_cost(family.model, family.train_size, epochs, len(seeds)))


# ----------------------------------------------------------------------------------------------- words and folders


def _names(one: Regimes) -> list[str]:
    family = one.family
    counted = family.dataset_size and registry.DATASETS[family.dataset].facts["embedded"]  # elsewhere counted in data_dir
    return [f"--dataset={family.dataset}", f"--model={family.model}",
            *([f"--dataset_size={','.join(map(str, family.dataset_size))}"] if counted else [])]


def _held_out(one: Regimes) -> list[str]:
    held_out = one.family.validation_examples
    return [f"--validation_examples={held_out}"] if held_out else []


def _resolved(one: Regimes, **given) -> dict:
    """Every setting of a run of the family with what is given."""
    family = one.family
    names = {"dataset": family.dataset, "model": family.model, "validation_examples": family.validation_examples, **given}
    settings, _ = resolve([("a blank", names)])
    return {**{name: getattr(settings, name) for name in FIELDS}, "dataset_size": family.dataset_size}


def _folder(one: Regimes, name: str, values: dict, **stated) -> str:
    """Where new runs of a setting go: the data set, the network and `name` say what `stated` gives; a setting that differs in
    anything else, or in the words on its data, has 8 characters of its hash besides."""
    family = one.family
    plain, _ = resolve([("a folder", {"dataset": family.dataset, "model": family.model, **stated})])
    setting = json.dumps([setting_of(values), family.note])
    usual = json.dumps([setting_of({field: getattr(plain, field) for field in FIELDS}), ""])
    mark = "" if stated and setting == usual else f"_{hashlib.sha256(setting.encode()).hexdigest()[:8]}"
    return f"{commands.FOLDER}/regimes/{family.dataset}_{family.model}/{name}{mark}"


def _home(group: Group) -> str:
    """The folder that holds a group's runs as seed1, seed2 ..., and no run of another experiment; '' where there is none."""
    folders = {os.path.split(outcome.run.path) for outcome in group.outcomes}
    parents = {parent for parent, _ in folders}
    if len(parents) != 1 or {name for _, name in folders} != {f"seed{seed}" for seed in group.seeds}:
        return ""
    [parent] = parents
    setting = setting_of(group.values)
    for path in glob.glob(os.path.join(glob.escape(parent), "*", "settings.json")):
        try:
            if setting_of(checked_settings(Run(os.path.dirname(path)))) != setting:
                return ""
        except ValueError:  # what can't be read is in the way of nothing but its own seed
            continue
    return parent or os.curdir
