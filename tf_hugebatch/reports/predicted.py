"""A prediction of B_L from the gradient noise scale, with the rule fixed on one network and tested on others.

McCandlish et al. 2018 (arXiv 1812.06162): batches far below the noise scale lose nothing, far above it they gain nothing. The
rule, written down before any second network was measured:

    B_L = c S        S: the median over the stretches of a baseline run of mean tr(Sigma) / mean |G|^2

with c, one number for all networks, from the first network, where both are known. S comes from runs of momentum SGD at B0 with
`--diagnostics=noise_scale`, of FEWEST_SEEDS at least, since one does not say how far seeds differ; a stretch without a signal
counts as infinite in the median. B_L is by definition 2.1 (regimes.py), as an interval: the smallest batch that is large lies
above the last that held and at most at the first that failed. Prediction and c are intervals too, by interval arithmetic:
widest quotients and products of these ends and of the lowest and highest S over seeds.
"""

import dataclasses

import numpy as np

from .. import regimes as table_2
from . import commands, regimes
from .baselines import Family
from .drawing import GREY, LINES, headline, panels, style
from .noise_scales import quotients
from .sources import MOMENTUM_SGD, Figure, Source, ended, groups_of, noted
from .stats import group_runs


#: Seeds whose S makes an interval, and as many as a command trains.
FEWEST_SEEDS = 3


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is known of one network. scale: median of S over seeds; scales: its lowest and highest; limits: (holds at, fails
    at), either None where no batch was found that does; seeds: how many have told S."""

    scale: float
    scales: tuple[float, float]
    limits: tuple[int | None, int | None]
    seeds: int = FEWEST_SEEDS

    @property
    def known(self):
        return None not in self.limits

    @property
    def told(self):
        """Whether S is an interval: of seeds enough, neither 0 nor infinite."""
        return self.seeds >= FEWEST_SEEDS and 0 < self.scales[0] and self.scales[1] < np.inf


def factor(measured):
    """(low, high) of c on a network whose S and B_L are known; None on another."""
    if not (measured.known and measured.told):
        return None
    return measured.limits[0] / measured.scales[1], measured.limits[1] / measured.scales[0]


def predicted(measured, factors):
    """(low, high) of B_L on a network, from (low, high) of c."""
    return factors[0] * measured.scales[0], factors[1] * measured.scales[1]


def verdict(measured, found):
    """Whether B_L lies where it was predicted: 'agrees', 'differs', or 'not measured'.

    B_L is above limits[0] and at most limits[1]; where these ends overlap the prediction, nothing speaks against it.
    """
    if not measured.known:
        return "not measured"
    return "agrees" if measured.limits[0] < found[1] and found[0] <= measured.limits[1] else "differs"


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs); the first source is the network that fixes c."""
    boundaries = _boundaries(figure, runs, sweeps)
    networks, remarks = {}, []
    for source in figure.sources:
        # Read before they are grouped, as in sources.first_runs.
        for group in groups_of(one for one in ended(runs, source.wanted) if quotients(one.run))[:1]:
            held = [outcome.run for outcome in group.outcomes]
            networks[source] = _measured([quotients(run)[1] for run in held], boundaries.get(_family(group), (None, None)))
            remarks += [f"{source.label}: noise scale from {', '.join(run.path for run in held)}.", *noted(held)]
    missing = [source for source in figure.sources if source not in networks or networks[source].seeds < FEWEST_SEEDS]
    if not networks:
        return None, [], [], missing
    first = networks.get(figure.sources[0])
    factors = first and factor(first)
    rows = [_row(source, measured, factors, source is figure.sources[0]) for source, measured in networks.items()]
    remarks += [_factor_in_words(figure.sources[0].label, factors), *map(_in_words, rows)]
    if not any(measured.told for measured in networks.values()):
        return None, rows, remarks, missing
    with style() as matplotlib:
        picture, axes = panels(matplotlib, 1, 1, (6.4, 4.4))
        panel = axes[0, 0]
        for line, (source, measured) in zip(LINES, networks.items()):
            if measured.known and measured.told:
                panel.plot([measured.scale] * 2, measured.limits, label=f"{source.label}: B_L between", **line)
            elif measured.told:
                panel.axvline(measured.scale, color=line["color"], linewidth=0.9, label=f"{source.label}: B_L not measured")
            if measured.told and measured.scales[0] < measured.scales[1]:
                panel.axvspan(*measured.scales, color=line["color"], alpha=0.12, linewidth=0,
                              label=f"{source.label}: S, lowest to highest seed")
        for row in rows:
            if row["predicted_low"] is not None:
                panel.vlines(row["noise_scale"], row["predicted_low"], row["predicted_high"], color=GREY, linewidth=5,
                             alpha=0.6, label=f"{row['network']}: predicted")
        if factors:
            at = np.array(sorted(measured.scale for measured in networks.values() if measured.told))
            at = np.geomspace(at[0] / 2, at[-1] * 2, 20)
            panel.fill_between(at, factors[0] * at, factors[1] * at, color=GREY, alpha=0.25, linewidth=0,
                               label=f"c S, c {factors[0]:.3g} to {factors[1]:.3g}")
        panel.set(xscale="log", yscale="log", xlabel="noise scale S  (examples)", ylabel="B_L  (examples)")
        panel.legend(loc="best", fontsize=7)
        headline(picture, f"{figure.name}: {figure.shows}")
    return picture, rows, remarks, missing


