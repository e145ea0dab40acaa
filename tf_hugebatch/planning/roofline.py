"""How fast a step can be at best on a slice: arithmetic and memory traffic against the chip's peaks.

    t(program) >= max(FLOPs / peak FLOP/s, bytes / HBM bandwidth)             t(update) >= K t(accumulate) + t(apply)

(Williams, Waterman and Patterson 2009, "Roofline".) FLOPs and bytes are the compiler's own estimates for one device; time
for all-reduces, input and evaluation is not in it. So it is a bound that no run beats, not what a run will do.
"""

from __future__ import annotations

import dataclasses

from tf_hugebatch.layout import Layout
from tf_hugebatch.planning.compile import Figures
from tf_hugebatch.planning.slices import Slice


@dataclasses.dataclass(frozen=True)
class Roofline:
    """The bound for a layout on a slice.

    Attributes:
        target: `Slice`.
        layout: K micro-batches, their size, B.
        accumulate, apply: `Figures` of the step's two programs.
    """

    target: Slice
    layout: Layout
    accumulate: Figures
    apply: Figures

    def _total(self, of):
        return self.layout.rounds * of(self.accumulate) + of(self.apply)

    @property
    def flops(self) -> float:
        """Of an update on one device."""
        return self._total(lambda program: program.flops)

    @property
    def bytes(self) -> float:
        """That one device moves to and from its memory in an update."""
        return self._total(lambda program: program.bytes)

    @property
    def seconds(self) -> float:
        """At least, for an update."""
        return self._total(lambda program: max(program.flops / self.target.flops, program.bytes / self.target.bandwidth))

    @property
    def bound_by(self) -> str:
        """What decides a micro-batch's time: 'arithmetic' or 'memory'."""
        arithmetic = self.accumulate.flops / self.target.flops > self.accumulate.bytes / self.target.bandwidth
        return "arithmetic" if arithmetic else "memory"

    @property
    def images_per_second(self) -> float:
        """At most, padding not counted."""
        return self.layout.batch_size / self.seconds

    def chip_hours(self, updates: int) -> float:
        """At least, for that many updates."""
        return updates * self.seconds * self.target.chips / 3600
