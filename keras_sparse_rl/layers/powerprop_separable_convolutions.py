"""Powerprop convolutions that treat channels apart."""

import keras

from keras_sparse_rl.layers.powerprop_layer import EffectiveAttribute
from keras_sparse_rl.layers.powerprop_layer import PowerpropLayer


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropSeparableConv1D(PowerpropLayer, keras.layers.SeparableConv1D):
    """`keras.layers.SeparableConv1D` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        filters: int, number of output channels.
        kernel_size: int or tuple of int.
        args, kwargs: as in `keras.layers.SeparableConv1D`; what is said of
            kernels acts on the effective ones.
        alpha: float, the exponent, at least 1.

    Call arguments:
        inputs: tensor `(batch, time, channels)`, or channels
            first.
        training: bool, optional.

    Attributes:
        sparse_kernels: list of two `Kernel`, `depthwise_kernel` and
            `pointwise_kernel`; attributes of these names are tensors,
            effective and masked.

    Returns:
        Tensor of the rank of the inputs.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropSeparableConv1D
    >>> layer = PowerpropSeparableConv1D(4, 3, padding="same", alpha=2.0)
    >>> layer(keras.ops.ones((2, 9, 3))).shape
    TensorShape([2, 9, 4])
    """

    depthwise_kernel = EffectiveAttribute("depthwise_kernel")
    pointwise_kernel = EffectiveAttribute("pointwise_kernel")


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropSeparableConv2D(PowerpropLayer, keras.layers.SeparableConv2D):
    """`keras.layers.SeparableConv2D` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        filters: int, number of output channels.
        kernel_size: int or tuple of int.
        args, kwargs: as in `keras.layers.SeparableConv2D`; what is said of
            kernels acts on the effective ones.
        alpha: float, the exponent, at least 1.

    Call arguments:
        inputs: tensor `(batch, height, width, channels)`, or channels
            first.
        training: bool, optional.

    Attributes:
        sparse_kernels: list of two `Kernel`, `depthwise_kernel` and
            `pointwise_kernel`; attributes of these names are tensors,
            effective and masked.

    Returns:
        Tensor of the rank of the inputs.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropSeparableConv2D
    >>> layer = PowerpropSeparableConv2D(4, 3, padding="same", alpha=2.0)
    >>> layer(keras.ops.ones((2, 8, 8, 3))).shape
    TensorShape([2, 8, 8, 4])
    """

    depthwise_kernel = EffectiveAttribute("depthwise_kernel")
    pointwise_kernel = EffectiveAttribute("pointwise_kernel")


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropDepthwiseConv1D(PowerpropLayer, keras.layers.DepthwiseConv1D):
    """`keras.layers.DepthwiseConv1D` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        kernel_size: int or tuple of int.
        args, kwargs: as in `keras.layers.DepthwiseConv1D`; what is said of
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
    >>> from keras_sparse_rl.layers import PowerpropDepthwiseConv1D
    >>> layer = PowerpropDepthwiseConv1D(3, padding="same", alpha=2.0)
    >>> layer(keras.ops.ones((2, 9, 3))).shape
    TensorShape([2, 9, 3])
    """

    kernel = EffectiveAttribute("kernel")


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropDepthwiseConv2D(PowerpropLayer, keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        kernel_size: int or tuple of int.
        args, kwargs: as in `keras.layers.DepthwiseConv2D`; what is said of
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
    >>> from keras_sparse_rl.layers import PowerpropDepthwiseConv2D
    >>> layer = PowerpropDepthwiseConv2D(3, padding="same", alpha=2.0)
    >>> layer(keras.ops.ones((2, 8, 8, 3))).shape
    TensorShape([2, 8, 8, 3])
    """

    kernel = EffectiveAttribute("kernel")
