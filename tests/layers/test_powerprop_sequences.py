"""Recurrent and attention layers with sparse kernels, beside Keras' own."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl import layers
from keras_sparse_rl.callbacks import SET
from keras_sparse_rl.callbacks import MagnitudePruning
from keras_sparse_rl.callbacks import RigL
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.kernels.kernel import kernel_of
from keras_sparse_rl.kernels.matrices import layers_inside
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import PolynomialSchedule
from keras_sparse_rl.sparsity import densify
from keras_sparse_rl.sparsity import prune
from keras_sparse_rl.sparsity import sparsify
from keras_sparse_rl.sparsity import sparsity_summary
from tests.same_state import assert_same_state

X = np.random.default_rng(0).normal(size=(8, 3, 5)).astype("float32")
Y = np.random.default_rng(1).normal(size=(8, 2)).astype("float32")


def stacked(**arguments):
    cells = [keras.layers.LSTMCell(3), keras.layers.SimpleRNNCell(4)]
    return layers.PowerpropRNN(cells, **arguments)


def keras_stacked():
    cells = [keras.layers.LSTMCell(3), keras.layers.SimpleRNNCell(4)]
    return keras.layers.RNN(cells)


CASES = {
    "lstm": (
        lambda **k: layers.PowerpropLSTM(6, **k),
        lambda: keras.layers.LSTM(6),
        ["kernel", "recurrent_kernel"],
    ),
    "gru": (
        lambda **k: layers.PowerpropGRU(6, **k),
        lambda: keras.layers.GRU(6),
        ["kernel", "recurrent_kernel"],
    ),
    "simple_rnn": (
        lambda **k: layers.PowerpropSimpleRNN(6, **k),
        lambda: keras.layers.SimpleRNN(6),
        ["kernel", "recurrent_kernel"],
    ),
    "rnn": (stacked, keras_stacked, None),
    "attention": (
        lambda **k: layers.PowerpropMultiHeadAttention(2, 3, **k),
        lambda: keras.layers.MultiHeadAttention(2, 3),
        [
            f"{name}_kernel"
            for name in ("query", "key", "value", "attention_output")
        ],
    ),
    "grouped": (
        lambda **k: layers.PowerpropGroupQueryAttention(3, 2, 1, **k),
        lambda: keras.layers.GroupQueryAttention(3, 2, 1),
        None,
    ),
    "separable": (
        lambda **k: layers.PowerpropSeparableConv1D(4, 2, **k),
        lambda: keras.layers.SeparableConv1D(4, 2),
        ["depthwise_kernel", "pointwise_kernel"],
    ),
    "conv_lstm": (
        lambda **k: layers.PowerpropConvLSTM1D(2, 2, **k),
        lambda: keras.layers.ConvLSTM1D(2, 2),
        ["kernel", "recurrent_kernel"],
    ),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def apply(layer, x, **arguments):
    attention = (
        keras.layers.MultiHeadAttention,
        keras.layers.GroupQueryAttention,
    )
    if isinstance(layer, attention):
        return layer(x, x, **arguments)
    if isinstance(layer, keras.layers.ConvLSTM1D):
        x = keras.ops.expand_dims(x, -1)
    return layer(x, **arguments)


def matrices(layer):
    """The kernels of a Keras layer, in order."""
    return [v for v in layer.weights if v.name.endswith("kernel")]


def others(layer):
    return [
        v for v in layer.trainable_variables if not v.name.endswith("kernel")
    ]


def scatter_masks(kernels, seed=0):
    """Random sets, A inside B but for frozen weights; returns the bits."""
    generator = np.random.default_rng(seed)
    for kernel in kernels:
        bits = generator.choice([0, 1, 2, 3], kernel.shape).astype("uint8")
        kernel.mask.assign(bits)


@each_case
@pytest.mark.parametrize("alpha", [1, 2.5])
def test_computes_and_learns_as_keras_with_the_masked_kernels(case, alpha):
    ours, theirs, names = case
    ours, theirs = ours(alpha=alpha), theirs()
    for layer in (ours, theirs):
        apply(layer, X)
    kernels = ours.sparse_kernels
    assert sparse_kernels(ours) == kernels
    assert names is None or [k.name for k in kernels] == names
    scatter_masks(kernels)
    for kernel, matrix in zip(kernels, matrices(theirs), strict=True):
        theta = np.array(kernel.theta, "float64")
        weight = np.sign(theta) * np.abs(theta) ** alpha
        np.testing.assert_allclose(kernel.weight(), weight, rtol=1e-5)
        matrix.assign(weight * (np.array(kernel.mask) & 1))
    for a, b in zip(others(ours), others(theirs), strict=True):
        b.assign(a)
    gradients = []
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            y = apply(layer, X)
            loss = tf.reduce_sum(y * tf.cos(y))
        gradients.append(
            tape.gradient(loss, [v.value for v in layer.trainable_variables])
        )
        gradients[-1].append(y)
    thetas = {id(kernel.theta): kernel for kernel in kernels}
    for variable, a, b in zip(ours.trainable_variables, *gradients):
        kernel = thetas.get(id(variable))
        if kernel is not None:
            theta = np.array(kernel.theta, "float64")
            b = b * alpha * np.abs(theta) ** (alpha - 1)
            b = np.where(np.array(kernel.mask) & 2, b, 0.0)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gradients[0][-1], gradients[1][-1], atol=1e-6)


class Subclassed(keras.Model):
    """Its layer is built while Keras only traces."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.out = keras.layers.Dense(2)

    def call(self, x, training=False):
        y = apply(self.layer, x, training=training)
        return self.out(y[:, -1] if len(y.shape) == 3 else y)


