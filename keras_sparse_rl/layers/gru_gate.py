import keras
from keras import ops

from keras_sparse_rl._checks import check_finite
from keras_sparse_rl.layers.gate import Gate


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class GRUGate(Gate):
    """A GRU over depth: `z = (1 - u) * x + u * h`, the gate of GTrXL.

    `r = sigmoid(Wr y + Ur x)`, `u = sigmoid(Wu y + Uu x - b)` and
    `h = tanh(Wh y + Uh (r * x))`. With the bias of 2 the update gate `u`
    starts near `sigmoid(-2) = 0.12`.
    See "Stabilizing Transformers for Reinforcement Learning" by Parisotto et
    al. 2019 (https://arxiv.org/abs/1910.06764), section 3.2.

    Args:
        gate_bias: float, value at which the trained bias `b` starts.
        alpha: float, at least 1, the exponent of Powerpropagation: makes the
            matrices sparse-ready. None for plain.

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
    >>> from keras_sparse_rl.layers import GRUGate
    >>> x, y = keras.ops.ones((2, 4)), keras.ops.zeros((2, 4))
    >>> GRUGate()(x, y).shape
    TensorShape([2, 4])
    """

    def __init__(self, gate_bias=2.0, alpha=None, **kwargs):
        super().__init__(check_finite("gate_bias", gate_bias), alpha, **kwargs)

    def build_projections(self, dim):
        # Wr, Wu and Wh side by side, then Ur and Uu: fewer, larger products.
        self._submodule = self.projection(dim, 3 * dim, "submodule")
        self._stream = self.projection(dim, 2 * dim, "stream")
        self._candidate = self.projection(dim, dim, "candidate")

    def call(self, x, y):
        from_y = ops.split(self._submodule(y), 3, axis=-1)
        from_x = ops.split(self._stream(x), 2, axis=-1)
        reset = ops.sigmoid(from_y[0] + from_x[0])
        update = ops.sigmoid(from_y[1] + from_x[1] - self.bias)
        candidate = ops.tanh(from_y[2] + self._candidate(reset * x))
        return (1 - update) * x + update * candidate
