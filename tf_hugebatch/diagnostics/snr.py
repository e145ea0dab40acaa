"""Signal and noise of the summed gradient against batch size (the paper's appendix 6.1), from one pass over the training set.

The paper says: the signal of a sum of B gradients is Theta(B), its noise Theta(sqrt(B)), and the full batch has no noise.

These are two questions. The noise is of draws from the N examples at hand, of which the full batch has none. The signal is that
of the population that the N were drawn from: the mean gradient of the N is known, but its own length holds their noise too,
|gbar|^2 = |G|^2 + tr(Sigma) / N in expectation, so that B |gbar| would be Theta(B) whatever the gradients. It is told beside.
"""

import math

import numpy as np

#: Fewest disjoint groups that a size is measured from.
FEWEST_GROUPS = 4


class Pyramid:
    """Sums over disjoint groups of 1, 2, 4, ... rounds, as the rounds come; holds one vector a level.

    Args:
        round_size: examples of a whole round.

    Attributes:
        count, total: examples and summed gradient of all rounds.
        powers: by level, sum of |S|^2 over its groups of 2^level rounds; groups: how many those are.
    """

    def __init__(self, round_size):
        self.count, self.total, self.powers, self.groups = 0, 0.0, [], []
        self.round_size, self._waiting, self._rest = round_size, {}, 0.0

    def add(self, gradient, count):
        """Takes in a round: the summed gradient of its `count` examples, a vector. One that isn't whole is in no group."""
        self.count, self.total = self.count + count, self.total + gradient
        if count != self.round_size:
            self._rest = self._rest + gradient
            return
        level, group = 0, gradient
        while True:
            if level == len(self.powers):
                self.powers.append(0.0)
                self.groups.append(0)
            self.powers[level] += float(np.dot(group, group))
            self.groups[level] += 1
            if level not in self._waiting:
                self._waiting[level] = group
                return
            level, group = level + 1, self._waiting.pop(level) + group

    def grouped(self, level):
        """The sum of a level's groups: of everything but what has not filled one."""
        return self.total - self._rest - sum(group for below, group in self._waiting.items() if below < level)


def measure(rounds, round_size):
    """Signal and noise at every size that doubles from a round's.

    With S the sum over one of J disjoint groups of B examples out of N, and gbar the mean gradient of all N,

    ```
    signal(B)^2 = mean of S_i . S_j over i != j,       whose expectation is B^2 |G|^2, of the population: no group's noise in it
    noise(B)^2  = mean |S - B gbar|^2,         whose expectation is B^2 (1/B - 1/N) tr(Sigma)
    ```

    and slopes by least squares on logarithms: of signal on B, and of noise / sqrt(1 - B/N) on B. The factor is what drawing
    from N without replacement takes away; all N have no noise and are in no fit.

    Args:
        rounds: pairs of a float64 vector, the summed gradient of a round, and its number of examples. In random order.
        round_size: examples of a whole round, the smallest size. Rounds of fewer (the last, and those with an image that
            can't be decoded) are in gbar and N alone.

    Returns:
        dict: batch_sizes, groups, signal, noise (lists, empty where no size has FEWEST_GROUPS groups; None where the estimate
        of a square came out negative), signal_slope, noise_slope (None for fewer than two sizes, and where one of them has
        none: the others would be those that came out large by luck), full_gradient_norm (|gbar|), examples.
    """
    pyramid = Pyramid(round_size)
    for gradient, count in rounds:
        pyramid.add(np.asarray(gradient, np.float64), count)
    mean = pyramid.total / pyramid.count
    sizes, groups, signal, noise = [], [], [], []
    for level, (power, number) in enumerate(zip(pyramid.powers, pyramid.groups)):
        if number < FEWEST_GROUPS:
            continue
        size, together = pyramid.round_size * 2 ** level, pyramid.grouped(level)
        sizes.append(size)
        groups.append(number)
        signal.append(_root((float(together @ together) - power) / (number * (number - 1))))
        # sum |S - B gbar|^2, without a second look at any S.
        noise.append(_root((power - 2 * size * float(together @ mean)) / number + size ** 2 * float(mean @ mean)))
    rest = [value and value / math.sqrt(1 - size / pyramid.count) for value, size in zip(noise, sizes)]
    return {"examples": pyramid.count, "batch_sizes": sizes, "groups": groups, "signal": signal, "noise": noise,
            "signal_slope": _slope(sizes, signal), "noise_slope": _slope(sizes, rest),
            "full_gradient_norm": math.sqrt(float(mean @ mean))}


def _root(square):
    return math.sqrt(square) if square > 0 else None


def _slope(sizes, values):
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0]) if len(sizes) > 1 and all(values) else None
