"""SIGINT and SIGTERM: finish the update, save, leave."""

import contextlib
import signal


class StopSignal:
    """The first SIGINT or SIGTERM is kept for the loop to see; the second does what it always does."""

    def __init__(self):
        self.received = None
        self._before = {}

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            # Only the main thread may; in another one signals stay as they are.
            with contextlib.suppress(ValueError):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number, frame):
        self.received = number
        self._restore()

    def _restore(self):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __exit__(self, *exception):
        self._restore()
