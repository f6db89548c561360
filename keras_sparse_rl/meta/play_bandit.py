import keras
import numpy as np

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_positive
from keras_sparse_rl.meta.tasks.bandit_expert import BanditExpert


def play_bandit(
    policy,
    num_arms=2,
    horizon=20,
    episodes=10_000,
    seed=0,
    alpha=1.0,
    beta=1.0,
):
    """Lets a policy play Bernoulli bandits, and counts what it misses.

    Args:
        policy: function from `successes` and `failures`, arrays
            `(episodes, num_arms)`, to probabilities of the same shape, such
            as `thompson_policy`; or a Keras model with inputs and outputs as
            of `tasks.BanditExpert`, from which actions are drawn.
        num_arms: int of at least 2.
        horizon: int, pulls of an episode.
        episodes: int.
        seed: int.
        alpha: float above 0, of the prior of the arms' probabilities.
        beta: float above 0, of the same.

    Returns:
        float64 array `(episodes,)`: regret, the mean reward of the best arm
        minus that of the arm that was pulled, summed over the episode.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_sparse_rl import meta
    >>> regret = meta.play_bandit(meta.ucb1_policy, episodes=2000)
    >>> regret.shape, bool(1.6 < regret.mean() < 2.0)
    ((2000,), True)
    """
    check_integer("num_arms", num_arms, minimum=2)
    check_integer("horizon", horizon)
    check_integer("episodes", episodes)
    check_integer("seed", seed, minimum=0)
    check_positive("alpha", alpha)
    check_positive("beta", beta)
    generator = np.random.default_rng(seed)
    pays = generator.beta(alpha, beta, (episodes, num_arms))
    rows = np.arange(episodes)
    observations = np.zeros((episodes, horizon, 3), "int32")
    counts = np.zeros((2, episodes, num_arms))
    regret = np.zeros(episodes)
    choose = policy
    if isinstance(policy, keras.Model):
        task = BanditExpert(num_arms, alpha, beta, horizon)
        choose = _ModelPolicy(policy, task, observations)
    for step in range(horizon):
        bounds = np.asarray(choose(*counts), "float64").cumsum(-1)
        drawn = generator.random((episodes, 1)) * bounds[:, -1:]
        arm = (drawn >= bounds[:, :-1]).sum(-1)
        paid = generator.random(episodes) < pays[rows, arm]
        regret += pays.max(-1) - pays[rows, arm]
        counts[np.where(paid, 0, 1), rows, arm] += 1
        observations[:, step, 0], observations[:, step, 1] = arm, paid
    return regret


class _ModelPolicy:
    """Probabilities from a model that is shown the whole episode so far."""

    def __init__(self, model, task, observations):
        self._model, self._task = model, task
        self._observations = observations

    def __call__(self, successes, failures):
        step = int((successes + failures)[0].sum())
        inputs = self._task.inputs(self._observations)
        # What comes later is still zeros, and does not reach back.
        logits = self._model.predict(inputs, batch_size=1024, verbose=0)
        logits = np.asarray(logits[:, step], "float64")
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True)
