"""Layers of every kind, with their products counted by hand."""

import keras

from keras_sparse_rl.layers import OverTime
from keras_sparse_rl.layers import ResettableRNN

layers = keras.layers


class Block(layers.Layer):
    """Two dense layers and an offset of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = [layers.Dense(6, name="wide"), layers.Dense(3, name="out")]

    def build(self, input_shape):
        self.offset = self.add_weight((3,), name="offset")

    def call(self, inputs):
        return self.parts[1](self.parts[0](inputs)) + self.offset


class Product(layers.Layer):
    """A matrix of the user's own."""

    def build(self, input_shape):
        self.w = self.add_weight((input_shape[-1], 3), name="w")
        self.b = self.add_weight((3,), name="b")

    def call(self, inputs):
        return inputs @ self.w + self.b


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.body = layers.Dense(10, name="body")
        self.last = layers.Dense(2, name="last")

    def call(self, inputs):
        return self.last(self.body(inputs))


@keras.saving.register_keras_serializable("tests")
class OwnCell(layers.Layer):
    """A cell of dense layers, which Keras' loop calls at every step."""

    state_size = output_size = 5

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inner = layers.Dense(5, name="inner")
        self.recurrent = layers.Dense(5, use_bias=False, name="recurrent")

    def build(self, input_shape):
        self.inner.build(input_shape)
        self.recurrent.build((None, 5))

    def call(self, inputs, states):
        new = self.inner(inputs) + self.recurrent(states[0])
        return new, [new]


def built(layer, shape):
    inputs = keras.Input(shape)
    if isinstance(layer, ATTENTION):
        return keras.Model(inputs, layer(inputs, inputs))
    return keras.Model(inputs, layer(inputs))


ATTENTION = (layers.MultiHeadAttention, layers.GroupQueryAttention)

# A layer, the shape of its inputs, products of weights, other products, and
# the number of parameters that are not in a matrix.
CASES = {
    "Dense": (layers.Dense(4), (8,), 32, 0, 4),
    "TimeDistributed": (
        layers.TimeDistributed(layers.Dense(4)),
        (7, 8),
        7 * 32,
        0,
        4,
    ),
    "TimeDistributed convolution": (
        layers.TimeDistributed(layers.Conv2D(4, 3)),
        (7, 8, 8, 2),
        7 * 6 * 6 * 72,
        0,
        4,
    ),
    "OverTime": (OverTime(layers.Dense(4)), (7, 8), 7 * 32, 0, 4),
    "Bidirectional": (
        layers.Bidirectional(layers.LSTM(4)),
        (7, 8),
        2 * 7 * (8 * 16 + 4 * 16),
        0,
        2 * 16,
    ),
    "LSTM": (layers.LSTM(4), (7, 8), 7 * (8 * 16 + 4 * 16), 0, 16),
    "GRU": (layers.GRU(4), (7, 8), 7 * (8 * 12 + 4 * 12), 0, 24),
    "SimpleRNN": (layers.SimpleRNN(4), (7, 8), 7 * (32 + 16), 0, 4),
    "stacked cells": (
        layers.RNN([layers.LSTMCell(4), layers.GRUCell(2)]),
        (7, 8),
        7 * (8 * 16 + 4 * 16 + 4 * 6 + 2 * 6),
        0,
        16 + 12,
    ),
    "cell of the user": (layers.RNN(OwnCell()), (7, 8), 7 * 65, 0, 5),
    "ResettableRNN": (
        ResettableRNN(layers.GRUCell(4)),
        (7, 8),
        7 * (8 * 12 + 4 * 12),
        0,
        24,
    ),
    "ConvLSTM1D": (
        # 6 of 8 pixels are left; both kernels are used at each of them.
        layers.ConvLSTM1D(4, 3),
        (7, 8, 2),
        7 * 6 * (3 * 2 * 16 + 3 * 4 * 16),
        0,
        16,
    ),
    "MultiHeadAttention": (
        # Four projections of 7 steps, 64 weights each; 7 x 7 products of two
        # heads of width 4, for the scores and for the values.
        layers.MultiHeadAttention(2, 4),
        (7, 8),
        4 * 7 * 64,
        7 * 7 * 2 * (4 + 4),
        3 * 8 + 8,
    ),
    "MultiHeadAttention along one axis": (
        layers.MultiHeadAttention(2, 4, attention_axes=2),
        (3, 5, 8),
        4 * 15 * 64,
        15 * 5 * 2 * 8,
        32,
    ),
    "GroupQueryAttention": (
        layers.GroupQueryAttention(4, 4, 2),
        (7, 8),
        7 * (2 * 8 * 16 + 2 * 8 * 8),
        7 * 7 * 4 * (4 + 4),
        16 + 8 + 8 + 8,
    ),
    "SeparableConv2D": (
        # 3 x 3 x 2 and 2 x 4 weights at 6 x 6 pixels.
        layers.SeparableConv2D(4, 3),
        (8, 8, 2),
        36 * (18 + 8),
        0,
        4,
    ),
    "SeparableConv1D": (layers.SeparableConv1D(4, 3), (8, 2), 6 * 14, 0, 4),
    "DepthwiseConv2D": (
        layers.DepthwiseConv2D(3, depth_multiplier=2),
        (8, 8, 2),
        36 * 36,
        0,
        4,
    ),
    "DepthwiseConv1D": (
        layers.DepthwiseConv1D(3, depth_multiplier=4),
        (8, 2),
        6 * 24,
        0,
        8,
    ),
    "Conv3D": (layers.Conv3D(4, 2), (5, 5, 5, 2), 64 * 64, 0, 4),
    # Each weight is used once for each pixel that goes in.
    "Conv1DTranspose": (
        layers.Conv1DTranspose(4, 3, strides=2),
        (8, 2),
        8 * 24,
        0,
        4,
    ),
    "Conv2DTranspose": (
        layers.Conv2DTranspose(4, 3, strides=2),
        (8, 8, 2),
        64 * 72,
        0,
        4,
    ),
    "Conv3DTranspose": (
        layers.Conv3DTranspose(4, 2),
        (3, 3, 3, 2),
        27 * 64,
        0,
        4,
    ),
    "block": (Block(), (5,), 30 + 18, 0, 6 + 3 + 3),
}
