import numpy as np

from keras_sparse_rl._checks import check_finite

LARGEST_DISCOUNT = 0.999
PRECISION = 1e-5
ROWS = 64  # states whose tables are computed at a time


def gittins_index(alpha, beta, discount):
    """Gittins index of an arm with posterior Beta(alpha, beta).

    The sure reward a step for which one would as soon give up the arm as go on
    with it, if rewards are discounted by `discount` a step for ever. By
    bisection, and dynamic programming of the optimal stopping over as many
    steps as the discount lets matter (J. Gittins, "Bandit processes and
    dynamic allocation indices", 1979). Right to 1e-4.

    Args:
        alpha: float or array of floats above 0, 1 + number of rewards.
        beta: the same, 1 + number of pulls without.
        discount: float in (0, 1), at most 0.999.

    Returns:
        float64 array of the broadcast shape of alpha and beta.

    Raises:
        ValueError: if alpha or beta is not above 0, or the discount is out of
            its range.

    Example:

    >>> from keras_sparse_rl.meta import gittins_index
    >>> gittins_index([1, 2, 1], [1, 1, 2], 0.9).round(4)
    array([0.7029, 0.8001, 0.5001])
    """
    discount = check_finite("discount", discount)
    if not 0 < discount <= LARGEST_DISCOUNT:
        raise ValueError(
            f"`discount` must lie in (0, {LARGEST_DISCOUNT}]: beyond, the "
            "tables of dynamic programming have more than 10,000 steps. "
            f"Received: discount={discount}. For a finite horizon use "
            "meta.BanditOptimum."
        )
    alpha, beta = np.broadcast_arrays(
        np.asarray(alpha, "float64"), np.asarray(beta, "float64")
    )
    if alpha.size and min(alpha.min(), beta.min()) <= 0:
        raise ValueError(
            "`alpha` and `beta` must be above 0: 1 + numbers of rewards and of "
            f"pulls without. Received: smallest {alpha.min()}, {beta.min()}."
        )
    rows = np.stack([alpha.ravel(), beta.ravel()])
    found = [
        _bisect(*rows[:, start : start + ROWS, np.newaxis], discount)
        for start in range(0, rows.shape[1], ROWS)
    ]
    return np.concatenate([np.zeros(0), *found]).reshape(alpha.shape)


def _bisect(alpha, beta, discount):
    low, high = alpha / (alpha + beta), np.ones_like(alpha)
    while (high - low).max() > PRECISION:
        middle = (low + high) / 2
        more = _worth(alpha, beta, middle, discount) > middle
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return ((low + high) / 2)[:, 0]


def _worth(alpha, beta, sure, discount):
    """Worth of pulling now, then stopping at best, times 1 - discount."""
    steps = int(np.ceil(np.log(1e-4) / np.log(discount)))
    ones = np.arange(steps + 1)
    value = np.maximum((alpha + ones) / (alpha + beta + steps), sure)
    for step in range(steps - 1, -1, -1):
        mean = (alpha + ones[: step + 1]) / (alpha + beta + step)
        later = mean * value[:, 1:] + (1 - mean) * value[:, :-1]
        pulled = (1 - discount) * mean + discount * later
        value = np.maximum(pulled, sure)
    return pulled
