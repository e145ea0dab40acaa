"""Where large and huge batches begin for each optimizer of the frontier: definitions 2.1 and 2.2 with one baseline for all.

A and xi are tuned momentum SGD's at B0, so that every optimizer is asked for the same accuracy and loss. Of an optimizer

    B_L    below it the setting that was tuned at B0, its rate scaled by a rule, reaches 0.995 A at a loss of at most 1.2 xi
           (the definition's words are of linear scaling; the square root is read likewise)
    B_H    what its search at the batch chose reaches 0.995 A up to B_H: "no technique" is "nothing in this optimizer's space"

Verdicts, intervals and what counts as undecided are regimes.py's; a search that reaches the target with more trials than the
comparison has is undecided too. A verdict rests on the baseline's setting as well as on its own: on test where either does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from .. import published
from . import baselines, regimes
from .commands import TRIALS
from .outcomes import train_size
from .sheets import mark_of
from .stats import Group

TUNED = "tuned"


@dataclasses.dataclass(frozen=True)
class Limits:
    """boundaries: of each (optimizer, 'tuned' or the rule); a verdict's group says on what split it rests. doubt: why there are
    none, or ''. selected_on: the split that chose the baseline's setting."""

    boundaries: Mapping[tuple[str, str], regimes.Boundary]
    doubt: str = ""
    selected_on: str = ""


def find(groups: Mapping[tuple[str, str, int], Group], baseline_batch: int, baseline: str = "sgd") -> Limits:
    """The limits of every optimizer.

    Args:
        groups: of (optimizer, 'tuned' or a rule, batch), all of one family. Those of a rule scale what was tuned at B0.
        baseline_batch: B0.
        baseline: the optimizer whose tuned setting at B0 gives A and xi.
    """
    of_baseline = groups.get((baseline, TUNED, baseline_batch))
    if of_baseline is None:
        return Limits({}, f"{baseline} is not tuned in this space at {baseline_batch:,} yet, which A and xi are of")
    if doubt := baselines.doubt(of_baseline):
        return Limits({}, doubt)
    if (trials := of_baseline.trials or 0) < TRIALS:
        return Limits({}, f"the search of {baseline} at {baseline_batch:,} has {trials} trials, fewer than {TRIALS}")
    target = published.TARGET_SHARE * of_baseline.accuracy.mean
    loss_limit = published.LOSS_FACTOR * of_baseline.loss.mean if of_baseline.loss else None
    found = {}
    for name, by in dict.fromkeys((name, by) for name, by, _ in groups):
        # At B0 a rule changes nothing: what was tuned there is its first batch.
        line = {batch: group for (one, how, batch), group in groups.items()
                if one == name and (how == by or (how == TUNED and batch == baseline_batch))}
        source = of_baseline if by == TUNED else groups[name, TUNED, baseline_batch].taken_from(of_baseline)
        verdicts = [_verdict(by, batch, line[batch].taken_from(source), target, loss_limit) for batch in sorted(line)]
        found[name, by] = regimes.boundary("B_H" if by == TUNED else "B_L", None, train_size(of_baseline.values), verdicts)
    return Limits(found, selected_on=of_baseline.select_on)


def _verdict(by, batch, group, target, loss_limit):
    if by != TUNED:
        return regimes.linear_verdict(group, target, loss_limit)
    trials = group.trials or 0
    found = regimes.best_verdict(batch, [group], target, trials >= TRIALS)
    if found.holds and trials > TRIALS:
        return regimes.Verdict(batch, None, group, f"reached with {trials} trials, where the comparison has {TRIALS} each")
    return dataclasses.replace(found, group=group)


def in_words(found: Limits) -> list[str]:
    """Sentences for a caption, one a boundary, with a mark where the test split chose."""
    if found.doubt:
        return [f"B_L and B_H are open: {found.doubt}."]
    said = []
    if mark := mark_of(found.selected_on):
        said = [f"A and xi{mark}, which every verdict rests on, are of a setting that was chosen on the test split."]
    return [*said, *(_in_words(name, by, boundary) for (name, by), boundary in found.boundaries.items())]


def selected_on(boundary: regimes.Boundary) -> str:
    """The split that a boundary rests on, the test split where that had a part in any verdict."""
    splits = [verdict.group.select_on for verdict in boundary.verdicts]
    return "test" if "test" in splits else splits[0]


def _in_words(name, by, boundary):
    batches = ", ".join(f"{verdict.batch:,} {verdict.word}{mark_of(verdict.group.select_on)}" for verdict in boundary.verdicts)
    if boundary.decided and boundary.fails_at is None:
        said = f"{boundary.bracket}, as {boundary.holds_at:,} is every training example"
    elif boundary.decided and boundary.holds_at is not None:
        between = f"above {boundary.holds_at:,} and at most {boundary.fails_at:,}" if boundary.name == "B_L" else (
            f"at least {boundary.holds_at:,} and below {boundary.fails_at:,}")
        said = f"{boundary.name} is {between}"
    elif boundary.decided:
        said = f"no batch tried is below {boundary.name}"
    elif boundary.fails_at is None and not boundary.open_batches:
        said = f"{boundary.name} is above every batch tried"
    else:
        said = f"{boundary.name} is open"
    return f"{name}, {by}: {said} ({batches})."
