"""Learning-rate schedules (figures 23-29), from the schedule.csv that every run and every dry run writes."""

import csv
import math
import os

from .drawing import LINES, headline, panels, style
from .sources import fits, settings_or_reason


def read_schedule(run):
    """[(update, epoch, learning rate)] of a run folder; empty without a file, a torn line is left out."""
    points = []
    try:
        with open(os.path.join(run.path, "schedule.csv"), encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                try:
                    point = int(row["update"]), float(row["epoch"]), float(row["learning_rate"])
                except (KeyError, TypeError, ValueError):
                    continue
                if all(map(math.isfinite, point)):
                    points.append(point)
    except (OSError, UnicodeDecodeError, csv.Error):
        return []
    return points


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs); a dry run is drawn before one that trained."""
    [source] = figure.sources
    found = [(values, run) for run in runs if run.part != "trials"
             if isinstance(values := settings_or_reason(run), dict) and fits(values, source.wanted)]
    for values, run in sorted(found, key=lambda pair: (not pair[0]["dry_run"], pair[1].path)):
        if points := read_schedule(run):
            break
    else:
        return None, [], [], [source]
    rows = [{"update": update, "epoch": epoch, "learning_rate": rate} for update, epoch, rate in points]
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, 1, (7.0, 3.0))
        panel = axes[0, 0]
        panel.plot([row["epoch"] for row in rows], [row["learning_rate"] for row in rows], color=LINES[0]["color"],
                   drawstyle="steps-post" if len(rows) <= 60 else "default")
        panel.set(xlabel="epochs", ylabel="learning rate", xlim=(0, None), ylim=(0, None))
        panel.set_title(_details(values, rows), loc="left", color="#555555")
        headline(picture, f"{figure.name}: {figure.shows}")
    return picture, rows, [f"{run.path}."], []


def _details(values, rows):
    cycles, power, warmup = values["cycles"], values["poly_power"], values["warmup_epochs"]
    parts = [values["dataset"], f"{len(rows):,} updates", values["schedule"], cycles and f"{cycles} cycles",
             power and f"power {power:g}", warmup and f"warm-up {warmup:g} epochs, {values['warmup_shape']}",
             f"peak {max(row['learning_rate'] for row in rows):.3g}"]
    return " · ".join(str(part) for part in parts if part)
