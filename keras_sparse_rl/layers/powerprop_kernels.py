"""Kernels of layers inside a layer, made sparse-ready where they are."""

import collections
import contextlib
import functools

import keras

from keras_sparse_rl._checks import check_alpha
from keras_sparse_rl.layers.optimizer_check import warn_without_powerprop
from keras_sparse_rl.layers.sparse_kernel import SparseKernel

_KERNELS = ("kernel", "recurrent_kernel")
_CELLS = (
    keras.layers.LSTMCell,
    keras.layers.GRUCell,
    keras.layers.SimpleRNNCell,
)


class PowerpropKernels:
    """Makes a Keras layer's kernels sparse-ready without writing it anew.

    Mixed into a Keras layer. The variables `kernel` and `recurrent_kernel` of
    the layers inside hold `theta` from then on, under their names, and while
    the layer is called whatever reads them gets the effective, masked kernel
    (`keras.StatelessScope`), computed once however long a loop over time is.

    Args:
        *args: arguments of the Keras layer.
        alpha: float, the exponent of Powerpropagation, at least 1, or None to
            leave the layer as it is.
        **kwargs: arguments of the Keras layer.

    Attributes:
        sparse_kernels: list of `SparseKernel`, each with `theta`, `mask` and
            `value()`, the effective kernel.

    Raises:
        ValueError: if `alpha` is not a finite number of at least 1.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropLSTM
    >>> layer = PowerpropLSTM(8, alpha=2.0)
    >>> layer(keras.ops.ones((2, 5, 4))).shape
    TensorShape([2, 8])
    >>> [kernel.name for kernel in layer.sparse_kernels]
    ['kernel', 'recurrent_kernel']
    """

    def __init__(self, *args, alpha=2.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.alpha = None if alpha is None else check_alpha(alpha)
        self.sparse_kernels = []

    def adopt_kernels(self, layers):
        """Takes over the kernels of layers inside; called last in `build`.

        Args:
            layers: list of Keras layers, built. What another layer has taken
                over before is shared with it.
        """
        if self.alpha is None:
            return
        found = {
            id(variable): variable
            for layer in layers
            for variable in layer.weights
            if variable.name in _KERNELS
        }
        names = collections.Counter(v.name for v in found.values())
        for variable in found.values():
            kernel = getattr(variable, "sparse_kernel", None)
            if kernel is None:
                name = variable.name
                if names[name] > 1:
                    name = "_".join(variable.path.split("/")[-2:])
                kernel = SparseKernel(
                    self, variable.shape, self.alpha, name=name, theta=variable
                )
            self.sparse_kernels.append(kernel)

    @contextlib.contextmanager
    def effective_kernels(self, training=False):
        """Context for `call`: whoever reads a kernel gets the effective one.

        Args:
            training: bool.
        """
        if not self.sparse_kernels:
            yield
            return
        if training and self.trainable and self.alpha != 1:
            warn_without_powerprop(self)
        values = _reader()(kernels=self.sparse_kernels, training=training)
        thetas = [kernel.theta for kernel in self.sparse_kernels]
        scope = keras.StatelessScope(zip(thetas, values), collect_losses=True)
        with scope:
            yield
        # The scope holds back what else the layer wants to keep.
        for loss in scope.losses:
            self.add_loss(loss)
        states = keras.tree.flatten(getattr(self, "states", None) or [])
        for variable in (*self.non_trainable_variables, *states):
            value = scope.get_current_value(variable)
            if value is not None:
                variable.assign(value)

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha}


class _Reader(keras.layers.Layer):
    """Computes kernels from `theta` as it is stored.

    A layer, because that is how Keras leaves the scope in which variables
    are read in half precision.
    """

    def call(self, kernels, training):
        return [kernel.value(training=bool(training)) for kernel in kernels]


@functools.cache
def _reader():
    return _Reader(autocast=False, dtype="float32", name="kernel_reader")


def keras_cells(cell):
    """The cells of Keras that a recurrent layer's cell consists of.

    Args:
        cell: Keras cell, or `keras.layers.StackedRNNCells`.

    Returns:
        List of cells; empty if one of them is of another kind, whose kernels
        this package does not know.
    """
    if isinstance(cell, keras.layers.StackedRNNCells):
        parts = [keras_cells(part) for part in cell.cells]
        return sum(parts, []) if all(parts) else []
    return [cell] if type(cell) in _CELLS else []


def check_keras_cells(cell):
    """Returns `keras_cells(cell)`, or raises if there is none."""
    found = keras_cells(cell)
    if not found:
        raise ValueError(
            "With `alpha` the cell must be a keras.layers.LSTMCell, GRUCell, "
            "SimpleRNNCell or StackedRNNCells of them, whose kernels are "
            f"known. Received: cell={cell!r} of type {type(cell)}. Leave "
            "`alpha` out, or use another cell."
        )
    return found
