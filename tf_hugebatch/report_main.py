"""Tables, figures and regimes from run folders: python -m tf_hugebatch.report_main --help"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable

from tf_hugebatch import command_line, parsers, registry
from tf_hugebatch.fields import Field

PROGRAM = "report_main"
DESCRIPTION = ("Make the paper's tables and figures from run folders, ours beside the paper's. What no run holds is blank, "
               "with the command that fills it and its cost. Trains nothing.")
TABLES, FIGURES = range(1, 5), range(1, 34)
NAMED_FIGURES = {
    "steps_to_target": "updates to the target against batch size",
    "regime_adaptation": "loss and accuracy with the baseline's updates at every batch",
    "predicted_large_batch": "B_L from the noise scale, fixed on one network",
    "noise_and_ratios": "accuracy and sharpness with noise, and with trust ratios that stay fixed",
    "layer_ratios": "||w|| / ||g|| of every layer", "noise_scale": "the gradient noise scale over a run",
    "signal_and_noise": "of summed gradients against batch size",
    "sharpness": "the largest eigenvalue of the Hessian over a run",
    "batch_growth": "accuracy with a batch that grows beside a rate that falls",
    "frontier": "accuracy against batch size by optimizer",
    "full_batch": "test accuracy against updates at full batch, by optimizer",
    "noise_by_optimizer": "the gradient noise scale by optimizer, beside where its large batches begin"}
_BETWEEN_LINES = 50  # runs: a few seconds
_WITH_BOUNDARIES = ("regimes", "table2")  # items
_SHOWN = 10  # blanks and folders left aside that the terminal gets; report.md has all


def numbers(among: range, words: tuple[str, ...] = ()) -> Callable[[object], tuple]:
    """A parser of '1,3..5': numbers and ranges among `among`, and `words`; in order, none twice."""

    def parse(value: object) -> tuple:
        found = set()
        for part in map(str.strip, str(value).split(",")):
            ends = [end.strip() for end in part.split("..")]
            if part in words:
                found.add(part)
            elif len(ends) <= 2 and all(end.isdecimal() for end in ends) and int(ends[0]) <= int(ends[-1]) \
                    and int(ends[0]) in among and int(ends[-1]) in among:
                found.update(range(int(ends[0]), int(ends[-1]) + 1))
            else:
                matches = registry.close_matches(part, words) or ";"
                raise ValueError(f"{part!r} is none of {among[0]} to {among[-1]}{''.join(f', {word}' for word in words)}"
                                 f"{matches} give numbers and ranges such as 1,3..{among[-1]}{', and names' * bool(words)}")
        return (*sorted(one for one in found if isinstance(one, int)), *sorted(one for one in found if isinstance(one, str)))

    return parse


def _folders(value: object) -> tuple[str, ...]:
    return tuple(parsers.path(part.strip()) for part in str(value).split(","))


def _own(name, takes, parse, default, help):
    return Field(name, "reporting", "report", takes, parse, default, help)


OWN = (
    _own("runs", "folders", _folders, "runs",
         "where the runs and sweeps lie, however deep; folders or patterns, separated by commas"),
    _own("table", "numbers", numbers(TABLES), None, "tables of the paper to make, such as 3 or 1..4"),
    _own("figure", "numbers", numbers(FIGURES, tuple(NAMED_FIGURES)), None,
         "figures of the paper to draw, such as 1,3..5; besides, " + "; ".join(f"{name}: {shows}" for name, shows
                                                                             in NAMED_FIGURES.items())),
    _own("regimes", "true|false", parsers.boolean, False, "where large, huge and full begin: B_L, B_H, B_F"),
    _own("page", "true|false", parsers.boolean, False, "index.html: all runs in one static page"),
    _own("all", "true|false", parsers.boolean, False, "every table, every figure, the regimes and the page"),
    _own("output", "path", parsers.path, "report", "folder of the report: new, empty, or an earlier report's"),
)


def main(argv=None):
    """Entry point; returns the exit code: 0 done, 1 something asked for could not be made, 2 refused, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names of folders and words of runs may be anything
    command = command_line.parse(argv, program=PROGRAM, description=DESCRIPTION, dataset=None, own=OWN)
    # Here, since --help should not wait for NumPy.
    from tf_hugebatch.reports import report

    own, problems, found = command.own, [], ([], [])
    asked = _asked(own)
    if not asked and not command.problems:
        problems.append("nothing is asked for; give --table, --figure, --regimes, --page, or --all")
    try:
        patterns = _folders(own["runs"]) if isinstance(own["runs"], str) else own["runs"]
        found = report.find(patterns)
    except OSError as error:
        problems.append(f"--runs: {error}; name the folder of a run, or one that holds runs")
    if not command.problems and not problems:
        problems += filter(None, [report.claim(own["output"], patterns)])
    if refused := command.refusal(problems):
        print(refused, file=sys.stderr)
        return 2
    print(*_settings_in_words(own, *found), sep="\n", flush=True)
    items = []
    try:
        evidence = report.sift(*found, watch=_watched)
        made = report.Report(own["output"], evidence)
        for kind, name in asked:
            title = kind if name == kind else f"{kind} {name}"
            print(f"[{len(items) + 1}/{len(asked)}] {title}", file=sys.stderr, flush=True)
            items.append(made.make(kind, name))
    except KeyboardInterrupt:
        print("Interrupted; what was made until then is in the folder.", file=sys.stderr)
        return 128 + signal.SIGINT
    try:
        summary = made.write_summary(items, shlex.join(["python", "-m", f"tf_hugebatch.{PROGRAM}", *argv]))
    except OSError as error:
        print("", *_problems(items), f"--output={own['output']}: report.md can't be written ({error.strerror}); what was made "
              "until then is in the folder; mend that, and the same command makes it anew", sep="\n", file=sys.stderr)
        return 1
    print("", *_table(items), *_said(items), *_left_aside(evidence, summary), *_blanks(items, summary, own), *_problems(items),
          *_nothing_counts(own, evidence), f"report: {summary}",
          sep="\n")
    return 1 if any(item.problem for item in items) else 0


