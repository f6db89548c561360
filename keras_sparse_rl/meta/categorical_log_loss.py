import keras
from keras import ops

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.meta.log_loss import LogLoss


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class CategoricalLogLoss(LogLoss):
    """Log loss of predicted symbols: a logit for each at every step.

    Args:
        num_categories: int of at least 2.
        name: str.
        **kwargs: arguments of `keras.losses.Loss`.

    Raises:
        ValueError: if there are fewer than two symbols.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl import meta
    >>> loss = meta.CategoricalLogLoss(4)
    >>> round(float(loss(np.zeros((1, 3), int), np.zeros((1, 3, 4)))), 4)
    1.3863
    """

    def __init__(self, num_categories, name="categorical_log_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.num_categories = check_integer(
            "num_categories", num_categories, minimum=2
        )

    @property
    def num_outputs(self):
        return self.num_categories

    def log_probability(self, outputs, observation):
        symbol = ops.one_hot(
            ops.cast(observation, "int32"),
            self.num_categories,
            dtype=outputs.dtype,
        )
        return ops.sum(symbol * ops.log_softmax(outputs), axis=-1)

    def divergence(self, outputs, other):
        log_p, log_q = (
            ops.log_softmax(ops.convert_to_tensor(x)) for x in (outputs, other)
        )
        change = log_p - ops.cast(log_q, log_p.dtype)
        return ops.sum(ops.exp(log_p) * change, axis=-1)

    def get_config(self):
        return {**super().get_config(), "num_categories": self.num_categories}
