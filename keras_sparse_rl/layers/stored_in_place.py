"""Dense layers whose matrix becomes stored values in place, and back."""

import keras
import numpy as np

from keras_sparse_rl.kernels.keras_members import forget
from keras_sparse_rl.kernels.keras_members import move_first
from keras_sparse_rl.kernels.keras_members import renew_call_signature
from keras_sparse_rl.kernels.keras_members import unlocked
from keras_sparse_rl.kernels.powerpropagation import theta_from_weight
from keras_sparse_rl.layers.powerprop_dense import PowerpropDense
from keras_sparse_rl.layers.sparse_dense import SparseDense


def to_stored(layer, alpha, density, backward_density, execution):
    """Turns a dense layer into a `SparseDense` layer: its matrix goes.

    Args:
        layer: `keras.layers.Dense` or `PowerpropDense`, built. Masks of the
            latter are kept where they hide anything.
        alpha: float, the exponent.
        density: float in (0, 1], the share of weights used; the largest are.
        backward_density: float, the share trained.
        execution: str, as in `SparseDense`.

    Returns:
        Function without arguments that undoes it, weights and all.
    """
    kind, matrix, old = type(layer), layer._kernel, None
    theta = keras.ops.convert_to_numpy(matrix)
    masks = None
    if isinstance(layer, PowerpropDense):
        old = layer.sparse_kernel
        alpha = old.alpha
        masks = old.forward_mask(), old.backward_mask()
        if masks[0].all():
            masks = None
        else:
            density = float(masks[0].mean())
            found = float((masks[0] | masks[1]).mean())
            backward_density = max(density, found, backward_density)
    else:
        theta = keras.ops.convert_to_numpy(theta_from_weight(theta, alpha))
    before = dict(vars(layer))
    layer.__class__ = SparseDense
    layer.alpha, layer.execution = alpha, execution
    layer.density, layer.backward_density = density, backward_density
    layer.supports_jit = execution == "dense"
    if old is not None:
        old.release()
        forget(layer, old.mask_attribute)
    forget(layer, "_kernel")
    with unlocked(layer):
        layer.store_values(matrix.shape[0])
    layer.sparse_kernel.take(theta, masks)
    renew_call_signature(layer)

    def undo():
        _drop_values(layer)
        with unlocked(layer):
            layer._kernel = matrix
            move_first(layer, matrix)
        layer.__class__ = kind
        for name in ("density", "backward_density", "execution", "alpha"):
            vars(layer).pop(name, None)
            if name in before:
                setattr(layer, name, before[name])
        layer.supports_jit = before["supports_jit"]
        if old is not None:
            with unlocked(layer):
                setattr(layer, old.mask_attribute, old.mask)
            old.register()
            layer._powerprop_kernels = (old,)
        renew_call_signature(layer)

    return undo


def to_matrix(layer):
    """Gives a `SparseDense` layer its matrix back, as `keras.layers.Dense`.

    Args:
        layer: `SparseDense`, built.

    Returns:
        Tuple of theta, an array with all of it, and the masks, a pair.
    """
    kernel = layer.sparse_kernel
    theta, weight = kernel.dense_theta(), kernel.weight()
    masks = kernel.forward_mask(), kernel.backward_mask()
    _drop_values(layer)
    layer.__class__ = keras.layers.Dense
    for name in ("density", "backward_density", "execution", "alpha"):
        vars(layer).pop(name)
    layer.supports_jit = True
    with unlocked(layer):
        layer._kernel = layer.add_weight(
            name="kernel",
            shape=weight.shape,
            initializer="zeros",
            regularizer=layer.kernel_regularizer,
        )
        move_first(layer, layer._kernel)
    layer._kernel.assign(np.where(masks[0], weight, 0.0))
    renew_call_signature(layer)
    return theta, masks


def _drop_values(layer):
    kernel = layer.sparse_kernel
    kernel.release()
    for name in ("theta", *vars(kernel.layout)):
        forget(layer, f"__{name}")
    del layer._powerprop_kernels
