"""How long one update of ResNet-50's 161 variables (25.6 million parameters) takes: our optimizers beside their namesakes.

    python scripts/bench_optimizers.py                  both compilations, eleven rounds: five minutes on two cores
    python scripts/bench_optimizers.py --rounds=5 --only=sgd,lars     rows whose name holds one of these

Every row is an optimizer with variables of its own, called as Keras calls it (`apply`) in one tf.function, without XLA and
with it (jit_compile). Peers are built here, to a fixed specification. Rows are timed in turn, round after round, so that a
change of the machine's speed meets all of them; a ratio is the median of the ratios within a round, with its quartiles.
Beside the time stands what the processors spent (all cores together), which other programs on the machine disturb less.

The floor of a row is the bytes that its rule must move at least, in as few passes as its data allow, over the bandwidth at
which this machine copied memory in the same rounds (all cores, bytes read + bytes written). Per parameter, 4 bytes each:

    SGD with momentum   read g, v, w; write v, w                                                        5
    LARS                read g, w for the norms; then as SGD                                            7
    Adam                read g, m, s, w; write m, s, w                                                  7
    LAMB                read g, m, s, w, write m, s for the norms; read m, s, w, write w               10
    Muon                as SGD; its matrix products come on top, and are most of its time                5
"""

import argparse
import concurrent.futures
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
# Goals: (row, compared with, compilation, at most).
GOALS = (
    ("LARS", "Keras SGD momentum", "graph", 1.7), ("LARS", "Keras SGD momentum", "XLA", 1.6),
    ("LAMB", "Keras Lamb", "graph", 0.75), ("LAMB", "Keras Lamb", "XLA", 0.75),
)
FLOOR_GOAL = 1.5


def optimizers():
    """{row: (passes of the floor, a function that makes the optimizer)}."""
    import keras

    from tf_hugebatch import optimizers as ours

    return {
        "Keras SGD momentum": (5, lambda: keras.optimizers.SGD(0.01, momentum=0.9)),
        "SGD momentum": (5, lambda: ours.SGD(0.01, momentum=0.9)),
        "LARS": (7, lambda: ours.LARS.preset("mlperf", 8.0, momentum=0.9, weight_decay=1e-4)),
        "Keras Adam": (7, lambda: keras.optimizers.Adam(1e-3)),
        "Adam": (7, lambda: ours.Adam(1e-3)),
        "Keras Lamb": (10, lambda: keras.optimizers.Lamb(1e-3, weight_decay=0.01)),
        "LAMB": (10, lambda: ours.LAMB(1e-3, weight_decay=0.01)),
        "Muon": (5, lambda: ours.Muon(0.02)),
    }


def shapes_of_resnet50():
    """[(path, shape)] of the trainable variables."""
    import keras

    from tf_hugebatch import registry

    row = registry.find("model", "resnet50")
    model = row.resolve()(image_shape=(224, 224, 3), normalization=keras.layers.BatchNormalization, **row.arguments)
    return [(variable.path, tuple(variable.shape)) for variable in model.trainable_variables]


def arrays(shapes, seed):
    """Random float32 arrays of those shapes."""
    import numpy as np

    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape, dtype=np.float32) * np.float32(0.02) for _, shape in shapes]


def keras_update(make, shapes, gradients, compiled):
    """A function that makes one update, on variables of its own."""
    import keras
    import tensorflow as tf

    variables = []
    for (path, _), value in zip(shapes, arrays(shapes, 0)):
        scope, name = path.rsplit("/", 1)
        with keras.name_scope(scope):
            variables.append(keras.Variable(value, name=name))
    optimizer = make()
    optimizer.build(variables)
    update = tf.function(lambda *given: optimizer.apply(list(given), variables), jit_compile=compiled)
    tensors = [tf.constant(gradient) for gradient in gradients]
    return lambda: update(*tensors)


def optax_rows():
    """{row: (passes of the floor, transformation)}, empty without optax."""
    try:
        import optax
    except ImportError:
        return {}
    return {
        "optax sgd momentum": (5, optax.sgd(0.01, momentum=0.9)),
        "optax lars": (7, optax.lars(8.0, weight_decay=1e-4)),
        "optax adam": (7, optax.adam(1e-3)),
        "optax lamb": (10, optax.lamb(1e-3, weight_decay=0.01)),
    }


