"""What an update by SGD, LAMB, Muon, Shampoo or K-FAC costs beside one by LARS, as the batch grows: the real step.

    python scripts/bench_beside_lars.py                                  LeNet-5, a few minutes on two cores
    python scripts/bench_beside_lars.py --model=lenet --only=LARS,Muon   the paper's network
    python scripts/bench_beside_lars.py --rounds=9 --only=LARS,K-FAC     some rows; LARS must be one
    python scripts/bench_beside_lars.py --batches=250,60000              other batches: what they cost is arithmetic

An update of K micro-batches costs K a + b: a is one micro-batch forward and backward, with K-FAC's factors; b is the end of an
update. Both are found from updates of one and of four micro-batches, timed in turn over all rows, round after round, in
processor seconds of all cores together, which other programs on the machine disturb less. What a row costs beside LARS is then
(K a + b) of the row over LARS' for any batch; those are not measured but follow.

FLOPs are counted by hand. For a kernel of [n, m] after reshaping (n with its bias for K-FAC) at T locations, per example: the
network 6 T n m (the first layer, whose inputs have no gradient, 4), K-FAC's factors 2 T (n^2 + m^2); per update: Shampoo's
statistics and K-FAC's or Shampoo's product 2 n m (n + m) each, a root by eigenvalues 11 n^3, an inverse 2 n^3, Shampoo's for
each block of a kernel; each of Muon's five Newton-Schulz iterations, for n the smaller, 4 n^2 m + 2 n^3. What any rule does to
single weights, a dozen FLOPs each, is left out.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
MICRO, MANY, NEWTON_SCHULZ_STEPS, SHAMPOO_BLOCK = 250, 4, 5, 512
#: name: (row of the registry, constructor arguments).
ROWS = {
    "LARS": ("lars", {}),
    "SGD momentum": ("sgd", {"momentum": 0.9}),
    "LAMB": ("lamb", {}),
    "Muon": ("muon", {}),
    "Shampoo": ("shampoo", {}),
    "Shampoo every 10": ("shampoo", {"inverse_interval": 10}),
    "K-FAC": ("kfac", {}),
    "K-FAC every 10": ("kfac", {"inverse_interval": 10}),
}


def flops(layers, row, interval):
    """(per example, per update) of a row, by the formulas above. layers: (n without bias, m, T) each, the first first."""
    per_example = sum((6 if place else 4) * t * n * m for place, (n, m, t) in enumerate(layers))
    per_update = 0
    for n, m, t in layers:
        if row == "kfac":
            n += 1
            per_example += 2 * t * (n * n + m * m)
            per_update += 2 * n * m * (n + m) + 2 * (n**3 + m**3) / interval
        elif row == "shampoo":
            blocks, n, m = shampoo_blocks(n, m)
            per_update += blocks * (4 * n * m * (n + m) + 11 * (n**3 + m**3) / interval)
        elif row == "muon":
            small, large = sorted((n, m))
            per_update += NEWTON_SCHULZ_STEPS * (4 * small**2 * large + 2 * small**3)
    return per_example, per_update


def shampoo_blocks(n, m):
    """(blocks, rows, columns) that Shampoo cuts a kernel into, at the block size that the row has."""
    from tf_hugebatch.optimizers.shampoo import Blocks

    blocks = Blocks((n, m), SHAMPOO_BLOCK)
    return blocks.count, blocks.rows, blocks.columns


def layers_of(model):
    """(fan_in, fan_out, locations) of every layer with a kernel."""
    import numpy as np

    found = [layer for layer in model.layers if hasattr(layer, "kernel")]
    return [(int(np.prod(layer.kernel.shape[:-1])), int(layer.kernel.shape[-1]), int(np.prod(layer.output.shape[1:-1])))
            for layer in found]


def update_of(model_name, row, arguments, micro_batches):
    """(a function that makes one update of that many micro-batches, the model)."""
    import numpy as np
    import tensorflow as tf

    from tf_hugebatch import optimizers, registry
    from tf_hugebatch.data.order import Stream
    from tf_hugebatch.data.padding import training_micro_batches
    from tf_hugebatch.data.splits import Examples
    from tf_hugebatch.layout import Layout
    from tf_hugebatch.training.step import Step

    generator = np.random.default_rng(0)
    examples = Examples(generator.integers(0, 256, (MICRO, 28, 28, 1), dtype=np.uint8),
                        generator.integers(0, 10, MICRO, dtype=np.int32))
    strategy, layout = tf.distribute.OneDeviceStrategy("CPU:0"), Layout(MICRO * micro_batches, MICRO)
    with strategy.scope():
        model = registry.find("model", model_name).resolve()()
        optimizer = optimizers.get(row, learning_rate=1e-4, **arguments)
    step = Step(strategy=strategy, model=model, optimizer=optimizer, layout=layout)
    dataset = training_micro_batches(examples, Stream(0, MICRO), layout, 0, 10**6)
    iterator = iter(strategy.distribute_datasets_from_function(lambda context: dataset))
    return lambda updates: step(iterator, updates), model


def measured(model_name, rows, rounds, updates):
    """{row: {micro-batches: [processor seconds of an update, one a round]}}; two calls before are not timed."""
    made = {(name, count): update_of(model_name, *rows[name], count)[0] for name in rows for count in (1, MANY)}
    found = {name: {1: [], MANY: []} for name in rows}
    for run in made.values():
        run(updates)
    for _ in range(rounds):
        for (name, count), run in made.items():
            spent = time.process_time()
            run(updates)
            found[name][count].append((time.process_time() - spent) / updates)
    return found


def parts(seconds):
    """(a, b) from {1: [seconds], 8: [seconds]}: medians over rounds of what each round says."""
    rounds = list(zip(seconds[1], seconds[MANY], strict=True))
    a = statistics.median((many - one) / (MANY - 1) for one, many in rounds)
    b = statistics.median((MANY * one - many) / (MANY - 1) for one, many in rounds)
    return a, b


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lenet5", choices=["lenet5", "lenet"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(ROWS), help="rows, with commas between them")
    parser.add_argument("--batches", default="250,4000,60000", help="global batches, with commas between them")
    arguments = parser.parse_args()
    batches = [int(batch) for batch in arguments.batches.split(",")]
    layers = layers_of(update_of(arguments.model, "lars", {}, 1)[1])
    rows = {name: ROWS[name] for name in arguments.only.split(",")}
    # A whole interval a round has as many updates with inverses in it as it should.
    updates = max(3, *(options.get("inverse_interval", 1) for _, options in rows.values()))
    found = {name: parts(seconds) for name, seconds in measured(arguments.model, rows, arguments.rounds, updates).items()}
    shown = [f"x LARS at {batch:,}" for batch in batches]
    print(f"{arguments.model}, micro-batch {MICRO}, {arguments.rounds} rounds; processor ms a = one micro-batch, "
          "b = end of an update")
    print(f"{'':<20}{'a':>8}{'b':>8}" + "".join(f"{text:>20}" for text in shown) + "   the same in FLOPs")
    base = found["LARS"]
    base_flops = flops(layers, "lars", 1)
    for name, (row, options) in rows.items():
        a, b = found[name]
        per_example, per_update = flops(layers, row, options.get("inverse_interval", 1))
        times = [(batch / MICRO * a + b) / (batch / MICRO * base[0] + base[1]) for batch in batches]
        counts = [(batch * per_example + per_update) / (batch * base_flops[0] + base_flops[1]) for batch in batches]
        print(f"{name:<20}{1e3 * a:>8.1f}{1e3 * b:>8.1f}" + "".join(f"{ratio:>20.3f}" for ratio in times)
              + "   " + " ".join(f"{ratio:.3f}" for ratio in counts))


if __name__ == "__main__":
    main()
