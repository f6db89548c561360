"""Gates, attention and GTrXL in every place where a Keras layer is used."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl import layers
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.layers import GTrXL
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import densify
from keras_sparse_rl.sparsity import prune
from keras_sparse_rl.sparsity import sparsify
from keras_sparse_rl.sparsity import sparsity_summary

FEATURES = 8


def gate_model(gate):
    x = keras.Input((None, FEATURES))
    y = keras.layers.Dense(FEATURES, "relu")(x)
    return keras.Model(x, gate(x, y))


def attention_model(layer):
    x = keras.Input((None, FEATURES))
    return keras.Model(x, layer(x))


CASES = {
    "InputGate": lambda **k: gate_model(layers.InputGate(**k)),
    "OutputGate": lambda **k: gate_model(layers.OutputGate(**k)),
    "HighwayGate": lambda **k: gate_model(layers.HighwayGate(**k)),
    "SigmoidTanhGate": lambda **k: gate_model(layers.SigmoidTanhGate(**k)),
    "GRUGate": lambda **k: gate_model(layers.GRUGate(**k)),
    "RelativeMultiHeadAttention": lambda **k: attention_model(
        layers.RelativeMultiHeadAttention(2, 4, window=3, **k)
    ),
    "GTrXL": lambda **k: attention_model(GTrXL(1, 2, 3, 8, 3, **k)),
    "EpisodicLSTM": lambda **k: attention_model(
        layers.EpisodicLSTM(
            5, layers.EpisodicMemory(4, FEATURES, 5), "every_step", **k
        )
    ),
    "ResettableRNN": lambda alpha=None: attention_model(
        layers.ResettableRNN(keras.layers.LSTMCell(5))
    ),
    "PPRCore": lambda alpha=None: attention_model(layers.PPRCore(5, 3)),
    "OverTime": lambda alpha=None: attention_model(
        layers.OverTime(keras.layers.Dense(5, activation="tanh"))
    ),
}
each_case = pytest.mark.parametrize("case", CASES)
# Gates differ by their formulas alone, which `test_gates` covers: one stands
# for all where a whole training has to be traced.
each_kind = pytest.mark.parametrize(
    "case", ["GRUGate", "GTrXL", "EpisodicLSTM"]
)
each_dense_and_sparse_case = pytest.mark.parametrize(
    "case, alpha",
    [*((case, None) for case in CASES), ("GRUGate", 2.0), ("GTrXL", 2.0)],
)


def data(batch=4, steps=6, seed=0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(batch, steps, FEATURES)).astype("float32")


def target(model, x):
    return np.ones(model(x).shape, "float32")


def trained(case, alpha=None):
    """A model of random weights, every one different from its start."""
    model, generator = CASES[case](alpha=alpha), np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(generator.normal(0.0, 0.5, weight.shape))
    if alpha is not None:
        prune(model, 0.5)
    return model


@each_dense_and_sparse_case
def test_saving_keeps_trained_weights_and_masks(case, alpha, tmp_path):
    model, x = trained(case, alpha), data(seed=1)
    model.save(tmp_path / "model.keras")
    from_file = keras.models.load_model(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    from_weights = CASES[case](alpha=alpha)
    from_weights.load_weights(tmp_path / "model.weights.h5")
    for loaded in (from_file, from_weights):
        for before, after in zip(model.weights, loaded.weights, strict=True):
            np.testing.assert_array_equal(before, after)
        np.testing.assert_array_equal(model(x), loaded(x))


@pytest.mark.parametrize(
    "case",
    [
        c
        if "Gate" not in c or c == "GRUGate"
        else pytest.param(c, marks=pytest.mark.slow)
        for c in CASES
    ],
)
def test_saved_model_export(case, tmp_path):
    model = trained(case)
    model.export(str(tmp_path), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path))
    for steps in (1, 6):
        x = data(3, steps, seed=1)
        np.testing.assert_allclose(loaded.serve(x), model(x), atol=1e-5)


@each_dense_and_sparse_case
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(case, policy, alpha):
    expected = CASES[case](alpha=alpha)
    keras.config.set_dtype_policy(policy)
    model, x = CASES[case](alpha=alpha), data()
    model.set_weights(expected.get_weights())
    outputs = model(x)
    assert outputs.dtype == policy.removeprefix("mixed_")
    error = 0.02 if policy == "mixed_float16" else 0.15
    np.testing.assert_allclose(
        np.array(tf.cast(outputs, "float32")), expected(x), atol=error
    )
    optimizer = Powerprop(keras.optimizers.SGD(0.1))
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, 128.0)
    model.compile(optimizer, "mse", run_eagerly=True)  # graphs: see below
    model.fit(x, target(model, x), batch_size=2, verbose=0)
    assert all(np.isfinite(v).all() for v in model.get_weights())
    assert any(
        (a != b).any()
        for a, b in zip(model.get_weights(), expected.get_weights())
    )


@each_dense_and_sparse_case
def test_xla_gives_the_same_gradients(case, alpha):
    model, x = CASES[case](alpha=alpha), data()
    variables = [v.value for v in model.trainable_variables]

    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x, training=True) - 1))
        return loss, tape.gradient(loss, variables)

    expected = gradients(x)
    found = tf.function(gradients, jit_compile=True)(x)
    for a, b in zip(tf.nest.flatten(found), tf.nest.flatten(expected)):
        if b is None:  # PPR's prediction core, whose output is not asked for
            assert a is None and case == "PPRCore"
            continue
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@each_kind
def test_sequential_subclassed_and_nested_models(case):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = CASES[case]()

        def call(self, x, training=False):
            return self.inner(x, training=training)

    inner = CASES[case]()
    nested = keras.Sequential([keras.Input((None, FEATURES)), inner])
    for model in (Subclassed(), nested):
        x = data()
        model.compile("sgd", "mse", run_eagerly=case == "EpisodicLSTM")
        expected = target(model, x)
        before = model.get_weights()
        history = model.fit(x, expected, epochs=2, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
        after = model.get_weights()
        assert any((a != b).any() for a, b in zip(before, after))


@pytest.mark.parametrize(
    "case",
    ["GTrXL", pytest.param("EpisodicLSTM", marks=pytest.mark.slow)],
)
def test_two_replicas_train_as_one(case, two_replicas):
    x, results = data(), []
    weights = CASES[case]().get_weights()
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = CASES[case]()
            model.compile(keras.optimizers.SGD(0.1), "mse")
        model.set_weights(weights)
        model.fit(x, target(model, x), epochs=3, verbose=0)
        results.append(model(x))
    np.testing.assert_allclose(*results, rtol=1e-3, atol=1e-4)


@each_case
def test_keras_masks_pass_through(case):
    model = CASES[case]()
    x = keras.Input((None, FEATURES))
    outputs = model.layers[-1]
    masked = keras.layers.Masking()(x)
    if "Gate" in case:
        y = outputs(masked, keras.layers.Dense(FEATURES)(masked))
    else:
        y = outputs(masked)
    assert y._keras_mask is not None


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c not in ("ResettableRNN", "PPRCore", "OverTime")],
)
def test_sparsify_and_densify_reach_every_projection(case):
    model, x = CASES[case](), data()
    last = model.layers[-1]
    outputs, kind = model(x), type(last)
    sparsify(model, alpha=2.0, densities={last: 1.0}, verbose=0)
    np.testing.assert_allclose(model(x), outputs, rtol=1e-5, atol=1e-5)
    matrices = [v for v in last.trainable_variables if v.name == "kernel"]
    assert len(sparse_kernels(last)) == len(matrices)
    assert isinstance(last, kind)
    prune(model, 0.5)
    outputs = model(x)
    densify(model)
    assert not sparse_kernels(model) and type(last) is kind
    np.testing.assert_allclose(model(x), outputs, rtol=1e-5, atol=1e-5)


def test_top_kast_trains_gtrxl_sparse():
    model, x = CASES["GTrXL"](alpha=2.0), data()
    model.compile(Powerprop("adam"), "mse")
    history = model.fit(
        x,
        target(model, x),
        epochs=4,
        verbose=0,
        callbacks=[TopKAST(0.2, 0.4, refresh_every=1)],
    ).history
    total = sparsity_summary(model, print_fn=None)["total"]
    assert abs(total["density_of_sparse_kernels"] - 0.2) < 0.02
    assert history["loss"][-1] < history["loss"][0]


def test_densities_may_name_a_layer_of_layers():
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            GTrXL(1, 2, 4, 8, 3, alpha=1.0, name="memory"),
            layers.PowerpropDense(6, name="output"),
        ]
    )
    memory, head = model.layers
    for key in (memory, "memory"):
        prune(model, 1.0, densities={key: 0.25})
        density = [np.mean(k.forward_mask()) for k in sparse_kernels(memory)]
        np.testing.assert_allclose(density, 0.25, atol=0.02)
        assert sparse_kernels(head)[0].forward_mask().all()
        prune(model, 1.0)
    # The head's name is also that of a layer inside: the head is meant.
    prune(model, 0.5, densities={"output": 1.0})
    assert sparse_kernels(head)[0].forward_mask().all()
    inner = [k for k in sparse_kernels(memory) if k.layer.name == "output"]
    assert len(inner) == 1 and np.mean(inner[0].forward_mask()) == 0.5


def test_state_in_functional_models_and_in_saved_models(tmp_path):
    """Observation, resets and state are inputs; the new state comes out."""
    layer = GTrXL(2, 2, 4, 8, 5, return_state=True)
    inputs = {
        "observation": keras.Input((None, FEATURES), name="observation"),
        "is_first": keras.Input((None,), dtype="bool", name="is_first"),
        "memory": keras.Input((2, 5, 8), name="memory"),
        "length": keras.Input((), dtype="int32", name="length"),
    }
    outputs, state = layer(
        inputs["observation"],
        state={"memory": inputs["memory"], "length": inputs["length"]},
        is_first=inputs["is_first"],
    )
    model = keras.Model(inputs, {"outputs": outputs, **state})
    model.save(tmp_path / "model.keras")
    x = data(3, 9)
    is_first = np.zeros((3, 9), bool)
    is_first[1, 4] = True
    expected, expected_state = layer(x, layer.initial_state(3), is_first)
    calls = [model, keras.models.load_model(tmp_path / "model.keras")]
    # Keras 3.8 itself cannot export any model whose inputs are a dict.
    if not keras.__version__.startswith("3.8."):
        model.export(str(tmp_path / "saved"), verbose=False)
        exported = tf.saved_model.load(str(tmp_path / "saved"))
        calls.append(exported.serve)
    for call in calls:
        state, parts = layer.initial_state(3), []
        for start, end in ((0, 1), (1, 6), (6, 9)):
            found = call(
                {
                    "observation": tf.constant(x[:, start:end]),
                    "is_first": tf.constant(is_first[:, start:end]),
                    **state,
                }
            )
            parts.append(found.pop("outputs"))
            state = found
        np.testing.assert_allclose(
            np.concatenate(parts, axis=1), expected, atol=1e-5
        )
        np.testing.assert_array_equal(state["length"], [5, 5, 5])
        np.testing.assert_allclose(
            state["memory"], expected_state["memory"], atol=1e-5
        )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_thousand_steps_without_retracing(jit_compile):
    layer = GTrXL(1, 2, 4, 8, 3, return_state=True)
    layer.build((None, None, FEATURES))
    traces = []

    @tf.function(jit_compile=jit_compile)
    def act(inputs, state, is_first):
        traces.append(1)
        return layer.step(inputs, state, is_first)

    generator = np.random.default_rng(0)
    state = layer.initial_state(2)
    for _ in range(1000):
        inputs = generator.normal(size=(2, FEATURES)).astype("float32")
        resets = tf.constant(generator.random(2) < 0.1)
        outputs, state = act(tf.constant(inputs), state, resets)
    assert len(traces) == 1
    assert np.isfinite(outputs).all()
