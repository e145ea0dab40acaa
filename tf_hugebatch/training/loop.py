"""One run, from settings to run folder: what has to fit is looked at first, then everything is built and trained."""

import gc
import signal
import sys

import tensorflow as tf

from .. import cluster, data
from ..keras_versions import computes_with_onednn
from ..settings import Refusal
from ..stops import RunStopped
from .assemble import Assembly
from .failures import OutOfMemory, explained
from .maintenance import MaintenanceNotices, metadata_server
from .result import Result, finished
from .stop_signal import StopSignal
from .trainer import Trainer
from .workers import join


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
        RunStopped: it can't go on, for a reason that is not its own: another worker is gone, a full disk, damaged data, too
            little memory.
    """
    folder = cluster.run_folder(settings)
    problems = [*folder.problems(settings), *cluster.problems(settings)]
    earlier = folder.read_status()
    if not problems and not settings.dry_run and (ended := finished(folder)):
        return ended
    if not problems:
        try:
            join(settings)
            splits = splits or data.look(settings)
        except Refusal as refusal:
            problems = refusal.problems
    if problems:
        raise Refusal(problems)
    assembly = Assembly(settings, earlier)
    print(assembly.describe(), file=sys.stderr, flush=True)
    if settings.dry_run:
        if not earlier:  # a folder that holds a run is not touched by a dry run
            _begin(folder, assembly, command_line)
        return Result("dry run", str(folder.path), {}, 0)
    with folder.held():
        if ended := finished(folder):  # by another process, since this one looked
            return ended
        # The data only now: reading a million images once, for their index, is wasted on a run that can't be.
        splits = splits or data.load(settings)
        trainer = Trainer(assembly, splits, folder)
        _begin(folder, assembly, command_line)
        with StopSignal() as stop, MaintenanceNotices(stop, metadata_server()):
            while True:
                try:
                    return _go(trainer, stop)
                except OutOfMemory as error:
                    if not (smaller := trainer.assembly.smaller_micro_batch()):
                        raise
                    reason = f"{error.size} ran out of memory"
                # Out of the handler, whose traceback holds what is to make room.
                del trainer, assembly
                gc.collect()
                try:
                    assembly = Assembly(settings, earlier, (smaller, reason))
                except Refusal as refusal:
                    raise _stopped(folder, f"micro-batches of {reason}, and of {smaller} the run is refused: "
                                           f"{'; '.join(refusal.problems)}") from None
                print(f"Out of memory: on from the last checkpoint with layout {assembly.layout}.", file=sys.stderr, flush=True)
                trainer = Trainer(assembly, splits, folder)


def _stopped(folder, reason):
    """The RunStopped of a run that can't go on, as status.json says too."""
    folder.write_status(status="failed", reason=reason)
    return RunStopped(reason, status="failed")


def _go(trainer, stop):
    """trainer.go, with status.json saying how it ended whatever ends it."""
    folder, assembly = trainer.folder, trainer.assembly
    try:
        return trainer.go(stop)
    except KeyboardInterrupt:
        # The second signal: nothing is saved now, and nothing that was saved is lost.
        reason = "stopped at once by a second signal; the same command goes on from the last checkpoint"
        folder.write_last_status(status="interrupted", reason=reason, **trainer.so_far)
        return Result("interrupted", str(folder.path), {}, 128 + signal.SIGINT, reason)
    except BaseException as error:
        trainer.checkpoints.drop_unfinished()
        stopped = assembly.workers.lost(error) or explained(error, assembly.settings)
        if stopped is None:
            folder.write_last_status(status="failed", reason=f"{type(error).__name__}: {error}", **trainer.so_far)
            raise
        folder.write_last_status(status=stopped.status, reason=str(stopped), **trainer.so_far)
        raise stopped from None
    finally:
        trainer.release()


def _begin(folder, assembly, command_line):
    """The files that say what the run is; where they can't be written, none that was not there."""
    settings, there = assembly.settings, set(folder.path.glob("*"))
    try:
        folder.create(settings)
        folder.write_schedule(assembly.schedule_rows(), assembly.schedule_columns)
        folder.write_versions(command_line=list(command_line), onednn=computes_with_onednn(),
                              devices=[device.name for device in tf.config.list_logical_devices()])
    except OSError as error:
        for path in set(folder.path.glob("*")) - there:
            path.unlink()
        raise Refusal([f"--run_dir={settings.run_dir}: it can't be written to ({error.strerror}); free some space or make it "
                       f"writable, or name another folder"]) from error
