"""Masks: two bits a weight, and the exact top-k that makes them.

A mask is a `uint8` array beside each kernel. Bit 1 (`FORWARD`) says that the
weight is used (the set A of Top-KAST), bit 2 (`BACKWARD`) that it is trained
(the set B). A dense kernel is 3 everywhere, Top-KAST uses 0, 2 and 3, and a
weight that is used but frozen is 1. This is file format.
"""

import numpy as np

from keras_sparse_rl._checks import check_density
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.kernels.blocks import block_means
from keras_sparse_rl.kernels.blocks import expand_blocks

FORWARD = 1
BACKWARD = 2
SAMPLE = 4096


def topk_mask(scores, density, block_size=1):
    """Marks exactly the `density` share of the highest scores.

    Ties break by index, so that the count is exact: `round(density * size)`,
    and at least one.

    Args:
        scores: array of any shape; higher is kept first.
        density: float in (0, 1], the share that is kept.
        block_size: int, weights that are kept together, by their mean score:
            runs along the next-to-last axis, the inputs of a dense kernel.
            The share is then that of the blocks.

    Returns:
        Boolean array of the shape of `scores`.

    Raises:
        ValueError: if `density` is outside (0, 1], `block_size` is no whole
            number of at least 1, there are no scores, or one is NaN.

    Example:

    >>> from keras_sparse_rl.sparsity import topk_mask
    >>> topk_mask([0.1, 0.7, 0.7, 0.7], density=0.5).tolist()
    [False, True, True, False]
    """
    density = check_density("density", density)
    scores = check_scores("scores", scores)
    means = block_means(scores, block_size)
    kept = _topk(means, keep_count(density, means.size))
    return expand_blocks(kept, block_size, scores.shape)


def global_topk_masks(scores, density, block_size=1):
    """Marks the highest scores over several arrays together.

    The highest of each array is marked in any case: a kernel without a weight
    would cut the network in two.

    Args:
        scores: list of arrays of any shapes.
        density: float in (0, 1], the share that is kept of all of them; where
            that is less than one of each, one of each.
        block_size: int, as in `topk_mask`.

    Returns:
        List of boolean arrays, shaped as `scores`.

    Raises:
        ValueError: as `topk_mask`, or if `scores` names no array.

    Example:

    >>> from keras_sparse_rl.sparsity import global_topk_masks
    >>> masks = global_topk_masks([[5.0, 1.0], [4.0, 3.0]], density=0.5)
    >>> [mask.tolist() for mask in masks]
    [[True, False], [True, False]]
    """
    density = check_density("density", density)
    scores = [
        check_scores(f"scores[{number}]", array)
        for number, array in enumerate(scores)
    ]
    if not scores:
        raise ValueError(
            "`scores` must be a list of arrays, one for each kernel. "
            "Received: scores=[]. Rank a single array with topk_mask."
        )
    means = [block_means(array, block_size) for array in scores]
    flat = np.concatenate([array.reshape(-1) for array in means])
    starts = np.cumsum([0, *(array.size for array in means)])
    check_no_nan(flat)
    firsts = starts[:-1] + [int(np.argmax(array)) for array in means]
    kept = np.zeros(flat.size, bool)
    kept[firsts] = True
    left = keep_count(density, flat.size) - len(firsts)
    if left > 0:
        others = np.flatnonzero(~kept)
        kept[others[_topk(flat[others], left)]] = True
    return [
        expand_blocks(part.reshape(mean.shape), block_size, array.shape)
        for part, mean, array in zip(
            np.split(kept, starts[1:-1]), means, scores
        )
    ]


def keep_count(density, size):
    """How many of `size` weights a density keeps, at least one.

    Args:
        density: float in (0, 1].
        size: int, the number of weights.

    Returns:
        int in [1, size].

    Raises:
        ValueError: if `density` is outside (0, 1] or `size` is no whole
            number of at least 1.

    Example:

    >>> from keras_sparse_rl.sparsity import keep_count
    >>> keep_count(0.05, 1000), keep_count(0.001, 100)
    (50, 1)
    """
    density = check_density("density", density)
    size = check_integer("size", size)
    return min(size, max(1, round(density * size)))


def check_scores(name, scores):
    """Returns scores as an array of numbers, or says what they must be."""
    try:
        array = np.asarray(scores)
    except ValueError as error:  # rows of several lengths
        raise ValueError(_no_scores(name, scores)) from error
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise TypeError(_no_scores(name, scores))
    if not array.size or not array.ndim:
        raise ValueError(_no_scores(name, scores))
    return array


def _no_scores(name, scores):
    return (
        f"`{name}` must be an array of numbers with at least one, for example "
        f"the magnitudes abs(weights). Received: {name}={scores!r}."
    )


def _topk(scores, count):
    flat = scores.reshape(-1)
    check_no_nan(flat)
    if count == flat.size:
        return np.ones(scores.shape, bool)
    threshold = _threshold(flat, count)
    kept = flat >= threshold
    surplus = np.count_nonzero(kept) - count
    if surplus:
        ties = np.flatnonzero(flat == threshold)
        kept[ties[-surplus:]] = False
    return kept.reshape(scores.shape)


def check_no_nan(scores):
    """Raises if an array of scores holds NaN."""
    if np.isnan(scores.max()):
        raise ValueError(
            "`scores` holds NaN, so no ranking exists. The weights have "
            "probably diverged: lower the learning rate, or stop earlier with "
            "keras.callbacks.TerminateOnNaN()."
        )


def _threshold(flat, count):
    """The value that comes at place `count` from the highest."""
    if flat.size > 16 * SAMPLE:
        # A sample says between which values it lies, but for rare luck; to
        # order the few in between takes a fraction of the time.
        # (An odd stride, or it would see few columns of most kernels.)
        sample = np.sort(flat[:: flat.size // SAMPLE | 1])[::-1]
        place = sample.size * count / flat.size
        margin = 4 * np.sqrt(place * (1 - count / flat.size)) + 2
        high = sample[max(0, int(place - margin))]
        low = sample[min(sample.size - 1, int(place + margin))]
        above = flat > high
        between = flat[(flat >= low) ^ above]
        rest = count - np.count_nonzero(above)
        if 0 < rest <= between.size:
            flat, count = between, rest
    return np.partition(flat, flat.size - count)[flat.size - count]
