"""What a plan shows while it works: a line for everything that was found out, and how long the compiler has been at it."""

from __future__ import annotations

import sys
import time

import rich.console

from tf_hugebatch.tuning.screen import duration

_BETWEEN_LINES = 60.0  # seconds, where the stream is no terminal


class Screen:
    """stream: where to write; a line that changes only where it is a terminal."""

    def __init__(self, stream=None):
        self._stream = stream or sys.stderr
        self._console = rich.console.Console(file=self._stream) if self._stream.isatty() else None
        self._status, self._said = None, 0.0

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
        if self._console:
            self._status = self._console.status(text)
            self._status.start()
        else:
            print(f"{text} ...", file=self._stream, flush=True)

    def watch(self, seconds: float) -> None:
        """It has taken that long so far."""
        if self._status:
            self._status.update(f"{self._doing}, {duration(seconds)}")
        elif time.monotonic() - self._said >= _BETWEEN_LINES:
            self._said = time.monotonic()
            print(f"{self._doing}, {duration(seconds)} so far", file=self._stream, flush=True)

    def _clear(self):
        if self._status:
            self._status.stop()
            self._status = None
