"""Workers of a cluster on this machine as processes, for tests."""

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time

TESTS = pathlib.Path(__file__).parents[1]


def free_addresses(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return addresses


def environment(**changes):
    """Of a child that imports what this process imports, and quietly."""
    path = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    return {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", **changes}


def tf_config(addresses, index):
    return json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})


@contextlib.contextmanager
def workers(words, addresses=None, indices=None, start_deadline=300):
    """Starts `python *words` as workers (all, or those in `indices`); yields the processes, and leaves none behind."""
    addresses = addresses or free_addresses(2)
    processes = []
    try:
        for index in range(len(addresses)) if indices is None else indices:
            surroundings = environment(TF_CONFIG=tf_config(addresses, index), TF_HUGEBATCH_START_DEADLINE=str(start_deadline))
            processes.append(subprocess.Popen([sys.executable, *map(str, words)], env=surroundings, text=True,
                                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def wait_for(condition, seconds=240):
    """Waits until `condition()` is true; busy machines take their time."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)
    return found
