import numpy as np

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_positive
from keras_sparse_rl.meta.bayes_predictor import BayesPredictor
from keras_sparse_rl.meta.categorical_log_loss import CategoricalLogLoss


class DirichletCategorical(BayesPredictor):
    """Predicts a die of unknown probabilities, exactly.

    The posterior predictive distribution of a symmetric Dirichlet prior:
    a symbol has a probability proportional to `concentration` + how often it
    was seen. A state is the number of each.

    Args:
        num_categories: int of at least 2.
        concentration: float above 0.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl import meta
    >>> die = meta.DirichletCategorical(num_categories=4)
    >>> np.exp(die.log_probability([[2, 2, 0]])).round(3)
    array([[0.25 , 0.4  , 0.167]])
    """

    def __init__(self, num_categories=4, concentration=1.0):
        num_categories = check_integer(
            "num_categories", num_categories, minimum=2
        )
        super().__init__(CategoricalLogLoss(num_categories), num_categories)
        self.concentration = check_positive("concentration", concentration)

    def update(self, state, observation):
        return state + np.eye(self.num_statistics)[observation]

    def outputs(self, state):
        return log_predictive(np.maximum(state, 0.0), self.concentration)


def log_predictive(counts, concentration):
    """Log probability of each symbol after counts `(..., num_categories)`."""
    counts = counts + concentration
    return np.log(counts) - np.log(counts.sum(-1, keepdims=True))
