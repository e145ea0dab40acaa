"""What the step can tell beside its metrics: pure modules on its three hooks, each a row of the registry, off by default."""

from .noise_injection import NoiseInjection
from .probe import Probe, Probes, make

__all__ = ["NoiseInjection", "Probe", "Probes", "make"]
