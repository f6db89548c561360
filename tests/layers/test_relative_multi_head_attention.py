"""Relative attention against the reference, query by query."""

import keras
import numpy as np
import pytest

from keras_sparse_rl.layers import RelativeMultiHeadAttention
from keras_sparse_rl.layers import sparse_kernels
from tests.layers import gtrxl_reference as reference
from tests.layers.gtrxl_weights import attention_weights
from tests.layers.gtrxl_weights import randomize

FEATURES = 6
each_precision = pytest.mark.parametrize(
    "dtype, error", [("float64", 1e-10), ("float32", 1e-5)]
)


def build(dtype="float64", **arguments):
    layer = RelativeMultiHeadAttention(2, 4, dtype=dtype, **arguments)
    layer.build((None, None, FEATURES))
    randomize(layer)
    return layer


def data(slots, steps, dtype="float64"):
    generator = np.random.default_rng(2)
    x = generator.normal(size=(3, slots + steps, FEATURES)).astype(dtype)
    return x[:, :slots], x[:, slots:]


def expected_outputs(layer, memory, inputs, window=None, mask=None):
    weights = attention_weights(layer)
    slots, steps = memory.shape[1], inputs.shape[1]
    keys = np.concatenate([memory, inputs], axis=1).astype("float64")
    outputs = np.zeros((*inputs.shape[:2], FEATURES))
    for row in range(len(inputs)):
        for i in range(steps):
            seen = [
                j
                for j in range(slots + i + 1)
                if (window is None or slots + i - j <= window)
                and (mask is None or mask[row, i, j])
            ]
            outputs[row, i] = reference.attend(
                inputs[row, i].astype("float64"),
                keys[row, seen],
                [slots + i - j for j in seen],
                weights,
            )
    return outputs


@each_precision
@pytest.mark.parametrize("window", [None, 1, 3, 5, 20])
@pytest.mark.parametrize("slots, steps", [(0, 5), (5, 4), (5, 1), (7, 3)])
def test_attention_is_its_equation(dtype, error, window, slots, steps):
    layer = build(dtype, window=window)
    memory, inputs = data(slots, steps, dtype)
    expected = expected_outputs(layer, memory, inputs, window)
    found = layer(inputs, memory=memory if slots else None)
    np.testing.assert_allclose(found, expected, rtol=0, atol=error)


@pytest.mark.parametrize("steps", [1, 4])
def test_attention_mask(steps):
    layer = build()
    memory, inputs = data(5, steps)
    mask = np.random.default_rng(3).random((3, steps, 5 + steps)) < 0.5
    mask[:, np.arange(steps), 5 + np.arange(steps)] = True
    expected = expected_outputs(layer, memory, inputs, mask=mask)
    found = layer(inputs, memory=memory, attention_mask=mask)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_query_without_keys_gives_a_number(steps):
    memory, inputs = data(2, steps, "float32")
    for policy in ("float32", "mixed_float16"):
        outputs = build(policy)(
            inputs,
            memory=memory,
            attention_mask=np.zeros((1, steps, 2 + steps), bool),
        )
        assert np.isfinite(outputs).all()


@pytest.mark.parametrize("steps", [1, 4])
def test_no_gradient_reaches_the_memory(steps):
    import tensorflow as tf

    layer = build()
    memory, inputs = map(tf.constant, data(5, steps))
    with tf.GradientTape() as tape:
        tape.watch([memory, inputs])
        loss = tf.reduce_sum(layer(inputs, memory=memory) ** 2)
    to_memory, to_inputs, to_key = tape.gradient(
        loss, [memory, inputs, layer._key.kernel.value]
    )
    assert to_memory is None or not np.any(to_memory)
    # The projections do learn from the memory (Transformer-XL's SG).
    assert np.any(to_inputs) and np.any(to_key)


@pytest.mark.parametrize("steps", [1, 4])
def test_gradients_against_finite_differences(steps):
    import tensorflow as tf

    layer = build(window=4)
    memory, inputs = data(5, steps)
    projection = np.random.default_rng(4).normal(size=(3, steps, FEATURES))

    def loss():
        return tf.reduce_sum(layer(inputs, memory=memory) * projection)

    with tf.GradientTape() as tape:
        value = loss()
    variables = layer.trainable_variables
    gradients = tape.gradient(value, [v.value for v in variables])
    for variable, gradient in zip(variables, gradients):
        direction = np.random.default_rng(5).normal(size=variable.shape)
        start, step = np.array(variable), 1e-6
        variable.assign(start + step * direction)
        up = loss()
        variable.assign(start - step * direction)
        down = loss()
        variable.assign(start)
        np.testing.assert_allclose(
            np.sum(gradient * direction), (up - down) / (2 * step), rtol=1e-6
        )


