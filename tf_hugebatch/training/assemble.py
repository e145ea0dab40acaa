"""From settings to things: strategy, model, schedule, optimizer, layout, step."""

import contextlib
import functools

import keras
import numpy as np
import tensorflow as tf

from .. import optimizers, registry, schedules
from ..cluster import cluster_of
from ..keras_versions import global_policy, set_global_policy
from ..diagnostics import NoiseInjection
from ..layers import ActivationNoise, GhostBatchNormalization
from ..layout import Layout, LayoutError, micro_batch_sizes, one_round_micro_batch
from ..settings import Refusal
from .accumulate import batch_norm_layers, factored_layers
from .micro_batch import choose_micro_batch_size, next_smaller
from .step import Step
from .strategy import make_strategy
from .surveys import Surveys
from .workers import Workers


#: Most rows of schedule.csv: enough for any picture, and a run of millions of updates still starts at once.
SCHEDULE_ROWS = 100_000


class Assembly:
    """Everything that one run consists of, built and ready.

    Args:
        settings: `Settings`.
        earlier: status.json of the run that goes on, or {}. With `--micro_batch_size=auto` its choice stands while the
            replicas do, so that a resumed run is the same bit for bit, however much memory is free now; a run that
            failed or never made an update chooses anew, in case memory was why.

        micro_batch: (size, why) to take in the place of any other choice, or None.

    Attributes:
        strategy, workers, replicas, model, schedule, optimizer, eval_batch_size, step: what their names say.
        layouts: of each of the settings' stages. layout: the last one, whose batch is the largest.

    Raises:
        Refusal: devices, layout or optimizer do not fit the settings or each other (an exclusion matches nothing).
    """

    def __init__(self, settings, earlier, micro_batch=None):
        self.settings = settings
        if settings.deterministic:
            tf.config.experimental.enable_op_determinism()
        # float32 is what --precision says: left alone, TensorFlow keeps 10 bits of the factors of products on some GPUs.
        tf.config.experimental.enable_tensor_float_32_execution(False)
        problems, cluster = [], cluster_of(settings)
        try:
            self.strategy = make_strategy(settings.strategy, settings.num_replicas, settings.tpu, cluster)
        except ValueError as error:
            if settings.strategy == "tpu":
                # An attempt to connect that hangs keeps a part of TensorFlow to itself: nothing can be built after it.
                raise Refusal([str(error)]) from error
            problems.append(str(error))
            # Any strategy will do to find out what else is wrong, but for the layout, which asks how many replicas there are.
            self.strategy = tf.distribute.get_strategy()
        can_cut = not problems
        self.workers = Workers(self.strategy, cluster)
        self.replicas = self.strategy.num_replicas_in_sync
        try:
            self.model, self.schedule, self.optimizer = model_and_optimizer(settings, self.strategy)
        except Refusal as refusal:
            problems += refusal.problems
            can_cut = can_cut and settings.micro_batch_size != "auto"  # which is measured with the optimizer
        try:
            if can_cut:
                self.layouts, self.layout_reason = self._choose_layouts(earlier, micro_batch)
        except Refusal as refusal:
            problems += refusal.problems
        if problems:
            raise Refusal(problems)
        self.layout = self.layouts[-1]
        size = settings.eval_batch_size
        self.eval_batch_size = self.layout.micro_batch_size * self.replicas if size == "auto" else size
        self.step = make_step(settings, self.strategy, self.model, self.optimizer, *self.layouts)

    def smaller_micro_batch(self):
        """The size to go on with when memory did not hold the layout's: at most half of it; None where nothing else may be."""
        if self.settings.micro_batch_size != "auto" or self.settings.strategy == "multiworker":
            return None
        return next_smaller(self.layout)

    @property
    def streams(self):
        """What alone can go on with streams of shards, for the identity of checkpoints: as many hosts, and of several, each of
        which feeds its part of a batch, the same layouts. Empty for a run that any layout goes on with."""
        if self.settings.shuffle != "shards" or self.workers.hosts == 1:
            return {}
        return {"hosts": self.workers.hosts, "layouts": [str(layout) for layout in self.layouts]}

    def surveys(self, split):
        """The `Surveys` of the run's evaluations on the training split."""
        return Surveys(_diagnostics(self.settings, "evaluations"), self.strategy, self.model, split, self.eval_batch_size,
                       self.settings)

    def _choose_layouts(self, earlier, micro_batch):
        settings, reason = self.settings, "given"
        size = settings.micro_batch_size
        span = span_of(settings)
        if micro_batch is not None:
            size, reason = micro_batch
        # Asked of all, whatever each of them finds below: the answer takes a collective.
        sharing = self.workers.replicas_on_this_machine() if size == "auto" else None
        went_well = earlier.get("status") != "failed" and earlier.get("step")
        if size == "auto" and went_well and earlier.get("replicas") == self.replicas and earlier.get("micro_batch_size"):
            size, reason = earlier["micro_batch_size"], "as it was"
        if measured := size == "auto":
            size, reason = choose_micro_batch_size(
                self.strategy, self.model, self.model.input_shape[1:], settings.stages[-1].batch_size, span, sharing,
                factored_layers(self.model, self.optimizer).values(),
            )
        size = self.workers.micro_batch_size(size, fixed=not measured)
        most = one_round_micro_batch(settings.stages[-1].batch_size, self.replicas, span)
        # With norm=local what it is belongs to the experiment.
        if settings.micro_batch_size != "auto" and size > most and settings.norm != "local":
            size, reason = most, f"{size:,} given, more than the batch fills"
        *smaller, largest = (stage.batch_size for stage in settings.stages)
        # What the largest batch takes at once is the most that the smaller ones may.
        sizes = [micro_batch_sizes(batch, self.replicas, span, size)[-1] for batch in smaller]
        try:
            return [Layout(batch, at_once, self.replicas, span)
                    for batch, at_once in zip((*smaller, largest), (*sizes, size), strict=True)], reason
        except LayoutError as error:
            raise Refusal([str(error)]) from error

    def layout_after(self, update):
        """(layout of the batch that follows `update` updates, [(layout, updates) of each stage before its own])."""
        stages = self.settings.stages
        now = stages.at(update)
        return self.layouts[now], [(self.layouts[i], stages[i + 1].update - stages[i].update) for i in range(now)]

    def describe(self):
        """Parameters and roles, updates, memory and the learning rate where it turns; a text of some lines."""
        settings = self.settings
        turns = {"first": 0, "second": 1, "warm-up end": settings.warmup_updates, "last": settings.total_updates - 1}
        if not settings.warmup_updates:
            del turns["warm-up end"]
        rates = ", ".join(
            f"{name} (update {update}) {float(self.schedule(update)):.6g}"
            for name, update in turns.items() if update < settings.total_updates
        )
        parameters = sum(int(np.prod(variable.shape)) for variable in self.model.trainable_variables)
        state = sum(int(np.prod(variable.shape)) for variable in self.optimizer.variables)
        norms = len(batch_norm_layers(self.model))
        # Weights, gradients, their accumulators, and what the optimizer keeps; float32.
        mebibytes = 4 * (3 * parameters + state) / 2**20
        return "\n".join([
            self.optimizer.describe(),
            *self._warnings(norms),
            f"Parameters: {parameters:,}; with gradients, accumulators and optimizer state {mebibytes:.1f} MiB a replica",
            f"Batch norm: {f'{norms} layers' if norms else f'n/a ({settings.model} has none)'}",
            *(f"Layout: {layout} ({self.layout_reason})" for layout in self.layouts),
            f"Updates: {settings.total_updates:,}, of them warm-up {settings.warmup_updates:,}; "
            f"{settings.train_examples:,} training examples",
            f"Learning rate: {rates}",
        ])

    def _warnings(self, norms):
        exclusions = self.settings.exclude_from_adaptation
        if self.settings.optimizer == "lars" and exclusions is None and not norms:
            yield (f"Note: biases take the bare rate (peak {self.settings.peak_rate:g}), which is meant to be multiplied "
                   f"by a trust ratio of about {self.settings.trust_coefficient:g}; {self.settings.model} has no batch "
                   f"norm to absorb that, so consider --exclude_from_adaptation=none.")

        hosts = {tf.DeviceSpec.from_string(device).task for device in self.strategy.extended.worker_devices}
        shards = registry.find("dataset", self.settings.dataset).facts.get("shards")
        if len(hosts) > 1 and shards and self.settings.shuffle == "examples":
            yield (f"Note: {len(hosts)} hosts, and with --shuffle=examples this process reads every image and sends it to "
                   f"them; with --shuffle=shards each host reads its own shards.")

    @property
    def schedule_columns(self):
        """Of schedule.csv."""
        grown = ["batch_size"] if len(self.layouts) > 1 else []
        return ["update", "epoch", "learning_rate", *grown]

    def schedule_rows(self):
        """What schedule.csv holds, by `schedule_columns`; every update, or of a long run evenly many."""
        total = self.settings.total_updates
        updates = np.arange(0, total, -(-total // SCHEDULE_ROWS))
        rates = np.asarray(self.schedule(tf.constant(updates)))
        stages = self.settings.stages
        for update, rate in zip(updates.tolist(), rates.tolist()):
            grown = [stages[stages.at(update)].batch_size] if len(self.layouts) > 1 else []
            yield update, float(stages.epoch(update)), rate, *grown


def model_and_optimizer(settings, strategy):
    """(model, schedule, optimizer) of a run, created in the scope of `strategy`; the optimizer is built.

    Raises:
        Refusal: the optimizer does not take what it is given, or an exclusion matches nothing.
    """
    with strategy.scope(), _keras_as_settings_say(settings.precision):
        model = _build_model(settings)
        schedule = schedules.build(settings)
        if settings.on_divergence == "rewind":
            schedule = schedules.Scaled(schedule)
        try:
            optimizer = optimizers.get(settings.optimizer, learning_rate=schedule, **settings.optimizer_arguments())
            optimizer.build(model.trainable_variables)
        except ValueError as error:
            raise Refusal([f"--{error}"]) from error  # it begins with the argument's name
    return model, schedule, optimizer


def make_step(settings, strategy, model, optimizer, layout, *later):
    """The step of a run, its batches cut by `layout`; `later`: layouts that it is to take up in its course.

    Raises:
        Refusal: a diagnostic can't be had with one of the layouts.
    """
    try:
        step = Step(
            strategy=strategy, model=model, optimizer=optimizer, layout=layout, seed=settings.seed,
            label_smoothing=settings.label_smoothing,
            measured=_diagnostics(settings, "updates"), noise=_noise(settings),
        )
        for one in (*later, layout):
            step.cut_by(one)
        return step
    except ValueError as error:
        raise Refusal([f"--diagnostics={','.join(settings.diagnostics)}: {error}"]) from error


def _diagnostics(settings, at):
    return [name for name in settings.diagnostics if registry.DIAGNOSTICS[name].facts["at"] == at]


def span_of(settings):
    """Examples that share batch-norm statistics; None for a model without batch norm."""
    return settings.micro_batch_size if settings.norm == "local" else settings.bn_span


def _noise(settings):
    if settings.inject_noise is None:
        return None
    return NoiseInjection(settings.inject_noise, settings.noise_stddev, settings.noise_decay or 0.0, settings.seed)


def _build_model(settings):
    row = registry.find("model", settings.model)
    arguments = {**row.arguments, **settings.model_arguments()}
    if settings.inject_noise == "activations":
        arguments["noise"] = functools.partial(ActivationNoise, settings.noise_stddev, settings.noise_decay or 0.0)
    if row.facts["batch_norm"]:
        for name in ("bn_span", "recalibrate_bn_batches"):
            del arguments[name]
        arguments["normalization"] = functools.partial(
            GhostBatchNormalization, span_of(settings), momentum=arguments.pop("bn_momentum")
        )
    return row.resolve()(
        image_shape=settings.image_shape, classes=registry.find("dataset", settings.dataset).facts["classes"],
        seed=settings.seed, **arguments,
    )


@contextlib.contextmanager
def _keras_as_settings_say(precision):
    """What Keras keeps for a whole process, or reads from ~/.keras/keras.json: a run on another machine is to be the same."""
    backend = keras.backend
    before = global_policy(), backend.floatx(), backend.image_data_format()

    def set_to(policy, floatx, image_data_format):
        backend.set_floatx(floatx)
        backend.set_image_data_format(image_data_format)
        set_global_policy(policy)

    set_to(precision, "float32", "channels_last")
    try:
        yield
    finally:
        set_to(*before)
