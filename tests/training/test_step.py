"""The step: means over the global batch, updates are what is counted, and the guard is sticky."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference.small_runs import CLASSES, contract_examples, contract_model, largest_difference, run_updates

from tf_hugebatch import optimizers, schedules
from tf_hugebatch.data.order import Stream, epoch_permutation
from tf_hugebatch.data.padding import training_micro_batches
from tf_hugebatch.keras_versions import KERAS_2, native, register_serializable, variable_path
from tf_hugebatch.layers import GhostBatchNormalization
from tf_hugebatch.layout import Layout
from tf_hugebatch.training.evaluate import Evaluation
from tf_hugebatch.training.step import METRICS, Step

BATCH = 48


def one():
    return tf.distribute.OneDeviceStrategy("CPU:0")


def dense_model(regulariser=None):
    """8 x 8 x 1 -> tanh -> logits; nothing in it depends on how the batch is cut."""

    def weights(seed):
        return keras.initializers.GlorotUniform(seed=seed)

    return keras.Sequential([
        keras.Input((8, 8, 1)),
        keras.layers.Flatten(),
        keras.layers.Dense(12, activation="tanh", kernel_initializer=weights(1), name="hidden",
                           kernel_regularizer=regulariser),
        keras.layers.Dense(CLASSES, kernel_initializer=weights(2), name="logits"),
    ], name="dense")


def linear_model():
    initial = keras.initializers.GlorotUniform(seed=3)
    return keras.Sequential([
        keras.Input((8, 8, 1)),
        keras.layers.Flatten(),
        keras.layers.Dense(CLASSES, kernel_initializer=initial, name="logits"),
    ], name="linear")


# The mean over the global batch.


def loss_and_gradients_by_hand(model, images, labels, smoothing):
    """Mean smoothed cross-entropy of one big batch by Keras' own loss, and its gradients."""
    targets = tf.one_hot(labels, CLASSES)
    smoothed = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    with tf.GradientTape() as tape:
        logits = model(images.astype(np.float32) / 255.0, training=True)
        loss = smoothed(targets, logits)
    gradients = tape.gradient(loss, [native(variable) for variable in model.trainable_variables])
    return logits.numpy(), float(loss), {
        variable_path(variable): gradient.numpy() for variable, gradient in zip(model.trainable_variables, gradients)
    }


