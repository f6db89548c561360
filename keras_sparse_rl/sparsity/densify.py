from keras import ops

from keras_sparse_rl.sparsity.conversion import clone_with
from keras_sparse_rl.sparsity.conversion import convert_layer
from keras_sparse_rl.sparsity.conversion import keras_classes


def densify(model):
    """Turns a sparse model into plain Keras layers, the zeros baked in.

    The result computes the same, saves without masks or exponents, and loads
    in a program that has never heard of this package.

    Args:
        model: Sequential or functional Keras model, built, with sparse
            layers. It is left as it is.

    Returns:
        A new model of the same kind, of Keras layers alone. Not compiled.

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

    def convert(layer):
        target = classes.get(type(layer))
        return None if target is None else convert_layer(layer, target)

    dense, pairs = clone_with(model, convert)
    for layer, new in pairs:
        if type(layer) is type(new):
            new.set_weights(layer.get_weights())
            continue
        weights = [ops.convert_to_numpy(layer.kernel)]
        if layer.bias is not None:
            weights.append(ops.convert_to_numpy(layer.bias))
        new.set_weights(weights)
    if all(type(layer) is type(new) for layer, new in pairs):
        raise ValueError(
            f"Model '{model.name}' has no sparse layer, so there is nothing "
            "to bake in: it is made of plain Keras layers already."
        )
    return dense
