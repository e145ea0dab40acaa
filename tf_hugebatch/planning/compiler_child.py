"""Compiles one program for a TPU slice, in a process of its own; compile.py says why, and starts it.

    python -m tf_hugebatch.planning.compiler_child PROGRAM.hlo TOPOLOGY CHIP_CONFIG ANSWER.json

PROGRAM is a serialised HloModuleProto without copies; every device of the slice is a replica. The answer is what the
compiler states, {"memory": {...}, "flops": ..., "bytes": ...}, or {"refused": its reason} where the memory is too small.
Anything else that goes wrong ends the process with a traceback.
"""

import json
import pathlib
import sys

#: How the compiler's refusal for want of memory begins.
TOO_LARGE = "RESOURCE_EXHAUSTED"


def compile_for(hlo, topology, chip_config):
    """The answer for a program (bytes)."""
    import jax
    import numpy as np
    from jax.experimental import topologies
    from jax.extend.mlir import hlo_to_stablehlo, ir
    from jax.interpreters.mlir import make_ir_context
    from jaxlib import _jax

    options = {"chip_config_name": chip_config} if chip_config else {}
    devices = topologies.get_topology_desc(topology, "tpu", **options).devices
    how = _jax.CompileOptions()
    how.num_replicas, how.num_partitions = len(devices), 1
    how.executable_build_options.num_replicas, how.executable_build_options.num_partitions = len(devices), 1
    how.device_assignment = _jax.DeviceAssignment.create(np.arange(len(devices)).reshape(-1, 1))
    try:
        with make_ir_context():
            module = ir.Module.parse(hlo_to_stablehlo(hlo))
            compiled = devices[0].client.compile(module, _jax.DeviceList(tuple(devices)), how)
    except jax.errors.JaxRuntimeError as error:
        if TOO_LARGE not in str(error):
            raise
        return {"refused": str(error)}
    memory = compiled.get_compiled_memory_stats()
    cost = compiled.cost_analysis()
    return {
        "memory": {
            "arguments": memory.argument_size_in_bytes, "outputs": memory.output_size_in_bytes,
            "aliased": memory.alias_size_in_bytes, "temporaries": memory.temp_size_in_bytes,
            "code": memory.generated_code_size_in_bytes,
        },
        "flops": cost["flops"], "bytes": cost["bytes accessed"],
    }


def main(program, topology, chip_config, answer):
    """Exit code 0 with the answer written."""
    found = compile_for(pathlib.Path(program).read_bytes(), topology, chip_config)
    pathlib.Path(answer).write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
