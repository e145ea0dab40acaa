"""Search the settings of a run, then train the best with fresh seeds: python -m tf_hugebatch.sweep_main --help"""

import dataclasses
import importlib.util
import signal
import sys

from . import command_line, data, parsers, published, surroundings
from .fields import Field
from .settings import Refusal
from .stops import RunStopped
from .tuning import gpus, points, space_file, sweep
from .tuning.ladder import Ladder
from .tuning.plan import MOST_FINAL_SEEDS, Base, Plan
from .tuning.screen import Screen, in_words

PROGRAM = "sweep_main"
DESCRIPTION = ("Try settings of a run on a validation split, then train the best one on all training data with fresh seeds, "
               "whose test accuracy chooses nothing. Every flag of a run is a flag of all its runs. Stopped at any point, the "
               "same command goes on.")
DATASET = "mnist"
_TRIALS = 20
_POINTS_SHOWN = 5


def _own(name, takes, parse, default, help, choices=()):
    return Field(name, "reporting", "sweep", takes, parse, default, help, choices)


OWN = (
    _own("space", "file", parsers.path, None, "JSON: flag -> list of values, or {low, high, log}; see flags/sweeps"),
    _own("method", "|".join(points.METHODS), parsers.choice(*points.METHODS), "random",
         "grid: every point; random: quasi-random (scrambled Sobol); tpe: the auto-tuner (Parzen estimator)", points.METHODS),
    _own("trials", "whole number", parsers.integer(low=1), None,
         f"points to try; not set: {_TRIALS}, or the whole grid; of a ladder: for each tuned rung"),
    _own("jobs", "whole number", parsers.integer(low=1), 1,
         "runs at a time, each a process of its own; several GPUs are divided evenly among them"),
    _own("confirm", "whole number", parsers.integer(low=0), 0,
         "best settings to run again with two more seeds each before one is chosen, by its mean; 0: one run each decides"),
    _own("final_seeds", "whole number", parsers.integer(low=0, high=MOST_FINAL_SEEDS), 5,
         "runs of the chosen setting, each with a fresh seed"),
    _own("sweep_dir", "path", parsers.path, None, "not set: runs/sweep-<dataset>-<8 characters of the sweep's hash>"),
    _own("select_on_test", "true|false", parsers.boolean, False,
         "choose by test accuracy, as the paper did; marks every number that is made"),
    _own("ladder", "true|false", parsers.boolean, False,
         "the recipe ladder of section 3.1: rungs 0 to 4, rung 0 tuned, and rung 4 without each of its parts"),
)


def main(argv=None):
    """Entry point; returns the exit code: 0 done, 1 a final run failed or the disk is full, 2 refused, 3 no accuracy, 130 or
    143 interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    surroundings.prepare()
    command = command_line.parse(argv, program=PROGRAM, description=DESCRIPTION, dataset=DATASET, own=OWN)
    problems = list(_problems(command))
    work = None
    try:
        work = (_make_ladder if command.own["ladder"] else _OneSweep.of)(command, argv)
    except Refusal as refusal:
        problems += [problem for problem in refusal.problems if problem not in command.problems]
    if not command.problems and not problems:
        problems += _look_at_data(command.settings)
    if refused := command.refusal(problems):
        print(refused, file=sys.stderr)
        return 2
    print(command.settings.text(), *work.text(), sep="\n", flush=True)
    if command.settings.dry_run:
        return 0
    try:
        with Screen() as screen:
            return work.run(jobs=command.own["jobs"], screen=screen)
    except Refusal as refusal:
        print(command.refusal(refusal.problems), file=sys.stderr)
        return 2
    except RunStopped as stopped:
        print(f"Stopped: {stopped}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped at once by a second signal; the same command goes on.", file=sys.stderr)
        return 128 + signal.SIGINT


def _problems(command):
    """What a sweep can't use, whatever it searches."""
    if importlib.util.find_spec("optuna") is None or importlib.util.find_spec("scipy") is None:
        yield ("a sweep asks the packages optuna and scipy for its points, and one isn't installed; "
               "pip install 'tf_hugebatch[sweep]'")
    for name, instead in (("run_dir", "the sweep names its runs' folders; give --sweep_dir"),
                          ("resume", "a sweep always goes on where it was; drop it")):
        if command.settings.sources.get(name) == "command line":
            yield f"--{name}={getattr(command.settings, name)}: {instead}"
    own, held_out = command.own, command.settings.sources["validation_examples"] != "default"
    if own["select_on_test"] and held_out:
        yield (f"--validation_examples={command.settings.validation_examples} with --select_on_test=true: the test split "
               "selects then, and nothing is held out; drop one of the two")
    elif held_out and not command.settings.validation_examples:
        yield ("--validation_examples=0: a sweep selects on held-out examples; give some, or --select_on_test to select on "
               "the test split")
    if own["space"] is None and not own["ladder"]:
        yield "--space is missing: it names what is searched; give --space=FILE, such as one of flags/sweeps"
    if own["method"] == "grid" and own["trials"] is not None:
        yield f"--trials={own['trials']} with --method=grid: a grid tries every point; drop it"


