import numpy as np


def marginal_policy(probabilities, information, weight=None):
    """The best default policy that sees `information` alone, in closed form.

    What minimizes the weighted sum of `KL(policy || default)` among all
    defaults that only see `information` is the mixture of the policies:
    `default(a | i) = sum weight * policy(a) / sum weight` over the steps with
    information `i`. The M-step of Galashov et al. 2019
    (https://arxiv.org/abs/1905.01240), section 3.

    Args:
        probabilities: array `(steps, actions)`, the policy at each step.
        information: int array `(steps,)`, what the default sees there.
        weight: array `(steps,)`, how much a step counts, such as its
            discount or, in a table, how often it is visited. None for 1.

    Returns:
        Float64 array `(max(information) + 1, actions)`; uniform where nothing
        was seen.

    Raises:
        ValueError: if shapes do not fit, or a number is no probability, no
            index, or a negative weight.

    Example:

    >>> from keras_sparse_rl.losses import marginal_policy
    >>> marginal_policy([[1, 0], [0, 1], [0, 1]], [0, 0, 1])
    array([[0.5, 0.5],
           [0. , 1. ]])
    """
    probabilities, information, weight = check_steps(
        probabilities, information, weight
    )
    number = int(information.max()) + 1 if information.size else 0
    return mixture(
        *sums(probabilities, information, weight, number),
    )


def sums(probabilities, information, weight, number):
    """Weighted sums of probabilities, and weights, for each information."""
    totals = np.zeros((number, probabilities.shape[1]))
    for action, column in enumerate(probabilities.T):
        totals[:, action] = np.bincount(information, weight * column, number)
    return totals, np.bincount(information, weight, number)


def mixture(totals, weight):
    """Probabilities from sums; uniform where the weight is 0."""
    seen = weight[:, np.newaxis] > 0
    uniform = np.full(totals.shape, 1 / totals.shape[1])
    scale = np.where(seen, weight[:, np.newaxis], 1)
    return np.where(seen, totals / scale, uniform)


def check_steps(probabilities, information, weight):
    """The arrays, or says what does not fit."""
    probabilities = np.asarray(probabilities, "float64")
    information = np.asarray(information)
    if probabilities.ndim != 2 or (
        np.any(probabilities < 0)
        or not np.allclose(probabilities.sum(-1), 1, atol=1e-4)
    ):
        raise ValueError(
            "`probabilities` must be (steps, actions) and sum to 1 at each "
            f"step. Received: shape {probabilities.shape}, sums "
            f"{np.unique(probabilities.sum(-1).round(4))[:5]}."
        )
    steps = probabilities.shape[:1]
    weight = np.ones(steps) if weight is None else np.asarray(weight, "float64")
    for name, array in (("information", information), ("weight", weight)):
        if array.shape != steps or np.any(array < 0):
            raise ValueError(
                f"`{name}` must have shape {steps}, as `probabilities`, and "
                f"no negative number. Received: shape {array.shape}, minimum "
                f"{array.min() if array.size else None}."
            )
    if not np.issubdtype(information.dtype, np.integer):
        raise ValueError(
            "`information` must be whole numbers, one for each different "
            "thing the default can see (np.unique(..., return_inverse=True) "
            f"numbers them). Received: dtype {information.dtype}."
        )
    return probabilities, information, weight
