"""Every layer of a model made sparse-ready, or none where one fails."""

import dataclasses

import keras

from keras_sparse_rl.kernels.kernel import kernel_of
from keras_sparse_rl.kernels.kernel import sparse_kernels
from keras_sparse_rl.kernels.matrices import layers_inside
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.layers import SparseDense
from keras_sparse_rl.layers.in_place import InPlace
from keras_sparse_rl.layers.in_place import make_plain
from keras_sparse_rl.layers.in_place import make_sparse
from keras_sparse_rl.layers.in_place import watch_inside
from keras_sparse_rl.layers.powerprop_kernels import PowerpropKernels
from keras_sparse_rl.layers.stored_in_place import to_matrix
from keras_sparse_rl.layers.stored_in_place import to_stored
from keras_sparse_rl.sparsity.lora import has_lora
from keras_sparse_rl.sparsity.lora import merge_lora
from keras_sparse_rl.sparsity.readers import is_transparent
from keras_sparse_rl.sparsity.readers import readers


@dataclasses.dataclass(frozen=True)
class SparseArguments:
    """What `sparsify` is asked to make of each matrix.

    Args:
        alpha: float, the exponent.
        named: dict of the id of a variable to the density it is given.
        execution: str, as in `sparsify`.
        density: float, of stored values that are not named.
        backward_density: float, the share of them that is trained.
    """

    alpha: float
    named: dict
    execution: str
    density: float
    backward_density: float


def convert(model, spared, arguments, undo):
    """Gives layers kernels of exponent 1, which changes no weight.

    Args:
        model: Keras model or layer, built.
        spared: dict whose keys are ids of variables to leave as they are.
        arguments: `SparseArguments`.
        undo: `contextlib.ExitStack`; it takes the undoing of each step.

    Returns:
        List of the new `SparseKernel`, whose exponent is still to be set.

    Raises:
        ValueError: if there is nothing to turn, or a layer cannot be.
    """
    new, changed = {}, False
    for layer in layers_inside(model):
        changed |= _exchange_execution(layer, arguments, undo)
    for layer, matrices in readers(model):
        chosen = [
            (variable, owner)
            for variable, owner in matrices
            if id(variable) not in spared
            and (kernel_of(variable) is None or id(variable) in new)
        ]
        if not chosen:
            continue
        changed = True
        for variable, owner in chosen:
            if has_lora(owner):
                undo.callback(merge_lora(owner, variable))
        if arguments.execution != "dense" and type(layer) is keras.layers.Dense:
            _store(layer, arguments, undo)
            continue
        kept = getattr(layer, "_powerprop_kernels", None)
        if not kept and not isinstance(layer, InPlace):
            kept = None  # it becomes of another class
        undo.callback(make_plain, layer, kept)
        make_sparse(layer, chosen, arguments.alpha, kernels_alpha=1.0)
        new.update({id(v): kernel_of(v) for v, _ in chosen})
    if not changed:
        _refuse(model)
    for layer in layers_inside(model):
        # Its file says what is sparse inside it.
        if (
            not is_transparent(layer)
            and not isinstance(layer, PowerpropKernels)
            and sparse_kernels(layer)
        ):
            undo.callback(make_plain, layer)
            make_sparse(layer, [], arguments.alpha)
    watch_inside(model)
    return list(new.values())


def uncompile(model):
    """Drops what read matrices as they were: graphs, and the optimizer.

    An optimizer keeps slots by variable, and Powerprop what it found of
    kernels when it was built.

    Args:
        model: Keras model or layer.
    """
    for part in layers_inside(model):
        if isinstance(part, keras.Model):
            part.train_function = None
            part.test_function = None
            part.predict_function = None
            if "generate_function" in vars(part):  # of KerasHub
                part.generate_function = None
            part.compiled = False
            part.optimizer = None


def _exchange_execution(layer, arguments, undo):
    """Changes the execution of a layer that is sparse already."""
    if arguments.execution != "dense" and type(layer) is PowerpropDense:
        _store(layer, arguments, undo)
        return True
    if arguments.execution != "dense" or type(layer) is not SparseDense:
        return False
    before = layer.sparse_arguments()
    theta, masks = to_matrix(layer)
    undo.callback(lambda: to_stored(layer, **before))
    matrix = layer._kernel
    make_sparse(layer, [(matrix, layer)], before["alpha"])
    kernel = kernel_of(matrix)
    kernel.assign_dense_theta(theta)
    kernel.assign_masks(*masks)
    return True


def _store(layer, arguments, undo):
    if layer.kernel_constraint is not None:
        raise ValueError(
            f"Layer '{layer.name}' has a kernel_constraint, which needs the "
            "whole kernel: SparseDense has none. Use execution='dense', or "
            "drop the constraint."
        )
    ratio = arguments.backward_density / arguments.density
    density = arguments.named.get(id(layer._kernel), arguments.density)
    undo.callback(
        to_stored(
            layer,
            arguments.alpha,
            density,
            min(1.0, density * ratio),
            arguments.execution,
        )
    )


def _refuse(model):
    if sparse_kernels(model):
        names = [kernel.layer.name for kernel in sparse_kernels(model)]
        raise ValueError(
            f"Layers {sorted(set(names))} of '{model.name}' are sparse "
            "already, and no other can be turned. For another `alpha`: "
            "densify(model), then sparsify(model, alpha=...)."
        )
    raise ValueError(
        f"'{model.name}' has no layer that `sparsify` turns into a sparse "
        "one: no matrix but embeddings and those of the layers that give its "
        "outputs, which stay plain unless `densities` names them."
    )
