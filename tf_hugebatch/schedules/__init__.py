"""Learning-rate schedules: Keras LearningRateSchedule objects that count optimizer updates.

Every schedule that appendix 6.5 of You et al. 2020 names is here; `build` makes the one that a run's settings
describe.
"""

from tf_hugebatch import registry
from tf_hugebatch.schedules.cyclical import CosineRestarts, Cyclical
from tf_hugebatch.schedules.decay import Constant, Cosine, Polynomial, Steps
from tf_hugebatch.schedules.scaled import Scaled
from tf_hugebatch.schedules.warmup import Warmup

__all__ = [
    "Constant", "Cosine", "CosineRestarts", "Cyclical", "Polynomial", "Scaled", "Steps", "Warmup",
    "build", "get", "names",
]

# Settings whose flag carries a prefix that the constructor's argument does without.
_ARGUMENT = {"poly_power": "power"}


def names():
    """Names of all schedules, in the registry's order."""
    return list(registry.SCHEDULES)


def get(name, peak_learning_rate, steps, **overrides):
    """The schedule that a registry row names, with the row's values where none is given.

    Args:
        name: a row of the registry, for example "cosine_fine".
        peak_learning_rate: the highest rate.
        steps: updates from first to last.
        **overrides: settings that the row takes (`poly_power`, `end_learning_rate`, `cycles`, and `rate_drops`, here by
            updates, which has to be given).

    Raises:
        UnknownName: no such row.
        ValueError: a setting that the row does not take, one that it needs, or a value that the schedule refuses.
    """
    row = registry.find("schedule", name)
    unknown = sorted(set(overrides) - set(row.flags))
    if unknown:
        taken = ", ".join(row.flags) or "none"
        raise ValueError(f"schedule {name!r} does not take {', '.join(unknown)}: leave it out. "
                         f"It takes: {taken}.")
    if "rate_drops" in row.flags and "rate_drops" not in overrides:
        raise ValueError(f"schedule {name!r} needs rate_drops, (update, factor) pairs: the row's own are of epochs. Give them.")
    values = {flag: overrides.get(flag, row.settings[flag]) for flag in row.flags}
    arguments = {_ARGUMENT.get(flag, flag): value for flag, value in values.items()}
    return row.resolve()(peak_learning_rate, steps, **row.arguments, **arguments)


def build(settings):
    """The schedule of a run: warm-up to the peak, then the row that `settings.schedule` names.

    With decay_from="warmup_end" the decay takes the total_updates - warmup_updates that are left; with
    "start" it takes all of them and is joined part of the way down.

    Args:
        settings: any object with the attributes schedule, total_updates, warmup_updates, peak_rate,
            warmup_shape, warmup_from, decay_from, and those of poly_power, end_learning_rate, cycles that the
            row takes; with `rate_drops` also `stages`, a `durations.Stages`, that turns their epochs into updates.

    Raises:
        ValueError: the warm-up is longer than the run, or a value that the schedule refuses.
    """
    total, warmup = settings.total_updates, settings.warmup_updates
    if warmup > total:
        raise ValueError(
            f"a warm-up of {warmup} updates is longer than the run of {total}: the peak would never be "
            f"reached. Shorten --warmup_epochs or --warmup_steps, or train longer."
        )
    left = total if settings.decay_from == "start" else total - warmup
    overrides = {flag: getattr(settings, flag) for flag in registry.find("schedule", settings.schedule).flags}
    if overrides.get("rate_drops"):
        begin = warmup if settings.decay_from == "warmup_end" else 0
        overrides["rate_drops"] = _by_updates(overrides["rate_drops"], settings.stages, begin)
    # A warm-up that fills the whole run leaves a decay of no updates: it is never read, and 1 keeps it valid.
    after = get(settings.schedule, settings.peak_rate, max(left, 1), **overrides)
    if warmup == 0:
        return after
    return Warmup(warmup, after, shape=settings.warmup_shape, start=settings.warmup_from,
                  decay_from=settings.decay_from)


def _by_updates(drops, stages, begin):
    """Drops by epochs as drops by updates after `begin`; those that fall on one update, or before, become one."""
    by_updates = {}
    for epoch, factor in drops:
        update = max(0, stages.whole_updates(epoch) - begin)
        by_updates[update] = by_updates.get(update, 1) * factor
    return tuple(by_updates.items())
