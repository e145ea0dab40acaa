"""Compile, fit and cost a run for a TPU slice that is not there: python -m tf_hugebatch.plan_main --help"""

import os
import signal
import sys

from . import command_line, parsers
from .fields import Field
from .layout import LayoutError
from .planning import answer, compile, slices
from .planning.planner import Planner, in_words, layouts
from .planning.screen import Screen
from .settings import Refusal

PROGRAM = "plan_main"
DESCRIPTION = ("Say whether a run fits on a TPU slice, with how many micro-batches, how fast it can be at best and what it "
               "costs, by compiling its real step for that slice on this machine, which needs no TPU. Takes every flag of a "
               "run; --tpu names a slice as Google Cloud does: v3-2048, v4-128, v5litepod-16, v5p-64, v6e-8. Trains nothing.")
DATASET = "imagenet2012"
_SHOWN = 10  # layouts


def _own(name, takes, parse, default, help):
    return Field(name, "reporting", "plan", takes, parse, default, help)


OWN = (
    _own("plan_dir", "path", parsers.path, None,
         "folder for plan.json; not set: runs/plan-<dataset>-<slice>-<8 characters of the experiment's hash>"),
    _own("compile_timeout", "seconds", parsers.number(low=0, above=True), 7200.0, "after which one compile is given up"),
    _own("cache_dir", "path", parsers.path, None,
         "folder for the compiler's answers; not set: tf_hugebatch/plans in the user's cache folder"),
)


def main(argv=None):
    """Entry point; returns the exit code: 0 it fits, 1 the compiler gave no answer, 2 refused, 3 no layout fits, 130."""
    argv = sys.argv[1:] if argv is None else argv
    # TensorFlow's own lines would bury ours; what fails raises anyway.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    command = command_line.parse(argv, program=PROGRAM, description=DESCRIPTION, dataset=DATASET, own=OWN)
    settings, problems, target, tried = command.settings, [], None, []
    if settings.tpu is None:
        problems.append("--tpu is missing: it names the slice to plan for; give --tpu=v3-8, or another that Google Cloud has")
    elif missing := compile.missing():
        problems.append(f"--tpu={settings.tpu}: {missing}")
    try:
        target = slices.find(settings.tpu) if settings.tpu else None
        if target and not command.problems:
            folder = answer.folder_of(settings, target, command.own["plan_dir"])
            tried = list(layouts(settings, target))
    except Refusal as refusal:
        problems += refusal.problems
    except LayoutError as error:
        problems.append(str(error))
    if refused := command.refusal(problems):
        print(refused, file=sys.stderr)
        return 2
    print(settings.text(), *_text(tried, target, folder), sep="\n", flush=True)
    if settings.dry_run:
        return 0
    with Screen() as screen:
        return _plan(command, target, folder, screen, [PROGRAM, *argv])


def _plan(command, target, folder, screen, words):
    settings, own = command.settings, command.own
    cache = compile.Cache(own["cache_dir"])
    compiler = compile.Compiler(target, cache, timeout=own["compile_timeout"], watch=screen.watch)
    planner = Planner(settings, target, cache, compiler, screen)
    code = 0
    try:
        code = 0 if planner.find() else 3
    except compile.CompileFailed as failed:
        print(f"Failed: {failed}.", file=sys.stderr)
        return 1
    except Refusal as refusal:
        print(command.refusal(refusal.problems), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; what the compiler has answered so far is kept, and the same command goes on.", file=sys.stderr)
        return 128 + signal.SIGINT
    plan = answer.answer(settings, planner, target, words)
    print(*answer.text(plan), f"plan: {answer.save(folder, plan)}", sep="\n")
    return code


def _text(tried, target, folder):
    yield "plan"
    yield f"  {'slice':<24} {target.name}: {target.chips:,} chips ({target.grid}), {target.replicas:,} replicas"
    yield f"  {'plan_dir':<24} {folder}"
    for layout in tried[:_SHOWN]:
        share = layout.padding / (layout.padding + layout.batch_size)
        across = ", batch-norm groups across replicas" if layout.span and layout.across_replicas else ""
        yield f"  {'to try':<24} {in_words(layout, target)}, {share:.1%} padding{across}"
    if len(tried) > _SHOWN:
        yield f"  {'':<24} ... {len(tried) - _SHOWN} more"


if __name__ == "__main__":
    sys.exit(main())
