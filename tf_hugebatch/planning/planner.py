"""Finds the smallest number of micro-batches with which a run fits on a slice: compiled, never extrapolated.

A compiler that is short of memory computes things twice instead (rematerialisation), so what 512 examples need says little
of 640: every layout is compiled until one fits, so that not even "smaller needs less" is assumed. Fewest micro-batches first,
since a refusal comes soon and a fit late.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import math
import pathlib
import time

from tf_hugebatch.layout import Layout, one_round_micro_batch
from tf_hugebatch.planning import walk
from tf_hugebatch.planning.compile import Cache, Compiler, Figures, Program
from tf_hugebatch.planning.screen import Screen
from tf_hugebatch.planning.slices import Slice
from tf_hugebatch.settings import Refusal, Settings
from tf_hugebatch.tuning.screen import duration

_GIB = 2**30
_FLOAT32 = 4  # bytes


@dataclasses.dataclass(frozen=True)
class Part:
    """One of the step's two programs: what it computes, and what the compiler states of it."""

    program: Program
    figures: Figures

    @property
    def memory(self) -> int:
        """Bytes of HBM on a device while it runs, the variables of the step that it does not touch included."""
        return self.figures.memory + self.program.untouched


@dataclasses.dataclass(frozen=True)
class Attempt:
    """A layout that was tried. reason: why it does not fit, or "". accumulate, apply: None where there was no need to ask."""

    layout: Layout
    accumulate: Part | None
    apply: Part | None
    reason: str

    @property
    def fits(self) -> bool:
        return not self.reason


class Planner:
    """Plans one run on one slice.

    Args:
        settings: `Settings`; with a number as micro_batch_size only that layout is tried.
        target: `Slice`.
        cache: `Cache` of exports.
        compiler: `Compiler` for the slice, or what answers in its place.
        screen: `Screen`.
        exporter: makes an `export.Exporter` of (settings, replicas) when one is needed: TensorFlow takes seconds to import.

    Attributes:
        attempts: every layout tried, by the number of micro-batches; one that a diagnostic can't have is passed over with that
            reason.
    """

    def __init__(self, settings: Settings, target: Slice, cache: Cache, compiler: Compiler, screen: Screen, exporter=None):
        self._settings, self._target, self._cache, self._screen = settings, target, cache, screen
        self._compiler, self._make_exporter, self._exporter = compiler, exporter or _exporter, None
        self.attempts: list[Attempt] = []

    def layouts(self):
        """What will be tried, in order.

        Raises:
            LayoutError: the micro-batch that was asked for can't hold the batch-norm groups.
        """
        return layouts(self._settings, self._target)

    def find(self) -> Attempt | None:
        """The layout with the fewest micro-batches that fits, or None.

        Raises:
            CompileFailed: the compiler gave no answer.
            Refusal: the run can't be, or not with the micro-batch that was asked for.
        """
        tried = list(self.layouts())
        if len(tried) > 1:
            self._screen.say(f"{len(tried)} layouts hold the batch-norm groups; fewest micro-batches first")
        for layout in tried:
            self.attempts.append(self._attempt(layout))
            if self.attempts[-1].fits:
                return self.attempts[-1]
        return None

    def _attempt(self, layout):
        name, started = in_words(layout, self._target), time.monotonic()
        accumulate, apply, reason = None, None, self._too_many_images(layout)
        if not reason:
            try:
                accumulate = self._part("accumulate", layout, name)
                reason = self._reason(accumulate)
            except Refusal as refusal:
                if self._exporter is None or self._settings.micro_batch_size != "auto":
                    raise  # of the run, whatever the layout
                reason = "; ".join(refusal.problems)
        if not reason:
            apply = self._part("apply", layout, f"the end of an update, {name}")
            reason = self._reason(apply)
        self._screen.say(f"{name}: {'does not fit' if reason else 'fits'} ({duration(time.monotonic() - started)})")
        return Attempt(layout, accumulate, apply, reason)

    def _too_many_images(self, layout):
        """What needs no compiler: a micro-batch's images are an argument, so they lie in memory all the time."""
        images = layout.micro_batch_size * math.prod(self._settings.image_shape) * _FLOAT32
        if images > self._target.usable:
            return f"the images of a micro-batch alone are {images / _GIB:.2f} GiB of {self._target.usable / _GIB:.2f}"
        return ""

    def _part(self, kind, layout, name):
        question = ("export", kind, self._settings.experiment_hash(), list(self._settings.diagnostics),
                    dataclasses.asdict(layout), _code())
        facts = self._cache.get(*question)
        program = Program(**facts) if facts else None
        figures = self._compiler.known(program.key) if program else None
        if figures is None:
            self._screen.begin(f"tracing {name}")
            self._exporter = self._exporter or self._make_exporter(self._settings, self._target.replicas)
            program = getattr(self._exporter, kind)(layout)
            facts = dataclasses.asdict(program)
            del facts["hlo"]
            self._cache.put(facts, *question)
            self._screen.begin(f"compiling {name} for {self._target.name}")
            figures = self._compiler(program)
        return Part(program, figures)

    def _reason(self, part):
        if part.figures.refused:
            return part.figures.refused
        if part.memory > self._target.usable:
            return (f"the program and the rest of the step's variables need {part.memory / _GIB:.2f} GiB of "
                    f"{self._target.usable / _GIB:.2f}")
        return ""


def layouts(settings: Settings, target: Slice):
    """Layouts of a run on a slice, in the order in which they are to be tried. Raises LayoutError."""
    size, local = settings.micro_batch_size, settings.norm == "local"
    if size != "auto":
        if not local:  # as a run takes it
            size = min(size, one_round_micro_batch(settings.batch_size, target.replicas, settings.bn_span))
        return [Layout(settings.batch_size, size, target.replicas, size if local else settings.bn_span)]
    return walk.layouts(settings.batch_size, target.replicas, settings.bn_span)


def in_words(layout: Layout, target: Slice) -> str:
    """A layout in a few words."""
    return f"{layout.rounds} x {layout.micro_batch_size} a {target.device}"


def _exporter(settings, replicas):
    from tf_hugebatch.planning.export import Exporter

    return Exporter(settings, replicas)


def _code():
    """What an export depends on beside its settings: this package and the packages that trace and lower it."""
    digest = hashlib.sha256()
    package = pathlib.Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes() + b"\0")
    return [digest.hexdigest(), traced_by()]


def traced_by() -> dict[str, str]:
    """Versions of the packages that trace and lower the step."""
    return {name: importlib.metadata.version(name) for name in ("tensorflow", "keras")}
