"""One static index.html over a set of runs: a table that sorts and filters, curves, heat maps. Opens from the file system.

Every text that comes from a run folder is escaped; every number links to the file that holds it, beside the command that
made it.
"""

import json
import os
import shlex

from ..runs import read_object
from . import page_sections
from .markup import breaking, class_of, link, number, text
from .outcomes import checked_settings, state
from .sheets import ON_TEST, chosen_on, mark_of
from .sources import final_percent
from .stats import tested_before
from .table3_cells import peak_rate

# Key, head, whether it sorts as a number; what a reader must know first stands first.
_COLUMNS = (
    ("run", "run", False), ("status", "status", False), ("test_accuracy", "test %", True),
    ("validation_accuracy", "validation %", True), ("marks", "marks", False), ("dataset", "data set", False),
    ("model", "model", False), ("optimizer", "optimizer", False), ("batch_size", "batch", True), ("epochs", "epochs", True),
    ("updates", "updates", True), ("rate", "peak rate", True), ("warmup", "warm-up", True), ("schedule", "schedule", False),
    ("seed", "seed", True), ("part", "of a sweep", False), ("train_loss", "train loss", True), ("speed", "images/s", True),
)


def write_page(runs, sweeps, folder):
    """Writes folder/index.html.

    Args:
        runs: list of `runs.Run`, those of the sweeps too; half-written ones are listed as left aside.
        sweeps: list of `runs.Sweep`.
        folder: an existing folder; links to run folders are relative to it.

    Returns:
        path of the page.
    """
    path = os.path.join(os.fspath(folder), "index.html")
    identities = {os.path.abspath(run.path): f"run{number}" for number, run in enumerate(runs)}
    curves = {identities[os.path.abspath(run.path)]: page_sections.curves(run) for run in runs}
    parts = [
        "<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">', "<title>Runs</title>", f"<style>\n{_beside('page.css')}</style>", "</head>",
        "<body>", "<h1>Runs</h1>", f"<p>{_counts(runs, sweeps)}</p>", *_controls(), *page_sections.batch_section(),
        *_table(runs, identities, folder), *page_sections.curve_section(), *page_sections.maps(sweeps, identities),
        *page_sections.sweep_table(sweeps, folder), *page_sections.left_aside(runs, folder),
        # Numbers and names of our own: no text of a run folder, which could end the script.
        f'<script type="application/json" id="curves">{json.dumps(curves, separators=(",", ":"))}</script>',
        f"<script>\n{_beside('page.js')}</script>", "</body>", "</html>",
    ]
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.write("\n".join(parts) + "\n")
    return path


def _beside(name):
    """What the page brings along, from a file beside this one."""
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as file:
        return file.read()


# ------------------------------------------------------------------------------------------------- the table of runs


def _counts(runs, sweeps):
    found = {}
    for run in runs:
        found[state(run)] = found.get(state(run), 0) + 1
    words = ", ".join(f"{count:,} {text(name)}" for name, count in sorted(found.items()))
    of_sweeps = f", {len(sweeps):,} sweep{'s' * (len(sweeps) != 1)}" if sweeps else ""
    return f"{len(runs):,} runs: {words}{of_sweeps}." if runs else "No runs."


def _controls():
    return ['<div class="bar">', '<label>Filter <input id="find" type="search" placeholder="words, such as: lars 8192 done">'
            "</label>", '<span id="count" role="status"></span>',
            '<span class="soft">A heading sorts, pressed again the other way; a run opens to its command.</span>', "</div>",
            "<noscript><p>Without JavaScript the table neither sorts nor filters, and no curves are drawn.</p></noscript>"]


def _table(runs, identities, folder):
    names = _names(runs)
    cells = {run: _cells(run, name, folder) for run, name in names.items()}
    # A column in which no run has anything only makes the table wider.
    columns = [column for column in _COLUMNS if not runs or any(cells[run][column[0]][1] for run in runs)]
    heads = "".join(f'<th scope="col" data-key="{key}"{class_of("number" * numeric)}><button type="button">{head}</button></th>'
                    for key, head, numeric in columns)
    yield '<div class="scroll" tabindex="0" role="region" aria-label="Table of runs">'
    yield f'<table id="runs"><thead><tr>{heads}</tr></thead><tbody>'
    for run, name in names.items():
        inside = "".join(_cell(cells[run][key], numeric) for key, _, numeric in columns)
        yield f'<tr id="{identities[os.path.abspath(run.path)]}" data-name="{text(name)}">{inside}</tr>'
    yield "</tbody></table></div>"
    if any(run.selected_on == "test" for run in runs):
        yield f"<p>{ON_TEST} the setting was chosen by accuracy on the test split.</p>"


