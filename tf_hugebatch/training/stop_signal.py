"""SIGINT and SIGTERM: finish the update, save, leave."""

import contextlib
import signal


class StopSignal:
    """The first SIGINT or SIGTERM is kept for the loop to see; the second does what it always does.

    Attributes:
        received: number of the signal, or None.
        reason: why the run is to end, in words; None before that.
    """

    def __init__(self):
        self.received, self.reason = None, None
        self._before = {}

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            # Only the main thread may; in another one signals stay as they are.
            with contextlib.suppress(ValueError):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def _receive(self, number, frame):
        self.notice(number, signal.Signals(number).name)
        self._restore()

    def notice(self, number, reason):
        """Has the run end as signal `number` ends it, for a reason that is no signal; any thread may.

        A signal that follows is still the first.
        """
        self.reason, self.received = self.reason or reason, number

    def _restore(self):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __exit__(self, *exception):
        self._restore()
