"""Settings: every value of one run, resolved, checked and immutable.

    settings = Settings(dataset="mnist5k", batch_size="full", optimizer="lars")     # raises Refusal
    settings, problems = resolve([("command line", {...}), ("flagfile a.flags", {...})])

Every problem is named at once. levels.py says how levels are merged, fields.py which settings there are,
rules.py what they must satisfy together.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence

from tf_hugebatch import dataset_sizes, durations, levels, regimes, registry, rules
from tf_hugebatch.fields import FIELDS, GROUPS, kind_of
from tf_hugebatch.parsers import exclusions, pair

# Flags are named for users; where an optimizer's constructor has its own word, this is it.
CONSTRUCTOR_NAMES = {"lars_denominator": "denominator"}


class Refusal(ValueError):
    """Settings or data that can't be used. `problems`: one sentence each, with value, reason and remedy."""

    def __init__(self, problems: Sequence[str] | str):
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


SCHEMA_VERSION = 1  # of settings.json; what a newer one wrote is refused, not guessed at


class Settings:
    """Every setting of a run as an attribute, named as its flag.

    Settings(**given) resolves `given` against the regime, rows and defaults; raises Refusal with all
    problems. What settings.json holds, "schema_version" included, gives the run's settings again.
    `sources[name]` says which level decided; `failed` names the settings that have a problem (see
    `resolve`). Settings that the chosen optimizer or schedule doesn't take are None, as are those that an
    exclusive partner displaced. `batch_size` is a number also where 'full' was given.
    """

    def __init__(self, **given):
        version = given.pop("schema_version", SCHEMA_VERSION)
        if version != SCHEMA_VERSION:
            raise Refusal(f"schema_version={version}: this release reads {SCHEMA_VERSION}; use the release that wrote it")
        resolved, problems = resolve([("arguments", given)])
        if problems:
            raise Refusal(problems)
        self.__dict__.update(resolved.__dict__)

    @classmethod
    def _of(cls, merged: levels.Merged, given_levels: Sequence[levels.Level],
            failed: Iterable[str] = ()) -> Settings:
        self = cls.__new__(cls)
        self.__dict__.update(merged.values, sources=dict(merged.sources), failed=frozenset(failed),
                             _given_levels=tuple(given_levels))
        return self

    def __setattr__(self, name, value):
        raise AttributeError(f"settings are immutable; use settings.replace({name}={value!r})")

    def __delattr__(self, name):
        raise AttributeError(f"settings are immutable; {name} can't be deleted")

    def __eq__(self, other):
        return isinstance(other, Settings) and self.as_dict() == other.as_dict()

    def __hash__(self):
        return hash(self.experiment_hash())

    def __repr__(self):
        stated = {name: value for _, given in reversed(self._given_levels) for name, value in given.items()}
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in stated.items())})"

    def replace(self, **changes) -> Settings:
        """The same given values with `changes` above them, resolved again; raises Refusal."""
        resolved, problems = resolve([("arguments", changes), *self._given_levels])
        if problems:
            raise Refusal(problems)
        return resolved

    # What follows from the values.

    @property
    def train_examples(self) -> int:
        """N: training examples after the validation split."""
        return self.sizes[0] - self.validation_examples

    @property
    def sizes(self) -> tuple[int, int]:
        """Training examples before the split, and test examples: dataset_size, or the data set's own."""
        return _sizes(self.__dict__)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of the images that the network sees."""
        return self._facts.get("image_shape") or (self.image_size, self.image_size, 3)

    @property
    def baseline_batch(self) -> int:
        """B0: the batch at which learning_rate is stated."""
        return self._facts["baseline_batch"]

    @property
    def stages(self) -> durations.Stages:
        """Which updates have which batch; one stage unless there is batch_growth."""
        return durations.Stages(self.batch_size, self.train_examples, self.batch_growth or ())

    @property
    def total_updates(self) -> int:
        """Updates in the run: train_steps, those that `epochs` take, or the baseline's (`regime_adaptation`)."""
        if self.train_steps is not None:
            return self.train_steps
        if self.regime_adaptation:
            return durations.updates_for_epochs(self._facts["baseline_epochs"], self.train_examples,
                                                self.baseline_batch)
        return self.stages.whole_updates(self.epochs)

    @property
    def warmup_updates(self) -> int:
        """Updates of warm-up: warmup_steps, or those that warmup_epochs take, rounded."""
        if self.warmup_steps is not None:
            return self.warmup_steps
        return self.stages.nearest_update(self.warmup_epochs)

    @property
    def updates_per_epoch(self) -> float:
        """N / B, of the first stage."""
        return self.train_examples / self.batch_size

    @property
    def peak_rate(self) -> float:
        """The learning rate after the warm-up: peak_learning_rate, or learning_rate scaled to the batch."""
        if self.peak_learning_rate is not None:
            return self.peak_learning_rate
        return durations.scaled_learning_rate(self.learning_rate, self.batch_size, self.baseline_batch,
                                              self.lr_scaling)

    @property
    def _facts(self) -> Mapping:
        return registry.DATASETS[self.dataset].facts

    def optimizer_arguments(self) -> dict:
        """Keyword arguments for `optimizers.get(settings.optimizer, learning_rate=..., **arguments)`."""
        return {CONSTRUCTOR_NAMES.get(name, name): getattr(self, name)
                for name in registry.OPTIMIZERS[self.optimizer].flags}

    def model_arguments(self) -> dict:
        """Values of the settings that the model's row takes."""
        return {name: getattr(self, name) for name in registry.MODELS[self.model].flags}

    def as_dict(self) -> dict:
        """Every setting, ready for JSON (pairs as lists, inf as text); Settings(**as_dict()) is equal."""
        return {name: _for_json(getattr(self, name)) for name in FIELDS}

    def experiment_hash(self) -> str:
        """sha256, in hex, of the experiment's values: what must agree when a run is resumed."""
        return _experiment_hash(self.as_dict())

    def text(self) -> str:
        """Every setting that applies, by group, with the level that decided where that isn't the default.

        A regime's value carries its mark: paper, MLPerf or ours.
        """
        lines = []
        for group in GROUPS:
            lines.append(group)
            for name, field in FIELDS.items():
                if field.group != group:
                    continue
                source = self.sources[name]
                if source.startswith(("not taken", "excluded")):
                    continue
                value = getattr(self, name)
                value = "default" if value is None and field.parse is exclusions else _in_words(value)
                if source.startswith("regime "):
                    source += f": {regimes.of(self.dataset)[self.regime][name].mark}"
                origin = "" if source == "default" else f" ({source})"
                lines.append(f"  {name:<24} {value:<14}{origin}".rstrip())
        lines += [
            "what follows",
            f"  {'experiment':<24} {self.experiment_hash()[:8]}",
            f"  {'training examples':<24} {self.train_examples:,}",
            f"  {'updates':<24} {self.total_updates:,}, {self.updates_per_epoch:g} an epoch, the first "
            f"{self.warmup_updates:,} warming up",
            *(f"  {'batch grows':<24} to {stage.batch_size:,} after {stage.update:,} updates, epoch "
              f"{float(self.stages.epoch(stage.update)):.4g}" for stage in self.stages[1:]),
            f"  {'peak learning rate':<24} {self.peak_rate:g}",
        ]
        return "\n".join(lines)


