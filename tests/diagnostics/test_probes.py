"""Diagnostics on the step: what they tell agrees with twins made from weights, and training doesn't feel them."""

import collections
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference.small_runs import contract_examples, contract_model, run_updates

import tf_hugebatch as hb
from tf_hugebatch import optimizers, registry, replica
from tf_hugebatch.data.order import Stream
from tf_hugebatch.data.padding import training_micro_batches
from tf_hugebatch.keras_versions import variable_path
from tf_hugebatch.layout import Layout
from tf_hugebatch.training.accumulate import micro_batch_sums
from tf_hugebatch.training.step import METRICS, Step

ALL = tuple(name for name, row in registry.DIAGNOSTICS.items() if row.facts["at"] == "updates")
BATCH, SPAN = 48, 8


class Watched:
    """Single updates of the contract model with diagnostics on, and the weights around each."""

    def __init__(self, strategy, micro, measured=ALL, optimizer="lars", kind=Step, **arguments):
        layout = Layout(BATCH, micro, strategy.num_replicas_in_sync, SPAN)
        with strategy.scope():
            model = contract_model(SPAN)
            built = optimizers.get(optimizer, **{"learning_rate": 2.0, **arguments})
        self.step = kind(strategy=strategy, model=model, optimizer=built, layout=layout, measured=measured)
        self.optimizer, self.variables = built, model.trainable_variables
        examples = contract_examples()
        dataset = training_micro_batches(examples, Stream(0, len(examples.labels)), layout, 0, 9)
        self._iterator = iter(strategy.distribute_datasets_from_function(lambda context: dataset))

    def weights(self):
        return [variable.numpy() for variable in self.variables]

    def update(self):
        """{(kind, name): number, or list by variable} of one update."""
        [row] = self.step(self._iterator, 1)
        found = dict(zip(METRICS, row))
        for column, value in zip(self.step.probes.columns, row[len(METRICS):], strict=True):
            if column.path is None:
                found[column.name] = value
            else:
                found.setdefault(column.name, {})[column.path] = value
        return found


def norms_of(arrays):
    return [float(np.linalg.norm(array.astype(np.float64))) for array in arrays]


def test_trust_and_diffusion_are_the_norms_of_the_weights_around_each_update():
    watched = Watched(tf.distribute.OneDeviceStrategy("CPU:0"), 16, weight_decay=1e-3)
    paths, start = [variable_path(v) for v in watched.variables], watched.weights()
    for _ in range(4):
        before = watched.weights()
        found = watched.update()
        after = watched.weights()
        assert list(found["weight_norms"]) == paths
        np.testing.assert_allclose(list(found["weight_norms"].values()), norms_of(before), rtol=1e-5)
        steps = norms_of([new - old for old, new in zip(before, after)])
        np.testing.assert_allclose(list(found["update_norms"].values()), steps, rtol=1e-4, atol=1e-7)
        assert found["update_norm"] == pytest.approx(np.linalg.norm(steps), rel=1e-4)
        assert found["grad_norm"] == pytest.approx(np.linalg.norm(list(found["gradient_norms"].values())), rel=1e-5)
        assert found["trust_ratios"] == pytest.approx(watched.optimizer.trust_ratios())
        travelled = norms_of([new - first for new, first in zip(after, start)])
        np.testing.assert_allclose(list(found["distances"].values()), travelled, rtol=1e-4, atol=1e-7)
        assert found["distance_from_start"] == pytest.approx(np.linalg.norm(travelled), rel=1e-5)
    assert found["distance_from_start"] > found["update_norm"] > 0


def one_row(strategy, model, optimizer, measured):
    """{name of a column: {path: number}} of one update of a model of 4 numbers, and the norms of its weights before."""
    step = Step(strategy=strategy, model=model, optimizer=optimizer, layout=Layout(4, 4), measured=measured)
    images = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    batch = {"image": images, "label": np.array([0, 1, 0, 1], np.int32), "position": np.arange(4),
             "weight": np.ones(4, np.float32)}
    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    before, found = norms_of([v.numpy() for v in model.trainable_variables]), {}
    [row] = step(iter(strategy.distribute_datasets_from_function(lambda context: dataset)), 1)
    for column, value in zip(step.probes.columns, row[len(METRICS):], strict=True):
        found.setdefault(column.name, {})[column.path] = value
    return found, before


def test_numbers_are_told_of_their_variables_whatever_the_order_in_which_the_optimizer_was_built():
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")])
        optimizer = optimizers.get("sgd_layerwise_bounded", learning_rate=0.1, trust_bounds=(0.0, 1e4))
        optimizer.build(list(reversed(model.trainable_variables)))
    start = [v.numpy() for v in model.trainable_variables]
    found, before = one_row(strategy, model, optimizer, ("trust", "diffusion"))
    paths = [variable_path(v) for v in model.trainable_variables]
    assert found["weight_norms"] == pytest.approx(dict(zip(paths, before)))
    assert found["trust_ratios"] == pytest.approx(optimizer.trust_ratios())
    moved = norms_of([v.numpy() - old for v, old in zip(model.trainable_variables, start)])
    for name in ("update_norms", "distances"):
        assert list(found[name]) == paths
        np.testing.assert_allclose(list(found[name].values()), moved, rtol=1e-4)


