import numpy as np

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_density
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.kernels.masks import global_topk_masks
from keras_sparse_rl.kernels.masks import topk_mask
from keras_sparse_rl.sparsity.selection import find_sparse_kernels
from keras_sparse_rl.sparsity.selection import kernel_densities


def prune(
    model,
    density,
    scope="layer",
    densities="uniform",
    block_size=1,
    regrow=True,
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
            them together.
        densities: with `scope="layer"`, how the density is shared out:
            `"uniform"`, `"erk"` (see `erk_densities`), or a dict of layer, or
            layer name, to its own density.
        block_size: int, weights that are pruned together, as in `topk_mask`.
        regrow: bool, whether weights that a mask hides now may come back.

    Returns:
        Float, the density reached over all sparse kernels.

    Raises:
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
    check_choice("scope", scope, ("layer", "global"))
    check_integer("block_size", block_size)
    if scope == "global" and densities != "uniform":
        raise ValueError(
            "scope='global' ranks all weights together, so no layer has a "
            f"density of its own. Received: densities={densities!r}. Drop it "
            "or use scope='layer'."
        )
    kernels = find_sparse_kernels(model)
    scores = {name: abs(kernel.weight()) for name, kernel in kernels.items()}
    if not regrow:
        for name, kernel in kernels.items():
            scores[name] = np.where(kernel.forward_mask(), scores[name], -1.0)
    if scope == "global":
        kept = global_topk_masks(list(scores.values()), density, block_size)
        masks = dict(zip(scores, kept))
    else:
        shares = kernel_densities(kernels, density, densities)
        masks = {
            name: topk_mask(scores[name], shares[name], block_size)
            for name in scores
        }
    if not regrow:
        masks = {name: masks[name] & (scores[name] >= 0) for name in masks}
    for name, kernel in kernels.items():
        trained = masks[name] & ~kernel.frozen_mask()
        kernel.assign_masks(masks[name], trained, _slots(model, kernel))
    kept = sum(int(np.count_nonzero(mask)) for mask in masks.values())
    return kept / sum(mask.size for mask in masks.values())


def _slots(model, kernel):
    """The optimizer's variables that must move with sparse weights."""
    optimizer = getattr(model, "optimizer", None)
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    find_slots = getattr(optimizer, "sparse_kernel_slots", None)
    if find_slots is None or not kernel.is_stored:
        return None
    return find_slots(kernel)