def _cell(content, numeric):
    """content: (value to sort by, HTML inside, class)."""
    value, inside, name = content
    return f'<td{class_of(" ".join(filter(None, ["number" * numeric, name])))} data-v="{text(value)}">{inside}</td>'


def _names(runs):
    """{run: its path below the folder that all of them share}; a sweep's trials, which nobody looks for first, come last."""
    shared = os.path.commonpath([os.path.dirname(os.path.abspath(run.path)) for run in runs]) if runs else ""
    ordered = sorted(runs, key=lambda run: run.part in page_sections.SEARCHING)
    return {run: os.path.relpath(os.path.abspath(run.path), shared) for run in ordered}


def _cells(run, name, folder):
    """{column: (value to sort by, HTML, class)} of a run."""
    settings, status = run.settings, run.status
    plain = {name: (settings.get(name), text(settings.get(name)), "")
             for name in ("dataset", "model", "optimizer", "schedule", "seed")}
    mark = mark_of(run.selected_on)
    loss = number((status.get("final") or {}).get("train_loss")) if isinstance(status.get("final"), dict) else None
    stands, part, marks = state(run), text(run.part), "; ".join(_marks(run))
    return {
        **plain, "run": (name, _details(run, name, marks, folder), ""),
        "batch_size": _figure(settings.get("batch_size"), ","), "epochs": _figure(settings.get("epochs"), "g"),
        "updates": _figure(status.get("total_steps"), ","), "rate": _figure(_peak(run), ".4g"),
        "warmup": _warmup(settings),
        "part": (run.part, f'<a href="{link(run.sweep.path, folder)}">{part}</a>' if run.sweep else part, ""),
        "status": (stands, text(stands), "" if stands in ("done", "dry run") else "bad"),
        "test_accuracy": _percent(run, "test_accuracy", folder, mark),
        "validation_accuracy": _percent(run, "validation_accuracy", folder, mark),
        "train_loss": _linked(loss, ".4g", run, folder), "speed": _figure(status.get("images_per_second"), ",.0f"),
        "marks": (marks, marks and f'<div title="{text(marks)}">{text(marks)}</div>', "marks"),
    }


def _peak(run):
    try:
        return peak_rate(checked_settings(run))
    except (TypeError, ValueError, AttributeError):  # settings that no release wrote
        return None


def _figure(value, form):
    value = number(value)
    return ("", "", "") if value is None else (value, format(value, form), "")


def _linked(value, form, run, folder, mark=""):
    if value is None:
        return "", "", ""
    return value, f'<a href="{link(run.path, folder, "status.json")}">{format(value, form)}</a>{mark}', ""


def _percent(run, metric, folder, mark):
    return _linked(final_percent(run, metric), ".2f", run, folder, mark)


def _warmup(settings):
    epochs, steps = number(settings.get("warmup_epochs")), number(settings.get("warmup_steps"))
    if steps:
        return steps, f"{steps:,} updates", ""
    return ("", "", "") if epochs is None else (epochs, f"{epochs:g} epochs" if epochs else "none", "")


def _marks(run):
    """What a reader must know beside the numbers."""
    status = run.status
    marks = [f"{ON_TEST} selected on test"] if run.selected_on == "test" else []
    earlier = tested_before(run.sweep) if run.sweep and run.part == "final" else 0
    marks += [chosen_on("", earlier)] if earlier else []
    marks += [str(status["data_note"])] if status.get("data_note") else []
    if status.get("status") != "done" and status.get("reason"):
        marks.append(str(status["reason"]))
    return marks + ([f"{run.damaged} torn line{'s' * (run.damaged > 1)}"] if run.damaged else [])


def _details(run, name, marks, folder):
    versions = read_object(os.path.join(run.path, "versions.json")) or {}
    command = versions.get("command_line")
    words = shlex.join(map(str, command)) if isinstance(command, list) else "not written down"
    commit = versions.get("git_commit")
    return (f"<details><summary>{breaking(name)}</summary>"
            f'<a href="{link(run.path, folder)}">folder</a> · <a href="{link(run.path, folder, "versions.json")}">versions</a>'
            f"{f' · commit {text(str(commit)[:12])}' if commit else ''}<br>{marks and f'{text(marks)}<br>'}"
            f"<code>{text(words)}</code></details>")
