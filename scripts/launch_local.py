#!/usr/bin/env python3
"""Train with several workers on this machine, as a cluster would: one process each, joined by --strategy=multiworker.

    python scripts/launch_local.py --workers=2 --restarts=3 -- mnist_main --dataset=mnist5k --batch_size=full --epochs=5

What the workers say appears behind their numbers. When one dies all are started again and go on from the last checkpoint,
`--restarts` times at most. Each worker has GPUs of its own; with fewer GPUs than workers they train on the CPU. SIGINT and
SIGTERM are handed on (a second one ends everything at once), the exit code is the chief's (worker 0), and no worker outlives
this process, however it ends (Linux: SIGKILL too).
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from tf_hugebatch.cluster import START_DEADLINE
from tf_hugebatch.stops import stop_with
from tf_hugebatch.tuning import gpus

PROGRAMS = ("mnist_main", "cifar10_main", "imagenet_main")
REFUSED = 2
ENDED = (0, 3)  # done, diverged
STOPPED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
#: Seconds that the others have once a worker has ended: to find out that it died, or to save and leave.
AFTER_A_DEATH, AFTER_AN_END = 20.0, 120.0


class Signals:
    """SIGINT and SIGTERM that this process was sent, in a list."""

    def __init__(self):
        self.received = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: self.received.append(number))


class Worker:
    """One running worker, in a process group of its own so that Ctrl-C reaches it through this process only."""

    def __init__(self, index, addresses, command, deadline, devices):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(config), START_DEADLINE: str(deadline), "PYTHONUNBUFFERED": "1",
                       **devices}
        self.index = index
        # SIGKILL: a worker that waits inside TensorFlow for others heeds nothing less.
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            process_group=0, preexec_fn=stop_with(os.getpid(), signal.SIGKILL),
        )
        self._reader = threading.Thread(target=self._show, daemon=True)
        self._reader.start()

    def _show(self):
        for line in self.process.stdout:
            say(f"[{self.index}] {line.decode(errors='replace').rstrip()}")

    @property
    def code(self):
        """None while it runs; negative where a signal killed it."""
        return self.process.poll()

    def send(self, number):
        """Sends a signal to the worker, if it still runs; SIGKILL to all that it has started too."""
        if number == signal.SIGKILL:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                pass
        elif self.code is None:
            self.process.send_signal(number)

    def end(self):
        """Kills what is left and returns the exit code."""
        self.send(signal.SIGKILL)
        code = self.process.wait()
        self._reader.join(5)
        return code


def say(text):
    """A line on standard output, if anybody still reads it: the workers' own must be read on, or they would block."""
    try:
        print(text, flush=True)
    except OSError:
        pass


def devices_of(workers):
    """What each worker's environment has more: no two can reduce over one GPU."""
    try:
        shares = gpus.shares(workers)
    except gpus.NotCounted as error:
        say(f"launch_local: {error}; the workers train on the CPU.")
        shares = []
    return shares if len(shares) == workers else [{"CUDA_VISIBLE_DEVICES": "-1"}] * workers


def free_addresses(count):
    """Addresses on this machine whose ports nobody has now, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def run_once(workers, signals):
    """Waits until all workers have ended, and ends those that would not; returns their exit codes."""
    handed_on, leave_by = 0, None
    try:
        while None in (codes := [worker.code for worker in workers]):
            time.sleep(0.05)
            ended = [code for code in codes if code is not None]
            if ended and leave_by is None:
                died = any(has_died(code) for code in ended)
                leave_by = time.monotonic() + (AFTER_A_DEATH if died else AFTER_AN_END)
                if REFUSED in ended:
                    # The others wait for it, or would soon.
                    for worker in workers:
                        worker.send(signal.SIGTERM)
            if len(signals.received) > handed_on:
                handed_on = len(signals.received)
                for worker in workers:
                    worker.send(signals.received[0] if handed_on == 1 else signal.SIGKILL)
            if leave_by is not None and time.monotonic() > leave_by:
                break
    finally:
        codes = [worker.end() for worker in workers]
    return codes


def has_died(code):
    """Whether a worker ended as no worker should: a failure or a kill."""
    return code not in (*ENDED, *STOPPED, REFUSED)


def in_words(code):
    """How a worker ended."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def launch(options, command, signals):
    """Runs `command` as each of the workers, again where one dies; returns the exit code."""
    devices = devices_of(options.workers)
    for attempt in range(options.restarts + 1):
        addresses = free_addresses(options.workers)
        workers = [Worker(index, addresses, command, options.start_deadline, own) for index, own in enumerate(devices)]
        codes = run_once(workers, signals)
        dead = [f"worker {index} {in_words(code)}" for index, code in enumerate(codes) if has_died(code)]
        if codes[0] in ENDED or REFUSED in codes or not dead or signals.received:
            break
        again = attempt < options.restarts
        say(f"launch_local: {', '.join(dead)}; " + (
            f"restart {attempt + 1} of {options.restarts}, all workers from the last checkpoint." if again else
            "the same command goes on from the last checkpoint (--restarts=3 would do so by itself)."))
    if REFUSED in codes:
        return REFUSED
    return codes[0] if codes[0] >= 0 else 128 - codes[0]


def positive(kind):
    """A parser of numbers above 0."""

    def parse(text):
        number = kind(text)
        if not number > 0:
            raise ValueError
        return number

    parse.__name__ = f"positive {kind.__name__}"
    return parse


def parse(argv):
    """(options, the command that each worker runs)."""
    parser = argparse.ArgumentParser(
        prog="launch_local.py", usage="%(prog)s [options] -- mnist_main --flags...", description=__doc__.splitlines()[0],
    )
    parser.add_argument("--workers", type=positive(int), default=2, help="processes (2)")
    parser.add_argument("--restarts", type=int, default=0, help="times that all start again when one dies (0)")
    parser.add_argument("--start_deadline", type=positive(float), default=120.0,
                        help="seconds in which all workers must have started (120)")
    own, words = (argv[: argv.index("--")], argv[argv.index("--") + 1:]) if "--" in argv else (argv, [])
    options = parser.parse_args(own)
    if not words or words[0] not in PROGRAMS:
        parser.error(f"after -- there must be one of {', '.join(PROGRAMS)} and its flags")
    strategies = [word for word in words if word.startswith(("--strategy", "-strategy"))]
    if strategies:
        parser.error(f"{strategies[0]}: the workers' strategy is multiworker; drop it")
    return options, [sys.executable, "-m", f"tf_hugebatch.{words[0]}", "--strategy=multiworker", *words[1:]]


def main(argv):
    """Entry point; returns the exit code."""
    return launch(*parse(argv), Signals())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
