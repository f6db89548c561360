"""Models of every kind through export_litert: right, and left as they were."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.kernels.matrices import layers_inside
from keras_sparse_rl.layers import OverTime
from keras_sparse_rl.layers import ResettableRNN
from keras_sparse_rl.sparsity import export_litert
from keras_sparse_rl.sparsity import prune
from keras_sparse_rl.sparsity import sparsify

layers = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter")
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(5, 3, (3, 8)).astype("float32")
SEQUENCES = GENERATOR.normal(size=(3, 6, 8)).astype("float32")


class Own(layers.Layer):
    """A layer of the user's own that is registered nowhere."""

    def __init__(self, units=5, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight((input_shape[-1], self.units), name="w")

    def call(self, inputs):
        return inputs @ self.w


class Subclassed(keras.Model):
    def __init__(self, units=5, **kwargs):
        super().__init__(**kwargs)
        self.body = layers.Dense(units, "relu")
        self.last = layers.Dense(2)

    def call(self, inputs):
        return self.last(self.body(inputs))


def normalized():
    scale = layers.Normalization()
    scale.adapt(X)
    return stacked(scale, layers.Dense(16, "relu"), layers.Dense(2))


def stacked(*parts, shape=(8,)):
    return keras.Sequential([keras.Input(shape), *parts])


def subclassed():
    model = Subclassed()
    model(X)
    return model


def attention():
    inputs = keras.Input((6, 8))
    x = layers.MultiHeadAttention(2, 3)(inputs, inputs)
    return keras.Model(inputs, layers.Dense(2)(x))


def over_time():
    return stacked(
        OverTime(layers.Dense(5)),
        layers.TimeDistributed(layers.Dense(3)),
        ResettableRNN(layers.LSTMCell(4)),
        layers.Dense(2),
        shape=(6, 8),
    )


def recurrent():
    return stacked(
        layers.Bidirectional(layers.GRU(5, return_sequences=True)),
        layers.LSTM(4),
        layers.Dense(2),
        shape=(6, 8),
    )


CASES = {
    "what a layer has adapted to": (normalized, X),
    "layer of the user": (lambda: stacked(Own(), layers.Dense(2)), X),
    "subclassed": (subclassed, X),
    "attention": (attention, SEQUENCES),
    "layers over time": (over_time, SEQUENCES),
    "recurrent": (recurrent, SEQUENCES),
}


def run(path, x):
    loaded = tf.lite.Interpreter(str(path))
    runner = loaded.get_signature_runner()
    (name,) = runner.get_input_details()
    (output,) = runner(**{name: x}).values()
    return output


def state(model):
    return [np.array(weight) for weight in model.get_weights()], [
        (type(layer), getattr(layer, "unroll", None), layer.compute_dtype)
        for layer in layers_inside(model)
    ]


@pytest.mark.parametrize("is_sparse", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_outputs_stay_and_so_does_the_model(name, is_sparse, tmp_path):
    make, x = CASES[name]
    model = make()
    if is_sparse:
        sparsify(model, alpha=2.0, verbose=0)
        prune(model, 0.3)
    expected, (weights, kinds) = np.array(model(x)), state(model)
    export_litert(model, tmp_path / "a.tflite", print_fn=None)
    found = run(tmp_path / "a.tflite", x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    after, kinds_after = state(model)
    assert kinds_after == kinds
    for a, b in zip(weights, after, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(model(x), expected)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_is_computed_in_single(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        model = stacked(
            layers.Dense(16, "relu"),
            layers.BatchNormalization(),
            layers.Dense(2),
        )
    finally:
        keras.config.set_dtype_policy("float32")
    sparsify(model, verbose=0)
    prune(model, 0.3)
    export_litert(model, tmp_path / "a.tflite", print_fn=None)
    found = run(tmp_path / "a.tflite", X)
    assert found.dtype == "float32"
    expected = np.array(model(X), "float32")
    np.testing.assert_allclose(found, expected, rtol=0.05, atol=0.1)
    assert model.layers[0].compute_dtype == policy.removeprefix("mixed_")


@pytest.mark.parametrize("density", [0.65, 0.3, 0.02])
@pytest.mark.parametrize("inputs", [1, 3, 5, 6, 7, 66])
def test_inputs_that_fill_no_blocks(inputs, density, tmp_path):
    """TensorFlow's converter drops them where it makes blocks."""
    keras.utils.set_random_seed(0)
    model = stacked(layers.Dense(40), layers.Dense(2), shape=(inputs,))
    sparsify(model, alpha=1.0, verbose=0)
    prune(model, density)
    x = GENERATOR.normal(size=(3, inputs)).astype("float32")
    report = export_litert(model, tmp_path / "a.tflite", print_fn=None)
    found = run(tmp_path / "a.tflite", x)
    np.testing.assert_allclose(found, model(x), rtol=0, atol=1e-5)
    used = max(1, round(density * 40 * inputs)) / (40 * inputs)
    assert report["layers"][0]["density"] == pytest.approx(used)
    if inputs == 66 and density == 0.02:
        assert report["layers"][0]["runs"] == "unpacked"
        assert report["size"] < 0.25 * 4 * 66 * 40


def test_a_matrix_that_is_read_transposed(tmp_path):
    """Nobody can foretell its blocks: the file is checked, and dense."""

    class Transposed(layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight((20, input_shape[-1]), name="w")

        def call(self, inputs):
            return inputs @ keras.ops.transpose(self.w)

    model = stacked(Transposed(), layers.Dense(2), shape=(3,))
    sparsify(model, verbose=0)
    prune(model, 0.2)
    x = X[:, :3]
    export_litert(model, tmp_path / "a.tflite", print_fn=None)
    found = run(tmp_path / "a.tflite", x)
    np.testing.assert_allclose(found, model(x), rtol=0, atol=1e-5)


def test_what_cannot_go_into_a_file_is_said_before(tmp_path):
    path = tmp_path / "a.tflite"
    model = stacked(
        layers.LSTM(4, name="memory"), layers.Dense(2), shape=(None, 8)
    )
    with pytest.raises(ValueError, match=r"'memory' \(LSTM\).*one length"):
        export_litert(model, path)
    double = stacked(layers.Dense(2, dtype="float64", name="double"))
    with pytest.raises(ValueError, match="'double' is of dtype float64"):
        export_litert(double, path)

    class Closed(layers.Layer):
        def __init__(self, function):
            super().__init__()
            self.function = function
            self.inner = layers.Dense(4)

        def call(self, inputs):
            return self.function(self.inner(inputs))

    model = stacked(Closed(keras.ops.relu), layers.Dense(2))
    sparsify(model, verbose=0)
    with pytest.raises(TypeError, match="cannot be copied.*get_config"):
        export_litert(model, path)
    assert not path.exists()
