"""N:M patterns: of every M weights in a row along the inputs, N are kept."""

import numpy as np

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.kernels.masks import check_no_nan
from keras_sparse_rl.kernels.masks import check_scores


def pattern_mask(scores, pattern, input_axes=(-2,)):
    """Marks the `n` highest of every `m` scores along the inputs.

    What sparse tensor cores compute twice as fast for `(2, 4)` ("Learning N:M
    Fine-grained Structured Sparse Neural Networks From Scratch", Zhou et al.
    2021, https://arxiv.org/abs/2102.04010, section 3). Ties break by index.

    Args:
        scores: array of two axes or more; higher is kept first.
        pattern: tuple of two int, `(n, m)`.
        input_axes: tuple of int, the axes that the product sums over: their
            numbers in a row, last axis fastest, are cut into groups of `m`.

    Returns:
        Boolean array of the shape of `scores`.

    Raises:
        ValueError: if `pattern` is none, `m` does not divide the inputs, there
            are no scores, or one is NaN.

    Example:

    >>> from keras_sparse_rl.sparsity import pattern_mask
    >>> scores = [[4.0], [1.0], [3.0], [2.0]]
    >>> pattern_mask(scores, (2, 4)).ravel().tolist()
    [True, False, True, False]
    """
    keep, group = check_pattern(pattern)
    scores = check_scores("scores", scores)
    check_no_nan(scores)
    groups = _grouped(scores, group, input_axes)
    order = np.argsort(-groups, axis=1, kind="stable")
    kept = np.zeros(groups.shape, bool)
    np.put_along_axis(kept, order[:, :keep], True, axis=1)
    return _ungrouped(kept, scores.shape, input_axes)


def follows_pattern(mask, pattern, input_axes=(-2,)):
    """Whether a mask keeps at most `n` of every `m` weights.

    Args:
        mask: boolean array.
        pattern: tuple of two int, `(n, m)`.
        input_axes: as in `pattern_mask`.
    """
    keep, group = pattern
    return bool((_grouped(mask, group, input_axes).sum(1) <= keep).all())


def check_pattern(pattern):
    """Returns a pattern as a tuple if it is one.

    Raises:
        ValueError: unless it is `(n, m)` with `1 <= n < m`.
    """
    if not isinstance(pattern, (tuple, list)) or len(pattern) != 2:
        raise ValueError(_no_pattern(pattern))
    keep, group = (check_integer("pattern", number) for number in pattern)
    if keep >= group:
        raise ValueError(_no_pattern(pattern))
    return keep, group


def divides(pattern, shape, input_axes):
    """Whether a kernel's inputs fall into groups without a rest.

    Args:
        pattern: tuple of two int, `(n, m)`.
        shape: tuple of int, the kernel's.
        input_axes: as in `pattern_mask`.
    """
    sizes = [shape[axis] for axis in input_axes]
    return bool(sizes) and int(np.prod(sizes)) % pattern[1] == 0


def _no_pattern(pattern):
    return (
        "`pattern` must be a tuple (n, m) of whole numbers with n below m: "
        "of every m weights along the inputs n are kept, for example (2, 4). "
        f"Received: pattern={pattern!r}."
    )


def _front(array, input_axes):
    return np.moveaxis(array, input_axes, range(len(input_axes)))


def _grouped(array, group, input_axes):
    """The array as `(groups, group, outputs)`."""
    front = _front(array, input_axes)
    inputs = int(np.prod(front.shape[: len(input_axes)]))
    if inputs % group:
        raise ValueError(
            f"A pattern over {group} weights needs a number of inputs that it "
            f"divides. Received: an array of shape {array.shape} with "
            f"{inputs} inputs."
        )
    return front.reshape(inputs // group, group, -1)


def _ungrouped(groups, shape, input_axes):
    front = _front(np.empty(shape, bool), input_axes)
    values = groups.reshape(front.shape)
    return np.moveaxis(values, range(len(input_axes)), input_axes)
