"""Below the page's table: curves, heat maps, sweeps, and what was left aside."""

import math
import os

import numpy as np

from . import heat_maps
from .figures import column
from .markup import breaking, class_of, link, text
from .outcomes import one_line, read_outcomes
from .sheets import ON_TEST, chosen_on
from .stats import group_runs, tested_before

SEARCHING = ("trials", "repeats")  # parts of a sweep whose runs choose
_MOST_POINTS = 60  # of a curve; the page's pictures have few pixels and a thousand runs share a file


def curves(run):
    """{measure: [[epoch, value] ...]}, thinned: training loss, and error (%) on the test split, or while there is one on
    the validation split."""
    rows = run.eval_rows("validation") or run.eval_rows("test")
    found = {"loss": (run.train_rows, column(run.train_rows, "loss")), "error": (rows, 100 - 100 * column(rows, "accuracy"))}
    return {name: points for name, (of, values) in found.items() if (points := _thin(column(of, "epoch"), values))}


def _thin(epochs, values):
    held = np.flatnonzero(np.isfinite(values) & np.isfinite(epochs))
    if len(held) > _MOST_POINTS:
        held = held[np.linspace(0, len(held) - 1, _MOST_POINTS).round().astype(int)]
    points = [[round(float(epochs[at]), 3), float(f"{values[at]:.4g}")] for at in held]
    # Rounding can take the largest beyond what a float holds.
    return [point for point in points if all(map(math.isfinite, point))]


def batch_section():
    """HTML of error against batch size, which the script draws of the runs that the table shows; hidden when all are of one."""
    return ['<section id="of-batches" hidden>',
            "<h2>Error against batch size: the runs of the table, without the trials of searches</h2>",
            '<figure><svg id="batches" viewBox="0 0 900 360" role="group" aria-label="Error against batch size"></svg>'
            '<ul id="keys"></ul></figure></section>']


def curve_section():
    """HTML of the curves, which the script draws."""
    return ["<h2>Curves of the first eight runs of the table, as it is sorted and filtered</h2>",
            '<div class="bar"><label>Show <select id="measure">'
            '<option value="error">error rate (%), validation or else test</option>'
            '<option value="loss">training loss (nats)</option></select></label></div>',
            '<figure><svg id="curve" viewBox="0 0 900 360" role="img" aria-label="Curves of the first eight runs"></svg>'
            '<ul id="legend"></ul></figure>']


def maps(sweeps, identities):
    """HTML of a heat map for each grid sweep. identities: absolute path of a run -> its row in the table."""
    drawn = [(sweep, found) for sweep in sweeps for found in heat_maps.grids(heat_maps.trials_of([sweep], {}))]
    if not drawn:
        return
    yield '<h2>Heat maps</h2><p class="soft">Best framed, diverged hatched, dashed: not tried. A cell leads to its run.</p>'
    yield '<div class="maps">'
    for sweep, found in drawn:
        yield from _map(sweep, found, identities)
    yield "</div>"


def _map(sweep, found, identities):
    settings = sweep.plan.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    title = f"{settings.get('dataset')}, {settings.get('optimizer')}, batch {found.batch:,}"
    title += f", {found.where}" if found.where else ""
    split = f"{found.split} accuracy (%){ON_TEST if found.on_test else ''}"
    known = found.accuracy[np.isfinite(found.accuracy)]
    low, high = (known.min(), known.max()) if known.size else (0, 1)
    yield f'<div class="map"><h3>{text(title)}</h3><p class="soft">{text(sweep.path)}: {split}</p><table>'
    for row in reversed(range(len(found.warmups))):
        cells = "".join(_map_cell(found, (row, at), identities, low, high) for at in range(len(found.rates)))
        yield f'<tr><th scope="row">{found.warmups[row]:g}</th>{cells}</tr>'
    rates = "".join(f'<th scope="col">{rate:g}</th>' for rate in found.rates)
    yield f'<tr><td></td>{rates}</tr></table><p class="soft">across: peak learning rate; up: warm-up epochs</p></div>'


def _map_cell(found, place, identities, low, high):
    run, state, accuracy = found.runs[place], found.state[place], found.accuracy[place]
    if run is None:
        return '<td class="untried" aria-label="not tried"></td>'
    words = f"{accuracy:.2f}" if np.isfinite(accuracy) else text(state)
    identity = identities.get(os.path.abspath(run.path))
    inside = f'<a href="#{identity}">{words}</a>' if identity else words
    if not np.isfinite(accuracy):
        return f'<td class="{"diverged" if state == "diverged" else "untried"}">{inside}</td>'
    share = (accuracy - low) / (high - low) if high > low else 1.0
    mixed = [round(light + (dark - light) * share) for light, dark in zip((243, 241, 234), (18, 54, 90))]
    style = f'background:rgb({",".join(map(str, mixed))});color:{"#fff" if share > 0.5 else "#111"}'
    return f'<td{class_of("best" * (place == found.best))} style="{style}">{inside}</td>'


# ------------------------------------------------------------------------------------------- sweeps, what is left aside


def sweep_table(sweeps, folder):
    """HTML: what each sweep searched, what came of it."""
    if not sweeps:
        return
    names = ("sweep", "method", "trials", "chosen on", "chosen", "at an edge of its space")
    heads = "".join(f'<th scope="col">{name}</th>' for name in names)
    yield '<h2>Sweeps</h2><div class="scroll" tabindex="0" role="region" aria-label="Sweeps">'
    yield f"<table><thead><tr>{heads}</tr></thead>"
    for sweep in sweeps:
        cells = (f'<a href="{link(sweep.path, folder)}">{breaking(sweep.path)}</a>', text(sweep.plan.get("method")),
                 _trials(sweep), _chosen_on(sweep), _chosen(sweep), _edges(sweep))
        inside = "".join(f'<td class="words">{cell}</td>' for cell in cells)
        yield f"<tr>{inside}</tr>"
    yield "</table></div>"


def _trials(sweep):
    counts = sweep.result.get("trials")
    words = [f"{text(sweep.plan.get('trials'))} asked for"]
    if isinstance(counts, dict):
        words += [f"{text(count)} {text(name)}" for name, count in counts.items() if count]
    return ", ".join(words)


def _chosen_on(sweep):
    on = sweep.plan.get("select_on")
    words = text(chosen_on(f"test {ON_TEST}" if on == "test" else one_line(on or ""), tested_before(sweep)))
    return f'<span class="bad">{words}</span>' if on == "test" or tested_before(sweep) else words


def _chosen(sweep):
    chosen = sweep.result.get("chosen")
    values = chosen.get("values") if isinstance(chosen, dict) else None
    return text(", ".join(f"{name} {value}" for name, value in values.items())) if isinstance(values, dict) else ""


def _edges(sweep):
    found = sweep.result.get("edges")
    edges = [edge for edge in found if isinstance(edge, dict)] if isinstance(found, list) else []
    words = ", ".join(f"{edge.get('flag')} {edge.get('value')} is the {edge.get('end')}" for edge in edges)
    return f'<span class="bad">{text(words)}</span>' if words else ""


def left_aside(runs, folder):
    """HTML: runs that count nowhere, or only in part, and why."""
    outcomes, found = read_outcomes(runs)
    found += group_runs(outcomes)[1]
    if found:
        yield "<h2>Left aside</h2><ul>"
        for one in found:
            place = os.path.split(one.path) if os.path.isfile(one.path) else (one.path,)
            yield f'<li><a href="{link(place[0], folder, *place[1:])}">{text(one.path)}</a>: {text(one.reason)}</li>'
        yield "</ul>"
