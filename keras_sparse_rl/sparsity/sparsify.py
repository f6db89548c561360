import warnings

import keras
from keras import tree

from keras_sparse_rl._checks import check_alpha
from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_density
from keras_sparse_rl.sparsity.conversion import check_model
from keras_sparse_rl.sparsity.conversion import clone_with
from keras_sparse_rl.sparsity.conversion import composite_classes
from keras_sparse_rl.sparsity.conversion import convert_layer
from keras_sparse_rl.sparsity.conversion import copy_weights
from keras_sparse_rl.sparsity.conversion import has_known_cells
from keras_sparse_rl.sparsity.conversion import inner_layers
from keras_sparse_rl.sparsity.conversion import is_open
from keras_sparse_rl.sparsity.conversion import leaf_layers
from keras_sparse_rl.sparsity.conversion import powerprop_classes


def sparsify(
    model,
    alpha=1.0,
    densities=None,
    execution="dense",
    density=None,
    backward_density=None,
):
    """Turns a Keras model into one that can be trained sparse.

    `Dense`, `Conv1D`, `Conv2D`, `DepthwiseConv2D`, `EinsumDense`, `LSTM`,
    `GRU`, `SimpleRNN`, `RNN` of their cells, and `MultiHeadAttention` layers
    become Powerprop layers with the same effective weights, also inside
    `TimeDistributed`, `Bidirectional` and `OverTime`, and so do the matrices
    inside `GTrXL`, `RelativeMultiHeadAttention`, gates, `EpisodicLSTM`,
    `ResettableRNN` and `PPRCore`: the new model computes what the old one did
    (to 1e-6, relative). The last layer with weights, layers that give an
    output of the model, and embeddings stay plain Keras unless `densities`
    names them. Every other kind of layer with a kernel stays dense, and a
    warning names it. The result is not compiled.

    Args:
        model: Sequential or functional Keras model, built; models inside it
            are converted too. It is left as it is.
        alpha: float, the exponent of Powerpropagation, at least 1; 1 keeps
            ordinary weights.
        densities: dict of layer, or layer name, to the density in (0, 1] at
            which it is pruned at once, by magnitude; optional. A layer named
            here is converted in any case (1.0: converted, not pruned).
        execution: `"dense"`, masks over dense kernels; or `"sparse"` or
            `"auto"`, and dense layers become `SparseDense` layers of that
            execution, with what is not used pruned at once. Layers that are
            sparse already change their execution and keep their masks.
        density: float in (0, 1], of `SparseDense` layers that `densities`
            does not name and that have no masks yet; 0.1 by default. With
            `execution="dense"` nothing has a density before it is pruned.
        backward_density: float, the most that `SparseDense` layers ever
            train; by default twice what they use. Where `densities` names a
            layer its own is in the same proportion.

    Returns:
        A new model of the same kind with the same weights.

    Raises:
        TypeError: for a subclassed model.
        ValueError: if there is no such layer, if a named layer is of a kind
            that cannot be converted, if an argument is out of range, or if
            one of sparse execution is given without it.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.sparsity import sparsify
    >>> model = keras.Sequential([
    ...     keras.Input((784,)),
    ...     keras.layers.Dense(300, activation="relu"),
    ...     keras.layers.Dense(10),
    ... ])
    >>> sparse = sparsify(model, alpha=2.0)
    >>> [type(layer).__name__ for layer in sparse.layers]
    ['PowerpropDense', 'Dense']
    """
    # Imported late: the layers themselves need this package.
    from keras_sparse_rl.layers.sparse_kernel import sparse_kernels

    alpha = check_alpha(alpha)
    check_choice("execution", execution, ("dense", "sparse", "auto"))
    if execution == "dense" and (density, backward_density) != (None, None):
        raise ValueError(
            "`density` and `backward_density` are those of sparse execution. "
            f"Received: density={density}, "
            f"backward_density={backward_density}, execution='dense'. Give "
            "execution='sparse'; or prune the result with prune(model, 0.1), "
            "train it with the callback TopKAST(0.1), or name layers in "
            "`densities`."
        )
    density = check_density("density", 0.1 if density is None else density)
    if backward_density is not None:
        check_density("backward_density", backward_density)
    check_model(model)
    classes = powerprop_classes()
    named = _named_layers(model, densities or {})
    last = _last_layers(model)

    converted, left = [], []

    def convert(layer):
        if type(layer) in _exchangeable(execution):
            converted.append(layer)
            if execution == "dense":
                return convert_layer(layer, classes[keras.layers.Dense])
            return _sparse_dense(layer, execution, density, backward_density)
        spared = id(layer) in last or isinstance(layer, keras.layers.Embedding)
        if spared and id(layer) not in named:
            return None
        target = classes.get(type(layer))
        if isinstance(layer, composite_classes()) and layer.alpha is None:
            target = type(layer)
        if target is None or not has_known_cells(layer):
            if _has_plain_kernel(layer):
                left.append(layer.name)
            return None
        converted.append(layer)
        if execution != "dense" and type(layer) is keras.layers.Dense:
            share = named.get(id(layer), density)
            trained = backward_density
            if trained is not None:
                trained = min(1.0, trained * share / density)
            return _sparse_dense(layer, execution, share, trained, alpha=alpha)
        return convert_layer(layer, target, alpha=alpha)

    sparse, pairs = clone_with(model, convert)
    for layer, new in pairs:
        copy_weights(layer, new)
    _prune_named(pairs, named)
    if not converted:
        already = [p.name for p, _ in pairs if sparse_kernels(p)]
        if already:
            raise ValueError(
                f"Layers {already} of model '{model.name}' are sparse "
                "already, and no other can be turned. For another `alpha`: "
                "sparsify(densify(model), alpha=...)."
            )
        raise ValueError(
            f"Model '{model.name}' has no layer that `sparsify` turns into a "
            "sparse one: Dense, Conv1D, Conv2D, DepthwiseConv2D, "
            "EinsumDense, LSTM, GRU, SimpleRNN, MultiHeadAttention and GTrXL "
            "but for the last layer, and whatever `densities` names."
        )
    if left:
        warnings.warn(
            f"Layers {left} of model '{model.name}' stay dense: `sparsify` "
            "does not know their kernels.",
            stacklevel=2,
        )
    return sparse


