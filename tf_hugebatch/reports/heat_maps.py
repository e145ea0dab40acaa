"""Accuracy over learning rate x warm-up epochs (figures 2, 7, 15-17): grids of trials, one colour scale for all of them.

A map holds trials that agree in everything but rate, warm-up and seed. What else a search varies, and searches that differ
in another setting or in their data, are maps of their own, each with words that tell it from the others.
"""

import dataclasses
import textwrap

import numpy as np

from ..runs import Run, Sweep
from .drawing import GREY, batch_in_words, headline, panels, style
from .figures import DARK, MIDDLE
from .markup import number
from .sheets import ON_TEST
from .sources import (
    differences, final_percent, fits, notes, one_network, other_networks, settings_or_reason, shared_setting)
from .stats import selected_on
from .table3_cells import peak_rate

RATES, WARMUPS = ("peak_learning_rate", "learning_rate"), "warmup_epochs"
# Light to dark: accuracy can be read in grey.
_COLOURS = ("#f3f1ea", "#c9d7e4", "#7fa3c7", "#3c6a99", DARK)
_MOST_WRITTEN = 120  # cells; more are too small for a number
_MOST_MAPS = 4  # of a source; more are too many to compare, and stand in the CSV alone
_TITLE = 46  # characters that fit above a panel


@dataclasses.dataclass(frozen=True, eq=False)
class Trial:
    """A run that searched, and its checked settings."""

    run: Run
    values: dict
    sweep: Sweep


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """A grid of trials. accuracy: float64 [warm-ups, rates] in percent, NaN where nothing is known; state: likewise, of
    '' (not tried), 'done', 'diverged', or another status; runs: likewise, the run of a cell or None. split: that the
    accuracy was read on; on_test: whether it was there to choose by. batch: of its trials; model: their network. where: what
    tells it from the maps beside it, in words; '' for one alone. repeated: paths of trials whose cell another one fills."""

    rates: list[float]
    warmups: list[float]
    accuracy: np.ndarray
    state: np.ndarray
    runs: np.ndarray
    split: str
    on_test: bool
    batch: int
    model: str
    where: str
    repeated: tuple[str, ...]

    @property
    def best(self):
        """(warm-up, rate) indices of the highest accuracy; None where there is none."""
        if not np.isfinite(self.accuracy).any():
            return None
        return tuple(map(int, np.unravel_index(np.nanargmax(self.accuracy), self.accuracy.shape)))


def is_grid(sweep):
    """Whether a sweep is a grid over learning rates and warm-ups, whatever else it varies."""
    return sweep.plan.get("method") == "grid" and any(name in sweep.space for name in RATES) and WARMUPS in sweep.space


def trials_of(sweeps, wanted):
    """Trials of grid sweeps whose settings can be read and fit `wanted`."""
    usable = (sweep for sweep in sweeps if is_grid(sweep) and selected_on(sweep) != "unknown")
    read = (Trial(run, values, sweep) for sweep in usable for run in sweep.trials
            if isinstance(values := settings_or_reason(run), dict))
    return [trial for trial in read if fits(trial.values, wanted)]


def grids(trials):
    """What trials found, as one Grid for each setting that they share: those with most trials first.

    Choosing on test is another search: its trials stand in no map beside those that chose on validation.
    """
    if not trials:
        return []
    split = min((selected_on(trial.sweep) for trial in trials), key="validation test".index)
    by_sweep, alike = {}, {}
    for trial in (trial for trial in trials if selected_on(trial.sweep) == split):
        by_sweep.setdefault(trial.sweep, []).append(trial)
    for of_sweep in by_sweep.values():
        data = notes([trial.run for trial in of_sweep])
        for trial in of_sweep:
            shared = shared_setting(trial.values, *RATES, "lr_scaling", WARMUPS)
            _, members = alike.setdefault(str((shared, data)), ({**shared, "data": "; ".join(data) or "as published"}, []))
            members.append(trial)
    found = sorted(alike.values(), key=lambda one: -len(one[1]))
    where = differences([shared for shared, _ in found])
    return [_grid(members, split, words) for (_, members), words in zip(found, where)]


def _grid(trials, split, where):
    cells, repeated = {}, []
    for trial in trials:
        rate, warmup = peak_rate(trial.values), trial.values[WARMUPS]
        if rate is None or warmup is None:
            continue
        place = float(f"{rate:.6g}"), float(warmup)
        if cells.setdefault(place, trial.run) is not trial.run:
            repeated.append(trial.run.path)
    rates, warmups = ({place[axis] for place in cells} for axis in (0, 1))
    for trial in {trial.sweep: trial for trial in trials}.values():  # axes as they were asked for, with what has no trial yet
        rates |= {float(f"{_peak(trial, value):.6g}") for value in _listed(trial.sweep, RATES)}
        warmups |= set(map(float, _listed(trial.sweep, (WARMUPS,))))
    rates, warmups = sorted(rates), sorted(warmups)
    accuracy = np.full((len(warmups), len(rates)), np.nan)
    state, held = np.full(accuracy.shape, "", dtype=object), np.full(accuracy.shape, None, dtype=object)
    for (rate, warmup), run in cells.items():
        place = warmups.index(warmup), rates.index(rate)
        held[place], state[place] = run, run.status.get("status") or "not started"
        percent = final_percent(run, f"{split}_accuracy")
        accuracy[place] = np.nan if percent is None else percent
    return Grid(rates, warmups, accuracy, state, held, split, split == "test", trials[0].values["batch_size"],
                str(trials[0].values["model"]), where, tuple(repeated))


