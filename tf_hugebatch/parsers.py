"""Turn what a user wrote (text of a flag, or a Python value) into a checked value of a setting.

A parser takes one value and returns the value to keep, or raises ValueError with the reason and the remedy;
whoever called it puts the setting's name and the value in front. Nothing here looks at a second setting:
rules.py does.
"""

from __future__ import annotations

import math
import numbers
import os
import re
from collections.abc import Callable

from tf_hugebatch import registry

Parser = Callable[[object], object]
_NONE_WORDS = ("none", "null")
#: Of a moving average's memory: what is nearer to 1 is 1 as a float32, and the average never moves.
LARGEST_MEMORY = 0.9999999
#: Nearly the largest float32: beyond it a number is infinite in an update.
LARGEST = 3.4e38
_LARGEST_INTEGER = 2**63 - 1  # of TensorFlow's int64; named only to who goes beyond it


def _range_text(low: float | None, high: float | None, above: bool, below: bool) -> str:
    parts = []
    if low is not None:
        parts.append(f"{'greater than' if above else 'at least'} {low:g}")
    if high is not None:
        parts.append(f"{'less than' if below else 'at most'} {high:,}")
    return " and ".join(parts)


def _check_range(value, low, high, above, below) -> None:
    too_low = low is not None and (value <= low if above else value < low)
    too_high = high is not None and (value >= high if below else value > high)
    if too_low or too_high:
        shown = None if too_low and high == _LARGEST_INTEGER else high
        raise ValueError(f"out of range; give a number {_range_text(low, shown, above, below)}")


def _as_float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (str, numbers.Real)):
        raise ValueError(f"a {type(value).__name__} is no number; give one such as 0.1")
    try:
        return float(value)
    except ValueError:
        raise ValueError("that is no number; give one such as 0.1") from None


def number(*, low: float | None = None, high: float | None = None, above: bool = False,
           below: bool = False) -> Parser:
    """A float in [low, high], finite as a float32 too; `above` opens the lower end, `below` the upper."""

    def parse(value: object) -> float:
        result = _as_float(value)
        if not abs(result) <= LARGEST:
            raise ValueError("not a finite number of 32 bits; give one such as 0.1")
        _check_range(result, low, high, above, below)
        return result

    return parse


def integer(*, low: int | None = None, high: int = _LARGEST_INTEGER, words: tuple[str, ...] = ()) -> Parser:
    """A whole number in [low, high], or one of `words`."""
    example = " or ".join(["a whole number such as 64", *words])

    def parse(value: object) -> int | str:
        if isinstance(value, str):
            if value.strip() in words:
                return value.strip()
            try:
                result = int(value)
            except ValueError:
                raise ValueError(f"that is no whole number; give {example}") from None
        elif isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise ValueError(f"a {type(value).__name__} is no whole number; give {example}")
        else:
            result = int(value)
        _check_range(result, low, high, above=False, below=False)
        return result

    return parse


def boolean(value: object) -> bool:
    """true or false; 1, 0, yes, no, t, f, y, n too."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in ("true", "t", "1", "yes", "y"):
        return True
    if word in ("false", "f", "0", "no", "n"):
        return False
    raise ValueError("neither true nor false; give one of them")


def choice(*names: str) -> Parser:
    """One of `names`."""

    def parse(value: object) -> str:
        if value not in names:
            matches = registry.close_matches(value, names) or ";"
            raise ValueError(f"unknown{matches} choose one of {', '.join(names)}")
        return value

    return parse


def names(*known: str) -> Parser:
    """Some of `known`, separated by commas, or a tuple of them; each once, in the order of `known`. 'none' is none of them."""

    def parse(value: object) -> tuple[str, ...]:
        if value is None or isinstance(value, str) and value.strip().lower() in _NONE_WORDS:
            return ()
        parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        if not isinstance(parts, (tuple, list)):
            raise ValueError(f"these are no names; choose among {', '.join(known)}")
        given = {choice(*known)(part) for part in parts}
        return tuple(name for name in known if name in given)

    return parse


def path(value: object) -> str:
    """A path of the file system, with ~ expanded; whether it exists is another question."""
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError("that is no path; name a folder")
    if "\0" in os.fspath(value):
        raise ValueError("no path has a NUL byte in it; take it out")
    return os.path.expanduser(os.fspath(value))


def optional(parse: Parser) -> Parser:
    """What `parse` takes, or none (None in Python)."""

    def parse_or_none(value: object) -> object:
        if value is None or isinstance(value, str) and value.strip().lower() in _NONE_WORDS:
            return None
        return parse(value)

    return parse_or_none


def bounds(value: object) -> tuple[float, float]:
    """'lo,hi' or a pair, 0 <= lo <= hi, lo finite; hi may be inf."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (tuple, list)) or len(parts) != 2:
        raise ValueError("bounds are two numbers, lo,hi; give for example 0.01,100")
    low, high = (_as_float(part) for part in parts)
    if math.isnan(low) or math.isnan(high) or math.isinf(low) or low < 0:
        raise ValueError("bounds can't be negative or nan, and the lower one must be finite; give for "
                         "example 0,10")
    if high == 0:
        raise ValueError("an upper bound of 0 lets nothing through; give for example 0,10")
    if low > high:
        raise ValueError(f"the lower bound {low:g} is above the upper bound {high:g}; swap them")
    return low, high


