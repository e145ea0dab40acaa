"""Eight logical CPU devices, set once before TensorFlow starts; every distributed test uses some of them."""

import contextlib
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the programs have it, whatever the processor
sys.path.insert(0, str(pathlib.Path(__file__).parent))

import pytest
from reference import fault_records
from reference.killed_runs import Server

LOGICAL_DEVICES = 8

with contextlib.suppress(ImportError):  # the add-ons lane has none
    import hypothesis

    # What an example may take by the clock says how busy the machine is, no more.
    hypothesis.settings.register_profile("no_deadline", deadline=None)
    hypothesis.settings.load_profile("no_deadline")


@pytest.fixture(scope="session", autouse=True)
def logical_devices():
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * LOGICAL_DEVICES)
    return tf.config.list_logical_devices("CPU")


@pytest.fixture
def mirrored(logical_devices):
    """mirrored(n): a MirroredStrategy over n logical devices.

    ReductionToOneDevice because a second collective MirroredStrategy in one process can fail.
    """
    import tensorflow as tf

    def make(replicas):
        return tf.distribute.MirroredStrategy(
            [f"CPU:{i}" for i in range(replicas)], cross_device_ops=tf.distribute.ReductionToOneDevice()
        )

    return make


@pytest.fixture(scope="session")
def job():
    """Runs in forks of one process that has imported everything: see reference/killed_runs.py."""
    with Server() as server:
        yield server


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Notes what tests of faults came to, where scripts/reliability.py asks for it."""
    outcome = yield
    fault_records.record(item, call, outcome.get_result())
