import keras
from keras import ops

from keras_sparse_rl.meta.log_loss import LogLoss


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class BernoulliLogLoss(LogLoss):
    """Log loss of predicted coins: one output a step, the log-odds of 1.

    Args:
        name: str.
        **kwargs: arguments of `keras.losses.Loss`.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl import meta
    >>> loss = meta.BernoulliLogLoss()
    >>> round(float(loss(np.ones((1, 3)), np.zeros((1, 3, 1)))), 4)
    0.6931
    """

    def __init__(self, name="bernoulli_log_loss", **kwargs):
        super().__init__(name=name, **kwargs)

    @property
    def num_outputs(self):
        return 1

    def log_probability(self, outputs, observation):
        logits = outputs[..., 0]
        observation = ops.cast(observation, logits.dtype)
        return observation * logits - ops.softplus(logits)

    def divergence(self, outputs, other):
        logits, others = (
            ops.convert_to_tensor(x)[..., 0] for x in (outputs, other)
        )
        others = ops.cast(others, logits.dtype)
        change = ops.softplus(others) - ops.softplus(logits)
        return ops.sigmoid(logits) * (logits - others) + change
