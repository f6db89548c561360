"""Which layers of a model read which matrices, and which make its outputs."""

import functools

import keras

from keras_sparse_rl.kernels.keras_members import producer
from keras_sparse_rl.kernels.keras_members import sublayers
from keras_sparse_rl.kernels.matrices import is_cell
from keras_sparse_rl.kernels.matrices import layers_inside
from keras_sparse_rl.layers import OverTime
from keras_sparse_rl.layers.in_place import read_layers
from keras_sparse_rl.layers.in_place import reads_all_inside
from keras_sparse_rl.layers.powerprop_kernels import PowerpropKernels
from keras_sparse_rl.layers.powerprop_kernels import matrices_in


def readers(root):
    """Each layer with the matrices that its call reads.

    Args:
        root: Keras model or layer, built.

    Returns:
        List of pairs of a layer and a list of pairs `(variable, the layer
        that holds it)`, in the model's order. A matrix that two layers hold
        comes twice.
    """
    found, seen, taken = [], set(), set()

    def visit(layer):
        if id(layer) in seen or is_cell(layer):
            return  # a cell's matrices are read by the loop around it
        seen.add(id(layer))
        matrices = [
            pair
            for pair in matrices_in(read_layers(layer))
            if id(pair[0]) not in taken
        ]
        if matrices:
            found.append((layer, matrices))
        if isinstance(layer, PowerpropKernels) and layer.read_layers():
            taken.update(id(variable) for variable, _ in matrices)
        if not reads_all_inside(layer):
            for part in sublayers(layer):
                visit(part)

    visit(root)
    return found


def is_transparent(layer):
    """Whether a layer's configuration holds those of the layers inside it.

    Then they are sparse in a file of their own accord.

    Args:
        layer: Keras layer.
    """
    return reads_all_inside(layer) or type(layer) in (
        keras.Sequential,
        functional_class(),
        keras.layers.TimeDistributed,
        keras.layers.Bidirectional,
        OverTime,
    )


@functools.cache
def functional_class():
    """The class of functional models, which Keras does not export."""
    tensor = keras.Input((1,), name="probe")
    # Some versions of Keras refuse an input that nothing reads.
    return type(keras.Model(tensor, keras.layers.Identity()(tensor)))


def output_layers(model):
    """The layers that give a model's outputs, be it through an activation.

    Of a functional model they are found in its graph; of a model with a
    `call` of its own the last layer with a matrix is taken for it.

    Args:
        model: Keras model or layer, built.

    Returns:
        List of Keras layers.
    """
    if isinstance(model, keras.layers.Bidirectional):
        return [model.forward_layer, model.backward_layer]
    if isinstance(model, (keras.layers.TimeDistributed, OverTime)):
        return output_layers(model.layer)
    if not isinstance(model, keras.Model):
        return [model]
    if not isinstance(model, (keras.Sequential, functional_class())):
        last = [layer for layer, _ in readers(model)][-1:]
        return last if last != [model] else []
    found, left = [], list(model.outputs)
    while left:
        operation, inputs = producer(left.pop())
        weights = getattr(operation, "weights", [])
        if not weights and len(inputs) == 1:
            left.extend(inputs)
        elif weights and _gives_what_a_layer_gives(operation):
            found.extend(output_layers(operation))
    return found


def _gives_what_a_layer_gives(operation):
    """Whether an operation ends with one matrix, not with a whole block."""
    if isinstance(operation, keras.Model) or is_transparent(operation):
        return True
    return not any(matrices_in([part]) for part in layers_inside(operation)[1:])
