"""GTrXL against the reference, and what the issue promises of its state."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.layers import GTrXL
from keras_sparse_rl.layers import sparse_kernels
from tests.layers import gtrxl_reference as reference
from tests.layers.gtrxl_weights import block_weights
from tests.layers.gtrxl_weights import gate_weights
from tests.layers.gtrxl_weights import randomize

GATES = {
    "gru": reference.gru_gate,
    "output": reference.output_gate,
    "highway": reference.highway_gate,
    "sigmoid_tanh": reference.sigmoid_tanh_gate,
    "input": reference.input_gate,
    None: None,
}
BATCH, FEATURES, MEMORY = 3, 5, 6
each_precision = pytest.mark.parametrize(
    "dtype, error", [("float64", 1e-10), ("float32", 1e-5)]
)


def build(dtype="float64", features=FEATURES, **arguments):
    arguments = {"return_state": True, **arguments}
    layer = GTrXL(2, 2, 4, 12, MEMORY, dtype=dtype, **arguments)
    layer.build((None, None, features))
    randomize(layer)
    return layer


def data(steps, dtype="float64", features=FEATURES, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(BATCH, steps, features)).astype(dtype)
    return x, generator.random((BATCH, steps)) < 0.15


def stepwise(layer, x, is_first):
    state, outputs = layer.initial_state(len(x)), []
    for t in range(x.shape[1]):
        output, state = layer.step(x[:, t], state, is_first[:, t])
        outputs.append(output)
    return np.stack(outputs, axis=1), state


@each_precision
@pytest.mark.parametrize("ordering", ["identity", "post"])
@pytest.mark.parametrize("gating", GATES)
def test_layer_is_its_equations(gating, ordering, dtype, error):
    layer = build(dtype, gating=gating, ordering=ordering)
    x, is_first = data(15, dtype)
    projection = layer._input_projection
    kernel = np.asarray(projection.kernel, "float64")
    stream = x.astype("float64") @ kernel + np.asarray(projection.bias)
    blocks = [block_weights(block) for block in layer._blocks]
    expected = [
        reference.run(blocks, s, f, MEMORY, ordering, GATES[gating])
        for s, f in zip(stream, is_first)
    ]
    found, _ = layer(x, is_first=is_first)
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=error * scale)


@pytest.mark.parametrize("ordering", ["identity", "post"])
def test_one_segment_equals_64_steps_and_any_other_cutting(ordering):
    layer = build("float32", ordering=ordering)
    x, is_first = data(64, "float32")
    whole, final = layer(x, layer.initial_state(BATCH), is_first)
    steps, state = stepwise(layer, x, is_first)
    np.testing.assert_allclose(steps, whole, rtol=0, atol=1e-5)
    for name in ("memory", "length"):
        np.testing.assert_allclose(state[name], final[name], atol=1e-5)
    state, parts = layer.initial_state(BATCH), []
    for start, end in ((0, 3), (3, 12), (12, 13), (13, 64)):
        part, state = layer(x[:, start:end], state, is_first[:, start:end])
        parts.append(part)
    np.testing.assert_allclose(
        np.concatenate(parts, axis=1), whole, rtol=0, atol=1e-5
    )
    # Without a state the memory is empty.
    np.testing.assert_allclose(layer(x, None, is_first)[0], whole, atol=1e-5)


def test_the_window_of_transformer_xl_depends_on_the_cutting():
    layer = build("float32", rolling_window=False)
    x, is_first = data(20, "float32")
    is_first[:] = False
    whole, _ = layer(x, layer.initial_state(BATCH), is_first)
    steps, _ = stepwise(layer, x, is_first)
    np.testing.assert_allclose(
        steps[:, : MEMORY + 1], whole[:, : MEMORY + 1], atol=1e-5
    )
    assert np.abs(steps - whole)[:, MEMORY + 1 :].max() > 1e-3


def test_a_reset_is_a_fresh_start():
    layer = build("float32")
    x, is_first = data(12, "float32")
    is_first[:] = False
    is_first[1, 7] = True
    _, used = layer(data(9, "float32", seed=1)[0], layer.initial_state(BATCH))
    after, state = layer(x, used, is_first)
    fresh, fresh_state = layer(x[:, 7:], layer.initial_state(BATCH))
    np.testing.assert_allclose(after[1, 7:], fresh[1], atol=1e-5)
    assert state["length"].numpy().tolist() == [6, 5, 6]
    np.testing.assert_allclose(
        state["memory"][1, :, 1:], fresh_state["memory"][1, :, 1:], atol=1e-5
    )
    assert np.abs(after[0, 7:] - fresh[0]).max() > 1e-3


def test_gradients_stop_at_resets_and_at_the_memory():
    layer = build()
    x, is_first = data(12)
    is_first[:] = False
    is_first[:, 7] = True
    x = tf.constant(x)
    _, state = layer(data(9, seed=1)[0], layer.initial_state(BATCH))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, state["memory"]])
        outputs, new_state = layer(x, state, is_first)
        late = tf.reduce_sum(outputs[:, 7:] ** 2)
        early = tf.reduce_sum(outputs[:, :7] ** 2)
        remembered = tf.reduce_sum(new_state["memory"] ** 2)
    gradient = np.array(tape.gradient(late, x))
    assert not gradient[:, :7].any() and gradient[:, 7:].all()
    assert np.array(tape.gradient(early, x))[:, :7].any()
    assert tape.gradient(early, state["memory"]) is None
    assert tape.gradient(remembered, x) is None


def test_a_step_sees_no_later_and_no_older_step():
    layer = build()
    x, _ = data(20)
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = tf.reduce_sum(layer(x)[0][:, 16] ** 2)
    touched = np.abs(tape.gradient(output, x)).sum(axis=(0, 2)) > 0
    # Two layers reach twice the memory back.
    expected = [16 - 2 * MEMORY <= t <= 16 for t in range(20)]
    assert touched.tolist() == expected


def test_mean_update_gate_starts_between_008_and_017():
    layer = GTrXL(4, 4, 16, 128, 32)
    x = np.random.default_rng(0).normal(size=(8, 64, 64)).astype("float32")
    layer(x)
    means, stream = [], x
    for block in layer._blocks:
        means += mean_updates(block, stream)
        stream, _ = block(stream)
    assert len(means) == 8
    assert all(0.08 < mean < 0.17 for mean in means), means


def mean_updates(block, x):
    """Mean update gates of both joins of a block, by the paper's equation."""
    first = np.maximum(block._attention(block._attention_norm(x)), 0)
    y = block._attention_gate(x, first)
    second = np.maximum(
        block._feedforward(block._feedforward_norm(y), False), 0
    )
    means = []
    for gate, stream, update in (
        (block._attention_gate, x, first),
        (block._feedforward_gate, np.array(y), second),
    ):
        _, Wz, _, _, Uz, _, b = gate_weights(gate)
        means.append(reference.sigmoid(update @ Wz + stream @ Uz - b).mean())
    return means


