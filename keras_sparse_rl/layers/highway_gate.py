import keras
from keras import ops

from keras_sparse_rl._checks import check_finite
from keras_sparse_rl.layers.gate import Gate


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class HighwayGate(Gate):
    """Mixes both: `z = s * x + (1 - s) * y`, `s = sigmoid(W x + b)`.

    With the bias of 1 it starts with 0.27 of `y` and 0.73 of `x`.
    See "Stabilizing Transformers for Reinforcement Learning" by Parisotto et
    al. 2019 (https://arxiv.org/abs/1910.06764), section 3.2.

    Args:
        gate_bias: float, value at which the trained bias `b` starts.
        alpha: float, at least 1, the exponent of Powerpropagation: makes the
            matrix sparse-ready. None for plain.

    Call arguments:
        x: tensor `(..., features)`, the residual stream.
        y: tensor of the same shape, the output of a submodule.

    Returns:
        Tensor of the shape of `x`.

    Raises:
        ValueError: if an argument is out of range, or if `x` and `y` differ
            in their last axis.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers import HighwayGate
    >>> x, y = keras.ops.ones((2, 4)), keras.ops.zeros((2, 4))
    >>> HighwayGate()(x, y).shape
    TensorShape([2, 4])
    """

    def __init__(self, gate_bias=1.0, alpha=None, **kwargs):
        super().__init__(check_finite("gate_bias", gate_bias), alpha, **kwargs)

    def call(self, x, y):
        share = ops.sigmoid(self._projection(x) + self.bias)
        return share * x + (1 - share) * y
