"""One pass over memory for element-wise work on large kernels."""

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
    size = tensor.shape.num_elements()
    if (
        tf.executing_eagerly()
        or tf.distribute.has_strategy()
        or size is None
        or size < _SMALLEST_FUSED_SIZE
    ):
        return function
    return tf.function(function, jit_compile=True, autograph=False)
