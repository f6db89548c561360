"""Which kernels a call means, and the density that each of them gets."""

import collections
import re

import keras

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_density
from keras_sparse_rl.kernels.densities import erk_densities
from keras_sparse_rl.kernels.densities import uniform_densities
from keras_sparse_rl.kernels.kernel import sparse_kernels
from keras_sparse_rl.sparsity.model_checks import check_model

# What names of layers do not have, and regular expressions do.
_PATTERN = re.compile(r"[.*+?\[\](){}|^$\\]")


def find_sparse_kernels(model):
    """The model's sparse kernels by unique name, or an error if none.

    Args:
        model: Keras model or layer, built.

    Returns:
        Dict of name to `Kernel`: the layer's name where that is unique,
        else the names from the model down to it.

    Raises:
        ValueError: if the model has none.
    """
    check_model(model)
    kernels = sparse_kernels(model)
    if not kernels:
        raise ValueError(
            f"Model '{model.name}' has no sparse layer. Make it sparse-ready "
            "by keras_sparse_rl.sparsity.sparsify(model), or use "
            "keras_sparse_rl.layers.PowerpropDense and its kin."
        )
    names = [kernel.short_name for kernel in kernels]
    counts = collections.Counter(names)
    return {
        name if counts[name] == 1 else f"{kernel.path}#{position}": kernel
        for position, (name, kernel) in enumerate(zip(names, kernels))
    }


def trainable_kernels(model, kernels):
    """The kernels of layers that are trained, and those of frozen ones.

    Args:
        model: Keras model or layer, named in the error.
        kernels: dict of name to `Kernel`.

    Returns:
        Pair of dicts of name to `Kernel`.

    Raises:
        ValueError: if all are frozen.
    """
    trained, frozen = {}, {}
    for name, kernel in kernels.items():
        (trained if kernel.layer.trainable else frozen)[name] = kernel
    if not trained:
        raise ValueError(
            f"All sparse layers of model '{model.name}' have trainable=False, "
            "so there is nothing to train sparse. Set layer.trainable = True "
            "before compiling."
        )
    return trained, frozen


def kernel_densities(kernels, density, distribution):
    """The density of each kernel.

    Args:
        kernels: dict of name to `SparseKernel`.
        density: float in (0, 1], for the network.
        distribution: `"uniform"`, `"erk"`, or a dict of layer (or name) to
            its own density; the others then have `density`.

    Returns:
        Dict of name to density.

    Raises:
        ValueError: for an unknown distribution, layer or density.
    """
    shapes = {name: kernel.shape for name, kernel in kernels.items()}
    if isinstance(distribution, dict):
        fixed = resolve_names(kernels, distribution)
        return uniform_densities(shapes, density, fixed)
    check_choice("densities", distribution, ("uniform", "erk"))
    if distribution == "erk":
        return erk_densities(shapes, density)
    return uniform_densities(shapes, density)


def resolve_names(kernels, by_layer, frozen=None):
    """Replaces layers and layer names by the kernels' unique names.

    Args:
        kernels: dict of name to `SparseKernel`.
        by_layer: dict of layer, layer name, kernel name or regular expression
            for kernels' paths, as in `sparsify`, to a density. A layer of
            layers, such as `GTrXL`, means all kernels in it.
        frozen: dict of name to `SparseKernel` of layers that are not
            trainable and therefore not meant; optional.

    Returns:
        Dict of kernel name to density.

    Raises:
        ValueError: for a layer without a sparse kernel, or a density outside
            (0, 1].
    """
    resolved = {}
    for key, density in by_layer.items():
        found = _meant(key, kernels)
        if not found and _meant(key, frozen or {}):
            name = key.name if isinstance(key, keras.layers.Layer) else key
            raise ValueError(
                f"`densities` names layer {name!r}, which is frozen "
                "(trainable=False): its masks stay as they are while others "
                f"train. Received: densities={by_layer!r}. Leave it out, set "
                "trainable = True before compiling, or prune(model, ...) "
                "before training."
            )
        if not found:
            raise ValueError(
                f"There is no sparse layer {key!r}. There are: "
                f"{sorted(kernels)}."
            )
        for name in found:
            resolved[name] = check_density(f"densities[{name!r}]", density)
    return resolved


def _meant(key, kernels):
    """The names of the kernels that a layer, or the name of one, means."""
    if isinstance(key, keras.layers.Layer):
        inside = {id(variable) for variable in key.weights}
        return [n for n, k in kernels.items() if id(k.theta) in inside]
    if key in kernels:
        return [key]
    # Layers inside others may share a name with one outside, which is meant.
    depths = {}
    for name, kernel in kernels.items():
        layers = kernel.path.split("/")[:-1]
        if key in layers:
            depths.setdefault(layers.index(key), []).append(name)
    if not depths and is_pattern(key):
        return [n for n, k in kernels.items() if re.search(key, k.path)]
    return depths[min(depths)] if depths else []


def is_pattern(key):
    """Whether a key of `densities` is a regular expression, not a name.

    Args:
        key: what the user gave.
    """
    return isinstance(key, str) and bool(_PATTERN.search(key))