@pytest.mark.parametrize("micro, rounds", [(48, 1), (12, 4)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_and_gradient_are_means_over_the_global_batch(micro, rounds, smoothing):
    # With rate 1 and no momentum the update is the gradient.
    run = run_updates(one(), batch=BATCH, micro=micro, span=None, updates=1, label_smoothing=smoothing,
                      model=dense_model, optimizer="sgd",
                      optimizer_arguments={"learning_rate": 1.0, "momentum": 0.0})
    assert run.layout.rounds == rounds
    examples = contract_examples()
    ids = epoch_permutation(0, 0, len(examples.labels))[:BATCH]
    before = dense_model()
    logits, loss, gradients = loss_and_gradients_by_hand(before, examples.images[ids], examples.labels[ids],
                                                         smoothing)
    [row] = run.metrics
    assert row["loss"] == pytest.approx(loss, rel=1e-6)
    assert row["accuracy"] == pytest.approx(np.mean(np.argmax(logits, -1) == examples.labels[ids]))
    norm = np.sqrt(sum(np.sum(np.square(gradient, dtype=np.float64)) for gradient in gradients.values()))
    assert row["grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert row["update_norm"] == pytest.approx(norm, rel=1e-5)
    steps = {variable_path(v): v.numpy() - run.weights[variable_path(v)] for v in before.trainable_variables}
    assert largest_difference(steps, gradients) < 1e-6


def test_steps_are_updates_whatever_the_number_of_micro_batches():
    schedule = schedules.Warmup(2, schedules.Polynomial(0.5, 5))
    run = run_updates(one(), batch=BATCH, micro=12, span=None, updates=5, optimizer="sgd", model=dense_model,
                      optimizer_arguments={"learning_rate": schedule})
    assert run.layout.rounds == 4
    assert int(run.optimizer.iterations.numpy()) == 5
    assert [row["update"] for row in run.metrics] == [1, 2, 3, 4, 5]
    assert [row["learning_rate"] for row in run.metrics] == [float(schedule(update)) for update in range(5)]
    assert [row["applied"] for row in run.metrics] == [1] * 5


def test_another_number_of_updates_does_not_trace_again():
    step, iterator = prepared(one(), updates=6, micro=24)
    for updates in (1, 3, 2):
        assert step(iterator, updates).shape == (updates, len(METRICS))
    assert step._run.experimental_get_tracing_count() == 1


def test_the_device_is_read_as_often_for_many_updates_as_for_one(monkeypatch):
    step, iterator = prepared(one(), updates=12, micro=24)
    step(iterator, 1)
    eager, reads = type(tf.constant(0)), []
    for name in ("numpy", "__array__", "__float__", "__int__", "__bool__", "__index__"):
        owner = next(part for part in eager.__mro__ if name in vars(part))
        monkeypatch.setattr(owner, name, lambda *words, ordinary=vars(owner)[name]: (reads.append(1), ordinary(*words))[1])
    counts = []
    for updates in (1, 10):
        reads.clear()
        step(iterator, updates)
        counts.append(len(reads))
    assert counts[0] == counts[1] > 0


# Padding.


def prepared(strategy, *, updates, micro, change=None, optimizer=None, model=None, span=None):
    """(step, iterator) over `updates` updates; `change(cell number, cell)` edits what the pipeline yields."""
    layout = Layout(BATCH, micro, strategy.num_replicas_in_sync, span)
    with strategy.scope():
        model = (model or dense_model)()
        optimizer = (optimizer or (lambda: optimizers.get("sgd", learning_rate=0.1)))()
    step = Step(strategy=strategy, model=model, optimizer=optimizer, layout=layout, label_smoothing=0.1)
    examples = contract_examples()
    dataset = training_micro_batches(examples, Stream(0, len(examples.labels)), layout, 0, updates)
    if change is not None:
        options = dataset.options()
        dataset = dataset.enumerate().map(change).with_options(options)
    return step, iter(strategy.distribute_datasets_from_function(lambda context: dataset))


def state(step):
    """(path, array) of all that a run carries from one update to the next, each replica's copy of it.

    Without the state of stock random generators, which `fit` alone uses and which starts at random.
    """
    found = []
    for variable in [*step.model.variables, *step.optimizer.variables]:
        path, value = variable_path(variable), native(variable)
        if "seed_generator" in path or "StateVar" in path:  # as Keras 3 and TensorFlow call them
            continue
        found += [(path, copy.numpy()) for copy in getattr(value, "values", [value])]
    return found


def same_bits(a, b):
    return len(a) == len(b) and all(x.tobytes() == y.tobytes() for (_, x), (_, y) in zip(a, b))


def test_padding_counts_nowhere():
    common = {"batch": BATCH, "span": None, "updates": 3, "optimizer": "sgd", "model": dense_model}
    whole, padded = run_updates(one(), micro=48, **common), run_updates(one(), micro=20, **common)
    assert padded.layout.padding == 12
    assert largest_difference(whole.weights, padded.weights) < 1e-6
    for a, b in zip(whole.metrics, padded.metrics):
        assert b == pytest.approx(a, rel=2e-6)


def test_what_lies_in_the_padding_makes_no_difference_to_a_single_bit():
    def scribble(_, cell):
        real = cell["weight"] > 0
        image = tf.where(real[:, tf.newaxis, tf.newaxis, tf.newaxis], cell["image"], 77.0)
        return {**cell, "image": image, "label": tf.where(real, cell["label"], 9 - cell["label"])}

    runs = []
    for change in (None, scribble):
        step, iterator = prepared(one(), updates=3, micro=20, change=change, span=16,
                                  model=lambda: contract_model(16))
        runs.append((step(iterator, 3), state(step)))
    assert step.layout.padding > 0
    assert (runs[0][0] == runs[1][0]).all()
    assert same_bits(runs[0][1], runs[1][1])


# The sticky guard.

GOOD = 2  # updates before the bad one


def poisoned(number, cell):
    """NaN in one image of the first micro-batch of update GOOD (four micro-batches an update)."""
    hit = tf.logical_and(tf.equal(number, 4 * GOOD), tf.equal(cell["position"], 1))
    image = tf.where(hit[:, tf.newaxis, tf.newaxis, tf.newaxis], np.nan, cell["image"])
    return {**cell, "image": image}


def adam_with_everything():
    return optimizers.get("adam_layerwise_bounded", learning_rate=0.01, trust_bounds=(0.01, 10.0),
                          clip_global_norm=1.0)


@pytest.mark.parametrize("replicas", [1, 2])
def test_after_the_first_bad_update_nothing_changes_any_more(replicas, mirrored):
    strategy = one() if replicas == 1 else mirrored(replicas)
    step, iterator = prepared(strategy, updates=7, micro=12, change=poisoned, span=12,
                              model=lambda: contract_model(12), optimizer=adam_with_everything)
    assert step.layout.rounds * replicas == 4
    initial = state(step)
    good = step(iterator, GOOD)
    before = state(step)
    changed = [path for (path, old), (_, new) in zip(initial, before) if not np.array_equal(old, new)]
    # What the guard has to hold: weights, moving statistics, slots, trust ratios and the count of updates.
    for part in ("conv/kernel", "moving_mean", "moving_variance", "iteration", "trust_ratios"):
        assert any(part in path for path in changed), part
    assert (good[:, METRICS.index("applied")] == 1).all()
    assert step.first_bad_update.numpy() == -1

    bad = step(iterator, 1)  # the poisoned one
    later = step(iterator, 4)  # all of these are fine
    assert same_bits(state(step), before)
    rows = np.concatenate([bad, later])
    assert (rows[:, METRICS.index("applied")] == 0).all()
    assert (rows[:, METRICS.index("update")] == GOOD).all()
    assert (rows[:, METRICS.index("update_norm")] == 0).all()
    assert not np.isfinite(bad[0, METRICS.index("grad_norm")])  # ReLU can hide a NaN from the loss
    assert np.isfinite(later[:, METRICS.index("loss")]).all()
    assert step.first_bad_update.numpy() == GOOD


def test_the_guard_holds_inside_one_call_too():
    states = []
    for updates in ((GOOD,), (GOOD + 4,)):
        step, iterator = prepared(one(), updates=7, micro=12, change=poisoned, span=12,
                                  model=lambda: contract_model(12), optimizer=adam_with_everything)
        for count in updates:
            step(iterator, count)
        states.append(state(step))
    assert step.first_bad_update.numpy() == GOOD
    assert same_bits(*states)


@register_serializable
class Jump(keras.optimizers.schedules.LearningRateSchedule):
    """0.1, but `height` at update GOOD only."""

    def __init__(self, height):
        self.height = height

    def __call__(self, step):
        return tf.where(tf.equal(tf.cast(step, tf.int64), GOOD), self.height, 0.1)

    def get_config(self):
        return {"height": self.height}


def test_weights_that_overflow_are_the_last_change():
    """Weights of 1e28 still give finite losses in a linear model, so only their norms tell."""
    step, iterator = prepared(one(), updates=7, micro=12, model=linear_model,
                              optimizer=lambda: optimizers.get("sgd", learning_rate=Jump(1e30)))
    rows = step(iterator, GOOD + 1)
    assert not np.isfinite(rows[-1, METRICS.index("update_norm")])
    assert step.first_bad_update.numpy() == GOOD
    after = state(step)
    later = step(iterator, 4)
    assert (later[:, METRICS.index("applied")] == 0).all()
    assert same_bits(state(step), after)
    assert step.first_bad_update.numpy() == GOOD


class RootOfPositive(keras.layers.Layer):
    """sqrt(max(x, 0))."""

    def call(self, x):
        return tf.sqrt(tf.nn.relu(x))


def test_an_infinite_gradient_of_a_finite_loss_is_refused():
    """sqrt has slope infinity at 0: the loss is finite and the gradient is not."""

    def model():
        inputs = keras.Input((8, 8, 1))
        kernel = keras.layers.Dense(CLASSES, kernel_initializer="zeros", use_bias=False, name="logits")
        return keras.Model(inputs, RootOfPositive()(kernel(keras.layers.Flatten()(inputs))))

    step, iterator = prepared(one(), updates=2, micro=12, model=model)
    before = state(step)
    [row] = step(iterator, 1)
    assert np.isfinite(row[METRICS.index("loss")]) and not np.isfinite(row[METRICS.index("grad_norm")])
    assert step.first_bad_update.numpy() == 0
    assert same_bits(state(step), before)


# Refusals.


def test_a_layout_for_another_number_of_replicas_is_refused(mirrored):
    strategy = mirrored(2)
    with strategy.scope():
        model, optimizer = dense_model(), optimizers.get("sgd", learning_rate=0.1)
    with pytest.raises(ValueError, match=r"(?s)layout has 3 replica.*strategy 2"):
        Step(strategy=strategy, model=model, optimizer=optimizer, layout=Layout(BATCH, 16, 3))


def test_a_model_with_losses_of_its_own_is_refused():
    with pytest.raises(ValueError, match=r"(?s)1 loss.*weight_decay"):
        Step(strategy=one(), model=dense_model(keras.regularizers.L2(1e-4)), layout=Layout(BATCH, 16),
             optimizer=optimizers.get("sgd", learning_rate=0.1))


def test_a_frozen_batch_norm_has_no_statistics_to_move():
    def frozen():
        model = contract_model(16)
        for layer in model.layers:
            layer.trainable = not isinstance(layer, GhostBatchNormalization)
        return model

    run = run_updates(one(), batch=BATCH, micro=16, span=16, updates=2, model=frozen, optimizer="sgd",
                      optimizer_arguments={"learning_rate": 0.1})
    assert [row["applied"] for row in run.metrics] == [1, 1]
    assert sorted({*value} for value in run.moving.values()) == [{0.0}, {1.0}]


class Branching(keras.layers.Layer):
    """A tensor in a Python condition, which is a graph only where AutoGraph rewrites the code."""

    def compute_output_shape(self, shape):
        return shape  # so that the model can be built without a call

    def call(self, inputs):
        if tf.reduce_sum(inputs) > 0:
            return inputs
        return -inputs


def test_layers_are_traced_as_the_installed_keras_traces_them_in_fit():
    """Keras 3 as they are written, Keras 2 through AutoGraph; no other reading for the same layer here."""
    def branching():
        return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), Branching(), keras.layers.Dense(CLASSES)])

    def means_the_same(way):
        if KERAS_2:
            way()
        else:
            with pytest.raises(tf.errors.OperatorNotAllowedInGraphError, match="symbolic"):
                way()

    examples, fitted, one = contract_examples(8), branching(), tf.distribute.OneDeviceStrategy("CPU:0")
    with one.scope():
        stepped = branching()
    fitted.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    means_the_same(lambda: fitted.fit(examples.images, examples.labels, verbose=0))
    means_the_same(lambda: run_updates(one, batch=8, micro=4, span=None, model=lambda: stepped))


