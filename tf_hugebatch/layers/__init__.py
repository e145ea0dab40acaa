"""Layers whose result does not depend on how a global batch is cut into replicas and micro-batches."""

from .batch_norm import GhostBatchNormalization
from .dropout import Dropout
from .noise import ActivationNoise

__all__ = ["ActivationNoise", "Dropout", "GhostBatchNormalization"]
