"""Which weights TensorFlow's converter for LiteRT stores in sparse blocks.

And where it must not: of a matrix whose number of inputs is no multiple of
four it leaves out the inputs that fill no block, so that the file computes
something else (TensorFlow 2.21).
"""

import keras
import numpy as np

from keras_sparse_rl.kernels.matrices import input_axes
from keras_sparse_rl.kernels.matrices import layers_inside
from keras_sparse_rl.kernels.matrices import own_matrices
from keras_sparse_rl.sparsity.positions import plain_class

# As TensorFlow's converter has them (`dense_to_sparse_pass.cc`): the zeros
# from which weights are stored sparse, and the share of them that must lie in
# empty blocks for the sparse kernels.
_STORED_SPARSE = 0.3
_IN_BLOCKS = 0.9
_BLOCK = 4
# No zero to the converter, and nothing beside any other weight.
_ALMOST_ZERO = np.float32(1e-30)


def is_used(kernel):
    """Boolean array: the weights that are neither 0 nor filled in here."""
    return abs(kernel) > _ALMOST_ZERO


def block_density(kernel):
    """The share of blocks of four inputs that are not all 0.

    Args:
        kernel: array `(..., inputs, outputs)`.

    Returns:
        float; 1.0 where four does not divide the inputs.
    """
    if kernel.shape[-2] % _BLOCK:
        return 1.0
    shape = (*kernel.shape[:-2], -1, _BLOCK, kernel.shape[-1])
    return float((kernel != 0).reshape(shape).any(-2).mean())


def foretold_execution(kernel, is_product):
    """How LiteRT computes with a kernel, by the converter's rule.

    Args:
        kernel: array `(..., inputs, outputs)`.
        is_product: bool, whether it is that of a dense layer.

    Returns:
        `"sparse"`, `"unpacked"` (stored sparse, computed dense) or `"dense"`.
    """
    zeros = float(np.mean(kernel == 0))
    if zeros < _STORED_SPARSE:
        return "dense"
    if is_product and 1 - block_density(kernel) > _IN_BLOCKS * zeros:
        return "sparse"
    return "unpacked"


def has_odd_blocks(model):
    """Whether the converter could make blocks that leave inputs out.

    Args:
        model: Keras model, built.
    """
    return any(
        _filled(_as_product(value, axes)) is not None
        for _, value, axes in _products(model)
    )


def fill_odd_blocks(model):
    """Keeps the converter from blocks that would leave inputs out.

    Some zeros of the matrices in question become numbers of 1e-30.

    Args:
        model: Keras model, plain and built. Its weights change.
    """
    for variable, value, axes in _products(model):
        filled = _filled(_as_product(value, axes))
        if filled is not None:
            order = _order(value, axes)
            moved = filled.reshape([value.shape[axis] for axis in order])
            variable.assign(moved.transpose(np.argsort(order)))


def leaves_inputs_out(interpreter):
    """Whether a file has blocks in a matrix that they do not fill.

    Args:
        interpreter: `tf.lite.Interpreter` of it.
    """
    for tensor in interpreter.get_tensor_details():
        sparsity = tensor["sparsity_parameters"]
        if sparsity and len(sparsity["block_map"]):
            if tensor["shape"][-1] % _BLOCK:
                return True
    return False


def _products(model):
    """Matrices with their values, and the axes that products sum over."""
    for layer in layers_inside(model):
        for variable in own_matrices(layer) if layer.built else ():
            axes = [0]
            if plain_class(layer).__name__.endswith("EinsumDense"):
                axes = list(input_axes(layer, variable))
            elif len(variable.shape) != 2:
                continue  # convolutions have no blocks
            yield variable, keras.ops.convert_to_numpy(variable), axes


def _order(value, axes):
    return [*axes, *(axis for axis in range(value.ndim) if axis not in axes)]


def _as_product(value, axes):
    inputs = int(np.prod([value.shape[axis] for axis in axes]))
    return value.transpose(_order(value, axes)).reshape(inputs, -1)


def _filled(matrix):
    """A matrix of which no blocks are made; None where none are anyway."""
    inputs, outputs = matrix.shape
    used = matrix != 0
    if inputs % _BLOCK == 0 or 1 - used.mean() < _STORED_SPARSE:
        return None
    rows = inputs // _BLOCK
    full = used[: rows * _BLOCK].reshape(rows, _BLOCK, outputs).any(1)

    # So many blocks must be in use that they do not pay, and a few more; each
    # that is filled is a zero less, which asks for more of them.
    wanted = 1.02 - _IN_BLOCKS * (1 - used.mean())
    missing = wanted * used.size / _BLOCK - full.sum()
    if missing <= 0:
        return None
    number = int(np.ceil(missing / (1 - _IN_BLOCKS / _BLOCK)))
    filled = matrix.copy()
    empty = np.argwhere(~full)
    if number > len(empty):
        filled[~used] = _ALMOST_ZERO  # stored dense: it has few inputs
        return filled
    # Evenly over the matrix.
    places = np.linspace(0, len(empty) - 1, number).astype(int)
    filled[empty[places, 0] * _BLOCK, empty[places, 1]] = _ALMOST_ZERO
    return filled
