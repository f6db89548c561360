"""SparseDense equals a masked layer, everywhere a Keras layer is used."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.callbacks import SET
from keras_sparse_rl.callbacks import MagnitudePruning
from keras_sparse_rl.callbacks import RigL
from keras_sparse_rl.callbacks import StaticSparsity
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.execution import choice as execution
from keras_sparse_rl.execution import reservoir
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.layers import SparseDense
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import densify
from keras_sparse_rl.sparsity import prune
from keras_sparse_rl.sparsity import sparsify
from keras_sparse_rl.sparsity import sparsity_summary
from tests.callbacks.network import X
from tests.callbacks.network import fit
from tests.callbacks.network import network
from tests.same_state import assert_same_state


def dense_network(alpha=1.0):
    return network(alpha)


def sparse_network(alpha=1.0, density=0.2, backward_density=0.4, **arguments):
    """As `network`, in sparse execution and from the same weights."""
    keras.utils.set_random_seed(0)
    layers = [
        SparseDense(
            units,
            density,
            backward_density,
            activation=activation,
            alpha=alpha,
            name=name,
            **arguments,
        )
        for units, activation, name in (
            (20, "relu", "hidden"),
            (4, None, "logits"),
        )
    ]
    model = keras.Sequential([keras.Input((10,)), *layers])
    for old, new in zip(dense_network(alpha).layers, layers):
        new.sparse_kernel.take(old.sparse_kernel.dense_theta())
    return model


def copied(model):
    """A plain model of the same kind and weights."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def compiled(model, optimizer=None, **arguments):
    rule = optimizer or keras.optimizers.AdamW(0.02, weight_decay=0.01)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(Powerprop(rule), loss, **arguments)
    return model


def assert_same_training(dense, sparse, tolerance=1e-5):
    for a, b in zip(sparse_kernels(dense), sparse_kernels(sparse)):
        np.testing.assert_array_equal(a.forward_mask(), b.forward_mask())
        np.testing.assert_array_equal(a.backward_mask(), b.backward_mask())
        used = a.backward_mask()
        np.testing.assert_allclose(
            np.array(a.theta)[used],
            b.dense_theta()[used],
            rtol=tolerance,
            atol=tolerance,
        )
    np.testing.assert_allclose(dense(X), sparse(X), rtol=1e-4, atol=1e-4)


CALLBACKS = {
    "TopKAST": lambda: TopKAST(0.2, 0.4, refresh_every=3),
    "TopKAST, blocks": lambda: TopKAST(0.2, 0.4, 3, block_size=2),
    "RigL": lambda: RigL(0.2, 40, refresh_every=3, densities="uniform"),
    "SET": lambda: SET(0.4, refresh_every=3, densities="uniform"),
    "static": lambda: StaticSparsity(0.3, densities="uniform"),
}


@pytest.mark.parametrize("name", CALLBACKS)
def test_trains_as_the_masked_layer_does(name):
    """Same masks exactly, same weights to rounding, over refreshes."""
    alpha = 2.0 if name in ("TopKAST", "RigL") else 1.0
    models = dense_network(alpha), sparse_network(alpha)
    for model in models:
        callback = CALLBACKS[name]()
        if hasattr(callback, "density"):
            # Else the one would draw its masks, and the other has some.
            prune(model, callback.density)
        fit(compiled(model), callback, epochs=3)
    assert_same_training(*models)


@pytest.mark.slow
def test_a_thousand_steps_agree():
    models = dense_network(2.0), sparse_network(2.0)
    for model in models:
        compiled(model, keras.optimizers.Adam(1e-3))
        fit(model, TopKAST(0.2, 0.4, refresh_every=20), epochs=125)
    assert int(models[0].optimizer.iterations) == 1000
    assert_same_training(*models)


def test_pruning_frees_room_and_stays_exact():
    models = dense_network(), sparse_network()
    for model in models:
        prune(model, 0.2)
        fit(compiled(model), MagnitudePruning(0.1, 2), epochs=2)
    assert_same_training(*models)
    assert sparse_kernels(models[1])[0].layout.bounds[2][-1] == 20