def _look_at_data(settings):
    """Problems with the data, found once: runs side by side would all find them, or all download."""
    try:
        # A look at ImageNet's shards starts TensorFlow, which would hold memory that the runs need.
        with gpus.hidden():
            data.look(settings)
    except Refusal as refusal:
        return refusal.problems
    return ()


def _base(command, argv):
    settings = command.settings
    held_out = settings.validation_examples
    if settings.sources["validation_examples"] == "default":
        held_out = min(published.MNIST_VALIDATION_EXAMPLES, max(1, settings.sizes[0] // 10))
    return Base(words=command.words, dataset=DATASET, validation_examples=0 if command.own["select_on_test"] else held_out,
                final_seeds=command.own["final_seeds"], method=command.own["method"], confirm=command.own["confirm"],
                command_line=(PROGRAM, *argv))


@dataclasses.dataclass(frozen=True)
class _OneSweep:
    """One space, one choice."""

    plan: Plan

    @classmethod
    def of(cls, command, argv):
        """Raises Refusal with the problems of the space, of its corners and of the folder."""
        own, base = command.own, _base(command, argv)
        if own["space"] is None:
            raise Refusal(base.problems())
        space = space_file.make(space_file.read(own["space"]), base.search_words, where=f"--space={own['space']}",
                                grid=own["method"] == "grid", dataset=DATASET)
        trials = own["trials"] or (len(space.grid()) if own["method"] == "grid" else min(_TRIALS, space.size))
        if own["method"] != "grid" and trials > space.size:
            raise Refusal(f"--trials={trials}: the space has only {space.size:,} points (a range of fractions counts as what "
                          f"rounding leaves); give at most that")
        plan = base.plan(own["sweep_dir"], space=space, trials=trials)
        if problems := plan.problems():
            raise Refusal(problems)
        return cls(plan)

    def text(self):
        """What will be done, line by line, with the first points."""
        plan = self.plan
        yield from plan.text()
        for point in points.first(plan.space, plan.method, plan.seed, min(plan.trials, _POINTS_SHOWN)):
            yield f"  {'point':<24} {in_words(point)}"
        if plan.trials > _POINTS_SHOWN:
            yield f"  {'':<24} ... {plan.trials - _POINTS_SHOWN} more"

    def run(self, **how):
        """Returns the exit code."""
        return sweep.run(self.plan, **how)


def _make_ladder(command, argv):
    own = command.own
    spaces = {} if own["space"] is None else space_file.read(own["space"])
    return Ladder(_base(command, argv), own["sweep_dir"], where=f"--space={own['space']}", spaces=spaces,
                  trials=own["trials"] or _TRIALS)


if __name__ == "__main__":
    sys.exit(main())
