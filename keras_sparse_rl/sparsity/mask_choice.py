"""Which weights are kept: the one place where scores become masks."""

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl.kernels.masks import global_topk_masks
from keras_sparse_rl.kernels.structure import Blocks

_SINGLE = Blocks(1)


def check_scope(scope, densities="uniform", pattern=None):
    """Returns `scope` if it is one, and fits the densities and the pattern.

    Args:
        scope: `"layer"` or `"global"`, as a user gave it.
        densities: how the density is shared out, as a user gave it.
        pattern: tuple of two int, or None.

    Raises:
        ValueError: for another scope; for densities of layers, or a pattern,
            with `"global"`.
    """
    check_choice("scope", scope, ("layer", "global"))
    if scope == "global" and densities != "uniform":
        raise ValueError(
            "scope='global' ranks all weights together, so no layer has a "
            f"density of its own. Received: densities={densities!r}. Drop it "
            "or use scope='layer'."
        )
    if scope == "global" and pattern is not None:
        raise ValueError(
            "A pattern fixes what each kernel keeps, and scope='global' "
            f"shares it out. Received: pattern={pattern!r}. Drop it or use "
            "scope='layer'."
        )
    return scope


def choose_masks(
    scores,
    density,
    scope="layer",
    shares=None,
    structure=_SINGLE,
    input_axes=None,
):
    """The masks that keep the highest scores; at least one of each kernel.

    Args:
        scores: dict of kernel name to array, higher is kept first.
        density: float in (0, 1], the share of the weights that is kept.
        scope: `"layer"` ranks within each kernel, `"global"` over all of
            them together.
        shares: with `scope="layer"`, dict of kernel name to a density of its
            own; None for `density` everywhere.
        structure: `Structure`, what is kept together; with `scope="global"`
            it must be `Blocks`.
        input_axes: dict of kernel name to the axes of its inputs, for patterns;
            optional.

    Returns:
        Dict of kernel name to a boolean array.

    Raises:
        ValueError: if an argument is out of range or a score is NaN.

    Example:

    >>> from keras_sparse_rl.sparsity.mask_choice import choose_masks
    >>> masks = choose_masks({"a": [9.0, 8.0], "b": [2.0, 1.0]}, 0.5, "global")
    >>> {name: mask.tolist() for name, mask in masks.items()}
    {'a': [True, False], 'b': [True, False]}
    """
    check_choice("scope", scope, ("layer", "global"))
    if scope == "global":
        kept = global_topk_masks(list(scores.values()), density, structure.size)
        return dict(zip(scores, kept))
    shares = shares or dict.fromkeys(scores, density)
    axes = input_axes or dict.fromkeys(scores, (-2,))
    return {
        name: structure.top(array, shares[name], axes[name])
        for name, array in scores.items()
    }