def test_what_exists_shrinks_with_the_density():
    model = compiled(sparse_network(density=0.1, backward_density=0.2))
    fit(model, TopKAST(0.1, 0.2), epochs=1)
    kernel = sparse_kernels(model)[0]
    slots = model.optimizer.sparse_kernel_slots(kernel)
    assert sorted(slots) == ["momentum", "velocity"]
    for variable in (kernel.theta, *slots.values(), *kernel.bookkeeping[:1]):
        assert 40 <= variable.shape[0] <= 48
    row = sparsity_summary(model, print_fn=None)["layers"][0]
    assert row["density_of_sparse_kernels"] == 0.1
    assert row["used"] == 20 + 20
    assert row["flops"] == 40 and row["dense_flops"] == 400


def test_large_reservoirs_are_mapped_files(monkeypatch):
    monkeypatch.setattr(reservoir, "LARGE", 100)
    models = dense_network(), sparse_network()
    assert isinstance(sparse_kernels(models[1])[0]._reservoir, np.memmap)
    for model in models:
        fit(compiled(model), TopKAST(0.2, 0.4, refresh_every=3), epochs=3)
    assert_same_training(*models)


@pytest.mark.parametrize("ending", ["model.keras", "model.weights.h5"])
def test_saved_and_continued_is_bit_for_bit_the_same(ending, tmp_path):
    whole, half = compiled(sparse_network(2.0)), compiled(sparse_network(2.0))
    fit(whole, TopKAST(0.2, 0.4, refresh_every=5), epochs=2)
    fit(half, TopKAST(0.2, 0.4, refresh_every=5), epochs=1)
    if ending == "model.keras":
        half.save(tmp_path / ending)
        loaded = keras.models.load_model(tmp_path / ending)
    else:
        half.save_weights(tmp_path / ending)
        loaded = compiled(sparse_network(2.0))
        loaded.optimizer.build(loaded.trainable_variables)
        loaded.load_weights(tmp_path / ending)
    fit(loaded, TopKAST(0.2, 0.4, refresh_every=5), epochs=1)
    assert_same_state(whole, loaded)
    for a, b in zip(sparse_kernels(whole), sparse_kernels(loaded)):
        np.testing.assert_array_equal(a.dense_theta(), b.dense_theta())


