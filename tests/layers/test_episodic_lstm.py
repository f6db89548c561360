"""The episodic LSTM against its equations, step by step in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.layers import EpisodicLSTM
from keras_sparse_rl.layers import EpisodicMemory

UNITS, KEY, FEATURES, BATCH, TIME = 4, 2, 3, 2, 12


def layer(
    write="episode_end",
    k=1,
    capacity=8,
    dtype="float64",
    replacement="oldest",
    **arguments,
):
    memory = EpisodicMemory(
        capacity, KEY, UNITS, k, replacement=replacement, dtype=dtype
    )
    return EpisodicLSTM(
        UNITS, memory, write, return_state=True, dtype=dtype, **arguments
    )


def data(seed=0):
    """Inputs, contexts, starts of episodes and tasks, and write signals."""
    generator = np.random.default_rng(seed)
    is_first = np.zeros((BATCH, TIME), bool)
    is_first[0, [0, 3, 6, 9]] = is_first[1, [0, 4, 5, 10]] = True
    is_task_start = np.zeros((BATCH, TIME), bool)
    is_task_start[:, 0] = is_task_start[1, 5] = True
    return {
        "inputs": generator.normal(size=(BATCH, TIME, FEATURES)),
        "context": generator.integers(0, 2, (BATCH, TIME, KEY)).astype(float),
        "is_first": is_first,
        "is_task_start": is_task_start,
        "write": generator.random((BATCH, TIME)) < 0.4,
    }


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference(layer, inputs, context, is_first, is_task_start, write):
    """Outputs of one row, from the equations and rules."""
    kernel, bias, recurrent = layer.get_weights()
    hidden, cell, stored, key = np.zeros(UNITS), np.zeros(UNITS), [], None
    outputs = []

    def store(key, value):
        stored[:] = [e for e in stored if (e[0] != key).any()]
        stored.append((key, value))

    for t in range(TIME):
        if is_first[t]:
            if layer.write == "episode_end" and key is not None:
                store(key, cell)
            hidden, cell = np.zeros(UNITS), np.zeros(UNITS)
        if is_task_start[t]:
            stored.clear()
        distance = [((context[t] - k) ** 2).sum() for k, _ in stored]
        recalled = np.zeros(UNITS)
        if stored:
            nearest = np.argsort(distance)[: layer.memory.num_neighbours]
            weights = np.array([1 / (distance[n] + 1e-3) for n in nearest])
            values = np.array([stored[n][1] for n in nearest])
            recalled = weights @ values / weights.sum()
        if layer.reinstatement == "squashed":
            recalled = np.tanh(recalled)
        gates = inputs[t] @ kernel + bias + hidden @ recurrent
        i, f, new, o, r = np.split(gates, 5)
        cell = (
            sigmoid(i) * np.tanh(new)
            + sigmoid(f) * cell
            + sigmoid(r) * recalled
        )
        hidden = sigmoid(o) * np.tanh(cell)
        outputs.append(hidden)
        key = context[t]
        if layer.write == "every_step" or (
            layer.write == "signal" and write[t]
        ):
            store(key, cell)
    return np.array(outputs)


@pytest.mark.parametrize("write", ["episode_end", "every_step", "signal"])
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("reinstatement", ["raw", "squashed"])
def test_equals_its_equations(write, k, reinstatement):
    core = layer(write, k, reinstatement=reinstatement)
    x = data(seed=k)
    # Contexts at different distances from each other, equal ones included.
    x["context"] = x["context"] @ [[1.0, 0.1], [0.3, 2.0]]
    core.build(x["inputs"].shape)
    generator = np.random.default_rng(0)
    core.set_weights(
        [generator.normal(size=w.shape) for w in core.get_weights()]
    )
    found, _ = core(**x)
    for row in range(BATCH):
        expected = reference(core, **{name: v[row] for name, v in x.items()})
        np.testing.assert_allclose(found[row], expected, atol=1e-10)


@pytest.mark.parametrize("write", ["episode_end", "every_step", "signal"])
def test_segments_of_any_length_are_the_same(write):
    core, x = layer(write, k=2), data()
    whole, last = core(**x)
    state, parts, start = None, [], 0
    for length in (1, 1, 4, 6):
        part = {n: v[:, start : start + length] for n, v in x.items()}
        found, state = core(**part, state=state)
        parts.append(found)
        start += length
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, atol=1e-12)
    for a, b in zip(tf.nest.flatten(state), tf.nest.flatten(last), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_a_shut_gate_leaves_the_lstm_of_keras():
    core, x = layer("every_step", reinstatement_bias=-60.0), data()
    kernel, bias, recurrent = (
        np.array(w) for w in (core(**x), core.get_weights())[1]
    )
    # The first four gates are in the order of Keras.
    cell = keras.layers.LSTM(UNITS, return_sequences=True, dtype="float64")
    cell.build(x["inputs"].shape)
    cell.set_weights([w[..., : 4 * UNITS] for w in (kernel, recurrent, bias)])
    kernel[:, 4 * UNITS :] = recurrent[:, 4 * UNITS :] = 0
    core.set_weights([kernel, bias, recurrent])
    nothing = np.zeros((BATCH, TIME), bool)
    found, state = core(**{**x, "is_first": nothing})
    np.testing.assert_allclose(found, cell(x["inputs"]), atol=1e-12)
    np.testing.assert_array_equal(state["steps"], [TIME] * BATCH)
    np.testing.assert_array_equal(bias[UNITS : 2 * UNITS], 1)  # forget gate


def test_what_outlives_an_episode_and_what_a_task():
    core, x = layer(), data()
    quiet = {**x, "is_task_start": np.zeros((BATCH, TIME), bool)}
    _, state = core(**quiet)
    later = {n: v[:, :1] for n, v in data(1).items()}
    first = {**later, "is_first": np.ones((BATCH, 1), bool)}
    first["is_task_start"] = np.zeros((BATCH, 1), bool)
    working = {n: state[n] for n in ("hidden", "cell")}
    with_other_past = {**state, "hidden": state["hidden"] + 1}
    a, b = (core(**first, state=s)[0] for s in (state, with_other_past))
    np.testing.assert_array_equal(a, b)
    emptied = {**core.initial_state(BATCH), **working, "key": state["key"]}
    a, b = (core(**first, state=s)[0] for s in (state, emptied))
    assert np.abs(a - b).max() > 1e-3  # the memory is still there
    first["is_task_start"] = np.ones((BATCH, 1), bool)
    a, b = (core(**first, state=s)[0] for s in (state, emptied))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("k", [1, 2])
def test_gradients(k):
    """Recalled values are constants: differences with them held fixed."""
    core, x = layer("every_step", k, dtype="float64"), data()
    core.build(x["inputs"].shape)
    variables = [v.value for v in core.trainable_variables]

    def loss(inputs):
        return tf.reduce_sum(core(**{**x, "inputs": inputs})[0][:, -1])

    inputs = tf.constant(x["inputs"])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        whole = loss(inputs)
        whole_first = tf.reduce_sum(core(**x)[0][:, :6])
    # The last episode starts at 9 and 10: nothing before it has a gradient,
    # though what was stored there is recalled.
    gradient = tape.gradient(whole, inputs).numpy()
    assert not gradient[0, :9].any() and not gradient[1, :10].any()
    assert gradient[0, 9:].any() and gradient[1, 10:].any()
    for g in tape.gradient(whole_first, variables):
        assert np.abs(g).max() > 0
    # One step at a time there is the same gradient.
    single = {n: v[:, :1] for n, v in x.items()}
    state = core(**x)[1]
    double = {n: np.concatenate([v, v], 1) for n, v in single.items()}
    with tf.GradientTape(persistent=True) as tape:
        one = tf.reduce_sum(core(**single, state=state)[0])
        two = tf.reduce_sum(core(**double, state=state)[0][:, 0])
    for a, b in zip(
        tape.gradient(one, variables), tape.gradient(two, variables)
    ):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("replacement", ["oldest", "least_recently_used"])
def test_padded_steps_leave_everything(replacement):
    core, x = layer("every_step", replacement=replacement), data()
    kept = np.r_[0:3, 5:8]
    mask = np.zeros((BATCH, TIME), bool)
    mask[:, kept] = True
    _, state = core(**x, mask=mask)
    _, expected = core(**{n: v[:, kept] for n, v in x.items()})
    for a, b in zip(
        tf.nest.flatten(state), tf.nest.flatten(expected), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_inputs_are_the_context_if_there_is_no_other():
    memory = EpisodicMemory(8, FEATURES, UNITS, dtype="float64")
    core = EpisodicLSTM(UNITS, memory, "every_step", dtype="float64")
    x = data()["inputs"]
    np.testing.assert_array_equal(core(x), core(x, context=x))


def test_functional_model_with_state_is_saved_and_exported(tmp_path):
    core, x = layer(dtype="float32"), data()
    x = {n: v.astype("float32") for n, v in x.items() if n != "write"}

    def flat(state):
        # What is exported has a flat signature.
        return {
            **{n: v for n, v in state.items() if n != "episodic"},
            **state["episodic"],
        }

    start = core.initial_state(BATCH)

    def named(nest):
        return {
            n: named(v)
            if isinstance(v, dict)
            else keras.Input(v.shape[1:], dtype=v.dtype.name, name=n)
            for n, v in nest.items()
        }

    state = named(start)
    inputs = {
        "inputs": keras.Input((None, FEATURES), name="inputs"),
        "context": keras.Input((None, KEY), name="context"),
        "is_first": keras.Input((None,), name="is_first"),
        "is_task_start": keras.Input((None,), name="is_task_start"),
    }
    outputs, new_state = core(**inputs, state=state)
    model = keras.Model(
        {**inputs, **flat(state)}, {"outputs": outputs, **flat(new_state)}
    )
    model.save(tmp_path / "model.keras")
    expected, last = core(**x)
    calls = [keras.models.load_model(tmp_path / "model.keras")]
    # Keras 3.8 cannot export a dict of so many inputs: it calls the model
    # with a list of them.
    if tuple(map(int, keras.__version__.split(".")[:2])) > (3, 8):
        model.export(str(tmp_path / "saved"), verbose=False)
        exported = tf.saved_model.load(str(tmp_path / "saved"))
        calls.append(exported.serve)
    for call in calls:
        found = call(
            {**{n: tf.constant(v) for n, v in x.items()}, **flat(start)}
        )
        np.testing.assert_allclose(found["outputs"], expected, atol=1e-6)
        np.testing.assert_array_equal(found["stamp"], last["episodic"]["stamp"])


def test_bad_arguments():
    memory = EpisodicMemory(8, KEY, UNITS)
    for name, value in (
        ("units", 0),
        ("memory", None),
        ("memory", EpisodicMemory(8, KEY, UNITS + 1)),
        ("write", "sometimes"),
        ("reinstatement", "both"),
        ("reinstatement_bias", float("nan")),
        ("return_state", 1),
    ):
        arguments = {"units": UNITS, "memory": memory, name: value}
        with pytest.raises(ValueError, match=f"`{name}`"):
            EpisodicLSTM(**arguments)
    x = data()
    with pytest.raises(ValueError, match="`write`"):
        layer("signal")(x["inputs"], context=x["context"])
    core = layer()
    with pytest.raises(ValueError, match="`context`.*left out"):
        core(x["inputs"])
    with pytest.raises(ValueError, match="`is_first`"):
        core(x["inputs"], context=x["context"], is_first=x["is_first"][:, :3])
    with pytest.raises(ValueError, match="`state`"):
        core(x["inputs"], context=x["context"], state={"hidden": 0})
    with pytest.raises(ValueError, match=r"\(batch, time, features\)"):
        layer()(x["inputs"][0], context=x["context"][0])