@each_case
def test_every_alpha_starts_from_the_same_weights(case):
    ours, theirs, _ = case
    for exponent, is_traced in ((2.0, False), (3.0, True)):
        weights = []
        for make in (theirs, functools.partial(ours, alpha=exponent)):
            keras.utils.set_random_seed(5)
            layer = make()
            if is_traced:
                Subclassed(layer)(keras.Input((3, 5)))
            else:
                apply(layer, X)
            found = getattr(layer, "sparse_kernels", None)
            found = [k.value() for k in found or []] or matrices(layer)
            weights.append([np.array(w) for w in found])
        for a, b in zip(*weights, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_a_cell_that_has_weights_keeps_them():
    cell = keras.layers.GRUCell(3)
    cell.build((None, 5))
    before = [np.array(cell.kernel), np.array(cell.recurrent_kernel)]
    layer = layers.PowerpropRNN(cell, alpha=2.0)
    other = layers.ResettableRNN(cell, alpha=2.0)
    layer(X), other(X)
    assert layer.sparse_kernels == other.sparse_kernels
    for kernel, weight in zip(layer.sparse_kernels, before, strict=True):
        np.testing.assert_allclose(kernel.weight(), weight, rtol=1e-5)
    np.testing.assert_allclose(layer(X), other(X)[:, -1], atol=1e-6)


def test_what_the_layer_keeps_is_kept():
    ours = layers.PowerpropGRU(3, stateful=True, alpha=1)
    theirs = keras.layers.GRU(3, stateful=True)
    ours(X), theirs(X)
    theirs.set_weights(
        [np.array(v) for v in ours.weights if "mask" not in v.name]
    )
    for layer in (ours, theirs):
        layer.reset_state()
    for _ in range(2):
        np.testing.assert_allclose(ours(X), theirs(X), atol=1e-6)
    assert np.abs(np.array(ours.states[0])).max() > 0
    # Seeds go on, so two calls draw two different masks.
    layer = layers.PowerpropLSTM(8, dropout=0.5, seed=1, alpha=1)
    a, b = (np.array(layer(X, training=True)) for _ in range(2))
    assert np.abs(a - b).max() > 0
    layer = layers.PowerpropMultiHeadAttention(
        1, 2, activity_regularizer="l2", kernel_regularizer="l2", alpha=2.0
    )
    layer(X, X)
    expected = keras.layers.MultiHeadAttention(
        1, 2, activity_regularizer="l2", kernel_regularizer="l2"
    )
    expected(X, X)
    for kernel, matrix in zip(layer.sparse_kernels, matrices(expected)):
        matrix.assign(kernel.value())
    layer(X, X), expected(X, X)
    assert len(layer.losses) == len(expected.losses) > 4
    np.testing.assert_allclose(
        sum(map(float, layer.losses)), sum(map(float, expected.losses)), 1e-5
    )


@each_case
def test_config_round_trip(case):
    layer = case[0](alpha=3.0, name="some_name")
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert copy.alpha == 3.0 and copy.name == "some_name"
    assert set(case[1]().get_config()) <= set(layer.get_config())
    for alpha in (0.5, float("nan"), "2", True):
        with pytest.raises(ValueError, match="alpha"):
            case[0](alpha=alpha)


def test_masked_steps_and_padded_sequences():
    # The longer sequence's last step is hidden, and so changes nothing.
    longer = np.concatenate([X, X[:, :1]], axis=1)
    mask = np.array([[True, True, True, False]] * 8)
    layer = CASES["simple_rnn"][0](alpha=2.0)
    np.testing.assert_allclose(layer(longer, mask=mask), layer(X), atol=1e-6)
    ours, theirs = CASES["attention"][0](), CASES["attention"][1]()
    ours(X, X), theirs(X, X)
    for kernel, matrix in zip(ours.sparse_kernels, matrices(theirs)):
        kernel.assign_weight(matrix)
    outputs = []
    for layer in (ours, theirs):
        # Keras takes the mask off its inputs.
        padded = keras.layers.Masking()(X * np.arange(3)[:, None])
        outputs.append(layer(padded, padded, use_causal_mask=True))
    found, expected = outputs
    np.testing.assert_allclose(found, expected, atol=1e-6)
    hidden = [y._keras_mask for y in (found, expected)]
    np.testing.assert_array_equal(*hidden)
    _, scores = ours(X, X, return_attention_scores=True)
    assert scores.shape == (8, 2, 3, 3)


def network(alpha=2.0):
    """Attention and recurrence in one functional model."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, 5))
    x = layers.PowerpropMultiHeadAttention(2, 2, alpha=alpha)(inputs, inputs)
    x = layers.PowerpropLSTM(4, alpha=alpha)(x)
    return keras.Model(inputs, keras.layers.Dense(2)(x))


@pytest.fixture(scope="module")
def trained():
    """A network after sparse training, and the callback's history."""
    model = network()
    model.compile(Powerprop(keras.optimizers.AdamW(0.02)), "mse")
    before = [np.array(k.theta) for k in sparse_kernels(model)]
    history = model.fit(
        X, Y, 4, 3, 0, [TopKAST(0.3, refresh_every=10)], shuffle=False
    )
    return model, before, history.history


def test_top_kast_trains_the_backward_set_alone(trained):
    model, before, history = trained
    kernels = sparse_kernels(model)
    assert len(kernels) == 4 + 2
    for kernel, old in zip(kernels, before):
        used, moving = kernel.forward_mask(), kernel.backward_mask()
        assert used.sum() == max(1, round(0.3 * used.size))
        assert moving.sum() == max(1, round(0.6 * used.size))
        new = np.array(kernel.theta)
        np.testing.assert_array_equal(new[~moving], old[~moving])
        assert (new[moving] != old[moving]).any()
    assert history["loss"][-1] < history["loss"][0]


@pytest.mark.parametrize("ending", ["model.keras", "model.weights.h5"])
def test_saving_keeps_weights_masks_and_slots(trained, ending, tmp_path):
    model, _, _ = trained
    path = tmp_path / ending
    if ending.endswith(".keras"):
        model.save(path)
        loaded = keras.models.load_model(path)
        assert_same_state(model, loaded)
    else:
        model.save_weights(path)
        loaded = network()
        loaded.load_weights(path)
        for a, b in zip(model.weights, loaded.weights, strict=True):
            np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(model(X), loaded(X))


def test_export_densify_and_lengths(trained, tmp_path):
    model, _, _ = trained
    model.export(str(tmp_path), verbose=False)
    served = tf.saved_model.load(str(tmp_path))
    dense = keras.models.clone_model(model)
    dense.set_weights(model.get_weights())
    densify(dense)
    kinds = [type(layer).__name__ for layer in dense.layers[1:]]
    assert kinds == ["MultiHeadAttention", "LSTM", "Dense"]
    assert not sparse_kernels(dense)
    for x in (X, X[:3, :2]):
        np.testing.assert_allclose(served.serve(x), model(x), atol=1e-6)
        np.testing.assert_allclose(dense(x), model(x), atol=1e-6)
    total = sparsity_summary(model, print_fn=None)["total"]
    kept = sum(k.forward_mask().sum() for k in sparse_kernels(model))
    plain = sum(np.prod(v.shape) for v in others(dense))
    last = np.prod(dense.layers[-1].kernel.shape)
    assert total["used"] == kept + plain + last
    zeros = sum((np.array(v) == 0).sum() for v in matrices(dense))
    assert zeros >= sum(
        (~k.forward_mask()).sum() for k in sparse_kernels(model)
    )


def test_flops_count_each_step():
    model = keras.Sequential([keras.Input((7, 5)), layers.PowerpropGRU(4)])
    plain = keras.Sequential([keras.Input((7, 5)), keras.layers.GRU(4)])
    size = 5 * 12 + 4 * 12
    for m in (model, plain):
        row = sparsity_summary(m, print_fn=None)["layers"][0]
        assert row["flops"] == row["dense_flops"] == 2 * 7 * size
    prune(model, 0.5)
    row = sparsity_summary(model, print_fn=None)["layers"][0]
    assert row["flops"] == 7 * size


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = network(alpha=3.0)
    assert model(X).dtype == policy.removeprefix("mixed_")
    kernel = model.layers[2].sparse_kernels[0]
    assert kernel.theta.dtype == "float32"
    layer, seen = model.layers[2], []
    inner = layer.cell.call

    def spy(*args, **kwargs):
        seen.append(layer.cell.kernel.value)
        return inner(*args, **kwargs)

    layer.cell.call = spy
    layer(X[..., :5])
    # The power is taken in float32, and rounded only then.
    expected = tf.cast(kernel.value(), layer.compute_dtype)
    np.testing.assert_array_equal(
        tf.cast(seen[0], "float32"), tf.cast(expected, "float32")
    )


def test_xla_gives_the_same():
    layer = layers.PowerpropMultiHeadAttention(2, 3, alpha=2.0)
    layer(X, X)
    scatter_masks(layer.sparse_kernels)

    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.cos(layer(x, x, training=False)))
        return tape.gradient(loss, [v.value for v in layer.trainable_variables])

    for a, b in zip(
        gradients(X), tf.function(gradients, jit_compile=True)(X), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_each_replica_has_the_effective_kernels(two_replicas):
    with two_replicas.scope():
        layer = layers.PowerpropLSTM(4, alpha=2.0, dropout=0.5)
        layer(X)
    scatter_masks(layer.sparse_kernels)

    def gradient(training):
        with tf.GradientTape() as tape:
            y = layer(X, training=training)
            loss = tf.reduce_sum(tf.cos(y))
        return y, tape.gradient(loss, layer.cell.kernel.value)

    expected = gradient(False)
    for found, value in zip(two_replicas.run(gradient, (False,)), expected):
        for copy in two_replicas.experimental_local_results(found):
            np.testing.assert_allclose(copy, value, rtol=1e-4, atol=1e-6)


def test_callbacks_drive_them():
    keras.utils.set_random_seed(0)
    model = Subclassed(layers.PowerpropMultiHeadAttention(2, 4))
    model(X)
    model.compile(Powerprop("adam"), "mse")
    kernels = sparse_kernels(model)
    for callback in (
        MagnitudePruning(PolynomialSchedule(0.3, 1, 4), 1),
        SET(0.3, refresh_every=2),
        RigL(0.3, end_step=100, refresh_every=2),
    ):
        model.optimizer.iterations.assign(0)
        before = [k.forward_mask() for k in kernels]
        model.fit(X, Y, 4, 3, 0, [callback], shuffle=False)
        used = sum(k.forward_mask().sum() for k in kernels)
        assert abs(used - 0.3 * sum(k.weight().size for k in kernels)) <= 2
        after = [k.forward_mask() for k in kernels]
        assert any((a != b).any() for a, b in zip(before, after))


def wrapped():
    inputs = keras.Input((3, 5))
    gru = keras.layers.GRU(3, return_sequences=True, name="gru")
    x = keras.layers.Bidirectional(gru, name="both")(inputs)
    dense = keras.layers.Dense(4, name="dense")
    x = keras.layers.TimeDistributed(dense, name="each")(x)
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(4, name="inner")]
    )
    x = layers.OverTime(inner, name="over")(x)
    cell = keras.layers.LSTMCell(4)
    x = layers.ResettableRNN(cell, name="reset")(x)
    slow = layers.GTrXL(1, 2, 2, 4, 3, gating=None, return_state=True)
    core = layers.PPRCore(
        4, slow_period=2, cell="gru", slow_cell=slow, name="ppr"
    )
    x = core(x)
    outputs = keras.layers.TimeDistributed(keras.layers.Dense(1, name="out"))
    return keras.Model(inputs, outputs(x))


