"""Powerprop layers with a loop over time."""

import keras

from keras_sparse_rl.layers.powerprop_layer import PowerpropLayer


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropLSTM(PowerpropLayer, keras.layers.LSTM):
    """`keras.layers.LSTM` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        units: int, dimensionality of the output.
        args, kwargs: as in `keras.layers.LSTM`; what is said of the
            kernels acts on the effective ones.
        alpha: float, the exponent, at least 1.

    Call arguments:
        sequences: tensor `(batch, time, features)`.
        initial_state, mask, training: as in `keras.layers.LSTM`.

    Attributes:
        sparse_kernels: list of two `Kernel`: `kernel`, of the inputs, and
            `recurrent_kernel`, computed once a call, not at every step.

    Returns:
        Tensor `(batch, units)`, or `(batch, time, units)` with
        `return_sequences=True`.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropLSTM
    >>> layer = PowerpropLSTM(8, return_sequences=True, alpha=2.0)
    >>> layer(keras.ops.ones((2, 5, 3))).shape
    TensorShape([2, 5, 8])
    >>> [kernel.shape for kernel in layer.sparse_kernels]
    [(3, 32), (8, 32)]
    """


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropGRU(PowerpropLayer, keras.layers.GRU):
    """`keras.layers.GRU` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        units: int, dimensionality of the output.
        args, kwargs: as in `keras.layers.GRU`; what is said of the kernels
            acts on the effective ones.
        alpha: float, the exponent, at least 1.

    Call arguments:
        sequences: tensor `(batch, time, features)`.
        initial_state, mask, training: as in `keras.layers.GRU`.

    Attributes:
        sparse_kernels: list of two `Kernel`: `kernel`, of the inputs, and
            `recurrent_kernel`, computed once a call, not at every step.

    Returns:
        Tensor `(batch, units)`, or `(batch, time, units)` with
        `return_sequences=True`.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropGRU
    >>> layer = PowerpropGRU(8, return_sequences=True, alpha=2.0)
    >>> layer(keras.ops.ones((2, 5, 3))).shape
    TensorShape([2, 5, 8])
    >>> [kernel.shape for kernel in layer.sparse_kernels]
    [(3, 24), (8, 24)]
    """


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropSimpleRNN(PowerpropLayer, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        units: int, dimensionality of the output.
        args, kwargs: as in `keras.layers.SimpleRNN`; what is said of the
            kernels acts on the effective ones.
        alpha: float, the exponent, at least 1.

    Call arguments:
        sequences: tensor `(batch, time, features)`.
        initial_state, mask, training: as in `keras.layers.SimpleRNN`.

    Attributes:
        sparse_kernels: list of two `Kernel`: `kernel`, of the inputs, and
            `recurrent_kernel`, computed once a call, not at every step.

    Returns:
        Tensor `(batch, units)`, or `(batch, time, units)` with
        `return_sequences=True`.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropSimpleRNN
    >>> layer = PowerpropSimpleRNN(8, return_sequences=True, alpha=2.0)
    >>> layer(keras.ops.ones((2, 5, 3))).shape
    TensorShape([2, 5, 8])
    >>> [kernel.shape for kernel in layer.sparse_kernels]
    [(3, 8), (8, 8)]
    """


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropRNN(PowerpropLayer, keras.layers.RNN):
    """`keras.layers.RNN` whose cells' matrices are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        cell: Keras cell, of Keras or your own, or a list of them.
        args, kwargs: as in `keras.layers.RNN`.
        alpha: float, the exponent, at least 1.

    Call arguments:
        sequences: tensor `(batch, time, features)`.
        initial_state, mask, training: as in `keras.layers.RNN`.

    Attributes:
        sparse_kernels: list of `Kernel`, those of all cells, computed once a
            call, not at every step.

    Returns:
        As `keras.layers.RNN`.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropRNN
    >>> cells = [keras.layers.GRUCell(6), keras.layers.LSTMCell(4)]
    >>> layer = PowerpropRNN(cells, return_sequences=True, alpha=2.0)
    >>> layer(keras.ops.ones((2, 5, 3))).shape
    TensorShape([2, 5, 4])
    """


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropConvLSTM1D(PowerpropLayer, keras.layers.ConvLSTM1D):
    """`keras.layers.ConvLSTM1D` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        filters: int, number of output channels.
        kernel_size: int or tuple of int.
        args, kwargs: as in `keras.layers.ConvLSTM1D`; what is said of the
            kernels acts on the effective ones.
        alpha: float, the exponent, at least 1.

    Call arguments:
        sequences: tensor `(batch, time, ..., channels)`.
        initial_state, mask, training: as in `keras.layers.ConvLSTM1D`.

    Attributes:
        sparse_kernels: list of two `Kernel`: `kernel`, of the inputs, and
            `recurrent_kernel`, computed once a call, not at every step.

    Returns:
        Tensor `(batch, ..., filters)`, with time where
        `return_sequences=True`.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropConvLSTM1D
    >>> layer = PowerpropConvLSTM1D(4, 3, padding="same", alpha=2.0)
    >>> layer(keras.ops.ones((2, 3, 6, 2))).shape
    TensorShape([2, 6, 4])
    """


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropConvLSTM2D(PowerpropLayer, keras.layers.ConvLSTM2D):
    """`keras.layers.ConvLSTM2D` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        filters: int, number of output channels.
        kernel_size: int or tuple of int.
        args, kwargs: as in `keras.layers.ConvLSTM2D`; what is said of the
            kernels acts on the effective ones.
        alpha: float, the exponent, at least 1.

    Call arguments:
        sequences: tensor `(batch, time, ..., channels)`.
        initial_state, mask, training: as in `keras.layers.ConvLSTM2D`.

    Attributes:
        sparse_kernels: list of two `Kernel`: `kernel`, of the inputs, and
            `recurrent_kernel`, computed once a call, not at every step.

    Returns:
        Tensor `(batch, ..., filters)`, with time where
        `return_sequences=True`.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropConvLSTM2D
    >>> layer = PowerpropConvLSTM2D(4, 3, padding="same", alpha=2.0)
    >>> layer(keras.ops.ones((2, 3, 6, 6, 2))).shape
    TensorShape([2, 6, 6, 4])
    """


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropConvLSTM3D(PowerpropLayer, keras.layers.ConvLSTM3D):
    """`keras.layers.ConvLSTM3D` whose weights are sparse-ready.

    See `PowerpropLayer`, which says how: its matrices are
    `theta * |theta|**(alpha - 1)` (Powerpropagation, equation 1).

    Args:
        filters: int, number of output channels.
        kernel_size: int or tuple of int.
        args, kwargs: as in `keras.layers.ConvLSTM3D`; what is said of the
            kernels acts on the effective ones.
        alpha: float, the exponent, at least 1.

    Call arguments:
        sequences: tensor `(batch, time, ..., channels)`.
        initial_state, mask, training: as in `keras.layers.ConvLSTM3D`.

    Attributes:
        sparse_kernels: list of two `Kernel`: `kernel`, of the inputs, and
            `recurrent_kernel`, computed once a call, not at every step.

    Returns:
        Tensor `(batch, ..., filters)`, with time where
        `return_sequences=True`.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or if
            Keras refuses an argument.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropConvLSTM3D
    >>> layer = PowerpropConvLSTM3D(4, 3, padding="same", alpha=2.0)
    >>> layer(keras.ops.ones((2, 3, 4, 4, 4, 2))).shape
    TensorShape([2, 4, 4, 4, 4])
    """
