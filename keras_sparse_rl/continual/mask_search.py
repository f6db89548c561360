"""Which weights a task keeps, as pure functions of arrays."""

import numpy as np

from keras_sparse_rl._checks import check_density
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.kernels.masks import keep_count
from keras_sparse_rl.kernels.masks import topk_mask


def packnet_mask(weight, free, tasks_left):
    """PackNet's share for a task: the largest of the weights still free.

    Every task gets `1 / tasks_left` of what is free, so that all of them get
    the same number of weights ("PackNet", Mallya & Lazebnik 2018,
    https://arxiv.org/abs/1711.05769, section 3).

    Args:
        weight: array of any shape, the effective weights after training.
        free: boolean array of that shape, the weights no task owns yet.
        tasks_left: int, the tasks that share the free weights, this one
            included.

    Returns:
        Boolean array: the weights the task owns from now on, exactly
        `round(free.sum() / tasks_left)` of them, ties broken by index; none
        where nothing is free.

    Raises:
        ValueError: if `tasks_left` is not a positive integer, a weight is
            NaN, or `free` has another shape.

    Example:

    >>> from keras_sparse_rl.continual import packnet_mask
    >>> free = [False, True, True, True, True]
    >>> packnet_mask([9.0, 0.1, -0.4, 0.2, 0.3], free, tasks_left=2).tolist()
    [False, False, True, False, True]
    """
    check_integer("tasks_left", tasks_left)
    weight, free = np.asarray(weight), np.asarray(free)
    if free.dtype != bool or free.shape != weight.shape:
        raise ValueError(
            "`free` must be a boolean array of the weight's shape "
            f"{weight.shape}. Received: free of shape {free.shape} and dtype "
            f"{free.dtype}."
        )
    size = int(np.count_nonzero(free))
    if size == 0:
        return free.copy()
    count = keep_count(1 / tasks_left, size)
    scores = np.where(free, abs(weight), -1.0)
    return topk_mask(scores, count / weight.size)


def sparsest(densities, score, minimum):
    """The smallest density that still scores well enough.

    Asks from the sparsest on and stops at the first that reaches the minimum
    (EfficientPackNet's search, Schwarz et al. 2021,
    https://arxiv.org/abs/2110.00296, section 5; its wording is recalled, not
    read).

    Args:
        densities: list of float in (0, 1], in any order.
        score: function of a density to a float, higher is better.
        minimum: float, the score asked for.

    Returns:
        Float, a density of the list; 1.0 if none reaches the minimum.

    Raises:
        ValueError: if there is no density, one is outside (0, 1], or
            `minimum` is NaN.

    Example:

    >>> from keras_sparse_rl.continual import sparsest
    >>> accuracy = {0.05: 0.61, 0.1: 0.95, 0.5: 0.97}
    >>> sparsest([0.5, 0.1, 0.05], accuracy.get, minimum=0.94)
    0.1
    """
    if np.isnan(minimum):
        raise ValueError(
            "`minimum` must be a number: the score asked for. Received: "
            f"minimum={minimum}."
        )
    for density in check_densities(densities):
        if score(density) >= minimum:
            return density
    return 1.0


def check_densities(densities):
    """Returns densities in rising order, or says what is wrong with them."""
    densities = sorted({check_density("densities", d) for d in densities})
    if not densities:
        raise ValueError(
            "`densities` must name the densities to try, for example "
            "densities=[0.01, 0.02, 0.05, 0.1, 0.2, 0.5]. Received none."
        )
    return densities
