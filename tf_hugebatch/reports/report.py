"""A report: tables, figures, regimes and page made from run folders, each written as soon as it is made.

Nothing that a run folder holds stops a report: what can't be used is listed with its reason, and an item that can't be made
is named while the others come out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterable

from tf_hugebatch.records import content_of, write_json
from tf_hugebatch.reports import regime_tables, regimes, tables
from tf_hugebatch.reports.blanks import Blank, total_in_words
from tf_hugebatch.reports.outcomes import LeftAside, checked_settings, read_ladders, read_outcomes, searched
from tf_hugebatch.reports.sheets import code, csv_text, markdown_table, plain
from tf_hugebatch.reports.stats import group_runs
from tf_hugebatch.runs import Run, Sweep, load_runs, load_sweeps

MARKER = "report.json"  # says that a folder is a report's, and may be written into again
SCHEMA_VERSION = 1
_BLANKS_IN_SIGHT = 3


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What a report is made from. found: every run folder; runs, sweeps: those that can be read at all; ended: how many runs
    have ended; counted: how many of these enter tables, which trials don't; aside: what is not used, in whole or in part."""

    found: list[Run]
    runs: list[Run]
    sweeps: list[Sweep]
    ended: int
    counted: int
    aside: list[LeftAside]


def find(patterns: Iterable[str]) -> tuple[list[Run], list[Sweep]]:
    """Every run and sweep below folders or patterns. Raises FileNotFoundError for a folder that isn't there."""
    runs, sweeps = {}, {}
    for pattern in patterns:
        for found, load in ((runs, load_runs), (sweeps, load_sweeps)):
            try:
                found.update((os.path.abspath(one.path), one) for one in load(pattern))
            except FileNotFoundError:
                if not os.path.isdir(pattern):
                    raise FileNotFoundError(f"{pattern}: there is no such folder") from None
    return [*runs.values()], [*sweeps.values()]


def sift(runs: list[Run], sweeps: list[Sweep], watch: Callable[[list[Run]], Iterable[Run]] = iter) -> Evidence:
    """What of it can be used. watch: passes runs on while they are read, which takes a second for ten."""
    outcomes, aside = read_outcomes(watch(runs))
    groups, repeated = group_runs(outcomes)
    for sweep in sweeps:
        if not sweep.plan:
            aside.append(LeftAside(sweep.path, "sweep.json is no JSON object: cut off, or not a sweep's"))
        elif not sweep.result:
            aside.append(LeftAside(sweep.path,
                                   "no result.json that can be read: the search has not ended; its trials stay trials"))
    _, torn = read_ladders(sweeps)
    return Evidence(runs, [run for run in runs if _is_readable(run)], [sweep for sweep in sweeps if sweep.plan],
                    len(outcomes), sum(group.n for group in groups),
                    sorted([*aside, *repeated, *torn], key=lambda one: one.path))


def _is_readable(run: Run) -> bool:
    try:
        checked_settings(run)
    except ValueError:
        return False
    return True


@dataclasses.dataclass(frozen=True)
class Item:
    """One thing that was asked for. name: of its files, without their suffix. files: written, in the report's folder.
    markdown: for report.md. said: lines for the terminal. problem: why it, or a part of it, was not made; '' where all is
    well."""

    name: str
    title: str
    files: tuple[str, ...]
    markdown: str
    blanks: list[Blank] = dataclasses.field(default_factory=list)
    said: tuple[str, ...] = ()
    problem: str = ""


