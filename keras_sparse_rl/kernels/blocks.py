"""Blocks of weights that are kept or dropped together.

A block is a run of weights along the next-to-last axis of a kernel: of
consecutive inputs of one output in a dense layer, of channels in a
convolution. The last block of a row is shorter where the size does not divide.
"""

import numpy as np

from keras_sparse_rl._checks import check_integer


def block_means(scores, block_size):
    """The mean score of each block.

    Args:
        scores: array, at least of one axis.
        block_size: int, the weights in a block.

    Returns:
        Array whose next-to-last axis (of a vector: its only one) is shorter
        by `block_size`; `scores` itself for `block_size=1`.

    Raises:
        ValueError: if `block_size` is no whole number of at least 1.
    """
    check_integer("block_size", block_size)
    scores = np.asarray(scores)
    if block_size == 1:
        return scores
    axis = _axis(scores)
    starts = np.arange(0, scores.shape[axis], block_size)
    sizes = np.diff([*starts, scores.shape[axis]])
    sizes = sizes.reshape([-1 if a == axis else 1 for a in range(scores.ndim)])
    return np.add.reduceat(scores, starts, axis) / sizes.astype("float32")


def expand_blocks(mask, block_size, shape):
    """The mask of weights that a mask of blocks means.

    Args:
        mask: boolean array, shaped as `block_means` returns it.
        block_size: int.
        shape: tuple of int, the shape of the kernel.

    Returns:
        Boolean array of `shape`.
    """
    if block_size == 1:
        return mask
    axis = _axis(mask)
    return np.repeat(mask, block_size, axis).take(range(shape[axis]), axis)


def used_blocks(mask, block_size):
    """The blocks of which a mask keeps any weight, a boolean array."""
    return block_means(mask.astype("float32"), block_size) > 0


def _axis(array):
    return max(0, array.ndim - 2)
