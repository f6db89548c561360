import numpy as np

from keras_sparse_rl._checks import check_density
from keras_sparse_rl._checks import check_flag
from keras_sparse_rl.kernels.structure import structure
from keras_sparse_rl.optimizers.kernel_slots import kernel_slots
from keras_sparse_rl.optimizers.kernel_slots import optimizers_inside
from keras_sparse_rl.sparsity.mask_choice import check_scope
from keras_sparse_rl.sparsity.mask_choice import choose_masks
from keras_sparse_rl.sparsity.selection import find_sparse_kernels
from keras_sparse_rl.sparsity.selection import kernel_densities
from keras_sparse_rl.sparsity.selection import trainable_kernels


def prune(
    model,
    density,
    scope="layer",
    densities="uniform",
    block_size=1,
    regrow=True,
    pattern=None,
    include_frozen=True,
):
    """Keeps the largest weights of a model and masks the others, at once.

    Ranks by the magnitude of the effective weight, also of weights masked so
    far: the result depends on the weights alone, and pruning to 0.1 and then
    to 0.5 gives what pruning to 0.5 would have given. After Top-KAST, prune
    with the `densities` it was trained with, or resting weights come back.
    Weights that rest under `RigL`, `SET` and `StaticSparsity` may be large and
    were never trained: give `regrow=False`. Ties break by index, so that the
    counts are exact.

    Args:
        model: Keras model or layer with sparse layers, built.
        density: float in (0, 1], the share of weights to keep.
        scope: `"layer"` ranks within each kernel, `"global"` over all of
            them together. One weight, or block, of each stays in any case.
        densities: with `scope="layer"`, how the density is shared out:
            `"uniform"`, `"erk"` (see `erk_densities`), or a dict of layer, or
            layer name, to its own density.
        block_size: int, weights that are pruned together, as in `topk_mask`.
        regrow: bool, whether weights that a mask hides now may come back.
        pattern: tuple `(n, m)`, instead of blocks: of every `m` weights along
            the inputs `n` are kept, as in `pattern_mask`; `density` must be
            `n / m`.
        include_frozen: bool, whether layers that are not trainable are pruned
            too (callbacks leave them alone).

    Returns:
        Float, the density reached over all sparse kernels.

    Raises:
        TypeError: if `model` is no Keras model or layer.
        ValueError: if the model has no sparse layer, an argument is out of
            range, or a weight is NaN.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> from keras_sparse_rl.sparsity import prune
    >>> model = keras.Sequential([keras.Input((50,)), PowerpropDense(20)])
    >>> prune(model, density=0.1)
    0.1
    """
    density = check_density("density", density)
    kept_together = structure(block_size, pattern)
    check_flag("regrow", regrow)
    check_flag("include_frozen", include_frozen)
    check_scope(scope, densities, pattern)
    kernels = find_sparse_kernels(model)
    if not include_frozen:
        kernels = trainable_kernels(model, kernels)[0]
    scores = {name: abs(kernel.weight()) for name, kernel in kernels.items()}
    if not regrow:
        for name, kernel in kernels.items():
            scores[name] = np.where(kernel.forward_mask(), scores[name], -1.0)
    shares = kernel_densities(kernels, density, densities)
    if scope == "layer":
        kept_together.check(kernels, shares)
    axes = {name: kernel.input_axes for name, kernel in kernels.items()}
    masks = choose_masks(scores, density, scope, shares, kept_together, axes)
    if not regrow:
        masks = {name: masks[name] & (scores[name] >= 0) for name in masks}
    for name, kernel in kernels.items():
        trained = masks[name] & ~kernel.frozen_mask()
        kernel.assign_masks(masks[name], trained, _slots(model, kernel))
    kept = sum(int(np.count_nonzero(mask)) for mask in masks.values())
    return kept / sum(mask.size for mask in masks.values())


def _slots(model, kernel):
    """The optimizer's variables that must move with sparse weights."""
    if not kernel.is_stored:
        return None
    return kernel_slots(optimizers_inside(model).values(), kernel)