def test_sparsify_goes_through_wrappers_and_back(recwarn, tmp_path):
    model = wrapped()
    before = [(type(layer), layer.name) for layer in layers_inside(model)]
    expected = model(X)
    sparsify(model, alpha=2.5, verbose=0)
    np.testing.assert_allclose(model(X), expected, atol=1e-6)
    names = {kernel.layer.name for kernel in sparse_kernels(model)}
    assert {"forward_gru", "backward_gru", "dense", "inner"} <= names
    assert {"reset", "ppr", "widen", "query"} <= names and "out" not in names
    assert not [w for w in recwarn if "stay dense" in str(w.message)]
    prune(model, 0.4)
    pruned = model(X)
    assert np.abs(np.array(pruned) - expected).max() > 0
    path = tmp_path / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(loaded(X), pruned)
    densify(model)
    assert not sparse_kernels(model)
    np.testing.assert_allclose(model(X), pruned, atol=1e-6)
    after = [(type(layer), layer.name) for layer in layers_inside(model)]
    assert after == before


def test_densities_name_wrappers_and_what_is_in_them():
    inner = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(4, name="inner")]
    )
    rnn = keras.layers.SimpleRNN(3, return_sequences=True, name="rnn")
    model = keras.Sequential(
        [
            keras.Input((3, 5)),
            keras.layers.Bidirectional(rnn, name="both"),
            layers.OverTime(inner, name="over"),
            keras.layers.TimeDistributed(keras.layers.Dense(2, name="out")),
        ]
    )
    with pytest.raises(ValueError, match="no such layer"):
        sparsify(model, densities={"forward": 0.5})
    densities = {"both": 0.5, "inner": 0.25, "out": 0.5}
    sparsify(model, densities=densities, verbose=0)
    shares = {
        kernel.short_name: kernel.forward_mask().mean()
        for kernel in sparse_kernels(model)
    }
    for name in ("forward_rnn/kernel", "backward_rnn/recurrent_kernel"):
        assert abs(shares[name] - 0.5) < 0.07
    assert shares["inner"] == 0.25 and shares["out"] == 0.5


