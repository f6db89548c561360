"""A loop over time whose state may be anything."""

import keras
import tensorflow as tf


def over_steps(step, inputs, state):
    """Runs a step after the other: `keras.ops.scan` for states of any kind.

    What Keras offers does not serve a memory: `keras.layers.RNN` casts every
    state to floats, `keras.ops.scan` wants outputs of the state's form, and
    XLA cannot differentiate it. Where a step takes part of the state as a
    constant (`stop_gradient`), nothing of that part is kept for the gradient.

    Args:
        step: function `(inputs of a step, state) -> (outputs, state)`.
        inputs: nest of tensors `(batch, time, ...)`.
        state: nest of tensors.

    Returns:
        Tuple of the nest of outputs `(batch, time, ...)` and the last state.

    Example:

    >>> import tensorflow as tf
    >>> from keras_sparse_rl.layers.over_steps import over_steps
    >>> sums, last = over_steps(
    ...     lambda x, s: (s + x, s + x), tf.ones((1, 3)), tf.zeros((1,)))
    >>> sums.numpy()
    array([[1., 2., 3.]], dtype=float32)
    """
    inputs = keras.tree.map_structure(_swap_batch_and_time, inputs)
    state = keras.tree.map_structure(tf.convert_to_tensor, state)
    first = keras.tree.flatten(inputs)[0]
    known = first.shape[0]

    length = tf.shape(first)[0] if known is None else known
    # Read from arrays: the gradient of `x[i]` is as large as all of `x`.
    rows = [
        tf.TensorArray(x.dtype, length).unstack(x)
        for x in keras.tree.flatten(inputs)
    ]

    def at(i):
        return keras.tree.pack_sequence_as(
            inputs, [row.read(i) for row in rows]
        )

    # The first step stands before the loop, and says what outputs are like.
    outputs, state = step(at(0), state)
    if known == 1:
        outputs = keras.tree.map_structure(lambda x: x[:, None], outputs)
        return outputs, state
    arrays = [
        tf.TensorArray(x.dtype, length, element_shape=x.shape).write(0, x)
        for x in keras.tree.flatten(outputs)
    ]

    def body(i, leaves, arrays):
        found, after = step(at(i), keras.tree.pack_sequence_as(state, leaves))
        arrays = [
            array.write(i, x)
            for array, x in zip(arrays, keras.tree.flatten(found))
        ]
        return i + 1, keras.tree.flatten(after), arrays

    _, leaves, arrays = tf.while_loop(
        lambda i, *_: i < length,
        body,
        (1, keras.tree.flatten(state), arrays),
        parallel_iterations=1,
        # XLA's gradient needs to know it.
        maximum_iterations=None if known is None else known - 1,
    )
    stacked = [_swap_batch_and_time(array.stack()) for array in arrays]
    return (
        keras.tree.pack_sequence_as(outputs, stacked),
        keras.tree.pack_sequence_as(state, leaves),
    )


def _swap_batch_and_time(x):
    return tf.transpose(x, [1, 0, *range(2, len(x.shape))])
