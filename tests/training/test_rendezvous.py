"""Workers find one another by plain sockets; who is missing is named on every side, in bounded time."""

import socket
import threading
import time

import pytest
from reference.worker_processes import free_addresses, wait_for

from tf_hugebatch.cluster import Cluster
from tf_hugebatch.training.rendezvous import meet


class Meeting(threading.Thread):
    """One worker's `meet`, in a thread; `problem` is what it raised, or None."""

    def __init__(self, addresses, index, deadline=30.0):
        super().__init__(daemon=True)
        self.cluster, self.said, self.problem = Cluster(tuple(addresses), index, deadline), [], None
        self.start()

    def run(self):
        try:
            meet(self.cluster, self.said.append)
        except ValueError as error:
            self.problem = str(error)

    def over(self, seconds=20):
        self.join(seconds)
        assert not self.is_alive(), "it still waits"
        return self.problem


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_all_come_in_any_order(order):
    addresses = free_addresses(3)
    meetings = []
    for index in order:
        meetings.append(Meeting(addresses, index))
        time.sleep(0.2)
    assert [meeting.over() for meeting in meetings] == [None] * 3
    # The ports are TensorFlow's now.
    for address in addresses:
        socket.create_server(("127.0.0.1", int(address.rpartition(":")[2]))).close()


def test_a_chief_alone_waits_for_nobody():
    assert Meeting(free_addresses(1), 0).over() is None


def test_the_missing_are_named_on_every_side():
    addresses = free_addresses(4)
    chief, other = Meeting(addresses, 0, 1.0), Meeting(addresses, 2, 1.5)
    for problem in (chief.over(), other.over()):
        assert f"worker 1 at {addresses[1]}" in problem and f"worker 3 at {addresses[3]}" in problem
        assert "did not come within" in problem and f"worker 2 at {addresses[2]}, " not in problem
    assert chief.said[0] == "Waiting for " + ", ".join(f"worker {i} at {addresses[i]}" for i in (1, 2, 3)) + "."


def test_without_the_chief():
    addresses = free_addresses(2)
    assert f"worker 0 (the chief) at {addresses[0]} did not come within 0.5 seconds" in Meeting(addresses, 1, 0.5).over()


def connected(address, text):
    host, _, port = address.rpartition(":")
    wait_for(lambda: _listens(host, int(port)))
    one = socket.create_connection((host, int(port)))
    one.sendall(text)
    return one


def _listens(host, port):
    try:
        socket.create_connection((host, port)).close()
    except OSError:
        return False
    return True


def test_strangers_and_those_who_left_do_not_count():
    addresses = free_addresses(2)
    chief = Meeting(addresses, 0)
    for text in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 10_000, b"tf_hugebatch worker 7 of 2\n", b"tf_hugebatch worker 1 of 3\n"):
        connected(addresses[0], text).close()
    silent = connected(addresses[0], b"tf_hugebatch wor")
    time.sleep(0.3)
    assert chief.is_alive()
    worker = Meeting(addresses, 1)
    assert worker.over() is None and chief.over() is None
    silent.close()


def test_a_worker_that_died_while_it_waited_may_come_again():
    addresses = free_addresses(3)
    chief = Meeting(addresses, 0)
    died = connected(addresses[0], b"tf_hugebatch worker 1 of 3\n")
    wait_for(lambda: f"Waiting for worker 2 at {addresses[2]}." in chief.said)
    died.close()
    wait_for(lambda: chief.said[-1] == f"Waiting for worker 1 at {addresses[1]}, worker 2 at {addresses[2]}.")
    others = [Meeting(addresses, index) for index in (1, 2)]
    assert [meeting.over() for meeting in (chief, *others)] == [None] * 3


def test_two_with_one_number():
    addresses = free_addresses(3)
    chief = Meeting(addresses, 0, 5.0)
    first = connected(addresses[0], b"tf_hugebatch worker 1 of 3\n")
    wait_for(lambda: f"Waiting for worker 2 at {addresses[2]}." in chief.said)
    assert "another process is worker 1 at" in Meeting(addresses, 1).over()
    assert chief.is_alive()
    first.close()


def test_an_address_in_use():
    addresses = free_addresses(2)
    with socket.create_server(("127.0.0.1", int(addresses[0].rpartition(":")[2]))):
        assert "can't listen there (Address already in use)" in Meeting(addresses, 0).over()
