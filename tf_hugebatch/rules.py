"""What settings must satisfy together. None of the rules looks at data.

Each yields (setting at fault, settings it builds on, problem). A problem states value, reason and remedy; it
isn't worth telling when a setting that it builds on has failed by itself.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

from tf_hugebatch import registry
from tf_hugebatch.fields import FIELDS
from tf_hugebatch.levels import ROW_NAMES, Merged
from tf_hugebatch.parsers import LARGEST, pair

Found = tuple[str, tuple[str, ...], str]
# 90 epochs of ImageNet at batch 1 are 115 million; at full batch an update is an epoch, and epochs are int32.
MOST_UPDATES = 500_000_000
# What the number of updates is made from.
_DURATION = ("dataset", "batch_size", "validation_examples", "epochs", "train_steps", "regime_adaptation")


def _shown(value) -> str:
    if isinstance(value, tuple):
        return ",".join(pair(part) if isinstance(part, tuple) else str(part) for part in value)
    return str(value)


def _takers(table, name: str) -> str:
    return ", ".join(row.name for row in table.values() if name in row.flags)


def not_taken(merged: Merged) -> Iterator[Found]:
    """Settings of rows that weren't chosen: refused when the user gave them, blank otherwise."""
    values = merged.values
    for kind, table in registry.TABLES.items():
        row = table[values[kind]]
        for name in ROW_NAMES[kind]:
            if name in row.flags:
                continue
            value, level = merged.given.get(name, (None, ""))
            if value is not None:
                lacks = " (it has no batch norm)" if kind == "model" and not row.facts["batch_norm"] else ""
                yield name, (kind,), (
                    f"--{name}={_shown(value)} ({level}): {kind} {row.name} does not take it{lacks}; drop it, or "
                    f"choose one that does: {_takers(table, name)}")
            values[name] = None
            merged.sources[name] = f"not taken by {row.name}"
    preset, optimizer = values["optimizer_preset"], values["optimizer"]
    if preset is not None and preset not in registry.PRESETS.get(optimizer, {}):
        holders = [name for name, presets in registry.PRESETS.items() if preset in presets]
        yield "optimizer_preset", ("optimizer",), (
            f"--optimizer_preset={preset}: optimizer {optimizer} has no such preset; drop it, or choose "
            f"--optimizer={' or '.join(holders)}")
    placements = registry.OPTIMIZERS[optimizer].facts.get("epsilon_placement", ())
    if values["epsilon_placement"] is not None and values["epsilon_placement"] not in placements:
        yield "epsilon_placement", ("optimizer",), (
            f"--epsilon_placement={values['epsilon_placement']}: optimizer {optimizer} knows only "
            f"{', '.join(placements)}; choose one of them")
    if values["nesterov"] and not values["momentum"]:
        yield "nesterov", ("optimizer", "momentum"), (
            f"--nesterov=True with --momentum={values['momentum']}: there is no momentum to look ahead with; give one")
    if values["grafting"] == "sgd":
        for name, neutral in (("trust_coefficient", 1.0), ("exclude_from_adaptation", None)):
            if values[name] != neutral:
                yield name, ("optimizer", "grafting"), (
                    f"--{name}={_shown(values[name])} with --grafting=sgd: there is no trust ratio for it to act on; drop it, "
                    "or give --grafting=lars")
    if values["grafting"] is not None and not values["epsilon"]:
        yield "epsilon", ("optimizer",), (
            f"--epsilon={values['epsilon']:g}: factors that lack a direction have no inverse root without a floor; give more "
            "than 0")


def bounds(merged: Merged) -> Iterator[Found]:
    """AdaBound's bounds need bounds to tighten from."""
    values = merged.values
    if values["trust_bounds_schedule"] == "adabound" and values["trust_bounds"] is None:
        yield "trust_bounds_schedule", ("optimizer", "trust_bounds"), (
            "--trust_bounds_schedule=adabound with --trust_bounds=none: there are no bounds to tighten; give --trust_bounds")


def noise(merged: Merged) -> Iterator[Found]:
    """Noise has a kind and a size."""
    values = merged.values
    kind, stddev, decay = (values[name] for name in ("inject_noise", "noise_stddev", "noise_decay"))
    if kind is not None and stddev is None:
        yield "inject_noise", ("noise_stddev",), f"--inject_noise={kind}: how much is not said; give --noise_stddev"
    for name, value in (("noise_stddev", stddev), ("noise_decay", decay)):
        if kind is None and value:
            yield name, ("inject_noise",), (
                f"--{name}={value:g} ({merged.sources[name]}): without --inject_noise there is no noise; drop it, or give the "
                "kind of noise")


