import functools

import keras

from keras_sparse_rl.layers.powerprop_kernels import PowerpropKernels


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropMultiHeadAttention(
    PowerpropKernels, keras.layers.MultiHeadAttention
):
    """`keras.layers.MultiHeadAttention` with sparse-ready projections.

    The kernels of queries, keys, values and the output are
    `theta * |theta|**(alpha - 1)` under a mask; see "Powerpropagation" by
    Schwarz et al. 2021 (https://arxiv.org/abs/2110.00296), equation 1, and
    `PowerpropDense`. With `alpha=1` this is Keras' layer exactly.

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
        sparse_kernels: list of `SparseKernel`, each with `theta`, `mask` and
            `value()`, the effective kernel.

    Returns:
        As `keras.layers.MultiHeadAttention`.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1.

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

    def build(self, query_shape, value_shape, key_shape=None):
        super().build(query_shape, value_shape, key_shape)
        self.adopt_kernels([self])

    # Keras reads from the signature which masks to hand on.
    @functools.wraps(keras.layers.MultiHeadAttention.call)
    def call(self, *args, training=None, **kwargs):
        with self.effective_kernels(training):
            return super().call(*args, training=training, **kwargs)
