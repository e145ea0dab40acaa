"""How large a step each layer can take: ||w|| / ||g|| of every kernel over the updates, a panel a run.

The picture of You et al. 2017 (arXiv 1708.03888), figure 2: under one learning rate for all, the layer with the smallest
ratio sets how large it can be; LARS follows each. Drawn from runs with `--diagnostics=trust`, layer-wise or not.
"""

import numpy as np

from .drawing import LINES, headline, panels, style
from .figures import thinned
from .markup import number
from .sources import first_runs, noted

KIND = "trust"
#: Of a longer run the means of so many stretches are drawn: five noisy lines over each other tell nothing.
_STRETCHES = 45


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs); of each source the first run with such rows."""
    drawn, missing, networks = first_runs(figure, runs, _ratios)
    if not drawn:
        return None, [], [], missing
    rows, remarks = [], networks
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, len(drawn), (4.2 * len(drawn) + 1.6, 4.0), sharey=True)
        for panel, (source, (run, found)) in zip(axes[0], drawn.items()):
            for line, (path, (steps, ratios)) in zip(LINES, found.items()):
                at, mean, _, _ = thinned(steps, ratios, _STRETCHES)
                panel.plot(at, mean, label=path, **{**line, "markersize": 4})
                rows += [{"source": source.label, "variable": path, "update": step, "weight_over_gradient_norm": ratio}
                         for step, ratio in zip(at.tolist(), mean.tolist())]
            panel.set(yscale="log", xlabel="updates")
            panel.set_title(source.label, loc="left")
            shown = "" if len(found) <= len(LINES) else f"; the first {len(LINES)} of {len(found)} kernels are drawn"
            shown += "" if len(steps) <= _STRETCHES else f"; means of {_STRETCHES} stretches of its updates"
            remarks += [f"{source.label}: {run.path}{shown}.", *noted([run])]
        axes[0, 0].set_ylabel("||w|| / ||g||")
        axes[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        headline(picture, f"{figure.name}: {figure.shows}")
    return picture, rows, remarks, missing


def _ratios(run):
    """{path: (updates, ||w|| / ||g||)} of the variables that are kernels, in the model's order."""
    found = {}
    for row in run.diagnostic_rows(KIND):
        weights, gradients = (row.get(name) for name in ("weight_norms", "gradient_norms"))
        if not isinstance(weights, dict) or not isinstance(gradients, dict):
            continue
        for path, weight in weights.items():
            weight, gradient = number(weight), number(gradients.get(path))
            if path.endswith("kernel") and weight is not None and gradient:
                found.setdefault(path, []).append((row["step"], weight / gradient))
    return {path: tuple(np.array(values, float).T) for path, values in found.items()}
