"""How far a run is: a bar with the time left on a terminal, one plain line every few seconds elsewhere.

An update of a huge batch can take an hour on a small machine, so micro-batches are shown too.
"""

import sys
import time

import rich.console
import rich.progress

_WIDE = 160  # characters


class Progress:
    """Shows updates done out of a total; a context manager.

    Args:
        total: updates in all.
        done: updates done before (a resumed run).
        stream: where to write; a bar only when it is a terminal, since carriage returns ruin a log.
        seconds_between_lines: of the plain form.
    """

    def __init__(self, total, done=0, *, stream=None, seconds_between_lines=10.0):
        self._stream = stream or sys.stderr
        self._total, self._first = total, done
        self._started = self._last_line = self._last_sign = time.monotonic()
        self._seconds_between_lines = seconds_between_lines
        self._bar = None
        if self._stream.isatty():
            console = rich.console.Console(file=self._stream)
            bar = 40 if console.width >= _WIDE else 10
            # On a narrow terminal the description gives way, not how far the run is and what is left.
            self._room = console.width - len(f"update {total:,}/{total:,} {bar * '-'}  0:00:00")
            self._bar = rich.progress.Progress(
                rich.progress.TextColumn("update {task.fields[updates]:,}/{task.total:,}"),
                rich.progress.BarColumn(bar_width=bar),
                rich.progress.TextColumn("{task.description}"),
                rich.progress.TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task("starting", total=total, completed=done, updates=done)

    def __enter__(self):
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *exception):
        if self._bar:
            self._bar.stop()

    def advance(self, done, description):
        """Says that `done` updates are done; `description` is a few words (epoch, loss, speed), two blanks
        apart, what matters most first."""
        self._last_sign = now = time.monotonic()
        if self._bar:
            self._bar.update(self._task, completed=done, updates=done, description=self._fitting(description))
        elif now - self._last_line >= self._seconds_between_lines:
            self._say_line(now, done, done, description)

    def reading(self, update, micro_batch, micro_batches):
        """Says that the input of micro-batch `micro_batch` (from 0) of update `update` (from 0) is being made.

        Input is made a few micro-batches ahead, so this is shown only while `advance` has been silent for long; it may be
        called by another thread.
        """
        now = time.monotonic()
        if now - self._last_sign < self._seconds_between_lines:
            return
        done, description = update + micro_batch / micro_batches, f"micro-batch {micro_batch:,}/{micro_batches:,}"
        if self._bar:
            self._bar.update(self._task, completed=done, updates=update, description=self._fitting(description))
        elif now - self._last_line >= self._seconds_between_lines:
            self._say_line(now, update, done, description)

    def _fitting(self, description):
        """As many of its parts, two blanks apart, as the terminal has room for."""
        parts = description.split("  ")
        while len("  ".join(parts)) > self._room and parts:
            parts.pop()
        return "  ".join(parts)

    def _say_line(self, now, updates, done, description):
        self._last_line = now
        words = f"update {updates:,}/{self._total:,}  {description}"
        if done > self._first:  # before that there is nothing to go by
            words += f"  {_duration((now - self._started) / (done - self._first) * (self._total - done))} left"
        self.say(words)

    def say(self, text):
        """A line that stays."""
        if self._bar:
            self._bar.console.print(text, highlight=False, soft_wrap=True, markup=False)
        else:
            print(text, file=self._stream, flush=True)


def _duration(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
