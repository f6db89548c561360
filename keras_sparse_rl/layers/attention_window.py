"""Which steps a step may attend to, how far away they are, what is kept."""

import numpy as np
from keras import ops

# Numbers of episodes count up from 0. These belong to nobody's episode.
EMPTY_SLOT = -1
MASKED_STEP = -2


def sinusoids(distances, dim, dtype="float32"):
    """Encodes distances as sines and cosines (Vaswani et al. 2017).

    Args:
        distances: array or tensor `(count,)`, in steps. The codes of an array
            are a constant, those of a tensor are computed in the graph.
        dim: int, even, width of the code.
        dtype: str, type of the result.

    Returns:
        Array or tensor `(count, dim)`, sines first.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.layers.attention_window import sinusoids
    >>> sinusoids(np.array([0, 1]), 2).round(2)
    array([[0.  , 1.  ],
           [0.84, 0.54]], dtype=float32)
    """
    xp = np if isinstance(distances, np.ndarray) else ops
    rates = 10000.0 ** (-np.arange(0, dim, 2) / dim)
    # A distance of some hundred steps needs more than a half's 11 bits.
    precise = "float64" if dtype == "float64" else "float32"
    angles = ops.cast(distances, precise) if xp is ops else distances
    angles = angles[:, None] * rates.astype(precise)
    waves = xp.concatenate([xp.sin(angles), xp.cos(angles)], axis=-1)
    return ops.cast(waves, dtype) if xp is ops else waves.astype(dtype)


def skew(scores, num_memory, num_steps):
    """Moves scores by distance to the keys at that distance.

    Column `s` of `scores` belongs to the distance `S - 1 - s`; the key at
    that distance of the query `i` is the key `num_memory + i - (S - 1) + s`.
    Keys whose distance has no column get arbitrary scores.

    Args:
        scores: tensor `(batch, heads, num_steps, S)`.
        num_memory: int, number of keys before the first query's own.
        num_steps: int or scalar tensor, number of queries.

    Returns:
        Tensor `(batch, heads, num_steps, num_memory + num_steps)`.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.layers.attention_window import skew
    >>> scores = np.array([[2.0, 1.0, 0.0]] * 2).reshape(1, 1, 2, 3)
    >>> skew(scores, num_memory=2, num_steps=2)[0, 0].numpy()
    array([[2., 1., 0., 0.],
           [0., 2., 1., 0.]])
    """
    batch, heads, _, count = ops.shape(scores)
    padding = [[0, 0], [0, 0], [0, 0], [0, num_steps]]
    width = count + num_steps - 1
    flat = ops.reshape(
        ops.pad(scores, padding), (batch, heads, num_steps * (width + 1))
    )
    skewed = ops.reshape(
        flat[:, :, : num_steps * width], (batch, heads, num_steps, width)
    )
    start = count - 1 - num_memory
    return skewed[:, :, :, start : start + num_memory + num_steps]


def window_mask(num_memory, num_steps, window=None):
    """The keys in reach of each query: not ahead, at most `window` behind.

    Args:
        num_memory: int, number of keys before the first query's own.
        num_steps: int or scalar tensor, number of queries.
        window: int, optional, how many steps a query sees behind itself.

    Returns:
        Boolean tensor `(num_steps, num_memory + num_steps)`.

    Example:

    >>> from keras_sparse_rl.layers.attention_window import window_mask
    >>> window_mask(num_memory=2, num_steps=2, window=2).numpy()
    array([[ True,  True,  True, False],
           [False,  True,  True,  True]])
    """
    queries = num_memory + ops.arange(num_steps)
    distances = queries[:, None] - ops.arange(num_memory + num_steps)[None, :]
    mask = distances >= 0
    return mask if window is None else mask & (distances <= window)


def episode_numbers(num_steps, num_memory, length=None, is_first=None):
    """The number of the episode that every slot and every step belongs to.

    The memory belongs to episode 0, as do the steps before the first reset.

    Args:
        num_steps: int or scalar tensor, number of steps in the segment.
        num_memory: int, number of slots of the memory.
        length: int tensor `(batch,)`, how many slots are filled, counted from
            the latest; None if all are.
        is_first: tensor `(batch, num_steps)`, true where an episode begins.

    Returns:
        Tuple of int32 tensors, `(batch or 1, num_memory)` of the slots and
        `(batch or 1, num_steps)` of the steps.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.layers.attention_window import episode_numbers
    >>> slots, steps = episode_numbers(
    ...     3, 2, length=np.array([1]), is_first=np.array([[0, 1, 0]])
    ... )
    >>> slots.numpy(), steps.numpy()
    (array([[-1,  0]], dtype=int32), array([[0, 1, 1]], dtype=int32))
    """
    slots = ops.zeros((1, num_memory), "int32")
    if length is not None:
        age = num_memory - ops.arange(num_memory)
        filled = age[None, :] <= ops.cast(length, "int32")[:, None]
        slots = ops.where(filled, 0, EMPTY_SLOT)
    if is_first is None:
        steps = ops.zeros((1, num_steps), "int32")
    else:
        resets = ops.cast(ops.cast(is_first, "bool"), "int32")
        steps = ops.cumsum(resets, axis=1)
    return slots, steps


