"""Merge the levels of settings into one value each, and say which level decided.

Priority, highest first: what the user gave (command line, then flagfiles), the optimizer's preset, the
regime, the rows of the chosen optimizer, schedule and model, the data set's row, the defaults in fields.py. A value
displaces its exclusive partners (fields.EXCLUSIVE) from lower levels. The preset is above the regime because
only a user names one: half displaced by a regime, it would no longer be the rule that it is named after.

A regime's optimizer settings and its rate were chosen together for its own optimizer. When the user chooses
another optimizer, the regime's optimizer settings, learning_rate, lr_scaling and peak_learning_rate are left
out, and the chosen optimizer's row speaks for them. Likewise poly_power, end_learning_rate, cycles and rate_drops for
another schedule.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from tf_hugebatch import regimes, registry
from tf_hugebatch.fields import EXCLUSIVE, FIELDS, Field

Level = tuple[str, dict]  # what to call it, and the values it gives
RATE_NAMES = ("learning_rate", "lr_scaling", "peak_learning_rate")
ROW_NAMES = {table: tuple(field.name for field in FIELDS.values() if field.row == table) for table in registry.TABLES}


@dataclasses.dataclass
class Merged:
    """values and sources of every setting; `given`: setting -> (value, name of the user's level)."""

    values: dict
    sources: dict
    given: dict


@dataclasses.dataclass
class Findings:
    """Problems so far, and the settings they speak of."""

    problems: list[str] = dataclasses.field(default_factory=list)
    failed: set[str] = dataclasses.field(default_factory=set)

    def add(self, names: Sequence[str], problem: str) -> None:
        """A problem with what the user gave for `names`."""
        self.problems.append(problem)
        self.failed.update(names)

    def add_unless_failed(self, found) -> None:
        """Problems of rules.py, unless a setting that they build on has failed before."""
        for name, builds_on, problem in found:
            if not self.failed.intersection(builds_on):
                self.add([name], problem)


def default_of(name: str, values: Mapping) -> object:
    """What a setting is that a settings.json does not know: the setting is younger, and the run had what its rows state, or the
    default.

    values: the rest of that file.
    """
    field = FIELDS[name]
    row = registry.TABLES[field.row].get(str(values.get(field.row))) if field.row else None
    return row.settings.get(name, field.default) if row else field.default


def parse_levels(levels: Sequence[Level], findings: Findings) -> list[Level]:
    """Every value through its field's parser; a value that fails is reported and left out.

    None means 'not given' unless the setting takes none as a value, so a settings.json can be given back as
    it is.
    """
    parsed = []
    for level, given in levels:
        values = {}
        for name, value in given.items():
            if name not in FIELDS:
                matches = registry.close_matches(name, FIELDS) or ";"
                findings.add([name], f"--{name}={value}: unknown setting{matches} --help lists them all")
                continue
            if value is None and not FIELDS[name].optional:
                continue
            try:
                _refuse_empty(value, FIELDS[name])
                values[name] = FIELDS[name].parse(value)
            except ValueError as error:
                where = f" ({level})" if level.startswith("flagfile") else ""
                findings.add([name], f"--{name}={value}{where}: {error}")
        parsed.append((level, values))
    return parsed


def _refuse_empty(value, field: Field) -> None:
    # Most likely a variable of a script that wasn't set: nothing good to guess.
    if isinstance(value, str) and not value.strip():
        raise ValueError(f"an empty value; drop the flag{', or write none' if field.optional else ''}")


def _occupied_sides(group, values: dict) -> list[tuple[str, ...]]:
    # `regime_adaptation=False` is what everybody has: it occupies nothing.
    return [side for side in group
            if any(values.get(name) is not None and values[name] is not False for name in side)]


def refuse_partners(levels: Sequence[Level], findings: Findings) -> None:
    """Partners on one level are refused; the first side stays so that other checks can go on."""
    for level, values in levels:
        for group in EXCLUSIVE:
            sides = _occupied_sides(group, values)
            if len(sides) < 2:
                continue
            names = [name for side in sides for name in side if values.get(name) is not None]
            stated = ", ".join(f"--{name}={values[name]}" for name in names)
            findings.add(names, f"{stated} ({level}): they exclude each other; keep one of "
                         f"{', '.join(' + '.join(side) for side in sides)}")
            for side in sides[1:]:
                for name in side:
                    values.pop(name, None)


def _first(levels: Sequence[Level], name: str, fallback):
    return next((values[name] for _, values in levels if values.get(name) is not None), fallback)


def add_lower_levels(levels: Sequence[Level]) -> list[Level]:
    """The user's levels, then those that follow from the names chosen in them, down to the defaults."""
    dataset = _first(levels, "dataset", FIELDS["dataset"].default)
    regime = _first(levels, "regime", FIELDS["regime"].default)
    recipe = {name: cell.value for name, cell in regimes.of(dataset)[regime].items()}
    optimizer = _first(levels, "optimizer", recipe["optimizer"])
    schedule = _first(levels, "schedule", recipe["schedule"])
    preset = _first(levels, "optimizer_preset", None)
    model = _first(levels, "model", registry.DATASETS[dataset].settings["model"])
    left_out = (*ROW_NAMES["optimizer"], *RATE_NAMES) if optimizer != recipe["optimizer"] else ()
    left_out += ROW_NAMES["schedule"] if schedule != recipe["schedule"] else ()
    rows = [
        (f"optimizer_preset {preset}", registry.PRESETS.get(optimizer, {}).get(preset, {})),
        (f"regime {regime}", {name: value for name, value in recipe.items() if name not in left_out}),
        (f"optimizer row {optimizer}", dict(registry.OPTIMIZERS[optimizer].settings)),
        (f"schedule row {schedule}", dict(registry.SCHEDULES[schedule].settings)),
        (f"model row {model}", dict(registry.MODELS[model].settings)),
        (f"dataset row {dataset}", dict(registry.DATASETS[dataset].settings)),
        ("default", {name: field.default for name, field in FIELDS.items()}),
    ]
    # Through the parsers too: 30 in a row and 30.0 from a user are one value with one hash.
    return [*levels, *((level, {name: value if value is None else FIELDS[name].parse(value)
                                for name, value in values.items()}) for level, values in rows)]


def merge(levels: Sequence[Level], user_levels: int) -> Merged:
    """The highest level that states a setting decides, unless one above it states an exclusive partner."""
    values, sources, given, displaced = {}, {}, {}, {}
    for index, (level, stated) in enumerate(levels):
        for name, value in stated.items():
            if name in values:
                continue
            values[name], sources[name] = (None, displaced[name]) if name in displaced else (value, level)
            if index < user_levels and name not in displaced:
                given[name] = (value, level)
        for group in EXCLUSIVE:
            for side in _occupied_sides(group, stated):
                winners = [name for name in side if name in values and sources[name] == level]
                losers = [name for other in group if other is not side
                          for name in other if name not in values]
                if winners:
                    displaced.update(dict.fromkeys(losers, f"excluded by {winners[0]}"))
    # regime_adaptation is a switch: displaced means off.
    values["regime_adaptation"] = bool(values["regime_adaptation"])
    return Merged(values, sources, given)
