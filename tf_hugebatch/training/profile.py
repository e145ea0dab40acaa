"""`--profile_steps=a,b`: TensorBoard's profile of some updates."""

import contextlib
import sys

import tensorflow as tf


class Profile:
    """Profiles updates first .. last, counted from 1, into the run's TensorBoard folder; a context manager.

    Args:
        steps: (first, last), or None for no profile.
        folder: path.
    """

    def __init__(self, steps, folder):
        self._first, self._last = steps or (None, None)
        self._folder, self._on = folder, False

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._stop()

    def limit(self, done):
        """Updates that may run before the profile starts or ends; one at a time inside, so that each is a step."""
        if self._first is None or done >= self._last:
            return sys.maxsize
        return self._first - 1 - done if done < self._first - 1 else 1

    @contextlib.contextmanager
    def updates(self, done, count):
        if self._first is None or not self._first <= done + 1 <= self._last:
            yield
            return
        if not self._on:
            tf.profiler.experimental.start(str(self._folder))
            self._on = True
        # Without the step marker the profiler shows no steps.
        with tf.profiler.experimental.Trace("train", step_num=done + 1, _r=1):
            yield
        if done + count >= self._last:
            self._stop()

    def _stop(self):
        if self._on:
            tf.profiler.experimental.stop()
            self._on = False
