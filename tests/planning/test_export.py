"""What is exported is the trainer's own step: same updates, nothing but its collectives differs."""

import types

import numpy as np
import pytest
import tensorflow as tf
from reference.small_runs import contract_examples, contract_model, largest_difference, run_updates

from tf_hugebatch import optimizers
from tf_hugebatch.data.order import Stream
from tf_hugebatch.data.padding import training_micro_batches
from tf_hugebatch.keras_versions import variable_path
from tf_hugebatch.layout import Layout
from tf_hugebatch.planning import export
from tf_hugebatch.training.step import METRICS

BATCH, CHANNELS = 48, 8
# Convolution, gamma and beta, hidden, logits of the contract model.
PARAMETERS = 3 * 3 * 1 * 8 + 2 * 8 + (4 * 4 * 8 * 16 + 16) + (16 * 10 + 10)


@pytest.fixture
def exporter(monkeypatch):
    """exporter(replicas, span, rate, diagnostics): of the contract model instead of a run's."""

    def make(replicas, span, rate=0.05, diagnostics=()):
        def built(settings, strategy):
            model, optimizer = contract_model(span), optimizers.get("lars", learning_rate=rate)
            optimizer.build(model.trainable_variables)
            return model, None, optimizer

        monkeypatch.setattr(export, "model_and_optimizer", built)
        settings = types.SimpleNamespace(seed=0, label_smoothing=0.1, deterministic=False, image_shape=(8, 8, 1),
                                         diagnostics=diagnostics, inject_noise=None)
        return export.Exporter(settings, replicas)

    return make


@pytest.mark.parametrize("micro, span", [pytest.param(12, 12, marks=pytest.mark.slow), (20, 10)])
def test_the_exported_step_makes_the_trainer_s_updates(exporter, micro, span):
    trained = run_updates(tf.distribute.OneDeviceStrategy("CPU:0"), batch=BATCH, micro=micro, span=span, updates=3)
    planned, layout = exporter(1, span), trained.layout
    step, examples, rows = planned.step(layout), contract_examples(), []
    accumulate = tf.function(step.accumulate, jit_compile=True)
    apply = tf.function(step.apply, jit_compile=True)
    micro_batches = iter(training_micro_batches(examples, Stream(0, len(examples.labels)), layout, 0, 3))
    for _ in range(3):
        for round_ in range(layout.rounds):
            accumulate(next(micro_batches), tf.constant(round_ == 0))
        rows.append(apply().numpy())
    weights = {variable_path(v): v.numpy() for v in planned.model.trainable_variables}
    moving = {variable_path(v): v.numpy() for v in planned.model.non_trainable_variables if "moving" in variable_path(v)}
    assert layout.rounds > 1 and largest_difference(trained.weights, weights) < 1e-6
    assert largest_difference(trained.moving, moving) < 1e-6
    np.testing.assert_allclose(rows, [[row[name] for name in METRICS] for row in trained.metrics], rtol=1e-5)


def test_an_update_reduces_gradients_and_statistics_once(exporter):
    planned, layout = exporter(4, 12), Layout(BATCH, 12, 4, 12)
    apply = planned.apply(layout)
    # Seven gradients, mean and variance of the batch norm, loss and accuracy; float32.
    assert apply.all_reduce_bytes == 4 * (PARAMETERS + 2 * CHANNELS + 2)
    assert apply.all_reduces == 9
    assert planned.accumulate(layout).all_reduces == 0


def test_groups_across_replicas_are_reduced_in_every_micro_batch(exporter):
    accumulate = exporter(4, 16).accumulate(Layout(BATCH, 8, 4, 16))
    # Two groups a round: sum and count, then squares about the mean, forward and again for the gradient.
    assert (accumulate.all_reduces, accumulate.all_reduce_bytes) == (4, 2 * 4 * 2 * (2 * CHANNELS + 1))


def test_batch_norm_is_left_to_the_compiler_as_sums(exporter):
    module = export.hlo_pb2.HloModuleProto.FromString(exporter(4, 6).accumulate(Layout(BATCH, 12, 4, 6)).hlo)
    opcodes = {one.opcode for computation in module.computations for one in computation.instructions}
    assert "reduce" in opcodes and not {one for one in opcodes if one.startswith("batch-norm")}


