import numpy as np

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_positive
from keras_sparse_rl._checks import check_share
from keras_sparse_rl.meta.bayes_predictor import BayesPredictor
from keras_sparse_rl.meta.bernoulli_log_loss import BernoulliLogLoss


class PiecewiseBernoulli(BayesPredictor):
    """Predicts a coin that is exchanged now and then, exactly.

    Before each step but the first the coin is exchanged with probability
    `hazard` for one whose bias is drawn from Beta(alpha, beta). The predictor
    weighs every point at which the present coin may have come ("Bayesian
    online changepoint detection" by Adams and MacKay 2007,
    https://arxiv.org/abs/0710.3742; the setting of Genewein et al. 2023,
    https://arxiv.org/abs/2302.03067). A state holds `length` coins, the
    youngest first: their posterior probability, ones and zeros.

    Args:
        length: int, longest sequence.
        hazard: float in [0, 1).
        alpha: float above 0.
        beta: float above 0.

    Raises:
        ValueError: if an argument is out of its range, or a sequence is longer
            than `length`.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl import meta
    >>> coins = meta.PiecewiseBernoulli(length=3, hazard=0.5)
    >>> np.exp(coins.log_probability([[1, 1, 1]])).round(3)
    array([[0.5  , 0.583, 0.607]])
    """

    def __init__(self, length, hazard=0.1, alpha=1.0, beta=1.0):
        self.length = check_integer("length", length)
        super().__init__(BernoulliLogLoss(), 3 * self.length)
        self.hazard = check_share("hazard", hazard)
        self.alpha = check_positive("alpha", alpha)
        self.beta = check_positive("beta", beta)

    def initial_state(self, batch_size):
        state = np.zeros((batch_size, 3, self.length))
        state[:, 0, 0] = 1.0
        return state.reshape(batch_size, -1)

    def update(self, state, observation):
        weights, ones, zeros = self._split(state)
        one = np.asarray(observation, "float64")[:, np.newaxis]
        good = self._probability(ones, zeros)
        weights = weights * np.where(one == 1, good, 1 - good)
        weights = weights / weights.sum(-1, keepdims=True)
        # The last coin that there is room for drops out: it is only reached
        # at the end of a sequence, and no step follows.
        young = [self.hazard, 0.0, 0.0]
        kept = [(1 - self.hazard) * weights, ones + one, zeros + 1 - one]
        return np.concatenate(
            [
                np.concatenate([np.full_like(one, new), old[:, :-1]], axis=-1)
                for new, old in zip(young, kept)
            ],
            axis=-1,
        )

    def outputs(self, state):
        weights, ones, zeros = self._split(np.maximum(state, 0.0))
        good = self._probability(ones, zeros)
        weights = weights / weights.sum(-1, keepdims=True)
        probability = (weights * good).sum(-1, keepdims=True)
        return np.log(probability) - np.log1p(-probability)

    def states(self, observations):
        if np.shape(observations)[1] > self.length:
            raise ValueError(
                f"There is room for sequences of length={self.length}. "
                f"Received: {np.shape(observations)[1]} steps. Make a "
                "predictor of that length."
            )
        return super().states(observations)

    def _split(self, state):
        parts = state.reshape(*state.shape[:-1], 3, self.length)
        return np.moveaxis(parts, -2, 0)

    def _probability(self, ones, zeros):
        total = self.alpha + self.beta + ones + zeros
        return (self.alpha + ones) / total
