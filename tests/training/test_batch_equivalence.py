"""Promise 1: an update depends on the global batch, the batch-norm span and the seed, never on the layout."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from reference.small_runs import contract_examples, largest_difference, run_updates

from tf_hugebatch import registry
from tf_hugebatch.data.splits import Examples
from tf_hugebatch.keras_versions import native, variable_path
from tf_hugebatch.models.lenet import lenet, lenet5

BATCH, SPAN = 64, 32
# (replicas, micro-batch): with a span of 32 the groups lie inside a replica in the first and last layout, across
# replicas in the others; 40 does not divide 64, so a fifth of the last layout is padding.
LAYOUTS = {"4 x 16": (4, 16), "2 x 2 x 16": (2, 16), "2 x 40 padded": (2, 40)}
# An adaptive rule divides by the size of a gradient, so rounding in a tiny gradient moves a weight by up to the rate:
# ordinary rates keep that below the tolerance, which is the design's; Shampoo's roots amplify most.
RATES = {"sgd": 0.1, "adagrad": 0.01, "rmsprop": 1e-3, "adam": 1e-3, "lars": 1.0, "lamb": 0.01, "muon": 0.01,
         "shampoo": 0.0015, "kfac": 0.003}
TOLERANCE = 1e-6


def strategy_for(replicas, mirrored):
    return tf.distribute.OneDeviceStrategy("CPU:0") if replicas == 1 else mirrored(replicas)


def settings_of(row):
    rate = 0.01 if "layerwise" in row else RATES[row]
    arguments = {"learning_rate": rate, "clip_global_norm": 1.0}
    if "bounded" in row:
        arguments["trust_bounds"] = registry.OPTIMIZERS[row].settings["trust_bounds"]
    return arguments


def row_and_layout(row, layout):
    # Every rule with replicas and micro-batches at once, one with the other layouts, K-FAC, whose factors padding could enter,
    # with padding, and one of the layer-wise forms, which share the trust ratio of LARS; the rest takes minutes.
    together = "layerwise" not in row or row == "adam_layerwise_bounded"
    plain = together and layout == "2 x 2 x 16" or row == "lars" or (row, layout) == ("kfac", "2 x 40 padded")
    return pytest.param(row, layout, id=f"{row}, {layout}", marks=() if plain else pytest.mark.slow)


@functools.cache
def whole_batch(row):
    """The run of that optimizer that holds the batch at once."""
    return run_updates(tf.distribute.OneDeviceStrategy("CPU:0"), batch=BATCH, micro=BATCH, span=SPAN, optimizer=row,
                       optimizer_arguments=settings_of(row))


@pytest.mark.parametrize("row, layout", [row_and_layout(row, layout) for row in registry.OPTIMIZERS for layout in LAYOUTS])
def test_layouts_agree_in_weights_moving_statistics_and_losses(row, layout, mirrored):
    (replicas, micro), one = LAYOUTS[layout], whole_batch(row)
    assert one.metrics[-1]["update_norm"] > 1e-4
    other = run_updates(mirrored(replicas), batch=BATCH, micro=micro, span=SPAN, optimizer=row,
                        optimizer_arguments=settings_of(row))
    assert largest_difference(one.weights, other.weights) <= TOLERANCE
    assert largest_difference(one.moving, other.moving) <= TOLERANCE
    for a, b in zip(one.metrics, other.metrics):
        assert b == pytest.approx(a, rel=2e-6, abs=2e-6)


@pytest.mark.parametrize("builder", [lenet, lenet5])
def test_lenet_on_four_replicas_is_lenet_on_one(builder, mirrored):
    """The paper's network, dropout included, and LeNet-5: 1 x 32 = 4 x 8 = 2 x 3 x 6 padded."""
    generator = np.random.default_rng(0)
    examples = Examples(generator.integers(0, 256, (64, 28, 28, 1), dtype=np.uint8), np.arange(64, dtype=np.int32) % 10)
    common = {"batch": 32, "span": None, "model": builder, "examples": examples, "updates": 3,
              "optimizer_arguments": {"learning_rate": 1.0, "weight_decay": 1e-4, "clip_global_norm": 1.0}}
    one = run_updates(strategy_for(1, mirrored), micro=32, **common)
    assert one.metrics[-1]["update_norm"] > 1e-4
    for replicas, micro in ((4, 8), (2, 6)):
        other = run_updates(mirrored(replicas), micro=micro, **common)
        assert largest_difference(one.weights, other.weights) <= TOLERANCE
        for a, b in zip(one.metrics, other.metrics):
            assert b == pytest.approx(a, rel=5e-6, abs=2e-6)


