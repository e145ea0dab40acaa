"""What the workers of a run (`--strategy=multiworker`) decide together, and how the end of one ends all.

Each worker runs the same loop on its own share of the batch. Whatever depends on more than the settings (how many updates
the next call makes, a signal, the checkpoint to go on from) is agreed on first, since a worker that went its own way would
leave the others waiting in a collective. A worker alone decides for itself.
"""

import contextlib
import faulthandler
import functools
import hashlib
import json
import pathlib
import re
import signal
import socket
import sys
import time

import numpy as np
import tensorflow as tf

from ..cluster import WorkerLost, cluster_of
from ..settings import Refusal
from .rendezvous import meet

#: Seconds that TensorFlow may take to connect workers that have just met.
CONNECT_DEADLINE = 60.0
#: Seconds that a file system that workers share may take to show one what another wrote.
_SHOWS_WITHIN = 60.0
#: Settings in which workers may differ: where each finds its files.
_OWN = ("data_dir", "run_dir")


def join(settings):
    """Joins the cluster of a run, before anything else starts TensorFlow, and checks that all have the same settings.

    Raises:
        Refusal: a worker did not come, or was started with other settings.
    """
    cluster = cluster_of(settings)
    if cluster is None:
        return
    try:
        workers = Workers(multiworker_strategy(cluster), cluster)
    except ValueError as error:
        raise Refusal([f"--strategy=multiworker: {error}"]) from error
    workers.must_agree({name: value for name, value in settings.as_dict().items() if name not in _OWN},
                       "start all with the same flags")


@functools.lru_cache(maxsize=1)
def multiworker_strategy(cluster):
    """MultiWorkerMirroredStrategy over `cluster` (`cluster.Cluster`); one cluster a process, joined once.

    Raises:
        ValueError: a worker did not come before the cluster's deadline; or TensorFlow has already started.
    """
    meet(cluster, say=lambda text: print(text, file=sys.stderr, flush=True))
    # Without the environment: "chief" and "worker" have become one list.
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}), task_type="worker", task_id=cluster.index,
        rpc_layer="grpc",
    )
    handler = signal.getsignal(signal.SIGTERM)
    # A worker that dies just now would leave the others in a wait that has no end and that nothing of Python's interrupts.
    faulthandler.dump_traceback_later(CONNECT_DEADLINE, exit=True, file=sys.__stderr__)
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except RuntimeError as error:
        raise ValueError(f"{error}; start a new process.") from error
    finally:
        faulthandler.cancel_dump_traceback_later()
        # TensorFlow has put a SIGTERM handler of its own in place, which does nothing but note it.
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGTERM, handler)


