"""Which points of a space a sweep tries: a grid, a quasi-random sequence, or the auto-tuner's suggestions.

Every point is a function of (space, seed, number, results before it), whichever process asks, so a sweep that was stopped
goes on with the points that it would have tried anyway. Optuna's samplers find them; it is imported on first use.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence

from tf_hugebatch.tuning.space import Dimension, Space

METHODS = ("grid", "random", "tpe")
#: Points of the quasi-random sequence before the auto-tuner suggests any, Optuna's own number.
TPE_STARTS_AFTER = 10
_ATTEMPTS = 100


def distribution(dimension: Dimension):
    """Optuna's distribution of a dimension; of a list it is over the places in the list."""
    import optuna.distributions as of

    if dimension.is_range:
        kind = of.IntDistribution if dimension.whole else of.FloatDistribution
        return kind(dimension.low, dimension.high, log=dimension.log)
    places = range(len(dimension.values))
    return of.IntDistribution(0, len(places) - 1) if dimension.is_ordered else of.CategoricalDistribution(places)


def distributions(space: Space) -> dict:
    """Optuna's distributions by flag."""
    return {dimension.flag: distribution(dimension) for dimension in space.dimensions}


def to_parameters(space: Space, values: dict) -> dict:
    """A point in the terms of `distributions`."""
    return {d.flag: values[d.flag] if d.is_range else d.values.index(values[d.flag]) for d in space.dimensions}


def from_parameters(space: Space, parameters: dict) -> dict:
    """The point that stands for parameters, its numbers rounded to what a command line shows."""
    return {d.flag: d.rounded(parameters[d.flag]) if d.is_range else d.values[parameters[d.flag]] for d in space.dimensions}


def quasi_random(space: Space, seed: int) -> Iterator[dict]:
    """Points of a scrambled Sobol sequence, none twice; endless while the space has points left."""
    optuna = _optuna()
    among = distributions(space)
    study = optuna.create_study(sampler=optuna.samplers.QMCSampler(scramble=True, seed=seed))
    # The sampler takes its space from the first trial that has one; this one is no point of the sequence.
    first = {d.flag: d.low if d.is_range else 0 for d in space.dimensions}
    study.add_trial(optuna.trial.create_trial(value=0.0, params=first, distributions=among))
    seen = []
    while len(seen) < space.size:
        point = from_parameters(space, study.ask(among).params)
        if point not in seen:
            seen.append(point)
            yield point


def suggested(space: Space, seed: int, tried: Sequence[tuple[dict, float | None]]) -> dict:
    """The tree-structured Parzen estimator's next point, none that was tried before (Bergstra et al. 2011).

    Args:
        space: with at least one point that was not tried.
        seed: of the sweep; the point is a function of it and of `tried`.
        tried: (point, its accuracy or None while there is none) in order.
    """
    optuna = _optuna()
    among, points = distributions(space), [point for point, _ in tried]
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(
        seed=(seed * 1_000_003 + len(tried)) % 2**32, n_startup_trials=1, multivariate=True, constant_liar=True))
    for point, accuracy in tried:
        state = optuna.trial.TrialState.RUNNING if accuracy is None else optuna.trial.TrialState.COMPLETE
        study.add_trial(optuna.trial.create_trial(
            state=state, value=accuracy, params=to_parameters(space, point), distributions=among))
    for _ in range(_ATTEMPTS):
        point = from_parameters(space, study.ask(among).params)
        if point not in points:
            return point
    # It keeps to a few points of a small space, all of them known.
    return next(point for point in quasi_random(space, seed) if point not in points)


def sequence(space: Space, method: str, seed: int) -> Iterator[dict]:
    """The points that need no results: the whole grid, or the quasi-random sequence (where tpe's search starts)."""
    return iter(space.grid()) if method == "grid" else quasi_random(space, seed)


def first(space: Space, method: str, seed: int, count: int) -> list[dict]:
    """The first `count` points of `sequence`, fewer where it ends."""
    return list(itertools.islice(sequence(space, method, seed), count))


def _optuna():
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # QMCSampler and two options of TPESampler are marked experimental: what they suggest is tested here.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    return optuna