def _has_plain_kernel(layer):
    """Whether a layer trains matrices that no mask can make sparse."""
    return any(
        len(v.shape) > 1 and not hasattr(v, "sparse_kernel")
        for v in getattr(layer, "trainable_variables", [])
    )


def _exchangeable(execution):
    """The sparse classes of the other execution."""
    from keras_sparse_rl import layers

    if execution == "dense":
        return (layers.SparseDense,)
    return (layers.PowerpropDense,)


def _sparse_dense(layer, execution, density, backward_density, **arguments):
    """A `SparseDense` layer with the configuration of a dense one."""
    from keras_sparse_rl.layers import SparseDense

    if layer.kernel_constraint is not None:
        raise ValueError(
            f"Layer '{layer.name}' has a kernel_constraint, which needs the "
            "whole kernel: SparseDense has none. Use execution='dense', or "
            "drop the constraint."
        )
    kernel = getattr(layer, "sparse_kernel", None)
    if kernel is not None and not kernel.forward_mask().all():
        used, trained = kernel.forward_mask(), kernel.backward_mask()
        density = float(used.mean())
        found = max(density, float((used | trained).mean()))
        backward_density = max(found, backward_density or 0.0)
    return convert_layer(
        layer,
        SparseDense,
        density=density,
        backward_density=backward_density,
        execution=execution,
        **arguments,
    )


def _named_layers(model, densities):
    """Dict of id to density for the layers that the user names."""
    classes = powerprop_classes()
    layers = list(_walk(model))
    named = {}
    for key, density in densities.items():
        found = [layer for layer in layers if key in (layer.name, layer)]
        if not found:
            raise ValueError(
                f"`densities` names {key!r}, but model '{model.name}' has no "
                f"such layer. It has: {[layer.name for layer in layers]}."
            )
        for layer in [leaf for x in found for leaf in leaf_layers(x)]:
            known = type(layer) in classes
            known = known or isinstance(layer, composite_classes())
            if not known or not has_known_cells(layer):
                raise ValueError(
                    f"Layer '{layer.name}' is of type "
                    f"{type(layer).__name__}, which `sparsify` cannot turn "
                    "into a sparse one. It can turn: "
                    f"{sorted(kind.__name__ for kind in classes)}."
                )
            named[id(layer)] = check_density(
                f"densities[{layer.name!r}]", density
            )
    return named


def _prune_named(pairs, named):
    from keras_sparse_rl.layers import SparseDense
    from keras_sparse_rl.sparsity.prune import prune

    for layer, new in pairs:
        is_dense = not isinstance(new, SparseDense)
        if is_dense and named.get(id(layer), 1.0) < 1:
            prune(new, named[id(layer)])


def _last_layers(model):
    """Ids of the last layer with weights and of those that are outputs.

    An output may go through an activation, or another layer of one input
    without weights.
    """
    outputs = {id(tensor) for tensor in model.outputs}
    for layer in reversed(getattr(model, "operations", model.layers)):
        weightless = not getattr(layer, "weights", None)
        if weightless and _single_output(layer) in outputs:
            inputs = tree.flatten(layer.input)
            outputs |= {id(tensor) for tensor in inputs if len(inputs) == 1}
    weighted = [layer for layer in model.layers if layer.weights]
    last = set()
    for layer in weighted:
        if layer is weighted[-1] or _single_output(layer) in outputs:
            for part in inner_layers(layer) or [layer]:
                last |= _last_layers(part) if is_open(part) else {id(part)}
    return last


def _single_output(layer):
    """Id of the layer's output tensor, or None where it has several."""
    try:
        return id(layer.output)
    except (AttributeError, ValueError):
        return None


def _walk(model):
    """All layers but models, in order; wrappers before what they wrap."""
    for layer in model.layers:
        if not is_open(layer):
            yield layer
        for part in [layer] if is_open(layer) else inner_layers(layer):
            if is_open(part):
                yield from _walk(part)
            else:
                yield part
