"""The step: one optimizer update from K micro-batches on R replicas, and many updates in one call.

    for k in tf.range(K): strategy.run(accumulate, (next(iterator), k == 0))     gradient, loss and batch-norm sums
    strategy.run(apply)                                                          one reduce, one update, one metrics row

All of it is one tf.function in cross-replica context. The input arrives a micro-batch at a time, so memory does not
grow with the batch; every example weighs 1 / B, so an update does not depend on how the batch was cut (promise 1 of
the design).
"""

import functools

import tensorflow as tf

from .. import diagnostics, replica
from ..keras_versions import as_written
from .accumulate import Accumulators, batch_norm_layers, factored_layers, micro_batch_sums

#: First columns of the tensor that `Step.__call__` returns, one row per update; those of the diagnostics follow.
METRICS = (
    "update",  # updates done after this one
    "loss",  # mean over the global batch, as optimised (with label smoothing), before the update
    "accuracy",  # of the same forward passes
    "learning_rate",
    "grad_norm",  # global norm after the reduce, before clipping
    "weight_norm",  # before the update
    "update_norm",  # ||w_after - w_before||; noise injected into weights is not in it
    "applied",  # 1, or 0 when the non-finite guard kept the update back
)


class Step:
    """Runs updates of `model` by `optimizer`; the only place that knows how one is put together.

    Args:
        strategy: a tf.distribute.Strategy; model and optimizer were created in its scope. With `replica.PlannedReplicas`
            the step is for compiling only (`planning/export.py`).
        model: a built Keras model with trainable variables.
        optimizer: an optimizer of this package, built or not.
        layout: `layout.Layout`, how a global batch is cut; its replicas equal the strategy's.
        seed: int, keys dropout.
        label_smoothing: in [0, 1).
        measured: names of the registry's diagnostics that look on.
        noise: None, or a `diagnostics.NoiseInjection`.

    Attributes:
        probes: `diagnostics.Probes`; its columns follow METRICS.
        first_bad_update: int64 variable, -1, or the number of updates done before the first one with a non-finite loss,
            gradient or weight norm. From then on nothing changes any more: weights, slots, moving statistics, the
            update count.
        accumulators: the variables that sums wait in between the micro-batches of an update.
        input_seconds: of the last call, how long it had nothing to do but wait for micro-batches; 0 under op determinism,
            which has no clock.

    Raises:
        ValueError: the layout's replicas are not the strategy's, the model carries losses of its own, a diagnostic
            can't be had with this layout, or the optimizer needs factors that no layer has.
    """

    def __init__(self, *, strategy, model, optimizer, layout, seed=0, label_smoothing=0.0, measured=(), noise=None):
        if strategy.num_replicas_in_sync != layout.replicas:
            raise ValueError(
                f"The layout has {layout.replicas} replica(s) but the strategy {strategy.num_replicas_in_sync}; "
                f"make the layout with replicas=strategy.num_replicas_in_sync."
            )
        if model.losses:
            raise ValueError(
                f"The model adds {len(model.losses)} loss(es) of its own (a regulariser?), which the step would "
                f"ignore; use the optimizer's weight_decay."
            )
        self.strategy, self.model, self.optimizer = strategy, model, optimizer
        self.layout, self.seed, self.label_smoothing, self.noise = layout, seed, label_smoothing, noise
        self._origin = 0
        self._all_reduce_sum, self._one_program = replica.collective_of(strategy), replica.is_one_program(strategy)
        self._batch_norm_layers = batch_norm_layers(model)
        self._factored = factored_layers(model, optimizer)
        with strategy.scope():
            optimizer.build(model.trainable_variables)
            self.probes = diagnostics.make(measured, model=model, optimizer=optimizer, layout=layout)
            factors = [(size, size) for layer in self._factored.values() for size in layer.factor_sizes]
            self._sums = Accumulators(model, layout.rounds, [*factors, *self.probes.sums])
            self.first_bad_update = tf.Variable(
                -1, dtype=tf.int64, trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
            )
        self.accumulators = self._sums.variables
        self.input_seconds = 0.0
        self._next = _timed_next if _has_a_clock() else _untimed_next
        self._run = tf.function(self._updates, reduce_retracing=True)

    def cut_by(self, layout, origin=0):
        """From the next update on a batch, maybe of another size, is cut by `layout`; all that the step holds stays.

        Args:
            layout: `layout.Layout`.
            origin: where update 0 would begin in the stream if every batch were of this size.

        Raises:
            ValueError: a diagnostic can't be had with this layout.
        """
        if (layout, origin) == (self.layout, self._origin):
            return
        self.layout, self._origin, self._sums.rounds = layout, origin, layout.rounds
        self.probes.cut_by(layout)
        self._run = tf.function(self._updates, reduce_retracing=True)

    def __call__(self, iterator, updates):
        """Runs `updates` updates.

        Args:
            iterator: yields dicts of a micro-batch per replica: image, label, position, weight (`data/padding.py`).
            updates: int, at least 1.

        Returns:
            float64 NumPy array [updates, len(METRICS) + len(probes.columns)].
        """
        rows, waited = self._run(iterator, tf.constant(updates, tf.int32))
        self.input_seconds = float(waited)
        return rows.numpy()

    # Cross-replica context.

    def _updates(self, iterator, updates):
        rows = tf.TensorArray(tf.float64, size=updates, element_shape=[len(METRICS) + len(self.probes.columns)])
        waited = tf.zeros([], tf.float64)
        for i in tf.range(updates):
            for round_ in tf.range(self.layout.rounds):
                micro_batch, seconds = self._next(iterator)
                waited += seconds
                # A TPU's arithmetic is not on the threads that wait for input.
                accumulate = self.accumulate if self._one_program else functools.partial(self._accumulate_after, seconds)
                self.strategy.run(accumulate, args=(micro_batch, tf.equal(round_, 0)))
            row = self.strategy.run(self.apply)
            rows = rows.write(i, self.strategy.experimental_local_results(row)[0])
        return rows.stack(), waited

    # Replica context.

    @as_written
    def _accumulate_after(self, seconds, micro_batch, first):
        # A processor's only thread would begin the micro-batch before it looks at the clock. Here and not around
        # strategy.run, since replicas are traced in threads of their own, which know of no dependencies outside.
        with tf.control_dependencies([seconds]):
            self.accumulate(micro_batch, first)

    @as_written
    def accumulate(self, micro_batch, first):
        """One micro-batch on one replica; adds to this replica's sums, or starts them anew with the `first`."""
        view = replica.View(
            layout=self.layout,
            positions=micro_batch["position"],
            weights=micro_batch["weight"],
            update=self._updates_done(),
            seed=self.seed,
            all_reduce_sum=self._all_reduce_sum,
            one_program=self._one_program,
            origin=self._origin,
        )
        gradients, *others, factors = micro_batch_sums(
            self.model, view, micro_batch["image"], micro_batch["label"], self.label_smoothing, self.noise,
            self._factored.values(),
        )
        seen = self.probes.after_micro_batch(gradients, tf.reduce_sum(view.weights)) if self.probes else []
        self._sums.add(first, gradients, *others, [*factors, *seen])

    @as_written
    def apply(self):
        """The end of an update on one replica; returns the metrics row, float64 [columns], equal on all."""
        # The one cross-replica sum: gradients and statistics of the global-batch mean.
        gradients, statistics, scalars, others = self._sums.summed(self._all_reduce_sum)
        factors = {path: (others.pop(0), others.pop(0)) for path in self._factored}
        loss, accuracy = tf.unstack(scalars)
        learning_rate = tf.convert_to_tensor(self.optimizer.learning_rate)
        update = self._updates_done()
        first_bad = self.first_bad_update.read_value()
        # Sticky: once an update was refused, every later one is.
        ok = tf.logical_and(first_bad < 0, tf.math.is_finite(loss))
        variables = self.model.trainable_variables

        def one_update():
            noisy = self.noise.gradients(gradients, update) if self.noise else gradients
            result = self.optimizer.apply_reduced(noisy, variables, ok=ok, factors=factors)
            if self.noise:
                self.noise.shake(variables, update, result["applied"] > 0)
            return result

        # Injected noise is part of the update: probes see the examples' gradient before it, and the weights after it.
        result, measured = self.probes.around(gradients, variables, others, one_update)
        applied = result["applied"] > 0
        for layer, (mean, variance) in zip(self._batch_norm_layers, map(tf.unstack, statistics)):
            layer.update_moving_statistics(mean, variance, applied)
        # Weights whose norm overflows can still give a finite loss next time, so they count as bad here.
        good = applied & tf.math.is_finite(result["weight_norm"]) & tf.math.is_finite(result["update_norm"])
        self.first_bad_update.assign(tf.where(good | (first_bad >= 0), first_bad, update))
        row = tf.stack([tf.cast(value, tf.float64) for value in (
            update + tf.cast(applied, tf.int64), loss, accuracy, learning_rate,
            result["grad_norm"], result["weight_norm"], result["update_norm"], result["applied"],
        )])
        return tf.concat([row, measured], 0) if self.probes else row

    def _updates_done(self):
        return tf.cast(tf.convert_to_tensor(self.optimizer.iterations), tf.int64)


def _has_a_clock():
    """Op determinism, which is on for the whole process once anyone turned it on, forbids reading one."""
    try:
        tf.timestamp()
    except tf.errors.FailedPreconditionError:
        return False
    return True


@as_written
def _timed_next(iterator):
    """(micro-batch, seconds that it took to come)."""
    asked = tf.timestamp()
    with tf.control_dependencies([asked]):
        micro_batch = next(iterator)
    with tf.control_dependencies(tf.nest.flatten(micro_batch, expand_composites=True)):
        return micro_batch, tf.timestamp() - asked


@as_written
def _untimed_next(iterator):
    return next(iterator), tf.zeros([], tf.float64)