def test_variables_of_one_path_have_numbers_of_their_own():
    class Twins(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = keras.layers.Dense(4, name="hidden"), keras.layers.Dense(2, name="hidden")

        def call(self, inputs):
            return self.second(self.first(inputs))

    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        model = Twins()
        model(np.zeros((2, 4), np.float32))
        optimizer = optimizers.get("lars", learning_rate=0.1)
    found, before = one_row(strategy, model, optimizer, ("trust",))
    assert len(found["weight_norms"]) == 4
    assert list(found["weight_norms"].values()) == pytest.approx(before)
    assert found["trust_ratios"] == pytest.approx(optimizer.trust_ratios())


@pytest.mark.parametrize("bounds, hit", [((1e3, 1e4), -1), ((0.0, 1e-4), 1), ((0.0, 1e4), 0), ((0.5, 0.5), 1)])
def test_a_ratio_held_at_a_bound_is_told_for_variables_that_have_one(bounds, hit):
    watched = Watched(tf.distribute.OneDeviceStrategy("CPU:0"), 48, ("trust",), "sgd_layerwise_bounded",
                      learning_rate=1e-3, trust_bounds=bounds, momentum=0.0)
    found = watched.update()
    assert {path: found["bound_hits"][path] for path in ("contract/hidden/kernel", "contract/logits/kernel")} \
        == {"contract/hidden/kernel": hit, "contract/logits/kernel": hit}
    assert found["bound_hits"]["contract/hidden/bias"] == 0  # excluded from adaptation
    if hit:
        assert found["trust_ratios"]["contract/hidden/kernel"] == pytest.approx(bounds[0] if hit < 0 else bounds[1])


@pytest.mark.parametrize("bounds, stands_in", [((1e-6, 1.0), 1.0), ((1e-6, 0.5), 0.5), ((2.0, 10.0), 2.0)])
def test_the_ratio_that_stands_in_for_a_zero_weight_hits_no_bound(bounds, stands_in):
    watched = Watched(tf.distribute.OneDeviceStrategy("CPU:0"), 48, ("trust",), "sgd_layerwise_bounded",
                      learning_rate=1e-3, trust_bounds=bounds, momentum=0.0, exclude_from_adaptation=())
    found = watched.update()
    assert found["weight_norms"]["contract/hidden/bias"] == 0
    assert found["trust_ratios"]["contract/hidden/bias"] == stands_in
    assert found["bound_hits"]["contract/hidden/bias"] == 0


def test_bounds_that_tighten_are_told_where_they_are_now():
    watched = Watched(tf.distribute.OneDeviceStrategy("CPU:0"), 48, ("trust",), "sgd_layerwise_bounded", momentum=0.0,
                      learning_rate=1e-3, trust_bounds=(0.0, 1e-4), trust_bounds_schedule="adabound", trust_bounds_rate=0.5)
    for update in (1, 2, 3):
        found = watched.update()
        assert found["trust_ratios"]["contract/hidden/kernel"] == pytest.approx(1e-4 * (1 + 1 / (0.5 * update)))
        assert found["bound_hits"]["contract/hidden/kernel"] == 1


@pytest.mark.parametrize("replicas, micro", [(1, 16), (2, 8)])
def test_an_update_is_the_same_to_the_bit_with_every_diagnostic_on(replicas, micro, mirrored):
    def strategy():
        return mirrored(replicas) if replicas > 1 else tf.distribute.OneDeviceStrategy("CPU:0")

    plain = run_updates(strategy(), batch=BATCH, micro=micro, span=SPAN, updates=3)
    with_all = run_updates(strategy(), batch=BATCH, micro=micro, span=SPAN, updates=3, measured=ALL)
    for path, weight in plain.weights.items():
        np.testing.assert_array_equal(weight, with_all.weights[path])
    assert plain.metrics == with_all.metrics


class NoHooks:
    """What stands in the place of a run's probes in a step that was never made for any."""

    columns, sums = (), ()

    def __bool__(self):
        return False

    def around(self, gradients, variables, sums, update):
        return update(), None


class StepWithoutHooks(Step):
    def accumulate(self, micro_batch, first):
        view = replica.View(layout=self.layout, positions=micro_batch["position"], weights=micro_batch["weight"],
                            update=self._updates_done(), seed=self.seed, all_reduce_sum=self._all_reduce_sum)
        *sums, _ = micro_batch_sums(self.model, view, micro_batch["image"], micro_batch["label"], 0.0)
        self._sums.add(first, *sums, [])


def operations(watched):
    """How often each operation stands in the step's graph."""
    graph = watched.step._run.get_concrete_function(watched._iterator, tf.TensorSpec([], tf.int32)).graph.as_graph_def()
    return collections.Counter(node.op for nodes in (graph.node, *(function.node_def for function in graph.library.function))
                               for node in nodes)


def test_without_a_diagnostic_the_step_has_not_one_operation_more_than_without_the_hooks(monkeypatch):
    off = operations(Watched(tf.distribute.OneDeviceStrategy("CPU:0"), 16, ()))
    with_one = operations(Watched(tf.distribute.OneDeviceStrategy("CPU:0"), 16, ("trust",)))
    monkeypatch.setattr("tf_hugebatch.diagnostics.make", lambda *names, **parts: NoHooks())
    bare = operations(Watched(tf.distribute.OneDeviceStrategy("CPU:0"), 16, (), kind=StepWithoutHooks))
    assert off == bare
    assert off.total() < with_one.total()


def test_trust_ratios_and_norms_are_those_that_the_optimizer_has_and_are_not_computed_again():
    counted = [operations(Watched(tf.distribute.OneDeviceStrategy("CPU:0"), 16, measured)) for measured in ((), ("trust",))]
    assert counted[0]["L2Loss"] == counted[1]["L2Loss"] > 0
    assert counted[0]["Sub"] == counted[1]["Sub"]


def test_what_they_tell_does_not_depend_on_replicas(mirrored):
    one = Watched(tf.distribute.OneDeviceStrategy("CPU:0"), 8)
    two = Watched(mirrored(2), 8)
    for _ in range(2):
        found, other = one.update(), two.update()
        for name in ("distance_from_start", "gradient_power", "gradient_variance", "noise_scale"):
            assert found[name] == pytest.approx(other[name], rel=1e-4), name
        for name in ("trust_ratios", "update_norms", "gradient_norms", "distances"):
            for path, value in found[name].items():
                assert value == pytest.approx(other[name][path], rel=1e-4, abs=1e-6), (name, path)


# Runs.


def run_of(folder, **given):
    return hb.train(hb.Settings(**{
        "dataset": "mnist5k", "model": "lenet5", "batch_size": 400, "micro_batch_size": 200, "train_steps": 4,
        "optimizer": "lars", "run_dir": str(folder), "eval_every_epochs": 100, "checkpoint_every_steps": 2,
        "diagnostics": "trust,diffusion,noise_scale", **given}))


def rows_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diagnostics") / "run"
    assert run_of(folder).exit_code == 0
    return folder


def test_a_run_writes_them_into_metrics_and_tensorboard(finished):
    run = hb.load_runs(str(finished))[0]
    assert run.damaged == 0
    train = run.train_rows
    assert [row["step"] for row in train] == [1, 2, 3, 4]
    assert all(row[name] is not None for row in train
               for name in ("distance_from_start", "gradient_power", "gradient_variance", "noise_scale"))
    for kind, names in (("trust", {"trust_ratios", "weight_norms", "gradient_norms", "update_norms", "bound_hits"}),
                        ("diffusion", {"distances"})):
        rows = run.diagnostic_rows(kind)
        assert [row["step"] for row in rows] == [1, 2, 3, 4]
        assert all(set(row) == {"kind", "step", "epoch", *names} for row in rows)
        assert all(len(row[name]) == 10 for row in rows for name in names)
    events = [path for path in (finished / "tensorboard").iterdir() if "events" in path.name]
    tags = {value.tag for path in events for event in tf.compat.v1.train.summary_iterator(str(path))
            for value in event.summary.value}
    assert {"train/distance_from_start", "train/noise_scale"} <= tags
    assert any(tag.startswith("trust/trust_ratios/") for tag in tags)
    assert any(tag.startswith("diffusion/distances/") for tag in tags)


def test_a_resumed_run_measures_from_the_same_start(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps({**status, "status": "interrupted", "step": 2}))
    newest = max((folder / "checkpoints").iterdir(), key=lambda path: path.name)
    for path in (folder / "checkpoints").iterdir():
        if path.name == newest.name:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = [row for row in rows_of(folder) if row["kind"] != "eval"]
    assert run_of(folder).exit_code == 0
    after = [row for row in rows_of(folder) if row["kind"] != "eval"]
    assert after == before


def test_noise_needs_two_micro_batches(tmp_path):
    with pytest.raises(hb.Refusal, match="--diagnostics=noise_scale.*one micro-batch.*--micro_batch_size"):
        run_of(tmp_path / "run", micro_batch_size=400, diagnostics="noise_scale")
    assert not (tmp_path / "run").exists()


def test_fixed_trust_ratios_that_fit_no_variable_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(hb.Refusal, match=r"--fixed_trust_ratios: .*conv1/kernel \(0\).*no adapted variable: conv9"):
        run_of(tmp_path / "run", fixed_trust_ratios="conv9=0.1")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("value", ["trst", "trust,nothing"])
def test_an_unknown_diagnostic_is_named_with_those_there_are(value):
    with pytest.raises(hb.Refusal, match="diagnostics.*unknown.*trust, diffusion, noise_scale"):
        hb.Settings(dataset="mnist5k", diagnostics=value)
