"""What TensorFlow does by ways of its own: one pass over memory, graphs.

On the other backends these functions do what is usual there.
"""

import contextlib

import keras
import numpy as np
from keras import ops

IS_TENSORFLOW = keras.backend.backend() == "tensorflow"

if IS_TENSORFLOW:
    import tensorflow as tf

# Below this size starting a compiled kernel costs more than it saves.
_SMALLEST_FUSED_SIZE = 2**16
# Numbers that pass through `map_in_place` in one go.
_AT_ONCE = 2**14


def fused(function, tensor):
    """Compiles an element-wise `function` with XLA where that pays.

    Without `jit_compile=True` TensorFlow runs every product and every mask of
    a kernel as a pass over memory of its own, which costs as much as the
    matrix product itself. Only inside a graph (a compiled function made in
    an eager loop would be traced again at every call), for kernels that are
    large enough, and not under a distribution strategy.

    Args:
        function: function of tensors, element-wise and without side effects
            on Python state.
        tensor: tensor or variable whose size decides.

    Returns:
        `function`, or a compiled function of the same arguments.
    """
    if (
        not IS_TENSORFLOW
        or tf.executing_eagerly()
        or tf.distribute.has_strategy()
    ):
        return function
    size = tensor.shape.num_elements()
    if size is None or size < _SMALLEST_FUSED_SIZE:
        return function
    return tf.function(function, jit_compile=True, autograph=False)


def as_tensor(x):
    """A tensor of a variable's value, or of whatever a tensor is made of."""
    if IS_TENSORFLOW:
        return tf.convert_to_tensor(x)  # Keras' own leaves a tf.Variable one
    return ops.convert_to_tensor(x)


def lifted():
    """Context in which variables are assigned outside of any graph."""
    return tf.init_scope() if IS_TENSORFLOW else contextlib.nullcontext()


def map_in_place(function, variable):
    """Applies a function to every number of a variable, where it is.

    To assign would put the values into new memory and leave a hole: over the
    kernels of a large model that is a second copy of them. Here it takes one
    array of the variable's size for a moment.

    Args:
        function: function of a one-dimensional array to one of its shape.
        variable: Keras variable.
    """
    inner = variable.value
    if not _can_stay(inner):
        values = np.array(ops.convert_to_numpy(variable))
        _map_parts(function, values)
        variable.assign(values)
        return
    values = _aligned_copy(np.asarray(inner.read_value()))  # a view, copied
    # TensorFlow copies what it takes from NumPy, twice; this it shares.
    shared = tf.experimental.dlpack.from_dlpack(values.__dlpack__())
    inner.assign_sub(shared)  # exactly 0
    _map_parts(function, values)
    inner.assign_add(shared)


def _can_stay(inner):
    """Whether a variable's values can go out of and into its memory."""
    if not IS_TENSORFLOW or isinstance(inner, tf.distribute.DistributedValues):
        return False
    if inner.dtype not in (tf.float16, tf.float32, tf.float64):
        return False  # NumPy does not share it
    values = np.asarray(inner.read_value())
    # What is not finite is not 0 less itself.
    return bool(np.isfinite([values.min(), values.max()]).all())


def _map_parts(function, values):
    flat = values.reshape(-1)
    for first in range(0, flat.size, _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        flat[part] = function(flat[part])


def _aligned_copy(array):
    """A copy at an address that TensorFlow takes as it is."""
    room = np.empty(array.size + 64 // array.itemsize, array.dtype)
    skip = -room.ctypes.data % 64 // array.itemsize
    copy = room[skip : skip + array.size].reshape(array.shape)
    copy[...] = array
    return copy
