"""What a plan shows while it works: a line for everything that was found out, and how long the compiler has been at it."""

from __future__ import annotations

import sys
import time

import rich.console
import rich.live
import rich.text

from tf_hugebatch.tuning.screen import duration

# Seconds, on a terminal and elsewhere.
_BETWEEN_LOOKS, _BETWEEN_LINES = 1.0, 60.0


class Screen:
    """A context manager. stream: where to write; a line that changes only where it is a terminal."""

    def __init__(self, stream=None):
        self._stream = stream or sys.stderr
        self._live, self._doing, self._said = None, "", 0.0

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._clear()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._clear()
        print(text, file=self._stream, flush=True)

    def begin(self, text: str) -> None:
        """What is being done from now on."""
        self._clear()
        self._doing, self._said = text, time.monotonic()
        if self._stream.isatty():
            # No thread of its own: processes are started from this one.
            self._live = rich.live.Live(rich.text.Text(text), console=rich.console.Console(file=self._stream),
                                        auto_refresh=False, transient=True)
            self._live.start(refresh=True)
        else:
            print(f"{text} ...", file=self._stream, flush=True)

    def watch(self, seconds: float) -> None:
        """It has taken that long so far."""
        since = time.monotonic() - self._said
        if self._live and since >= _BETWEEN_LOOKS:
            self._live.update(rich.text.Text(f"{self._doing}: {duration(seconds)}"), refresh=True)
        elif not self._live and since >= _BETWEEN_LINES:
            print(f"{self._doing}: {duration(seconds)} so far", file=self._stream, flush=True)
        else:
            return
        self._said = time.monotonic()

    def _clear(self):
        if self._live:
            self._live.stop()
            self._live = None
