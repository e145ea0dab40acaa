"""Learning-rate schedules in float64, written straight from the formulas; shares no code with the package.

Every function maps one update number (updates done so far) to a rate.
"""

import math


def constant(t, peak):
    return peak


def polynomial(t, peak, steps, power=2.0, end=0.0):
    return end + (peak - end) * (1 - min(t, steps) / steps) ** power


def cosine(t, peak, steps, end=0.0):
    return end + (peak - end) * (1 + math.cos(math.pi * min(t, steps) / steps)) / 2


def cosine_restarts(t, peak, steps, cycles, end=0.0):
    if t >= steps:
        return end
    # The cycle that t lies in: the last one that has begun.
    begun = max(c for c in range(cycles) if c * steps <= t * cycles)
    length = steps / cycles
    return end + (peak - end) * (1 + math.cos(math.pi * (t - begun * length) / length)) / 2


def triangles(t, peak, steps, cycles, base=0.0, height=lambda t, cycle: 1.0):
    if t >= steps:
        return base
    half = steps / cycles / 2
    # Smith 2017: x is the distance, in half cycles, from the middle of the cycle that t lies in.
    cycle = math.floor(1 + t / (2 * half) + 1e-12)
    x = abs(t / half - 2 * cycle + 1)
    return base + (peak - base) * height(t, cycle) * max(0.0, 1 - x)


def warmup(t, w, peak, after, shape="linear", start="first", decay_from="warmup_end"):
    if t >= w:
        return after(t - w if decay_from == "warmup_end" else t)
    x = (t + 1 if start == "first" else t) / w
    return peak * (x if shape == "linear" else (1 - math.cos(math.pi * x)) / 2)
