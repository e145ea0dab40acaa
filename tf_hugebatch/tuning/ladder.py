"""The recipe ladder of section 3.1 on any data set, at any batch: each rung is a sweep of its own.

Rungs 0 and 1 follow the paper's rule: the rate is tuned at the baseline batch, scaled linearly, and not tuned again. Every
other rung is tuned with one number of trials, over rates that span equally many decades. Rung 0 tuned, and rung 4 without
each of its parts, say how much of the ladder's height is the tuning's and how much each technique's.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterator, Mapping

from tf_hugebatch import published, regimes, registry
from tf_hugebatch.records import content_of, held, not_writable, write_json
from tf_hugebatch.runs import read_object
from tf_hugebatch.settings import Refusal, Settings
from tf_hugebatch.tuning import space_file, sweep
from tf_hugebatch.tuning.children import outcome
from tf_hugebatch.tuning.plan import Base, Plan, settings_differ
from tf_hugebatch.tuning.screen import mean_and_range
from tf_hugebatch.tuning.space import Space

SCHEMA_VERSION = 1
#: Warm-up of the rule's rung 1, Goyal et al. 2017; a sixth of a run that is shorter than 30 epochs.
RULE_WARMUP_EPOCHS, RULE_WARMUP_SHARE = 5.0, 1 / 6
#: What the ladder decides, so that the base may not.
_DECIDED = ("optimizer", "optimizer_preset", "learning_rate", "lr_scaling", "peak_learning_rate", "warmup_epochs",
            "warmup_steps", "label_smoothing")
_WRITTEN = ("name", "adds", "folder", "kind", "n_a")
_SMOOTHING = [0.05, published.TABLE_4_LABEL_SMOOTHING, 0.2]


def default_spaces(epochs: float) -> dict[str, dict]:
    """What is searched where --space says nothing else; all rates span three decades.

    baseline: momentum SGD at the baseline batch, around the 0.05 to 0.1 of the public recipes. sgd: from below such a rate to
    where momentum SGD diverges. lars: with trust coefficient 0.001 (the registry's) MLPerf's rates lie between 8.5 and 31, ours
    on MNIST at 24. Warm-up up to half of the run: 'extremely long' helps at huge batches (figure 5).
    """
    others = {"warmup_epochs": {"low": 0.0, "high": epochs / 2}, "label_smoothing": _SMOOTHING}
    return {"baseline": {"learning_rate": {"low": 0.003, "high": 3.0, "log": True}},
            "sgd": {"peak_learning_rate": {"low": 0.03, "high": 30.0, "log": True}, **others},
            "lars": {"peak_learning_rate": {"low": 0.1, "high": 100.0, "log": True}, **others}}


@dataclasses.dataclass(frozen=True)
class Rung:
    """name, adds: as in the paper, or what is left out. folder: below the ladder's. kind: 'baseline_rate', 'rule', 'tuned' or
    'leave_one_out'. words: above the base. solver, tunes: the part of the space that is searched. n_a: why it can't be, or
    None."""

    name: str
    adds: str
    folder: str
    kind: str
    words: tuple[str, ...]
    solver: str = ""
    tunes: tuple[str, ...] = ()
    n_a: str | None = None


_RATE, _WARMUP, _LABELS = "peak_learning_rate", "warmup_epochs", "label_smoothing"


def rungs(settings: Settings) -> list[Rung]:
    """The rungs for a base, in the order in which they are run; the rule's rungs lack their rate, which is yet to be found."""
    has_norm = registry.find("model", settings.model).facts["batch_norm"]
    batch = registry.find("dataset", settings.dataset).facts["baseline_batch"]
    sgd, lars = ("--optimizer=sgd",), ("--optimizer=lars",)
    plain = (*sgd, "--label_smoothing=0")
    if not has_norm:
        # A bias that takes the bare rate of LARS, a thousand times SGD's, has no batch norm to absorb it.
        lars += ("--exclude_from_adaptation=none",)
    no_norm = None if has_norm else f"{settings.model} has no batch norm"
    adds = [rung.adds for rung in published.LADDER]
    adds[0] += f" (n/a: {no_norm})" if no_norm else ""
    warmup = min(RULE_WARMUP_EPOCHS, settings.epochs * RULE_WARMUP_SHARE)

    def without(what, *words, tunes=(_RATE, _WARMUP, _LABELS), n_a=None):
        return Rung(f"4 without {what}", f"all but {what}", f"rung4_without_{what.replace(' ', '_')}", "leave_one_out",
                    (*lars, *words), "lars", tunes, n_a)

    return [
        Rung("baseline rate", f"the rate that rungs 0 and 1 scale, tuned at batch {batch}", "baseline_rate", "baseline_rate",
             (*plain, f"--batch_size={batch}", "--lr_scaling=linear", "--warmup_epochs=0"), "baseline", ("learning_rate",)),
        Rung("0", adds[0], "rung0", "rule", (*plain, "--lr_scaling=linear", "--warmup_epochs=0")),
        Rung("1", adds[1], "rung1", "rule", (*plain, "--lr_scaling=linear", f"--warmup_epochs={warmup:g}")),
        Rung("0 tuned", f"{adds[0]}; the rate tuned", "rung0_tuned", "tuned", (*plain, "--warmup_epochs=0"), "sgd", (_RATE,)),
        Rung("2", adds[2], "rung2", "tuned", plain, "sgd", (_RATE, _WARMUP)),
        Rung("3", adds[3], "rung3", "tuned", sgd, "sgd", (_RATE, _WARMUP, _LABELS)),
        Rung("4", adds[4], "rung4", "tuned", lars, "lars", (_RATE, _WARMUP, _LABELS)),
        without("warm-up", "--warmup_epochs=0", tunes=(_RATE, _LABELS)),
        without("label smoothing", "--label_smoothing=0", tunes=(_RATE, _WARMUP)),
        without("clipping", "--clip_global_norm=none",
                n_a=None if settings.clip_global_norm else "the base clips nothing"),
        without("ghost batch norm", "--bn_span=full", n_a=no_norm),
        without("decay", "--schedule=constant", n_a="the base decays nothing" if settings.schedule == "constant" else None),
    ]


def shared_words(settings: Settings) -> list[str]:
    """What all rungs have beside the base, where the base does not say it: rung 0's parts, and one momentum and decay."""
    weight_decay = regimes.of(settings.dataset)["baseline"].get("weight_decay")
    shared = {"momentum": 0.9, "weight_decay": weight_decay.value if weight_decay else published.TABLE_4_WEIGHT_DECAY,
              "schedule": "cosine", "clip_global_norm": 1.0, "warmup_from": "zero"}
    if registry.find("model", settings.model).facts["batch_norm"]:
        shared["bn_span"] = published.BATCH_NORM_EXAMPLES
    return [f"--{name}={value}" for name, value in shared.items() if not _is_given(settings, name)]


def _is_given(settings, name):
    return settings.sources[name].startswith(("command line", "flagfile"))


class Ladder:
    """Every rung, checked before the first is run.

    Args:
        base: `Base`; its words may decide anything but what the ladder does.
        folder: of the ladder; None for one named after it.
        where: what to call the space file in a problem.
        spaces: 'baseline', 'sgd' and 'lars' -> the object of a space file, for those that are not the default.
        trials: for each rung that is tuned.

    Raises:
        Refusal: every problem of the base, the spaces and the folder.
    """

    def __init__(self, base: Base, folder: str | None, *, where: str, spaces: Mapping, trials: int, runner=()):
        if problems := base.problems():
            raise Refusal(problems)
        given = base.settings
        problems = [f"--{name}={getattr(given, name)} ({given.sources[name]}): the rungs of a ladder decide it; drop it"
                    for name in _DECIDED if _is_given(given, name)]
        if given.regime != "baseline":
            problems.append(f"--regime={given.regime} ({given.sources['regime']}): it brings an optimizer's settings, which "
                            "would reach some rungs and not others; drop it, and give --batch_size and --epochs")
        if given.epochs is None:
            problems.append("--ladder: its rungs train for equally many epochs, the baseline's batch too; give --epochs")
        if problems:
            raise Refusal(problems)
        self.shared = shared_words(given)
        self.base, self.trials, self.runner = base.with_words(*self.shared), trials, runner
        self.settings = self.base.settings
        self.spaces = {**default_spaces(given.epochs), **spaces}
        problems = list(_problems_of_spaces(where, spaces, self.spaces))
        self.rungs = rungs(self.settings)
        self.folder = folder or os.path.join("runs", f"ladder-{given.dataset}-{self.settings.experiment_hash()[:8]}")
        for rung in self.rungs if not problems else ():
            try:
                if rung.kind != "rule" and not rung.n_a:
                    problems += self._plan(rung, where).problems()
            except Refusal as refusal:
                problems += [f"rung {rung.name}: {problem}" for problem in refusal.problems]
        if problems := [*problems, *self._folder_problems()]:
            raise Refusal(problems)

    def _folder_problems(self):
        stated = f"--sweep_dir={self.folder}"
        if os.path.lexists(self.folder) and not os.path.isdir(self.folder):
            yield f"{stated}: that is a file; name a folder"
            return
        yield from (found := not_writable("sweep_dir", self.folder))
        if found or not content_of(self.folder):
            return
        stored = read_object(os.path.join(self.folder, "ladder.json"))
        if stored is None:
            yield f"{stated}: it is not empty and holds no ladder (no ladder.json that can be read); name a new folder"
        elif differences := list(settings_differ(stored.get("settings") or {}, self.settings.as_dict())):
            yield f"{stated}: it holds another ladder ({'; '.join(differences)}); give the same, or another --sweep_dir"

    def _plan(self, rung: Rung, where="the ladder's space", rate=None) -> Plan:
        # A rule's runs say what chose the rate that they scale, as a search's final runs do.
        chosen = "validation" if self.base.validation_examples else "test"
        words = rung.words if rate is None else (*rung.words, f"--learning_rate={rate}", f"--selected_on={chosen}")
        base, space = self.base.with_words(*words), Space(())
        if rung.tunes:
            content = {flag: self.spaces[rung.solver][flag] for flag in rung.tunes}
            space = space_file.make(content, base.search_words, where=where, grid=base.method == "grid", dataset=base.dataset)
        trials = len(space.grid()) if base.method == "grid" else min(self.trials, space.size)
        plan = base.plan(os.path.join(self.folder, rung.folder), space=space, trials=trials if rung.tunes else 0)
        return dataclasses.replace(plan, runner=self.runner)

    def text(self) -> Iterator[str]:
        """What will be done, line by line."""
        yield from ("ladder", f"  {'folder':<24} {self.folder}",
                    f"  {'shared':<24} {' '.join(self.shared) or 'nothing beside the settings above'}")
        for rung in self.rungs:
            how = f"n/a: {rung.n_a}" if rung.n_a else "by the rule" if rung.kind == "rule" else \
                f"{self._plan(rung).trials} trials over {', '.join(rung.tunes)}"
            yield f"  {rung.name:<28} {rung.adds} ({how})"
        for solver, content in self.spaces.items():
            for flag, values in content.items():
                yield f"  {solver:<24} {flag}: {json.dumps(values)}"

    def run(self, *, jobs: int, screen) -> int:
        """Makes what is left of the rungs; returns the exit code: 1 where a final run failed, 130 or 143 interrupted."""

        def at_work():
            raise Refusal(f"--sweep_dir={self.folder}: a ladder is at work in it; wait for its end, or name another folder")

        with held(self.folder, at_work):
            return self._run(dict(jobs=jobs, screen=screen), screen.say)

    def _run(self, how, say):
        rate, codes = None, []
        for place, rung in enumerate(self.rungs):
            self._write()
            if rung.kind == "rule" and rate is None:
                rung = self._not_available(place, "no rate of the baseline batch came to an accuracy")
            say(f"Rung {rung.name}: {rung.n_a and f'n/a ({rung.n_a})' or rung.adds}")
            if rung.n_a:
                continue
            plan = self._plan(rung, rate=rate if rung.kind == "rule" else None)
            if rung.kind == "rule":
                _set_aside_another_rate(plan)
            codes.append(sweep.run(plan, **how))
            if codes[-1] > 128:
                return codes[-1]
            result = read_object(os.path.join(plan.folder, "result.json"))
            if rung.kind == "baseline_rate" and result["chosen"]:
                rate = result["chosen"]["values"]["learning_rate"]
            refusals = {row["reason"] for row in result["failed"] if row["reason"].startswith("refused")}
            if len(refusals) == 1 and result["trials"]["failed"] == plan.trials:
                self._not_available(place, refusals.pop())
        self._write()
        for line in self._table():
            say(line)
        return 1 if 1 in codes else 0

    def _not_available(self, place, reason):
        self.rungs[place] = dataclasses.replace(self.rungs[place], n_a=reason)
        return self.rungs[place]

    def _why_empty(self, rung):
        if rung.n_a or not self.base.final_seeds:
            return rung.n_a or "no final runs were asked for"
        result = read_object(os.path.join(self.folder, rung.folder, "result.json")) or {}
        nothing_chosen = rung.kind != "rule" and not result.get("chosen")
        return "no trial came to an accuracy" if nothing_chosen else "every final run failed"

    def _write(self):
        write_json(os.path.join(self.folder, "ladder.json"), {
            "schema_version": SCHEMA_VERSION, "settings": self.settings.as_dict(),
            "rungs": [{name: getattr(rung, name) for name in _WRITTEN} for rung in self.rungs]})

    def _table(self):
        marks = [] if self.base.validation_examples else ["selected on test"]
        lines = []
        for rung in self.rungs:
            seeds = [outcome(os.path.join(self.folder, rung.folder, "final", f"seed{seed}"), "test")
                     for seed in self._plan(rung).fresh_seeds] if not rung.n_a else []
            found = [seed.accuracy for seed in seeds if seed and seed.status == "done"]
            diverged = sum(bool(seed) and seed.status == "diverged" for seed in seeds)
            cell = f"{mean_and_range(found)}  n={len(found)}{f', {diverged} diverged' if diverged else ''}"
            if not any(seeds):
                cell = f"n/a: {self._why_empty(rung)}"
            lines.append(f"  {rung.name:<28} {cell}")
            marks += [seed.note for seed in seeds if seed and seed.note and seed.note not in marks]
        yield "; ".join(["Test accuracy, mean (lowest to highest) of the seeds that came to one", *marks]) + ":"
        yield from lines


def _set_aside_another_rate(plan):
    """More trials may have changed the rate that a rung scales: its runs at the earlier rate make room, and stay on record."""
    stored = ((read_object(os.path.join(plan.folder, "sweep.json")) or {}).get("settings") or {}).get("learning_rate")
    if stored in (None, plan.settings.learning_rate):
        return
    os.rename(plan.folder, f"{plan.folder}_at_{stored:g}")
    if os.path.isdir(before := f"{plan.folder}_at_{plan.settings.learning_rate:g}"):
        os.rename(before, plan.folder)


def _problems_of_spaces(where, given, spaces):
    """Sections that are missing or unknown, and rates that do not span equally many decades."""
    known = default_spaces(1)
    for name, content in given.items():
        if name not in known:
            yield (f"{where}: {name}: unknown part{registry.close_matches(name, known) or ';'} a ladder's space has the parts "
                   f"{', '.join(known)}, each a space of its own")
        elif not isinstance(content, dict) or set(content) != set(known[name]):
            yield f"{where}: {name}: a ladder searches {', '.join(known[name])} there; give just those"
    decades = {name: _decades(spaces[name][_RATE]) for name in ("sgd", "lars") if isinstance(spaces[name], dict)
               and _RATE in spaces[name]}
    if None not in decades.values() and len({round(length, 6) for length in decades.values()}) > 1:
        lengths = ", ".join(f"{name} {length:.3g}" for name, length in decades.items())
        yield f"{where}: {_RATE}: rungs are compared, so their rates span equally many decades ({lengths}); widen one of them"


def _decades(content):
    """Of a range of rates, or of the numbers in a list; None for what another check refuses."""
    ends = [content.get("low"), content.get("high")] if isinstance(content, dict) else content
    try:
        return math.log10(max(ends) / min(ends))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
