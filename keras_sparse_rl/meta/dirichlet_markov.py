import numpy as np

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_positive
from keras_sparse_rl.meta.bayes_predictor import BayesPredictor
from keras_sparse_rl.meta.categorical_log_loss import CategoricalLogLoss
from keras_sparse_rl.meta.dirichlet_categorical import log_predictive


class DirichletMarkov(BayesPredictor):
    """Predicts a Markov chain of unknown transitions, exactly.

    The first symbol is uniform; each row of the transition matrix has a
    symmetric Dirichlet prior, and predicts as in `DirichletCategorical`. A
    state is the number of each transition, row by row, and the last symbol as
    one-hot (zeros at the start).

    Args:
        num_categories: int of at least 2.
        concentration: float above 0.

    Raises:
        ValueError: if an argument is out of its range.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl import meta
    >>> chain = meta.DirichletMarkov(num_categories=2)
    >>> np.exp(chain.log_probability([[0, 1, 0, 1]])).round(3)
    array([[0.5  , 0.5  , 0.5  , 0.667]])
    """

    def __init__(self, num_categories=3, concentration=1.0):
        number = check_integer("num_categories", num_categories, minimum=2)
        super().__init__(CategoricalLogLoss(number), number * (number + 1))
        self.num_categories = number
        self.concentration = check_positive("concentration", concentration)

    def update(self, state, observation):
        counts, last = self._split(state)
        now = np.eye(self.num_categories)[observation]
        counts = counts + last[..., np.newaxis] * now[..., np.newaxis, :]
        flat = counts.reshape(*counts.shape[:-2], -1)
        return np.concatenate([flat, now], axis=-1)

    def outputs(self, state):
        counts, last = self._split(np.maximum(state, 0.0))
        # Before the first symbol there is no row: all are alike.
        row = (counts * last[..., np.newaxis]).sum(-2)
        return log_predictive(row, self.concentration)

    def _split(self, state):
        number = self.num_categories
        counts = state[..., :-number]
        counts = counts.reshape(*state.shape[:-1], number, number)
        return counts, state[..., -number:]
