"""Find a TPU, connect to it and make its strategy, or say in good time why not."""

import functools
import os
import threading

import tensorflow as tf

#: Seconds that finding, connecting and initialising may take together. TensorFlow itself would wait for minutes.
DEADLINE = 40.0

_REMEDY = (
    "start or name the right TPU (--tpu=NAME, --tpu=grpc://HOST:8470 or, on a TPU machine, --tpu=local), train on other "
    "devices (--strategy=one, or --strategy=mirrored --num_replicas=4), look at the run without training (--strategy=one "
    "--dry_run), or find out without a TPU whether one would hold it, and at what cost (python -m tf_hugebatch.plan_main "
    "--tpu=v3-8, or another slice, with the same flags)"
)


@functools.lru_cache(maxsize=1)
def tpu_strategy(tpu, deadline=DEADLINE):
    """TPUStrategy on the TPU that `tpu` names; one TPU a process, initialised once.

    Args:
        tpu: as TPUClusterResolver takes it: a name in this Google Cloud project and zone, an address
            ("grpc://host:8470"), "local" for the TPU of this machine, or None for the one that the environment names.
        deadline: seconds.

    Returns:
        tf.distribute.TPUStrategy.

    Raises:
        ValueError: nothing that is a TPU answered before the deadline; says what was tried, what came back, what to do.
    """
    attempt = _Attempt(tpu)
    attempt.start()
    attempt.join(deadline)
    if attempt.is_alive():
        raise ValueError(f"{_stated(tpu)}: no answer in {deadline:.0f} seconds ({attempt.doing}); {_REMEDY}.")
    if attempt.error is not None:
        raise ValueError(f"{_stated(tpu)}: {attempt.doing} failed ({_reason(attempt.error)}); {_REMEDY}.")
    return tf.distribute.TPUStrategy(attempt.resolver)


class _Attempt(threading.Thread):
    """Does it in a thread of its own, which is left behind when it hangs: nothing in TensorFlow takes a deadline."""

    def __init__(self, tpu):
        super().__init__(daemon=True, name="connect to TPU")
        self.tpu, self.resolver, self.error = tpu, None, None
        self.doing = "looking the name up (Google Cloud's metadata server and TPU API)"

    def run(self):
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=self.tpu)
            if self.tpu != "local":
                self.doing = f"connecting to {resolver.master() or 'the address that the environment names'}"
                tf.config.experimental_connect_to_cluster(resolver)
            self.doing = "initialising the TPU system"
            tf.tpu.experimental.initialize_tpu_system(resolver)
            self.resolver = resolver
        except Exception as error:  # whatever the cloud, the network or the runtime say: all of it means no TPU
            self.error = error


def _stated(tpu):
    if tpu is not None:
        return f"--tpu={tpu}"
    named = [f"{name}={os.environ[name]}" for name in ("TPU_NAME", "COLAB_TPU_ADDR") if os.environ.get(name)]
    return f"--strategy=tpu without --tpu ({', '.join(named) or 'the environment names no TPU either'})"


def _reason(error):
    words = str(error).strip().splitlines()
    first = words[0] if words else ""
    if "ConfigureDistributedTPU" in first or "ConfigureDistributedTPU" in str(error) and "No OpKernel" in str(error):
        return "this machine has no TPU that TensorFlow can drive"
    return f"{type(error).__name__}: {first[:300]}"
