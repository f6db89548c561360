"""A cell with explicit state and resets, against the cell itself."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.layers import OverTime
from keras_sparse_rl.layers import ResettableRNN

CELLS = {
    "LSTM": lambda: keras.layers.LSTMCell(4),
    "GRU": lambda: keras.layers.GRUCell(4),
    "stacked": lambda: keras.layers.StackedRNNCells(
        [keras.layers.GRUCell(3), keras.layers.LSTMCell(4)]
    ),
}


def data(batch=3, time=6, dim=5):
    generator = np.random.default_rng(0)
    return generator.normal(size=(batch, time, dim)).astype("float32")


@pytest.mark.parametrize("name", CELLS)
def test_equals_the_cell_step_by_step(name):
    layer = ResettableRNN(CELLS[name](), return_state=True)
    x = data()
    is_first = np.zeros((3, 6), bool)
    is_first[0, 2] = is_first[1, 0] = is_first[2, 5] = True
    start = {k: v + 0.3 for k, v in layer.initial_state(3).items()}
    found, last = layer(x, state=start, is_first=is_first)
    state = keras.tree.pack_sequence_as(
        layer.cell.state_size, list(start.values())
    )
    for t in range(6):
        keep = 1.0 - is_first[:, t, None]
        state = keras.tree.map_structure(lambda s, k=keep: s * k, state)
        expected, state = layer.cell(x[:, t], state)
        np.testing.assert_allclose(found[:, t], expected, atol=1e-6)
    for a, b in zip(last.values(), keras.tree.flatten(state), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("name", CELLS)
def test_segments_equal_single_steps(name):
    layer = ResettableRNN(CELLS[name](), return_state=True)
    x, state = data(), None
    whole, last = layer(x)
    for t in range(6):
        found, state = layer(x[:, t : t + 1], state=state)
        np.testing.assert_allclose(found[:, 0], whole[:, t], atol=1e-6)
    for name in state:
        np.testing.assert_allclose(state[name], last[name], atol=1e-6)


def test_no_gradient_reaches_back_over_a_reset():
    layer = ResettableRNN(keras.layers.LSTMCell(4))
    x = tf.constant(data())
    is_first = np.zeros((3, 6), bool)
    is_first[:, 3] = True
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, is_first=is_first)[:, 3:])
    gradient = tape.gradient(loss, x).numpy()
    assert not gradient[:, :3].any() and gradient[:, 3:].any()


def test_a_recurrent_layer_gives_its_cell():
    cell = keras.layers.LSTM(4).cell
    layer = ResettableRNN(keras.layers.LSTM(4))
    assert type(layer.cell) is type(cell)
    expected = keras.layers.RNN(layer.cell, return_sequences=True)(data())
    np.testing.assert_allclose(layer(data()), expected, atol=1e-6)


def test_padded_steps_leave_the_state():
    layer = ResettableRNN(keras.layers.GRUCell(4), return_state=True)
    mask = np.ones((3, 6), bool)
    mask[:, 4:] = False
    _, state = layer(data(), mask=mask)
    _, expected = layer(data()[:, :4])
    np.testing.assert_allclose(state["state_0"], expected["state_0"], atol=1e-6)


def test_bad_arguments():
    with pytest.raises(ValueError, match="`cell`"):
        ResettableRNN(keras.layers.Dense(3))
    layer = ResettableRNN(keras.layers.LSTMCell(4))
    with pytest.raises(ValueError, match="`state`"):
        layer(data(), state={"h": np.zeros((3, 4))})
    with pytest.raises(ValueError, match="`layer`"):
        OverTime(tf.nn.relu)


def test_over_time_equals_one_step_after_the_other():
    model = keras.Sequential(
        [keras.layers.Conv2D(2, 3), keras.layers.Flatten()]
    )
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 5, 1))
    x = x.astype("float32")
    found = OverTime(model)(x)
    for t in range(3):
        np.testing.assert_allclose(found[:, t], model(x[:, t]), atol=1e-6)