class Report:
    """Writes into a folder, which `claim` has made this report's own."""

    def __init__(self, folder: str, evidence: Evidence):
        self.folder, self.evidence = folder, evidence

    def make(self, kind: str, name: object) -> Item:
        """An item: ('table', 3), ('figure', 12), ('figure', 'steps_to_target'), ('regimes', ...), ('page', ...)."""
        stem = f"{kind}{name}" if isinstance(name, int) else str(name)
        maker: Callable = {"table": self._table, "figure": self._figure, "regimes": self._regimes, "page": self._page}[kind]
        try:
            return maker(stem, name)
        except ModuleNotFoundError as error:
            if error.name not in ("matplotlib", None):  # ours, raised from matplotlib's, has no name
                raise
            return Item(stem, stem, (), "", problem=str(error))
        except Exception as error:  # one item that fails must not take the others with it
            return Item(stem, stem, (), "", problem=f"{type(error).__name__}: {error}")

    def _table(self, stem, number):
        return self._sheet(stem, tables.make(number, self.evidence.runs, self.evidence.sweeps))

    def _regimes(self, stem, name):
        groups, _ = group_runs(read_outcomes(self.evidence.runs)[0])
        found = regimes.find(groups, self.evidence.sweeps)
        batches = self._write(f"{stem}_batches.csv", regime_tables.batches_table(found).csv)
        item = self._sheet(stem, regime_tables.regimes_table(found), more=(batches,))
        return dataclasses.replace(item, said=tuple(regime_tables.in_short(found)))

    def _sheet(self, stem, table, more=()):
        files = (self._write(f"{stem}.md", f"# {table.title}\n\n{table.markdown}{blanks_in_words(table.blanks)}"),
                 self._write(f"{stem}.csv", table.csv), *more)
        return Item(stem, table.title, files, f"{table.markdown}\n{_links(files)}", table.blanks)

    def _figure(self, stem, number):
        from tf_hugebatch.reports import catalogue, drawing  # draws, so matplotlib may be missing

        drawn = catalogue.draw(number, self.evidence.runs, self.evidence.sweeps)
        written = [os.path.basename(path) for path in drawing.save(drawn, os.path.join(self.folder, stem))]
        if drawn.rows:  # again, as all CSVs here: safe in a spreadsheet
            self._write(f"{stem}.csv", csv_text(tuple(dict.fromkeys(name for row in drawn.rows for name in row)), drawn.rows))
        else:
            written.remove(f"{stem}.csv")
        for stale in {f"{stem}.{kind}" for kind in ("png", "svg", "csv")} - set(written):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.folder, stale))  # of runs that are gone
        title = f"Figure {number}" if isinstance(number, int) else str(number).replace("_", " ").capitalize()
        picture = f"![{title}]({stem}.png)\n\n" if f"{stem}.png" in written else ""
        return Item(stem, title, tuple(written), f"{picture}{plain(drawn.caption)}\n\n{_links(written)}", drawn.blanks)

    def _page(self, stem, name):
        from tf_hugebatch.reports import page

        page.write_page(self.evidence.found, self.evidence.sweeps, self.folder)
        return Item(stem, "Page", ("index.html",), "[index.html](index.html)\n")

    def write_summary(self, items: list[Item], command: str) -> str:
        """Writes report.md of all items; returns its path."""
        evidence, lines = self.evidence, ["# Report", "", "Made by", "", code(command), ""]
        trials = sum(map(searched, evidence.runs))
        lines += [f"{len(evidence.runs)} runs were read, {trials} of them trials of a search; {evidence.counted} have ended "
                  f"and count; {len(evidence.sweeps)} sweeps. Accuracies are on test, after the last update. 95% intervals: "
                  "over seeds and over the test images, which all seeds share; unknown with one seed.", ""]
        for item in items:
            lines += [f"## {plain(item.title)}", "", item.markdown]
            lines += [f"Not made: {plain(item.problem)}", ""] if item.problem else []
            lines += [blanks_in_words(item.blanks)]
        if evidence.aside:
            rows = [{"folder or file": one.path, "why": one.reason} for one in evidence.aside]
            lines += ["## Left aside", "", markdown_table(("folder or file", "why"), rows)]
        self._write("report.md", "\n".join(lines))
        return os.path.join(self.folder, "report.md")

    def _write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(f"{path}.tmp", "w", encoding="utf-8", newline="\n", errors="backslashreplace") as file:
            file.write(text)
        os.replace(f"{path}.tmp", path)
        return name


def claim(folder: str, runs: Iterable[str]) -> str:
    """Makes a folder the report's own; returns why it can't be, or ''. What is there already is only ever a report's, and of
    the same `runs` (as they were named), so that no folder holds halves of two.
    """
    stated, runs = f"--output={folder}", list(runs)
    try:
        if os.path.lexists(folder) and not os.path.isdir(folder):
            return f"{stated}: that is a file; name a folder"
        if content_of(folder) and not _is_a_report(folder):
            return f"{stated}: it is not empty and holds no report ({MARKER} of report_main); name a new folder"
        if (before := _marked(folder).get("runs", runs)) != runs:
            return (f"{stated}: it holds the report of --runs={','.join(map(str, before))}; name another folder, or delete "
                    f"that one")
        os.makedirs(folder, exist_ok=True)
        if not _is_a_report(folder):
            write_json(os.path.join(folder, MARKER),
                       {"schema_version": SCHEMA_VERSION, "program": "report_main", "runs": runs})
    except OSError as error:
        return f"{stated}: {error.strerror}; name another folder"
    return ""


def _is_a_report(folder: str) -> bool:
    return _marked(folder).get("program") == "report_main"


def _marked(folder: str) -> dict:
    """What MARKER says; empty without one that can be read."""
    try:
        with open(os.path.join(folder, MARKER), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def blanks_in_words(blanks: list[Blank]) -> str:
    """What is missing, each with the command that fills it and its cost; many of them folded away."""
    if not blanks:
        return ""
    lines = [line for blank in blanks for line in (f"* {plain(blank.what)}: {plain(blank.cost)}", "",
                                                   *([code(blank.command), ""] if blank.command else []))]
    if len(blanks) <= _BLANKS_IN_SIGHT:
        return "\n".join(["\nBlank, and what fills it:\n", *lines])
    head = f"{len(blanks)} blanks, and what fills them: {total_in_words(blanks)}"
    return "\n".join([f"\n<details><summary>{head}</summary>\n", *lines, "</details>\n"])


def _links(files) -> str:
    return " · ".join(f"[{name}]({name})" for name in files) + "\n"
