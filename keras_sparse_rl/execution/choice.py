"""Where sparse products can run, and where they pay."""

import functools
import time

import numpy as np
import tensorflow as tf

from keras_sparse_rl.execution.sparse_layout import SparseLayout
from keras_sparse_rl.execution.sparse_matmul import sparse_matmul
from keras_sparse_rl.execution.sparse_matmul import transpose
from keras_sparse_rl.execution.sparse_ops import load_sparse_ops

_TURNS = 7


def can_run_sparse(dtype):
    """Whether layers that compute in `dtype` may use the sparse ops.

    Args:
        dtype: str, name of a dtype.
    """
    if dtype not in ("float32", "bfloat16", "float16"):
        return False
    if tf.config.list_logical_devices("GPU"):
        _say_once_gpu()
        return False
    with tf.init_scope():
        return load_sparse_ops() is not None


@functools.cache
def _say_once_gpu():
    tf.get_logger().warning(
        "Sparse layers run as masked dense products on a GPU: the sparse ops "
        "are for CPUs. Hide the GPU (CUDA_VISIBLE_DEVICES=) to use them."
    )


@functools.cache
def is_sparse_faster(num_inputs, num_outputs, density, batch_size=128):
    """Measures one forward and backward pass of a layer both ways.

    Args:
        num_inputs: int.
        num_outputs: int.
        density: float in (0, 1], of the forward set; twice that is trained.
        batch_size: int.

    Returns:
        bool, whether the sparse products took less time.
    """
    if not can_run_sparse("float32"):
        return False
    with tf.init_scope():
        generator = np.random.default_rng(0)
        scores = generator.random((num_inputs, num_outputs), "float32")
        trained = scores < 2 * density
        capacity = max(1, np.count_nonzero(trained))
        layout = SparseLayout.from_masks(scores < density, trained, capacity)
        layout = SparseLayout(
            **{k: tf.constant(v) for k, v in vars(layout).items()}
        )
        values = tf.ones(capacity)
        x = tf.constant(generator.random((batch_size, num_inputs), "float32"))
        dense = tf.constant(scores)

        def run_sparse(x):
            return transpose(sparse_matmul(transpose(x), values, layout))

        def run_dense(x):
            return tf.matmul(x, dense)

        return _seconds(run_sparse, x, values) < _seconds(run_dense, x, dense)


def _seconds(function, x, weight):
    def step():
        with tf.GradientTape() as tape:
            tape.watch([x, weight])
            y = function(x)
        return tape.gradient(y, [x, weight])

    step()
    seconds = []
    for _ in range(_TURNS):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return min(seconds)
