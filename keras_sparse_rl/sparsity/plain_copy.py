"""A copy of a model that TensorFlow's converter for LiteRT takes."""

import keras

from keras_sparse_rl.kernels.kernel import sparse_kernels
from keras_sparse_rl.kernels.matrices import layers_inside
from keras_sparse_rl.sparsity.densify import densify
from keras_sparse_rl.sparsity.litert_blocks import fill_odd_blocks
from keras_sparse_rl.sparsity.litert_blocks import has_odd_blocks
from keras_sparse_rl.sparsity.positions import plain_class
from keras_sparse_rl.sparsity.positions import sequence_shape
from keras_sparse_rl.sparsity.readers import functional_class

_TABLES = (
    keras.layers.StringLookup,
    keras.layers.IntegerLookup,
    keras.layers.TextVectorization,
)


def plain_copy(model):
    """The model as the converter takes it: plain, unrolled, in float32.

    Args:
        model: Keras model, built. It stays as it is.

    Returns:
        Keras model; `model` itself where nothing has to change.

    Raises:
        TypeError: if a model of another kind than Sequential or functional
            would have to be copied, and cannot be.
        ValueError: for a recurrent layer over sequences of open length, a
            layer whose variables are no float32, or one that holds a table
            of words.
    """
    layers = layers_inside(model)
    loops = [layer for layer in layers if isinstance(layer, keras.layers.RNN)]
    for layer in layers:
        _check_dtype(layer)
    for layer in loops:
        _check_length(layer)
    is_plain = not sparse_kernels(model)
    is_single = not any(_is_of_other_floats(layer) for layer in layers)
    is_unrolled = all(layer.unroll for layer in loops)
    if is_plain and is_single and is_unrolled and not has_odd_blocks(model):
        return model
    copy = _copied(model, layers)
    if not is_plain:
        densify(copy)
    for layer in layers_inside(copy):
        if _is_of_other_floats(layer):
            layer.dtype_policy = "float32"
        if isinstance(layer, keras.layers.RNN):
            # LiteRT has no loops with lists of tensors.
            layer.unroll = True
    fill_odd_blocks(copy)
    return copy


def _copied(model, layers):
    for layer in layers:
        if isinstance(layer, _TABLES):
            raise ValueError(
                f"Layer '{layer.name}' ({type(layer).__name__}) holds a table "
                "that does not go into the file of a sparse, recurrent or "
                "half-precision model. Look the words up before the model, "
                "and let its inputs be numbers."
            )
    classes = {plain_class(layer) for layer in layers}
    # A user's classes need not be registered to be copied in their program.
    known = {kind.__name__: kind for kind in classes if not _is_of_keras(kind)}
    with keras.saving.custom_object_scope(known):
        try:
            copy = _cloned(model, layers)
            if not isinstance(copy, (keras.Sequential, functional_class())):
                _call_once(copy, model)
        except (NotImplementedError, TypeError, ValueError) as error:
            raise _cannot_copy(model, error) from error
    copies = layers_inside(copy)
    if [plain_class(c) for c in copies] != [plain_class(p) for p in layers]:
        raise _cannot_copy(model, "the copy has other layers")
    for layer, other in zip(layers, copies):
        # As in a file: what `set_weights` leaves out comes too, such as what
        # a Normalization layer makes of its variables.
        variables = {}
        layer.save_own_variables(variables)
        if variables:
            other.load_own_variables(variables)
    return copy


def _cloned(model, layers):
    if any(isinstance(layer, keras.layers.Lambda) for layer in layers):
        return keras.models.clone_model(
            model, clone_function=_cloned_layer, recursive=True
        )
    return keras.models.clone_model(model)


def _cloned_layer(layer):
    if not isinstance(layer, keras.layers.Lambda):
        return type(layer).from_config(layer.get_config())
    # Safe: the function is one of this program, not of a file.
    clone = type(layer).from_config(layer.get_config(), safe_mode=False)
    clone.function = layer.function
    return clone


def _call_once(copy, model):
    """Gives a model with a `call` of its own the inputs of another."""
    shape = sequence_shape(model)
    if shape is None:
        raise TypeError("nobody knows the shapes of its inputs")
    copy(keras.KerasTensor((None, *shape[1:])))


def _is_of_other_floats(layer):
    kind = layer.compute_dtype
    return (
        not isinstance(layer, keras.layers.InputLayer)
        and keras.backend.is_float_dtype(kind)
        and kind != "float32"
    )


def _is_of_keras(kind):
    return kind.__module__.partition(".")[0] == "keras"


def _check_dtype(layer):
    dtype = layer.variable_dtype
    if keras.backend.is_float_dtype(dtype) and dtype != "float32":
        raise ValueError(
            f"Layer '{layer.name}' is of dtype {dtype}, and LiteRT computes "
            "in float32. Build the model with dtype 'float32', or with a "
            "mixed policy such as 'mixed_float16', whose variables are "
            "float32."
        )


def _check_length(layer):
    shape = sequence_shape(layer)
    if shape is not None and shape[1] is None:
        raise ValueError(
            f"Layer '{layer.name}' ({type(layer).__name__}) loops over "
            "sequences of open length, and LiteRT's files have no such loop. "
            "Build the model for one length, keras.Input((steps, features)): "
            "the loop is then unrolled."
        )


def _cannot_copy(model, reason):
    return TypeError(
        f"`model` '{model.name}' ({plain_class(model).__name__}) is exported "
        "from a copy, since it is sparse, recurrent or of half precision, and "
        f"cannot be copied: {_one_line(reason)}. Export a Sequential or "
        "functional model whose layers have a get_config(), or densify(model) "
        "first."
    )


def _one_line(reason):
    return " ".join(str(reason).split()).rstrip(".")
