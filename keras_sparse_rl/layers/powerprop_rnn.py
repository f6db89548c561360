import keras

from keras_sparse_rl.layers.powerprop_kernels import PowerpropKernels
from keras_sparse_rl.layers.powerprop_kernels import check_keras_cells
from keras_sparse_rl.layers.powerprop_kernels import keras_cells


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PowerpropRNN(PowerpropKernels, keras.layers.RNN):
    """`keras.layers.RNN` whose cells' kernels are sparse-ready.

    Both kernels of each cell, that of the inputs and the recurrent one, are
    `theta * |theta|**(alpha - 1)` under a mask; see "Powerpropagation" by
    Schwarz et al. 2021 (https://arxiv.org/abs/2110.00296), equation 1, and
    `PowerpropDense`. They are computed once a call, not at every step. With
    `alpha=1` this is `keras.layers.RNN` exactly.

    Args:
        cell: `keras.layers.LSTMCell`, `GRUCell`, `SimpleRNNCell`, or
            `StackedRNNCells` of them.
        args, kwargs: as in `keras.layers.RNN`.
        alpha: float, the exponent, at least 1.

    Call arguments:
        sequences: tensor `(batch, time, features)`.
        initial_state, mask, training: as in `keras.layers.RNN`.

    Attributes:
        sparse_kernels: list of `SparseKernel`, each with `theta`, `mask` and
            `value()`, the effective kernel.

    Returns:
        As `keras.layers.RNN`.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1, or a cell
            is of another kind.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropRNN
    >>> cells = [keras.layers.GRUCell(6), keras.layers.LSTMCell(4)]
    >>> layer = PowerpropRNN(cells, return_sequences=True, alpha=2.0)
    >>> layer(keras.ops.ones((2, 5, 3))).shape
    TensorShape([2, 5, 4])
    """

    def __init__(self, *args, alpha=2.0, **kwargs):
        super().__init__(*args, alpha=alpha, **kwargs)
        check_keras_cells(self.cell)

    def build(self, sequences_shape, initial_state_shape=None):
        super().build(sequences_shape, initial_state_shape)
        self.adopt_kernels(keras_cells(self.cell))

    def call(self, sequences, initial_state=None, mask=None, training=False):
        with self.effective_kernels(training):
            return super().call(
                sequences,
                initial_state=initial_state,
                mask=mask,
                training=training,
            )