def data(merged: Merged) -> Iterator[Found]:
    """The split and where the files are. Runs before `batch`, which needs a training set."""
    values = merged.values
    row = registry.DATASETS[values["dataset"]]
    examples = (values["dataset_size"] or (row.facts["train_examples"],))[0]
    if values["validation_examples"] >= examples:
        yield "validation_examples", ("dataset",), (
            f"--validation_examples={values['validation_examples']}: {row.name} has {examples:,} training "
            "examples and some must be left to train on; give fewer")
        values["validation_examples"] = 0
    folder = values["data_dir"]
    if folder is not None and row.facts["embedded"]:
        yield "data_dir", ("dataset",), (
            f"--data_dir={folder}: {row.name} brings its images along and reads no folder; drop it, or choose another dataset")
    elif folder is not None and "://" in folder:
        pass  # a bucket: only TensorFlow's file system can look, when the data are loaded
    elif folder is not None and not os.path.exists(folder):
        yield "data_dir", (), (
            f"--data_dir={folder}: there is no such folder; name the one that holds the data")
    elif folder is not None and not os.path.isdir(folder):
        yield "data_dir", (), (
            f"--data_dir={folder}: that is a file; name the folder that holds it, "
            f"{os.path.dirname(folder) or os.curdir}")
    if values["shuffle"] == "shards" and not row.facts.get("shards"):
        yield "shuffle", ("dataset",), f"--shuffle=shards: {row.name} does not come in shards; drop it"
    elif values["shuffle"] == "shards":
        if values["validation_examples"]:
            yield "validation_examples", ("shuffle",), (
                f"--validation_examples={values['validation_examples']} with --shuffle=shards: a stream of shards can't leave "
                "out single examples; give another --shuffle, or hold none out (a sweep: --select_on_test=true)")
        for name in values["diagnostics"]:
            if registry.DIAGNOSTICS[name].facts["at"] == "evaluations":
                yield "diagnostics", ("shuffle",), (
                    f"--diagnostics={name} with --shuffle=shards: it looks at single training examples, which a stream of "
                    "shards can't fetch; drop it, or give another --shuffle")
    smallest = registry.MODELS[values["model"]].facts.get("smallest_image", 0)
    if values["image_size"] is not None and values["image_size"] < smallest:
        yield "image_size", ("dataset", "model"), (
            f"--image_size={values['image_size']}: {values['model']} halves its images until nothing would be left; give "
            f"at least {smallest}")
    if values["model"] not in row.facts["models"]:
        yield "model", ("dataset",), (
            f"--model={values['model']}: it does not fit {row.name}; choose one of {', '.join(row.facts['models'])}")


def batch(merged: Merged, train_examples: int) -> Iterator[Found]:
    """Sizes against the training set after the split."""
    values = merged.values
    size = values["batch_size"]
    if size > train_examples:
        larger = [name for name, row in registry.DATASETS.items()
                  if row.facts["train_examples"] >= size and row.facts["models"] ==
                  registry.DATASETS[values["dataset"]].facts["models"]]
        instead = "".join(f", or --dataset={name}" for name in larger if name != values["dataset"])
        yield "batch_size", ("dataset", "batch_size", "validation_examples", "regime"), (
            f"--batch_size={size} ({merged.sources['batch_size']}): {values['dataset']} has only "
            f"{train_examples:,} training examples after the split; give at most that, or --batch_size=full{instead}")
    has_batch_norm = registry.MODELS[values["model"]].facts["batch_norm"]
    if values["norm"] == "local" and values["micro_batch_size"] == "auto":
        yield "norm", ("micro_batch_size",), (
            "--norm=local: each replica's micro-batch is its batch-norm group, so its size must be stated; "
            "give --micro_batch_size a number")
    if values["norm"] == "local" and not has_batch_norm:
        yield "norm", ("model",), (
            f"--norm=local: model {values['model']} has no batch norm; drop it")
    elif values["norm"] == "local":
        if merged.given.get("bn_span", (None,))[0] is not None:
            yield "bn_span", ("norm",), (
                f"--bn_span={merged.given['bn_span'][0]} with --norm=local: each replica's micro-batch is its group "
                "then; drop one of the two")
        values["bn_span"], merged.sources["bn_span"] = None, "excluded by norm=local"


