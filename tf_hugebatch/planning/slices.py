"""TPU slices that exist, by the names under which Google Cloud rents them.

The compiler takes any topology, v3:64x64 too, which nobody ever built; so a slice is one of this table or refused.
"""

from __future__ import annotations

import dataclasses
import re

from tf_hugebatch import registry
from tf_hugebatch.settings import Refusal

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Generation:
    """A kind of chip.

    Attributes:
        name: before the dash in a slice's name.
        compiler_name: before the colon in the compiler's topology.
        counted: what the number in a slice's name counts, 'cores' or 'chips'.
        cores: TensorCores a chip.
        devices: devices a chip, each one replica; a chip of two cores can be one device ('megacore').
        flops: peak of a chip in bfloat16, FLOP/s.
        memory: HBM of a chip, bytes.
        bandwidth: of a chip's HBM, bytes/s.
        usable: HBM of a device that a program may use, bytes, as the compiler's refusals state it (libtpu 0.0.52).
        source: of flops, memory and bandwidth.
        chip_config: the compiler's name for how cores make devices; '' for its default.
    """

    name: str
    compiler_name: str
    counted: str
    cores: int
    devices: int
    flops: float
    memory: int
    bandwidth: float
    usable: float
    source: str
    chip_config: str = ""


_PAGE = "cloud.google.com/tpu/docs"
GENERATIONS = {generation.name: generation for generation in (
    Generation("v2", "v2", "cores", 2, 2, 45e12, 16 * _GIB, 700e9, 7.48 * _GIB, f"{_PAGE}/v2 (not checked by us)"),
    Generation("v3", "v3", "cores", 2, 2, 123e12, 32 * _GIB, 900e9, 15.48 * _GIB, f"{_PAGE}/v3"),
    Generation("v4", "v4", "cores", 2, 1, 275e12, 32 * _GIB, 1200e9, 30.75 * _GIB, f"{_PAGE}/v4", "megacore"),
    Generation("v5litepod", "v5e", "chips", 1, 1, 197e12, 16 * _GIB, 819e9, 15.75 * _GIB, f"{_PAGE}/v5e"),
    Generation("v5p", "v5p", "cores", 2, 1, 459e12, 95 * _GIB, 2765e9, 95.73 * _GIB, f"{_PAGE}/v5p"),
    Generation("v6e", "v6e", "chips", 1, 1, 918e12, 32 * _GIB, 1640e9, 31.24 * _GIB, f"{_PAGE}/v6e"),
)}

_FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_CUBES = {4: "2x2x1", 8: "2x2x2", 16: "2x2x4", 32: "2x4x4", 64: "4x4x4", 128: "4x4x8", 256: "4x8x8", 512: "8x8x8",
          1024: "8x8x16", 2048: "8x16x16"}
# {generation: {chips: their grid}}. Sources: the pages above; torch_xla's table of hosts (4 chips, 2x2, each) for v2 to v4.
_GRIDS = {
    "v2": {4: "2x2", 16: "4x4", 64: "8x8", 128: "8x16", 256: "16x16"},
    "v3": {4: "2x2", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16", 512: "16x32", 1024: "32x32"},
    "v4": _CUBES,
    "v5litepod": _FLAT,
    "v5p": {**_CUBES, 4096: "16x16x16", 6144: "16x16x24"},
    "v6e": _FLAT,
}


@dataclasses.dataclass(frozen=True)
class Slice:
    """Some chips of a pod, wired together. Figures without 'chip' in their name are a device's, which is one replica.

    Attributes:
        name: such as v3-2048.
        chips: how many.
        grid: how they lie, such as 32x32.
        generation: `Generation`.
    """

    name: str
    chips: int
    grid: str
    generation: Generation

    @property
    def replicas(self) -> int:
        """Devices of the whole slice."""
        return self.chips * self.generation.devices

    @property
    def topology(self) -> str:
        """The slice as the compiler names it."""
        return f"{self.generation.compiler_name}:{self.grid}"

    @property
    def flops(self) -> float:
        """Peak in bfloat16, FLOP/s."""
        return self.generation.flops / self.generation.devices

    @property
    def bandwidth(self) -> float:
        """Of HBM, bytes/s."""
        return self.generation.bandwidth / self.generation.devices

    @property
    def usable(self) -> float:
        """HBM that a program may use, bytes."""
        return self.generation.usable

    @property
    def device(self) -> str:
        """What a device is, in a word."""
        return "core" if self.generation.devices == 2 else "chip"


def _named(generation, chips, grid):
    count = chips * generation.cores if generation.counted == "cores" else chips
    return Slice(f"{generation.name}-{count}", chips, grid, generation)


SLICES = {one.name: one for name, grids in _GRIDS.items()
          for one in (_named(GENERATIONS[name], chips, grid) for chips, grid in grids.items())}


@dataclasses.dataclass(frozen=True)
class Record:
    """A published speed of ResNet-50 on ImageNet."""

    slice: str
    images_per_second: float
    source: str


RECORDS = (Record("v3-2048", 1.05e6, "Ying et al. 2018, arXiv 1811.06992: 'over 1.05 million images/second', 1,024 chips"),)


def find(name: str) -> Slice:
    """The slice of that name.

    Raises:
        Refusal: there is no such slice; names the nearest that there are.
    """
    if name in SLICES:
        return SLICES[name]
    match = re.fullmatch(r"(\w+)-(\d{1,9})", name)
    # v5e, as the compiler and everybody calls it, is rented as v5litepod.
    meant = next((one for one in GENERATIONS.values() if match and match[1] in (one.name, one.compiler_name)), None)
    if meant:
        family, wanted = [one for one in SLICES if one.startswith(f"{meant.name}-")], int(match[2])
        nearest = sorted(family, key=lambda one: (abs(int(one.split("-")[1]) - wanted), one))[:2]
        raise Refusal(f"--tpu={name}: Google Cloud has no such slice; the nearest are {' and '.join(nearest)} ({meant.name} "
                      f"counts {meant.counted})")
    close = registry.close_matches(name, SLICES) or f"; they begin with {', '.join(GENERATIONS)}, as in v3-2048"
    raise Refusal(f"--tpu={name}: no slice by which a plan could be made{close}")
