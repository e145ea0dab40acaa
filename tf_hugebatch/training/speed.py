"""How fast updates are, how much of their time is waiting for input, and how many of them make a loop."""

import contextlib
import time

#: Seconds between two looks at the metrics that `--steps_per_loop=auto` aims for.
SECONDS_PER_LOOP = 0.5


class Speed:
    """Images per second of the updates alone, and how many of them make a loop of the wanted length."""

    def __init__(self):
        self._loops, self._images, self._seconds, self._waited = 0, 0, 0.0, 0.0
        self._per_loop = 1

    @contextlib.contextmanager
    def measure(self, step, updates):
        """Around a call of `step` that makes so many updates."""
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        if self._loops == 1:
            # The first call traced the graph; it counts only while it is all there is.
            self._images, self._seconds, self._waited = 0, 0.0, 0.0
        self._loops += 1
        self._images += updates * step.layout.batch_size
        self._seconds += seconds
        self._waited += step.input_seconds
        if self._loops > 1:
            self._per_loop = max(1, min(2 * self._per_loop, int(SECONDS_PER_LOOP / (seconds / updates))))

    def updates_per_loop(self, setting):
        return self._per_loop if setting == "auto" else setting

    def notes(self):
        """What status.json holds of it; nothing before the first loop, so that what an earlier process measured stays."""
        return {"images_per_second": round(self.images_per_second, 1),
                "input_wait_share": round(self.input_wait_share, 4)} if self._loops else {}

    @property
    def images_per_second(self):
        return self._images / self._seconds if self._seconds else 0.0

    @property
    def input_wait_share(self):
        """Share of the updates' time in which nothing could be done but wait for input."""
        return self._waited / self._seconds if self._seconds else 0.0
