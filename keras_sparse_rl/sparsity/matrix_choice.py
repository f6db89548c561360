"""Which matrices of a model are made sparse-ready, and what that covers."""

import math
import re

import keras

from keras_sparse_rl._checks import check_density
from keras_sparse_rl.kernels.kernel import sparse_kernels
from keras_sparse_rl.kernels.matrices import layers_inside
from keras_sparse_rl.layers.powerprop_kernels import matrices_in
from keras_sparse_rl.sparsity.readers import output_layers
from keras_sparse_rl.sparsity.selection import is_pattern


def named_matrices(model, densities):
    """The matrices that a user names, and the density of each.

    Args:
        model: Keras model or layer, built.
        densities: dict of layer, layer name or regular expression to density.

    Returns:
        Dict of the id of a variable to its density.

    Raises:
        ValueError: if there is no such layer or matrix, or a density is out
            of range.
    """
    if not isinstance(densities, dict):
        raise ValueError(
            "`densities` must be a dict of layer, layer name or regular "
            f"expression to a density. Received: densities={densities!r}. To "
            "share out a density over all layers: prune(model, 0.1, "
            "densities='erk')."
        )
    layers, named = layers_inside(model), {}
    for key, density in densities.items():
        for variable in _meant(model, layers, key):
            named[id(variable)] = check_density(f"densities[{key!r}]", density)
    return named


def spared_matrices(model, named):
    """The matrices that stay as they are: embeddings, and true outputs.

    Args:
        model: Keras model or layer, built.
        named: dict from `named_matrices`; what is in it is not spared.

    Returns:
        Dict of the id of a variable to why it is spared.
    """
    reasons = {}
    if isinstance(model, keras.Model):
        for layer in output_layers(model):
            for variable, _ in matrices_in(layers_inside(layer)):
                reasons[id(variable)] = "outputs"
    for variable, owner in matrices_in(layers_inside(model)):
        words = (variable.name, type(owner).__name__)
        is_table = isinstance(owner, keras.layers.Embedding)
        if is_table or any("embedding" in word.lower() for word in words):
            reasons[id(variable)] = "embeddings"
    return {key: why for key, why in reasons.items() if key not in named}


def told_coverage(model, spared):
    """A line that says which share of a model's parameters can be sparse.

    Args:
        model: Keras model or layer, after `sparsify`.
        spared: dict from `spared_matrices`.
    """
    kernels = sparse_kernels(model)
    beside = {id(v) for k in kernels for v in (k.theta, *k.bookkeeping)}
    sizes = {"biases and the like": 0}
    for variable in model.weights:
        if id(variable) not in beside:
            why = spared.get(id(variable), "biases and the like")
            sizes[why] = sizes.get(why, 0) + math.prod(variable.shape)
    covered = sum(math.prod(kernel.shape) for kernel in kernels)
    total = covered + sum(sizes.values())
    left = [
        f"{why} {size / total:.1%}".replace("%", " %")
        for why, size in sorted(sizes.items(), key=lambda pair: -pair[1])
        if size >= 5e-4 * total
    ]
    line = f"{100 * covered / total:.1f} % of {total:,} parameters are "
    line += "sparse-ready"
    return f"{line}; left: {', '.join(left)}" if left else line


def _meant(model, layers, key):
    """The matrices that a key of `densities` means."""
    if isinstance(key, keras.layers.Layer):
        found = [layer for layer in layers if layer is key]
    else:
        found = [layer for layer in layers if layer.name == key]
    if not found and is_pattern(key):
        matrices = [
            variable
            for variable, _ in matrices_in(layers)
            if re.search(key, variable.path)
        ]
        if matrices:
            return matrices
    if not found:
        raise ValueError(
            f"`densities` names {key!r}, but '{model.name}' has no such "
            f"layer. It has: {[layer.name for layer in layers[1:]]}."
        )
    inside = [part for layer in found for part in layers_inside(layer)]
    matrices = [variable for variable, _ in matrices_in(inside)]
    if not matrices:
        raise ValueError(
            f"Layer '{found[0].name}' is of type {type(found[0]).__name__} "
            "and has no matrix, so `sparsify` cannot turn it into a sparse "
            "one."
        )
    return matrices
