import keras
from keras import ops

from keras_sparse_rl.layers.gru_gate import GRUGate
from keras_sparse_rl.layers.highway_gate import HighwayGate
from keras_sparse_rl.layers.holds_projections import HoldsProjections
from keras_sparse_rl.layers.input_gate import InputGate
from keras_sparse_rl.layers.output_gate import OutputGate
from keras_sparse_rl.layers.projection import projection
from keras_sparse_rl.layers.relative_multi_head_attention import (
    RelativeMultiHeadAttention,
)
from keras_sparse_rl.layers.sigmoid_tanh_gate import SigmoidTanhGate

GATES = {
    "gru": GRUGate,
    "output": OutputGate,
    "highway": HighwayGate,
    "sigmoid_tanh": SigmoidTanhGate,
    "input": InputGate,
}
# Keras' default of 1e-3 is large beside the variance of a quiet stream.
EPSILON = 1e-5


class GTrXLBlock(HoldsProjections):
    """One layer of `GTrXL`: attention, then a feed-forward network.

    With `ordering="identity"`, section 3.1 and 3.2 of Parisotto et al. 2019
    (https://arxiv.org/abs/1910.06764): `y = g(x, relu(attention(LN(x))))`,
    `z = g(y, relu(f(LN(y))))`, the memory being normalized like `x`. With
    `"post"`, Transformer-XL: `y = LN(g(x, attention(x)))`,
    `z = LN(g(y, f(y)))`. Without a gate `g` is a sum.

    Args:
        num_heads: int, number of heads.
        head_dim: int, width of each head.
        feedforward_dim: int, width of the feed-forward network's middle.
        gating: str, one of the keys of `GATES`, or None.
        gate_bias: float, at which gates' biases start; None for the paper's.
        ordering: str, `"identity"` or `"post"`.
        window: int, optional, see `RelativeMultiHeadAttention`.
        dropout: float in [0, 1), of attention weights and submodules.
        alpha: float, exponent of sparse-ready projections, or None.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        x: tensor `(batch, time, num_heads * head_dim)`.
        memory: tensor `(batch, slots, num_heads * head_dim)` of what this
            block returned to be remembered, optional.
        attention_mask: boolean tensor `(batch or 1, time, slots + time)`.
        training: bool, optional.

    Returns:
        Tuple of two tensors of the shape of `x`: the new stream, and what the
        memory shall keep of `x`.

    Raises:
        ValueError: if an argument is out of range.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.layers.gtrxl_block import GTrXLBlock
    >>> block = GTrXLBlock(2, 4, feedforward_dim=16)
    >>> stream, to_remember = block(keras.ops.ones((1, 5, 8)))
    >>> stream.shape
    TensorShape([1, 5, 8])
    """

    def __init__(
        self,
        num_heads,
        head_dim,
        feedforward_dim,
        gating="gru",
        gate_bias=None,
        ordering="identity",
        window=None,
        dropout=0.0,
        alpha=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.feedforward_dim = feedforward_dim
        self.is_identity = ordering == "identity"
        self.alpha = alpha
        dtype = self.dtype_policy
        self._attention = RelativeMultiHeadAttention(
            num_heads,
            head_dim,
            window,
            dropout,
            alpha=alpha,
            dtype=dtype,
            name="attention",
        )
        # Before projections an own scale and offset would add nothing, and
        # without them what is remembered can be remembered normalized.
        self._attention_norm = self._norm(
            "attention_norm", affine=not self.is_identity
        )
        self._feedforward_norm = self._norm("feedforward_norm")
        self._attention_gate = self._gate(gating, gate_bias, "attention_gate")
        self._feedforward_gate = self._gate(
            gating, gate_bias, "feedforward_gate"
        )
        self._dropout = keras.layers.Dropout(dropout, dtype=dtype)

    def _norm(self, name, affine=True):
        return keras.layers.LayerNormalization(
            epsilon=EPSILON,
            center=affine,
            scale=affine,
            dtype=self.dtype_policy,
            name=name,
        )

    def _gate(self, gating, gate_bias, name):
        if gating is None:
            return None
        arguments = {} if gate_bias is None else {"gate_bias": gate_bias}
        return GATES[gating](
            alpha=self.alpha, dtype=self.dtype_policy, name=name, **arguments
        )

    def build(self, x_shape):
        width = x_shape[-1]
        self._attention.build(x_shape)
        self._attention_norm.build(x_shape)
        self._feedforward_norm.build(x_shape)
        for gate in (self._attention_gate, self._feedforward_gate):
            if gate is not None:
                gate.build(x_shape, x_shape)
        self._widen = self._dense(self.feedforward_dim, "widen", "relu")
        self._widen.build(x_shape)
        self._narrow = self._dense(width, "narrow")
        self._narrow.build((*x_shape[:-1], self.feedforward_dim))

    def _dense(self, units, name, activation=None):
        return projection(
            self,
            units,
            name,
            self.alpha,
            use_bias=True,
            activation=activation,
            kernel_initializer="glorot_uniform",
        )

    def call(self, x, memory=None, attention_mask=None, training=False):
        inputs = self._attention_norm(x) if self.is_identity else x
        update = self._attend(x, inputs, memory, attention_mask, training)
        if self.is_identity:
            y = _join(self._attention_gate, x, ops.relu(update))
            update = self._feedforward(self._feedforward_norm(y), training)
            z = _join(self._feedforward_gate, y, ops.relu(update))
        else:
            y = _join(self._attention_gate, x, update)
            y = self._attention_norm(y)
            update = self._feedforward(y, training)
            z = _join(self._feedforward_gate, y, update)
            z = self._feedforward_norm(z)
        return z, inputs

    def _attend(self, x, inputs, memory, attention_mask, training):
        update = self._attention(
            inputs,
            memory,
            attention_mask,
            query=self._query_inputs(x),
            training=training,
        )
        return self._dropout(update, training=training)

    def _query_inputs(self, x):
        """What queries are computed from, if not from what keys are."""
        return None

    def _feedforward(self, x, training):
        return self._dropout(self._narrow(self._widen(x)), training=training)


def _join(gate, x, y):
    return x + y if gate is None else gate(x, y)
