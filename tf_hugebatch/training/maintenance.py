"""Notices that this machine is about to be taken away: watched on Google's machines, obeyed as a SIGTERM is.

The metadata server of a machine of Google's says beforehand that its host goes into maintenance (Cloud TPU and GPU machines
are stopped then, up to an hour later) and that a spot machine is taken back (in 30 seconds):
https://cloud.google.com/compute/docs/metadata/getting-live-migration-notice. TensorFlow's PreemptionCheckpointHandler does
nothing on a Cloud TPU. A machine is Google's when its firmware says so (one file, no network), or when GCE_METADATA_HOST, as
Google's own clients have it, names a server; anywhere else nothing is started.
"""

import contextlib
import http.client
import os
import pathlib
import signal
import socket
import sys
import threading

_PRODUCT_NAME = pathlib.Path("/sys/class/dmi/id/product_name")
_SERVER = "metadata.google.internal"
_FLAVOR = {"Metadata-Flavor": "Google"}
#: What is asked, below computeMetadata/v1/instance/, and the answer that ends the run. A host that is migrated while the
#: machine runs on (MIGRATE_ON_HOST_MAINTENANCE) ends nothing.
NOTICES = {"maintenance-event": "TERMINATE_ON_HOST_MAINTENANCE", "preempted": "TRUE"}
#: Seconds that the server holds a question whose answer doesn't change, that may pass beyond that, and after an error.
HELD, GRACE, PAUSE = 60.0, 10.0, 10.0


def metadata_server():
    """"host" or "host:port" of the metadata server; None on a machine that is not Google's."""
    if stated := os.environ.get("GCE_METADATA_HOST"):
        return stated
    try:
        return _SERVER if _PRODUCT_NAME.read_text().strip().startswith("Google") else None
    except OSError:
        return None


class MaintenanceNotices:
    """A context manager; while it is entered, a notice that comes is given to `stop` as a SIGTERM with its own reason.

    One that stands already at the start is told and not obeyed: whatever starts the same command again and again would
    otherwise start and stop it, without an update, until the host goes. Then SIGTERM or the last checkpoint is what saves.

    Args:
        stop: `stop_signal.StopSignal`.
        server: as `metadata_server` gives it; None: nothing is watched.
        say: called with a line for the user.
        pause: seconds after an answer that can't be used.
    """

    def __init__(self, stop, server=None, say=lambda text: print(text, file=sys.stderr, flush=True), pause=PAUSE):
        self._watches = [_Watch(server, name, ends, stop, say, pause) for name, ends in NOTICES.items()] if server else []

    def __enter__(self):
        for watch in self._watches:
            watch.start()
        return self

    def __exit__(self, *exception):
        for watch in self._watches:
            watch.end()


class _Watch(threading.Thread):
    """Asks for one value again and again; the server answers when it changes."""

    def __init__(self, server, name, ends, stop, say, pause):
        super().__init__(name=f"watch {name}", daemon=True)
        self._server, self._key, self._ends, self._stop_signal, self._say, self._pause = server, name, ends, stop, say, pause
        self._over, self._connection, self._complained = threading.Event(), None, False

    def run(self):
        before, tag = None, None
        while not self._over.is_set():
            try:
                value, tag = self._ask(tag)
            except (OSError, ValueError, http.client.HTTPException) as error:
                self._complain(error)
                # From the start again: what was missed shows as a change.
                tag = None
                self._over.wait(self._pause)
                continue
            if value == self._ends != before:
                notice = f"notice of the machine's end ({self._key}={value} from {self._server})"
                if before is None:
                    self._say(f"Note: there was a {notice} before this run began; it trains on until it is stopped.")
                else:
                    self._stop_signal.notice(signal.SIGTERM, notice)
                    self._say(f"A {notice} came: saving and leaving.")
            before = value

    def _ask(self, tag):
        """(value, its tag); with the tag of the value that is known, when there is another or HELD seconds have passed."""
        path = f"/computeMetadata/v1/instance/{self._key}"
        if tag is not None:
            path += f"?wait_for_change=true&timeout_sec={HELD:g}&last_etag={tag}"
        # No proxy of the environment's: the server is this machine's own.
        with contextlib.closing(http.client.HTTPConnection(self._server, timeout=HELD + GRACE)) as self._connection:
            self._connection.connect()
            if self._over.is_set():
                # `end` looked for a socket before there was one.
                raise OSError("the run has ended")
            self._connection.request("GET", path, headers=_FLAVOR)
            answer = self._connection.getresponse()
            text = answer.read(1000).decode("ascii")
            if answer.status != 200 or answer.headers["Metadata-Flavor"] != "Google" or not answer.headers["ETag"]:
                raise ValueError(f"status {answer.status}, {'' if answer.headers['Metadata-Flavor'] else 'not '}from Google")
            return text.strip(), answer.headers["ETag"]

    def _complain(self, error):
        if not self._complained and not self._over.is_set():
            self._complained = True
            self._say(f"Note: {self._server} doesn't say {self._key} ({type(error).__name__}: {error}), so a notice of the "
                      f"machine's end may be missed; it is asked again every {self._pause:g} s, and SIGTERM saves as ever.")

    def end(self):
        """Ends the thread, whatever it waits for."""
        self._over.set()
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        self.join(1.0)
