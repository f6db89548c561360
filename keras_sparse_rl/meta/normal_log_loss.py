import math

import keras
from keras import ops

from keras_sparse_rl.meta.log_loss import LogLoss


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class NormalLogLoss(LogLoss):
    """Log loss of predicted numbers: mean and log standard deviation.

    Args:
        name: str.
        **kwargs: arguments of `keras.losses.Loss`.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl import meta
    >>> loss = meta.NormalLogLoss()
    >>> round(float(loss(np.zeros((1, 3)), np.zeros((1, 3, 2)))), 4)
    0.9189
    """

    def __init__(self, name="normal_log_loss", **kwargs):
        super().__init__(name=name, **kwargs)

    @property
    def num_outputs(self):
        return 2

    def log_probability(self, outputs, observation):
        mean, log_std = outputs[..., 0], outputs[..., 1]
        observation = ops.cast(observation, mean.dtype)
        error = (observation - mean) * ops.exp(-log_std)
        return -0.5 * error**2 - log_std - 0.5 * math.log(2 * math.pi)

    def divergence(self, outputs, other):
        outputs = ops.convert_to_tensor(outputs)
        other = ops.cast(other, outputs.dtype)
        change = other[..., 1] - outputs[..., 1]
        error = (outputs[..., 0] - other[..., 0]) * ops.exp(-other[..., 1])
        return change + 0.5 * (ops.exp(-2 * change) + error**2 - 1)