def growth(merged: Merged, stages, train_examples: int, total: int) -> Iterator[Found]:
    """A batch that grows: at most to the training set, before the run ends, and where one number is not asked for."""
    values = merged.values
    if not values["batch_growth"]:
        return
    shown = _shown(values["batch_growth"])
    if merged.given.get("bn_span", (None,))[0] == "full":
        yield "batch_growth", ("bn_span",), (
            f"--batch_growth={shown} with --bn_span=full: the span of a full batch would stay the first one's while the batch "
            "grows; give --bn_span a number")
    builds_on = ("batch_growth", *_DURATION)
    largest = stages[-1].batch_size
    if largest > train_examples:
        yield "batch_growth", builds_on, (
            f"--batch_growth={shown}: the batch would grow from {values['batch_size']:,} to {largest:,}, and there are "
            f"{train_examples:,} training examples after the split; grow less, or begin with a smaller --batch_size")
    late = next((stage for stage in stages if stage.update >= total), None)
    if late is not None:
        yield "batch_growth", builds_on, (
            f"--batch_growth={shown}: the batch of {late.batch_size:,} would begin after {late.update:,} updates, and the run "
            f"has {total:,}; grow earlier, or train longer")
    if values["norm"] == "local":
        yield "batch_growth", ("norm",), (
            f"--batch_growth={shown} with --norm=local: batch-norm groups would be cut otherwise in every stage; give "
            "--norm=span")
    if values["mllog"]:
        yield "batch_growth", ("mllog",), (
            f"--batch_growth={shown} with --mllog=true: MLPerf's log knows one global batch; drop one of the two")


def drops(merged: Merged, stages, total: int, warmup: int) -> Iterator[Found]:
    """A rate that drops does so before the run ends, and not only within a warm-up."""
    values, source = merged.values, merged.sources["rate_drops"]
    late = [epoch for epoch, _ in values["rate_drops"] or () if stages.whole_updates(epoch) >= total]
    # A row's own are a recipe of 90 epochs, which a shorter run may leave early; that none comes is no decay at all.
    own = source.startswith("schedule") or values["rate_drops"] == registry.SCHEDULES["steps"].settings["rate_drops"]
    if late and (not own or len(late) == len(values["rate_drops"])):
        yield "rate_drops", ("rate_drops", "schedule", *_DURATION), (
            f"--rate_drops={_shown(values['rate_drops'])} ({source}): the run ends with epoch "
            f"{float(stages.epoch(total)):.4g}, before epoch {late[0]:.10g} begins; drop earlier, or train longer")
    last = stages.whole_updates(values["rate_drops"][-1][0]) if values["rate_drops"] else warmup
    if values["decay_from"] == "start" and warmup > last:
        yield "rate_drops", ("rate_drops", "schedule", "decay_from", "warmup_epochs", "warmup_steps", *_DURATION), (
            f"--rate_drops={_shown(values['rate_drops'])} ({source}): counted from the start (--decay_from) the last is after "
            f"{last} updates, in a warm-up of {warmup}; drop later, warm up less, or --decay_from=warmup_end")


def layout(merged: Merged) -> Iterator[Found]:
    """Devices. A TPU that is named decides the strategy."""
    values = merged.values
    if values["tpu"] is not None and values["strategy"] != "tpu":
        if values["strategy"] != "auto":
            yield "tpu", ("strategy",), (
                f"--tpu={values['tpu']} with --strategy={values['strategy']}: strategy tpu drives a TPU; drop one of the two")
        values["strategy"], merged.sources["strategy"] = "tpu", "implied by tpu"
    if values["num_replicas"] is not None and values["strategy"] == "tpu":
        yield "num_replicas", ("strategy",), (
            f"--num_replicas={values['num_replicas']}: a TPU has as many replicas as cores; drop it")
    if values["num_replicas"] is not None and values["strategy"] == "multiworker":
        yield "num_replicas", ("strategy",), (
            f"--num_replicas={values['num_replicas']}: strategy multiworker has one replica for each GPU of each worker, or "
            "one for each worker without a GPU; drop it, and name more workers in TF_CONFIG")
    if values["num_replicas"] is not None and values["strategy"] == "one":
        yield "num_replicas", ("strategy",), (
            f"--num_replicas={values['num_replicas']}: strategy one has no use for it; drop it, or give --strategy=mirrored")


