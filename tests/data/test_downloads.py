"""Downloads that end in the middle, or whose process does: what is half there is not read, and the same command goes on."""

import contextlib
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from reference.download_server import NAMES, DownloadServer
from reference.worker_processes import wait_for

#: The program mnist_main, but for the address that is asked whether the network is there.
MAIN = """
import dataclasses, signal, sys
from tf_hugebatch import one_run
from tf_hugebatch.data import mnist

signal.signal(signal.SIGINT, signal.default_int_handler)  # what starts tests in the background may have it ignored
mnist.FILES = dataclasses.replace(mnist.FILES, url=sys.argv[1])
sys.exit(one_run.main(["--run_dir=run"], program="mnist_main", description="", dataset="mnist"))
"""
#: Reads the images as a run does, without asking how many there are.
READ = "import sys, numpy; from tf_hugebatch.data import tfds_reader; numpy.savez(sys.argv[1], **tfds_reader.arrays('mnist'))"
AGAIN = "try again, or give --data_dir"


@pytest.fixture
def server():
    with DownloadServer() as server:
        yield server


@pytest.fixture
def start(server, tmp_path):
    """start(code, argument, stop): a process that runs Python code; none is left at the end."""
    started = []

    def start(code, argument, stop=None):
        started.append(subprocess.Popen(
            [sys.executable, "-c", code, str(argument)], env=server.environment(tmp_path / "tfds", stop), cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its reader too, where a test has failed
        process.communicate()


def ended(process, code):
    said, _ = process.communicate(timeout=240)
    assert process.returncode == code, said
    return said


def refusal(start, server):
    said = ended(start(MAIN, server.url), 2)
    assert "Traceback" not in said
    return next(line for line in said.splitlines() if line.startswith("  * "))


def examples(arrays, part):
    """Each image with its label as bytes, sorted: tensorflow-datasets keeps them in an order of its own."""
    images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
    return sorted(image.tobytes() + bytes([label]) for image, label in zip(images, labels, strict=True))


def is_whole(path, server):
    with np.load(path) as found:
        assert all(examples(found, part) == examples(server.arrays, part) for part in ("train", "test"))


def read_whole(start, server, tmp_path):
    """Everything is there in the end, every image with its label."""
    server.ending = "whole"
    ended(start(READ, tmp_path / "read.npz"), 0)
    is_whole(tmp_path / "read.npz", server)


def stopped_children(stop):
    return [int(path.name.partition(".")[2]) for path in stop.glob("here.*")]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.fault("a download that is closed in the middle, then kill -9 in the middle of its preparation",
                   holds="a message with the reason and the remedy; nothing half-made is read, what is whole is not loaded again")
def test_a_download_closed_in_the_middle_and_one_killed_in_its_preparation(start, server, tmp_path, record_property):
    server.ending = "closed"
    problem = refusal(start, server)
    assert "downloading MNIST failed (ChunkedEncodingError: " in problem and "IncompleteRead" in problem and AGAIN in problem
    assert not (tmp_path / "run").exists() and not (tmp_path / "tfds/mnist/3.0.1").exists()

    server.ending = "whole"
    (stop := tmp_path / "stop").mkdir()
    process = start(MAIN, server.url, stop)
    [child] = wait_for(lambda: stopped_children(stop))
    process.kill()
    wait_for(lambda: not alive(child), seconds=10)
    assert list(tmp_path.glob("tfds/mnist/incomplete.*")) and not (tmp_path / "tfds/mnist/3.0.1").exists()

    read_whole(start, server, tmp_path)
    assert server.asked.count(NAMES["x_train"]) == 2 and all(server.asked.count(name) == 1 for name in server.files
                                                               if name != NAMES["x_train"])
    record_property("tried", 2)


@pytest.mark.slow
@pytest.mark.parametrize("ending, reason", [("short", "NonMatchingChecksumError"), ("silent", "Read timed out")])
@pytest.mark.fault("a download cut short without a word, or that falls silent",
                   holds="a message with the reason and the remedy; the same command loads what is missing")
def test_a_download_cut_short_or_silent(start, server, tmp_path, ending, reason):
    server.ending = ending
    problem = refusal(start, server)
    assert "downloading MNIST failed (" in problem and reason in problem and AGAIN in problem
    read_whole(start, server, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.fault("Ctrl-C or SIGTERM while data are downloaded", holds="one line, no process left; the same command goes on")
def test_a_signal_while_data_are_downloaded(start, server, tmp_path, number):
    (stop := tmp_path / "stop").mkdir()
    process = start(MAIN, server.url, stop)
    [child] = wait_for(lambda: stopped_children(stop))
    process.send_signal(number)
    # Before there is anything to save SIGTERM does what it always does: a shell says 143.
    said = ended(process, 130 if number == signal.SIGINT else -signal.SIGTERM)
    assert "Traceback" not in said and ("Interrupted before the first update." in said) == (number == signal.SIGINT)
    wait_for(lambda: not alive(child), seconds=10)
    read_whole(start, server, tmp_path)


@pytest.mark.slow
@pytest.mark.fault("the reader of a download is killed", holds="a message with the signal and the remedy")
def test_a_reader_that_is_killed(start, server, tmp_path):
    (stop := tmp_path / "stop").mkdir()
    process = start(MAIN, server.url, stop)
    [child] = wait_for(lambda: stopped_children(stop))
    os.kill(child, signal.SIGKILL)
    assert "was killed by SIGKILL" in ended(process, 2)
    read_whole(start, server, tmp_path)


@pytest.mark.slow
@pytest.mark.fault("two processes prepare the same download at once", holds="both read all of it")
def test_two_processes_prepare_one_download(start, server, tmp_path):
    (stop := tmp_path / "stop").mkdir()
    both = [start(READ, tmp_path / f"{name}.npz", stop) for name in "ab"]
    wait_for(lambda: len(stopped_children(stop)) == 2)
    (stop / "go").touch()
    for process, name in zip(both, "ab", strict=True):
        ended(process, 0)
        is_whole(tmp_path / f"{name}.npz", server)