class Workers:
    """The workers of a run, as one of them sees them.

    Args:
        strategy: what the run is distributed by.
        cluster: `cluster.Cluster`; None for a process alone.

    Attributes:
        chief: whether this process writes the run folder.
    """

    def __init__(self, strategy, cluster):
        self._strategy, self._cluster = strategy, cluster
        self.chief = cluster is None or cluster.is_chief
        self._gather = tf.function(self._gathered_rows, reduce_retracing=True)

    @property
    def hosts(self):
        """Processes, or hosts of a TPU, that each read data of their own."""
        of_devices = {tf.DeviceSpec.from_string(device).task for device in self._strategy.extended.worker_devices}
        return max(len(of_devices), len(self._cluster.addresses) if self._cluster else 1)

    def file_of_its_own(self, name):
        """`name`, "stacks.txt" say, as this process may write it: another worker's name says which one it is."""
        stem, dot, ending = name.rpartition(".")
        return name if self.chief else f"{stem}-worker-{self._cluster.index}{dot}{ending}"

    def gathered(self, values):
        """A row of numbers of each worker: int64 [workers, k] from this one's k `values`.

        Raises:
            WorkerLost: one of them is gone.
        """
        values = np.asarray(values, np.int64)
        if self._cluster is None:
            return values[np.newaxis]
        try:
            rows = self._gather(tf.constant(values)).numpy()
        except tf.errors.OpError as error:
            raise self.lost(error) or error
        # Replicas are numbered worker by worker, and those of a worker say the same.
        return rows[:: len(rows) // len(self._cluster.addresses)]

    def _gathered_rows(self, values):
        replicas = self._strategy.num_replicas_in_sync

        def one(values):
            context = tf.distribute.get_replica_context()
            own = tf.one_hot(context.replica_id_in_sync_group, replicas, dtype=tf.int64)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, own[:, tf.newaxis] * values)

        return self._strategy.experimental_local_results(self._strategy.run(one, args=(values,)))[0]

    def must_agree(self, values, remedy):
        """Refuses when a worker has another value than the chief for one of the names in `values`.

        Args:
            values: name -> plain value, the same names on all workers.
            remedy: what to do about it.

        Raises:
            Refusal: on every worker.
        """
        rows = self.gathered([_fingerprint(value) for value in values.values()])
        problems = []
        for index, row in enumerate(rows):
            differing = [name for name, own, chiefs in zip(values, row, rows[0]) if own != chiefs]
            if differing:
                problems.append(f"{self._cluster.name(index)} has another {', another '.join(differing)} than the chief; "
                                f"{remedy}.")
        if problems:
            raise Refusal(problems)

    def must_agree_on_start(self, update, notes, identity):
        """Refuses when a worker would go on from another checkpoint than the chief, or trains on other data."""
        self.must_agree({"update to go on from": update, "checkpoint": notes, **identity},
                        "all must see the chief's run folder (a file system that they share) and the same data")

    def must_see(self, checkpoint):
        """Refuses when a worker does not see the chief's `checkpoint` (path), to which a rewind may go back in mid-run."""
        until = time.monotonic() + _SHOWS_WITHIN
        while not checkpoint.exists() and time.monotonic() < until:
            time.sleep(0.1)
        self.must_agree({"first checkpoint (or none)": checkpoint.exists()}, "with --on_divergence=rewind all must see the "
                        "chief's run folder (a file system that they share)")

    def next_call(self, updates, received):
        """(updates that the next call of the step makes, the signal that ends the run or None), the same for all.

        Speeds differ, so the chief says how many; a signal to one is a signal to all.
        """
        rows = self.gathered([updates, received or 0])
        return int(rows[0, 0]), int(rows[:, 1].max()) or None

    def union(self, numbers):
        """The numbers (ints of at least 0) that any worker has, sorted, from this one's."""
        if self._cluster is None:
            return numbers
        # Workers may have different counts, and a collective takes one shape.
        most = int(self.gathered([len(numbers)]).max())
        rows = self.gathered([*numbers, *[-1] * (most - len(numbers))]) if most else np.zeros([0], np.int64)
        return np.unique(rows[rows >= 0]).tolist()

    def replicas_on_this_machine(self):
        """How many of the run's replicas, this process' and other workers', share this machine's memory."""
        machines = self.gathered([_fingerprint(_machine())])[:, 0]
        own = 0 if self._cluster is None else self._cluster.index
        return self._strategy.num_replicas_in_sync * int(np.sum(machines == machines[own])) // len(machines)

    def micro_batch_size(self, size, fixed):
        """The one to use: the chief's where the chief's is `fixed` (given, or as it was), else the smallest found."""
        rows = self.gathered([size, fixed])
        return int(rows[0, 0] if rows[0, 1] else rows[:, 0].min())

    def lost(self, error):
        """A WorkerLost with the worker's name when `error` says that another worker is gone, else None."""
        if isinstance(error, WorkerLost):
            return error
        if self._cluster is None or not isinstance(error, tf.errors.OpError):
            return None
        text = str(error)
        if not isinstance(error, tf.errors.UnavailableError) and "Collective ops is aborted" not in text:
            return None
        # The reporter of an error and its subject are both named; only the subject with its replica.
        named = {int(number) for number in re.findall(r"/job:worker/replica:\d+/task:(\d+)", text)}
        # The one that keeps watch over the others is not named when it is gone itself.
        gone = sorted(named - {self._cluster.index}) or ([] if self._cluster.is_chief else [0])
        names = ", ".join(self._cluster.name(index) for index in gone) or "another worker"
        return WorkerLost(f"{names} died, stopped or can't be reached; start all {len(self._cluster.addresses)} workers "
                          f"with the same command again, and they go on from the last checkpoint")


def _machine():
    """A word for the machine that the process runs on, the same in all its containers."""
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return socket.gethostname()


def _fingerprint(value):
    """63 bits of a plain value, the same in every process."""
    digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class NoJournal:
    """What `journal.Journal` is to the chief."""

    def go_on_after(self, step):
        pass

    def train(self, metrics, last=False):
        pass

    def evaluation(self, split, step, result):
        pass

    def survey(self, name, step, numbers):
        pass

    def close(self, status, step, final):
        pass

    def release(self):
        pass