@keras.saving.register_keras_serializable(package="tests")
class OwnCell(keras.layers.SimpleRNNCell):
    pass


def test_cells_of_ones_own_are_sparse_ready():
    model = keras.Sequential(
        [
            keras.Input((3, 5)),
            keras.layers.RNN(OwnCell(3), return_sequences=True, name="own"),
            layers.ResettableRNN(OwnCell(3), name="own_reset"),
            keras.layers.Conv1DTranspose(3, 2, name="transposed"),
            keras.layers.LSTM(3, name="lstm"),
            keras.layers.Dense(2),
        ]
    )
    expected = model(X)
    sparsify(model, alpha=2.0, densities={"own": 0.5}, verbose=0)
    names = {k.layer.name for k in sparse_kernels(model)}
    assert names == {"own", "own_reset", "transposed", "lstm"}
    prune(model, 1.0)
    np.testing.assert_allclose(model(X), expected, atol=1e-6)
    for kind in (layers.PowerpropRNN, layers.ResettableRNN):
        layer = kind(OwnCell(3), alpha=2.0)
        layer(X)
        assert [k.name for k in layer.sparse_kernels] == [
            "kernel",
            "recurrent_kernel",
        ]
    core = layers.PPRCore(3, cell=OwnCell(3), alpha=2.0)
    core(X)
    assert len(core.sparse_kernels) == 8


