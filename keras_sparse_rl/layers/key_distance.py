"""How far keys are from queries: squared Euclidean distance, or 1 - cosine."""

import keras
from keras import ops


def nearness(queries, keys, squares, filled, metric):
    """Orders keys as their distance does, at the cost of one product.

    Args:
        queries: tensor `(batch, n, key_dim)`.
        keys: tensor `(batch, capacity, key_dim)`.
        squares: tensor `(batch, capacity)`, the keys' squared lengths.
        filled: boolean tensor `(batch, capacity)`, where there is a key.
        metric: `"euclidean"` or `"cosine"`.

    Returns:
        Tensor `(batch, n, capacity)`, larger for nearer keys and -inf where
        there is none. No gradient flows through it.
    """
    queries, keys, squares = map(ops.stop_gradient, (queries, keys, squares))
    if keys.shape[0] == 1:  # twice as fast as a batch of one product
        products = ops.matmul(queries[0], ops.transpose(keys[0]))[None]
    else:
        products = ops.matmul(queries, ops.swapaxes(keys, 1, 2))
    offset = ops.zeros_like(squares)
    if metric == "euclidean":
        offset = -0.5 * squares
    else:
        tiny = keras.config.epsilon() ** 2
        lengths = ops.sqrt(ops.maximum(squares, tiny))
        products /= ops.expand_dims(lengths, 1)
    offset = ops.where(filled, offset, -float("inf"))
    return products + ops.expand_dims(offset, 1)


def distance(queries, keys, metric):
    """Distances, from the differences themselves.

    Args:
        queries: tensor `(batch, ..., key_dim)`.
        keys: tensor `(batch, ..., k, key_dim)`, k of them for each query.
        metric: `"euclidean"` or `"cosine"`.

    Returns:
        Tensor `(batch, ..., k)`, at least 0.
    """
    queries = queries[..., None, :]
    if metric == "euclidean":
        return ops.sum(ops.square(queries - keys), axis=-1)
    queries, keys = (ops.normalize(x, axis=-1) for x in (queries, keys))
    return ops.maximum(1 - ops.sum(queries * keys, axis=-1), 0)