def padded_rows():
    """Three rows of 10 steps, padded right, left and inside."""
    mask = np.ones((BATCH, 10), bool)
    mask[0, 7:] = mask[1, :4] = mask[2, 3:6] = False
    return mask


@pytest.mark.parametrize("with_resets", [False, True])
def test_padded_steps_count_for_nothing(with_resets):
    layer = build("float32")
    x, is_first = data(10, "float32", seed=3)
    mask = padded_rows()
    is_first[:] = False
    if with_resets:
        is_first[0, 4] = is_first[1, 6] = is_first[2, 7] = True
    _, state = layer(data(4, "float32", seed=1)[0])
    dirty = np.where(mask[..., None], x, 9.0).astype("float32")
    padded, after = layer(dirty, state, is_first, mask=mask)
    for row, valid in enumerate(mask):
        own = {name: value[row : row + 1] for name, value in state.items()}
        expected, new = layer(
            x[row : row + 1, valid], own, is_first[row : row + 1, valid]
        )
        np.testing.assert_allclose(
            padded[row].numpy()[valid], expected[0], atol=1e-5
        )
        length = int(new["length"][0])
        assert int(after["length"][row]) == length
        np.testing.assert_allclose(
            after["memory"][row, :, MEMORY - length :],
            new["memory"][0, :, MEMORY - length :],
            atol=1e-5,
        )


def test_a_reset_on_a_padded_step_counts():
    layer = build("float32")
    x, is_first = data(6, "float32")
    mask, is_first = np.ones((BATCH, 6), bool), np.zeros((BATCH, 6), bool)
    mask[0, 0] = mask[1, 5] = False
    is_first[0, 0] = is_first[1, 5] = True
    _, state = layer(data(4, "float32", seed=1)[0])
    outputs, after = layer(x, state, is_first, mask=mask)
    fresh, _ = layer(x[:1, 1:])
    np.testing.assert_allclose(outputs[0, 1:], fresh[0], atol=1e-5)
    assert after["length"].numpy().tolist() == [5, 0, 6]


