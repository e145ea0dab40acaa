"""Seeds of initial weights."""

import numpy as np


def layer_seeds(seed):
    """Endless 31-bit seeds, one per layer in the order of building, so that layers of one shape differ."""
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(seed)))
    while True:
        yield int(generator.integers(2**31))