@pytest.mark.skipif(KERAS_2, reason="Keras 2 lets AutoGraph at what it traces")
def test_no_source_is_rewritten_before_a_run(monkeypatch):
    """Which takes seconds for all the functions of a step and of an evaluation."""
    seen, update = {}, optimizers.LARS.update

    def note(place):
        seen.setdefault(place, set()).add(tf.__internal__.autograph.control_status_ctx().status.name)

    class Watching(keras.layers.Layer):
        def compute_output_shape(self, shape):
            return shape

        def call(self, inputs, training=None):
            note("training" if training else "evaluation")
            return inputs

    def watched(self, *arguments):
        note("optimizer")
        return update(self, *arguments)

    monkeypatch.setattr(optimizers.LARS, "update", watched)
    one = tf.distribute.OneDeviceStrategy("CPU:0")
    run = run_updates(one, batch=8, micro=4, span=4, model=lambda: keras.Sequential([
        keras.Input((8, 8, 1)), keras.layers.Flatten(), Watching(), keras.layers.Dense(CLASSES)]))
    Evaluation(one, run.model, contract_examples(8), 8)()
    assert seen == dict.fromkeys(("training", "optimizer", "evaluation"), {"DISABLED"})


def test_tracing_a_sum_over_replicas_does_not_go_through_all_that_came_before(mirrored, monkeypatch):
    """TensorFlow looks behind each for variables, op by op, in a list: ResNet-18 on four replicas would take minutes."""
    from tensorflow.python.ops import op_selector

    visited, walk = [], op_selector.get_backward_walk_ops

    def counted(*arguments, **options):
        found = walk(*arguments, **options)
        visited.append(len(found))
        return found

    def model():
        keras.utils.set_random_seed(0)
        norms = [layer for _ in range(4) for layer in (keras.layers.Dense(4), GhostBatchNormalization(8))]
        return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), *norms, keras.layers.Dense(CLASSES)])

    monkeypatch.setattr(op_selector, "get_backward_walk_ops", counted)
    run = run_updates(mirrored(2), batch=8, micro=4, span=8, model=model, optimizer="sgd")
    assert run.layout.across_replicas
    # Of four layers, forward and backward, on two replicas; those of the gradients, at the end, have a part for each.
    in_layers = visited[:-4]
    assert len(in_layers) >= 4 * 2 * 2 and max(in_layers) < 10


class Offset(keras.layers.Layer):
    """A constant of -3e38 for class 0 and 3e38 for the others: what float32 just holds."""

    def call(self, x):
        return x + tf.constant([-3e38] + [3e38] * (CLASSES - 1))


def test_an_infinite_loss_of_a_finite_gradient_is_refused():
    """A softmax has a finite slope at any logits, and the cross-entropy of these overflows."""

    def model():
        inputs = keras.Input((8, 8, 1))
        kernel = keras.layers.Dense(CLASSES, kernel_initializer="zeros", name="logits")
        return keras.Model(inputs, Offset()(kernel(keras.layers.Flatten()(inputs))))

    step, iterator = prepared(one(), updates=2, micro=12, model=model)
    before = state(step)
    [row] = step(iterator, 1)
    assert not np.isfinite(row[METRICS.index("loss")]) and np.isfinite(row[METRICS.index("grad_norm")])
    assert step.first_bad_update.numpy() == 0
    assert same_bits(state(step), before)
