import abc

import numpy as np


class BayesPredictor(abc.ABC):
    """The best that can be predicted of a task, step by step.

    The base of the exact predictors. They are written in NumPy and float64,
    and stream: a state is an array of sufficient statistics
    `(..., num_statistics)`, to which `update` adds an observation and from
    which `outputs` gives the parameters of the predictive distribution, as a
    perfect model would (see `loss`). Meta-learning is to find a model whose
    memory does the same (Ortega et al. 2019,
    https://arxiv.org/abs/1905.03030, section 2).

    Args:
        loss: `LogLoss`, of which family predictions are.
        num_statistics: int, width of a state.

    Example:

    >>> from keras_sparse_rl import meta
    >>> isinstance(meta.BetaBernoulli(), meta.BayesPredictor)
    True
    """

    def __init__(self, loss, num_statistics):
        self.loss = loss
        self.num_statistics = num_statistics

    def initial_state(self, batch_size):
        """What is known before the first observation.

        Args:
            batch_size: int.

        Returns:
            float64 array `(batch_size, num_statistics)`.
        """
        return np.zeros((batch_size, self.num_statistics))

    @abc.abstractmethod
    def update(self, state, observation):
        """What is known after one more observation.

        Args:
            state: array `(batch, num_statistics)`.
            observation: array `(batch, ...)`.

        Returns:
            A new array like `state`.
        """

    @abc.abstractmethod
    def outputs(self, state):
        """Parameters of the prediction, in the order of `loss`.

        Args:
            state: array `(..., num_statistics)`.

        Returns:
            float64 array `(..., loss.num_outputs)`.
        """

    def states(self, observations):
        """The states before each of the observations.

        Args:
            observations: array `(batch, time, ...)`.

        Returns:
            float64 array `(batch, time, num_statistics)`.
        """
        observations = np.asarray(observations)
        state = self.initial_state(len(observations))
        found = []
        for observation in np.moveaxis(observations, 1, 0):
            found.append(state)
            state = self.update(state, observation)
        return np.stack(found, axis=1)

    def targets(self, observations):
        """What of the observations is predicted, array `(batch, time)`."""
        return np.asarray(observations)

    def log_probability(self, observations):
        """Log probability of what is predicted, given all before it.

        Args:
            observations: array `(batch, time, ...)`.

        Returns:
            float64 array `(batch, time)`, in nats.
        """
        outputs = self.outputs(self.states(observations))
        targets = self.targets(observations)
        return np.asarray(self.loss.log_probability(outputs, targets))
