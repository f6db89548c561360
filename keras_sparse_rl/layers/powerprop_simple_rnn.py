import keras

from keras_sparse_rl.layers.powerprop_rnn import PowerpropRNN


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropSimpleRNN(PowerpropRNN, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN` with `theta * |theta|**(alpha - 1)` as kernels.

    See "Powerpropagation" by Schwarz et al. 2021
    (https://arxiv.org/abs/2110.00296), equation 1, and `PowerpropRNN`, which
    says how. With `alpha=1` this is `keras.layers.SimpleRNN` exactly.

    Args:
        units: int, dimensionality of the output.
        args, kwargs: as in `keras.layers.SimpleRNN`; what is said of
            the kernels acts on the effective ones.
        alpha: float, the exponent, at least 1.

    Call arguments:
        sequences: tensor `(batch, time, features)`.
        initial_state, mask, training: as in `keras.layers.SimpleRNN`.

    Attributes:
        sparse_kernels: list of two `SparseKernel`: `kernel`, of the inputs,
            and `recurrent_kernel`.

    Returns:
        As `keras.layers.SimpleRNN`: a tensor `(batch, units)`, or
        `(batch, time, units)` with `return_sequences=True`.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropSimpleRNN
    >>> layer = PowerpropSimpleRNN(8, return_sequences=True, alpha=2.0)
    >>> layer(keras.ops.ones((2, 5, 3))).shape
    TensorShape([2, 5, 8])
    >>> [kernel.shape for kernel in layer.sparse_kernels]
    [(3, 8), (8, 8)]
    """
