"""Accuracy over learning rate x warm-up epochs (figures 2, 7, 15-17): grids of trials, one colour scale for all of them."""

import dataclasses

import numpy as np

from .drawing import GREY, SELECTED_ON_TEST, headline, panels, style
from .figures import DARK, MIDDLE
from .markup import number
from .outcomes import checked_settings
from .sources import final_percent, fits, notes, one_network, peak_rate

RATES, WARMUPS = ("peak_learning_rate", "learning_rate"), "warmup_epochs"
# Light to dark: accuracy can be read in grey. Text turns white where a cell is dark.
_COLOURS = ("#f3f1ea", "#c9d7e4", "#7fa3c7", "#3c6a99", DARK)
_MOST_WRITTEN = 120  # cells; more are too small for a number


@dataclasses.dataclass(frozen=True)
class Grid:
    """A grid of trials. accuracy: float64 [warm-ups, rates] in percent, NaN where nothing is known; state: likewise, of
    '' (not tried), 'done', 'diverged', or another status; runs: likewise, the run of a cell or None. split: that the
    accuracy was read on; on_test: whether it was there to choose by."""

    rates: list[float]
    warmups: list[float]
    accuracy: np.ndarray
    state: np.ndarray
    runs: np.ndarray
    split: str
    on_test: bool

    @property
    def best(self):
        """(warm-up, rate) indices of the highest accuracy; None where there is none."""
        if not np.isfinite(self.accuracy).any():
            return None
        return tuple(map(int, np.unravel_index(np.nanargmax(self.accuracy), self.accuracy.shape)))


def is_grid(sweep):
    """Whether a sweep is a grid over learning rates and warm-ups, whatever else it varies."""
    space = sweep.plan.get("space")
    return sweep.plan.get("method") == "grid" and isinstance(space, dict) and any(name in space for name in RATES) \
        and WARMUPS in space


def grid(sweeps, wanted):
    """What grid sweeps whose trials fit `wanted` found, as one Grid; None where none fits.

    A cell that several trials share shows the last; cells of listed values without a trial stay untried.
    """
    trials = {sweep: [run for run in sweep.trials if _reason(run) is None and fits(run.settings, wanted)]
              for sweep in sweeps if is_grid(sweep) and _split(sweep) in ("validation", "test")}
    of_one = set(one_network([run for runs in trials.values() for run in runs]))
    trials = {sweep: kept for sweep, runs in trials.items() if (kept := [run for run in runs if run in of_one])}
    if not trials:
        return None
    # Choosing on test is another search: its trials stand in no map beside those that chose on validation.
    split = min((_split(sweep) for sweep in trials), key="validation test".index)
    trials = {sweep: runs for sweep, runs in trials.items() if _split(sweep) == split}
    cells = {}
    for run in (run for runs in trials.values() for run in runs):
        rate, warmup = peak_rate(run.settings), run.settings.get(WARMUPS)
        if rate is not None and warmup is not None:
            cells[float(f"{rate:.6g}"), float(warmup)] = run
    rates, warmups = ({place[axis] for place in cells} for axis in (0, 1))
    for sweep, runs in trials.items():  # axes as they were asked for, with what has no trial yet
        rates |= {float(f"{_peak(sweep, runs[0], value):.6g}") for value in _listed(sweep, RATES)}
        warmups |= set(map(float, _listed(sweep, (WARMUPS,))))
    rates, warmups = sorted(rates), sorted(warmups)
    accuracy = np.full((len(warmups), len(rates)), np.nan)
    state, held = np.full(accuracy.shape, "", dtype=object), np.full(accuracy.shape, None, dtype=object)
    for (rate, warmup), run in cells.items():
        place = warmups.index(warmup), rates.index(rate)
        held[place], state[place] = run, run.status.get("status") or "not started"
        percent = final_percent(run, f"{split}_accuracy")
        accuracy[place] = np.nan if percent is None else percent
    return Grid(rates, warmups, accuracy, state, held, split, split == "test")


def _split(sweep):
    return str(sweep.plan.get("select_on", "validation"))


def _reason(run):
    """Why a trial's settings can't be used; None where they can."""
    try:
        checked_settings(run)
    except (ValueError, TypeError, AttributeError) as error:
        return str(error)
    return None


def _aside(sweeps):
    """What no map uses, with the reason, in words."""
    for sweep in filter(is_grid, sweeps):
        if _split(sweep) not in ("validation", "test"):
            yield f"Left aside: {sweep.path}: sweep.json says select_on={_split(sweep)}."
        else:
            yield from (f"Left aside: {run.path}: {reason}." for run in sweep.trials if (reason := _reason(run)))


