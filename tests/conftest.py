"""Two logical CPUs, so that replicas can be tested, and a seed a test."""

import gc
import os
import unittest.mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import pytest
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)


# Looking for garbage while graphs are traced is a tenth of all time. Not never:
# TensorFlow's data iterators take the longer to end the older they are.
gc.set_threshold(10_000, 10, 10)


@pytest.fixture(scope="module", autouse=True)
def collect_once_a_module():
    gc.collect()
    gc.freeze()  # nor look again through all that is imported


@pytest.fixture(autouse=True)
def fresh_session():
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)
    # Which collects garbage, for half a second in so large a process.
    with unittest.mock.patch("gc.collect"):
        keras.backend.clear_session()


@pytest.fixture
def two_replicas():
    # Collectives of several strategies in one process get in each other's way.
    return tf.distribute.MirroredStrategy(
        ["CPU:0", "CPU:1"], tf.distribute.ReductionToOneDevice()
    )
