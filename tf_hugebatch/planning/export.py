"""From the settings of a run to what one replica of it computes: HLO of the real step's `accumulate` and `apply`.

The step is traced as the trainer traces it, on shapes instead of data, with `replica.PlannedReplicas` for a strategy, and
lowered on the CPU. No replica, no TPU and no data are needed, and memory does not depend on the batch.
"""

from __future__ import annotations

import hashlib
import math

import tensorflow as tf
from tensorflow.compiler.xla import xla_data_pb2
from tensorflow.compiler.xla.service import hlo_pb2

from ..keras_versions import native
from ..replica import PlannedReplicas
from ..training.assemble import make_step, model_and_optimizer
from .compile import Program


class Exporter:
    """Exports the step of one run for a number of replicas, in as many layouts as are asked for.

    Args:
        settings: `Settings`.
        replicas: of the slice.

    Raises:
        Refusal: the optimizer does not fit the model (an exclusion matches nothing).
    """

    def __init__(self, settings, replicas):
        self._settings, self._strategy = settings, PlannedReplicas(replicas)
        self.model, _, self.optimizer = model_and_optimizer(settings, self._strategy)

    def step(self, layout):
        """The trainer's step in this layout."""
        return make_step(self._settings, self._strategy, self.model, self.optimizer, layout)

    def accumulate(self, layout):
        """The Program of one micro-batch."""
        step, size = self.step(layout), layout.micro_batch_size

        # The compiler's interface takes tensors, no structures of them.
        def accumulate(image, label, position, weight, first):
            step.accumulate({"image": image, "label": label, "position": position, "weight": weight}, first)

        return self._program(step, accumulate, (
            tf.TensorSpec([size, *self._settings.image_shape]), tf.TensorSpec([size], tf.int32),
            tf.TensorSpec([size], tf.int64), tf.TensorSpec([size]), tf.TensorSpec([], tf.bool),
        ))

    def apply(self, layout):
        """The Program of the end of an update."""
        step = self.step(layout)
        return self._program(step, step.apply, ())

    def _program(self, step, function, shapes):
        compiled = tf.function(function, jit_compile=True)
        captured = {variable.ref() for variable in compiled.get_concrete_function(*shapes).graph.variables}
        module = hlo_pb2.HloModuleProto.FromString(
            compiled.experimental_get_compiler_ir(*shapes)(stage="hlo_serialized"))
        _erase_copies(module)
        sizes = [sum(map(_bytes, operands)) for operands in _all_reduced(module)]
        untouched = sum(variable.dtype.size * math.prod(variable.shape) for variable in self._variables(step)
                        if variable.ref() not in captured)
        return Program(_key(module), sum(sizes), len(sizes), untouched, module.SerializeToString())

    def _variables(self, step):
        kept = [*self.model.variables, *self.optimizer.variables, *step.accumulators, *step.probes.variables,
                step.first_bad_update]
        return [native(variable) for variable in kept]


def _erase_copies(module):
    """Replaces every copy by what it copies: TensorFlow puts them around results, and JAX's compiler has no word for them.

    Whether a result may share its argument's memory is stated beside them and stays.
    """
    for computation in module.computations:
        source = {one.id: one.operand_ids[0] for one in computation.instructions if one.opcode == "copy"}

        def of(number):
            while number in source:
                number = source[number]
            return number

        kept = [one for one in computation.instructions if one.id not in source]
        for one in kept:
            one.operand_ids[:] = [of(number) for number in one.operand_ids]
            one.control_predecessor_ids[:] = [of(number) for number in one.control_predecessor_ids]
        computation.root_id = of(computation.root_id)
        del computation.instructions[:]
        computation.instructions.extend(kept)


def _all_reduced(module):
    """Shapes of the operands of each all-reduce."""
    for computation in module.computations:
        shape_of = {one.id: one.shape for one in computation.instructions}
        for one in computation.instructions:
            if one.opcode == "all-reduce":
                yield [shape_of[number] for number in one.operand_ids]


def _bytes(shape):
    name = xla_data_pb2.PrimitiveType.Name(shape.element_type).lower()
    bits = 8 if name == "pred" else int("".join(filter(str.isdigit, name.split("e")[0])))
    return math.prod(shape.dimensions) * bits // 8


def _key(module):
    bare = hlo_pb2.HloModuleProto()
    bare.CopyFrom(module)
    for field in ("id", "name", "entry_computation_name", "stack_frame_index"):
        bare.ClearField(field)
    for computation in bare.computations:
        computation.name = ""
        for one in computation.instructions:
            one.name = ""
            one.ClearField("metadata")
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()
