"""PPR's cores against NumPy, and what each of them may and may not know."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.layers import EpisodicLSTM
from keras_sparse_rl.layers import EpisodicMemory
from keras_sparse_rl.layers import GTrXL
from keras_sparse_rl.layers import PPRCore
from keras_sparse_rl.layers import ResettableRNN
from keras_sparse_rl.layers.intervals import interval_phase

UNITS, FEATURES = 4, 3
CORES = ("perception", "prediction", "reaction")
OPTIONS = {
    "LSTM": {},
    "GRU": {"cell": "gru"},
    "stacked": {
        "cell": lambda: keras.layers.StackedRNNCells(
            [keras.layers.GRUCell(3), keras.layers.LSTMCell(UNITS)]
        )
    },
    "slow GRU": {"slow_cell": lambda: keras.layers.GRUCell(5)},
    "slow as input": {
        "inputs": {"prediction": ("slow",), "reaction": ("observation", "slow")}
    },
    "no asymmetry": {
        "inputs": {"prediction": None},
        "starts": {"perception": "keep", "prediction": "keep"},
    },
    "other starts": {"starts": {"prediction": "zeros", "reaction": "keep"}},
}


def new_layer(slow_period, options="LSTM", **arguments):
    made = {
        key: value() if callable(value) else value
        for key, value in OPTIONS.get(options, {}).items()
    }
    made = {**made, **arguments}
    layer = PPRCore(UNITS, slow_period, return_state=True, **made)
    layer.build((None, None, FEATURES))
    generator = np.random.default_rng(1)
    # Biases too: an LSTM of zeros stays at zero.
    for weight in layer.weights:
        weight.assign(generator.normal(0, 0.7, weight.shape))
    return layer


def data(batch, time, seed=0, share=0.1):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(batch, time, FEATURES)).astype("float32")
    return x, generator.random((batch, time)) < share


def last_ticks(is_first, slow_period):
    """Steps of the last tick, at every step, by counting."""
    ticks = np.zeros(is_first.shape, int)
    for row, flags in enumerate(is_first):
        since = 0
        for t, first in enumerate(flags):
            if first or since == slow_period:
                since = 0
            ticks[row, t] = t - since
            since += 1
    return ticks


def lstm(weights, x, state):
    """An LSTM step by its equations; Keras' order of gates: i, f, c, o."""
    kernel, recurrent, bias = weights
    h, c = state
    i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4, axis=-1)

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


@pytest.mark.parametrize("slow_period", [1, 4])
def test_equals_the_definition_in_numpy(slow_period):
    layer = new_layer(slow_period, dtype="float64")
    weights = {
        name: [w.numpy() for w in cell.weights]
        for name, cell in [*layer._cells.items(), ("slow", layer._slow)]
    }
    x, is_first = data(5, 13)
    ticks = last_ticks(is_first, slow_period)
    found, state = layer(x, is_first=is_first, return_cores=True)
    for row in range(5):
        zero = np.zeros(UNITS), np.zeros(UNITS)
        slow = perception = prediction = reaction = zero
        for t in range(13):
            if ticks[row, t] == t:
                fresh = t == 0 or is_first[row, t]
                heard, before = (
                    (zero[0], zero) if fresh else (perception[0], slow)
                )
                slow = lstm(weights["slow"], heard, before)
                perception, prediction, reaction = zero, slow, slow
            perception = lstm(weights["perception"], x[row, t], perception)
            reaction = lstm(weights["reaction"], x[row, t], reaction)
            prediction = lstm(weights["prediction"], np.zeros(1), prediction)
            expected = {
                "perception": perception,
                "prediction": prediction,
                "reaction": reaction,
            }
            for name, (h, _) in expected.items():
                np.testing.assert_allclose(
                    found[name][row, t], h, atol=1e-12, err_msg=name
                )
        for name, value in (("slow", slow), ("reaction", reaction)):
            for k in range(2):
                np.testing.assert_allclose(
                    state[f"{name}_{k}"][row], value[k], atol=1e-12
                )
        assert int(state["clock"][row]) == (13 - ticks[row, -1]) % slow_period


