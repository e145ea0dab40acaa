"""What each of two workers does in tests/training/test_workers.py: some small runs, one after the other.

    TF_CONFIG=... python tests/reference/worker_scenes.py FOLDER

Run folders are FOLDER/<scene>; worker i leaves FOLDER/<scene>-<i>.npz with weights and moving statistics, and
FOLDER/said-<i>.json with what the stopped and the refused ones said.
"""

import json
import os
import pathlib
import sys

import numpy as np
import pytest
from reference.interruptions import after, terminate

import tf_hugebatch as hb

#: Scene -> settings. Batches are divisible by nothing; evaluation's last round is padded.
SCENES = {
    # Dropout; micro-batches that leave padding on one worker.
    "lenet": dict(dataset="mnist5k", model="lenet", optimizer="lars", trust_coefficient=1.0, peak_learning_rate=0.03,
                  batch_size=50, micro_batch_size=7, train_steps=4, label_smoothing=0.1, eval_batch_size=300),
    # Batch norm whose groups lie across the workers.
    "resnet": dict(dataset="synthetic", dataset_size=(96, 50), image_size=8, model="resnet9", optimizer="sgd",
                   peak_learning_rate=0.01, batch_size=23, micro_batch_size=6, bn_span=12, train_steps=3,
                   warmup_epochs=0, eval_batch_size=8, eval_every_epochs=0.5),
    # Long enough to be killed in the middle.
    "long": dict(dataset="mnist5k", model="lenet5", batch_size=64, micro_batch_size=32, train_steps=200, steps_per_loop=2,
                 checkpoint_every_steps=10, eval_every_epochs=100),
}
AUTO = dict(dataset="mnist5k", model="lenet5", batch_size=64, train_steps=2, evaluate_test=False, validation_examples=20)


def train(scene, run_dir, **changes):
    """The Result of a scene's run."""
    return hb.train(hb.Settings(**{**SCENES[scene], **changes}, run_dir=str(run_dir)))


def state(result):
    """Weights and moving statistics by path; not the seed that Keras' dropout would draw by, another in each process."""
    return {variable.path: variable.numpy() for variable in result.model.variables if variable.dtype == "float32"}


def main(folder):
    """All scenes, as the worker that TF_CONFIG names."""
    index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    for scene in SCENES:
        np.savez(folder / f"{scene}-{index}.npz", **state(train(scene, folder / scene, strategy="multiworker")))

    # Memory differs: the smaller micro-batch serves both.
    from tf_hugebatch.training import assemble

    assemble.choose_micro_batch_size = lambda *_: (8 if index else 16, "as measured here")
    hb.train(hb.Settings(**AUTO, strategy="multiworker", run_dir=str(folder / "auto")))

    # A signal to worker 1 stops both; whoever sees another checkpoint than the chief does not train on; both go on.
    with pytest.MonkeyPatch.context() as patch:
        if index:
            after(patch, 2, terminate)
        results = [train("lenet", folder / "stopped", strategy="multiworker", steps_per_loop=1)]
    refusals = [refusal("lenet", folder / ("elsewhere" if index else "stopped"))]
    results.append(train("lenet", folder / "stopped", strategy="multiworker"))
    np.savez(folder / f"stopped-{index}.npz", **state(results[1]))
    refusals.append(refusal("lenet", folder / "seeds", seed=index))
    (folder / f"said-{index}.json").write_text(json.dumps({
        "refusals": refusals, "exit codes": [result.exit_code for result in results], "reason": results[0].reason}))


def refusal(scene, run_dir, **changes):
    """The problems with which a run was refused."""
    try:
        return train(scene, run_dir, strategy="multiworker", **changes).status
    except hb.Refusal as refused:
        return refused.problems


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
    os._exit(0)  # as the programs leave: TensorFlow can hang on its way out of a cluster