def _asked(own) -> list[tuple[str, object]]:
    everything = own["all"]
    asked = [("table", number) for number in (TABLES if everything else own["table"] or ())]
    asked += [("regimes", "regimes")] if everything or own["regimes"] else []
    asked += [("figure", number) for number in ((*FIGURES, *NAMED_FIGURES) if everything else own["figure"] or ())]
    return asked + ([("page", "page")] if everything or own["page"] else [])


def _watched(runs):
    """Passes runs on and says now and then how many have been read."""
    for count, run in enumerate(runs):
        if count and count % _BETWEEN_LINES == 0:
            print(f"read {count} of {len(runs)} runs", file=sys.stderr, flush=True)
        yield run


def _settings_in_words(own, runs, sweeps):
    yield "report"
    for field in OWN:
        value = own[field.name]
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower() if field.is_boolean else value
        yield f"  {field.name:<8} {'-' if shown is None else shown}"
    yield f"  {'found':<8} {len(runs)} runs, {len(sweeps)} sweeps"


def _table(items):
    width = max(len(item.name) for item in items)
    yield f"{'made':<{width}}  blanks  files"
    for item in items:
        files = ", ".join(os.path.splitext(name)[1][1:] for name in item.files)
        files = files or ("not made" if item.problem else "nothing to draw")
        yield f"{item.name:<{width}}  {len(item.blanks) or '-':>6}  {files}"


def _nothing_counts(own, evidence):
    """Says that a report holds no number of the user's, where a newcomer may not see it for all its tables."""
    if evidence.ended:
        return
    where = ", ".join(map(os.path.abspath, own["runs"] if isinstance(own["runs"], tuple) else _folders(own["runs"])))
    found = "no run (a folder with a settings.json) lies" if not evidence.found else \
        f"none of the {len(evidence.found)} runs has ended with a result"
    yield f"\nNOTHING TO REPORT: {found} below {where}. Every number of ours is blank; --runs names other folders."


def _left_aside(evidence, summary):
    from tf_hugebatch.reports.outcomes import one_line

    if evidence.aside:
        yield f"\nleft aside: {len(evidence.aside)}"
    yield from _first((f"  {one_line(one.path)}: {one.reason}" for one in evidence.aside), len(evidence.aside), summary)


def _said(items):
    for item in items:
        if item.said:
            yield from (f"\n{item.name}", *(f"  {line}" for line in item.said))


def _blanks(items, summary, own):
    """Those that a boundary waits for come first, in their order: what it rests on is asked for most."""
    from tf_hugebatch.reports.blanks import total_in_words
    from tf_hugebatch.reports.outcomes import one_line

    ordered = sorted(items, key=lambda item: item.name not in _WITH_BOUNDARIES)
    blanks = list(dict.fromkeys(blank for item in ordered for blank in item.blanks))
    if blanks:
        yield f"\nblank: {len(blanks)}, {total_in_words(blanks)}; what fills them:"
    said = (f"  {one_line(blank.what)} ({blank.cost})\n    {blank.command}".rstrip() for blank in blanks)
    yield from _first(said, len(blanks), summary)
    if blanks and (unread := _unread(own)):
        yield (f"  Most write below {unread[0]}, which --runs={unread[1]} does not read; then give "
               f"--runs={unread[1]},{unread[0]}")


def _unread(own):
    """(the folder of the commands, --runs) where the report would not see what they make; else None."""
    from tf_hugebatch.reports.commands import FOLDER

    named = own["runs"] if isinstance(own["runs"], tuple) else _folders(own["runs"])
    at = os.path.abspath(FOLDER)
    seen = any(at == os.path.abspath(name) or at.startswith(os.path.join(os.path.abspath(name), "")) for name in named)
    return None if seen else (FOLDER, ",".join(named))


def _first(lines, count, summary):
    for shown, line in zip(range(_SHOWN), lines):
        yield line
    if count > _SHOWN:
        yield f"  and {count - _SHOWN} more in {summary}"


def _problems(items):
    """Why items were not made, one reason once."""
    from tf_hugebatch.reports.outcomes import one_line

    reasons: dict[str, list[str]] = {}
    for item in items:
        if item.problem:
            reasons.setdefault(item.problem, []).append(item.name)
    yield from (f"\nnot made: {', '.join(names)}: {one_line(reason)}" for reason, names in reasons.items())


if __name__ == "__main__":
    sys.exit(main())
