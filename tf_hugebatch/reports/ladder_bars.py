"""The recipe ladder as bars (figures 1, 6, 13, 14): each rung's accuracy, the paper's beside it where it states one."""

import os
import textwrap

from .. import published
from .drawing import GREY, headline, panels, style
from .figures import DARK, LIGHT, MIDDLE
from .outcomes import checked_settings, read_ladders
from .sheets import mark_of
from .sources import ended, fits, groups_of, in_words, numbers
from .stats import trials_done

_WIDTH = 0.38


def rungs_of(sweeps, wanted):
    """The rungs of the ladder that fits `wanted`: [(rung of ladder.json, Sweep or None)], empty where there is none.

    Rungs 0-4 come first, then what stands beside them; the search for the baseline's rate is at another batch and left out.
    A ladder is found by the ladder.json above its rungs' sweep folders. Of several that fit, the one with most final runs.
    """
    by_path, best = {os.path.abspath(sweep.path): sweep for sweep in sweeps}, []
    for ladder in read_ladders(sweeps)[0]:
        if not fits(checked_settings(ladder), wanted):
            continue
        rungs = [(rung, by_path.get(os.path.abspath(os.path.join(ladder.path, str(rung.get("folder"))))))
                 for rung in ladder.rungs if rung.get("kind") != "baseline_rate"]
        rungs.sort(key=lambda found: not str(found[0].get("name")).isdigit())
        best = max(best, rungs, key=lambda found: sum(len(sweep.final) for _, sweep in found if sweep))
    return best


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs); a panel a source."""
    panels_of = {source: [_row(source, rung, sweep) for rung, sweep in rungs_of(sweeps, source.wanted)]
                 for source in figure.sources}
    missing = [source for source, rows in panels_of.items() if not _complete(rows)]
    rows = [row for found in panels_of.values() for row in found]
    remarks = [f"{row['panel']}, rung {row['rung']}: n/a, {row['n_a']}." for row in rows if row["n_a"]]
    remarks += [f"{row['panel']}, rung {row['rung']}: {row['not_drawn']} more runs, of another setting or on other data, are "
                "not drawn." for row in rows if row["not_drawn"]]
    if not any(row["n"] for row in rows):
        return None, rows, remarks, missing
    with style() as matplotlib:
        widest = max(len(published.LADDER), *map(len, panels_of.values()))
        picture, axes = panels(matplotlib, len(panels_of), 1, (max(6.0, 0.85 * widest + 1.2), 0.6 + 3.3 * len(panels_of)))
        for panel, (source, found) in zip(axes[:, 0], panels_of.items()):
            _draw_panel(panel, source, found, _paper_of(figure, source))
        if bars := [panel for panel in axes[:, 0] if panel.patches]:
            bars[0].legend(loc="upper left")
        headline(picture, f"{figure.name}: {figure.shows}")
    for source, found in panels_of.items():
        words = [f"{row['rung']} {in_words(row)}" + (f" after {row['trials']} trials" if row["trials"] else "")
                 for row in found if row["n"]]
        remarks += [f"{source.label}, rungs: {'; '.join(words)}."] if words else []
    return picture, rows, remarks, missing


def _row(source, rung, sweep):
    groups = groups_of(ended(sweep.final, {})) if sweep else []
    n_a = rung.get("n_a") or ("" if groups or not sweep else _why_none(sweep))
    return {"panel": source.label, "rung": str(rung.get("name", "")), "kind": rung.get("kind", ""),
            "adds": str(rung.get("adds", "")), "metric": source.metric,
            **numbers(groups[0] if groups else None, source.metric),
            "not_drawn": sum(group.n for group in groups[1:]), "n_a": n_a}


def _why_none(sweep):
    """Why a search that has ended has no final runs: every trial diverged, in words; '' for any other."""
    counts = sweep.result.get("trials")
    trained = not isinstance(counts, dict) or counts.get("done")
    if sweep.result.get("status") != "done" or trained or not trials_done(sweep):
        return ""
    return f"diverges in every trial of {trials_done(sweep)}"


def _complete(rows):
    return bool(rows) and all(row["n"] or row["n_a"] for row in rows)


def _paper_of(figure, source):
    """{rung name: percent} that the paper states for a panel."""
    stated = source.metric == "test_accuracy" and source.wanted["dataset"] == "imagenet2012" \
        and source.wanted["batch_size"] == published.LADDER_BATCH
    return {str(rung.rung): rung.top1 for rung in published.LADDER} if stated and figure.paper else {}


def _draw_panel(panel, source, rows, paper):
    panel.set_title(source.label, loc="left")
    panel.set_ylabel(f"{'top-5' if source.metric.endswith('5') else 'top-1'} test accuracy (%)")
    panel.grid(False, axis="x")
    if not rows:
        panel.text(0.5, 0.5, "no runs yet", transform=panel.transAxes, ha="center", color=GREY)
        panel.set(xticks=[])
        return
    highest = max([row["highest_percent"] for row in rows if _has_mean(row)] + list(paper.values()) + [1.0])
    first_ours, first_paper = True, True
    for place, row in enumerate(rows):
        stated = paper.get(row["rung"]) if row["kind"] in ("rule", "tuned", "") and row["rung"].isdigit() else None
        shift = _WIDTH / 2 if stated is not None else 0
        if _has_mean(row):
            main = row["rung"].isdigit()
            panel.bar(place - shift, row["mean_percent"], _WIDTH, color=DARK if main else LIGHT, edgecolor=DARK,
                      label="ours, mean of the seeds" if first_ours else None)
            first_ours = False
            if row["n"] - row["diverged"] > 1:
                panel.vlines(place - shift, row["lowest_percent"], row["highest_percent"], color=MIDDLE, linewidth=2)
        upright = {} if _has_mean(row) else {"rotation": 90, "color": GREY}
        panel.annotate(_above(row), (place - shift, row["highest_percent"] if _has_mean(row) else 0), xytext=(0, 3),
                       textcoords="offset points", ha="center", va="bottom", fontsize=7.5, **upright)
        if stated is not None:
            panel.bar(place + shift, stated, _WIDTH, facecolor="white", edgecolor="#111111", hatch="....", linewidth=1,
                      label="the paper" if first_paper else None)
            first_paper = False
            panel.annotate(f"{stated:g}", (place + shift, stated), xytext=(0, 3), textcoords="offset points", ha="center",
                           fontsize=7.5, color=GREY)
    panel.set_ylim(0, 1.18 * highest)
    panel.set_xlim(-0.6, len(rows) - 0.4)
    panel.set_xticks(range(len(rows)), [_tick(row) for row in rows], fontsize=6.5)
    panel.tick_params(axis="x", length=0)


def _has_mean(row):
    return row["mean_percent"] is not None


def _above(row):
    """What stands above a bar, or in its place."""
    if _has_mean(row):
        return f"{row['mean_percent']:.1f}{mark_of(row['selected_on'])}"
    return "n/a" if row["n_a"] else row["words"] or "not run"


def _tick(row):
    name = f"{row['rung']}\n" if row["rung"].isdigit() else ""
    words = row["adds"] if name or row["kind"] == "leave_one_out" else row["rung"]
    lost = f"\n{row['diverged']} of {row['n']}\ndiverged" if row["diverged"] and _has_mean(row) else ""
    return name + textwrap.fill(textwrap.shorten(words, 84, placeholder=" …"), 14, break_on_hyphens=False) + lost
