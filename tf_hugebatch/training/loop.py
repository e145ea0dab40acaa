"""The loop: the only composer of data, step, evaluation, checkpoints and run folder."""

import dataclasses
import math
import resource
import signal
import sys
import time

import tensorflow as tf

from .. import data
from ..data.order import Stream
from ..data.padding import training_micro_batches
from ..records import RunFolder
from ..settings import Refusal
from .assemble import Assembly
from .checkpoint import Checkpoints
from .divergence import LossTrend, first_bad
from .evaluate import Evaluations
from .journal import Journal
from .profile import Profile
from .progress import Progress
from .recalibrate import Recalibration
from .result import EXIT_CODES, Result, finished
from .speed import Speed
from .step import METRICS
from .stop_signal import StopSignal
from .strategy import host_of

#: What `--checkpoint_every_steps=auto` means: whatever an update takes, a kill loses about this much at most.
SECONDS_BETWEEN_CHECKPOINTS = 30.0


def train(settings, *, splits=None, command_line=()):
    """One run: settings in, run folder out. Called again it goes on where it stopped.

    Args:
        settings: `Settings`.
        splits: what `data.load(settings)` gives, if it was loaded before.
        command_line: words to note in versions.json.

    Returns:
        Result. A run that had ended before is not repeated: its result is read from the folder.

    Raises:
        Refusal: data, run folder, devices or layout do not fit; nothing was created.
    """
    folder = RunFolder(settings.run_dir)
    problems = folder.problems(settings)
    earlier = folder.read_status()
    if not problems and not settings.dry_run and (ended := finished(folder)):
        return ended
    if not problems:
        try:
            splits = splits or data.look(settings)
        except Refusal as refusal:
            problems = refusal.problems
    if problems:
        raise Refusal(problems)
    assembly = Assembly(settings, earlier)
    print(assembly.describe(), file=sys.stderr, flush=True)
    # The data only now: reading a million images once, for their index, is wasted on a run that can't be.
    training = None if settings.dry_run else _Training(assembly, splits or data.load(settings), folder)
    # Nothing was written so far, and a folder that holds a run is not touched by a dry run.
    if training or not earlier:
        try:
            folder.create(settings)
        except OSError as error:
            raise Refusal([f"--run_dir={settings.run_dir}: it can't be written to ({error.strerror}); name another "
                           f"folder"]) from error
        folder.write_schedule(assembly.schedule_rows())
        folder.write_versions(
            command_line=list(command_line), devices=[device.name for device in tf.config.list_logical_devices()]
        )
    if settings.dry_run:
        return Result("dry run", str(folder.path), {}, 0)
    with StopSignal() as stop:
        try:
            return training.go(stop)
        except KeyboardInterrupt:
            # The second signal: nothing is saved now, and nothing that was saved is lost.
            reason = "stopped at once by a second signal; the same command goes on from the last checkpoint"
            folder.write_status(status="interrupted", reason=reason)
            return Result("interrupted", str(folder.path), {}, 128 + signal.SIGINT, reason)
        except BaseException as error:
            folder.write_status(status="failed", reason=f"{type(error).__name__}: {error}")
            raise


