"""Read run folders, finished, running or cut off. Plain Python: reports need nothing else.

A value that isn't there stays missing (None or absent), never 0. Lines that a kill has torn are skipped,
counted.
"""

from __future__ import annotations

import functools
import glob
import json
import os
import sys
from collections.abc import Callable, Iterable


def read_object(path: str | os.PathLike) -> dict | None:
    """The JSON object in a file; None when there is no such file or it holds no object."""
    try:
        with open(path, encoding="utf-8") as file:
            value = json.load(file)
    except (OSError, ValueError, RecursionError):  # brackets nested by the thousand
        return None
    return value if isinstance(value, dict) else None


#: What is a number, or null, in every row that has it.
_NUMBERS = ("step", "epoch", "loss", "accuracy", "top5", "learning_rate", "grad_norm", "weight_norm", "update_norm")


def read_row(line: str) -> dict | None:
    """A line of metrics.jsonl; None for one that is torn (no end of line) or no row (no step, or text for a number)."""
    try:
        row = json.loads(line) if line.endswith("\n") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        return None
    return row if all(is_number_or_null(row.get(name)) for name in _NUMBERS) else None


def is_number_or_null(value: object) -> bool:
    """Whether a value of JSON is null or a number that a float can hold."""
    if isinstance(value, int):  # JSON's have no end, a float does
        return not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return value is None or isinstance(value, float)


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _holds_numbers(value: object) -> bool:
    return isinstance(value, dict) and all(map(is_number_or_null, value.values()))


#: What a field of status.json is, where it is there.
_OF_STATUS = {
    **dict.fromkeys(("status", "reason", "host", "data_note", "updated"), _is_text),
    **dict.fromkeys(("step", "total_steps", "pid", "micro_batch_size", "micro_batches", "replicas"), _is_count),
    **dict.fromkeys(("wall_seconds", "images_per_second", "input_wait_share", "peak_rss_mb"), is_number_or_null),
    **dict.fromkeys(("final", "best"), _holds_numbers),
}


def read_status(path: str | os.PathLike) -> dict:
    """A status.json as far as it can be believed; empty when there is none.

    A field that is not what it should be is left out, and so is an end without its numbers: that run has not ended.
    """
    status = {name: value for name, value in (read_object(path) or {}).items() if _OF_STATUS.get(name, lambda _: True)(value)}
    if status.get("status") in ("done", "diverged") and "final" not in status:
        del status["status"]
    return status


@functools.lru_cache(maxsize=4)  # a run at batch 256 takes megabytes, and a report reads hundreds of runs
def _read_lines(path: str, *state: int) -> tuple[dict | None, ...]:
    """Rows of a metrics.jsonl; state: what changes when the file does."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return tuple(map(read_row, file))
    except OSError:
        return ()


class Run:
    """One run folder. settings, status: as written, so that a report can say what is odd; empty where the file is missing or
    can't be read."""

    def __init__(self, path: str):
        self.path = os.fspath(path)
        self.settings = read_object(os.path.join(self.path, "settings.json")) or {}
        self.status = read_object(os.path.join(self.path, "status.json")) or {}

    def __repr__(self):
        return f"Run({self.path!r})"

    @property
    def _lines(self) -> tuple[dict | None, ...]:
        """The rows of metrics.jsonl in order, None for each line that is no row."""
        path = os.path.join(self.path, "metrics.jsonl")
        try:
            state = os.stat(path)
        except OSError:
            return ()
        return _read_lines(path, state.st_mtime_ns, state.st_size)

    @property
    def metrics(self) -> list[dict]:
        """Every row of metrics.jsonl, in the order written."""
        return [row for row in self._lines if row is not None]

    @functools.cached_property
    def damaged(self) -> int:
        """Lines of metrics.jsonl that are torn or no rows."""
        return self._lines.count(None)

    @property
    def train_rows(self) -> list[dict]:
        """Rows of updates: step, epoch, loss, learning_rate, grad_norm, weight_norm, update_norm ..."""
        return [row for row in self.metrics if row.get("kind") == "train"]

    def eval_rows(self, split: str | None = None) -> list[dict]:
        """Rows of evaluations, of one split ('train', 'validation', 'test') or of all."""
        return [row for row in self.metrics
                if row.get("kind") == "eval" and (split is None or row.get("split") == split)]

    def diagnostic_rows(self, name: str) -> list[dict]:
        """Rows of a diagnostic that has numbers of every variable ('trust', 'diffusion'): step, epoch, and {path: number} of
        each of its vectors."""
        return [row for row in self.metrics if row.get("kind") == name]

    @functools.cached_property
    def sweep(self) -> Sweep | None:
        """The sweep that this run is a trial or a final run of; None for a run of its own."""
        _, above = self._place
        return Sweep(above) if above else None

    @property
    def selected_on(self) -> str:
        """'validation' or 'test', the split that chose the run's setting: what its sweep says, or where it lies in none what
        its settings say; '' where nothing says so."""
        stated = self.sweep.plan.get("select_on") if self.sweep else self.settings.get("selected_on")
        return stated if stated in ("validation", "test") else ""

    @property
    def part(self) -> str:
        """Within a sweep 'trials', 'repeats' (which confirm the best trials), 'final', or 'final_before' (of a setting that
        more trials replaced); '' for a run of its own."""
        part, _ = self._place
        return part

    @property
    def _place(self) -> tuple[str, str]:
        """(part, the sweep's folder), or two empty texts."""
        above = os.path.dirname(os.path.abspath(self.path))
        for folder in (above, os.path.dirname(above)):
            part, sweep = os.path.basename(folder), os.path.dirname(folder)
            if part in (SWEEP_PARTS if folder == above else ("final_before",)) and _is_sweep(sweep):
                return part, sweep
        return "", ""


