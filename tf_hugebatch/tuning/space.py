"""The space of a sweep: which flags are searched, and over what. space_file.py reads and checks one."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping

from tf_hugebatch import parsers
from tf_hugebatch.fields import FIELDS

#: A chosen value of a range counts as on its edge within this share of the range's (logarithmic) length.
EDGE_SHARE = 0.05
_RESOLUTION = 1e-3
#: Values that rounding leaves of a range of fractions, at the least: it moves none by more than `_RESOLUTION` of the range.
_LEAST_VALUES = round(0.5 / _RESOLUTION)


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One flag and its values (a list, sorted where they are numbers), or its range from low to high."""

    flag: str
    values: tuple = ()
    low: float | None = None
    high: float | None = None
    log: bool = False
    points: int | None = None
    whole: bool = False

    @property
    def is_range(self) -> bool:
        return self.low is not None

    @property
    def is_ordered(self) -> bool:
        """Whether its values are numbers, so that it has edges."""
        return self.is_range or all(map(is_number, self.values))

    @property
    def ends(self) -> tuple:
        """The values at which a corner can lie: both ends, or every value where there is no order."""
        if self.is_range:
            return self.low, self.high
        return tuple(dict.fromkeys((self.values[0], self.values[-1]))) if self.is_ordered else self.values

    @property
    def grid(self) -> tuple:
        """What a grid takes: the values, or `points` numbers of the range."""
        if not self.is_range:
            return self.values
        shares = [step / (self.points - 1) for step in range(self.points)]
        return tuple(dict.fromkeys(self.rounded(self._at(share)) for share in shares))

    def rounded(self, number: float) -> float | int:
        """A value of the range near `number` that is fit to be read: whole, or of four digits, more in a narrow range."""
        if self.whole:
            return min(max(round(number), self.low), self.high)
        near = (float(f"{number:.{digits}g}") for digits in range(4, 18))
        value = next((value for value in near if abs(value - number) <= _RESOLUTION * (self.high - self.low)), number)
        return min(max(value, self.low), self.high)

    def _at(self, share: float) -> float:
        if self.log:
            return self.low * (self.high / self.low) ** share
        return self.low + share * (self.high - self.low)

    def edge(self, value) -> str | None:
        """'lowest' or 'highest' where the value lies on that edge of what was searched, else None."""
        if self.is_range:
            low, high, value = (math.log(x) if self.log else x for x in (self.low, self.high, value))
            share = (value - low) / (high - low)
            return "lowest" if share <= EDGE_SHARE else "highest" if share >= 1 - EDGE_SHARE else None
        numbers = set(filter(is_number, self.values))  # a list may have null or a word besides
        if len(numbers) < 2 or not is_number(value):
            return None
        return {min(numbers): "lowest", max(numbers): "highest"}.get(value)

    def as_json(self) -> list | dict:
        """As the space file has it."""
        if not self.is_range:
            return list(self.values)
        points = {} if self.points is None else {"points": self.points}
        return {"low": self.low, "high": self.high, "log": self.log, **points}


@dataclasses.dataclass(frozen=True)
class Space:
    """The dimensions of a sweep, sorted by flag: the order of a file's keys decides nothing."""

    dimensions: tuple[Dimension, ...]

    def as_json(self) -> dict:
        """As the space file has it."""
        return {dimension.flag: dimension.as_json() for dimension in self.dimensions}

    def words(self, values: Mapping) -> list[str]:
        """The words of a command line that give a point's values."""
        return [f"--{flag}={as_text(flag, value)}" for flag, value in values.items()]

    def holds(self, values: Mapping, settings: Mapping) -> bool:
        """Whether settings, as a run folder has them, are those of a point."""
        try:
            return all(FIELDS[flag].parse(as_text(flag, settings[flag])) == FIELDS[flag].parse(as_text(flag, value))
                       for flag, value in values.items())
        except (KeyError, ValueError):  # a run that does not say, or says what is no value
            return False

    @property
    def size(self) -> int:
        """How many points it has at the least; a range of fractions counts as the values that rounding is sure to leave."""
        return math.prod(len(d.values) if not d.is_range else round(d.high - d.low) + 1 if d.whole else _LEAST_VALUES
                         for d in self.dimensions)

    def grid(self) -> list[dict]:
        """Every point of the grid, once."""
        flags = [dimension.flag for dimension in self.dimensions]
        return [dict(zip(flags, point)) for point in itertools.product(*(d.grid for d in self.dimensions))]

    def edges(self, values: Mapping) -> list[dict]:
        """Where a point lies on the edge: {"flag", "value", "end": "lowest" or "highest"} each."""
        found = ((d.flag, values[d.flag], d.edge(values[d.flag])) for d in self.dimensions)
        return [{"flag": flag, "value": value, "end": end} for flag, value, end in found if end]


def is_number(value) -> bool:
    """Whether a JSON value is a number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_text(flag: str, value) -> str:
    """A JSON value as the flag takes it; null is what the settings' None is."""
    if value is None:
        return "default" if FIELDS[flag].parse is parsers.exclusions else "none"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(as_text(flag, part) for part in value) or "none" if isinstance(value, (list, tuple)) else str(value)
