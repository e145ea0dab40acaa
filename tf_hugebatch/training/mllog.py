"""An MLPerf training log of a run (`--mllog`), written with the mlperf-logging package as mllog.txt in the run folder.

What the log says is what the settings and the run say; who submits is a placeholder. It can pass the package's
compliance checker (v4.0.0 is the last that knows ResNet); that makes no MLPerf result, which takes a submission, its
rules and its review. "closed" names the rules that the log is held against: they know LARS and momentum SGD with
polynomial decay; anything else is "open". Epochs are MLPerf's: ceil(N / B) updates each, and one that has begun counts;
evaluations come after whole ones (training/timetable.py).
The lines of a stopped run go on where they stopped.
"""

import json
import logging
import math
import os

import tensorflow as tf
from mlperf_logging.mllog import constants
from mlperf_logging.mllog.mllog import MLLogger

from .. import published
from ..layout import ceil_div

#: Optimizers that MLPerf's closed division knows, by our names.
_CLOSED = {"lars": constants.LARS, "sgd": constants.SGD}


class MLLog:
    """Writes the log of one run.

    Args:
        path: of the log.
        settings: `Settings`.
        layout: `layout.Layout`.
        done: updates done before this process; lines that speak of later ones are dropped, since they happen again.
        started: time.time() when this process began with the run.
    """

    def __init__(self, path, settings, layout, done, started):
        self._settings, self._done = settings, done
        self._steps_per_epoch = math.ceil(settings.updates_per_epoch)
        self._block = None  # number of the first epoch of the block that is open
        kept = _lines_up_to(path, done) if done else []
        self._best = max([0.0, *(said["value"] for _, said in kept if said["key"] == constants.EVAL_ACCURACY)])
        path.write_text("".join(line for line, _ in kept))
        handler = logging.FileHandler(path)
        handler.setFormatter(logging.Formatter("%(message)s"))
        self._logger = logging.Logger(f"mllog {path}", logging.INFO)
        self._logger.addHandler(handler)
        self._log = MLLogger(self._logger, default_stack_offset=2, root_dir=os.path.dirname(__file__))
        if not kept:
            self._describe(layout, started)
        if kept and kept[-1][1]["key"] == constants.BLOCK_START:
            self._block = kept[-1][1]["metadata"]["first_epoch_num"]
        elif done < settings.total_updates:
            self._start_block()

    # What the loop tells.

    def evaluation_starts(self, done):
        """After `done` updates the evaluation begins."""
        self._done = done
        self._stop_block()
        self._start(constants.EVAL_START, epoch_num=self._epoch())

    def evaluated(self, accuracy):
        """`accuracy`: top-1 of all test images, 0 to 1."""
        self._best = max(self._best, accuracy)
        self._event(constants.EVAL_ACCURACY, accuracy, epoch_num=self._epoch())

    def evaluation_ends(self, go_on):
        """The evaluation is over; `go_on` when training goes on after it."""
        self._end(constants.EVAL_STOP, epoch_num=self._epoch())
        if go_on:
            self._start_block()

    def close(self, status=None):
        """status: constants.SUCCESS or ABORTED of a run that has ended; None for one that was interrupted.

        MLPerf succeeds when the target is reached: a run that ended below it is logged as aborted.
        """
        if status is not None:
            self._stop_block()
            reached = 100 * self._best >= published.MLPERF_TARGET
            self._end(constants.RUN_STOP, status=status if reached else constants.ABORTED)
        for handler in self._logger.handlers:
            handler.close()

    # Lines.

    def _describe(self, layout, started):
        settings = self._settings
        self._log.start(constants.INIT_START, time_ms=int(1e3 * started), metadata={"step": 0})
        devices = tf.config.list_logical_devices()
        kind = devices[-1].device_type
        closed = _closed_name(settings)
        facts = {
            constants.SUBMISSION_BENCHMARK: constants.RESNET,
            constants.SUBMISSION_DIVISION: constants.CLOSED if closed else constants.OPEN,
            constants.SUBMISSION_ORG: "tf_hugebatch",
            constants.SUBMISSION_PLATFORM: f"{layout.replicas} x {kind}",
            constants.SUBMISSION_STATUS: constants.RESEARCH,
            # Nobody clears the system's caches here, and the log does not say that somebody did.
            constants.CACHE_CLEAR: False,
            constants.SEED: settings.seed,
            constants.GLOBAL_BATCH_SIZE: settings.batch_size,
            constants.GRADIENT_ACCUMULATION_STEPS: layout.rounds,
            constants.TRAIN_SAMPLES: settings.train_examples,
            constants.EVAL_SAMPLES: settings.sizes[1],
            constants.OPT_NAME: closed or settings.optimizer,
            constants.MODEL_BN_SPAN: layout.span,
            **_schedule_facts(settings, self._steps_per_epoch),
        }
        for key, value in facts.items():
            self._event(key, value)
        self._end(constants.INIT_STOP)
        self._start(constants.RUN_START)

    def _start_block(self):
        self._block = self._done // self._steps_per_epoch + 1
        left = ceil_div(self._settings.total_updates, self._steps_per_epoch) - self._block + 1
        self._start(constants.BLOCK_START, first_epoch_num=self._block,
                    epoch_count=min(math.ceil(self._settings.eval_every_epochs), left))

    def _stop_block(self):
        if self._block is not None:
            self._end(constants.BLOCK_STOP, first_epoch_num=self._block)
            self._block = None

    def _epoch(self):
        return ceil_div(self._done, self._steps_per_epoch)

    def _event(self, key, value, **metadata):
        self._log.event(key, value, metadata={"step": self._done, **metadata})

    def _start(self, key, **metadata):
        self._log.start(key, metadata={"step": self._done, **metadata})

    def _end(self, key, **metadata):
        self._log.end(key, metadata={"step": self._done, **metadata})


def _closed_name(settings):
    """The closed division's word for the optimizer, or None for what its rules have no words for."""
    return _CLOSED.get(settings.optimizer) if settings.schedule == "polynomial" else None


def _schedule_facts(settings, steps_per_epoch):
    """The lines on optimizer and rate as the closed division's rules name them; none in the open division."""
    name = _closed_name(settings)
    if name is None:
        return {}
    # Whose warm-up carries the optimizer's name is as the rules have it.
    is_lars = name == constants.LARS
    warmup = constants.LARS_OPT_LEARNING_RATE_WARMUP_EPOCHS if is_lars else constants.OPT_LR_WARMUP_EPOCHS
    facts = {
        warmup: round(settings.warmup_updates / steps_per_epoch, 6),
        f"{name}_opt_base_learning_rate": settings.peak_rate,
        f"{name}_opt_end_learning_rate": settings.end_learning_rate,
        f"{name}_opt_learning_rate_decay_poly_power": settings.poly_power,
        f"{name}_opt_learning_rate_decay_steps": settings.total_updates - settings.warmup_updates,
        f"{name}_opt_momentum": settings.momentum,
        f"{name}_opt_weight_decay": settings.weight_decay,
    }
    return {**facts, constants.LARS_EPSILON: settings.epsilon} if is_lars else facts


def _lines_up_to(path, done):
    """(line, what it says) of an earlier process's log, for the lines that speak of the first `done` updates."""
    if not path.exists():
        return []
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        try:
            said = json.loads(line.removeprefix(":::MLLOG "))
            if line.endswith("\n") and said["metadata"]["step"] <= done:
                kept.append((line, said))
        except (ValueError, KeyError, TypeError):
            continue  # cut off by a kill
    return kept
