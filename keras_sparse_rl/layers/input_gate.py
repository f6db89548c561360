import keras
from keras import ops

from keras_sparse_rl.layers.gate import Gate


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class InputGate(Gate):
    """Gates the residual stream: `z = sigmoid(W x) * x + y`.

    It has no bias, so it does not start near the identity.
    See "Stabilizing Transformers for Reinforcement Learning" by Parisotto et
    al. 2019 (https://arxiv.org/abs/1910.06764), section 3.2.

    Args:
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
    >>> from keras_sparse_rl.layers import InputGate
    >>> x, y = keras.ops.ones((2, 4)), keras.ops.zeros((2, 4))
    >>> InputGate()(x, y).shape
    TensorShape([2, 4])
    """

    def __init__(self, alpha=None, **kwargs):
        super().__init__(alpha=alpha, **kwargs)

    def call(self, x, y):
        return ops.sigmoid(self._projection(x)) * x + y
