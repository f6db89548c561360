"""Powerprop attention."""

import keras

from keras_sparse_rl.layers.powerprop_layer import PowerpropLayer


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropMultiHeadAttention(
    PowerpropLayer, keras.layers.MultiHeadAttention
):
    """`keras.layers.MultiHeadAttention` with sparse-ready projections.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        num_heads: int, number of attention heads.
        key_dim: int, width of each head for queries and keys.
        args, kwargs: as in `keras.layers.MultiHeadAttention`; what is said
            of the kernels acts on the effective ones.
        alpha: float, the exponent, at least 1.

    Call arguments:
        query: tensor `(batch, time, features)`.
        value: tensor `(batch, other time, features)`.
        key, masks, training and more: as in
            `keras.layers.MultiHeadAttention`.

    Attributes:
        sparse_kernels: list of four `Kernel`, of queries, keys, values and
            the output.

    Returns:
        As `keras.layers.MultiHeadAttention`.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropMultiHeadAttention
    >>> layer = PowerpropMultiHeadAttention(2, 4, alpha=2.0)
    >>> x = keras.ops.ones((1, 5, 8))
    >>> layer(x, x).shape
    TensorShape([1, 5, 8])
    >>> [kernel.name for kernel in layer.sparse_kernels]
    ['query_kernel', 'key_kernel', 'value_kernel', 'attention_output_kernel']
    """


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropGroupQueryAttention(
    PowerpropLayer, keras.layers.GroupQueryAttention
):
    """`keras.layers.GroupQueryAttention` with sparse-ready projections.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        head_dim: int, width of each head.
        num_query_heads: int, heads of the queries.
        num_key_value_heads: int, heads of keys and values, which divides
            it.
        args, kwargs: as in `keras.layers.GroupQueryAttention`; what is
            said of the kernels acts on the effective ones.
        alpha: float, the exponent, at least 1.

    Call arguments:
        query: tensor `(batch, time, features)`.
        value: tensor `(batch, other time, features)`.
        key, masks, training and more: as in
            `keras.layers.GroupQueryAttention`.

    Attributes:
        sparse_kernels: list of four `Kernel`, of queries, keys, values and
            the output.

    Returns:
        As `keras.layers.GroupQueryAttention`.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropGroupQueryAttention
    >>> layer = PowerpropGroupQueryAttention(4, 4, 2, alpha=2.0)
    >>> x = keras.ops.ones((1, 5, 8))
    >>> layer(x, x).shape
    TensorShape([1, 5, 8])
    """