def test_interrupted_and_resumed_is_bit_for_bit_the_same(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    callback = RigL(0.2, 40, refresh_every=3, densities="uniform")
    models = [compiled(sparse_network()) for _ in range(3)]
    with pytest.raises(KeyboardInterrupt):
        fit(models[0], [callback, backup, Stop()], epochs=2)
    fit(models[1], [callback, backup], epochs=2)
    fit(models[2], callback, epochs=2)
    assert_same_state(models[1], models[2])


def test_a_frozen_model_saves_the_weights_in_use_alone(tmp_path):
    model = keras.Sequential([keras.Input((400,)), SparseDense(300, 0.05)])
    x = np.random.default_rng(0).normal(size=(3, 400)).astype("float32")
    model.save(tmp_path / "training.keras")
    model.trainable = False
    model.save(tmp_path / "small.keras")
    size = (tmp_path / "small.keras").stat().st_size
    # 6,000 weights of 6 bytes, 300 counts and biases, and Keras' own.
    assert size < 6000 * 6 + 300 * 8 + 40_000
    assert (tmp_path / "training.keras").stat().st_size > 400 * 300 * 4
    loaded = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    kernel, other = (sparse_kernels(m)[0] for m in (loaded, model))
    np.testing.assert_array_equal(kernel.forward_mask(), other.forward_mask())
    np.testing.assert_array_equal(kernel.backward_mask(), other.forward_mask())
    assert not kernel.dense_theta()[~kernel.forward_mask()].any()


def test_config_round_trip():
    layer = SparseDense(
        6, 0.3, 0.5, "tanh", alpha=3.0, execution="auto", name="some_name"
    )
    copy = SparseDense.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert copy.alpha == 3.0 and copy.name == "some_name"
    assert layer.compute_output_shape((None, 5, 9)) == (None, 5, 6)


def test_saved_model_export(tmp_path):
    model = sparse_network(2.0)
    model.export(str(tmp_path), verbose=False)
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(loaded.serve(X), model(X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "policy", ["mixed_float16", "mixed_bfloat16", "bfloat16", "float64"]
)
def test_other_precisions(policy):
    float32 = sparse_network()
    reference = float32(X)
    keras.config.set_dtype_policy(policy)
    model = sparse_network()
    for old, new in zip(float32.layers, model.layers):
        new.sparse_kernel.take(old.sparse_kernel.dense_theta())
    y = keras.ops.cast(model(X), "float32")
    assert model.layers[0].compute_dtype == model(X).dtype
    tolerance = {"float64": 1e-5, "mixed_float16": 5e-3}.get(policy, 5e-2)
    np.testing.assert_allclose(y, reference, atol=tolerance, rtol=tolerance)
    callback = TopKAST(0.2, 0.4, refresh_every=5)
    history = fit(compiled(model), callback, epochs=2).history
    assert np.isfinite(history["loss"]).all()
    for old, new in zip(sparse_kernels(float32), sparse_kernels(model)):
        assert (old.weight() != new.weight()).sum() > 0.3 * old.weight().size


def test_xla_is_left_out():
    model = compiled(sparse_network(), jit_compile="auto")
    assert not model.jit_compile
    fit(model, TopKAST(0.2, 0.4), epochs=1)


@pytest.mark.parametrize("activation", ["relu", "softmax", None])
def test_axes_and_activations_are_those_of_dense(activation):
    layer = SparseDense(6, 0.5, activation=activation)
    inputs = keras.Input((None, 7))
    model = keras.Model(inputs, layer(inputs))
    layer.bias.assign(np.arange(6.0))
    plain = keras.models.clone_model(model)
    plain.set_weights(model.get_weights())
    densify(plain)
    for shape in ((1, 1, 7), (3, 5, 7)):
        x = np.random.default_rng(0).normal(size=shape).astype("float32")
        np.testing.assert_allclose(model(x), plain(x), rtol=1e-5, atol=1e-6)
        assert model.predict(x, verbose=0).shape == (*shape[:2], 6)


def test_keras_masks_pass_through():
    x = keras.layers.Masking()(np.zeros((2, 3, 4), "float32"))
    assert SparseDense(2)(x)._keras_mask.shape == (2, 3)


def test_regularizer_acts_on_the_weights_in_use():
    layer = SparseDense(4, 0.25, 0.5, alpha=2.0, kernel_regularizer="l2")
    layer.build((None, 8))
    expected = 0.01 * np.square(np.array(layer.kernel)).sum()
    np.testing.assert_allclose(layer.losses, [expected], rtol=1e-5)
    assert np.count_nonzero(layer.kernel) == 8


def test_subclassed_and_nested_models():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.body = sparse_network()
            self.head = SparseDense(4, 0.5)

        def call(self, x, training=False):
            return self.head(self.body(x, training=training))

    subclassed = Subclassed()
    subclassed(X)
    inner = [keras.Input((10,)), sparse_network(), SparseDense(4, 0.5)]
    for model in (subclassed, keras.Sequential(inner)):
        compiled(model)
        callback = TopKAST(0.2, 0.4, refresh_every=3)
        assert np.isfinite(fit(model, callback, 1).history["loss"]).all()


def test_two_replicas_train_as_one(two_replicas):
    models = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = sparse_network()
            compiled(model, keras.optimizers.SGD(0.05, momentum=0.9))
        fit(model, TopKAST(0.2, 0.4, refresh_every=3), epochs=2)
        models.append(model)
    for a, b in zip(*(sparse_kernels(model) for model in models)):
        np.testing.assert_array_equal(a.forward_mask(), b.forward_mask())
        np.testing.assert_allclose(
            a.dense_theta(), b.dense_theta(), rtol=1e-4, atol=1e-5
        )


def test_to_sparse_execution_and_back():
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(20, "relu", name="hidden"),
            keras.layers.Dense(16, "tanh", name="second"),
            keras.layers.Dense(4, name="logits"),
        ]
    )
    plain = copied(model)
    sparse = copied(model)
    sparsify(
        sparse,
        2.0,
        {"second": 0.5},
        execution="sparse",
        density=0.25,
        verbose=0,
    )
    assert [type(layer).__name__ for layer in sparse.layers] == [
        "SparseDense",
        "SparseDense",
        "Dense",
    ]
    assert [layer.backward_density for layer in sparse.layers[:2]] == [0.5, 1]
    masked = copied(model)
    sparsify(masked, 2.0, {"hidden": 0.25, "second": 0.5}, verbose=0)
    outputs = sparse(X)
    for a, b in zip(sparse_kernels(sparse), sparse_kernels(masked)):
        np.testing.assert_array_equal(a.forward_mask(), b.forward_mask())
        np.testing.assert_array_equal(a.mask.shape, a.theta.shape)
        np.testing.assert_allclose(a.weight(), b.weight(), rtol=1e-5)
    before = [
        (k.dense_theta(), k.forward_mask(), k.backward_mask())
        for k in sparse_kernels(sparse)
    ]
    sparsify(sparse, verbose=0)  # in dense execution, masks and all
    assert type(sparse.layers[0]) is PowerpropDense
    for kind in ("sparse", "dense", "sparse"):
        sparsify(sparse, execution=kind, verbose=0)
        np.testing.assert_allclose(sparse(X), outputs, rtol=1e-4, atol=1e-5)
        for kernel, kept in zip(sparse_kernels(sparse), before):
            found = (
                kernel.dense_theta(),
                kernel.forward_mask(),
                kernel.backward_mask(),
            )
            for x, y in zip(found, kept):
                np.testing.assert_array_equal(x, y)
    densify(sparse)
    np.testing.assert_allclose(masked(X), outputs, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sparse(X), outputs, rtol=1e-4, atol=1e-5)
    assert [type(layer) for layer in sparse.layers] == [
        type(layer) for layer in plain.layers
    ]
    for a, b in zip(sparse.weights, plain.weights, strict=True):
        assert a.name == b.name and a.shape == b.shape


