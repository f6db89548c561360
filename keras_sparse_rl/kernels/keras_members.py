"""The underscore members of Keras that sparsity in place needs, like LoRA."""

import contextlib
import inspect

import keras


def sublayers(layer):
    """Layers that a layer holds, in the order of their attributes."""
    return list(layer._layers)  # no public name for layers of a Layer


def own_trained(layer):
    """Variables made to be trained that the layer itself holds."""
    return list(layer._trainable_variables)  # public lists hold sublayers' too


@contextlib.contextmanager
def unlocked(layer):
    """Context in which a built layer takes new variables."""
    was_locked = layer._tracker.locked  # Keras locks it after `build`
    layer._tracker.unlock()
    try:
        yield
    finally:
        layer._tracker.locked = was_locked


def forget(layer, name):
    """Takes a variable out of a layer, with the attribute that holds it."""
    layer._untrack_variable(getattr(layer, name))  # as Keras' LoRA does
    super(keras.layers.Layer, layer).__delattr__(name)


def move_first(layer, variable):
    """Puts a variable before the layer's others: the order is file format."""
    layer._trainable_variables.sort(key=lambda v: v is not variable)


def renew_call_signature(layer):
    """Lets a layer of a new class pass on the arguments of its `call`."""
    signature = layer._call_signature = inspect.signature(layer.call)
    names = layer.call_signature_parameters = list(signature.parameters)
    layer._call_has_training_arg = "training" in names
    layer._call_has_context_arg = {"training": "training" in names}


def entry_layer(layer):
    """The outermost layer of the call that `layer` is part of."""
    context = layer._get_call_context()  # public nowhere; made if there is none
    if context.entry_layer is layer and not getattr(context, "training", None):
        layer._maybe_reset_call_context()  # `call` was called by hand
    return context.entry_layer


def producer(tensor):
    """The operation that made a symbolic tensor, and its input tensors."""
    operation, node, _ = tensor._keras_history  # `layer.output` fails if shared
    return operation, operation._inbound_nodes[node].input_tensors