def _for_json(value):
    if isinstance(value, (tuple, list)):
        return [_for_json(part) for part in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def _in_words(value) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(pair(part) if isinstance(part, tuple) else _in_words(part) for part in value) or "none"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _experiment_hash(values: dict) -> str:
    # Blank values stay out, so a setting that only other runs can have leaves this run's hash alone.
    experiment = {name: value for name, value in values.items()
                  if value is not None and kind_of(name, values) == "experiment"}
    return hashlib.sha256(json.dumps(experiment, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _sizes(values: dict) -> tuple[int, int]:
    facts = registry.DATASETS[values["dataset"]].facts
    return values["dataset_size"] or (facts["train_examples"], facts["test_examples"])


def _count_examples(merged: levels.Merged, findings: levels.Findings) -> None:
    # How many updates a run has depends on N, so a subset is counted before anything else is resolved.
    values = merged.values
    row = registry.DATASETS[values["dataset"]]
    if "dataset_size" not in row.flags or values["data_dir"] is None or "data_dir" in findings.failed:
        return
    found = dataset_sizes.find_sizes(values["data_dir"])
    if found is None or found == _sizes(values):
        return
    if values["dataset_size"] is not None:
        findings.add(["dataset_size"], f"--dataset_size={','.join(map(str, values['dataset_size']))}: data_dir holds "
                     f"{found[0]:,} training and {found[1]:,} test examples; drop the flag, they are counted")
    values["dataset_size"], merged.sources["dataset_size"] = found, "counted in data_dir"


def resolve(given_levels: Sequence[levels.Level]) -> tuple[Settings, list[str]]:
    """Settings from levels (name, {setting: text or value}), highest first, and every problem found.

    With problems the settings are the nearest that can be had (a value that fails is passed over), good
    enough to look for further problems elsewhere, never to run; `settings.failed` names what not to build on.
    """
    findings = levels.Findings()
    parsed = levels.parse_levels(given_levels, findings)
    levels.refuse_partners(parsed, findings)
    merged = levels.merge(levels.add_lower_levels(parsed), user_levels=len(parsed))
    values = merged.values
    findings.add_unless_failed(rules.not_taken(merged))
    findings.add_unless_failed(rules.bounds(merged))
    findings.add_unless_failed(rules.noise(merged))
    _count_examples(merged, findings)
    findings.add_unless_failed(rules.data(merged))
    train_examples = _sizes(values)[0] - values["validation_examples"]
    if values["batch_size"] == "full":
        values["batch_size"] = train_examples
    if values["bn_span"] == "full":
        values["bn_span"] = values["batch_size"]
    findings.add_unless_failed(rules.batch(merged, train_examples))
    findings.add_unless_failed(rules.layout(merged))
    findings.add_unless_failed(rules.reporting(merged))
    settings = Settings._of(merged, parsed)
    if _keep_shares(merged, settings):
        settings = Settings._of(merged, parsed)
    findings.add_unless_failed(
        rules.duration(merged, settings.total_updates, settings.warmup_updates, settings.peak_rate))
    findings.add_unless_failed(rules.growth(merged, settings.stages, train_examples, settings.total_updates))
    findings.add_unless_failed(rules.drops(
        merged, settings.stages, settings.total_updates, settings.warmup_updates))
    if values["run_dir"] is None:
        values["run_dir"] = os.path.join("runs", f"{values['dataset']}-{settings.experiment_hash()[:8]}")
    return Settings._of(merged, parsed, findings.failed), findings.problems


def _keep_shares(merged, settings) -> bool:
    """Epochs that no user gave were chosen for runs of so many epochs, and keep their share of others.

    A regime's warm-up does in a run that is shorter than this warm-up, and under regime adaptation, which stretches all
    periods of a schedule alike (Hoffer et al. 2017, section 5); there a schedule row's own drops do too. What a user gave is in
    passes through the data and stays as it is; a warm-up that doesn't fit is refused (`rules.duration`). Returns whether
    anything has changed.
    """
    values, sources, passes = merged.values, merged.sources, float(settings.stages.epoch(settings.total_updates))
    changed, adapted = False, values["regime_adaptation"]
    if (level := sources["warmup_epochs"]).startswith("regime ") and (
            adapted or settings.warmup_updates > settings.total_updates):
        share = values["warmup_epochs"] / regimes.of(values["dataset"])[values["regime"]]["epochs"].value
        values["warmup_epochs"], changed = share * passes, True
        sources["warmup_epochs"] = f"{level}, its share of {'an adapted' if adapted else 'a shorter'} run, {share:.3g}"
    if adapted and values["rate_drops"] and (level := sources["rate_drops"]).startswith("schedule"):
        stretch = passes / registry.DATASETS[values["dataset"]].facts["baseline_epochs"]
        values["rate_drops"], changed = tuple((stretch * epoch, by) for epoch, by in values["rate_drops"]), True
        sources["rate_drops"] = f"{level}, stretched by regime adaptation, {stretch:.3g}"
    return changed
