"""Every layer in every place where a Keras layer is used."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import prune
from tests.layers.cases import CASES

# Arguments that only serve LoRA and quantization.
KERAS_ONLY = {
    "lora_rank",
    "lora_alpha",
    "quantization_config",
    "gptq_unpacked_column_size",
}

each_case = pytest.mark.parametrize("case", CASES, ids=str)
# All kernels go through the same code: a matrix and an image's filter stand
# for the others where a whole training has to be traced several times.
each_case_in_time = pytest.mark.parametrize(
    "case",
    [
        case
        if str(case) in ("PowerpropDense", "PowerpropConv2D")
        else pytest.param(case, marks=pytest.mark.slow)
        for case in CASES
    ],
    ids=str,
)


def trained(case, **compile_arguments):
    """A model after two steps and pruning: weights are not the defaults."""
    model = case.model(alpha=2.0)
    model.compile(Powerprop("adam"), "mse", **compile_arguments)
    model.fit(case.inputs(), np.ones((8, 1)), epochs=2, verbose=0)
    prune(model, 0.5)
    return model


@each_case
def test_signature_is_that_of_keras_plus_alpha(case):
    ours = inspect.signature(case.ours.__init__).parameters
    theirs = inspect.signature(case.theirs.__init__).parameters
    expected = {
        name: parameter.default
        for name, parameter in theirs.items()
        if name not in KERAS_ONLY
    }
    found = {name: parameter.default for name, parameter in ours.items()}
    assert found.pop("alpha") == 2.0
    assert found == expected
    order = [name for name in ours if name != "alpha"]
    assert order == [name for name in theirs if name not in KERAS_ONLY]


@each_case
def test_config_round_trip(case):
    layer = case.build(alpha=3.0, name="some_name")
    copy = case.ours.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert copy.alpha == 3.0 and copy.name == "some_name"
    theirs = case.theirs(**case.arguments).get_config()
    missing = set(theirs) - set(layer.get_config()) - KERAS_ONLY
    # Keras' base convolution shares arguments its subclasses do not take.
    assert missing <= {"rank", "filters", "groups", "trainable", "weights"}


@each_case
def test_alpha_one_is_the_keras_layer(case):
    ours, theirs = case.build(alpha=1), case.theirs(**case.arguments)
    x = case.inputs()
    theirs(x)
    ours(x)
    weights = theirs.get_weights()
    ours.theta.assign(weights[0])
    if len(weights) > 1:
        ours.bias.assign(weights[1])
    np.testing.assert_array_equal(ours(x), theirs(x))
    shape = (None, *x.shape[1:])
    found = ours.compute_output_shape(shape)
    assert tuple(found) == tuple(theirs.compute_output_shape(shape))
    names = [v.shape for v in theirs.weights]
    assert [v.shape for v in ours.weights if v is not ours.mask] == names


@each_case
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_alpha_one_learns_as_the_keras_layer(case, policy):
    """Bit for bit, also the bias, whose gradient Keras sums as it sums."""
    keras.config.set_dtype_policy(policy)
    gradients, x = [], case.inputs()
    ours, theirs = case.build(alpha=1), case.theirs(**case.arguments)
    for layer in (ours, theirs):
        layer(x)
    weights = [v for v in ours.weights if v is not ours.mask]
    for a, b in zip(weights, theirs.weights, strict=True):
        a.assign(b)
    for layer in (ours, theirs):
        with tf.GradientTape() as tape:
            y = tf.cast(layer(x, training=True), "float32")
            loss = tf.reduce_sum(y * tf.cos(y))
        variables = [v.value for v in layer.trainable_variables]
        gradients.append(
            [tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)]
        )
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_array_equal(a, b)


@each_case
@pytest.mark.parametrize("alpha", [1.5, 2, 3, 4])
def test_every_alpha_starts_from_the_same_weights(case, alpha):
    x, kernels, outputs = case.inputs(), [], []
    for exponent in (1, alpha):
        keras.utils.set_random_seed(5)
        model = case.model(alpha=exponent)
        kernels.append(np.array(model.layers[1].kernel))
        outputs.append(model(x))
    np.testing.assert_allclose(*kernels, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(*outputs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("alpha", [1, 2, 3])
def test_regularizer_and_constraint_act_on_the_kernel(alpha):
    layer = PowerpropDense(
        3, alpha=alpha, kernel_regularizer="l2", kernel_constraint="max_norm"
    )
    layer.build((None, 4))
    layer.sparse_kernel.assign_weight(np.full((4, 3), 2.0))
    bits = np.array([[3, 3, 1], [3, 2, 1], [3, 0, 1], [3, 3, 1]], "uint8")
    layer.mask.assign(bits)
    kernel = 2.0 * (bits & 1)
    np.testing.assert_allclose(
        layer.losses, [0.01 * np.square(kernel).sum()], rtol=1e-5
    )
    before = np.array(layer.theta)
    layer.theta.assign(layer.theta.constraint(layer.theta))
    # MaxNorm(2) scales each column of length > 2 to length 2.
    expected = kernel * np.minimum(1, 2 / np.linalg.norm(kernel, axis=0))
    free = bits == 3
    np.testing.assert_allclose(
        np.array(layer.kernel)[free], expected[free], rtol=1e-5
    )
    np.testing.assert_array_equal(np.array(layer.theta)[~free], before[~free])


@each_case
def test_saving_and_export_keep_trained_weights_and_masks(case, tmp_path):
    model, x = trained(case), case.inputs()
    model.save(tmp_path / "model.keras")
    from_file = keras.models.load_model(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    from_weights = case.model(alpha=2.0)
    from_weights.load_weights(tmp_path / "model.weights.h5")
    expected = model.predict(x, verbose=0)
    for loaded in (from_file, from_weights):
        for before, after in zip(model.weights, loaded.weights, strict=True):
            np.testing.assert_array_equal(before, after)
            assert before.dtype == after.dtype
        np.testing.assert_array_equal(model(x), loaded(x))
    model.export(str(tmp_path / "exported"), verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    for found in (model(x), exported.serve(x)):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@each_case
@pytest.mark.parametrize(
    "policy", ["mixed_float16", "mixed_bfloat16", "float16", "bfloat16"]
)
def test_reduced_precision(case, policy):
    keras.config.set_dtype_policy(policy)
    model = case.model(alpha=3.0)
    layer, compute = model.layers[1], keras.config.dtype_policy()
    assert layer.theta.dtype == compute.variable_dtype
    assert layer(case.inputs()).dtype == compute.compute_dtype
    model.compile(Powerprop(keras.optimizers.SGD(0.5)), "mse")
    before = keras.ops.convert_to_numpy(layer.theta).astype("float32")
    # Loss scaling skips its first steps.
    model.fit(case.inputs(160), np.ones((160, 1)), batch_size=8, verbose=0)
    after = keras.ops.convert_to_numpy(layer.theta).astype("float32")
    assert np.isfinite(after).all()
    assert (before != after).any()


@each_case_in_time
def test_xla_gives_the_same_training(case):
    results = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(1)
        model = trained(case, jit_compile=jit_compile)
        results.append(np.array(model.layers[1].theta))
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)


@each_case
def test_dynamic_axes(case):
    model = case.model(alpha=2.0)
    for batch in (1, 3):
        assert model(case.inputs(batch)).shape == (batch, 1)
    if None in case.input_shape:
        longer = np.concatenate([case.inputs(2)] * 2, axis=1)
        assert model(longer).shape == (2, 1)


@each_case
def test_keras_masks_are_handled_as_by_keras(case):
    ours, theirs = case.build(alpha=1), case.theirs(**case.arguments)
    assert ours.supports_masking == theirs.supports_masking
    if case.ours.__name__ == "PowerpropEmbedding":
        mask = ours.compute_mask(np.array([[1, 0, 2]]))
        np.testing.assert_array_equal(mask, [[True, False, True]])
    elif len(case.input_shape) == 2:
        # What comes out carries a mask exactly where Keras' layer has one.
        x = keras.layers.Masking()(case.inputs())
        found = [
            getattr(layer(x), "_keras_mask", None) is None
            for layer in (ours, theirs)
        ]
        assert found[0] == found[1]


@each_case
def test_sequential_subclassed_and_nested_models(case):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.inner = case.build(alpha=2.0)

        def call(self, x, training=False):
            y = self.inner(x, training=training)
            return keras.ops.sum(y, axis=list(range(1, len(y.shape))))

    inner = keras.Sequential([case.input(), case.build(alpha=2.0)])
    nested = keras.Sequential([case.input(), inner, keras.layers.Flatten()])
    for model in (Subclassed(), inner, nested):
        model.compile(Powerprop("sgd"), "mse")
        x = case.inputs()
        target = np.zeros_like(model(x))
        before = [np.array(v) for v in model.trainable_variables]
        history = model.fit(x, target, epochs=2, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
        after = [np.array(v) for v in model.trainable_variables]
        assert any((a != b).any() for a, b in zip(before, after))


@each_case_in_time
def test_two_replicas_train_as_one(case, two_replicas):
    x, y = case.inputs(), np.ones((8, 1))
    results = []
    weights = case.model(alpha=2.0).get_weights()
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = case.model(alpha=2.0)
            model.compile(Powerprop(keras.optimizers.Adam(1e-2)), "mse")
        model.set_weights(weights)
        model.fit(x, y, epochs=3, verbose=0)
        results.append(np.array(model.layers[1].theta))
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)


@each_case
@pytest.mark.parametrize("alpha", [0.5, float("nan"), float("inf"), "2", True])
def test_bad_alpha_is_refused_at_construction(case, alpha):
    with pytest.raises(ValueError, match="alpha"):
        case.build(alpha=alpha)


@each_case
def test_reading_the_kernel_before_it_exists(case):
    with pytest.raises(AttributeError, match="has no weights yet"):
        _ = case.build().kernel
