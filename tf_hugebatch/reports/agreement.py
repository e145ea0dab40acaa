"""Whether a number of ours agrees with the paper's, as far as seeds and test images can tell."""

from __future__ import annotations

from tf_hugebatch import published, registry
from tf_hugebatch.reports.stats import Group

#: The paper gives accuracies to a tenth of a percent: a number stands for all that round to it.
_HALF_A_TENTH = 0.0005
#: A test accuracy below this many times one over the classes is no better than guessing, however its loss moved.
_TIMES_CHANCE = 2.0


def agreement(group: Group | None, paper: published.Cell) -> str:
    """'agrees', 'differs', 'undecided' or '' (nothing of ours), with the reason.

    A number of the paper agrees with ours where the 95% interval of our mean meets [p - 0.05, p + 0.05] percent. Its
    'diverges' agrees with runs that all diverge or that come to less than twice the accuracy of guessing, its 'unstable' with
    what `Group.words` calls so. One seed has no interval and decides nothing but a divergence,
    beside 'unstable' not even that.
    """
    if group is None:
        return ""
    if group.n == 1 and not group.diverged:
        return "undecided: one seed"
    guesses = group.accuracy is not None and group.accuracy.mean < _TIMES_CHANCE / _classes(group)
    if group.n == 1 and paper.words == "unstable":
        return "undecided: one seed"  # that of an unstable setting may diverge
    fails = group.words == "diverges" or guesses
    if paper.words == "diverges":
        return "agrees" + (": no better than guessing" if guesses else "") if fails else f"differs: {_ours(group)}"
    if fails:
        return f"differs: {'no better than guessing' if guesses else 'diverges'}"
    if paper.words == "unstable":
        return "agrees" if group.words == "unstable" else f"differs: {_ours(group)}"
    if group.words == "unstable":
        return "differs: unstable"
    mean = group.accuracy
    low, high = paper.top1 / 100 - _HALF_A_TENTH, paper.top1 / 100 + _HALF_A_TENTH
    if mean.low <= high and low <= mean.high:
        return "agrees"
    return f"differs: {100 * mean.mean - paper.top1:+.2f} points"


def _ours(group):
    return group.words or "trains"


def _classes(group):
    return registry.DATASETS[group.values["dataset"]].facts["classes"]
