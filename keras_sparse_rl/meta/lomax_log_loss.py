import keras
import numpy as np
from keras import ops

from keras_sparse_rl.meta.log_loss import LogLoss

# For means over log(1 + x / scale), which is exponential with rate `shape`.
NODES, WEIGHTS = np.polynomial.laguerre.laggauss(40)


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class LomaxLogLoss(LogLoss):
    """Log loss of predicted waiting times: log shape and log scale.

    What is predicted is a Lomax distribution, with density
    shape / scale (1 + x / scale)^-(shape + 1): that of waiting times whose
    rate is uncertain, with a gamma distribution. `divergence` is a Gauss-
    Laguerre sum, good to 1e-6 where both distributions are alike.

    Args:
        name: str.
        **kwargs: arguments of `keras.losses.Loss`.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl import meta
    >>> loss = meta.LomaxLogLoss()
    >>> round(float(loss(np.ones((1, 3)), np.zeros((1, 3, 2)))), 4)
    1.3863
    """

    def __init__(self, name="lomax_log_loss", **kwargs):
        super().__init__(name=name, **kwargs)

    @property
    def num_outputs(self):
        return 2

    def log_probability(self, outputs, observation):
        observation = ops.cast(observation, outputs.dtype)
        shape, log_scale = ops.exp(outputs[..., 0]), outputs[..., 1]
        stretch = ops.log1p(observation * ops.exp(-log_scale))
        return outputs[..., 0] - log_scale - (shape + 1) * stretch

    def divergence(self, outputs, other):
        outputs = ops.convert_to_tensor(outputs)
        other = ops.cast(other, outputs.dtype)
        shape = ops.exp(outputs[..., :1])
        stretch = ops.cast(NODES, outputs.dtype) / shape
        x = ops.expm1(stretch) * ops.exp(outputs[..., 1:])
        own = outputs[..., :1] - outputs[..., 1:] - (shape + 1) * stretch
        # exp(stretch) may overflow where its weight is nothing.
        x = ops.minimum(x, 1e30)
        others = self.log_probability(other[..., None, :], x)
        return ops.sum(ops.cast(WEIGHTS, x.dtype) * (own - others), axis=-1)