def test_the_measured_execution(monkeypatch):
    execution.is_sparse_faster.cache_clear()
    layer = SparseDense(64, 0.02, execution="auto")
    x = keras.random.normal((8, 128))
    y = layer(x)
    np.testing.assert_allclose(y, x @ layer.kernel, rtol=1e-4, atol=1e-5)
    seconds = iter([1.0, 2.0, 2.0, 1.0])
    monkeypatch.setattr(execution, "_seconds", lambda *_: next(seconds))
    for expected in (True, False):
        execution.is_sparse_faster.cache_clear()
        layer = SparseDense(64, 0.02, execution="auto")
        layer.build((None, 128))
        assert layer._is_sparse == expected


def test_without_the_ops_the_numbers_are_the_same(monkeypatch):
    models = dense_network(), sparse_network()
    monkeypatch.setattr(execution, "load_sparse_ops", lambda: None)
    for model in models:
        fit(compiled(model), TopKAST(0.2, 0.4, refresh_every=3), epochs=2)
    assert_same_training(*models)
    dense = sparse_network(execution="dense")
    fit(
        compiled(dense, jit_compile=True),
        TopKAST(0.2, 0.4, refresh_every=3),
        epochs=2,
    )
    assert_same_training(models[0], dense, 1e-4)


def test_a_density_that_rounds_to_nothing_keeps_one_weight():
    layer = SparseDense(3, 1e-9, activation="relu")
    assert layer(np.ones((2, 5), "float32")).shape == (2, 3)
    assert layer.sparse_kernel.forward_mask().sum() == 1


def test_an_optimizer_that_would_mix_up_its_slots_is_refused():
    model = sparse_network()
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match=r"Powerprop\(keras.optimizers.Adam"):
        fit(model, MagnitudePruning(0.1), epochs=1)


def test_more_weights_than_there_is_room_for():
    with pytest.raises(ValueError, match="backward_density=0.5"):
        fit(compiled(sparse_network()), TopKAST(0.5, 0.5), epochs=1)


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"units": 0}, "units=0"),
        ({"density": 0}, "density=0"),
        ({"density": 0.5, "backward_density": 0.1}, "backward_density=0.1"),
        ({"alpha": 0.5}, "alpha=0.5"),
        ({"execution": "fast"}, "execution='fast'"),
    ],
)
def test_bad_arguments(arguments, match):
    with pytest.raises(ValueError, match=match):
        SparseDense(**{"units": 3, **arguments})


def test_what_sparsify_refuses():
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(4, kernel_constraint="max_norm"),
            keras.layers.Dense(4),
        ]
    )
    with pytest.raises(ValueError, match="kernel_constraint"):
        sparsify(model, execution="sparse")
    with pytest.raises(ValueError, match="execution='fast'"):
        sparsify(model, execution="fast")


def test_a_file_of_another_shape_is_refused(tmp_path):
    sparse_network().save_weights(tmp_path / "some.weights.h5")
    with pytest.raises(ValueError, match="backward_density"):
        sparse_network(density=0.1, backward_density=0.1).load_weights(
            tmp_path / "some.weights.h5"
        )
