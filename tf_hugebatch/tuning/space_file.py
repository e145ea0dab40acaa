"""Read a space from JSON and check it against the runs that it is for, every problem at once.

    {"learning_rate": {"low": 0.01, "high": 1.0, "log": true, "points": 5}, "warmup_epochs": [0, 2, 5]}

A list holds the values themselves. A range holds every number between its ends, whole ones for a flag that takes no
others; `points` says how many of them a grid takes, evenly spaced (by ratio where log is true).
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence

from tf_hugebatch import command_line, registry
from tf_hugebatch.fields import EXCLUSIVE, FIELDS, kind_of
from tf_hugebatch.settings import Refusal
from tf_hugebatch.tuning.space import Dimension, Space, as_text, is_number

_SET_BY_THE_SWEEP = {
    "seed": "the search has one seed, and the final runs have fresh ones",
    "validation_examples": "the sweep splits the training set to select, and not for the final runs",
    "dataset": "one sweep compares settings on one data set",
    "dataset_size": "one sweep compares settings on one data set",
    "regime": "it stands for other settings, which can be searched one by one",
    "optimizer_preset": "it stands for other settings, which can be searched one by one",
    "on_divergence": "a run that rewinds is another than one that stops, and what tells them apart is known once it is given",
}
_MOST_CORNERS = 4096
_MOST_POINTS = 1000
#: Of a range, beside its ends: below, rounding leaves too few values for a search.
_LEAST_WIDTH = 1e-9
_RANGE_KEYS = ("low", "high", "log", "points")


def read(path: str | os.PathLike) -> dict:
    """The object in a space file; raises Refusal for a file that is missing, damaged, or holds anything else."""
    where, twice = f"--space={os.fspath(path)}", []

    def without_duplicates(pairs):
        names = [name for name, _ in pairs]
        twice.extend(sorted({name for name in names if names.count(name) > 1}))
        return dict(pairs)

    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file, object_pairs_hook=without_duplicates)
    except OSError as error:
        raise Refusal(f"{where}: {error.strerror}; name a JSON file, such as those in flags/sweeps") from None
    except (ValueError, RecursionError) as error:  # brackets nested by the thousand
        raise Refusal(f"{where}: it is no JSON ({error}); correct it") from None
    if twice:
        raise Refusal([f"{where}: {name} stands there twice; keep one" for name in twice])
    if not isinstance(content, dict):
        raise Refusal(f"{where}: it holds a {type(content).__name__}, not an object; write {{\"flag\": [values]}}")
    return content


def make(content: Mapping, words: Sequence[str], *, where: str, grid: bool = False, dataset: str = "mnist") -> Space:
    """The space that a file's object describes, for runs with these words of a command line.

    Args:
        content: flag -> list of values or range.
        words: the base of every run, `--name=value` each; their own problems are not told here.
        where: what to call the file in a problem.
        grid: whether every range needs `points`.
        dataset: the data set where the words name none.

    Raises:
        Refusal: every problem of the space, and of its corners with the words.
    """
    if not content:
        raise Refusal(f"{where}: the space is empty; give at least one flag with its values")
    problems: list[str] = []
    given = {word.lstrip("-").partition("=")[0] for word in words}
    values = command_line.parse(words, program="", description="", dataset=dataset).settings.as_dict()
    dimensions = []
    for flag in sorted(content):
        found = list(_problems_of_a_flag(flag, given, values))
        if flag in FIELDS:
            try:
                dimensions.append(_dimension(flag, content[flag], grid))
            except ValueError as error:
                found += error.args[0] if isinstance(error.args[0], list) else [str(error)]
        problems += [f"{where}: {flag}: {problem}" for problem in found]
    problems += [f"{where}: {problem}" for problem in _partners(content, given)]
    space = Space(tuple(dimensions))
    if not problems:
        problems = [f"{where}: {problem}" for problem in _corner_problems(space, words, dataset)]
    if problems:
        raise Refusal(problems)
    return space


def _problems_of_a_flag(flag, given, values):
    if flag not in FIELDS:
        yield f"unknown flag{registry.close_matches(flag, FIELDS) or '; --help lists them all'}"
    elif flag in _SET_BY_THE_SWEEP:
        yield f"{_SET_BY_THE_SWEEP[flag]}; take it out"
    elif kind_of(flag, values) != "experiment":
        yield f"a {FIELDS[flag].kind} flag changes no result, so there is nothing to search; take it out"
    elif flag in given:
        yield "it is searched, and the command line gives it too; drop it from one of the two"


def _partners(content, given):
    """Flags that exclude each other, both searched, or one searched and the other on the command line."""
    for group in EXCLUSIVE:
        stated = {name: "searched" if name in content else "command line"
                  for side in group for name in side if name in content or name in given}
        sides = [side for side in group if any(name in stated for name in side)]
        if len(sides) > 1 and "searched" in stated.values():
            named = ", ".join(f"{name} ({origin})" for name, origin in stated.items())
            yield f"{named}: they exclude each other; keep one of {', '.join(' + '.join(side) for side in sides)}"


def _dimension(flag, content, grid) -> Dimension:
    """Raises ValueError with one text or a list of them."""
    if isinstance(content, list):
        return Dimension(flag, _list(flag, content))
    if not isinstance(content, dict):
        raise ValueError(f"{json.dumps(content)} is neither a list of values nor a range; write [{json.dumps(content)}]")
    unknown = [f"{key} is no part of a range{registry.close_matches(key, _RANGE_KEYS) or '; take it out'}"
               for key in content if key not in _RANGE_KEYS]
    if unknown:
        raise ValueError(unknown)
    return _range(flag, content, grid)


def _list(flag, values) -> tuple:
    if not values:
        raise ValueError("an empty list; give its values, or take the flag out")
    problems, parsed = [], []
    for value in values:
        try:
            parsed.append(_parsed(flag, value))
            if parsed.count(parsed[-1]) > 1:
                problems.append(f"{json.dumps(value)} stands there twice; keep one")
        except ValueError as error:
            problems.append(f"{json.dumps(value)}: {error}")
    if problems:
        raise ValueError(problems)
    return tuple(sorted(values) if all(map(is_number, values)) else values)


def _parsed(flag, value):
    """As the flag's parser takes it."""
    if value is None and not FIELDS[flag].optional:
        raise ValueError("the flag takes no none; give a value")
    parsed = FIELDS[flag].parse(as_text(flag, value))
    if isinstance(value, str) and is_number(parsed):
        raise ValueError(f"that is text, which has no order and so no edge; write {value.strip()} without quotes")
    if isinstance(value, list) and not isinstance(parsed, (list, tuple)):
        raise ValueError("a list inside the list, where the flag takes one value; take it out of its brackets")
    return parsed