def _beside(trials):
    """The sweeps that `grids` leaves out of a source's maps, in words."""
    splits = {trial.sweep: selected_on(trial.sweep) for trial in trials}
    if len(set(splits.values())) > 1:
        yield from (f"Left aside: {sweep.path}: it chose on test, and stands in no map beside those that chose on validation."
                    for sweep, split in splits.items() if split == "test")


def _aside(sweeps):
    """What no map uses, with the reason, in words."""
    for sweep in filter(is_grid, sweeps):
        if selected_on(sweep) == "unknown":
            yield f"Left aside: {sweep.path}: sweep.json says select_on={sweep.plan.get('select_on')}."
        else:
            yield from (f"Left aside: {run.path}: {reason}." for run in sweep.trials
                        if isinstance(reason := settings_or_reason(run), str))


def _listed(sweep, names):
    for name in names:
        values = sweep.space.get(name)
        if isinstance(values, list):
            return [value for value in values if number(value) is not None]
    return []


def _peak(trial, value):
    """The peak that a listed rate stands for: learning_rate is scaled as the trial's settings say."""
    if isinstance(trial.sweep.space.get(RATES[0]), list):
        return float(value)
    return peak_rate({**trial.values, RATES[0]: None, RATES[1]: float(value)})


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs); a column of panels a source."""
    trials = {source: trials_of(sweeps, source.wanted) for source in figure.sources}
    tried = [trial for of_source in trials.values() for trial in of_source]
    of_one = set(one_network(tried))
    used = {source: [trial for trial in trials[source] if trial in of_one] for source in figure.sources}
    found = {source: grids(of_source) for source, of_source in used.items()}
    missing = [source for source, maps in found.items()
               if not any(one.best or np.isin(one.state, ["diverged", "failed"]).all() for one in maps)]
    rows = [row for source, maps in found.items() for one in maps for row in _rows(source, one)]
    drawn = {source: maps[:_MOST_MAPS] for source, maps in found.items()}
    shown = [one for maps in drawn.values() for one in maps]
    if not shown:
        return None, rows, list(_aside(sweeps)), missing
    with style() as matplotlib:
        picture = _picture(matplotlib, drawn, shown)
        headline(picture, f"{figure.name}: {figure.shows}")
    remarks = [_in_words(source, one) for source, maps in drawn.items() for one in maps]
    remarks += [f"{source.label}: {len(maps) - _MOST_MAPS} more maps are in the CSV and not drawn."
                for source, maps in found.items() if len(maps) > _MOST_MAPS]
    remarks += [f"Left aside: {path}: its cell is another trial's, which is shown." for one in shown for path in one.repeated]
    remarks += dict.fromkeys(words for of_source in used.values() for words in _beside(of_source))
    return picture, rows, [*remarks, *other_networks(tried, of_one), *_aside(sweeps)], missing


def _picture(matplotlib, drawn, shown):
    """drawn: {source: its Grids}, a column of panels each; shown: all of them, which share a colour scale."""
    known = [one.accuracy[np.isfinite(one.accuracy)] for one in shown]
    known = np.concatenate(known) if any(map(len, known)) else np.array([0.0, 100.0])
    widest, tallest = max(len(one.rates) for one in shown), max(len(one.warmups) for one in shown)
    deepest = max(map(len, drawn.values()))
    picture, axes = panels(matplotlib, deepest, len(drawn), (1.6 + 2.0 * max(2.1, 0.27 * widest) * len(drawn) / 1.4,
                                                             0.8 + deepest * (1.1 + 0.36 * max(tallest, 4))))
    colours = matplotlib.colors.LinearSegmentedColormap.from_list("accuracy", _COLOURS)
    # Cells that are all alike have no scale of their own: half a point to either side.
    alike = 0.5 if known.min() == known.max() else 0.0
    scale = matplotlib.colors.Normalize(known.min() - alike, known.max() + alike)
    splits = " and ".join(sorted({f"{one.split}{ON_TEST if one.on_test else ''}" for one in shown}))
    several = len({one.split for one in shown}) > 1
    for column, (source, maps) in zip(axes.T, drawn.items()):
        for panel in column[len(maps):]:
            panel.set_axis_off()
        if not maps:
            column[0].set_title(source.label, loc="left")
            column[0].text(0.5, 0.5, "no trials yet", transform=column[0].transAxes, ha="center", color=GREY)
        for panel, one in zip(column, maps):
            split = f"on {one.split}{ON_TEST if one.on_test else ''}" if several else None
            words = ", ".join(filter(None, [source.label, batch_in_words(one.batch), one.where, split]))
            panel.set_title(textwrap.fill(words, _TITLE), loc="left")
            mesh = _draw_grid(matplotlib, panel, one, colours, scale)
            panel.set(xlabel="peak learning rate", ylabel="warm-up epochs")
    picture.colorbar(mesh, ax=axes.ravel().tolist(), label=f"{splits} accuracy (%)", pad=0.01)
    _explain(matplotlib, picture, shown)
    return picture


def _draw_grid(matplotlib, panel, found, colours, scale):
    edges = [np.arange(len(values) + 1) - 0.5 for values in (found.rates, found.warmups)]
    mesh = panel.pcolormesh(*edges, np.ma.masked_invalid(found.accuracy), cmap=colours, norm=scale,
                            edgecolors="white", linewidth=1.0)
    panel.grid(False)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    panel.set_xticks(range(len(found.rates)), [f"{rate:g}" for rate in found.rates],
                     rotation=0 if len(found.rates) <= 6 else 45)
    panel.set_yticks(range(len(found.warmups)), [f"{warmup:g}" for warmup in found.warmups])
    for place in np.ndindex(found.accuracy.shape):
        row, column = place
        if np.isfinite(found.accuracy[place]):
            if found.accuracy.size <= _MOST_WRITTEN:
                panel.text(column, row, f"{found.accuracy[place]:.{1 if found.accuracy[place] >= 1 else 2}f}", ha="center",
                           va="center", fontsize=7, color=_readable_on(colours(scale(found.accuracy[place]))),
                           fontweight="bold" if place == found.best else "normal")
        elif found.state[place] == "diverged":
            panel.add_patch(matplotlib.patches.Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="white",
                                                         edgecolor=GREY, hatch="////", linewidth=0.6))
        elif found.state[place]:
            panel.text(column, row, found.state[place], ha="center", va="center", fontsize=6, color=GREY)
    if found.best is not None:
        row, column = found.best
        for edge, width in (("white", 4.5), (MIDDLE, 2.2)):  # the white rim keeps it in sight on a dark cell, in grey too
            panel.add_patch(matplotlib.patches.Rectangle((column - 0.45, row - 0.45), 0.9, 0.9, fill=False, edgecolor=edge,
                                                         linewidth=width))
    return mesh


def luminance(colour):
    """Relative luminance of an sRGB colour, red, green and blue in [0, 1] (WCAG 2.1, 1.4.3)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _readable_on(colour):
    """Black or white, whichever stands out more: black's contrast is (L + 0.05) / 0.05, white's 1.05 / (L + 0.05)."""
    return "black" if (luminance(colour) + 0.05) ** 2 > 1.05 * 0.05 else "white"


