import keras
from keras import ops

from keras_sparse_rl._checks import check_finite
from keras_sparse_rl.layers.gate import Gate


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class SigmoidTanhGate(Gate):
    """A gated update: `z = x + sigmoid(W y - b) * tanh(U y)`.

    Unlike the output gate it is driven by the submodule alone.
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
    >>> from keras_sparse_rl.layers import SigmoidTanhGate
    >>> x, y = keras.ops.ones((2, 4)), keras.ops.zeros((2, 4))
    >>> SigmoidTanhGate()(x, y).shape
    TensorShape([2, 4])
    """

    def __init__(self, gate_bias=1.0, alpha=None, **kwargs):
        super().__init__(check_finite("gate_bias", gate_bias), alpha, **kwargs)

    def build_projections(self, dim):
        # W and U side by side: one product instead of two.
        self._projection = self.projection(dim, 2 * dim, "projection")

    def call(self, x, y):
        share, update = ops.split(self._projection(y), 2, axis=-1)
        return x + ops.sigmoid(share - self.bias) * ops.tanh(update)
