"""How often a layer of Keras uses each of its weights for one example."""

import math

import keras

from keras_sparse_rl.layers import SparseDense
from keras_sparse_rl.layers.in_place import TWINS
from keras_sparse_rl.layers.in_place import InPlace

_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_CONV_LSTMS = (
    keras.layers.ConvLSTM1D,
    keras.layers.ConvLSTM2D,
    keras.layers.ConvLSTM3D,
)


def keras_kind(layer):
    """The layer of Keras that computes what a layer does.

    Args:
        layer: Keras layer, plain or sparse.

    Returns:
        Class of a Keras layer that has a sparse twin; None for another kind
        of layer and for a subclass with a `call` of its own.
    """
    plain = plain_class(layer)
    for base in plain.__mro__:
        if base in TWINS:
            known = (base.call, TWINS[base].call, SparseDense.call)
            return base if plain.call in known else None
    return None


def plain_class(layer):
    """The class of a layer before it was made sparse in place."""
    return layer.plain_class if isinstance(layer, InPlace) else type(layer)


def built_shapes(layer):
    """The shapes that a layer was built for, by name.

    Args:
        layer: Keras layer, built.

    Returns:
        Dict such as `{"input_shape": (None, 7, 8)}`; empty where Keras does
        not know them.
    """
    # Keras files one shape and several differently.
    config = layer.get_build_config() or {}
    return {**config, **config.get("shapes_dict", {})}


def sequence_shape(layer):
    """The shape of the inputs that a layer was built for.

    Args:
        layer: Keras layer, built. Of a nest of inputs it is the shape of one:
            observations of one step share their steps.

    Returns:
        Tuple of int or None; None where Keras knows no shape.
    """
    shapes = built_shapes(layer)
    shape = shapes.get("sequences_shape", shapes.get("input_shape"))
    while isinstance(shape, dict) or (shape and _is_nest(shape[0])):
        shape = next(iter(shape.values() if isinstance(shape, dict) else shape))
    return None if shape is None else tuple(shape)


def time_steps(layer):
    """The steps of the sequences that a layer was built for.

    Args:
        layer: Keras layer, built, whose inputs are `(batch, time, ...)`.

    Returns:
        int, 1 where the length is open, None where no shape is known.
    """
    shape = sequence_shape(layer)
    return None if shape is None else shape[1] or 1


def positions(layer):
    """The number of products that each weight takes part in, per example.

    1 for a dense layer on vectors, the number of output pixels for a
    convolution (of input pixels if it is transposed), 0 for a look-up.

    Args:
        layer: Keras layer, built, of a kind that `keras_kind` knows and that
            neither loops over time nor holds projections; or a convolutional
            LSTM, of which it is the number for one step. Unknown lengths
            count as 1.

    Returns:
        int, or None where Keras does not know the shape of the inputs.
    """
    kind = keras_kind(layer)
    if kind is keras.layers.Embedding:
        return 0
    inputs = sequence_shape(layer)
    if inputs is None:
        return None
    if kind is keras.layers.Dense:
        return _product(inputs[1:-1])
    if kind in _CONV_LSTMS:
        step = (inputs[0], *inputs[2:])
        outputs = layer.cell.compute_output_shape(step)[0]
    elif kind in _TRANSPOSED:
        outputs = inputs
    else:
        outputs = layer.compute_output_shape(inputs)
    if kind is keras.layers.EinsumDense:
        return _einsum_positions(layer.equation, inputs, outputs)
    channels_last = layer.data_format == "channels_last"
    return _product(outputs[1:-1] if channels_last else outputs[2:])


def _is_nest(part):
    return isinstance(part, (dict, list, tuple))


def _einsum_positions(equation, inputs, outputs):
    """The output axes that the kernel does not have, but for the batch."""
    input_term, kernel_term, output_term = equation.replace("->", ",").split(
        ","
    )
    known = dict(zip(_axes(input_term, inputs), inputs))
    return _product(
        known.get(axis) or length
        for axis, length in list(zip(_axes(output_term, outputs), outputs))[1:]
        if axis not in kernel_term
    )


def _axes(term, shape):
    """A label for each axis; those of an ellipsis are numbered."""
    before, ellipsis, after = term.partition("...")
    elided = len(shape) - len(before) - len(after)
    return [*before, *range(elided if ellipsis else 0), *after]


def _product(lengths):
    return math.prod(length or 1 for length in lengths)
