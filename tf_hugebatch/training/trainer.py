"""The loop of updates: the only composer of data, step, evaluation, checkpoints and run folder."""

import dataclasses
import resource
import signal
import sys
import time
import weakref

from ..data.order import Stream
from ..data.padding import training_micro_batches
from ..settings import Refusal
from .checkpoint import Checkpoints
from .divergence import LossTrend, first_bad
from .evaluate import Evaluations
from .failures import naming_the_micro_batch
from .journal import Journal
from .profile import Profile
from .progress import Progress
from .recalibrate import Recalibration
from .result import EXIT_CODES, Result
from .rewind import Rewinds
from .speed import Speed
from .step import METRICS
from .strategy import host_of
from .timetable import Timetable
from .watchdog import Watchdog
from .workers import NoJournal


class Trainer:
    """One process's part of a run: from where the last checkpoint left it to its end, or to a signal.

    Making it restores the checkpoint (and raises Refusal for one of another run) and writes nothing.
    """

    def __init__(self, assembly, splits, folder):
        settings = assembly.settings
        self.assembly, self.settings, self.folder, self.workers = assembly, settings, folder, assembly.workers
        self.total = settings.total_updates
        self.note = {"data_note": splits.note} if splits.note else {}
        self.started, self.clock_at_start = time.monotonic(), time.time()
        status = folder.read_status()
        self.seconds_before, self.done_before = status.get("wall_seconds") or 0.0, status.get("step")
        self.timetable = Timetable(settings, self.total)
        self.identity = {
            "experiment": settings.experiment_hash(), "total_updates": self.total, "train_examples": settings.train_examples,
            "seed": settings.seed, "data": splits.fingerprint(), **self.note, **assembly.streams,
        }
        self.checkpoints = Checkpoints(
            folder.path / "checkpoints", identity=self.identity, keep=settings.keep_checkpoints,
            model=assembly.model, optimizer=assembly.optimizer,
        )
        self.rewinds = Rewinds(settings, assembly.schedule.scale if settings.on_divergence == "rewind" else None)
        self.splits, self.stream = splits, Stream(settings.seed, settings.train_examples, settings.shuffle)
        self.evaluations = Evaluations(
            assembly.strategy, assembly.model, splits if settings.evaluate_test else dataclasses.replace(splits, test=None),
            assembly.eval_batch_size, self._recalibrated if settings.recalibrate_bn_batches else None,
        )
        self.recalibration = Recalibration(assembly.strategy, assembly.model, assembly.layouts[0], settings.seed)
        self.surveys = assembly.surveys(splits.train)
        self.watchdog = Watchdog(str(folder.path / self.workers.file_of_its_own("stacks.txt")),
                                 lambda reason: self._write_status("failed", reason=reason))
        notes = self._restore()
        self.rewinds.restore(notes.get("rewinds", []))
        self.progress = Progress(self.total, self.done)
        self.journal = Journal(folder, settings, self.note, assembly.step.probes.columns) if self.workers.chief else NoJournal()

    def _restore(self, up_to=None):
        """The state of the newest checkpoint (up to an update), or that of the start; returns the checkpoint's notes."""
        self.done, notes = self.checkpoints.restore_latest(lambda text: print(text, file=sys.stderr), up_to)
        self.workers.must_agree_on_start(self.done, notes, self.identity)
        if self.settings.resume == "required" and up_to is None and self.done_before and not self.done:
            raise Refusal([f"--resume=required: {self.folder.path} has no intact checkpoint of its {self.done_before:,} "
                           "updates; copy its checkpoints back, or drop the flag to train again from the start"])
        self.trend = LossTrend(self.settings.stages, self.total, notes.get("losses"))
        self.evaluations.restore(notes)
        for name, numbers in notes.get("undecodable", {}).items():
            self.splits.undecodable()[name].remember(numbers)
        return notes

    def go(self, stop):
        """Trains; returns the Result. `stop` is the StopSignal to look at between updates."""
        try:
            return self._go(stop)
        finally:
            # The input knows this object, to say that it reads: a circle, which would keep its threads till Python looks.
            self.iterator = None

    def _go(self, stop):
        self.stop, settings, layout = stop, self.settings, self.assembly.layout
        self._go_on()
        self.mllog = None
        if settings.mllog and self.workers.chief:
            # Here, since its package is not everybody's.
            from .mllog import MLLog

            self.mllog = MLLog(self.folder.path / "mllog.txt", settings, layout, self.done, self.clock_at_start)
        self._write_status("running", micro_batch_size=layout.micro_batch_size, micro_batches=layout.rounds,
                           replicas=layout.replicas, padding_per_update=layout.padding)
        if self.rewinds.left and not self.done:
            self._save()  # what a rewind before the first checkpoint goes back to
            self.workers.must_see(self.checkpoints.path(0))
        profiled = settings.profile_steps if self.workers.chief else None
        with self.watchdog, self.progress, Profile(profiled, self.folder.path / "tensorboard") as profile:
            if self.done:
                self.progress.say(f"Going on at update {self.done:,} of {self.total:,}.")
            elif self.done_before:
                self.progress.say(f"This run had made {self.done_before:,} updates and left no checkpoint: it starts "
                                  f"again.")
            while self.done < self.total:
                if self.done == self.stage_ends:
                    self._enter_stage()
                count = min(self.speed.updates_per_loop(settings.steps_per_loop),
                            self.timetable.next_stop(self.done) - self.done, profile.limit(self.done))
                count, stopped_by = self.workers.next_call(count, self.stop.received)
                if stopped_by and self.done:
                    return self._interrupted(stopped_by)
                step = self.assembly.step
                with (profile.updates(self.done, count), self.speed.measure(step, count),
                      naming_the_micro_batch(step, settings.micro_batch_size)):
                    metrics = step(self.iterator, count)
                self._share_undecodable()
                bad, what = first_bad(metrics)
                metrics = metrics if bad is None else metrics[: bad + 1]
                self.journal.train(metrics, last=bad is not None or self.done + count == self.total)
                self.trend.add(metrics[:, METRICS.index("loss")])
                self.watchdog.updated()
                if bad is not None and self.rewinds.left:
                    self._rewind(self.done + bad + 1, what)
                    continue
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
                if self.timetable.evaluation_is_due(self.done):
                    self._evaluate([self.evaluations.watched])
                if self.timetable.checkpoint_is_due(self.done) and self.done < self.total:
                    self._save()
            return self._finish()

    def release(self):
        """Closes what is open; the run folder stays as it is."""
        self.journal.release()

    @property
    def so_far(self):
        """How far the run is, as status.json says it."""
        return {"step": self.done, "wall_seconds": round(self.seconds_before + time.monotonic() - self.started, 3)}

    def _go_on(self):
        """Begins, or goes on, after `done` updates: input and journal."""
        self._enter_stage()
        self.journal.go_on_after(self.done)

    def _enter_stage(self):
        """The batch of the updates that follow `done`: how it is cut, and its input."""
        layout, before = self.assembly.layout_after(self.done)
        self.assembly.step.cut_by(layout, sum((one.batch_size - layout.batch_size) * updates for one, updates in before))
        self.speed = Speed()  # a loop of so many updates would take another time
        self.stage_ends = min([self.total, *(stage.update for stage in self.settings.stages if stage.update > self.done)])
        # TensorFlow keeps the functions of an input pipeline to the end of the process: they must not hold the model.
        reading = weakref.WeakMethod(self._reading)
        self.iterator = self._micro_batches(self.done, self.stage_ends, lambda *where: (say := reading()) and say(*where))

    def _reading(self, *of_a_micro_batch):
        self.watchdog.alive()
        self.progress.reading(*of_a_micro_batch)

    def _micro_batches(self, first_update, last_update, reading=None):
        """Iterator over the micro-batches of those updates of one stage, each host making those of its own replicas."""
        layout, before = self.assembly.layout_after(first_update)
        return iter(self.assembly.strategy.distribute_datasets_from_function(lambda context: training_micro_batches(
            self.splits.train, self.stream, layout, first_update, last_update, host_of(context), reading, before
        )))

    def _recalibrated(self):
        """The context of an evaluation with statistics from the first batches of the stream."""
        batches = self.settings.recalibrate_bn_batches
        return self.recalibration(self._micro_batches(0, batches), batches, self.done)

    # What it does.

    def _evaluate(self, names):
        if self.mllog and names:
            self.mllog.evaluation_starts(self.done)
        with self.watchdog.paused():
            for split, result in self.evaluations(names, self.done):
                if self.mllog and split == "test":
                    self.mllog.evaluated(result["accuracy"])
                if batches := self.settings.recalibrate_bn_batches:
                    result = {**result, "recalibrated_bn_batches": batches}
                self.journal.evaluation(split, self.done, result)
                self.progress.say(f"epoch {self._epoch():.4g}: {split} accuracy {100 * result['accuracy']:.2f}%, loss "
                                  f"{result['loss']:.4f}{f' ({self.splits.note})' if self.splits.note else ''}")
            if self.evaluations.watched in names:
                for name, numbers, seconds in self.surveys():
                    self.journal.survey(name, self.done, numbers)
                    self.progress.say(f"epoch {self._epoch():.4g}: {name} took {seconds:.1f} s")
        if self.mllog and names:
            self.mllog.evaluation_ends(go_on=self.done < self.total)
        self._share_undecodable()
        if self._is_best() and self.done < self.total:
            self._save()
        self._write_status("running")

    def _share_undecodable(self):
        """Each worker finds those of its own share; the chief writes down everybody's."""
        for images in self.splits.undecodable().values():
            images.remember(self.workers.union(images.numbers))

    def _is_best(self):
        return self.evaluations.best is not None and self.evaluations.best["step"] == self.done

    def _save(self):
        undecodable = {name: images.numbers for name, images in self.splits.undecodable().items()}
        best = self.evaluations.best
        regular = self.timetable.last_regular_checkpoint(self.done) if self.rewinds.left else None
        if self.workers.chief:
            with self.watchdog.paused():
                self.folder.metrics_to_disk()
                self.checkpoints.save(
                    self.done, {"losses": self.trend.notes(), "undecodable": undecodable, **self.evaluations.notes(),
                                **self.rewinds.notes()},
                    also_keep=[update for update in (best and best["step"], regular) if update is not None],
                )
        self.timetable.saved()
        self._write_status("running")

    def _rewind(self, bad, what):
        """Back to the last checkpoint that every run of these settings has, with a lower rate from there."""
        self._restore(up_to=self.timetable.last_regular_checkpoint(bad - 1))
        if self.workers.chief:
            self.checkpoints.forget_after(self.done)
        self.rewinds.add(bad, self.done, f"{what} was not finite")
        self.assembly.step.first_bad_update.assign(-1)
        self._go_on()
        self.progress.say(f"{what} was not finite at update {bad:,}: back to {self.done:,}, every rate from there times "
                          f"{self.rewinds.scale:g}; {self.rewinds.left} more rewinds may follow.")
        self._write_status("running")

    def _show(self, row):
        named = dict(zip(METRICS, row))
        self.progress.advance(self.done, f"epoch {self._epoch():.4g}  loss {named['loss']:.4f}  "
                                         f"{self.speed.images_per_second:,.0f} images/s  rate {named['learning_rate']:.4g}  "
                                         f"input wait {self.speed.input_wait_share:.0%}")

    def _epoch(self):
        return float(self.settings.stages.epoch(self.done))

    # How a run ends.

    def _finish(self):
        self._evaluate(self.evaluations.unread(self.done))
        if batches := self.settings.recalibrate_bn_batches:
            # What was reported is what the finished model does.
            with self.watchdog.paused():
                self.recalibration.assign(self._micro_batches(0, batches), batches, self.done)
        self._save()
        if not self.trend.fell:
            return self._end("diverged", f"the final training loss {self.trend.last:.4f} is not below the initial "
                                         f"{self.trend.first:.4f}")
        return self._end("done", None)

    def _interrupted(self, number):
        self._save()
        # Where another worker was told to stop, all that is known here is the signal.
        reason = f"{self.stop.reason or signal.Signals(number).name}; the same command goes on at update {self.done}"
        self._write_status("interrupted", reason=reason)
        self.journal.close("interrupted", self.done, {})
        if self.mllog:
            self.mllog.close()
        return Result("interrupted", str(self.folder.path), {}, 128 + number, reason,
                      trained=self.assembly.model)

    def _end(self, status, reason):
        final = {"train_loss": self.trend.last, **self.evaluations.final()}
        self._write_status(status, reason=reason, final=final)
        self.journal.close(status, self.done, final)
        if self.mllog:
            self.mllog.close("success" if status == "done" else "aborted")
        return Result(status, str(self.folder.path), final, EXIT_CODES[status], reason, note=self.splits.note,
                      trained=self.assembly.model)

    def _write_status(self, status, **fields):
        left_out = sum(map(len, self.splits.undecodable().values()))
        best = {"best": self.evaluations.best} if self.evaluations.best else {}
        self.folder.write_status(
            status=status, **self.so_far, total_steps=self.total,
            peak_rss_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            **({"undecodable_images": left_out} if left_out else {}), **self.speed.notes(),
            **{"reason": None, **self.note, **best, **self.rewinds.notes(), **fields},
        )