def ratios(value: object) -> tuple[tuple[str, float], ...]:
    """'regex=ratio,...', a dict, or pairs: a positive number for each regular expression."""
    if isinstance(value, str):
        value = [part.rsplit("=", 1) for part in value.split(",")]
    parts = list(value.items()) if isinstance(value, dict) else value
    if not isinstance(parts, (tuple, list)) or any(
            not isinstance(part, (tuple, list)) or len(part) != 2 for part in parts):
        raise ValueError("these are no ratios; give for example kernel=0.01,bias=0.1")
    patterns = exclusions([pattern for pattern, _ in parts])
    return tuple(zip(patterns, (number(low=0, above=True)(ratio) for _, ratio in parts)))


def at_epochs(factor: Parser) -> Callable[[object], tuple[tuple[float, object], ...]]:
    """'epoch:factor,...' or pairs, epochs ascending: what happens when an epoch begins."""

    def parse(value: object) -> tuple[tuple[float, object], ...]:
        parts = [part.split(":") for part in value.split(",")] if isinstance(value, str) else value
        if not isinstance(parts, (tuple, list)) or not parts or any(
                not isinstance(part, (tuple, list)) or len(part) != 2 for part in parts):
            raise ValueError("give epochs and factors, such as 10:5,20:5")
        found = tuple((number(low=0, above=True)(epoch), factor(by)) for epoch, by in parts)
        if any(later <= earlier for (earlier, _), (later, _) in zip(found, found[1:])):
            raise ValueError("the epochs don't ascend; put them in order, each once")
        return found

    return parse


def pair(value: tuple) -> str:
    """A pair of `ratios` or `at_epochs` as it is written."""
    first, second = (one if isinstance(one, str) else repr(one).removesuffix(".0") for one in value)
    return f"{first}{'=' if isinstance(value[0], str) else ':'}{second}"


def sizes(value: object) -> tuple[int, int]:
    """'train,test' or a pair: numbers of examples, at least one of each."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (tuple, list)) or len(parts) != 2:
        raise ValueError("give the number of training and of test examples, such as 240,60")
    train, test = (integer(low=1)(part) for part in parts)
    return train, test


def step_range(value: object) -> tuple[int, int]:
    """'a,b' or a pair of updates counted from 1, a <= b; both are included."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (tuple, list)) or len(parts) != 2:
        raise ValueError("give the first and the last update, such as 10,12")
    first, last = (integer(low=1)(part) for part in parts)
    if first > last:
        raise ValueError(f"the first update {first} comes after the last, {last}; swap them")
    return first, last


def exclusions(value: object) -> tuple[str, ...] | None:
    """Comma-separated regular expressions on `variable.path`; 'none' or 'null' exclude nothing.

    None, or 'default', stands for the default roles. A tuple or list can hold an expression with a comma in
    it.
    """
    if value is None or isinstance(value, str) and value.strip().lower() == "default":
        return None
    if isinstance(value, str):
        parts = [] if value.strip().lower() in _NONE_WORDS else value.split(",")
    elif isinstance(value, (tuple, list)):
        parts = list(value)
    else:
        raise ValueError("these are no regular expressions; separate them by commas, or give none")
    for part in parts:
        try:
            re.compile(part)
        except (re.error, TypeError) as error:
            raise ValueError(f"{part!r} is no regular expression ({error}); correct it") from None
        if not part:
            raise ValueError("an empty regular expression matches every variable; drop the stray comma")
    return tuple(parts)
