"""Loops over steps, and which steps begin an interval of a slow core."""

import tensorflow as tf
from keras import ops


def interval_phase(clock, is_first, mask, period):
    """How many steps of its interval lie before each step.

    Args:
        clock: int32 tensor `(batch,)`, steps of the present interval before
            the segment.
        is_first: boolean tensor `(batch, time)`: here an interval begins
            anyway. Only true where `mask` is.
        mask: boolean tensor `(batch, time)`, false at steps that do not count,
            or None.
        period: int, steps of an interval.

    Returns:
        Tuple of int32 tensors: the phase `(batch, time)`, 0 where an interval
        begins (at steps that do not count: that of the last one that did),
        and the clock after the segment, `(batch,)`.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.layers.intervals import interval_phase
    >>> is_first = np.array([[False, False, True, False, False]])
    >>> phase, clock = interval_phase(np.array([1]), is_first, None, period=2)
    >>> phase.numpy(), clock.numpy()
    (array([[1, 0, 0, 1, 0]], dtype=int32), array([1], dtype=int32))
    """
    is_first = ops.cast(is_first, "bool")
    if mask is None and is_first.shape[1] == 1:  # acting
        phase = ops.where(is_first, 0, ops.cast(clock, "int32")[:, None])
        return phase, (phase[:, 0] + 1) % period
    counted = ops.ones_like(is_first) if mask is None else mask
    number = ops.cumsum(ops.cast(counted, "int32"), axis=1) - 1
    start = -ops.cast(clock, "int32")[:, None]
    start = _running_maximum(ops.where(is_first, number, start))
    phase = (number - start) % period
    return phase, (phase[:, -1] + 1) % period


def _running_maximum(x):
    """The largest of the values so far, along the second axis."""

    # Each round looks twice as far back: log2(time) rounds.
    def look_back(reach, x):
        earlier = ops.concatenate([x[:, :reach], x[:, :-reach]], axis=1)
        return 2 * reach, ops.maximum(x, earlier)

    if x.shape[1] is None:
        return ops.while_loop(
            lambda reach, x: reach < ops.shape(x)[1], look_back, (1, x)
        )[1]
    reach = 1
    while reach < x.shape[1]:
        reach, x = look_back(reach, x)
    return x


def over_steps(step, carry, xs, shapes, count=None):
    """Runs a function step by step: `carry, ys = step(carry, xs[t])`.

    A single step runs without a loop. (`keras.ops.scan` wants outputs like
    the carry and knows no number of steps that is found at run time.)

    Args:
        step: function of a list of tensors and a list of `(batch, ...)` that
            returns two such lists.
        carry: list of tensors.
        xs: list of tensors `(time, batch, ...)`.
        shapes: list of the shapes of `ys`, one step each.
        count: int32 tensor, at most `time`: how many steps to run. What lies
            beyond is 0. None for all.

    Returns:
        Tuple of the last carry and the list of `ys`, `(time, batch, ...)`.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.layers.intervals import over_steps
    >>> (total,), (sums,) = over_steps(
    ...     lambda carry, xs: ([carry[0] + xs[0]], [carry[0] + xs[0]]),
    ...     [np.zeros(1, "float32")], [np.ones((3, 1), "float32")], [(1,)])
    >>> sums.numpy().ravel()
    array([1., 2., 3.], dtype=float32)
    """
    xs = [ops.convert_to_tensor(x) for x in xs]
    if xs[0].shape[0] == 1 and count is None:
        carry, ys = step(carry, [x[0] for x in xs])
        return carry, [y[None] for y in ys]
    time = ops.shape(xs[0])[0]
    count = time if count is None else count
    carry = [ops.convert_to_tensor(x) for x in carry]
    read = [tf.TensorArray(x.dtype, time).unstack(x) for x in xs]
    float_type = next(x.dtype for x in carry if x.dtype.is_floating)
    write = [
        tf.TensorArray(float_type, time, element_shape=shape)
        for shape in shapes
    ]

    def body(t, carry, write):
        carry, ys = step(list(carry), [array.read(t) for array in read])
        write = [array.write(t, y) for array, y in zip(write, ys)]
        return t + 1, carry, write

    _, carry, write = tf.while_loop(
        lambda t, *_: t < count,
        body,
        (0, carry, write),
        maximum_iterations=time,
    )
    static = xs[0].shape[0]
    return carry, [
        tf.ensure_shape(array.stack(), (static, *shape))
        for array, shape in zip(write, shapes)
    ]
