"""The gradient noise scale over a run, a line a batch (McCandlish et al. 2018, arXiv 1812.06162, section 4).

tr(Sigma) and |G|^2 are unbiased but noisy in every update, so each is averaged before one is divided by the other. Where |G|^2
averages to 0 or less the noise scale is above what these updates can tell: infinite, and counted so, since to leave such
stretches out is to keep those whose |G|^2 came out large by luck. Drawn from runs with `--diagnostics=noise_scale`.
"""

import numpy as np

from .drawing import LINES, headline, panels, style
from .figures import column
from .sources import first_runs, noted

#: Stretches that a run is cut into; each is one quotient of means.
STRETCHES = 30


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs); of each source the first run with such rows."""
    drawn, missing, networks = first_runs(figure, runs, quotients)
    if not drawn:
        return None, [], [], missing
    rows, remarks = [], networks
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, 1, (7.0, 4.2))
        panel = axes[0, 0]
        for line, (source, (run, (epochs, scales))) in zip(LINES, drawn.items()):
            shown = or_gaps(scales)
            panel.plot(epochs, shown, label=source.label, **line)
            rows += [{"batch": source.label, "epoch": epoch, "noise_scale": scale}
                     for epoch, scale in zip(epochs.tolist(), scales.tolist())]
            count = np.isnan(shown).sum()
            gaps = f"; {count} of {len(shown)} stretches are gaps, too noisy to tell" if count else ""
            remarks += [f"{source.label}: {run.path}; median {np.median(scales):,.3g} examples, in the first stretch "
                        f"{scales[0]:,.3g}{gaps}.", *noted([run])]
        panel.set(yscale="log", xlabel="epochs", ylabel="noise scale tr(Σ) / |G|²  (examples)")
        panel.legend(loc="best")
        headline(picture, f"{figure.name}: {figure.shows}")
    return picture, rows, remarks, missing


def quotients(run):
    """(epochs, noise scales): of each of STRETCHES parts of a run mean tr(Sigma), 0 at least, over mean |G|^2, infinite where
    that is not positive; None where no row holds them."""
    rows = run.train_rows
    epochs, power, variance = (column(rows, name) for name in ("epoch", "gradient_power", "gradient_variance"))
    held = np.flatnonzero(np.isfinite(power) & np.isfinite(variance))
    stretches = [part for part in np.array_split(held, min(STRETCHES, len(held)) or 1) if len(part)]
    found = [(epochs[part].mean(), max(variance[part].mean(), 0.0) / power[part].mean() if power[part].mean() > 0 else np.inf)
             for part in stretches]
    return tuple(np.array(values) for values in zip(*found)) if found else None


def or_gaps(scales):
    """Scales that a logarithmic axis can show; nan for the others."""
    return np.where(np.isfinite(scales) & (scales > 0), scales, np.nan)
