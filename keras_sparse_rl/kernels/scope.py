"""A scope in which whoever reads a matrix of a layer gets the effective one."""

import contextlib
import functools
import threading

import keras
from keras import ops

_THREAD = threading.local()


class EffectiveScope(keras.StatelessScope):
    """Makes layers that know nothing of kernels compute with them.

    Values of `kernels` are computed once, on entry, however often a loop over
    time reads them. Of kernels in `inside`, which layers further in read by
    themselves, a value is computed where somebody else reads it, such as a
    layer that uses the matrix of another. All that is assigned, added as a
    loss or read besides goes to the scope around this one: it nests in itself
    and in the scope of a trainer (JAX).

    Args:
        layer: Keras layer that is called.
        kernels: list of `Kernel` that it reads.
        inside: list of `Kernel` of the layers inside it.
        training: bool, whether large kernels may be computed in one XLA pass.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.kernels import SparseKernel
    >>> from keras_sparse_rl.kernels.keras_members import unlocked
    >>> from keras_sparse_rl.kernels.scope import EffectiveScope
    >>> dense = keras.layers.Dense(1, kernel_initializer="ones")
    >>> dense.build((None, 2))
    >>> with unlocked(dense):
    ...     kernel = SparseKernel(dense, (2, 1), 2.0, theta=dense.kernel)
    >>> _ = kernel.theta.assign([[2.0], [3.0]])
    >>> with EffectiveScope(dense, [kernel]):
    ...     y = dense.call(keras.ops.ones((1, 2)))
    >>> float(y)
    13.0
    """

    def __init__(self, layer, kernels, inside=(), training=False):
        super().__init__(collect_losses=True)
        self.layer = layer
        self.kernels = kernels
        self.inside = {id(kernel.theta): kernel for kernel in inside}
        self.training = training

    def __enter__(self):
        around = [_from_around(kernel.theta) for kernel in self.kernels]
        new = [k for k, value in zip(self.kernels, around) if value is None]
        computed = iter(read_stored(new, self.training))
        for kernel, value in zip(self.kernels, around):
            if value is None:
                # Cast here: a loop would cast at every step.
                value = ops.cast(next(computed), kernel.theta.dtype)
            self.state_mapping[id(kernel.theta)] = value
        _scopes().append(self)
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        _scopes().pop()
        for loss in self.losses:
            self.layer.add_loss(loss)
        self.losses = []

    def get_current_value(self, variable):
        if not _is_raw():
            value = self.state_mapping.get(id(variable))
            if value is not None:
                return value
            kernel = self.inside.get(id(variable))
            if kernel is not None:
                return read_stored([kernel], self.training)[0]
        if self.original_scope is not None:
            return self.original_scope.get_current_value(variable)
        return None

    def add_update(self, update):
        variable, value = update
        super().__exit__()
        try:
            variable.assign(value)
        finally:
            super().__enter__()


def is_read_inside(kernel):
    """Whether a scope is open in which reading theta gives the value."""
    return any(id(kernel.theta) in s.state_mapping for s in _scopes())


def read_stored(kernels, training=False):
    """Values of kernels, computed from `theta` as it is stored.

    Args:
        kernels: list of `Kernel`.
        training: bool, as in `Kernel.value`.

    Returns:
        List of tensors of the variables' own dtype.
    """
    if not kernels:
        return []
    return _reader()(kernels=kernels, training=training)


@contextlib.contextmanager
def stored():
    """Context in which no open scope stands between a reader and `theta`."""
    before = _is_raw()
    _THREAD.raw = True
    try:
        yield
    finally:
        _THREAD.raw = before


def _from_around(theta):
    """The value that an open scope has computed already, or None."""
    for scope in reversed(_scopes()):
        value = scope.state_mapping.get(id(theta))
        if value is not None:
            return value
    return None


def _is_raw():
    return getattr(_THREAD, "raw", False)


def _scopes():
    if not hasattr(_THREAD, "scopes"):
        _THREAD.scopes = []
    return _THREAD.scopes


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
