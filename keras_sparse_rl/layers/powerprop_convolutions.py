"""Powerprop convolutions, in one to three dimensions."""

import keras

from keras_sparse_rl.layers.powerprop_layer import EffectiveAttribute
from keras_sparse_rl.layers.powerprop_layer import PowerpropLayer


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropConv1D(PowerpropLayer, keras.layers.Conv1D):
    """`keras.layers.Conv1D` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        filters: int, number of output channels.
        kernel_size: int or tuple of int.
        args, kwargs: as in `keras.layers.Conv1D`; what is said of kernels
            acts on the effective ones.
        alpha: float, the exponent, at least 1.

    Call arguments:
        inputs: tensor `(batch, time, channels)`, or channels
            first.
        training: bool, optional.

    Attributes:
        theta: trained variable, shaped as `kernel`.
        kernel: tensor, effective and masked.
        mask: `uint8` variable of that shape; see `sparsity.masks`.

    Returns:
        Tensor of the rank of the inputs.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropConv1D
    >>> layer = PowerpropConv1D(4, 3, padding="same", alpha=2.0)
    >>> layer(keras.ops.ones((2, 9, 3))).shape
    TensorShape([2, 9, 4])
    """

    kernel = EffectiveAttribute("kernel")


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropConv2D(PowerpropLayer, keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        filters: int, number of output channels.
        kernel_size: int or tuple of int.
        args, kwargs: as in `keras.layers.Conv2D`; what is said of kernels
            acts on the effective ones.
        alpha: float, the exponent, at least 1.

    Call arguments:
        inputs: tensor `(batch, height, width, channels)`, or channels
            first.
        training: bool, optional.

    Attributes:
        theta: trained variable, shaped as `kernel`.
        kernel: tensor, effective and masked.
        mask: `uint8` variable of that shape; see `sparsity.masks`.

    Returns:
        Tensor of the rank of the inputs.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropConv2D
    >>> layer = PowerpropConv2D(4, 3, padding="same", alpha=2.0)
    >>> layer(keras.ops.ones((2, 8, 8, 3))).shape
    TensorShape([2, 8, 8, 4])
    """

    kernel = EffectiveAttribute("kernel")


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropConv3D(PowerpropLayer, keras.layers.Conv3D):
    """`keras.layers.Conv3D` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        filters: int, number of output channels.
        kernel_size: int or tuple of int.
        args, kwargs: as in `keras.layers.Conv3D`; what is said of kernels
            acts on the effective ones.
        alpha: float, the exponent, at least 1.

    Call arguments:
        inputs: tensor `(batch, depth, height, width, channels)`, or channels
            first.
        training: bool, optional.

    Attributes:
        theta: trained variable, shaped as `kernel`.
        kernel: tensor, effective and masked.
        mask: `uint8` variable of that shape; see `sparsity.masks`.

    Returns:
        Tensor of the rank of the inputs.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropConv3D
    >>> layer = PowerpropConv3D(4, 3, padding="same", alpha=2.0)
    >>> layer(keras.ops.ones((2, 5, 5, 5, 3))).shape
    TensorShape([2, 5, 5, 5, 4])
    """

    kernel = EffectiveAttribute("kernel")


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropConv1DTranspose(PowerpropLayer, keras.layers.Conv1DTranspose):
    """`keras.layers.Conv1DTranspose` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        filters: int, number of output channels.
        kernel_size: int or tuple of int.
        args, kwargs: as in `keras.layers.Conv1DTranspose`; what is said of
            kernels acts on the effective ones.
        alpha: float, the exponent, at least 1.

    Call arguments:
        inputs: tensor `(batch, time, channels)`, or channels
            first.
        training: bool, optional.

    Attributes:
        theta: trained variable, shaped as `kernel`.
        kernel: tensor, effective and masked.
        mask: `uint8` variable of that shape; see `sparsity.masks`.

    Returns:
        Tensor of the rank of the inputs.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropConv1DTranspose
    >>> layer = PowerpropConv1DTranspose(4, 3, padding="same", alpha=2.0)
    >>> layer(keras.ops.ones((2, 9, 3))).shape
    TensorShape([2, 9, 4])
    """

    kernel = EffectiveAttribute("kernel")


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropConv2DTranspose(PowerpropLayer, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        filters: int, number of output channels.
        kernel_size: int or tuple of int.
        args, kwargs: as in `keras.layers.Conv2DTranspose`; what is said of
            kernels acts on the effective ones.
        alpha: float, the exponent, at least 1.

    Call arguments:
        inputs: tensor `(batch, height, width, channels)`, or channels
            first.
        training: bool, optional.

    Attributes:
        theta: trained variable, shaped as `kernel`.
        kernel: tensor, effective and masked.
        mask: `uint8` variable of that shape; see `sparsity.masks`.

    Returns:
        Tensor of the rank of the inputs.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropConv2DTranspose
    >>> layer = PowerpropConv2DTranspose(4, 3, padding="same", alpha=2.0)
    >>> layer(keras.ops.ones((2, 8, 8, 3))).shape
    TensorShape([2, 8, 8, 4])
    """

    kernel = EffectiveAttribute("kernel")


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropConv3DTranspose(PowerpropLayer, keras.layers.Conv3DTranspose):
    """`keras.layers.Conv3DTranspose` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        filters: int, number of output channels.
        kernel_size: int or tuple of int.
        args, kwargs: as in `keras.layers.Conv3DTranspose`; what is said of
            kernels acts on the effective ones.
        alpha: float, the exponent, at least 1.

    Call arguments:
        inputs: tensor `(batch, depth, height, width, channels)`, or channels
            first.
        training: bool, optional.

    Attributes:
        theta: trained variable, shaped as `kernel`.
        kernel: tensor, effective and masked.
        mask: `uint8` variable of that shape; see `sparsity.masks`.

    Returns:
        Tensor of the rank of the inputs.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropConv3DTranspose
    >>> layer = PowerpropConv3DTranspose(4, 3, padding="same", alpha=2.0)
    >>> layer(keras.ops.ones((2, 5, 5, 5, 3))).shape
    TensorShape([2, 5, 5, 5, 4])
    """

    kernel = EffectiveAttribute("kernel")