@pytest.mark.parametrize(
    "slow_period, options, jit_compile",
    [
        (1, "LSTM", False),
        (4, "LSTM", True),
        (16, "LSTM", False),
        (4, "GRU", False),
        (4, "slow as input", False),
    ],
)
def test_what_each_core_knows(slow_period, options, jit_compile):
    """Row `t` asks about step `t`: other noise there, and nothing may move."""
    time = 37
    layer = new_layer(slow_period, options)
    if jit_compile:
        layer = tf.function(layer, jit_compile=True)
    x, is_first = data(1, time, share=0.08)
    x, is_first = np.repeat(x, time, 0), np.repeat(is_first, time, 0)
    assert is_first.any()
    step = np.arange(time)
    tick = last_ticks(is_first, slow_period)[step, step][:, None]
    noise, _ = data(time, time, seed=1)
    recent = ((step >= tick) & (step <= step[:, None]))[:, :, None]
    # Before the tick, and of the same episode.
    starts = np.maximum.accumulate(np.where(is_first, step, 0), axis=1)
    start = starts[step, step][:, None]
    long_ago = ((step < tick) & (step >= start))[:, :, None]

    def at_the_step(x):
        outputs, _ = layer(tf.constant(x), is_first=is_first, return_cores=True)
        return {name: np.array(outputs[name])[step, step] for name in CORES}

    before = at_the_step(x)
    other_past = at_the_step(np.where(long_ago, noise, x))
    other_present = at_the_step(np.where(recent, noise, x))
    has_past = long_ago.any(1)[:, 0]
    assert 0 < has_past.sum() < time or slow_period == 16

    def moved(other, name):
        return np.abs(other[name] - before[name]).max(1)

    assert moved(other_past, "perception").max() == 0.0
    assert moved(other_present, "prediction").max() == 0.0
    assert (moved(other_present, "perception") > 0).all()
    assert (moved(other_present, "reaction") > 0).all()
    for name in ("prediction", "reaction"):
        assert (moved(other_past, name)[has_past] > 0).all()
        assert (moved(other_past, name)[~has_past] == 0).all()


