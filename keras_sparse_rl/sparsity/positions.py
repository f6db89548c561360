"""How often a layer uses each of its weights for one example."""

import math

import keras

from keras_sparse_rl.sparsity.conversion import powerprop_classes


def positions(layer):
    """The number of products that each weight takes part in, per example.

    1 for a dense layer on vectors, the number of output pixels for a
    convolution, 0 for a look-up and for layers of other kinds.

    Args:
        layer: Keras layer, built. Unknown lengths count as 1.

    Returns:
        int.
    """
    kind = _keras_kind(layer)
    if kind in (None, keras.layers.Embedding):
        return 0
    inputs = layer.get_build_config()["input_shape"]
    if kind is keras.layers.Dense:
        return _product(inputs[1:-1])
    outputs = layer.compute_output_shape(inputs)
    if kind is keras.layers.EinsumDense:
        return _einsum_positions(layer.equation, outputs)
    channels_last = layer.data_format == "channels_last"
    return _product(outputs[1:-1] if channels_last else outputs[2:])


def _keras_kind(layer):
    for theirs, ours in powerprop_classes().items():
        if isinstance(layer, (theirs, ours)):
            return theirs
    return None


def _einsum_positions(equation, outputs):
    """The output axes that the kernel does not have, but for the batch."""
    _, kernel_term, output_term = equation.replace("->", ",").split(",")
    elided = len(outputs) - len(output_term.replace("...", ""))
    axes = output_term.replace("...", "." * elided)
    return _product(
        length
        for axis, length in list(zip(axes, outputs))[1:]
        if axis not in kernel_term
    )


def _product(lengths):
    return math.prod(length or 1 for length in lengths)
