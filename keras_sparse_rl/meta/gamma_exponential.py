import numpy as np

from keras_sparse_rl._checks import check_positive
from keras_sparse_rl.meta.bayes_predictor import BayesPredictor
from keras_sparse_rl.meta.lomax_log_loss import LomaxLogLoss


class GammaExponential(BayesPredictor):
    """Predicts waiting times whose rate is unknown, exactly.

    Exponential waiting times, with a Gamma(shape, rate) prior of their rate:
    the next one has a Lomax distribution of shape + steps and rate + sum. A
    state is the sum of the times and their number.

    Args:
        shape: float above 0.
        rate: float above 0.

    Raises:
        ValueError: if one of them is not above 0.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl import meta
    >>> predictor = meta.GammaExponential(shape=1.0, rate=1.0)
    >>> np.exp(predictor.log_probability([[0.0, 1.0]])).round(3)
    array([[1.  , 0.25]])
    """

    def __init__(self, shape=3.0, rate=2.0):
        super().__init__(LomaxLogLoss(), 2)
        self.shape = check_positive("shape", shape)
        self.rate = check_positive("rate", rate)

    def update(self, state, observation):
        x = np.asarray(observation, "float64")
        return state + np.stack([x, np.ones_like(x)], axis=-1)

    def outputs(self, state):
        total, number = np.moveaxis(np.maximum(state, 0.0), -1, 0)
        parameters = [self.shape + number, self.rate + total]
        return np.log(np.stack(parameters, axis=-1))
