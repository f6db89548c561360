"""How often a layer uses each of its weights for one example."""

import math

import keras

from keras_sparse_rl.layers.in_place import TWINS


def positions(layer):
    """The number of products that each weight takes part in, per example.

    1 for a dense layer on vectors, the number of output pixels for a
    convolution, of steps for a recurrent layer, 0 for a look-up or a layer of
    vectors (a normalization).

    Args:
        layer: Keras layer, built. Unknown lengths count as 1.

    Returns:
        int, or None for a kind of layer that is not known here.
    """
    kind = _keras_kind(layer)
    if kind is None:
        is_product = any(len(weight.shape) > 1 for weight in layer.weights)
        return None if is_product else 0
    if kind is keras.layers.Embedding:
        return 0
    if kind is keras.layers.MultiHeadAttention:
        return None
    shapes = layer.get_build_config()
    if issubclass(kind, keras.layers.RNN):
        # Keras files one shape and several differently.
        shapes = {**shapes, **shapes.get("shapes_dict", {})}
        inputs = shapes.get("sequences_shape", shapes.get("input_shape"))
        return inputs[1] or 1
    inputs = shapes["input_shape"]
    if kind is keras.layers.Dense:
        return _product(inputs[1:-1])
    outputs = layer.compute_output_shape(inputs)
    if kind is keras.layers.EinsumDense:
        return _einsum_positions(layer.equation, inputs, outputs)
    channels_last = layer.data_format == "channels_last"
    return _product(outputs[1:-1] if channels_last else outputs[2:])


def _keras_kind(layer):
    for theirs in TWINS:
        if isinstance(layer, theirs):
            return theirs
    return None


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
