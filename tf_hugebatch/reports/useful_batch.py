"""A picture of the paper's advice on hardware: how many devices a batch can keep busy."""

import dataclasses

from ..planning.advice import batch_sizes, uses
from ..planning.slices import find
from .drawing import GREY, LINES, Drawing, headline, panels, style

_PODS = ("v3-512", "v3-2048", "v5p-12288")


def draw(image_size):
    """A Drawing: devices against batch size, on logarithmic axes, for TPU cores and for GPUs with images of two sizes."""
    rows = uses(batch_sizes(), image_size)
    with style() as matplotlib:
        figure, axes = panels(matplotlib, 1, 1, (7.2, 4.4))
        axis = axes[0, 0]
        batches = [row.batch_size for row in rows]
        for line, (name, label) in zip(LINES, (
            ("large_gpus", f"GPUs, images of {image_size} x {image_size}"),
            ("gpus", "GPUs, images of 224 x 224: 32 keep one busy"),
            ("cores", "TPU cores: 128 examples each"),
        )):
            axis.plot(batches, [getattr(row, name) for row in rows], label=label, **line)
        for name in _PODS:
            axis.axhline(find(name).replicas, color=GREY, linewidth=0.8, zorder=0)
            axis.annotate(name, (batches[0], find(name).replicas), (0, 3), textcoords="offset points", fontsize=8, color=GREY)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log", base=2)
        ticks = [batch for batch in batches if batch >= 2 * batches[0]]
        axis.set_xticks([batches[0], *ticks], [f"{batch:,}" for batch in [batches[0], *ticks]], rotation=30, ha="right")
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.minorticks_off()
        axis.set_xlabel("global batch size")
        axis.set_ylabel("devices that it keeps busy")
        axis.legend(loc="lower right")
        headline(figure, "What a batch can make use of (ResNet-50 on ImageNet)")
    caption = ("Devices that a batch keeps busy, by the paper's numbers (sections 4.1 and 6.6): 128 examples a TPU core, 32 "
               "images of 224 x 224 a GPU, and fewer, in proportion to their pixels, of larger ones. Arithmetic, not measured.")
    return Drawing(figure, [dataclasses.asdict(row) for row in rows], caption, [])
