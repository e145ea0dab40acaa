"""Figures of surveys: signal and noise of summed gradients against batch size, and sharpness over a run.

Drawn from runs with `--diagnostics=snr` and `--diagnostics=sharpness`.
"""

import numpy as np

from .drawing import GREY, LINES, headline, panels, style
from .markup import number
from .sources import first_runs, noted


def draw_snr(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs): a panel a source, its last survey."""
    drawn, missing, networks = first_runs(figure, runs, lambda run: run.diagnostic_rows("snr"))
    if not drawn:
        return None, [], [], missing
    rows, remarks = [], networks
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, len(drawn), (3.8 * len(drawn) + 0.6, 3.8), sharey=True)
        for panel, (source, (run, found)) in zip(axes[0], drawn.items()):
            last = found[-1]
            sizes = np.array(last["batch_sizes"], float)
            # Noise is of draws without replacement, and its slope is fitted without that factor.
            of_n = {"signal": np.ones_like(sizes), "noise": np.sqrt(1 - sizes / last["examples"])}
            for line, name, power in zip(LINES, ("signal", "noise"), (1.0, 0.5)):
                values = np.array([np.nan if number(value) is None else value for value in last[name]], float)
                slope = number(last.get(f"{name}_slope"))
                fitted = "" if slope is None else f", slope {slope:.2f}"
                panel.plot(sizes, values, label=f"{name}{fitted}", **line)
                known = np.flatnonzero(np.isfinite(values))
                if len(known):
                    law = values[known[0]] * (sizes / sizes[known[0]]) ** power * of_n[name] / of_n[name][known[0]]
                    panel.plot(sizes, law, color=GREY, linewidth=0.8, linestyle=(0, (1, 2)),
                               label=f"slope {power:g}" + " times √(1 - B/N)" * (name == "noise"))
            rows += [row for survey in found for row in _survey_rows(source.label, survey)]
            panel.set(xscale="log", yscale="log", xlabel="examples B")
            panel.set_title(f"{source.label}, update {last['step']:,}", loc="left")
            panel.legend(loc="upper left", fontsize=7)
            remarks += [f"{source.label}: {run.path}, {last['examples']:,} examples at update {last['step']:,}.", *noted([run])]
        axes[0, 0].set_ylabel("norm, of the sum of B gradients")
        headline(picture, f"{figure.name}: {figure.shows}")
    return picture, rows, remarks, missing


def _survey_rows(label, survey):
    """Every survey of a run, the slopes after the values that they are fitted to."""
    for name in ("signal", "noise"):
        yield from ({"source": label, "step": survey["step"], "batch": size, "what": name, "value": value}
                    for size, value in zip(survey["batch_sizes"], survey[name]) if number(value) is not None)
        yield {"source": label, "step": survey["step"], "batch": None, "what": f"{name} slope",
               "value": number(survey.get(f"{name}_slope"))}
    yield {"source": label, "step": survey["step"], "batch": survey["examples"], "what": "mean gradient of all examples",
           "value": number(survey.get("full_gradient_norm"))}


def draw_sharpness(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs): a line a source."""
    drawn, missing, networks = first_runs(figure, runs, lambda run: run.diagnostic_rows("sharpness"))
    if not drawn:
        return None, [], [], missing
    rows, remarks = [], networks
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, 1, (7.0, 4.2))
        panel = axes[0, 0]
        for line, (source, (run, found)) in zip(LINES, drawn.items()):
            points = [(row["epoch"], value, number(row.get("residual"))) for row in found
                      if (value := number(row.get("eigenvalue"))) is not None]
            panel.plot(*np.array([point[:2] for point in points]).reshape(-1, 2).T, label=source.label, **line)
            rows += [{"source": source.label, "epoch": epoch, "eigenvalue": value, "residual": residual}
                     for epoch, value, residual in points]
            remarks += [f"{source.label}: {run.path}, of the loss of {found[-1]['examples']:,} examples.", *noted([run])]
        panel.set(xlabel="epochs", ylabel="largest eigenvalue of the Hessian")
        values = [row["eigenvalue"] for row in rows]
        if values and min(values) > 0 and max(values) < 30 * min(values):  # a logarithm of less has too few labels
            panel.set_ylim(bottom=0)
        else:
            panel.set_yscale("symlog")
        panel.legend(loc="best")
        headline(picture, f"{figure.name}: {figure.shows}")
    return picture, rows, remarks, missing
