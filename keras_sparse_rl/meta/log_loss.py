import abc

import keras
from keras import ops


class LogLoss(keras.losses.Loss, abc.ABC):
    """Log loss of predicted distributions, in nats a step.

    The base of the losses that `meta.tasks` are learned by. A subclass says of
    which distribution a model's outputs are the parameters, by
    `log_probability(outputs, observation)` and `divergence(outputs, other)`,
    and by `num_outputs`. All are written with `keras.ops` and keep the
    precision of what they get, so that float64 arrays are compared in float64.

    Args:
        name: str.
        **kwargs: arguments of `keras.losses.Loss`. By default the loss is the
            mean over batch and time.

    Attributes:
        num_outputs: int, numbers that a model predicts at each step.

    Example:

    >>> from keras_sparse_rl import meta
    >>> issubclass(meta.NormalLogLoss, meta.LogLoss)
    True
    """

    def __init__(self, name="log_loss", **kwargs):
        super().__init__(name=name, **kwargs)

    @property
    @abc.abstractmethod
    def num_outputs(self):
        """int, numbers that a model predicts at each step."""

    @abc.abstractmethod
    def log_probability(self, outputs, observation):
        """Log probability, or its density.

        Args:
            outputs: float tensor `(..., num_outputs)`.
            observation: tensor `(...)`.

        Returns:
            Tensor `(...)`.
        """

    @abc.abstractmethod
    def divergence(self, outputs, other):
        """Kullback-Leibler divergence, in nats: what `other` costs.

        Args:
            outputs: float tensor `(..., num_outputs)`, the true distribution.
            other: the same of the distribution that is used in its place.

        Returns:
            Tensor `(...)`, never negative but for rounding.
        """

    def call(self, y_true, y_pred):
        return -self.log_probability(ops.convert_to_tensor(y_pred), y_true)
