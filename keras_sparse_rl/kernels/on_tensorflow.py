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


def exchange(variable, old, new):
    """Sets a variable whose value is known, in the memory that it has.

    To assign would put it into new memory and leave a hole: over the kernels
    of a large model that is a second copy of them.

    Args:
        variable: Keras variable.
        old: array, its value, finite.
        new: array of the same shape.
    """
    inner = variable.value
    if (
        not IS_TENSORFLOW
        or isinstance(inner, tf.distribute.DistributedValues)
        or not np.isfinite(old).all()
    ):
        variable.assign(new)
        return
    inner.assign_sub(old)  # exactly 0
    inner.assign_add(new.astype(old.dtype, copy=False))
