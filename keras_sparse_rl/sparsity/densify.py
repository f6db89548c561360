import numpy as np

from keras_sparse_rl.kernels.checkpoints import unfollow_lists
from keras_sparse_rl.kernels.kernel import sparse_kernels
from keras_sparse_rl.kernels.matrices import layers_inside
from keras_sparse_rl.layers import SparseDense
from keras_sparse_rl.layers.holds_projections import HoldsProjections
from keras_sparse_rl.layers.in_place import make_plain
from keras_sparse_rl.layers.powerprop_kernels import PowerpropKernels
from keras_sparse_rl.layers.powerprop_kernels import own_kernels
from keras_sparse_rl.layers.stored_in_place import to_matrix
from keras_sparse_rl.sparsity.conversion import uncompile
from keras_sparse_rl.sparsity.model_checks import check_model


def densify(model):
    """Makes a sparse model plain again, in place, the zeros baked in.

    It computes the same, saves without masks or exponents, and loads in a
    program that has never heard of this package. Every layer is of the class
    that it was of, or stands for: a `PowerpropDense` becomes a
    `keras.layers.Dense`. Layers of this package that hold others, such as
    `GTrXL`, stay, with plain kernels inside. Compile the model afterwards.

    Args:
        model: Keras model or layer, built, with sparse layers.

    Raises:
        TypeError: if `model` is no Keras model or layer.
        ValueError: if it has no sparse layer, or a layer of your own that
            makes a `SparseKernel` itself.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> from keras_sparse_rl.sparsity import densify
    >>> model = keras.Sequential([keras.Input((4,)), PowerpropDense(3)])
    >>> densify(model)
    >>> [type(layer).__name__ for layer in model.layers]
    ['Dense']
    """
    check_model(model)
    layers = layers_inside(model)
    sparse = [layer for layer in layers if isinstance(layer, PowerpropKernels)]
    kernels = sparse_kernels(model)
    if not kernels:
        raise ValueError(
            f"'{model.name}' has no sparse layer, so there is nothing to bake "
            "in: it is made of plain Keras layers already."
        )
    known = {id(k) for layer in sparse for k in layer._powerprop_kernels}
    for kernel in kernels:
        if id(kernel) not in known:
            raise ValueError(
                f"Layer '{kernel.layer.name}' makes a SparseKernel itself, so "
                "there is no plain layer that it could become. Read what it "
                "computes with: kernel.value()."
            )
    for layer in sparse:
        if isinstance(layer, SparseDense):
            to_matrix(layer)
            continue
        for kernel in own_kernels(layer):
            used, weight = kernel.forward_mask(), kernel.weight()
            kernel.theta.assign(np.where(used, weight, 0.0))
    for layer in layers:
        if not isinstance(layer, HoldsProjections):  # those follow theirs
            unfollow_lists(layer)
        if isinstance(layer, PowerpropKernels):
            make_plain(layer)
        elif isinstance(layer, HoldsProjections):
            layer.alpha = None
    uncompile(model)