def figure(name, *networks):
    """The catalogue's row. networks: (row of Table 2, network); the first one fixes the rule's factor."""
    sources = tuple(
        Source(f"{row.dataset}, {model}",
               {"dataset": row.dataset, "model": model, **MOMENTUM_SGD,
                **{name: of.value for name, of in table_2.of(row.dataset)["baseline"].items()}},
               commands.train(["--regime=baseline", f"--model={model}", "--diagnostics=noise_scale",
                               f"--micro_batch_size={row.batch // 2}"], row.dataset,
                              f"{commands.FOLDER}/figures/noise_scale/{row.dataset}_{model}", range(1, FEWEST_SEEDS + 1)),
               model, FEWEST_SEEDS * row.epochs * row.full, seeds=FEWEST_SEEDS)
        for row, model in networks)
    return Figure(name, "B_L from the gradient noise scale", name, None, (), (), sources, (),
                  "Not in the paper. The rule was fixed before a second network was measured.")


def _boundaries(figure, runs, sweeps):
    """{Family that holds nothing out: (holds at, fails at)} by definition 2.1, of those whose baseline is not in doubt."""
    any_batch = [{name: source.wanted[name] for name in ("dataset", "model")} for source in figure.sources]
    return {found.family: (found.large.holds_at, found.large.fails_at)
            for found in regimes.find(group_runs(ended(runs, *any_batch))[0], sweeps)
            if found.baseline is not None and not found.doubt and not found.family.validation_examples}


def _family(group):
    """The family whose B_L stands beside a group's S: the same network on the same images, all of them."""
    return dataclasses.replace(Family.of(group), validation_examples=0)


def _measured(scales, limits):
    """scales: of each seed the quotients of its stretches."""
    medians = [float(np.median(of_run)) for of_run in scales]
    return Measured(float(np.median(medians)), (min(medians), max(medians)), limits, len(medians))


def _row(source, measured, factors, fixes):
    found = predicted(measured, factors) if factors and measured.told and not fixes else (None, None)
    low, high = measured.scales
    return {"network": source.label, "seeds": measured.seeds, "noise_scale": measured.scale, "noise_scale_low": low,
            "noise_scale_high": high, "holds_at": measured.limits[0], "fails_at": measured.limits[1],
            "predicted_low": found[0], "predicted_high": found[1],
            "verdict": "fixes c" if fixes and factors else "no prediction" if None in found else verdict(measured, found)}


def _factor_in_words(label, factors):
    if factors is None:
        return (f"{label} does not say c yet: that needs its noise scale, of {FEWEST_SEEDS} seeds, and batches at which linear "
                f"scaling holds and fails.")
    return f"The rule is B_L = c S with c from {factors[0]:.3g} to {factors[1]:.3g}, as {label} has it."


def _in_words(row):
    words = (f"{row['network']}: S {row['noise_scale']:,.4g} ({row['noise_scale_low']:,.4g} to "
             f"{row['noise_scale_high']:,.4g}, n = {row['seeds']})")
    if row["predicted_low"] is not None:
        words += f", predicted B_L {row['predicted_low']:,.4g} to {row['predicted_high']:,.4g}"
    if row["holds_at"] is not None and row["fails_at"] is not None:
        words += f", found above {row['holds_at']:,} and at most {row['fails_at']:,}"
    return f"{words}: {row['verdict']}."
