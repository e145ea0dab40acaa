"""What a sweep shows while it works: a live table on a terminal, a plain line for every run that ends elsewhere."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence

import rich.console
import rich.live
import rich.table
import rich.text

_SECONDS_BETWEEN_LOOKS = 1.0


class Screen:
    """A context manager. stream: where to write; the table only when it is a terminal."""

    def __init__(self, stream=None):
        self._stream = stream or sys.stdout
        self._live, self._looked = None, 0.0
        if self._stream.isatty():
            # No thread of its own: processes are started from this one, and they ask to be told when it dies.
            self._live = rich.live.Live(console=rich.console.Console(file=self._stream), auto_refresh=False, transient=True)

    def __enter__(self):
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception):
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._live:
            self._live.console.print(text, highlight=False, soft_wrap=True, markup=False)
        else:
            print(text, file=self._stream, flush=True)

    @property
    def wants_more(self) -> bool:
        """Whether it is time for the table to be shown again."""
        return self._live is not None and time.monotonic() - self._looked >= _SECONDS_BETWEEN_LOOKS

    def show(self, running: Sequence[tuple[str, str, str]], standing: str) -> None:
        """The table: (run, how far it is, its values) of every run that is at work; below it how the sweep stands."""
        self._looked = time.monotonic()
        table = rich.table.Table()
        for column in ("running", "update", "values"):
            table.add_column(column)
        for row in running:
            table.add_row(*map(rich.text.Text, row))  # values may look like markup: [/]kernel
        self._live.update(rich.console.Group(table, rich.text.Text(standing)), refresh=True)


def in_words(values: Mapping) -> str:
    """A point, as a line shows it."""
    return ", ".join(f"{flag}={value:.4g}" if isinstance(value, float) else f"{flag}={value}"
                     for flag, value in values.items()) or "-"


def percent(accuracy: float | None) -> str:
    """An accuracy in percent."""
    return "-" if accuracy is None else f"{100 * accuracy:.2f}%"


def mean_and_range(accuracies: Sequence[float]) -> str:
    """Accuracies of several seeds in percent, with the lowest and the highest where there are two or more."""
    if not accuracies:
        return "-"
    spread = f" ({percent(min(accuracies))} to {percent(max(accuracies))})" if len(accuracies) > 1 else ""
    return f"{percent(statistics.mean(accuracies))}{spread}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
