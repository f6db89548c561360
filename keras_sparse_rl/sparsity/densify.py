from keras_sparse_rl.sparsity.conversion import clone_with
from keras_sparse_rl.sparsity.conversion import composite_classes
from keras_sparse_rl.sparsity.conversion import convert_layer
from keras_sparse_rl.sparsity.conversion import copy_weights
from keras_sparse_rl.sparsity.conversion import keras_classes


def densify(model):
    """Turns a sparse model into plain Keras layers, the zeros baked in.

    The result computes the same, saves without masks or exponents, and loads
    in a program that has never heard of this package. Layers of this package
    that hold others, such as `GTrXL`, stay, with plain kernels inside.

    Args:
        model: Sequential or functional Keras model, built, with sparse
            layers. It is left as it is.

    Returns:
        A new model of the same kind, without sparse kernels. Not compiled.

    Raises:
        TypeError: for a subclassed model.
        ValueError: if the model has no sparse layer.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> from keras_sparse_rl.sparsity import densify
    >>> model = keras.Sequential([keras.Input((4,)), PowerpropDense(3)])
    >>> [type(layer).__name__ for layer in densify(model).layers]
    ['Dense']
    """
    classes = keras_classes()

    converted = []

    def convert(layer):
        if isinstance(layer, composite_classes()) and layer.alpha is not None:
            converted.append(layer)
            return convert_layer(layer, type(layer), alpha=None)
        target = classes.get(type(layer))
        if target is None:
            return None
        converted.append(layer)
        return convert_layer(layer, target)

    dense, pairs = clone_with(model, convert)
    for layer, new in pairs:
        copy_weights(layer, new)
    if not converted:
        raise ValueError(
            f"Model '{model.name}' has no sparse layer, so there is nothing "
            "to bake in: it is made of plain Keras layers already."
        )
    return dense
