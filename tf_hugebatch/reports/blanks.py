"""What a report leaves blank, and how to fill it: the exact command and what it costs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

#: Training images a second by network, two CPU cores without an accelerator, measured 2026-11; only to say what a command
#: costs.
IMAGES_PER_SECOND = {"lenet5": 15_000, "lenet": 2_400, "resnet9": 2_000, "resnet50": 5.7}
#: What a run costs beside its images: the start of a process, TensorFlow's import, tracing.
SECONDS_OF_A_START = 8
_HARDWARE, _DAY = "on two CPU cores", 24 * 3600


class Cost(str):
    """What a command costs, in words. seconds: the time that they say, None where the network's speed isn't known."""

    seconds: float | None

    def __new__(cls, words: str, seconds: float | None = None) -> Cost:
        cost = super().__new__(cls, words)
        cost.seconds = seconds
        return cost


@dataclasses.dataclass(frozen=True)
class Blank:
    """A number that no run folder holds.

    what: the cell or curve in words. command: what would fill it, as it is typed; '' where nothing can yet. cost: in words;
    without a command, why there is none.
    """

    what: str
    command: str
    cost: str

    @property
    def seconds(self) -> float | None:
        """How long the command takes; None where that isn't known, or said in words alone."""
        return getattr(self.cost, "seconds", None)


def cost_in_words(model: str, images: float, runs: int = 0) -> Cost:
    """What training on so many images (every epoch of every run counted) costs where there is no accelerator, with the starts
    of so many runs."""
    rate = IMAGES_PER_SECOND.get(model)
    if rate is None:
        return Cost(f"{images:,.0f} images through {model}; its speed here isn't known")
    seconds = images / rate + runs * SECONDS_OF_A_START
    return Cost(f"{images:,.0f} images through {model}: about {_time(seconds)} {_HARDWARE}", seconds)


def cheapest_first(blanks: Iterable[Blank]) -> list[Blank]:
    """By time, those whose time isn't known last; in the order given where it is the same."""
    return sorted(blanks, key=lambda blank: math.inf if blank.seconds is None else blank.seconds)


def total_in_words(blanks: Iterable[Blank]) -> str:
    """What all of them cost, a command that fills several blanks once; apart, those that are over within a day, which a few
    ImageNet runs would hide."""
    times = {blank.command: blank.seconds for blank in blanks if blank.command}
    known = [seconds for seconds in times.values() if seconds is not None]
    if not known:
        return "time unknown"
    words = [f"about {_time(sum(known))} {_HARDWARE} in all"]
    short = [seconds for seconds in known if seconds < _DAY]
    if 0 < len(short) < len(known):
        words.append(f"the {len(short)} of less than a day about {_time(sum(short))}")
    if len(known) < len(times):
        words.append(f"not counting {len(times) - len(known)} whose time can't be added up")
    return ", ".join(words)


def _time(seconds: float) -> str:
    hours = seconds / 3600
    amount, unit = ((60 * hours, "minute") if hours < 2 else (hours, "hour") if hours < 72 else (hours / 24, "day")
                    if hours < 20_000 else (hours / 24 / 365.25, "year"))
    return f"{max(1, round(amount)):,} {unit}{'s' * (round(amount) > 1)}"