@pytest.mark.parametrize("gating", ["gru", "highway"])
def test_every_projection_of_gtrxl_is_sparse_ready(gating):
    layer = layers.GTrXL(1, 2, 2, 4, 3, gating=gating, alpha=2.0)
    layer(X)
    dense = [
        v.name
        for v in layer.trainable_variables
        if len(v.shape) > 1 and kernel_of(v) is None
    ]
    assert sorted(dense) == ["u_bias", "v_bias"]


def test_memories_of_agents_act_as_they_train():
    core = layers.PPRCore(3, slow_period=2, return_state=True, alpha=2.0)
    outputs, _ = core(X)
    prune(core, 0.5)
    outputs, _ = core(X)
    state, steps = core.initial_state(8), []
    for t in range(3):
        y, state = core.step(X[:, t], state)
        steps.append(y)
    np.testing.assert_allclose(np.stack(steps, 1), outputs, atol=1e-6)
    memory = layers.ResettableRNN(
        keras.layers.GRUCell(3), return_state=True, alpha=2.0
    )
    memory(X)
    prune(memory, 0.5)
    outputs, _ = memory(X)
    first, state = memory(X[:, :2])
    last, _ = memory(X[:, 2:], state=state)
    found = np.concatenate([first, last], axis=1)
    np.testing.assert_allclose(found, outputs, atol=1e-6)
    copy = layers.ResettableRNN.from_config(memory.get_config())
    assert copy.alpha == 2.0
