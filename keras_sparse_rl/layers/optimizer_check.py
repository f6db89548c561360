"""One warning when an adaptive optimizer cancels the exponent."""

import inspect
import warnings
import weakref

import keras

from keras_sparse_rl.optimizers.powerprop import powerprop_advice

_checked = weakref.WeakSet()


def warn_without_powerprop(layer):
    """Warns once for an optimizer that undoes the exponent of `layer`.

    Adam and its relatives divide by the gradient's scale, and with it by the
    factor `alpha * |theta|**(alpha - 1)`. A layer does not know its
    optimizer, but the model being trained is among its callers, and this runs
    while a step is traced, not at every step. A loop of one's own around a
    model that was never compiled goes unnoticed.

    Args:
        layer: Powerprop layer that is being called for training.
    """
    optimizer = _optimizer_of_the_calling_model()
    if optimizer is None or optimizer in _checked:
        return
    _checked.add(optimizer)
    if isinstance(optimizer, keras.optimizers.SGD) or hasattr(
        optimizer, "sparse_kernel_slots"
    ):
        return
    warnings.warn(
        f"Layer '{layer.name}' has alpha={layer.alpha} and is trained by "
        f"{type(optimizer).__name__}, which divides the exponent's effect "
        f"away. {powerprop_advice(optimizer)}",
        stacklevel=2,
    )


def _optimizer_of_the_calling_model():
    """The optimizer of the outermost compiled model among the callers."""
    optimizer = None
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.Model):
            optimizer = getattr(caller, "optimizer", None) or optimizer
        frame = frame.f_back
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    return optimizer