def episode_mask(slots, steps, mask=None):
    """The keys of each query's own episode, and always the query itself.

    Args:
        slots: int tensor `(batch or 1, num_memory)`, see `episode_numbers`.
        steps: int tensor `(batch or 1, num_steps)`.
        mask: boolean tensor `(batch, num_steps)`, optional: false for padded
            steps, which nothing may attend to.

    Returns:
        Boolean tensor `(batch or 1, num_steps, num_memory + num_steps)`.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.layers.attention_window import episode_mask
    >>> episode_mask(np.array([[0, 0]]), np.array([[0, 1]])).numpy()
    array([[[ True,  True,  True, False],
            [False, False, False,  True]]])
    """
    keys = _key_numbers(slots, steps, mask)
    own = ops.equal(steps[:, :, None], keys[:, None, :])
    if mask is None:
        return own
    return own | window_mask(slots.shape[1], ops.shape(steps)[1], 0)


def valid_steps_first(mask):
    """The order that moves padded steps behind the others.

    Args:
        mask: boolean tensor `(batch, num_steps)`, false for padded steps.

    Returns:
        Two int tensors `(batch, num_steps)`: the order, and the order that
        undoes it.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.layers.attention_window import valid_steps_first
    >>> order, back = valid_steps_first(np.array([[False, True, True]]))
    >>> order.numpy(), back.numpy()
    (array([[1, 2, 0]], dtype=int32), array([[2, 0, 1]], dtype=int32))
    """
    count = ops.shape(mask)[1]
    padded = ops.cast(ops.logical_not(mask), "int32")
    # All ranks differ, so the order among equals is kept.
    order = ops.argsort(padded * count + ops.arange(count), axis=1)
    return order, ops.argsort(order, axis=1)


def next_memory(memory, hidden, slots, steps, mask=None, current=None):
    """The latest steps of what was remembered and of what came.

    Args:
        memory: tensor `(batch, layers, num_memory, dim)`, oldest first.
        hidden: tensor `(batch, layers, num_steps, dim)`.
        slots: int tensor `(batch or 1, num_memory)`, see `episode_numbers`.
        steps: int tensor `(batch or 1, num_steps)`.
        mask: boolean tensor `(batch, num_steps)`, optional: false for padded
            steps, which are not remembered.
        current: int tensor `(batch or 1, 1)`, number of the episode that goes
            on; by default that of the last step.

    Returns:
        Tuple of the new memory, of the old one's shape, and of the int32
        tensor `(batch,)` of the number of its slots that belong to the
        episode that goes on.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.layers.attention_window import next_memory
    >>> memory, hidden = np.ones((1, 1, 2, 1)), np.full((1, 1, 1, 1), 3.0)
    >>> memory, length = next_memory(
    ...     memory, hidden, slots=np.array([[0, 0]]), steps=np.array([[1]])
    ... )
    >>> memory[0, 0, :, 0].numpy(), length.numpy()
    (array([1., 3.]), array([1], dtype=int32))
    """
    num_memory = memory.shape[2]
    keys = _key_numbers(slots, steps, mask)
    current = ops.equal(keys, steps[:, -1:] if current is None else current)
    length = ops.minimum(
        ops.sum(ops.cast(current, "int32"), axis=1), num_memory
    )
    length = ops.broadcast_to(length, (ops.shape(memory)[0],))
    if mask is None:
        kept = memory[:, :, ops.shape(hidden)[2] :]
        latest = hidden[:, :, -num_memory:]
        return ops.concatenate([kept, latest], axis=2), length
    # The slots of the current episode must stand together at the end.
    count = ops.shape(keys)[1]
    rank = ops.arange(count) + count * ops.cast(current, "int32")
    order = ops.argsort(rank, axis=1)[:, -num_memory:]
    every = ops.concatenate([memory, hidden], axis=2)
    return ops.take_along_axis(every, order[:, None, :, None], axis=2), length


def _key_numbers(slots, steps, mask):
    """Episode numbers of slots and steps side by side."""
    if mask is not None:
        steps = ops.where(mask, steps, MASKED_STEP)
    if slots.shape[0] != steps.shape[0]:
        batch = ops.maximum(ops.shape(slots)[0], ops.shape(steps)[0])
        slots = ops.broadcast_to(slots, (batch, slots.shape[1]))
        steps = ops.broadcast_to(steps, (batch, ops.shape(steps)[1]))
    return ops.concatenate([slots, steps], axis=1)
