"""Compile, fit and cost a run for a TPU slice that is not there: python -m tf_hugebatch.plan_main --help"""

import os
import signal
import sys

from . import command_line, parsers, surroundings
from .fields import Field
from .layout import LayoutError
from .planning import advice, answer, compile, slices
from .planning.planner import Planner, in_words, layouts
from .planning.screen import Screen
from .records import not_writable
from .settings import Refusal

PROGRAM = "plan_main"
DESCRIPTION = ("Say whether a run fits on a TPU slice, with how many micro-batches, how fast it can be at best and what it "
               "costs, by compiling its real step for that slice on this machine, which needs no TPU. Takes every flag of a "
               "run. --tpu names a slice as Google Cloud does: v3-2048, v4-128, v5litepod-16, v5p-64, v6e-8; without it a few "
               "updates are timed on this machine instead.")
DATASET = "imagenet2012"
_SHOWN = 10  # layouts
_LARGE_IMAGE = 1080  # pixels


def _own(name, takes, parse, default, help):
    return Field(name, "reporting", "plan", takes, parse, default, help)


OWN = (
    _own("plan_dir", "path", parsers.path, None,
         "folder for plan.json; not set: runs/plan-<dataset>-<slice>-<8 characters of the experiment's hash>"),
    _own("compile_timeout", "seconds", parsers.number(low=0, above=True), 7200.0, "after which one compile is given up"),
    _own("cache_dir", "path", parsers.path, None,
         "folder for the compiler's answers; not set: tf_hugebatch/plans in the user's cache folder"),
    _own("advice", "true|false", parsers.boolean, False,
         "instead of a plan: how many devices a batch keeps busy, by the paper's numbers, as a table and a picture in "
         "plan_dir (runs/plan-advice); --image_size gives the larger images (1080)"),
)


def main(argv=None):
    """Entry point; returns the exit code: 0 it fits, 1 the compiler gave no answer, 2 refused, 3 no layout fits, 130 or 143."""
    argv = sys.argv[1:] if argv is None else argv
    surroundings.prepare()
    command = command_line.parse(argv, program=PROGRAM, description=DESCRIPTION, dataset=DATASET, own=OWN)
    if command.own["advice"] and not command.problems:
        return _advise(command)
    settings, problems, folder, what = command.settings, [], None, []
    try:
        target = slices.find(settings.tpu) if settings.tpu else None
        if not command.problems:
            folder = answer.folder_of(settings, target.name if target else answer.THIS_MACHINE, command.own["plan_dir"])
            what = list(_what(settings, target, folder))
    except Refusal as refusal:
        problems += refusal.problems
    except LayoutError as error:
        problems.append(str(error))
    if settings.tpu and (missing := compile.missing()):
        problems.append(f"--tpu={settings.tpu}: {missing}")
    if not settings.tpu and settings.strategy in ("multiworker", "tpu"):
        problems.append(f"--strategy={settings.strategy} without --tpu: this machine's own devices would be measured; drop it, "
                        f"or name a slice to plan for, as in --tpu=v3-8")
    if settings.batch_growth:
        shown = ",".join(map(parsers.pair, settings.batch_growth))
        problems.append(f"--batch_growth={shown}: a plan is of one batch; drop it, and plan each batch by its --batch_size")
    if refused := command.refusal(problems):
        print(refused, file=sys.stderr)
        return 2
    print(settings.text(), *what, sep="\n", flush=True)
    if settings.dry_run:
        return 0
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that all is cleared away
    try:
        with Screen() as screen:
            work = _plan if target else _measure
            return work(command, target, folder, screen, [PROGRAM, *argv])
    except compile.CompileFailed as failed:
        print(f"Failed: {failed}.", file=sys.stderr)
        return 1
    except Refusal as refusal:
        print(command.refusal(refusal.problems), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; what the compiler has answered so far is kept, and the same command goes on.", file=sys.stderr)
        return 128 + signal.SIGINT
    finally:
        signal.signal(signal.SIGTERM, before)


def _advise(command):
    # Here, since a plan should not wait for matplotlib, nor need it.
    from .reports import drawing, useful_batch

    settings, folder = command.settings, command.own["plan_dir"] or os.path.join("runs", "plan-advice")
    if problems := not_writable("plan_dir", folder):
        print(command.refusal(problems), file=sys.stderr)
        return 2
    given = settings.sources["image_size"].startswith(("command line", "flagfile"))
    image_size = settings.image_size if given else _LARGE_IMAGE
    try:
        drawn = useful_batch.draw(image_size)
    except ModuleNotFoundError as error:
        print(command.refusal([f"--advice: {error}"]), file=sys.stderr)
        return 2
    os.makedirs(folder, exist_ok=True)
    print(*advice.text(image_size), "", drawn.caption, *drawing.save(drawn, os.path.join(folder, "useful_batch")), sep="\n")
    return 0


def _plan(command, target, folder, screen, words):
    settings, own = command.settings, command.own
    cache = compile.Cache(own["cache_dir"])
    compiler = compile.Compiler(target, cache, timeout=own["compile_timeout"], watch=screen.watch)
    planner = Planner(settings, target, cache, compiler, screen)
    code = 0 if planner.find() else 3
    plan = answer.answer(settings, planner, target, words)
    print(*answer.text(plan), sep="\n", flush=True)  # first: hours of compiling may stand in it
    print(f"plan: {answer.save(folder, plan)}")
    return code


def _measure(command, _, folder, screen, words):
    # Here, since TensorFlow takes seconds to import, and a refusal should not.
    from .planning.measure import measure

    plan = answer.answer_here(command.settings, measure(command.settings, screen.begin), words)
    print(*answer.text_here(plan), sep="\n", flush=True)
    print(f"plan: {answer.save(folder, plan)}")
    return 0


def _what(settings, target, folder):
    yield "plan"
    yield f"  {'plan_dir':<24} {folder}"
    if target is None:
        yield f"  {'machine':<24} this one, by a few updates; --tpu=v3-8 would plan for that slice"
        return
    yield f"  {'slice':<24} {target.name}: {target.chips:,} chips ({target.grid}), {target.replicas:,} replicas"
    tried = list(layouts(settings, target))
    for layout in tried[:_SHOWN]:
        share = layout.padding / (layout.padding + layout.batch_size)
        across = ", batch-norm groups across replicas" if layout.span and layout.across_replicas else ""
        yield f"  {'to try':<24} {in_words(layout, target)}, {share:.1%} padding{across}"
    if len(tried) > _SHOWN:
        yield f"  {'':<24} ... {len(tried) - _SHOWN} more"


if __name__ == "__main__":
    sys.exit(main())