def reporting(merged: Merged) -> Iterator[Found]:
    """What is evaluated, what a rewind goes back to, and what an MLPerf log needs."""
    values = merged.values
    if values["on_divergence"] == "rewind":
        if values["checkpoint_every_steps"] == "auto":
            yield "on_divergence", ("checkpoint_every_steps",), (
                "--on_divergence=rewind with --checkpoint_every_steps=auto: checkpoints by the clock lie elsewhere in every "
                "run, and so would what a rewind goes back to; give --checkpoint_every_steps a number")
        if values["mllog"]:
            yield "on_divergence", ("mllog",), (
                "--on_divergence=rewind with --mllog=true: MLPerf's log can't go back; drop one of the two")
    else:
        for name in ("rewind_factor", "rewinds"):
            if values[name] != FIELDS[name].default:
                yield name, ("on_divergence",), (
                    f"--{name}={values[name]:g} ({merged.sources[name]}): without --on_divergence=rewind nothing goes back; "
                    "drop it")
    if not values["evaluate_test"] and not values["validation_examples"]:
        yield "evaluate_test", ("validation_examples",), (
            "--evaluate_test=false without --validation_examples: nothing would be evaluated; hold some out, or drop it")
    if not values["mllog"]:
        return
    if values["validation_examples"]:
        yield "mllog", ("validation_examples",), (
            f"--mllog=true with --validation_examples={values['validation_examples']}: MLPerf's log holds the test accuracy of "
            "every evaluation, which such a run (each trial of a sweep is one) reads once; drop one of the two")
    if not registry.DATASETS[values["dataset"]].facts.get("mlperf"):
        yield "mllog", ("dataset",), f"--mllog=true: MLPerf has no benchmark on {values['dataset']}; drop it"
    elif importlib.util.find_spec("mlperf_logging") is None:
        yield "mllog", (), (
            "--mllog=true: the package mlperf-logging writes the log and isn't installed; pip install 'tf_hugebatch[mlperf]'")


def duration(merged: Merged, total: int, warmup: int, peak: float) -> Iterator[Found]:
    """The run's length; warm-up, cycles, profile and rates against the run they belong to."""
    values, sources = merged.values, merged.sources
    if total > MOST_UPDATES:
        name, instead = ("epochs", ", or give a larger batch") if values["train_steps"] is None else ("train_steps", "")
        yield name, _DURATION, (
            f"--{name}={_shown(values[name])} ({sources[name]}): that makes more than {MOST_UPDATES:,} "
            f"updates, the most that a run counts; train less{instead}")
    if warmup > total:
        name = "warmup_steps" if values["warmup_steps"] is not None else "warmup_epochs"
        yield name, (*_DURATION, "warmup_epochs", "warmup_steps"), (
            f"--{name}={values[name]:g} ({sources[name]}): that is {warmup} updates, longer than the run of "
            f"{total}; warm up less or train longer")
    left = total if values["decay_from"] == "start" else total - warmup
    least = 2 if values["schedule"] == "cyclical" else 1  # a triangle that is seen at its feet alone has rate 0 for good
    if values["cycles"] is not None and least * values["cycles"] > max(left, 1):
        yield "cycles", (*_DURATION, "warmup_epochs", "warmup_steps", "decay_from", "schedule"), (
            f"--cycles={values['cycles']} ({sources['cycles']}): only {left} updates follow the warm-up and "
            f"a cycle of {values['schedule']} takes at least {least}; give fewer cycles or train longer")
    if values["profile_steps"] is not None and values["profile_steps"][1] > total:
        yield "profile_steps", _DURATION, (
            f"--profile_steps={_shown(values['profile_steps'])}: the run has only {total} updates; name some of 1 to {total}")
    rates = ("learning_rate", "peak_learning_rate", "lr_scaling", "optimizer", "batch_size", "dataset")
    end = values["end_learning_rate"]
    if end is not None and end > peak:
        yield "end_learning_rate", rates, (
            f"--end_learning_rate={end:g} ({sources['end_learning_rate']}): it is above the peak rate {peak:g}; give less")
    if peak > LARGEST:
        yield "learning_rate", rates, (f"--learning_rate={values['learning_rate']:g}: scaled to the batch "
                                       f"({values['lr_scaling']}) it is no finite number; give less")
