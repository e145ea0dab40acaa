"""Six updates of LeNet-5 on images made here, of which mnist5k has as many, and what their run folder holds."""

import functools
import json

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tf_hugebatch as hb
from tf_hugebatch.data.splits import Examples, Splits

UPDATES, BATCH, TRAIN = 6, 64, 4000
EVERY_TWO_UPDATES = 2 * BATCH / TRAIN  # in epochs


def examples(n, seed):
    generator = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int32) % 10
    patterns = np.random.default_rng(1).integers(0, 200, (10, 28, 28, 1))
    images = patterns[labels] + generator.integers(0, 56, (n, 28, 28, 1))
    return Examples(images.astype(np.uint8), labels)


@functools.cache
def splits(validation=0):
    held_out = examples(50, 3) if validation else None
    return Splits(examples(TRAIN - validation, 2), held_out, examples(60, 4))


def settings(run_dir, **changes):
    given = {
        "dataset": "mnist5k", "model": "lenet5", "optimizer": "sgd", "batch_size": BATCH,
        "micro_batch_size": 32, "train_steps": UPDATES, "warmup_steps": 2, "schedule": "polynomial",
        "eval_batch_size": 25, "eval_every_epochs": EVERY_TWO_UPDATES, "checkpoint_every_steps": 2,
        "run_dir": str(run_dir),
    }
    return hb.Settings(**{**given, **changes})


def train(run_dir, **changes):
    resolved = settings(run_dir, **changes)
    data = splits(resolved.validation_examples)
    return hb.train(resolved, splits=data, command_line=["mnist_main", "--word"])


def weights(result):
    return [variable.numpy() for variable in result.model.trainable_variables]


def same_bits(a, b):
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def text_of(run_dir, name):
    return (run_dir / name).read_text()


def strict_json(text):
    """JSON as other languages read it: no NaN, no Infinity."""
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")
    return json.loads(text, parse_constant=refuse)


def status_of(run_dir):
    return strict_json(text_of(run_dir, "status.json"))


def rows_of(run_dir):
    rows = [strict_json(line) for line in text_of(run_dir, "metrics.jsonl").splitlines()]
    return ([row for row in rows if row["kind"] == "train"], [row for row in rows if row["kind"] == "eval"])


def tensorboard_of(run_dir):
    """{tag: [(step, value)]} of every scalar."""
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
