"""A run that hangs (in a collective, a read, a compile that never ends) says where, and ends; it does not sit there."""

import collections
import contextlib
import faulthandler
import os
import statistics
import sys
import threading
import time

#: An update may take so many times the median of those before it, and no less than so many seconds.
TIMES_THE_MEDIAN = 100
LEAST_SECONDS = 600.0
_REMEMBERED = 101
# A look that comes so many of its intervals late was not late: the whole process was stopped (Ctrl-Z, SIGSTOP, a sleeping
# virtual machine). Nothing could give a sign then, so that time is no silence.
_STOPPED = 10


class Watchdog:
    """A context manager; while it is entered, silence for too long ends the process with exit code 1.

    Before the first sign there is no limit: tracing and compiling take what they take. Time in which the whole process was
    stopped is no silence. On the way out every thread's stack goes to standard error and into a file.

    Args:
        stacks: path of that file; where it can't be written, standard error has them alone.
        ending: called with the reason before the process ends, to write it down.
        times, least: the limit, in medians and in seconds.
        exit: ends the process, whatever its threads are stuck in.
    """

    def __init__(self, stacks, ending, *, times=TIMES_THE_MEDIAN, least=LEAST_SECONDS, exit=os._exit):
        self._stacks, self._ending, self._times, self._least, self._exit = stacks, ending, times, least, exit
        self._seconds = collections.deque(maxlen=_REMEMBERED)
        self._last, self._pauses, self._stopped = None, 0, 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._over.set()
        self._thread.join()

    def updated(self):
        """Says that a loop of updates has ended."""
        now = self._clock()
        if self._last is not None:
            self._seconds.append(now - self._last)
        self._last = now

    def alive(self):
        """Says that something happened within a loop, such as a micro-batch that was read; any thread may."""
        if self._last is not None:
            self._last = self._clock()

    @contextlib.contextmanager
    def paused(self):
        """Around what is no update and may take its time: an evaluation, a checkpoint."""
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1
            self.alive()

    @property
    def limit(self):
        """Seconds of silence that end the run; None while nothing is known."""
        return max(self._least, self._times * statistics.median(self._seconds)) if self._seconds else None

    def _clock(self):
        """Seconds in which this process could run."""
        return time.monotonic() - self._stopped

    def _watch(self):
        interval, looked = min(1.0, self._least / 4), time.monotonic()
        while not self._over.wait(interval):
            since, looked = time.monotonic() - looked, time.monotonic()
            if since > _STOPPED * interval:
                self._stopped += since - interval
            limit, last = self.limit, self._last
            if limit is not None and not self._pauses and self._clock() - last > limit:
                return self._end(self._clock() - last, limit)

    def _end(self, silent, limit):
        reason = (f"no update for {silent:,.0f} s, where {limit:,.0f} s is the most ({self._times} x the median of the last "
                  f"loops, {statistics.median(self._seconds):.3g} s, and at least {self._least:,.0f} s): it hangs; every "
                  f"thread's stack is in {self._stacks}, and the same command goes on from the "
                  f"last checkpoint")
        print(reason, file=sys.stderr, flush=True)
        try:
            with contextlib.suppress(OSError), open(self._stacks, "w", encoding="utf-8") as file:
                faulthandler.dump_traceback(file, all_threads=True)
            self._ending(reason)
            with contextlib.suppress(Exception):  # a stream that is no file has no stacks to take
                faulthandler.dump_traceback(sys.stderr, all_threads=True)
        finally:
            self._exit(1)
