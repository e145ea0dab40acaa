"""What a report leaves blank, and how to fill it: the exact command and what it costs."""

import dataclasses

#: Training images a second by network, two CPU cores without an accelerator, measured 2026-11; only to say what a command
#: costs.
IMAGES_PER_SECOND = {"lenet5": 15_000, "lenet": 2_400, "resnet50": 5.7}


@dataclasses.dataclass(frozen=True)
class Blank:
    """A number that no run folder holds.

    what: the cell or curve in words. command: what would fill it, as it is typed; '' where nothing can yet. cost: in words;
    without a command, why there is none.
    """

    what: str
    command: str
    cost: str


def cost_in_words(model, images):
    """What training on so many images (every epoch of every run counted) costs where there is no accelerator."""
    rate = IMAGES_PER_SECOND.get(model)
    if rate is None:
        return f"{images:,.0f} images through {model}; its speed here isn't known"
    hours = images / rate / 3600
    amount, unit = (60 * hours, "minute") if hours < 2 else (hours, "hour") if hours < 72 else (hours / 24, "day")
    time = f"{max(1, round(amount)):,} {unit}{'s' * (round(amount) > 1)}"
    return f"{images:,.0f} images through {model}: about {time} on two CPU cores"
