import contextlib

from keras_sparse_rl._checks import check_alpha
from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_density
from keras_sparse_rl.kernels.masks import topk_mask
from keras_sparse_rl.sparsity.conversion import SparseArguments
from keras_sparse_rl.sparsity.conversion import convert
from keras_sparse_rl.sparsity.conversion import uncompile
from keras_sparse_rl.sparsity.matrix_choice import named_matrices
from keras_sparse_rl.sparsity.matrix_choice import spared_matrices
from keras_sparse_rl.sparsity.matrix_choice import told_coverage
from keras_sparse_rl.sparsity.model_checks import check_model
from keras_sparse_rl.sparsity.model_checks import check_not_quantized


def sparsify(
    model,
    alpha=1.0,
    densities=None,
    execution="dense",
    density=None,
    backward_density=None,
    verbose=1,
):
    """Makes a built Keras model or layer sparse-ready, in place.

    Every matrix of every layer inside gets a mask and an exponent: of Keras'
    layers, of layers and models of your own, of layers inside layers. The
    model stays what it was: the same object, of the same class, with its
    methods, its `trainable` flags and the same outputs (exactly with
    `alpha=1`, else to 1e-6). Embeddings and the layers that give an output
    stay plain unless `densities` names them; biases always do. LoRA's factors
    are merged into their matrix. Compile the model afterwards. For a copy:
    `sparsify(copy)` after `copy = keras.models.clone_model(model)` and
    `copy.set_weights(model.get_weights())`.

    Args:
        model: Keras model or layer, built.
        alpha: float, the exponent of Powerpropagation, at least 1; 1 keeps
            ordinary weights.
        densities: dict of layer, layer name, or regular expression for the
            paths of matrices (any key with a character such as `.` or `*`),
            to the density in (0, 1] at which it is pruned at once, by
            magnitude; optional. What is named here is made sparse-ready in
            any case (1.0: not pruned).
        execution: `"dense"`, masks over dense matrices; or `"sparse"` or
            `"auto"`, and dense layers become `SparseDense` layers of that
            execution, with what is not used pruned at once. Layers that are
            sparse already change their execution and keep their masks.
        density: float in (0, 1], of `SparseDense` layers that `densities`
            does not name and that have no masks yet; 0.1 by default. With
            `execution="dense"` nothing has a density before it is pruned.
        backward_density: float, the most that `SparseDense` layers ever
            train; by default twice what they use. Where `densities` names a
            layer its own is in the same proportion.
        verbose: 1 to print what is covered, 0 for nothing.

    Raises:
        TypeError: if `model` is no Keras model or layer.
        ValueError: if it has no weights yet or no matrix that can be turned,
            if a layer is quantized, if there is no such layer, if an argument
            is out of range, or if one of sparse execution is given without
            it. The model is then as it was.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.sparsity import sparsify
    >>> model = keras.Sequential([
    ...     keras.Input((784,)),
    ...     keras.layers.Dense(300, activation="relu"),
    ...     keras.layers.Dense(10),
    ... ])
    >>> sparsify(model, alpha=2.0)
    98.6 % of 238,510 parameters are sparse-ready; left: outputs 1.3 %, biases
    and the like 0.1 %
    >>> [type(layer).__name__ for layer in model.layers]
    ['PowerpropDense', 'Dense']
    """
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
    if backward_density is None:
        backward_density = min(1.0, 2 * density)
    check_density("backward_density", backward_density)
    check_model(model)
    check_not_quantized(model)
    named = named_matrices(model, densities or {})
    spared = spared_matrices(model, named)
    arguments = SparseArguments(
        alpha, named, execution, density, backward_density
    )
    with contextlib.ExitStack() as undo:
        kernels = convert(model, spared, arguments, undo)
        undo.pop_all()
    # What cannot fail any more, and may change weights by rounding.
    for kernel in kernels:
        kernel.change_alpha(alpha)
        share = named.get(id(kernel.theta), 1.0)
        if share < 1:
            used = topk_mask(abs(kernel.weight()), share)
            kernel.assign_masks(used, used)
    uncompile(model)
    if verbose:
        print(told_coverage(model, spared))
