import math

import numpy as np
import tensorflow as tf

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_positive
from keras_sparse_rl.meta.bandit_policies import check_counts
from keras_sparse_rl.meta.bandit_policies import largest

MOST_STATES = 10_000_000


class BanditOptimum:
    """The best play of a small Bernoulli bandit, by dynamic programming.

    The third template of "Meta-learning of Sequential Strategies" by Ortega
    et al. 2019 (https://arxiv.org/abs/1905.03030) approaches what is exact
    here: the largest mean return over `horizon` pulls of arms whose
    probabilities are drawn from Beta(alpha, beta). All numbers of rewards and
    of pulls without, of all arms, are states; `return_of` values any other way
    to play over the same states, exactly.

    Args:
        num_arms: int of at least 2.
        horizon: int, pulls.
        alpha: float above 0, of the prior.
        beta: float above 0, of the prior.

    Attributes:
        best_return: float, mean return of one who knows the arms.
        optimal_return: float, the largest mean return of one who does not.
        optimal_regret: float, the difference.

    Raises:
        ValueError: if an argument is out of its range, or there are more than
            10 million states: says which horizon is possible.

    Example:

    >>> from keras_sparse_rl import meta
    >>> bandit = meta.BanditOptimum(num_arms=2, horizon=10)
    >>> round(bandit.optimal_return, 4), round(bandit.optimal_regret, 3)
    (6.0218, 0.645)
    >>> bandit.best_return - bandit.return_of(meta.thompson_policy) > 0.645
    True
    >>> bandit.policy([1, 0], [0, 0])
    array([1., 0.])
    """

    def __init__(self, num_arms=2, horizon=20, alpha=1.0, beta=1.0):
        self.num_arms = check_integer("num_arms", num_arms, minimum=2)
        self.horizon = check_integer("horizon", horizon)
        self.alpha = check_positive("alpha", alpha)
        self.beta = check_positive("beta", beta)
        _check_size(self.num_arms, self.horizon)
        self.best_return = self.horizon * self.mean_of_best(
            self.num_arms, self.alpha, self.beta
        )
        # Which arms are best, by number of pulls; see `policy`.
        self._best = {}

        def choose(time, counts, worth):
            self._best[time] = largest(worth)
            return worth.max(-1)

        self.optimal_return = self._backwards(choose)
        self.optimal_regret = self.best_return - self.optimal_return

    def policy(self, successes, failures):
        """The best play: a policy like `thompson_policy`, ties at random.

        Args:
            successes: array `(..., num_arms)`, how often each arm has paid.
            failures: the same, how often it has not.

        Returns:
            float64 array `(..., num_arms)`, 1 in sum.

        Raises:
            ValueError: if there were as many pulls as the horizon has, or more.
        """
        successes, failures = check_counts(successes, failures)
        counts = np.concatenate([successes, failures], -1).astype(int)
        if counts.shape[-1] != 2 * self.num_arms:
            raise ValueError(
                f"The bandit has {self.num_arms} arms. Received: counts of "
                f"shape {successes.shape}."
            )
        rows = counts.reshape(-1, counts.shape[-1])
        pulls = rows.sum(-1)
        if pulls.size and pulls.max() >= self.horizon:
            raise ValueError(
                f"No pull follows the last of horizon={self.horizon}. "
                f"Received: counts of {pulls.max()} pulls."
            )
        found = np.zeros((len(rows), self.num_arms))
        for time in np.unique(pulls):
            now = pulls == time
            found[now] = self._best[time][_find(rows[now])]
        return found.reshape(successes.shape)

    def return_of(self, policy):
        """Mean return of a way to play, exactly.

        Args:
            policy: function from `successes` and `failures`, arrays
                `(states, num_arms)`, to probabilities of the same shape, such
                as `thompson_policy`.

        Returns:
            float.
        """

        def choose(time, counts, worth):
            counts = counts.astype("float64")
            probabilities = policy(
                counts[:, : self.num_arms], counts[:, self.num_arms :]
            )
            return (np.asarray(probabilities) * worth).sum(-1)

        return self._backwards(choose)

    def _backwards(self, choose):
        arms, parts = self.num_arms, 2 * self.num_arms
        value = None
        for time in range(self.horizon - 1, -1, -1):
            counts = _layer(parts, time)
            a = counts[:, :arms] + self.alpha
            mean = a / (a + counts[:, arms:] + self.beta)
            worth = mean.copy()
            if value is not None:
                for arm in range(arms):
                    won, lost = counts.copy(), counts.copy()
                    won[:, arm] += 1
                    lost[:, arms + arm] += 1
                    chance = mean[:, arm]
                    worth[:, arm] += chance * value[_find(won)]
                    worth[:, arm] += (1 - chance) * value[_find(lost)]
            value = choose(time, counts, worth)
        return float(value[0])

    @staticmethod
    def mean_of_best(num_arms, alpha=1.0, beta=1.0):
        """Mean of the largest of `num_arms` numbers of Beta(alpha, beta)."""
        # The mean of a number in [0, 1] is the integral of 1 - P(below x).
        nodes, weights = np.polynomial.legendre.leggauss(256)
        x = (nodes + 1) / 2
        a, b = (np.full_like(x, p) for p in (alpha, beta))
        below = tf.math.betainc(a, b, x).numpy() ** num_arms
        return float(1 - (weights * below).sum() / 2)


def _layer(parts, total):
    """All ways to share `total` among `parts`, in lexicographic order."""
    rows = np.zeros((1, 0), int)
    left = np.array([total])
    for _ in range(parts - 1):
        number = left + 1
        repeated = np.repeat(np.arange(len(rows)), number)
        first = np.repeat(number.cumsum() - number, number)
        taken = np.arange(len(repeated)) - first
        rows = np.concatenate([rows[repeated], taken[:, None]], axis=1)
        left = left[repeated] - taken
    return np.concatenate([rows, left[:, None]], axis=1)


def _find(rows):
    """Where rows of counts stand in the layer of their total."""
    left = rows.sum(-1)
    place = np.zeros(len(rows), int)
    for part, others in enumerate(range(rows.shape[1] - 1, 0, -1)):
        # ways[n] share up to n among the parts that follow this one.
        ways = np.array(
            [math.comb(n + others, others) for n in range(left.max() + 1)]
        )
        place += ways[left]
        left = left - rows[:, part]
        place -= ways[left]
    return place


def _check_size(num_arms, horizon):
    def states(steps):
        return math.comb(steps - 1 + 2 * num_arms, 2 * num_arms)

    if states(horizon) <= MOST_STATES:
        return
    possible = 1
    while states(possible + 1) <= MOST_STATES:
        possible += 1
    raise ValueError(
        "The bandit is too large for exact dynamic programming: with "
        f"num_arms={num_arms} and horizon={horizon} it has "
        f"{states(horizon):.2g} states, {MOST_STATES:,} are possible. With "
        f"this number of arms `horizon` may be at most {possible}. Gittins' "
        "indices (meta.gittins_policy) and meta.play_bandit have no such "
        "limit."
    )
