"""What each of two workers does in tests/training/test_workers.py: some small runs, one after the other.

    TF_CONFIG=... python tests/reference/worker_scenes.py FOLDER short|dear

Run folders are FOLDER/<scene>; worker i leaves FOLDER/<scene>-<i>.npz with weights and moving statistics, and
FOLDER/said-<i>.json with what else it found.
"""

import json
import os
import pathlib
import sys

import numpy as np
import pytest
from reference import small_images
from reference.interruptions import after, terminate

import tf_hugebatch as hb

#: Scene -> settings. Batches are divisible by nothing; evaluation's last round is padded.
SHORT = {
    # Dropout; micro-batches that leave padding on one worker.
    "lenet": dict(dataset="mnist5k", model="lenet", optimizer="lars", trust_coefficient=1.0, peak_learning_rate=0.03,
                  batch_size=50, micro_batch_size=7, train_steps=4, label_smoothing=0.1, eval_batch_size=300),
    # Long enough to be killed in the middle.
    "long": dict(dataset="mnist5k", model="lenet5", batch_size=64, micro_batch_size=32, train_steps=120, steps_per_loop=2,
                 checkpoint_every_steps=10, eval_every_epochs=100),
}
DEAR = {
    # Batch norm whose groups lie across the workers; all that the chief writes.
    "resnet": dict(dataset="synthetic", dataset_size=(96, 50), image_size=8, model="resnet9", optimizer="sgd",
                   peak_learning_rate=0.01, batch_size=23, micro_batch_size=6, bn_span=12, train_steps=3,
                   warmup_epochs=0, eval_batch_size=8, eval_every_epochs=0.5, recalibrate_bn_batches=1, mllog=True,
                   profile_steps=(2, 2)),
    # The rate is absurd, and one rewind makes it an ordinary one.
    "rewind": dict(dataset="mnist5k", model="lenet5", optimizer="sgd", learning_rate=2.0**60, lr_scaling="none",
                   schedule="constant", warmup_steps=0, batch_size=64, micro_batch_size=16, train_steps=6,
                   on_divergence="rewind", rewind_factor=2.0**-63, checkpoint_every_steps=4),
}
#: Each host streams shards of its own, and the second finds a record that is no image.
STREAM = dict(dataset="imagenet2012", model="resnet18", image_size=32, batch_size=6, micro_batch_size=3, bn_span=6,
              train_steps=4, optimizer="sgd", peak_learning_rate=0.01, warmup_epochs=0, shuffle="shards",
              checkpoint_every_steps=2)
AUTO = dict(dataset="mnist5k", model="lenet5", batch_size=64, train_steps=2, evaluate_test=False, validation_examples=20)
SCENES = {**SHORT, **DEAR}


def train(scene, run_dir, **changes):
    """The Result of a scene's run."""
    return hb.train(hb.Settings(**{**SCENES[scene], **changes}, run_dir=str(run_dir)))


def state(result):
    """Weights and moving statistics by path; not the seed that Keras' dropout would draw by, another in each process."""
    return {variable.path: variable.numpy() for variable in result.model.variables if variable.dtype == "float32"}


def write_shards(root):
    """Twelve images in four training shards; the sixth, in the second worker's, is none."""
    records = [small_images.classic_record(label, small_images.encoded(label) if label != 5 else b"no image")
               for label in range(12)]
    small_images.write_shards(root, "train-{:05d}-of-{:05d}", records, shards=4)
    small_images.write_shards(root, "validation-{:05d}-of-{:05d}", records[:4])
    return root


class Worker:
    """One of the two, as TF_CONFIG names it; `said` is what it found."""

    def __init__(self, folder):
        self.folder, self.index, self.said = folder, json.loads(os.environ["TF_CONFIG"])["task"]["index"], {}

    def plays(self, scene, run_dir, **changes):
        """The Result of a scene's run by both workers."""
        return train(scene, self.folder / run_dir, strategy="multiworker", **changes)

    def leaves(self, name, result):
        np.savez(self.folder / f"{name}-{self.index}.npz", **state(result))

    def refusal(self, scene, run_dir, **changes):
        """The problems with which a run was refused."""
        try:
            return self.plays(scene, run_dir, **changes).status
        except hb.Refusal as refused:
            return refused.problems

    def short(self):
        """What the plain tests look at."""
        for scene in SHORT:
            self.leaves(scene, self.plays(scene, scene))
        # A signal to worker 1 stops both; whoever sees another checkpoint than the chief does not train on; both go on.
        with pytest.MonkeyPatch.context() as patch:
            if self.index:
                after(patch, 2, terminate)
            results = [self.plays("long", "stopped", steps_per_loop=1)]
        elsewhere = "elsewhere" if self.index else "stopped"
        refusals = [self.refusal("long", elsewhere)]
        results.append(self.plays("long", "stopped"))
        self.leaves("stopped", results[1])
        refusals.append(self.refusal("lenet", "seeds", seed=self.index))
        self.said |= {"refusals": refusals, "exit codes": [result.exit_code for result in results],
                      "reason": results[0].reason}
        self._asks_the_other()

    def _asks_the_other(self):
        from tf_hugebatch.cluster import cluster_of
        from tf_hugebatch.training.workers import Workers, multiworker_strategy

        cluster = cluster_of(hb.Settings(strategy="multiworker"))
        workers = Workers(multiworker_strategy(cluster), cluster)
        self.said |= {"unions": [workers.union([]), workers.union([2, 5] if self.index else [7]),
                                 workers.union([0] if self.index else [])]}

    def dear(self):
        """What the slow tests look at."""
        from tf_hugebatch.training import assemble, workers

        for scene in DEAR:
            self.leaves(scene, self.plays(scene, scene))
        # A file system that they don't share is found out at the start, not by the rewind.
        workers._SHOWS_WITHIN = 1.0
        self.said["refusals"] = [self.refusal("rewind", "not-seen" if self.index else "seen")]
        # Memory differs: the smaller micro-batch serves both.
        ordinary, asked = assemble.choose_micro_batch_size, []

        def choose(*given):
            asked.append(given[5])
            return 8 if self.index else 16, "as measured here"

        assemble.choose_micro_batch_size = choose
        hb.train(hb.Settings(**AUTO, strategy="multiworker", run_dir=str(self.folder / "auto")))
        assemble.choose_micro_batch_size = ordinary
        self.said["replicas that share"] = asked
        self._streams()

    def _streams(self):
        """A stream of shards, stopped and gone on with."""
        given = dict(STREAM, data_dir=str(self.folder / "shards"), strategy="multiworker")
        with pytest.MonkeyPatch.context() as patch:
            after(patch, 3, terminate)
            hb.train(hb.Settings(**given, steps_per_loop=1, run_dir=str(self.folder / "stream-stopped")))
        for name in ("stream", "stream-stopped"):
            self.leaves(name, hb.train(hb.Settings(**given, run_dir=str(self.folder / name))))


if __name__ == "__main__":
    worker = Worker(pathlib.Path(sys.argv[1]))
    getattr(worker, sys.argv[2])()
    (worker.folder / f"said-{worker.index}.json").write_text(json.dumps(worker.said))
    os._exit(0)  # as the programs leave: TensorFlow can hang on its way out of a cluster
