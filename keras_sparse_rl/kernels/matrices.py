"""Which variables of a layer are matrices that can be sparse."""

import keras

from keras_sparse_rl.kernels.keras_members import own_trained
from keras_sparse_rl.kernels.keras_members import sublayers

# Parts of names of what has several axes and is no matrix of a product.
_NO_MATRIX = ("bias", "gamma", "beta", "lora_")
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


def is_matrix(variable):
    """Whether a variable is a kernel: floats, two axes or more, no bias.

    Args:
        variable: Keras variable.
    """
    return (
        len(variable.shape) > 1
        and keras.backend.is_float_dtype(variable.dtype)
        and not any(part in variable.name for part in _NO_MATRIX)
    )


def own_matrices(layer):
    """The matrices that a layer itself holds, in order.

    Args:
        layer: Keras layer, built.
    """
    return [v for v in own_trained(layer) if is_matrix(v)]


def layers_inside(layer):
    """Every layer that a layer holds, itself first, each once.

    Args:
        layer: Keras layer.

    Returns:
        List of Keras layers, in the order in which they are held.
    """
    found, seen = [], set()

    def visit(part):
        if id(part) in seen:
            return
        seen.add(id(part))
        found.append(part)
        for inner in sublayers(part):
            visit(inner)

    visit(layer)
    return found


def positions_inside(layer, path=()):
    """Every place where a layer holds another, as Keras' order numbers them.

    Args:
        layer: Keras layer.
        path: tuple of int, where the layer itself is.

    Yields:
        Pairs of a path, tuple of int, and the layer there; itself first.
    """
    yield path, layer
    for number, part in enumerate(sublayers(layer)):
        yield from positions_inside(part, (*path, number))


def layer_at(layer, path):
    """The layer at a path that `positions_inside` gave.

    Args:
        layer: Keras layer.
        path: sequence of int.
    """
    for number in path:
        layer = sublayers(layer)[number]
    return layer


def input_axes(layer, variable):
    """The axes of a matrix that its product sums over, for `Kernel`.

    Args:
        layer: the Keras layer that holds it.
        variable: Keras variable.

    Returns:
        Tuple of int.
    """
    if isinstance(layer, keras.layers.EinsumDense):
        _, matrix, outputs = layer.equation.replace("->", ",").split(",")
        return tuple(n for n, a in enumerate(matrix) if a not in outputs)
    if "depthwise" in variable.name or isinstance(layer, _DEPTHWISE):
        return ()
    return (-1,) if isinstance(layer, _TRANSPOSED) else (-2,)


def is_cell(layer):
    """Whether a layer is a cell, whose matrices a loop around it reads.

    Args:
        layer: Keras layer.
    """
    return hasattr(layer, "state_size") and not isinstance(
        layer, keras.layers.RNN
    )
