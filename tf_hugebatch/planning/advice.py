"""The paper's advice on hardware (sections 4.1 and 6.6) as numbers: how much of it a batch can use.

    TPU cores that a batch can use = B / 128                          (the span of its ghost batch norm, one core's share)
    largest useful batch of a slice = 128 x replicas
    GPUs that a batch keeps busy = B / n,   n = ceil(32 x 224 x 224 / (width x height))                     (ResNet-50)

n is ours: the paper states 32 at ImageNet's size and 1 at 1920 x 1080, and the arithmetic of a convolution grows with the
pixels. Arithmetic only; nothing here was run on these machines.
"""

from __future__ import annotations

import dataclasses
import math

from tf_hugebatch import published
from tf_hugebatch.planning.slices import SLICES, Slice


def examples_for_a_gpu(width: int, height: int) -> int:
    """Images of that size that keep a GPU busy with ResNet-50: n, at least 1."""
    examples, *size = published.GPU_IS_BUSY_WITH
    return math.ceil(examples * math.prod(size) / (width * height))


def largest_useful_batch(target: Slice) -> int:
    """Of a slice: 128 examples a replica."""
    return published.BATCH_NORM_EXAMPLES * target.replicas


@dataclasses.dataclass(frozen=True)
class Use:
    """What a batch can use. cores: TPU cores at 128 examples each; slice: the largest v3 that those fill, '' for none; gpus:
    GPUs kept busy at ImageNet's size, large_gpus: at `image_size`."""

    batch_size: int
    cores: int
    slice: str
    gpus: int
    large_gpus: int


def uses(batch_sizes, image_size: int) -> list[Use]:
    """A Use for each batch size; `image_size`: side of larger images, pixels."""
    width, height = published.GPU_IS_BUSY_WITH[1:]
    v3 = [one for one in SLICES.values() if one.generation.name == "v3"]
    found = []
    for size in batch_sizes:
        filled = [one for one in v3 if largest_useful_batch(one) <= size]
        found.append(Use(size, size // published.BATCH_NORM_EXAMPLES, filled[-1].name if filled else "",
                         size // examples_for_a_gpu(width, height), size // examples_for_a_gpu(image_size, image_size)))
    return found


def batch_sizes() -> tuple[int, ...]:
    """The paper's batches on ImageNet, from the baseline's to the whole training set."""
    baseline, used = published.BASELINES["imagenet2012"], published.REGIME_BATCHES["imagenet2012"]
    return tuple(sorted({baseline.batch, *baseline.large, *used.values(), published.TABLE_4_BATCH,
                         published.LARGEST_USEFUL_BATCH, baseline.full}))


def text(image_size: int):
    """The table, line by line."""
    yield f"{'batch':>10} {'TPU cores':>10} {'busy v3':>9} {'GPUs, 224 px':>13} {f'GPUs, {image_size} px':>14}"
    for use in uses(batch_sizes(), image_size):
        yield (f"{use.batch_size:>10,} {use.cores:>10,} {use.slice or '-':>9} {use.gpus:>13,} {use.large_gpus:>14,}")
    yield "busy v3: the largest v3 slice that the batch keeps busy"
    yield ""
    yield f"{'slice':>14} {'replicas':>9} {'largest useful batch':>21}"
    for one in SLICES.values():
        yield f"{one.name:>14} {one.replicas:>9,} {largest_useful_batch(one):>21,}"