def test_keras_masks_arrive_beside_resets_and_state():
    layer = build("float32")
    x, is_first = data(10, "float32")
    x[~padded_rows()] = 0
    _, state = layer(data(4, "float32", seed=1)[0])
    expected, _ = layer(x, state, is_first, mask=padded_rows())
    inputs = {
        "x": keras.Input((None, FEATURES)),
        "is_first": keras.Input((None,), dtype="bool"),
        "memory": keras.Input((2, MEMORY, 8)),
        "length": keras.Input((), dtype="int32"),
    }
    outputs, _ = layer(
        keras.layers.Masking()(inputs["x"]),
        state={"memory": inputs["memory"], "length": inputs["length"]},
        is_first=inputs["is_first"],
    )
    model = keras.Model(inputs, outputs)
    found = model(
        {"x": tf.constant(x), "is_first": tf.constant(is_first), **state}
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert outputs._keras_mask is not None


def test_state_goes_round_in_a_graph_of_unknown_length():
    layer = build("float32")
    x = keras.Input((None, FEATURES))
    first, state = layer(x)
    second, _ = layer(x, state)
    model = keras.Model(x, [first, second])
    steps, _ = data(7, "float32")
    expected, _ = layer(np.concatenate([steps, steps], axis=1))
    found = np.concatenate(model(steps), axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert layer.compute_output_shape((3, 7, 5))[0] == (3, 7, 8)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_alpha_makes_every_projection_sparse_ready(alpha):
    dense, sparse = GTrXL(2, 2, 4, 12, 6), GTrXL(2, 2, 4, 12, 6, alpha=alpha)
    x, _ = data(4, "float32")
    dense(x), sparse(x)
    matrices = [v for v in dense.trainable_variables if v.name == "kernel"]
    # A layer: five of attention, two of feed-forward, three of each gate.
    assert len(sparse_kernels(sparse)) == len(matrices) == 1 + 2 * (5 + 2 + 6)
    assert not sparse_kernels(dense)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_layers": 0}, "num_layers=0"),
        ({"head_dim": -2}, "head_dim=-2"),
        ({"head_dim": 0}, "head_dim=0"),
        ({"memory_length": 0}, "memory_length=0"),
        ({"feedforward_dim": 1.5}, "feedforward_dim=1.5"),
        ({"gating": "lstm"}, "gating='lstm'"),
        ({"ordering": "pre"}, "ordering='pre'"),
        ({"gate_bias": float("nan")}, "gate_bias=nan"),
        ({"gating": "input", "gate_bias": 1.0}, "`gate_bias` has no meaning"),
        ({"dropout": -0.1}, "dropout=-0.1"),
        ({"rolling_window": 1}, "rolling_window=1"),
        ({"alpha": 0}, "alpha=0"),
    ],
)
def test_bad_arguments(arguments, message):
    good = {
        "num_layers": 2,
        "num_heads": 2,
        "head_dim": 4,
        "feedforward_dim": 8,
        "memory_length": 6,
    }
    with pytest.raises(ValueError, match=message):
        GTrXL(**{**good, **arguments})


def test_bad_inputs():
    layer = build("float32")
    x, _ = data(4, "float32")
    state = layer.initial_state(BATCH)
    with pytest.raises(ValueError, match=r"step must have.*\(3, 4, 5\)"):
        layer.step(x, state)
    for wrong in (x[:, 0], x[..., :3], x[:, :0]):
        with pytest.raises(ValueError, match="5 features and at least one"):
            layer(wrong)
    with pytest.raises(ValueError, match=r"`mask` must have.*\(3, 9\)"):
        layer(x, mask=np.ones((3, 9), bool))
    with pytest.raises(ValueError, match=r"time, features.*\(3, 5\)"):
        GTrXL(2, 2, 4, 12, 6)(x[:, 0])
    with pytest.raises(ValueError, match="is_first.*Received.*(3, 5)"):
        layer(x, state, np.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"state\['memory'\].*\(4, 2, 6, 8\)"):
        layer(x, layer.initial_state(4))
    shorter = {**state, "memory": state["memory"][:, :, 1:]}
    with pytest.raises(ValueError, match=r"state\['memory'\].*\(3, 2, 5, 8\)"):
        layer(x, shorter)
    with pytest.raises(ValueError, match=r"state\['length'\].*\(4,\)"):
        layer(x, {**state, "length": np.zeros(4, "int32")})
    with pytest.raises(ValueError, match="`state` must be the dict"):
        layer(x, state["memory"])