def _range(flag, content, grid) -> Dimension:
    low, high, log, points = content.get("low"), content.get("high"), content.get("log", False), content.get("points")
    problems = [f"{name} is {json.dumps(end)}; a range needs a number there" for name, end in (("low", low), ("high", high))
                if not is_number(end)]
    if not isinstance(log, bool):
        problems.append(f"log is {json.dumps(log)}; write true or false")
    if points is None and grid:
        problems.append("a grid over a range needs the number of its points; add \"points\", or list the values")
    elif points is not None and (not isinstance(points, int) or isinstance(points, bool) or points < 2):
        problems.append(f"points is {json.dumps(points)}; give a whole number, at least 2")
    elif points is not None and points > _MOST_POINTS:
        problems.append(f"points is {points}, of one flag alone; give at most {_MOST_POINTS}")
    if is_number(low) and is_number(high) and low >= high:
        problems.append(f"low {low} is not below high {high}; swap them, or list a single value as [{low}]")
    elif is_number(low) and is_number(high) and high - low < _LEAST_WIDTH * max(abs(low), abs(high)):
        problems.append(f"low {low} and high {high} are one number but for rounding; list it as [{low}]")
    if log is True and is_number(low) and low <= 0:
        problems.append(f"low {low} has no logarithm; give a number above 0, or \"log\": false")
    for end in filter(is_number, (low, high)):
        try:
            _parsed(flag, end)
        except ValueError as error:
            problems.append(f"{end}: {error}")
    if problems:
        raise ValueError(problems)
    if not _takes_fractions(flag, low, high):
        return Dimension(flag, (), int(low), int(high), log, points, whole=True)
    return Dimension(flag, (), low, high, log, points)


def _takes_fractions(flag, low, high) -> bool:
    try:
        FIELDS[flag].parse(str(low + (high - low) / math.pi))  # never whole between whole ends
    except ValueError:
        return False
    return True


def _corner_problems(space, words, dataset):
    """What no run could have: each problem of a corner once, with the first corner that has it."""
    known = set(_problems(words, dataset))
    corners = itertools.product(*(dimension.ends for dimension in space.dimensions))
    for corner in itertools.islice(corners, _MOST_CORNERS):
        flags = space.words(dict(zip((d.flag for d in space.dimensions), corner)))
        for problem in _problems([*words, *flags], dataset):
            if problem not in known:
                known.add(problem)
                yield f"at the corner {' '.join(flags)}: {problem}"


def _problems(words, dataset) -> list[str]:
    return command_line.parse(words, program="", description="", dataset=dataset).problems
