import numpy as np

from keras_sparse_rl._checks import check_positive
from keras_sparse_rl.meta.bayes_predictor import BayesPredictor
from keras_sparse_rl.meta.bernoulli_log_loss import BernoulliLogLoss


class BetaBernoulli(BayesPredictor):
    """Predicts a coin of unknown bias, exactly.

    The posterior predictive distribution of a Beta(alpha, beta) prior: 1 has
    probability (alpha + ones) / (alpha + beta + steps). `alpha = beta = 1` is
    Laplace's rule, 0.5 that of Krichevsky and Trofimov. A state is the number
    of ones and of zeros.

    Args:
        alpha: float above 0.
        beta: float above 0.

    Raises:
        ValueError: if one of them is not above 0.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl import meta
    >>> coin = meta.BetaBernoulli()
    >>> np.exp(coin.log_probability([[1, 1, 0]])).round(3)
    array([[0.5  , 0.667, 0.25 ]])
    """

    def __init__(self, alpha=1.0, beta=1.0):
        super().__init__(BernoulliLogLoss(), 2)
        self.alpha = check_positive("alpha", alpha)
        self.beta = check_positive("beta", beta)

    def update(self, state, observation):
        one = np.asarray(observation, "float64")
        return state + np.stack([one, 1 - one], axis=-1)

    def outputs(self, state):
        # A state that a map has guessed may be a little below 0.
        ones, zeros = np.moveaxis(np.maximum(state, 0.0), -1, 0)
        odds = np.log(self.alpha + ones) - np.log(self.beta + zeros)
        return odds[..., np.newaxis]
