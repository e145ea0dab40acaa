"""A small model with everything that could depend on the layout, and a few updates of it on any layout."""

import types

import keras
import numpy as np

from tf_hugebatch import layers, optimizers
from tf_hugebatch.data.order import Stream
from tf_hugebatch.data.padding import training_micro_batches
from tf_hugebatch.data.splits import Examples
from tf_hugebatch.keras_versions import variable_path
from tf_hugebatch.layout import Layout
from tf_hugebatch.training.step import METRICS, Step

CLASSES = 10


def contract_model(span, seed=0):
    """8 x 8 x 1 -> convolution, batch norm, dense, dropout, dense.

    The convolution has no bias: batch norm takes it away again, so its gradient is rounding noise, and adaptive
    optimizers would blow that noise up to full steps.
    """

    def weights(stream):
        return keras.initializers.GlorotUniform(seed=1000 * seed + stream)

    return keras.Sequential([
        keras.Input((8, 8, 1)),
        layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, kernel_initializer=weights(1), name="conv"),
        layers.GhostBatchNormalization(span, name="norm"),
        keras.layers.ReLU(),
        keras.layers.Flatten(),
        layers.Dense(16, activation="relu", kernel_initializer=weights(2), name="hidden"),
        layers.Dropout(0.4, name="dropout"),
        layers.Dense(CLASSES, kernel_initializer=weights(3), name="logits"),
    ], name="contract")


def contract_examples(n=96, seed=0):
    """n images of noise around a pattern per class: learnable, and no two alike."""
    generator = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int32) % CLASSES
    patterns = generator.integers(0, 200, (CLASSES, 8, 8, 1))
    images = patterns[labels] + generator.integers(0, 56, (n, 8, 8, 1))
    return Examples(images.astype(np.uint8), labels.astype(np.int32))


def run_updates(strategy, *, batch, micro, span, updates=4, optimizer="lars", optimizer_arguments=None, seed=0,
                label_smoothing=0.1, examples=None, model=None, measured=(), noise=None):
    """Runs a few updates; returns a namespace of weights, moving statistics and metrics rows."""
    examples = examples or contract_examples()
    layout = Layout(batch, micro, strategy.num_replicas_in_sync, span)
    with strategy.scope():
        model = model() if model else contract_model(span)
        built = optimizers.get(optimizer, **{"learning_rate": 0.05, **(optimizer_arguments or {})})
    step = Step(strategy=strategy, model=model, optimizer=built, layout=layout, seed=seed,
                label_smoothing=label_smoothing, measured=measured, noise=noise)
    dataset = training_micro_batches(examples, Stream(seed, len(examples.labels)), layout, 0, updates)
    iterator = iter(strategy.distribute_datasets_from_function(lambda context: dataset))
    metrics = step(iterator, updates)
    return types.SimpleNamespace(
        layout=layout, model=model, optimizer=built, step=step,
        weights={variable_path(v): v.numpy() for v in model.trainable_variables},
        moving={variable_path(v): v.numpy() for v in model.non_trainable_variables if "moving" in variable_path(v)},
        metrics=[dict(zip(METRICS, row)) for row in metrics], rows=metrics,
    )


def largest_difference(a, b):
    """Largest absolute difference over two dicts of arrays, relative to each array's largest magnitude (at least 1)."""
    return max(float(np.max(np.abs(a[k] - b[k])) / max(1.0, np.max(np.abs(a[k])))) for k in a)