def test_a_key_says_what_is_computed_and_nothing_else(exporter):
    planned, layout = exporter(1, 12), Layout(BATCH, 12, 1, 12)
    accumulate, apply = planned.accumulate(layout), planned.apply(layout)
    assert planned.accumulate(layout).key == accumulate.key
    assert planned.accumulate(Layout(BATCH, 24, 1, 12)).key != accumulate.key
    # The end of an update is the same whatever the micro-batch.
    assert planned.apply(Layout(BATCH, 24, 1, 12)).key == apply.key != accumulate.key


def test_variables_that_a_program_does_not_touch_count_as_memory(exporter):
    planned, layout = exporter(1, 12), Layout(BATCH, 12, 1, 12)
    # Momentum and moving statistics, and some scalars.
    assert 0 <= planned.accumulate(layout).untouched - 4 * (PARAMETERS + 2 * CHANNELS) < 100
    assert planned.apply(layout).untouched < 100


def test_what_a_diagnostic_keeps_counts_as_memory(exporter):
    layout, measured = Layout(BATCH, 12, 1, 12), exporter(1, 12, diagnostics=("diffusion",))
    added = measured.accumulate(layout).untouched - exporter(1, 12).accumulate(layout).untouched
    assert added == 4 * PARAMETERS  # a copy of the weights
    assert measured.apply(layout).untouched < 100


def test_copies_are_erased_and_what_may_share_memory_is_still_stated(exporter):
    module = export.hlo_pb2.HloModuleProto.FromString(exporter(1, 12).apply(Layout(BATCH, 12, 1, 12)).hlo)
    instructions = [one for computation in module.computations for one in computation.instructions]
    known = {one.id for one in instructions}
    assert not [one for one in instructions if one.opcode == "copy"]
    assert all(number in known for one in instructions for number in one.operand_ids)
    assert {computation.root_id for computation in module.computations} <= known
    # Weights, momentum, moving statistics and more go out where they came in.
    assert len(module.input_output_alias.entries) >= 7 + 7 + 2


def test_a_copy_of_a_copy_gives_way_to_what_was_copied_even_as_the_result():
    module = export.hlo_pb2.HloModuleProto()
    computation = module.computations.add(root_id=4)
    for number, opcode, operands in ((1, "parameter", []), (2, "copy", [1]), (3, "negate", [2]), (4, "copy", [3])):
        computation.instructions.add(id=number, opcode=opcode, operand_ids=operands)
    export._erase_copies(module)
    assert [(one.id, list(one.operand_ids)) for one in computation.instructions] == [(1, []), (3, [1])]
    assert computation.root_id == 3


def test_what_waits_for_a_copy_waits_for_what_was_copied():
    module = export.hlo_pb2.HloModuleProto()
    computation = module.computations.add(root_id=3)
    for number, opcode, operands in ((1, "parameter", []), (2, "copy", [1])):
        computation.instructions.add(id=number, opcode=opcode, operand_ids=operands)
    computation.instructions.add(id=3, opcode="negate", operand_ids=[1], control_predecessor_ids=[2])
    export._erase_copies(module)
    assert [list(one.control_predecessor_ids) for one in computation.instructions] == [[], [1]]


@pytest.mark.parametrize("name, size", [("PRED", 6), ("F32", 24), ("BF16", 12), ("S64", 48), ("F8E4M3FN", 6), ("S4", 3)])
def test_bytes_of_every_kind_of_number(name, size):
    kind = export.xla_data_pb2.PrimitiveType.Value(name)
    assert export._bytes(export.xla_data_pb2.ShapeProto(element_type=kind, dimensions=[2, 3])) == size


def test_where_in_the_source_a_program_was_written_is_not_in_its_key():
    keys = set()
    for line in (1, 2):
        module = export.hlo_pb2.HloModuleProto()
        one = module.computations.add(root_id=1).instructions.add(id=1, opcode="parameter")
        one.metadata.source_line = line
        keys.add(export._key(module))
    assert len(keys) == 1
