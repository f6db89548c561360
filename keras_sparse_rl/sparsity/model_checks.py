"""What the tools for whole models ask of a model."""

import keras

from keras_sparse_rl.kernels.matrices import layers_inside


def check_model(model):
    """Raises unless `model` is a Keras model or layer with weights.

    Args:
        model: whatever the user gave.

    Raises:
        TypeError: if it is no Keras model or layer.
        ValueError: if it has no weights yet.
    """
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(
            "`model` must be a Keras model or layer. Received: "
            f"model={model!r} of type {type(model)}."
        )
    if not model.built:
        raise ValueError(
            f"`model` '{model.name}' has no weights yet. Call it on data, or "
            "start it with keras.Input(...)."
        )


def check_not_quantized(model):
    """Raises if a layer inside holds quantized weights.

    Args:
        model: Keras model or layer.

    Raises:
        ValueError: naming the layer.
    """
    for layer in layers_inside(model):
        mode = getattr(layer, "quantization_mode", None)
        if mode is not None:
            raise ValueError(
                f"Layer '{layer.name}' is quantized ({mode}), and whole "
                "numbers cannot be trained sparse. Start from the model "
                "before quantize(): sparsify and train it, densify(model), "
                "then model.quantize(...)."
            )
