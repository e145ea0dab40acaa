"""Logical CPU devices: replicas where there is no accelerator. They are made before TensorFlow starts, or not at all."""

import tensorflow as tf


def reserve(settings):
    """Makes the devices that `settings` asks for, before something (reading a TFRecord is enough) starts TensorFlow."""
    count = settings.num_replicas
    if count and settings.strategy in ("auto", "mirrored") and not tf.config.list_physical_devices("GPU"):
        logical_cpus(count)


def logical_cpus(count):
    """Names of `count` logical CPU devices, which are made if they are not there.

    Raises:
        ValueError: there are fewer and TensorFlow has already started.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    configured = tf.config.get_logical_device_configuration(cpu)
    if configured is None or len(configured) < count:
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        except RuntimeError as error:
            raise ValueError(
                f"num_replicas={count} but TensorFlow has already started with "
                f"{len(tf.config.list_logical_devices('CPU'))} logical CPU device(s) in this process; set the number "
                f"before its first operation, or start a new process."
            ) from error
    return [f"CPU:{i}" for i in range(count)]
