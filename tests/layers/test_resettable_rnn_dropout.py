"""Dropout of cells: one mask a call, another at the next."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.layers import ResettableRNN

RATES = {"dropout": 0.5, "recurrent_dropout": 0.3}
CELLS = {
    "LSTM": lambda: keras.layers.LSTMCell(4, seed=1, **RATES),
    "GRU": lambda: keras.layers.GRUCell(4, seed=1, **RATES),
    "stacked": lambda: keras.layers.StackedRNNCells(
        [
            keras.layers.LSTMCell(3, seed=1, **RATES),
            keras.layers.SimpleRNNCell(4, seed=2, **RATES),
        ]
    ),
}
X = np.random.default_rng(0).normal(size=(3, 6, 5)).astype("float32")


@pytest.mark.parametrize("name", CELLS)
def test_equals_keras_and_draws_anew(name):
    layer = ResettableRNN(CELLS[name]())
    reference = keras.layers.RNN(CELLS[name](), return_sequences=True)
    layer(X), reference(X)
    for own, other in zip(reference.cell.variables, layer.cell.variables):
        own.assign(other)  # seeds too
    found = [layer(X, training=True) for _ in range(3)]
    for each in found:
        expected = reference(X, training=True)
        np.testing.assert_allclose(each, expected, atol=1e-6)
    assert np.abs(found[0] - found[1]).max() > 0.01
    np.testing.assert_allclose(layer(X), reference(X), atol=1e-6)


@pytest.mark.parametrize("name", CELLS)
def test_graphs_draw_their_own(name):
    layer = ResettableRNN(CELLS[name](), return_state=True)
    layer(X, training=True)
    for length in (6, 6, 1):
        learn = tf.function(
            lambda x: layer(x, training=True)[0], autograph=False
        )
        first, second = (learn(tf.constant(X[:, :length])) for _ in range(2))
        assert np.abs(first - second).max() > 0.01
    layer(X, training=True)


def test_batches_may_have_any_size():
    layer = ResettableRNN(CELLS["LSTM"]())
    for number in (3, 2):
        assert layer(X[:number], training=True).shape == (number, 6, 4)