def optax_update(transformation, shapes, gradients):
    """A function that makes one update, jitted, weights and state donated."""
    import jax
    import optax

    def update(weights, state, gradients):
        steps, state = transformation.update(gradients, state, weights)
        return optax.apply_updates(weights, steps), state

    jitted = jax.jit(update, donate_argnums=(0, 1))
    weights, gradients = [[jax.numpy.asarray(a) for a in values] for values in (arrays(shapes, 0), gradients)]
    held = [weights, transformation.init(weights)]

    def run():
        held[:] = jitted(*held, gradients)
        jax.block_until_ready(held)

    return run


def copier(parameters):
    """A function that copies 4 x `parameters` bytes on all cores."""
    import numpy as np

    cores = len(os.sched_getaffinity(0))
    pairs = [(np.zeros(parameters // cores, np.float32), np.ones(parameters // cores, np.float32)) for _ in range(cores)]
    pool = concurrent.futures.ThreadPoolExecutor(cores)
    return lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs))


def timed_in_turn(functions, rounds):
    """{name: [(seconds, processor seconds), one a round]} after two calls that are not timed (tracing, first touch)."""
    for function in functions.values():
        function()
        function()
    seconds = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            started, spent = time.perf_counter(), time.process_time()
            function()
            seconds[name].append((time.perf_counter() - started, time.process_time() - spent))
    return seconds


def spread(values):
    """'median (quartile to quartile)'."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def report(measured, passes, parameters, compilation):
    """Prints a line for every row, and one for every goal of this compilation."""
    seconds = {name: [wall for wall, _ in rounds] for name, rounds in measured.items()}
    processor = {name: [spent for _, spent in rounds] for name, rounds in measured.items()}
    copy = seconds["copy"]
    print(f"\n{compilation}: copy of {4 * parameters / 2**20:.0f} MiB in {1e3 * statistics.median(copy):.1f} ms, "
          f"{8e-9 * parameters / statistics.median(copy):.1f} GB/s read and written; {len(copy)} rounds")
    print(f"{'':<20} {'ms':>26}   {'processor ms':>26}   {'times its floor, goal ' + str(FLOOR_GOAL):>26}")
    for name, count in passes.items():
        # A copy is two passes, so a floor of n passes takes n / 2 copies.
        floors = [taken / (count / 2 * base) for taken, base in zip(seconds[name], copy)]
        print(f"{name:<20} {spread([1e3 * taken for taken in seconds[name]]):>26}   "
              f"{spread([1e3 * spent for spent in processor[name]]):>26}   {spread(floors):>26}")
    for row, peer, where, goal in GOALS:
        if where == compilation and row in seconds and peer in seconds:
            ratios, spent = ([taken / base for taken, base in zip(table[row], table[peer])] for table in (seconds, processor))
            verdict = "met" if statistics.median(ratios) <= goal else "missed"
            print(f"{row} / {peer}: {spread(ratios)}, goal {goal}: {verdict}; of processor time {spread(spent)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--only", default="", help="parts of rows' names, with commas between them")
    parser.add_argument("--compilation", choices=["graph", "XLA"], help="one of the two; both otherwise")
    arguments = parser.parse_args()
    shapes = shapes_of_resnet50()
    gradients = arrays(shapes, 1)
    parameters = sum(gradient.size for gradient in gradients)
    print(f"{len(shapes)} variables, {parameters:,} parameters, float32, {len(os.sched_getaffinity(0))} cores")

    def wanted(name):
        return any(part.lower() in name.lower() for part in arguments.only.split(","))

    for compilation in [arguments.compilation] if arguments.compilation else ["graph", "XLA"]:
        rows = {name: (count, keras_update(make, shapes, gradients, compilation == "XLA"))
                for name, (count, make) in optimizers().items() if wanted(name)}
        if compilation == "XLA":
            rows |= {name: (count, optax_update(transformation, shapes, gradients))
                     for name, (count, transformation) in optax_rows().items() if wanted(name)}
        functions = {"copy": copier(parameters)} | {name: run for name, (_, run) in rows.items()}
        report(timed_in_turn(functions, arguments.rounds), {name: count for name, (count, _) in rows.items()}, parameters,
               compilation)


if __name__ == "__main__":
    main()
