"""Promise 3: peak memory depends on the micro-batch, not on the batch."""

import gc
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_hugebatch import optimizers
from tf_hugebatch.data.order import Stream
from tf_hugebatch.data.padding import evaluation_batches, training_micro_batches
from tf_hugebatch.data.splits import Examples
from tf_hugebatch.layout import Layout
from tf_hugebatch.training.step import Step

SIDE, MICRO, BATCH = 64, 64, 512
MIB = 2**20
LARGE = 16 * BATCH
# As uint8, 12 KiB an image: the smallest form in which a whole batch could lie about; float32 is 400 MiB.
WHOLE_BATCH = LARGE * SIDE * SIDE * 3 / MIB


def can_reset_peak():
    try:
        pathlib.Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return resident("VmHWM") > 0


def resident(field):
    """MiB of "VmRSS" (now) or "VmHWM" (the peak since the last reset)."""
    status = pathlib.Path("/proc/self/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    return int(found.group(1)) / 1024 if found else 0


def images(n=128):
    generator = np.random.default_rng(0)
    return Examples(generator.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8),
                    generator.integers(0, 10, n, dtype=np.int32))


def growth(batch, micro):
    """MiB by which the peak of one update lies above what the process held before it."""
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    layout = Layout(batch, micro)
    with strategy.scope():
        model = keras.Sequential([
            keras.Input((SIDE, SIDE, 3)), keras.layers.Conv2D(4, 8, strides=8, activation="relu"),
            keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10),
        ])
        optimizer = optimizers.get("sgd", learning_rate=0.1)
    step = Step(strategy=strategy, model=model, optimizer=optimizer, layout=layout)
    dataset = training_micro_batches(images(), Stream(0, 128), layout, 0, 1)
    iterator = iter(strategy.distribute_datasets_from_function(lambda context: dataset))
    gc.collect()
    assert can_reset_peak()
    before = resident("VmRSS")
    [row] = step(iterator, 1)
    assert np.isfinite(row).all()
    return resident("VmHWM") - before


def growths(*layouts):
    """`growth` of each (batch, micro-batch), all at once, where no other test has left memory that is free to be used again."""
    program = (f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parents[1])!r})\n"
               f"from training.test_flat_memory import BATCH, MICRO, growth\n"
               f"growth(BATCH, MICRO)  # what TensorFlow sets up once\n"
               f"print(growth(*map(int, sys.argv[1:])))")
    processes = [subprocess.Popen([sys.executable, "-c", program, *map(str, layout)], stdout=subprocess.PIPE, text=True)
                 for layout in layouts]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert not any(process.returncode for process in processes)
    return [float(text) for text in said]


@pytest.mark.skipif(not pathlib.Path("/proc/self/clear_refs").exists(), reason="needs Linux' /proc")
def test_sixteen_times_the_batch_takes_the_same_memory():
    if not can_reset_peak():
        pytest.skip("this container does not let a process reset its peak memory")
    small, large, at_once = growths((BATCH, MICRO), (LARGE, MICRO), (LARGE // 2, LARGE // 2))
    assert large - small < WHOLE_BATCH / 2
    # The meter sees half of that batch when it lies in memory as one micro-batch.
    assert at_once - small > WHOLE_BATCH


def test_every_tensor_of_the_input_has_the_size_of_a_micro_batch():
    examples, layout = images(), Layout(100, 16, 3)
    training = training_micro_batches(examples, Stream(0, 128), layout, 0, 2)
    evaluation = evaluation_batches(examples, 16, 3)
    for dataset in (training, evaluation):
        assert {spec.shape[0] for spec in dataset.element_spec.values()} == {16}
        assert {len(part) for cell in dataset.as_numpy_iterator() for part in cell.values()} == {16}
    assert sum(1 for _ in training) == 2 * layout.rounds * 3
