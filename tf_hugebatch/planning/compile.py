"""Asks the TPU compiler about a program: will it run on this slice, and what does it need.

The compiler (`libtpu`, reached through JAX's compile-only client) runs in a process of its own. It can't be interrupted, it
reads its environment as it is loaded, and when it aborts it takes its process along. What it answered is kept, by the
program's key, the slice and the compiler's version: the same question costs nothing the second time.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from tf_hugebatch.planning.slices import Slice
from tf_hugebatch.records import write_json
from tf_hugebatch.runs import read_object
from tf_hugebatch.stops import stop_with

INSTALL = "pip install 'tf_hugebatch[plan]'"
_PACKAGES = ("jax", "jaxlib", "libtpu")
#: Without these libtpu looks for a real TPU, and for Google's metadata server, for minutes, or finds itself locked.
_ENVIRONMENT = {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v3-8", "TPU_WORKER_HOSTNAMES": "localhost",
                "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "JAX_PLATFORMS": "cpu"}
_BETWEEN_LOOKS = 0.2  # seconds


class CompileFailed(RuntimeError):
    """The compiler gave no answer; the message says why."""


@dataclasses.dataclass(frozen=True)
class Program:
    """A part of the step as one replica runs it (made by export.py).

    Attributes:
        key: sha256, in hex, of what it computes; names and places in the source are left out.
        all_reduce_bytes: bytes that a replica gives to all-reduces, before the compiler has joined them.
        all_reduces: how many there are, likewise.
        untouched: bytes of the step's variables that lie in memory meanwhile and that the program does not touch.
        hlo: a serialised HloModuleProto; empty where it is not at hand.
    """

    key: str
    all_reduce_bytes: int
    all_reduces: int
    untouched: int
    hlo: bytes = b""


@dataclasses.dataclass(frozen=True)
class Figures:
    """What the compiler states of a program on one device.

    refused: its reason why the program does not fit, or "" for one that does; the rest is 0 for one that does not.
    arguments, outputs, aliased, temporaries, code: bytes of HBM; aliased outputs lie in their arguments' memory.
    flops, bytes: of one call, its estimate; what a loop holds is counted once.
    """

    refused: str = ""
    arguments: int = 0
    outputs: int = 0
    aliased: int = 0
    temporaries: int = 0
    code: int = 0
    flops: float = 0.0
    bytes: float = 0.0

    @property
    def memory(self) -> int:
        """Bytes of HBM while it runs."""
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code


def missing() -> str:
    """Why nothing can be compiled here, with the remedy; empty where everything is there."""
    absent = [package for package in _PACKAGES if importlib.util.find_spec(package) is None]
    if not sys.platform.startswith("linux"):
        return f"the TPU compiler exists for Linux only, and this is {sys.platform}"
    return absent and f"the TPU compiler needs {', '.join(absent)}, not installed here; {INSTALL}" or ""


def versions() -> dict[str, str | None]:
    """Of the compiler's packages; None for one that isn't installed."""
    return {package: _version(package) for package in _PACKAGES}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


class Cache:
    """Answers by key, one small file each, in a folder that is made when the first is kept.

    folder: None for tf_hugebatch/plans in the user's cache folder ($XDG_CACHE_HOME, or ~/.cache).
    """

    def __init__(self, folder: str | None = None):
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        self.folder = folder or os.path.join(home, "tf_hugebatch", "plans")

    def _path(self, *question) -> str:
        return os.path.join(self.folder, hashlib.sha256(json.dumps(question).encode()).hexdigest() + ".json")

    def get(self, *question) -> dict | None:
        """The answer to a question (anything that JSON holds); None for a new one, or a damaged file."""
        return read_object(self._path(*question))

    def put(self, answer: dict, *question) -> None:
        """Keeps an answer; a folder that can't be written to keeps none."""
        try:
            os.makedirs(self.folder, exist_ok=True)
            write_json(self._path(*question), answer)
        except OSError:
            pass


class Compiler:
    """The compiler for one slice.

    Args:
        target: `Slice`.
        cache: `Cache`.
        timeout: seconds after which a compile is given up.
        watch: called now and then with the seconds that the compile has taken so far.
        child: words that start the child, which get the program's file, topology, chip configuration and answer's file.
    """

    def __init__(self, target: Slice, cache: Cache, *, timeout: float, watch: Callable[[float], None] = lambda seconds: None,
                 child=(sys.executable, "-m", "tf_hugebatch.planning.compiler_child")):
        self._slice, self._cache, self._timeout, self._watch, self._child = target, cache, timeout, watch, child
        self._versions = versions()

    def known(self, key: str) -> Figures | None:
        """The answer that is kept for a program's key."""
        answer = self._cache.get(*self._question(key))
        return Figures(**answer) if answer else None

    def __call__(self, program: Program) -> Figures:
        """The answer for a program with its HLO.

        Raises:
            CompileFailed: the compiler died, ran out of time or does not know the program; nothing is left behind.
        """
        if kept := self.known(program.key):
            return kept
        figures = self._asked(program.hlo)
        self._cache.put(dataclasses.asdict(figures), *self._question(program.key))
        return figures

    def _question(self, key):
        return "figures", key, self._slice.topology, self._slice.generation.chip_config, self._versions

    def _asked(self, hlo):
        with tempfile.TemporaryDirectory(prefix="tf_hugebatch-plan-") as folder:
            program, answer, said = (pathlib.Path(folder, name) for name in ("program.hlo", "answer.json", "said.txt"))
            program.write_bytes(hlo)
            words = [*self._child, str(program), self._slice.topology, self._slice.generation.chip_config, str(answer)]
            environment = {**os.environ, **_ENVIRONMENT, "TMPDIR": folder, "TPU_LOG_DIR": folder}
            with open(said, "wb") as output:
                process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment,
                                           cwd=_root(), preexec_fn=stop_with(os.getpid(), signal.SIGKILL))
                try:
                    self._wait(process)
                finally:
                    process.kill()
                    process.wait()
            found = read_object(answer)
            if process.returncode or not found:
                raise CompileFailed(f"the TPU compiler ended with exit code {process.returncode}: {_last_line(said)}")
        if "refused" in found:
            return Figures(refused=found["refused"])
        return Figures(**found["memory"], flops=found["flops"], bytes=found["bytes"])

    def _wait(self, process):
        started = time.monotonic()
        while process.poll() is None:
            seconds = time.monotonic() - started
            if seconds > self._timeout:
                raise CompileFailed(f"the TPU compiler gave no answer in {self._timeout:g} seconds; give it longer with "
                                    f"--compile_timeout, or ask for more micro-batches with a smaller --micro_batch_size")
            self._watch(seconds)
            time.sleep(_BETWEEN_LOOKS)


def _root():
    """Where the package lies, so that the child finds the same one."""
    return pathlib.Path(__file__).parents[2]


def _last_line(path):
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip()[:500] if lines else "it said nothing"