def _listed(sweep, names):
    for name in names:
        values = sweep.plan["space"].get(name)
        if isinstance(values, list):
            return [value for value in values if number(value) is not None]
    return []


def _peak(sweep, run, value):
    """The peak that a listed rate stands for: learning_rate is scaled as the run's settings say."""
    if isinstance(sweep.plan["space"].get(RATES[0]), list):
        return float(value)
    return peak_rate({**run.settings, RATES[0]: None, RATES[1]: float(value)}) or float(value)


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs); a panel a source."""
    grids = {source: grid(sweeps, source.wanted) for source in figure.sources}
    missing = [source for source, found in grids.items() if found is None or found.best is None]
    drawn = {source: found for source, found in grids.items() if found is not None}
    rows = [row for source, found in drawn.items() for row in _rows(source, found)]
    if not drawn:
        return None, rows, [], missing
    known = [found.accuracy[np.isfinite(found.accuracy)] for found in drawn.values()]
    known = np.concatenate(known) if any(map(len, known)) else np.array([0.0, 100.0])
    with style() as matplotlib:
        widest = max(len(found.rates) for found in drawn.values())
        tallest = max(len(found.warmups) for found in drawn.values())
        picture, axes = panels(matplotlib, 1, len(grids), (1.6 + 2.0 * max(2.1, 0.27 * widest) * len(grids) / 1.4,
                                                           1.9 + 0.36 * max(tallest, 4)))
        colours = matplotlib.colors.LinearSegmentedColormap.from_list("accuracy", _COLOURS)
        scale = matplotlib.colors.Normalize(known.min(), max(known.max(), known.min() + 1e-9))
        for panel, (source, found) in zip(axes[0], grids.items()):
            panel.set_title(source.label, loc="left")
            if found is None:
                panel.text(0.5, 0.5, "no trials yet", transform=panel.transAxes, ha="center", color=GREY)
                panel.set(xticks=[], yticks=[])
            else:
                mesh = _draw_grid(matplotlib, panel, found, colours, scale)
            panel.set_xlabel("peak learning rate")
        axes[0][0].set_ylabel("warm-up epochs")
        splits = " and ".join(sorted({f"{found.split}{SELECTED_ON_TEST if found.on_test else ''}" for found in drawn.values()}))
        picture.colorbar(mesh, ax=axes[0].tolist(), label=f"{splits} accuracy (%)", pad=0.01)
        _explain(matplotlib, picture, drawn.values())
        headline(picture, f"{figure.name}: {figure.shows}")
    remarks = [*(_in_words(source, found) for source, found in drawn.items()), *_aside(sweeps)]
    return picture, rows, remarks, missing


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
                bright = scale(found.accuracy[place]) < 0.55
                panel.text(column, row, f"{found.accuracy[place]:.{1 if found.accuracy[place] >= 1 else 2}f}", ha="center",
                           va="center", fontsize=7, color="#111111" if bright else "white",
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


def _explain(matplotlib, picture, grids):
    patch = matplotlib.patches.Patch
    signs = [patch(fill=False, edgecolor=MIDDLE, linewidth=2.2, label="best of its panel")]
    if any((found.state == "diverged").any() for found in grids):
        signs.append(patch(facecolor="white", edgecolor=GREY, hatch="////", label="diverged"))
    if any((found.state == "").any() for found in grids):
        signs.append(patch(facecolor="white", edgecolor="#cccccc", label="not tried"))
    picture.legend(handles=signs, loc="outside lower left", ncols=3)


def _rows(source, found):
    return [{"map": source.label, "peak_learning_rate": found.rates[column], "warmup_epochs": found.warmups[row],
             "status": found.state[row, column],
             "accuracy": round(found.accuracy[row, column], 4) if np.isfinite(found.accuracy[row, column]) else "",
             "split": found.split, "selected_on_test": found.on_test,
             "note": "; ".join(notes([found.runs[row, column]])) if found.runs[row, column] else "",
             "run": found.runs[row, column].path if found.runs[row, column] else ""}
            for row, column in np.ndindex(found.accuracy.shape)]


def _in_words(source, found):
    done, diverged = int(np.isfinite(found.accuracy).sum()), int((found.state == "diverged").sum())
    counted = f"{done} of {found.state.size} cells done, {diverged} diverged"
    if found.best is None:
        return f"{source.label}: {counted}."
    row, column = found.best
    mark = SELECTED_ON_TEST if found.on_test else ""
    model = found.runs[found.best].settings.get("model")
    return (f"{source.label}, {model}: best {found.accuracy[found.best]:.2f}%{mark} on {found.split} at rate "
            f"{found.rates[column]:g}, warm-up {found.warmups[row]:g} epochs; {counted}.")
