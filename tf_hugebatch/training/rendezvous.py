"""Workers wait for one another before TensorFlow does.

TensorFlow's own wait for missing workers has no end, holds Python's lock (no thread, signal handler or message of ours
runs meanwhile) and ignores SIGTERM. So the workers meet first, by plain sockets on the addresses that TensorFlow will
listen on: each connects to the chief, says which one it is, and hears whom the chief still misses, until it is nobody.
"""

import os
import re
import selectors
import socket
import time

_GREETING = "tf_hugebatch worker {} of {}\n"
_NEWS = "missing {}\n"
_TAKEN = "taken\n"
_LONGEST_LINE = 4096
_BETWEEN_TRIES = 0.2  # seconds


def meet(cluster, say=print):
    """Returns when all workers of `cluster` (`cluster.Cluster`) are there.

    Args:
        cluster: who is to come, and within how many seconds.
        say: called with a sentence when somebody is waited for.

    Raises:
        ValueError: somebody did not come (the message names who), this worker's address is in use, or its place taken.
    """
    until = time.monotonic() + cluster.start_deadline
    with _listening(cluster) as listener:
        if cluster.is_chief:
            missing = _receive(cluster, listener, until, say)
        else:
            missing = _report_to_chief(cluster, until, say)
    if missing:
        raise ValueError(
            f"{_names(cluster, missing)} did not come within {cluster.start_deadline:g} seconds of the start of "
            f"{cluster.name(cluster.index)}; start all {len(cluster.addresses)} at about the same time, with the same "
            f"addresses in TF_CONFIG."
        )


def _names(cluster, indices):
    return ", ".join(cluster.name(index) for index in sorted(indices))


def _listening(cluster):
    """A socket on this worker's own address, which also shows that TensorFlow will get it."""
    host, port = cluster.host_and_port(cluster.index)
    # A name may stand for an address that only others see (containers), so all interfaces, as TensorFlow listens.
    own = {"localhost": "127.0.0.1", "127.0.0.1": "127.0.0.1", "::1": "::1"}.get(host, "")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((own, port), family=family, backlog=len(cluster.addresses))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ValueError(f"{cluster.name(cluster.index)}, which is this process, can't listen there ({reason}); "
                         f"another process has the port, or the address is wrong.") from error


def _receive(cluster, listener, until, say):
    """The chief's part; returns the indices of those who did not come by `until` (seconds of time.monotonic)."""
    absent = set(range(1, len(cluster.addresses)))
    present = {}  # connection -> index
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    lines, said = {}, None  # what each connection has sent so far
    try:
        while absent and (left := until - time.monotonic()) > 0:
            if said != absent:
                said = set(absent)
                say(f"Waiting for {_names(cluster, absent)}.")
                _tell(present, absent)
            for key, _ in selector.select(left):
                connection = key.fileobj
                if connection is listener:
                    connection, _ = listener.accept()
                    connection.setblocking(False)
                    selector.register(connection, selectors.EVENT_READ)
                    lines[connection] = b""
                    continue
                index = _arrived(cluster, connection, lines)
                if index in present.values():
                    _send(connection, _TAKEN)
                    index = None
                if index is None:
                    # It left, is a stranger, or comes too late for its place.
                    absent |= {present.pop(connection)} if connection in present else set()
                    selector.unregister(connection)
                    connection.close()
                    del lines[connection]
                elif index:
                    present[connection] = index
                    absent.discard(index)
        _tell(present, absent)
        return absent
    finally:
        selector.close()
        for connection in lines:
            connection.close()


def _arrived(cluster, connection, lines):
    """Which worker a readable connection turned out to be; 0 when more must be read, None when it is of no use."""
    try:
        read = connection.recv(_LONGEST_LINE)
    except BlockingIOError:
        return 0
    except OSError:
        return None
    lines[connection] += read
    if not read or len(lines[connection]) > _LONGEST_LINE:
        return None
    line = lines[connection].decode("ascii", "replace")
    if not line.endswith("\n"):
        return 0
    index = next((i for i in range(1, len(cluster.addresses)) if line == _GREETING.format(i, len(cluster.addresses))), None)
    return index


def _tell(connections, absent):
    for connection in connections:
        _send(connection, _NEWS.format(",".join(map(str, sorted(absent)))))


def _send(connection, text):
    try:
        connection.sendall(text.encode())
    except OSError:
        pass  # it has left; the selector will say so


def _report_to_chief(cluster, until, say):
    """The part of the others; returns the indices of those who did not come by `until`, as far as is known."""
    missing = {0}
    said = False
    while time.monotonic() < until:
        try:
            with socket.create_connection(cluster.host_and_port(0), timeout=max(0.01, until - time.monotonic())) as chief:
                chief.sendall(_GREETING.format(cluster.index, len(cluster.addresses)).encode())
                for line in chief.makefile("r", encoding="ascii", errors="replace"):
                    if line == _TAKEN:
                        raise ValueError(f"another process is {cluster.name(cluster.index)} already; give each worker an "
                                         f"index of its own in TF_CONFIG.")
                    if news := re.fullmatch(r"missing ([0-9,]*)\n", line):
                        numbers = {int(number) for number in news[1].split(",") if number}
                        missing = numbers & set(range(len(cluster.addresses)))
                        if not missing:
                            return missing
                    chief.settimeout(max(0.01, until - time.monotonic()))
        except OSError:
            pass  # not there yet, gone again, or silent for too long
        else:
            missing |= {0}  # it has left
        if not said:
            said = True
            say(f"Waiting for {cluster.name(0)}.")
        time.sleep(_BETWEEN_TRIES)
    return missing