#: Where a sweep's runs lie: those that search, those that confirm the best, those of the chosen setting with fresh seeds.
SWEEP_PARTS = ("trials", "repeats", "final")


class Sweep:
    """One sweep folder: sweep.json (what is searched, how), result.json (what came of it), and its runs.

    plan, result: as written, empty where the file is missing or can't be read. settings: the plan's, of the final runs before
    the values that were chosen; space: what it searches. Both are empty where the plan has none that is one.
    """

    def __init__(self, path: str):
        self.path = os.fspath(path)
        self.plan = read_object(os.path.join(self.path, "sweep.json")) or {}
        self.result = read_object(os.path.join(self.path, "result.json")) or {}
        settings = self.plan.get("settings")
        self.settings = settings if isinstance(settings, dict) else {}
        space = self.plan.get("space")
        self.space = space if isinstance(space, dict) else {}

    def __repr__(self):
        return f"Sweep({self.path!r})"

    @property
    def trials(self) -> list[Run]:
        """The runs that search, by number."""
        return self._runs("trials")

    @property
    def final(self) -> list[Run]:
        """The runs of the chosen setting with fresh seeds."""
        return self._runs("final")

    def _runs(self, part: str) -> list[Run]:
        folders = sorted(glob.glob(os.path.join(glob.escape(self.path), part, "*")))
        return [Run(folder) for folder in folders if _is_run(folder)]


def _is_sweep(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "sweep.json"))


def load_sweeps(patterns: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Sweep]:
    """The sweeps that patterns or folders name, as `load_runs` finds runs."""
    return [Sweep(path) for path in _found(patterns, _is_sweep, "sweep", "sweep.json")]


def _is_run(path: str) -> bool:
    # Any one of them: what a copy or a kill has left without its settings is to be named, not passed over.
    return any(os.path.lexists(os.path.join(path, name)) for name in ("settings.json", "status.json", "metrics.jsonl"))


def load_runs(patterns: str | os.PathLike | Iterable[str | os.PathLike]) -> list[Run]:
    """The runs that a pattern ('runs/**'), a folder, or a list of them names, sorted by path, none twice.

    A folder stands for itself, where it is a run, and for the runs below it. Raises FileNotFoundError for a folder, named
    without wildcards, that neither is nor holds a run.
    """
    return [Run(path) for path in _found(patterns, _is_run, "run", "settings.json, status.json or metrics.jsonl")]


def _found(patterns, is_one: Callable[[str], bool], what: str, file: str) -> list[str]:
    if isinstance(patterns, (str, os.PathLike)):
        patterns = [patterns]
    found = set()
    for pattern in map(os.fspath, patterns):
        if glob.has_magic(pattern) and not os.path.isdir(pattern):
            found.update(filter(is_one, map(os.path.normpath, glob.glob(pattern, recursive=True))))
            continue
        # Below a run too: a stray settings.json above a hundred runs makes their folder look like one.
        below = [folder for folder, _, _ in os.walk(pattern) if is_one(folder)]
        if not below:
            raise FileNotFoundError(f"{pattern}: neither a {what} folder (no {file}) nor one that holds "
                                    f"any; name the folder of a {what}")
        found.update(map(os.path.normpath, below))
    return sorted(found)
