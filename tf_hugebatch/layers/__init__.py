"""Layers whose result does not depend on how a global batch is cut into replicas and micro-batches, and layers that K-FAC
can look into.
"""

from .batch_norm import GhostBatchNormalization
from .dropout import Dropout
from .factored import Conv2D, Dense, FactoredLayer
from .noise import ActivationNoise

__all__ = ["ActivationNoise", "Conv2D", "Dense", "Dropout", "FactoredLayer", "GhostBatchNormalization"]
