import numpy as np

from keras_sparse_rl._checks import check_finite
from keras_sparse_rl._checks import check_positive
from keras_sparse_rl.meta.bayes_predictor import BayesPredictor
from keras_sparse_rl.meta.normal_log_loss import NormalLogLoss


class NormalMean(BayesPredictor):
    """Predicts normal numbers whose mean is unknown, exactly.

    The mean has a normal prior, the noise around it a known deviation. A state
    is the sum of the observations and their number.

    Args:
        prior_mean: float.
        prior_std: float above 0.
        noise_std: float above 0.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> from keras_sparse_rl import meta
    >>> predictor = meta.NormalMean(prior_std=1.0, noise_std=1.0)
    >>> state = predictor.update(predictor.initial_state(1), [2.0])
    >>> predictor.outputs(state).round(3)  # 1 +- sqrt(1.5)
    array([[1.   , 0.203]])
    """

    def __init__(self, prior_mean=0.0, prior_std=1.0, noise_std=1.0):
        super().__init__(NormalLogLoss(), 2)
        self.prior_mean = check_finite("prior_mean", prior_mean)
        self.prior_std = check_positive("prior_std", prior_std)
        self.noise_std = check_positive("noise_std", noise_std)

    def update(self, state, observation):
        x = np.asarray(observation, "float64")
        return state + np.stack([x, np.ones_like(x)], axis=-1)

    def outputs(self, state):
        total, number = state[..., 0], np.maximum(state[..., 1], 0.0)
        prior, noise = self.prior_std**-2, self.noise_std**-2
        precision = prior + number * noise
        mean = (prior * self.prior_mean + noise * total) / precision
        variance = 1 / precision + self.noise_std**2
        return np.stack([mean, 0.5 * np.log(variance)], axis=-1)
