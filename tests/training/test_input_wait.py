"""Waiting for input is what is left of a micro-batch's coming when there is nothing else to do; arithmetic is no wait."""

import json
import time

import pytest
import tensorflow as tf
from reference.small_runs import contract_examples, contract_model

from tf_hugebatch import optimizers
from tf_hugebatch.data.order import Stream
from tf_hugebatch.data.padding import training_micro_batches
from tf_hugebatch.layout import Layout
from tf_hugebatch.training.step import Step


def test_the_wait_for_slow_input_is_the_time_that_it_takes():
    pause, updates = 0.05, 4
    layout = Layout(48, 12, 1, 1)
    examples = contract_examples()

    def late(example):
        def wait(position):
            time.sleep(pause)
            return position

        position = tf.py_function(wait, [example["position"]], tf.int64)
        return {**example, "position": tf.ensure_shape(position, example["position"].shape)}

    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        model, optimizer = contract_model(1), optimizers.get("lars", learning_rate=0.05)
    step = Step(strategy=strategy, model=model, optimizer=optimizer, layout=layout)
    micro_batches = iter(training_micro_batches(examples, Stream(0, len(examples.labels)), layout, 0, 2 * updates).map(late))
    step(micro_batches, updates)  # traces
    started = time.monotonic()
    step(micro_batches, updates)
    seconds = time.monotonic() - started
    assert seconds >= updates * layout.rounds * pause
    assert step.input_seconds == pytest.approx(updates * layout.rounds * pause, rel=0.5)
    assert step.input_seconds < seconds


@pytest.mark.parametrize("devices", [{"strategy": "one"}, {"strategy": "mirrored", "num_replicas": 2}])
def test_a_processor_with_one_thread_that_computes_does_not_wait(tmp_path, job, devices):
    """The op that looks at the clock waits its turn there too."""
    code, _, _, said = job("train_on_one_thread", tmp_path / "run", batch_size=1024, micro_batch_size=256, **devices)
    assert code == 0, said
    assert json.loads((tmp_path / "run/status.json").read_text())["input_wait_share"] < 0.5