def test_another_seed_or_another_span_is_another_update(mirrored):
    common = {"batch": BATCH, "micro": 64, "optimizer_arguments": {"learning_rate": 1.0}}
    one = run_updates(strategy_for(1, mirrored), span=SPAN, **common)
    for change in ({"span": SPAN, "seed": 1}, {"span": BATCH}, {"span": 16}):
        other = run_updates(strategy_for(1, mirrored), **common, **change)
        assert largest_difference(one.weights, other.weights) > 100 * TOLERANCE


def test_a_batch_that_nothing_divides_with_groups_of_two_sizes(mirrored):
    """61 examples, span 16: groups of 15 and 16; 1 x 61, 3 x 21 (across nothing) and 2 x 2 x 11 (across replicas)."""
    common = {"batch": 61, "span": 16, "optimizer_arguments": {"learning_rate": 1.0}}
    one = run_updates(strategy_for(1, mirrored), micro=61, **common)
    for replicas, micro, across in ((3, 21, False), (2, 11, True)):
        other = run_updates(strategy_for(replicas, mirrored), micro=micro, **common)
        assert other.layout.across_replicas is across and other.layout.padding > 0
        assert largest_difference(one.weights, other.weights) <= TOLERANCE
        assert largest_difference(one.moving, other.moving) <= TOLERANCE


def test_moving_statistics_are_the_same_on_every_replica(mirrored):
    run = run_updates(mirrored(4), batch=61, micro=8, span=16)
    for variable in run.model.non_trainable_variables:
        copies = [copy.numpy() for copy in getattr(native(variable), "values", [])]
        if "moving" in variable_path(variable):
            assert len(copies) == 4
            assert all((copy == copies[0]).all() for copy in copies)


class Unreadable:
    """A split of whose images one can't be decoded: grey, with weight 0, as data/images.py makes it."""

    def __init__(self, examples, bad):
        self._examples, self._bad = examples, bad
        self.labels, self.image_shape = examples.labels, examples.image_shape

    def __len__(self):
        return len(self.labels)

    def micro_batches(self, cells, size, training):
        bad = cells.map(lambda cell: cell["id"] == self._bad)

        def spoilt(batch, bad):
            grey = tf.where(bad[:, None, None, None], 0.0, batch["image"])
            return {**batch, "image": grey, "weight": tf.where(bad, 0.0, batch["weight"])}

        return tf.data.Dataset.zip(self._examples.micro_batches(cells, size, training), bad).map(spoilt)


def test_an_image_that_cannot_be_read_does_not_make_the_layout_matter(mirrored):
    """Span 8: a slice of a micro-batch, the whole of it, uneven beside others, and across replicas."""
    examples = contract_examples(48)
    common = {"batch": 24, "span": 8, "optimizer_arguments": {"learning_rate": 1.0}, "updates": 4}
    one = run_updates(strategy_for(1, mirrored), micro=24, examples=Unreadable(examples, 5), **common)
    whole = run_updates(strategy_for(1, mirrored), micro=24, examples=examples, **common)
    assert largest_difference(one.weights, whole.weights) > 100 * TOLERANCE
    for replicas, micro in ((1, 8), (1, 16), (1, 12), (2, 4), (2, 8)):
        other = run_updates(strategy_for(replicas, mirrored), micro=micro, examples=Unreadable(examples, 5), **common)
        assert largest_difference(one.weights, other.weights) <= TOLERANCE, (replicas, micro)
        assert largest_difference(one.moving, other.moving) <= TOLERANCE, (replicas, micro)


def test_slices_of_padding_enter_no_moving_statistics(mirrored):
    """24 = 16 + 8: the second micro-batch has a whole group of padding, which the fast path normalises too."""
    common = {"batch": 24, "span": 8, "optimizer_arguments": {"learning_rate": 1.0}}
    one, padded = (run_updates(strategy_for(1, mirrored), micro=micro, **common) for micro in (24, 16))
    assert padded.layout.padding == 8
    assert largest_difference(one.moving, padded.moving) <= TOLERANCE
