import numpy as np

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_positive
from keras_sparse_rl.meta.bandit_policies import thompson_policy
from keras_sparse_rl.meta.bayes_predictor import BayesPredictor
from keras_sparse_rl.meta.categorical_log_loss import CategoricalLogLoss


class BetaBandit(BayesPredictor):
    """Predicts which arm of a bandit is the best, exactly.

    The posterior probability that an arm pays most often, where the arms'
    probabilities have independent Beta(alpha, beta) priors. An observation is
    a triple of the arm that was pulled, its reward and the best arm, of which
    the last is what is predicted, and never learned from. A state is the
    number of rewards of each arm and of pulls without.

    Args:
        num_arms: int of at least 2.
        alpha: float above 0.
        beta: float above 0.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl import meta
    >>> bandit = meta.BetaBandit(num_arms=2)
    >>> state = bandit.update(bandit.initial_state(1), [[0, 1, 0]])
    >>> np.exp(bandit.outputs(state)).round(3)
    array([[0.667, 0.333]])
    """

    def __init__(self, num_arms=2, alpha=1.0, beta=1.0):
        self.num_arms = check_integer("num_arms", num_arms, minimum=2)
        super().__init__(CategoricalLogLoss(self.num_arms), 2 * self.num_arms)
        self.alpha = check_positive("alpha", alpha)
        self.beta = check_positive("beta", beta)

    def update(self, state, observation):
        arm, reward, _ = np.moveaxis(np.asarray(observation), -1, 0)
        pulled = np.eye(self.num_arms)[arm]
        paid = pulled * reward[..., np.newaxis]
        return state + np.concatenate([paid, pulled - paid], axis=-1)

    def outputs(self, state):
        state = np.maximum(state, 0.0)
        counts = state[..., : self.num_arms], state[..., self.num_arms :]
        probability = thompson_policy(*counts, self.alpha, self.beta)
        return np.log(np.maximum(probability, 1e-300))

    def targets(self, observations):
        return np.asarray(observations)[..., 2]