def _explain(matplotlib, picture, grids):
    patch = matplotlib.patches.Patch
    signs = [patch(fill=False, edgecolor=MIDDLE, linewidth=2.2, label="best of its panel")]
    if any((found.state == "diverged").any() for found in grids):
        signs.append(patch(facecolor="white", edgecolor=GREY, hatch="////", label="diverged"))
    if any((found.state == "").any() for found in grids):
        signs.append(patch(facecolor="white", edgecolor="#cccccc", label="not tried"))
    picture.legend(handles=signs, loc="outside lower left", ncols=3)


def _rows(source, found):
    return [{"map": source.label, "model": found.model, "batch": found.batch, "where": found.where,
             "peak_learning_rate": found.rates[column], "warmup_epochs": found.warmups[row],
             "status": found.state[row, column],
             "accuracy": round(found.accuracy[row, column], 4) if np.isfinite(found.accuracy[row, column]) else "",
             "selected_on": found.split,
             "data_note": "; ".join(notes([found.runs[row, column]])) if found.runs[row, column] else "",
             "run": found.runs[row, column].path if found.runs[row, column] else ""}
            for row, column in np.ndindex(found.accuracy.shape)]


def _in_words(source, found):
    done, diverged = int(np.isfinite(found.accuracy).sum()), int((found.state == "diverged").sum())
    counted = f"{done} of {found.state.size} cells done, {diverged} diverged"
    what = ", ".join(filter(None, [source.label, found.model, batch_in_words(found.batch), found.where]))
    if found.best is None:
        return f"{what}: {counted}."
    row, column = found.best
    return (f"{what}: best {found.accuracy[found.best]:.2f}%{ON_TEST if found.on_test else ''} on {found.split} at rate "
            f"{found.rates[column]:g}, warm-up {found.warmups[row]:g} epochs; {counted}.")
