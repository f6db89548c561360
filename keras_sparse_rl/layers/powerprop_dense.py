"""Powerprop layers of one matrix: dense ones and tables."""

import keras

from keras_sparse_rl.layers.powerprop_layer import EffectiveAttribute
from keras_sparse_rl.layers.powerprop_layer import PowerpropLayer


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropDense(PowerpropLayer, keras.layers.Dense):
    """`keras.layers.Dense` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        units: int, dimensionality of the output.
        args, kwargs: as in `keras.layers.Dense`; what is said of the
            kernel acts on the effective one.
        alpha: float, the exponent, at least 1.

    Call arguments:
        inputs: tensor `(batch, ..., features)`.
        training: bool, optional.

    Attributes:
        theta: trained variable, shaped as `kernel`.
        kernel: tensor, effective and masked, `(features, units)`.
        mask: `uint8` variable of that shape; see `sparsity.masks`.

    Returns:
        Tensor `(batch, ..., units)`.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> layer = PowerpropDense(8, alpha=3.0, activation="relu")
    >>> layer(keras.ops.ones((2, 4))).shape
    TensorShape([2, 8])
    """

    kernel = EffectiveAttribute("kernel")


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropEinsumDense(PowerpropLayer, keras.layers.EinsumDense):
    """`keras.layers.EinsumDense` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        equation: str, such as `"abc,cd->abd"`.
        output_shape: tuple of int, without the batch.
        args, kwargs: as in `keras.layers.EinsumDense`; what is said of the
            kernel acts on the effective one.
        alpha: float, the exponent, at least 1.

    Call arguments:
        inputs: tensor shaped as the first term of `equation`.
        training: bool, optional.

    Attributes:
        theta: trained variable, shaped as `kernel`.
        kernel: tensor, effective and masked, shaped as the second term.
        mask: `uint8` variable of that shape; see `sparsity.masks`.

    Returns:
        Tensor shaped as the output term of `equation`.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropEinsumDense
    >>> layer = PowerpropEinsumDense("abc,cd->abd", (None, 5), alpha=2.0)
    >>> layer(keras.ops.ones((2, 3, 4))).shape
    TensorShape([2, 3, 5])
    """

    kernel = EffectiveAttribute("kernel")


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropEmbedding(PowerpropLayer, keras.layers.Embedding):
    """`keras.layers.Embedding` whose table is sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        input_dim: int, number of entries.
        output_dim: int, width of each.
        args, kwargs: as in `keras.layers.Embedding`; `weights` and what is
            said of the embeddings act on the effective table.
        alpha: float, the exponent, at least 1.

    Call arguments:
        inputs: tensor of ints `(batch, ...)`, each below `input_dim`.
        training: bool, optional.

    Attributes:
        theta: trained variable, shaped as `kernel`.
        kernel: tensor, effective and masked,
            `(input_dim, output_dim)`; `embeddings` is the same.
        mask: `uint8` variable of that shape; see `sparsity.masks`.

    Returns:
        Tensor `(batch, ..., output_dim)`.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropEmbedding
    >>> layer = PowerpropEmbedding(100, 8, alpha=2.0)
    >>> layer(keras.ops.array([[1, 2, 3]])).shape
    TensorShape([1, 3, 8])
    """

    embeddings = EffectiveAttribute("embeddings")

    @property
    def kernel(self):
        """The effective, masked table, as `embeddings`."""
        return self.embeddings

    def set_weights(self, weights):
        """Sets all variables; of one array alone the effective table.

        That is how Keras' constructor hands `weights` on.
        """
        if len(weights) == 1:
            self.sparse_kernel.assign_weight(weights[0])
        else:
            super().set_weights(weights)
