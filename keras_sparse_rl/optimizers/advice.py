"""What to say where an optimizer would undo exponents and masks."""

import warnings
import weakref

import keras

from keras_sparse_rl.kernels.keras_members import entry_layer
from keras_sparse_rl.optimizers.kernel_slots import knows_kernels
from keras_sparse_rl.optimizers.kernel_slots import without_wrapper
from keras_sparse_rl.optimizers.powerprop import powerprop_advice

_checked = weakref.WeakSet()


def undoes_exponents(optimizer):
    """Whether an optimizer divides the exponent's factor away.

    Adam and its relatives divide by the gradient's scale, and with it by the
    factor `alpha * |theta|**(alpha - 1)`; gradient descent does not.

    Args:
        optimizer: Keras optimizer.
    """
    optimizer = without_wrapper(optimizer)
    is_descent = isinstance(optimizer, keras.optimizers.SGD)
    return not (is_descent or knows_kernels(optimizer))


def warn_without_powerprop(layer):
    """Warns once where `fit` trains a layer by an optimizer that undoes it.

    It is the optimizer of the model that is being called, if that is
    compiled. In a loop of your own nobody knows it.

    Args:
        layer: Keras layer with exponents that is called for training.
    """
    optimizer = getattr(entry_layer(layer), "optimizer", None)
    if optimizer is None or optimizer in _checked:
        return
    _checked.add(optimizer)
    if undoes_exponents(optimizer):
        warnings.warn(
            f"Layer '{layer.name}' has an exponent above 1 and is trained by "
            f"{type(optimizer).__name__}, which divides its effect away. "
            f"{powerprop_advice(optimizer)}",
            stacklevel=2,
        )