class _Training:
    """One process's part of a run: from where the last checkpoint left it to its end, or to a signal.

    Making it restores the checkpoint (and raises Refusal for one of another run) and writes nothing.
    """

    def __init__(self, assembly, splits, folder):
        settings = assembly.settings
        self.assembly, self.settings, self.folder = assembly, settings, folder
        self.total = settings.total_updates
        self.note = {"data_note": splits.note} if splits.note else {}
        self.started, self.clock_at_start = time.monotonic(), time.time()
        status = folder.read_status()
        self.seconds_before, self.done_before = status.get("wall_seconds") or 0.0, status.get("step")
        self.saved = time.monotonic()
        self.checkpoints = Checkpoints(
            folder.path / "checkpoints",
            identity={
                "experiment": settings.experiment_hash(),
                "total_updates": self.total,
                "train_examples": settings.train_examples,
                "seed": settings.seed,
                "data": splits.fingerprint(),
                **self.note,
            },
            keep=settings.keep_checkpoints,
            model=assembly.model,
            optimizer=assembly.optimizer,
        )
        self.done, notes = self.checkpoints.restore_latest(warn=lambda text: print(text, file=sys.stderr))
        self.trend = LossTrend(settings.batch_size, self.total, notes.get("losses"))
        for name, numbers in notes.get("undecodable", {}).items():
            splits.undecodable()[name].remember(numbers)
        self.splits, self.stream = splits, Stream(settings.seed, settings.train_examples, settings.shuffle)
        self.evaluations = Evaluations(
            assembly.strategy, assembly.model, splits if settings.evaluate_test else dataclasses.replace(splits, test=None),
            assembly.eval_batch_size, notes,
            self._recalibrated if settings.recalibrate_bn_batches else None,
        )
        self.recalibration = Recalibration(assembly.strategy, assembly.model, assembly.layout, settings.seed)
        self.speed = Speed(settings.batch_size)
        self.progress = Progress(self.total, self.done)
        self.iterator = self._micro_batches(self.done, self.total, self.progress.reading)

    def go(self, stop):
        """Trains; returns the Result. `stop` is the StopSignal to look at between updates."""
        self.stop, settings, layout = stop, self.settings, self.assembly.layout
        self.journal = Journal(self.folder, self.folder.drop_metrics_after(self.done), settings, self.note)
        self.mllog = None
        if settings.mllog:
            # Here, since its package is not everybody's.
            from .mllog import MLLog

            self.mllog = MLLog(self.folder.path / "mllog.txt", settings, layout, self.done, self.clock_at_start)
        self._write_status("running", micro_batch_size=layout.micro_batch_size, micro_batches=layout.rounds,
                           replicas=layout.replicas, padding_per_update=layout.padding)
        with self.progress, Profile(settings.profile_steps, self.folder.path / "tensorboard") as profile:
            if self.done:
                self.progress.say(f"Going on at update {self.done:,} of {self.total:,}.")
            elif self.done_before:
                self.progress.say(f"This run had made {self.done_before:,} updates and left no checkpoint: it starts "
                                  f"again.")
            while self.done < self.total:
                count = min(self.speed.updates_per_loop(settings.steps_per_loop), self._next_stop() - self.done,
                            profile.limit(self.done))
                with profile.updates(self.done, count), self.speed.measure(self.assembly.step, count):
                    metrics = self.assembly.step(self.iterator, count)
                bad, what = first_bad(metrics)
                metrics = metrics if bad is None else metrics[: bad + 1]
                self.journal.train(metrics, last=bad is not None or self.done + count == self.total)
                self.trend.add(metrics[:, METRICS.index("loss")])
                if bad is not None:
                    # The update was refused, or its weights overflowed: either way nothing after it was applied.
                    self.done += bad
                    if metrics[-1, METRICS.index("applied")]:
                        # Overflowed: the weights of update `done` are gone, and no older evaluation is the final one.
                        self.evaluations.forget_before(self.done)
                    else:
                        self._evaluate(self.evaluations.unread(self.done))
                    return self._end("diverged", f"{what} was not finite at update {self.done + 1}")
                self.done += count
                self._show(metrics[-1])
                if self._evaluation_is_due():
                    self._evaluate([self.evaluations.watched])
                if self._checkpoint_is_due() and self.done < self.total:
                    self._save()
                if self.stop.received and self.done < self.total:
                    return self._interrupted()
            return self._finish()

    def _micro_batches(self, first_update, last_update, reading=None):
        """Iterator over the micro-batches of those updates, each host making those of its own replicas."""
        return iter(self.assembly.strategy.distribute_datasets_from_function(lambda context: training_micro_batches(
            self.splits.train, self.stream, self.assembly.layout, first_update, last_update, host_of(context), reading
        )))

    def _recalibrated(self):
        """The context of an evaluation with statistics from the first batches of the stream."""
        batches = self.settings.recalibrate_bn_batches
        return self.recalibration(self._micro_batches(0, batches), batches)

    # When the host has something to do.

    def _next_stop(self):
        every = self.settings.checkpoint_every_steps
        next_checkpoint = self.total if every == "auto" else (self.done // every + 1) * every
        return min(self.total, next_checkpoint, self._next_evaluation(self.done))

    def _checkpoint_is_due(self):
        every = self.settings.checkpoint_every_steps
        if every == "auto":
            return time.monotonic() - self.saved >= SECONDS_BETWEEN_CHECKPOINTS
        return self.done % every == 0

    def _next_evaluation(self, done):
        """The first update after `done` with which another `eval_every_epochs` epochs are complete."""
        period = self.settings.eval_every_epochs * self.settings.updates_per_epoch
        # Rounded, so that a period such as 7.000000000001 does not slip to the next update.
        return max(done + 1, math.ceil(round((math.floor(round(done / period, 9)) + 1) * period, 6)))

    def _evaluation_is_due(self):
        return self.done == self.total or self._next_evaluation(self.done - 1) == self.done

    # What it does.

    def _evaluate(self, names):
        if self.mllog and names:
            self.mllog.evaluation_starts(self.done)
        for split, result in self.evaluations(names, self.done):
            if self.mllog and split == "test":
                self.mllog.evaluated(result["accuracy"])
            if batches := self.settings.recalibrate_bn_batches:
                result = {**result, "recalibrated_bn_batches": batches}
            self.journal.evaluation(split, self.done, result)
            self.progress.say(f"epoch {self._epoch():.4g}: {split} accuracy {100 * result['accuracy']:.2f}%, loss "
                              f"{result['loss']:.4f}{f' ({self.splits.note})' if self.splits.note else ''}")
        if self.mllog and names:
            self.mllog.evaluation_ends(go_on=self.done < self.total)
        self._write_status("running")

    def _save(self):
        undecodable = {name: images.numbers for name, images in self.splits.undecodable().items()}
        self.checkpoints.save(
            self.done, {"losses": self.trend.notes(), "undecodable": undecodable, **self.evaluations.notes()}
        )
        self.saved = time.monotonic()
        self._write_status("running")

    def _show(self, row):
        named = dict(zip(METRICS, row))
        self.progress.advance(self.done, f"epoch {self._epoch():.4g}  loss {named['loss']:.4f}  rate "
                                         f"{named['learning_rate']:.4g}  {self.speed.images_per_second:,.0f} images/s  "
                                         f"input wait {self.speed.input_wait_share:.0%}")

    def _epoch(self):
        return self.done / self.settings.updates_per_epoch

    # How a run ends.

    def _finish(self):
        self._evaluate(self.evaluations.unread(self.done))
        if batches := self.settings.recalibrate_bn_batches:
            # What was reported is what the finished model does.
            self.recalibration.assign(self._micro_batches(0, batches), batches)
        self._save()
        if not self.trend.fell:
            return self._end("diverged", f"the final training loss {self.trend.last:.4f} is not below the initial "
                                         f"{self.trend.first:.4f}")
        return self._end("done", None)

    def _interrupted(self):
        self._save()
        name = signal.Signals(self.stop.received).name
        reason = f"{name}; the same command goes on at update {self.done}"
        self._write_status("interrupted", reason=reason)
        self.journal.close("interrupted", self.done, {})
        if self.mllog:
            self.mllog.close()
        return Result("interrupted", str(self.folder.path), {}, 128 + self.stop.received, reason,
                      model=self.assembly.model)

    def _end(self, status, reason):
        final = {"train_loss": self.trend.last, **self.evaluations.final()}
        self._write_status(status, reason=reason, final=final)
        self.journal.close(status, self.done, final)
        if self.mllog:
            self.mllog.close("success" if status == "done" else "aborted")
        return Result(status, str(self.folder.path), final, EXIT_CODES[status], reason, note=self.splits.note,
                      model=self.assembly.model)

    def _write_status(self, status, **fields):
        left_out = sum(map(len, self.splits.undecodable().values()))
        best = {"best": self.evaluations.best} if self.evaluations.best else {}
        self.folder.write_status(
            status=status, step=self.done, total_steps=self.total,
            wall_seconds=round(self.seconds_before + time.monotonic() - self.started, 3),
            images_per_second=round(self.speed.images_per_second, 1),
            input_wait_share=round(self.speed.input_wait_share, 4),
            peak_rss_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            **({"undecodable_images": left_out} if left_out else {}),
            **{"reason": None, **self.note, **best, **fields},
        )
