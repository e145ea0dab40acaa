"""Figures of what `--diagnostics` measures, one run a line or a panel: of three regimes, or of whatever runs there are.

A figure is of the data set's baseline, large and full regime; where none of these has run, of other runs that hold such rows,
up to MOST settings, so that whoever turned a diagnostic on sees it drawn.
"""

import dataclasses

from . import commands, layer_ratios, noise_scales, surveys_drawn
from .drawing import batch_in_words
from .sources import APART, FULL, MOMENTUM_SGD, Figure, Source, ended, groups_of

#: {name: (diagnostic, what is shown, flags beside it, how it is drawn)}
FIGURES = {
    "layer_ratios": ("trust", "norm of weights over norm of gradient, by layer", "", layer_ratios.draw),
    "noise_scale": ("noise_scale", "gradient noise scale", " --micro_batch_size=128", noise_scales.draw),
    "signal_and_noise": ("snr", "of summed gradients, against batch size", " --eval_every_epochs=10", surveys_drawn.draw_snr),
    "sharpness": ("sharpness", "largest eigenvalue of the Hessian", "", surveys_drawn.draw_sharpness)}
MOST = 4


def rows(of, model, large):
    """The catalogue's rows, on the data set of Table 2's row `of`. large: batch of its regime `large`."""
    regimes = {"baseline": (of.batch, MOMENTUM_SGD), "large": (large, {"optimizer": "lars"}),
               "full": (FULL, {"optimizer": "lamb"})}
    for name, (diagnostic, shows, more, _) in FIGURES.items():
        sources = tuple(
            Source(f"{own['optimizer']}, {batch_in_words(batch, {of.full})}",
                   {"dataset": of.dataset, "batch_size": batch, "epochs": of.epochs, **own},
                   f"python -m tf_hugebatch.{commands.program_of(of.dataset)} --regime={regime} --model={model} "
                   f"--diagnostics={diagnostic}{more} --run_dir={commands.FOLDER}/figures/{name}/{regime} --data_dir=DIR",
                   model, of.epochs * of.full)
            for regime, (batch, own) in regimes.items())
        yield Figure(name, f"{shows}, {of.dataset}", name, of.dataset, tuple(batch for batch, _ in regimes.values()),
                     (of.epochs,), sources)


def draw(figure, runs, sweeps):
    """(matplotlib Figure or None, CSV rows, remarks, sources without runs)."""
    diagnostic, shows, _, draw_one = FIGURES[figure.number]
    picture, of_rows, remarks, missing = draw_one(figure, runs, sweeps)
    if picture is not None:
        return picture, of_rows, remarks, missing
    others = dataclasses.replace(figure, shows=shows, sources=tuple(_of_other_runs(runs, diagnostic)))
    picture, of_rows, remarks, _ = draw_one(others, runs, sweeps)
    if picture is not None:
        remarks = [*remarks, "None of the runs that this figure is of has ended: other runs that hold such numbers are drawn."]
    return picture, of_rows, remarks, missing


def _of_other_runs(runs, diagnostic):
    """A source for each of the first MOST settings that differ in what they train on, by or with."""
    found = {}
    for group in groups_of(one for one in ended(runs, dict.fromkeys(APART)) if diagnostic in one.values["diagnostics"]):
        values = group.values
        wanted = {name: values[name] for name in ("dataset", "model", "optimizer", "batch_size")}
        apart = {name: (values[name],) for name in APART if values[name] is not None}
        label = f"{values['dataset']} {values['model']}, {values['optimizer']}, {batch_in_words(values['batch_size'])}"
        label += "".join(f", {name} {commands.as_typed(of)}" for name, (of,) in apart.items())
        found.setdefault(label, Source(label, {**wanted, **apart}, "", values["model"], 0))
    return list(found.values())[:MOST]
