"""Ways to play a Bernoulli bandit, as functions of what was seen so far.

Each takes `successes` and `failures`, arrays `(..., num_arms)` of how often an
arm has paid and has not, and returns the probabilities of pulling each.
"""

import functools

import numpy as np
import tensorflow as tf

from keras_sparse_rl._checks import check_finite
from keras_sparse_rl._checks import check_positive
from keras_sparse_rl.meta.gittins_index import gittins_index

CHUNK = 4096  # rows whose integrals are computed at a time


def thompson_policy(successes, failures, alpha=1.0, beta=1.0):
    """Thompson sampling: the probability of being the best arm, exactly.

    With priors Beta(alpha, beta), by Gauss-Legendre quadrature, which is exact
    where alpha and beta are whole numbers.

    Args:
        successes: array `(..., num_arms)`, how often each arm has paid.
        failures: the same, how often it has not.
        alpha: float above 0, of the prior.
        beta: float above 0, of the prior.

    Returns:
        float64 array `(..., num_arms)`, 1 in sum.

    Raises:
        ValueError: if counts are negative or not alike in shape, or a prior's
            number is not above 0.

    Example:

    >>> from keras_sparse_rl.meta import thompson_policy
    >>> thompson_policy([1, 0], [0, 0]).round(3)
    array([0.667, 0.333])
    """
    successes, failures = check_counts(successes, failures)
    a = successes + check_positive("alpha", alpha)
    b = failures + check_positive("beta", beta)
    shape = a.shape
    rows = np.concatenate([a, b], axis=-1).reshape(-1, 2 * shape[-1])
    # Few different counts occur many times.
    rows, where = np.unique(rows, axis=0, return_inverse=True)
    found = [
        _best_arm(*np.split(rows[start : start + CHUNK], 2, axis=-1))
        for start in range(0, len(rows), CHUNK)
    ]
    return np.concatenate(found)[where.ravel()].reshape(shape)


def greedy_policy(successes, failures, alpha=1.0, beta=1.0):
    """Pulls the arm with the largest posterior mean, ties at random.

    Args:
        successes: array `(..., num_arms)`, how often each arm has paid.
        failures: the same, how often it has not.
        alpha: float above 0, of the prior.
        beta: float above 0, of the prior.

    Returns:
        float64 array `(..., num_arms)`, 1 in sum.

    Raises:
        ValueError: as `thompson_policy`.

    Example:

    >>> from keras_sparse_rl.meta import greedy_policy
    >>> greedy_policy([1, 0], [0, 0])
    array([1., 0.])
    """
    successes, failures = check_counts(successes, failures)
    a = successes + check_positive("alpha", alpha)
    b = failures + check_positive("beta", beta)
    return largest(a / (a + b))


def ucb1_policy(successes, failures):
    """UCB1: mean reward and a bonus of sqrt(2 log t / pulls).

    "Finite-time analysis of the multiarmed bandit problem" by Auer et al. 2002
    (https://doi.org/10.1023/A:1013689704352), figure 1. Every arm is pulled
    once first; ties at random.

    Args:
        successes: array `(..., num_arms)`, how often each arm has paid.
        failures: the same, how often it has not.

    Returns:
        float64 array `(..., num_arms)`, 1 in sum.

    Raises:
        ValueError: if counts are negative or not alike in shape.

    Example:

    >>> from keras_sparse_rl.meta import ucb1_policy
    >>> ucb1_policy([1, 0], [1, 1])
    array([1., 0.])
    """
    successes, failures = check_counts(successes, failures)
    pulls = successes + failures
    total = np.maximum(pulls.sum(-1, keepdims=True), 1)
    known = np.maximum(pulls, 1)
    bound = successes / known + np.sqrt(2 * np.log(total) / known)
    return largest(np.where(pulls == 0, np.inf, bound))


def gittins_policy(successes, failures, discount, alpha=1.0, beta=1.0):
    """Pulls the arm with the largest Gittins index, ties at random.

    The best there is if rewards are discounted for ever, and nearly so over a
    horizon of about 1 / (1 - discount).

    Args:
        successes: array `(..., num_arms)`, how often each arm has paid.
        failures: the same, how often it has not.
        discount: float in (0, 1).
        alpha: float above 0, of the prior.
        beta: float above 0, of the prior.

    Returns:
        float64 array `(..., num_arms)`, 1 in sum.

    Raises:
        ValueError: as `thompson_policy` and `gittins_index`.

    Example:

    >>> from keras_sparse_rl.meta import gittins_policy
    >>> gittins_policy([1, 0], [1, 0], discount=0.9)  # the unknown one
    array([0., 1.])
    """
    successes, failures = check_counts(successes, failures)
    a = successes + check_positive("alpha", alpha)
    b = failures + check_positive("beta", beta)
    known = _known_indices(check_finite("discount", discount))
    wanted = set(zip(a.ravel(), b.ravel()))
    new = np.array(sorted(wanted - known.keys())).reshape(-1, 2)
    known.update(zip(map(tuple, new), gittins_index(*new.T, discount)))
    index = [known[pair] for pair in zip(a.ravel(), b.ravel())]
    return largest(np.reshape(index, a.shape))


@functools.lru_cache(maxsize=8)
def _known_indices(discount):
    """Dict of (alpha, beta) to index, for a discount: an index takes long."""
    return {}


def largest(values):
    """Equal probabilities for all arms that are within 1e-9 of the best."""
    best = values >= values.max(-1, keepdims=True) - 1e-9
    return best / best.sum(-1, keepdims=True)


def check_counts(successes, failures):
    """Returns both as float64 arrays, if they can be counts."""
    successes = np.asarray(successes, "float64")
    failures = np.asarray(failures, "float64")
    good = successes.shape == failures.shape and successes.ndim > 0
    if not good or min(successes.min(), failures.min()) < 0:
        raise ValueError(
            "`successes` and `failures` must be counts of one shape, "
            "(..., num_arms), none negative. Received: shapes "
            f"{successes.shape} and {failures.shape}, smallest numbers "
            f"{successes.min()} and {failures.min()}."
        )
    return successes, failures


def _best_arm(a, b):
    """Probability that each of Beta(a, b), `(rows, arms)`, is the largest."""
    # The integrand is a polynomial of less than this degree if a and b are
    # whole, and n nodes integrate 2 n - 1 degrees exactly.
    degree = int(np.ceil((a + b).sum(-1).max()))
    nodes, weights = np.polynomial.legendre.leggauss(max(32, degree // 2 + 1))
    x = (nodes + 1) / 2
    a, b = a[..., np.newaxis], b[..., np.newaxis]
    below = tf.math.betainc(*map(tf.constant, np.broadcast_arrays(a, b, x)))
    below = below.numpy()
    log_norm = tf.math.lgamma(a + b) - tf.math.lgamma(a) - tf.math.lgamma(b)
    log_density = (a - 1) * np.log(x) + (b - 1) * np.log1p(-x)
    density = np.exp(log_norm.numpy() + log_density) * weights / 2
    arms = range(a.shape[1])
    found = [
        (density[:, arm] * np.delete(below, arm, axis=1).prod(1)).sum(-1)
        for arm in arms
    ]
    found = np.stack(found, axis=-1)
    return found / found.sum(-1, keepdims=True)
