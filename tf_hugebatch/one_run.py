"""What the main programs share: words of a command line in, one run, exit code out."""

import contextlib
import os
import signal
import sys
import traceback

from . import cluster, command_line, data, registry, surroundings
from .settings import Refusal
from .stops import RunStopped

_OTHER_BACKENDS = ("jax", "torch")  # what Keras imports first where it is told to


def main(argv, *, program, description, dataset):
    """Runs one experiment.

    Args:
        argv: words after the program's name.
        program: its module's name, for messages.
        description: one line for --help.
        dataset: the data set when --dataset is not given.

    Returns:
        exit code: 0 done, 1 failed, 2 refused, 3 diverged, 130 or 143 interrupted.
    """
    surroundings.prepare()
    command = command_line.parse(argv, program=program, description=description, dataset=dataset)
    if command.settings.strategy != "multiworker" or cluster.problems(command.settings):
        return _run(command, program, [program, *argv])
    code = 1
    try:
        code = _run(command, program, [program, *argv])
    except SystemExit as leaving:
        code = _exit_code(leaving)
    except BaseException:
        traceback.print_exc()
    finally:
        # A process that has joined a cluster leaves like this: on its way out TensorFlow waits for one more heartbeat, 10
        # seconds, and was seen to wait for ever once the other workers had gone.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _exit_code(leaving):
    """What Python would make of a SystemExit: nothing is 0, a number itself, anything else is said and is 1."""
    if leaving.code is None or isinstance(leaving.code, int):
        return leaving.code or 0
    print(leaving.code, file=sys.stderr)
    return 1


def _run(command, program, words):
    settings, splits = command.settings, None
    folder = cluster.run_folder(settings)
    more = [*folder.problems(settings), *cluster.problems(settings)]
    if _needs_data(settings, folder, refused=bool(command.problems or more)):
        try:
            splits = data.look(settings)
        except Refusal as refusal:
            more += refusal.problems
            more += () if command.problems else _tpu_problems(settings)
        except KeyboardInterrupt:  # a download takes its time
            return _interrupted()
    if refusal_text := command.refusal(more):
        print(refusal_text, file=sys.stderr)
        return 2
    print(settings.text(), *_of_another_program(settings.dataset, program), sep="\n", flush=True)
    try:
        # Only now: TensorFlow takes seconds to import, and a refusal should not.
        from .training import loop

        result = loop.train(settings, splits=splits, command_line=words)
    except Refusal as refusal:
        print(command.refusal(refusal.problems), file=sys.stderr)
        return 2
    except ImportError as error:
        if error.name not in ("tensorflow", *_OTHER_BACKENDS):
            raise
        # Not there, or (keras_versions.py) one that this package does not run on.
        reason = f"{error}: Keras was told to compute with it (KERAS_BACKEND, or \"backend\" in ~/.keras/keras.json); set " \
                 "KERAS_BACKEND=tensorflow" if error.name in _OTHER_BACKENDS else str(error)
        print(command.refusal([reason]), file=sys.stderr)
        return 2
    except RunStopped as stopped:
        with contextlib.suppress(OSError):  # a log on the disk that is full
            print(f"Failed: {stopped}.", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return _interrupted()
    _report(result, settings.selected_on, draw=not isinstance(folder, cluster.ChiefsFolder))
    return result.exit_code


def _interrupted():
    print("Interrupted before the first update.", file=sys.stderr)
    return 128 + signal.SIGINT


def _of_another_program(dataset, program):
    """A line where a program was given another one's data set, which may be a slip: --dataset decides, not the program."""
    own = registry.find("dataset", dataset).facts["program"]
    if own != program:
        yield f"note: --dataset={dataset} is {own}'s; {program} trains on it as {own} does"


def _tpu_problems(settings):
    """What else is wrong when the data are: a TPU that does not answer would be the next refusal."""
    if settings.strategy != "tpu":
        return ()
    from .training.tpu import tpu_strategy

    try:
        tpu_strategy(settings.tpu)
    except ValueError as error:
        return (str(error),)
    return ()


def _needs_data(settings, folder, refused):
    """Whether to look at the data: for the run, or to find what is wrong with them beside what is wrong already."""
    if settings.failed & {"dataset", "data_dir", "validation_examples"}:
        return False  # loading would say the same in other words
    if refused:
        # A refused command line writes nothing, so it downloads nothing.
        return settings.data_dir is not None or registry.find("dataset", settings.dataset).facts["embedded"]
    if settings.strategy == "multiworker":
        return False  # this process must join its cluster first, since a look may start TensorFlow
    return "final" not in folder.read_status()  # a run that has ended reads nothing, wherever its data are by now


def _report(result, selected_on, draw):
    if result.repeated:
        print(f"This run has ended before ({result.status}); nothing was done. Another --seed or --run_dir makes a "
              f"new one.")
    note = f" ({result.note})" if result.note else ""
    for name, value in result.final.items():
        mark = " (setting chosen on the test split)" if selected_on == "test" and name.startswith("test_") else ""
        print(f"{name}: {value:.4g}{mark}{note}" if value is not None else f"{name}: -")
    print(f"{result.status}: {result.run_dir}" + (f" ({result.reason})" if result.reason else ""))
    if not result.final or not draw:
        return
    # Here, since --help and refusals should not wait for NumPy.
    from .reports.figures import save_training_curves
    from .runs import Run

    path = f"{result.run_dir}/curves.png"
    try:
        save_training_curves(Run(result.run_dir), path)
        print(f"curves: {path}")
    except (ModuleNotFoundError, OSError, ValueError) as error:  # the run has ended as it has: its exit code is not a picture's
        print(f"no picture of the curves: {error}")