@pytest.mark.parametrize("slow_period", [1, 4, 16])
def test_the_slow_state_changes_at_ticks_alone(slow_period):
    time = 33
    layer = new_layer(slow_period)
    x, is_first = data(2, time)
    is_first[0] = False
    ticks = last_ticks(is_first, slow_period) == np.arange(time)
    assert ticks[0].sum() == -(-time // slow_period)
    state = layer.initial_state(2)
    for t in range(time):
        _, new = layer.step(x[:, t], state, is_first[:, t])
        for key in ("slow_0", "slow_1", "slow_output"):
            changed = (np.array(new[key]) != np.array(state[key])).any(1)
            assert not changed[~ticks[:, t]].any()
            # An episode's first tick gives what the last one's first gave.
            assert (changed | is_first[:, t])[ticks[:, t]].all()
        state = new


@pytest.mark.parametrize(
    "options, slow_period, graph",
    [*((name, 4, False) for name in OPTIONS), ("LSTM", 1, False)]
    + [("LSTM", 4, True)],
)
def test_segments_equal_single_steps_bit_for_bit(options, slow_period, graph):
    layer = new_layer(slow_period, options)
    x, is_first = data(3, 11)
    is_first[0] = False

    def run(x, state, is_first):
        return layer(x, state=state, is_first=is_first, return_cores=True)

    run = tf.function(run) if graph else run
    start = layer.initial_state(3)
    whole, last = run(tf.constant(x), start, is_first)
    for cuts in ([0, *range(1, 12)], [0, 6, 11]):
        state = start
        for a, b in zip(cuts, cuts[1:]):
            outputs, state = run(
                tf.constant(x[:, a:b]), state, is_first[:, a:b]
            )
            for name in CORES:
                np.testing.assert_array_equal(
                    outputs[name], whole[name][:, a:b], err_msg=name
                )
        for key in last:
            np.testing.assert_array_equal(state[key], last[key], err_msg=key)
    # Acting, which computes no prediction, ends in the same state.
    state = start
    for t in range(11):
        output, state = layer.step(x[:, t], state, is_first[:, t])
        np.testing.assert_allclose(output, whole["reaction"][:, t], atol=1e-6)
    for key in last:
        np.testing.assert_allclose(state[key], last[key], atol=1e-6)


def test_a_transformer_as_slow_core():
    memory = GTrXL(1, 2, 3, 8, 3, return_state=True)
    layer = new_layer(2, slow_cell=memory)
    x, is_first = data(3, 9)
    is_first[:] = False
    is_first[1, 3] = True
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        whole, last = layer(x, is_first=is_first, return_cores=True)
        end = tf.reduce_sum(whole["prediction"][:, 8])
    gradient = np.abs(tape.gradient(end, x)).max(-1)
    # The last tick is at 8, or at 7 in the row that was reset at 3.
    assert (gradient[0] > 0).tolist() == [True] * 8 + [False]
    assert (gradient[1] > 0).tolist() == [False] * 3 + [True] * 4 + [False] * 2
    assert last["slow_length"].numpy().tolist() == [3, 3, 3]
    state = layer.initial_state(3)
    for t in range(9):
        outputs, state = layer(
            x[:, t : t + 1], state, is_first[:, t : t + 1], return_cores=True
        )
        for name in CORES:
            np.testing.assert_allclose(
                outputs[name][:, 0], whole[name][:, t], atol=1e-5
            )
    for key in last:
        np.testing.assert_allclose(state[key], last[key], atol=1e-5)


def test_dictionaries_of_inputs():
    core = PPRCore(
        UNITS,
        slow_period=3,
        inputs={"perception": ("picture",), "prediction": ("action", "slow")},
    )
    generator = np.random.default_rng(0)
    x = {
        "picture": generator.normal(size=(2, 7, 5)).astype("float32"),
        "action": generator.normal(size=(2, 7, 2)).astype("float32"),
    }
    before = core(x, return_cores=True)
    after = core({**x, "action": x["action"] + 1}, return_cores=True)
    np.testing.assert_array_equal(before["perception"], after["perception"])
    for name in ("prediction", "reaction"):
        assert (np.array(before[name]) != np.array(after[name])).all()
    # The prediction sees inputs, so that it has to be remembered.
    assert "prediction_0" in core.initial_state(1)


@pytest.mark.parametrize("time", [None, 8])
def test_padded_steps_leave_the_state(time):
    layer = new_layer(3)
    signature = [tf.TensorSpec((3, time, FEATURES))]
    signature += [tf.TensorSpec((3, time), tf.bool)] * 2
    run = tf.function(
        lambda x, is_first, mask: layer(
            x, is_first=is_first, mask=mask, return_cores=True
        ),
        input_signature=signature,
    )
    x, is_first = data(3, 8)
    is_first[:, 2] = [True, False, False]
    mask = np.ones((3, 8), bool)
    mask[:, 4] = mask[:, 5] = False
    kept = np.array([0, 1, 2, 3, 6, 7])
    found, state = run(x, is_first, mask)
    expected, expected_state = layer(
        x[:, kept], is_first=is_first[:, kept], return_cores=True
    )
    for name in CORES:
        np.testing.assert_allclose(
            np.array(found[name])[:, kept], expected[name], atol=1e-6
        )
    for key in state:
        np.testing.assert_allclose(state[key], expected_state[key], atol=1e-6)


def test_the_phase_equals_counting():
    generator = np.random.default_rng(0)
    for period in (1, 2, 5):
        for time in (1, 2, 7, 16):
            is_first = generator.random((20, time)) < 0.15
            mask = generator.random((20, time)) < 0.8
            is_first &= mask
            clock = generator.integers(0, period, 20)
            phase, after = interval_phase(clock, is_first, mask, period)
            for row in range(20):
                now = clock[row]
                for t in range(time):
                    if is_first[row, t]:
                        now = 0
                    if mask[row, t]:
                        assert int(phase[row, t]) == now
                        now = (now + 1) % period
                assert int(after[row]) == now


def test_options_say_what_they_are_in_the_config():
    layer = PPRCore(
        4,
        slow_period=2,
        cell=keras.layers.GRUCell(4),
        slow_cell=GTrXL(1, 2, 3, 8, 3, return_state=True),
        starts={"reaction": "zeros"},
    )
    again = PPRCore.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.starts["reaction"] == "zeros"
    assert again.starts["prediction"] == "slow"


def test_stacked_cells_come_back_from_a_file(tmp_path):
    inputs = keras.Input((None, FEATURES))
    core = PPRCore(UNITS, 2, OPTIONS["stacked"]["cell"]())
    model = keras.Model(inputs, core(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for before, after in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(before, after)
    x, _ = data(2, 5)
    np.testing.assert_array_equal(model(x), loaded(x))


def test_bad_arguments():
    x = np.zeros((2, 3, FEATURES), "float32")
    for arguments, words in (
        ({"slow_period": 0}, "`slow_period`"),
        ({"slow_period": 2.5}, "`slow_period`"),
        ({"units": 0}, "`units`"),
        ({"cell": "rnn"}, "`cell`"),
        ({"cell": keras.layers.Dense(UNITS)}, "`cell`"),
        ({"cell": keras.layers.GRUCell(5)}, "5"),
        ({"cell": keras.layers.GRUCell(UNITS, dropout=0.5)}, "dropout"),
        ({"slow_cell": keras.layers.Dense(3)}, "`slow_cell`"),
        ({"slow_cell": GTrXL(1, 2, 3, 8, 3)}, "return_state=True"),
        ({"inputs": {"memory": None}}, "`inputs`"),
        ({"inputs": {"reaction": "slow"}}, "tuple of names"),
        ({"inputs": {"perception": ("slow",)}}, "without 'slow'"),
        ({"starts": {"perception": "slow"}}, "perception"),
        ({"starts": {"reaction": "never"}}, "reaction"),
    ):
        with pytest.raises(ValueError, match=words):
            PPRCore(**{"units": UNITS, **arguments})
    with pytest.raises(ValueError, match="'picture'"):
        PPRCore(UNITS, inputs={"reaction": ("picture",)})(x)
    memory = EpisodicMemory(3, key_dim=UNITS, value_dim=UNITS)
    recall = EpisodicLSTM(UNITS, memory, return_state=True)
    with pytest.raises(ValueError, match="before the PPRCore"):
        PPRCore(UNITS, slow_cell=recall)(x)
    layer = PPRCore(UNITS)
    layer(x)
    for call, words in (
        (lambda: layer(x, state={"h": x[:, 0]}), "`state`"),
        (lambda: layer(x[:, :, :2]), "`inputs`"),
        (lambda: layer(x[:, :0]), "at least one step"),
        (lambda: layer(x, is_first=np.zeros((2, 4), bool)), "`is_first`"),
        (lambda: layer({"observation": x, "more": x}), "`inputs`"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    with pytest.raises(ValueError, match=r"layer\.step"):
        PPRCore(UNITS)(x[:, 0])


def test_other_memories_can_be_slow_cores():
    """A recurrent layer stands for its cell, as it does for agents."""
    x, _ = data(2, 5)
    for slow_cell in (
        keras.layers.GRU(6),
        ResettableRNN(keras.layers.GRUCell(6), return_state=True),
    ):
        outputs = PPRCore(UNITS, 2, slow_cell=slow_cell)(x)
        assert outputs.shape == (2, 5, UNITS)
