"""The workers of a run, one process each, as TF_CONFIG in the environment names them (`--strategy=multiworker`).

    TF_CONFIG='{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'

Every worker has the same list and an index of its own. Worker 0 is the chief: it alone writes the run folder. A job
"chief" of one address, as TensorFlow's own examples have it, stands before the workers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
from collections.abc import Iterator

from tf_hugebatch.records import RunFolder
from tf_hugebatch.settings import Refusal, Settings
from tf_hugebatch.stops import RunStopped

#: Environment variable: seconds in which all workers must have started.
START_DEADLINE = "TF_HUGEBATCH_START_DEADLINE"
_DEFAULT_DEADLINE = 120.0
_REMEDY = ("set it as in TF_CONFIG='{\"cluster\": {\"worker\": [\"host0:2222\", \"host1:2222\"]}, \"task\": {\"type\": "
           "\"worker\", \"index\": 0}}', with another index for each worker, or let scripts/launch_local.py start them")


class WorkerLost(RunStopped):
    """Another worker died, stopped or left, so that this one can't go on; the message names it."""


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Who takes part in a run.

    Attributes:
        addresses: "host:port" of each worker, the chief's first.
        index: which of them this process is.
        start_deadline: seconds in which all must have started.
    """

    addresses: tuple[str, ...]
    index: int
    start_deadline: float = _DEFAULT_DEADLINE

    @property
    def is_chief(self) -> bool:
        return self.index == 0

    def name(self, index: int) -> str:
        """A worker in words."""
        return f"worker {index}{' (the chief)' if index == 0 else ''} at {self.addresses[index]}"

    def host_and_port(self, index: int) -> tuple[str, int]:
        host, _, port = self.addresses[index].rpartition(":")
        return host.strip("[]"), int(port)


def cluster_of(settings: Settings) -> Cluster | None:
    """The cluster of a run with `settings`; None unless its strategy is multiworker. Raises Refusal."""
    if settings.strategy != "multiworker":
        return None
    try:
        return _from_environment()
    except ValueError as error:
        raise Refusal([f"--strategy=multiworker: {error}"]) from error


def problems(settings: Settings) -> list[str]:
    """What is wrong with the environment of a run with `settings`."""
    try:
        cluster_of(settings)
    except Refusal as refusal:
        return list(refusal.problems)
    return []


class ChiefsFolder(RunFolder):
    """The run folder as a worker other than the chief has it: read, never written."""

    def problems(self, settings: Settings) -> list[str]:
        return []  # the chief looks, and may be writing by now

    def create(self, settings: Settings) -> None:
        pass

    def write_status(self, **fields) -> None:
        pass

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        yield

    def drop_metrics_after(self, step: int) -> list[dict]:
        return []

    def append_metrics(self, rows) -> None:
        pass

    def metrics_to_disk(self) -> None:
        pass

    def write_schedule(self, rows, columns=()) -> None:
        pass

    def write_versions(self, *, command_line, devices, onednn) -> None:
        pass


def run_folder(settings: Settings) -> RunFolder:
    """The folder of a run as this process may use it."""
    try:
        cluster = cluster_of(settings)
    except Refusal:
        cluster = None
    return ChiefsFolder(settings.run_dir) if cluster and not cluster.is_chief else RunFolder(settings.run_dir)


def _from_environment() -> Cluster:
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise ValueError(f"TF_CONFIG is not set, and it names the workers; {_REMEDY}")
    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise ValueError(f"TF_CONFIG={_short(text)} is no JSON object; {_REMEDY}")
    addresses, first = _addresses(config.get("cluster"))
    return Cluster(addresses, _index(config.get("task"), first, len(addresses)), _start_deadline())


def _addresses(jobs) -> tuple[tuple[str, ...], dict[str, range]]:
    """(addresses, the chief's first; which indices each job has)."""
    if not isinstance(jobs, dict) or not jobs or not set(jobs) <= {"chief", "worker"}:
        raise ValueError(f'TF_CONFIG\'s "cluster" is {_short(jobs)} and must hold "worker" (and "chief") only; {_REMEDY}')
    addresses, places = [], {}
    for job in ("chief", "worker"):
        listed = jobs.get(job, [])
        if not isinstance(listed, list) or not all(isinstance(one, str) and _is_address(one) for one in listed):
            raise ValueError(f"TF_CONFIG lists {_short(listed)} as {job} and must list addresses host:port; {_REMEDY}")
        places[job] = range(len(addresses), len(addresses) + len(listed))
        addresses += listed
    if not addresses or len(places["chief"]) > 1 or len(set(addresses)) < len(addresses):
        raise ValueError(f"TF_CONFIG lists {_short(addresses)}: there must be one worker at least, one chief at most, and "
                         f"no address twice; {_REMEDY}")
    return tuple(addresses), places


def _is_address(text: str) -> bool:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})", text, re.ASCII)
    return match is not None and 0 < int(match[2]) < 2**16


def _index(task, places: dict[str, range], workers: int) -> int:
    task = task if isinstance(task, dict) else {}
    job, index = task.get("type"), task.get("index")
    if not isinstance(job, str) or type(index) is not int or index not in range(len(places.get(job, ()))):
        raise ValueError(f'TF_CONFIG\'s "task" is {_short(task)} and must be one of the {workers} worker(s) of its '
                         f'"cluster"; {_REMEDY}')
    return places[job][index]


def _start_deadline() -> float:
    text = os.environ.get(START_DEADLINE, str(_DEFAULT_DEADLINE))
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < 1e6:
        raise ValueError(f"{START_DEADLINE}={_short(text)} must be seconds, above 0; unset it for {_DEFAULT_DEADLINE:g}")
    return seconds


def _short(value) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "..."
