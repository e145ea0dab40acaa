"""Figures of surveys: signal and noise of summed gradients against batch size, and sharpness over a run.

Drawn from runs with `--diagnostics=snr` and `--diagnostics=sharpness`. Rows that hold less than a survey writes, or text for a
number, and surveys of too few examples for a single batch size are left aside, by name.
"""

import numpy as np

from ..runs import is_number_or_null
from .drawing import GREY, LINES, headline, panels, style
from .markup import number
from .sources import first_runs, noted


class _Surveys:
    """The rows of a diagnostic that can be drawn, and sentences about the others.

    Args:
        kind: of the rows.
        odd: a function of a row that says why it can't be drawn; '' where it can.
    """

    def __init__(self, kind, odd):
        self._kind, self._odd, self._aside = kind, odd, {}

    def read(self, run):
        """The rows of a run that can be drawn."""
        judged = [(row, self._odd(row)) for row in run.diagnostic_rows(self._kind)]
        odd = [(row["step"], reason) for row, reason in judged if reason]
        if odd:
            (step, reason), *others = odd
            more = f", and {len(others)} row{'s' * (len(others) > 1)} more" if others else ""
            self._aside[run.path] = f"{self._kind} at update {step:,}: {reason}{more}"
        return [row for row, reason in judged if not reason]

    def remarks(self):
        """Of the runs that were read."""
        return [f"Left aside: {path}: {words}." for path, words in sorted(self._aside.items())]


def _odd_in_snr(row):
    """Why a row of signal and noise can't be drawn; '' where it can."""
    lists = [row.get(name) for name in ("batch_sizes", "signal", "noise")]
    examples = number(row.get("examples"))
    if examples is None or not all(isinstance(values, list) and all(map(is_number_or_null, values)) for values in lists):
        return "no numbers for batch_sizes, signal, noise or examples"
    sizes = lists[0]
    if not sizes:
        return f"of {examples:,} examples no batch size has groups enough"
    if len(set(map(len, lists))) > 1 or not all(number(size) and 0 < size < examples for size in sizes):
        return "batch_sizes that are not those of its signal and noise, or not below its examples"
    return ""


def _odd_in_sharpness(row):
    """Why a row of sharpness can't be drawn; '' where it can."""
    known = number(row.get("epoch")) is not None and number(row.get("examples")) is not None
    if not known or "eigenvalue" not in row or not all(is_number_or_null(row.get(name)) for name in ("eigenvalue", "residual")):
        return "no numbers for epoch, examples, eigenvalue or residual"
    return ""


def draw_snr(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs): a panel a source, its last survey."""
    surveys = _Surveys("snr", _odd_in_snr)
    drawn, missing, networks = first_runs(figure, runs, surveys.read)
    if not drawn:
        return None, [], surveys.remarks(), missing
    rows, remarks = [], [*networks, *surveys.remarks()]
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
    surveys = _Surveys("sharpness", _odd_in_sharpness)
    drawn, missing, networks = first_runs(figure, runs, surveys.read)
    if not drawn:
        return None, [], surveys.remarks(), missing
    rows, remarks = [], [*networks, *surveys.remarks()]
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