def test_redundant_biases_are_left_out():
    """Biases of keys and distances cancel in the softmax, as documented."""
    layer = build()
    names = [v.path.split("/", 1)[1] for v in layer.trainable_variables]
    biases = sorted(n for n in names if "bias" in n)
    assert biases == ["output/bias", "u_bias", "v_bias"]
    assert not build(use_bias=False)._output.use_bias
    weights = attention_weights(layer)
    memory, inputs = data(4, 1)
    keys = np.concatenate([memory, inputs], axis=1)[0]
    key = np.random.default_rng(6).normal(size=FEATURES)
    shifted = keys + key @ np.linalg.pinv(weights[1]).T @ weights[1].T
    bias = (shifted - keys) @ weights[1]
    assert np.abs(bias).max() > 0.1 and np.ptp(bias, axis=0).max() < 1e-12


def test_dropout_only_in_training():
    layer = build("float32", dropout=0.5)
    memory, inputs = data(5, 4, "float32")
    quiet = layer(inputs, memory=memory)
    np.testing.assert_array_equal(quiet, layer(inputs, memory=memory))
    loud = layer(inputs, memory=memory, training=True)
    assert np.abs(quiet - loud).max() > 1e-3


def test_alpha_makes_every_projection_sparse_ready():
    layer = build("float32", alpha=2.0)
    assert len(sparse_kernels(layer)) == 5
    memory, inputs = data(5, 4, "float32")
    expected = expected_outputs(layer, memory, inputs)
    found = layer(inputs, memory=memory)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_config_round_trip_and_dynamic_time():
    layer = RelativeMultiHeadAttention(2, 4, 3, 0.1, False, 2.0, name="some")
    copy = RelativeMultiHeadAttention.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert (copy.window, copy.dropout, copy.use_bias) == (3, 0.1, False)
    for window in (None, 3):
        layer = build("float32", window=window)
        inputs = keras.Input((None, FEATURES))
        memory = keras.Input((5, FEATURES))
        model = keras.Model([memory, inputs], layer(inputs, memory=memory))
        for steps in (1, 2, 6):
            memory, inputs = data(5, steps, "float32")
            np.testing.assert_allclose(
                model([memory, inputs]), layer(inputs, memory=memory), atol=1e-5
            )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_heads": 0, "head_dim": 4}, "num_heads=0"),
        ({"num_heads": 2, "head_dim": -1}, "head_dim=-1"),
        ({"num_heads": 1, "head_dim": 3}, "must be even"),
        ({"num_heads": 2, "head_dim": 4, "window": 0}, "window=0"),
        ({"num_heads": 2, "head_dim": 4, "dropout": 1.0}, "dropout=1.0"),
        ({"num_heads": 2, "head_dim": 4, "alpha": 0.9}, "alpha=0.9"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        RelativeMultiHeadAttention(**arguments)


def test_keras_mask_hides_padded_steps():
    layer = build("float32")
    memory, inputs = data(3, 6, "float32")
    mask = np.ones((3, 6), bool)
    mask[0, :2] = mask[1, 4:] = False
    visible = np.concatenate(
        [np.ones((3, 6, 3), bool), np.repeat(mask[:, None], 6, 1)], axis=2
    )
    expected = expected_outputs(
        layer, memory, inputs, mask=visible | np.eye(6, 9, 3, dtype=bool)
    )
    x, m = keras.Input((None, FEATURES)), keras.Input((3, FEATURES))
    outputs = layer(keras.layers.Masking()(x), memory=m)
    inputs[~mask] = 0
    found = keras.Model([x, m], outputs)([inputs, memory])
    np.testing.assert_allclose(found.numpy()[mask], expected[mask], atol=1e-5)


def test_bad_call_arguments():
    layer = build("float32")
    memory, inputs = data(3, 6, "float32")
    for shape in ((3, 6, 6), (2, 6, 9), (6, 9)):
        with pytest.raises(ValueError, match="`attention_mask` must have"):
            layer(inputs, memory=memory, attention_mask=np.ones(shape, bool))
    with pytest.raises(ValueError, match="`query` must have"):
        layer(inputs, memory=memory, query=inputs[:, :2])
    with pytest.raises(ValueError, match="use_bias='no'"):
        RelativeMultiHeadAttention(2, 4, use_bias="no")


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 5, 6), (3, 6)])
def test_bad_memory(shape):
    with pytest.raises(ValueError, match="`memory` must have the shape"):
        build("float32")(np.zeros((3, 4, FEATURES)), memory=np.zeros(shape))
