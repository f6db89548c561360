"""sparsify and densify on models of the user's own, and their files."""

import copy
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.callbacks import MagnitudePruning
from keras_sparse_rl.callbacks import RigL
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.kernels import SparseKernel
from keras_sparse_rl.kernels import effective_value
from keras_sparse_rl.kernels import kernel_of
from keras_sparse_rl.kernels import sparse_kernels
from keras_sparse_rl.kernels.matrices import layers_inside
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import densify
from keras_sparse_rl.sparsity import prune
from keras_sparse_rl.sparsity import sparsify
from tests.sparsity.own_models import Own
from tests.sparsity.own_models import ReadsTable
from tests.sparsity.own_models import X
from tests.sparsity.own_models import Y
from tests.sparsity.own_models import net
from tests.sparsity.own_models import task

each_model = pytest.mark.parametrize("make", [net, task])
# Where several trainings are traced, one of the models stands for both.
each_model_in_time = pytest.mark.parametrize(
    "make", [pytest.param(net, marks=pytest.mark.slow), task]
)


def compiled(model, **arguments):
    model.compile(Powerprop(keras.optimizers.Adam(1e-2)), "mse", **arguments)
    return model


def sparse(make, alpha=2.0):
    model = make()
    sparsify(model, alpha=alpha, verbose=0)
    return model


@pytest.fixture(scope="module", params=[net, task], ids=["net", "task"])
def trained(request):
    """A sparse model of a user's class after training."""
    model = compiled(sparse(request.param, 1.5))
    callback = TopKAST(0.3, refresh_every=2)
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[callback])
    return request.param, model


@each_model
@pytest.mark.parametrize("alpha", [1.0, 1.5, 3.0])
def test_the_model_stays_what_it_was(make, alpha):
    model = make()
    kinds = [type(layer) for layer in layers_inside(model)]
    names = [kind.__name__ for kind in kinds]
    state = [(id(v), v.trainable) for v in model.trainable_variables]
    weights = [np.array(v) for v in model.trainable_variables]
    outputs = np.array(model(X))
    sparsify(model, alpha=alpha, verbose=0)
    found = np.array(model(X))
    if alpha == 1:
        np.testing.assert_array_equal(found, outputs)
    np.testing.assert_allclose(found, outputs, atol=1e-6)
    assert [type(layer).__name__ for layer in layers_inside(model)] == [
        f"Powerprop{name}"
        if name in ("Dense", "GRU", "RNN", "MultiHeadAttention")
        and layer is not head(model)
        else name
        for name, layer in zip(names, layers_inside(model))
    ]
    for layer, kind in zip(layers_inside(model), kinds):
        assert isinstance(layer, kind)
    assert [(id(v), v.trainable) for v in model.trainable_variables] == state
    for variable, weight in zip(model.trainable_variables, weights):
        kernel = kernel_of(variable)
        found = variable if kernel is None else kernel.weight()
        np.testing.assert_allclose(found, weight, rtol=1e-5, atol=1e-7)
    densify(model)
    assert [type(layer) for layer in layers_inside(model)] == kinds
    np.testing.assert_allclose(model(X), outputs, atol=1e-6)


def head(model):
    return getattr(model, "head", None) or model.layers[-1]


def test_methods_and_attributes_stay():
    model = sparse(net)
    assert model.generate() == "generated"
    block = model.blocks[0]
    prune(model, 0.25)
    theta = np.array(block.w)
    np.testing.assert_array_equal(theta, np.array(kernel_of(block.w).theta))
    expected = np.sign(theta) * theta**2 * kernel_of(block.w).forward_mask()
    np.testing.assert_allclose(effective_value(block.w), expected, rtol=1e-6)
    np.testing.assert_array_equal(effective_value(block.b), block.b)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_a_matrix_that_another_layer_reads_is_the_effective_one(alpha):
    keras.utils.set_random_seed(0)
    layer = Own(5)
    layer(X[0])
    sparsify(layer, alpha=alpha, verbose=0)
    prune(layer, 0.4)
    w, inner = (np.array(k.value()) for k in sparse_kernels(layer))
    hidden = np.maximum((X[0] @ w + np.array(layer.b)) @ inner, 0.0)
    expected = hidden @ inner.T
    np.testing.assert_allclose(layer(X[0]), expected, rtol=1e-5, atol=1e-6)
    # And the gradient takes both ways.
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(X[0]) ** 2)
    found = tape.gradient(loss, layer.inner.theta.value)
    kernel = tf.constant(inner)
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        h = tf.nn.relu((X[0] @ w + np.array(layer.b)) @ kernel)
        loss = tf.reduce_sum((h @ tf.transpose(kernel)) ** 2)
    theta = np.array(layer.inner.theta)
    factor = alpha * np.abs(theta) ** (alpha - 1)
    factor *= layer.inner.sparse_kernel.backward_mask()
    expected = tape.gradient(loss, kernel) * factor
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


class Tied(keras.layers.Layer):
    """Reads the variable of a layer that it does not hold."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = keras.layers.Dense(8, use_bias=False)

    def build(self, input_shape):
        self.first.build(input_shape)
        self.shared = self.first.kernel

    def call(self, inputs):
        return self.first(inputs) @ keras.ops.transpose(self.shared)


def test_a_variable_that_two_layers_hold():
    layer = Tied()
    layer(X[0])
    sparsify(layer, alpha=2.0, verbose=0)
    prune(layer, 0.3)
    (kernel,) = sparse_kernels(layer)
    value = np.array(kernel.value())
    np.testing.assert_allclose(
        layer(X[0]), X[0] @ value @ value.T, rtol=1e-5, atol=1e-6
    )


@each_model_in_time
def test_every_callback_trains_it_at_exact_densities(make):
    callbacks = (
        TopKAST(0.3, refresh_every=4),
        RigL(0.3, 100, refresh_every=4, densities="uniform"),
        MagnitudePruning(0.3),
    )
    for callback in callbacks:
        model = compiled(sparse(make, 1.0))
        model.fit(X, Y, epochs=6, verbose=0, callbacks=[callback])
        for kernel in sparse_kernels(model):
            used = kernel.forward_mask()
            assert used.sum() == max(1, round(0.3 * used.size))


def test_keras_file(trained, tmp_path):
    make, model = trained
    expected = model.predict(X, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded).__name__ == type(model).__name__
    assert isinstance(loaded, type(make()))
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), expected)
    for a, b in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(
        model.optimizer.variables, loaded.optimizer.variables, strict=True
    ):
        np.testing.assert_array_equal(a, b)
    for kernel in sparse_kernels(loaded):
        assert kernel.alpha == 1.5
    for each in (model, loaded):
        keras.utils.set_random_seed(0)
        callback = TopKAST(0.3, refresh_every=2)
        each.fit(X, Y, verbose=0, callbacks=[callback], shuffle=False)
    for a, b in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_file_checkpoint_and_saved_model(trained, tmp_path):
    make, model = trained
    expected = model.predict(X, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    other = sparse(make, 1.5)
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other.predict(X, verbose=0), expected)
    path = tf.train.Checkpoint(model=model).save(tmp_path / "checkpoint")
    other = sparse(make, 1.5)
    tf.train.Checkpoint(model=other).restore(path)
    for a, b in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    model.export(str(tmp_path / "exported"), verbose=False)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(exported.serve(X), expected, atol=1e-6)


def test_files_of_another_kind_are_refused(trained, tmp_path):
    make, model = trained
    make().save_weights(tmp_path / "plain.weights.h5")
    with pytest.raises(ValueError, match="plain.*first, then"):
        model.load_weights(tmp_path / "plain.weights.h5")
    sparse(make, 3.0).save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(ValueError, match=r"alpha=\["):
        model.load_weights(tmp_path / "other.weights.h5")


def test_copies(trained):
    _, model = trained
    expected = model.predict(X, verbose=0)
    clone = keras.models.clone_model(model)
    clone(X)
    clone.set_weights(model.get_weights())
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        clone,
    ):
        assert len(sparse_kernels(other)) == len(sparse_kernels(model))
        np.testing.assert_array_equal(other.predict(X, verbose=0), expected)


def test_densify_leaves_no_attributes():
    """Such as the edges by which checkpoints of TensorFlow find layers."""
    for make in (net, task):
        model = make()
        before = [set(vars(layer)) for layer in layers_inside(model)]
        sparsify(model, alpha=2.0, verbose=0)
        densify(model)
        for layer, names in zip(layers_inside(model), before, strict=True):
            added = set(vars(layer)) - names
            assert not [n for n in added if "__" in n or "powerprop" in n]


def test_densified_file_is_plain_keras(trained, tmp_path):
    make, model = trained
    model = copy.deepcopy(model)
    expected = model.predict(X, verbose=0)
    densify(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded) is type(make()) and not sparse_kernels(loaded)
    for layer in layers_inside(loaded):
        assert not type(layer).__module__.startswith("keras_sparse_rl")
    np.testing.assert_array_equal(loaded.predict(X, verbose=0), expected)
    assert (loaded.get_weights()[0] == 0).mean() > 0.5


@pytest.mark.parametrize(
    "make, policy", [(net, "mixed_bfloat16"), (task, "mixed_float16")]
)
def test_mixed_precision(make, policy):
    keras.config.set_dtype_policy(policy)
    model = compiled(sparse(make))
    assert model(X).dtype == policy.removeprefix("mixed_")
    callback = TopKAST(0.3, refresh_every=2)
    history = model.fit(X, Y, epochs=3, verbose=0, callbacks=[callback])
    assert np.isfinite(history.history["loss"]).all()


@each_model_in_time
def test_xla_and_two_replicas_train_alike(make, two_replicas):
    results = []
    for strategy, jit in (
        (tf.distribute.get_strategy(), False),
        (tf.distribute.get_strategy(), True),
        (two_replicas, False),
    ):
        with strategy.scope():
            model = sparse(make)
            model.compile(
                Powerprop(keras.optimizers.SGD(0.1)), "mse", jit_compile=jit
            )
        callback = TopKAST(0.3, refresh_every=2)
        model.fit(X, Y, epochs=3, verbose=0, callbacks=[callback])
        results.append([k.weight() for k in sparse_kernels(model)])
    for other in results[1:]:
        for a, b in zip(results[0], other):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


@each_model
def test_nothing_changes_where_a_layer_fails(make, monkeypatch):
    model = compiled(make())
    kinds = [type(layer) for layer in layers_inside(model)]
    before = [(id(v), np.array(v)) for v in model.weights]
    outputs = np.array(model(X))
    made = []
    original = SparseKernel.__init__

    def fails_midway(self, *args, **kwargs):
        made.append(self)
        if len(made) == 3:
            raise RuntimeError("midway")
        original(self, *args, **kwargs)

    monkeypatch.setattr(SparseKernel, "__init__", fails_midway)
    with pytest.raises(RuntimeError, match="midway"):
        sparsify(model, alpha=2.0, verbose=0)
    monkeypatch.undo()
    assert [type(layer) for layer in layers_inside(model)] == kinds
    assert model.compiled
    for variable, (identity, value) in zip(model.weights, before, strict=True):
        assert id(variable) == identity and kernel_of(variable) is None
        np.testing.assert_array_equal(variable, value)
    np.testing.assert_array_equal(model(X), outputs)
    sparsify(model, alpha=2.0, verbose=0)
    np.testing.assert_allclose(model(X), outputs, atol=1e-6)


def test_nothing_changes_where_a_dense_layer_cannot_be_stored():
    """In sparse execution, where matrices leave the model one by one."""
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(6, name="first"),
            PowerpropDense(6, alpha=2.0),
            keras.layers.Dense(6, kernel_constraint="max_norm"),
            keras.layers.Dense(2),
        ]
    )
    prune(model, 0.5)
    kinds = [type(layer) for layer in model.layers]
    before = [(id(v), v.name, np.array(v)) for v in model.weights]
    outputs = np.array(model(X[:, 0]))
    with pytest.raises(ValueError, match="kernel_constraint"):
        sparsify(model, execution="sparse", density=0.3, verbose=0)
    assert [type(layer) for layer in model.layers] == kinds
    for v, (identity, name, value) in zip(model.weights, before, strict=True):
        assert (id(v), v.name) == (identity, name)
        np.testing.assert_array_equal(v, value)
    np.testing.assert_array_equal(model(X[:, 0]), outputs)


def test_kernels_of_before_stay_where_a_second_call_fails():
    model = keras.Sequential(
        [
            keras.Input((3,)),
            ReadsTable(name="reader"),
            keras.layers.Dense(6, kernel_constraint="max_norm"),
            keras.layers.Dense(2),
        ]
    )
    x = np.array([[0, 3, 1]])
    sparsify(model.layers[0], alpha=2.0, verbose=0)
    reader = model.layers[0]
    before = [(id(v), np.array(v)) for v in model.weights]
    outputs, (kernel,) = np.array(model(x)), sparse_kernels(model)
    named = {".*/embeddings": 0.5}
    with pytest.raises(ValueError, match="kernel_constraint"):
        sparsify(model, densities=named, execution="sparse", verbose=0)
    assert sparse_kernels(model) == [kernel]
    assert reader.sparse_kernels == [kernel]
    for v, (identity, value) in zip(model.weights, before, strict=True):
        assert id(v) == identity
        np.testing.assert_array_equal(v, value)
    np.testing.assert_array_equal(model(x), outputs)
    sparsify(model, alpha=2.0, densities=named, verbose=0)
    assert len(reader.sparse_kernels) == 2
    densify(model)
    assert type(reader) is ReadsTable


def test_stored_values_inside_a_users_model(tmp_path):
    class Outer(keras.layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = keras.layers.Dense(16, "relu")
            self.out = Own(16)

        def build(self, input_shape):
            self.dense.build(input_shape)
            self.out.build((*input_shape[:-1], 16))

        def call(self, inputs):
            return self.out(self.dense(inputs))

    keras.saving.register_keras_serializable("tests")(Outer)
    model = keras.Sequential(
        [keras.Input((8,)), Outer(), keras.layers.Dense(2)]
    )
    sparsify(model, 2.0, execution="sparse", density=0.25, verbose=0)
    outputs = model(X[:, 0])
    kinds = [type(k).__name__ for k in sparse_kernels(model)]
    assert kinds == ["SparseValues", "SparseKernel", "SparseValues"]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(X[:, 0]), outputs)
    densify(model)
    np.testing.assert_allclose(model(X[:, 0]), outputs, atol=1e-5)


def test_lora_is_merged_and_quantized_layers_are_refused():
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(8), keras.layers.Dense(2)]
    )
    dense = model.layers[0]
    dense.enable_lora(2)
    dense.lora_kernel_b.assign(np.ones((2, 8), "float32"))
    outputs = model(X[:, 0])
    for execution in ("dense", "sparse"):
        copied = copy.deepcopy(model)
        copied.layers[0].lora_kernel_b.assign(np.ones((2, 8), "float32"))
        expected = copied(X[:, 0])
        sparsify(
            copied,
            2.0,
            execution=execution,
            verbose=0,
            **({"density": 1.0} if execution == "sparse" else {}),
        )
        np.testing.assert_allclose(copied(X[:, 0]), expected, atol=1e-5)
        assert not [v for v in copied.weights if "lora" in v.name]
        assert all(k.theta.trainable for k in sparse_kernels(copied))
    sparsify(model, verbose=0)
    np.testing.assert_allclose(model(X[:, 0]), outputs, atol=1e-5)
    for method in (dense.enable_lora, dense.quantize):
        with pytest.raises(ValueError, match=r"densify\(model"):
            method(2)
    densify(model)
    dense.quantize("int8")
    with pytest.raises(ValueError, match="quantized.*before quantize"):
        sparsify(model)


def test_patterns_name_matrices_by_path():
    model = task()
    own = next(x for x in layers_inside(model) if isinstance(x, Own))
    sparsify(model, densities={".*/query/kernel": 0.5, own: 0.25}, verbose=0)
    for kernel in sparse_kernels(model):
        share = 1.0
        if "query" in kernel.path:
            share = 0.5
        elif kernel.path.startswith(f"{own.name}/"):
            share = 0.25
        assert kernel.forward_mask().mean() == share, kernel.path
    prune(model, 1.0, densities={"(query|key)/kernel$": 0.25})
    for kernel in sparse_kernels(model):
        found = kernel.path.split("/")[-2] in ("query", "key")
        assert kernel.forward_mask().mean() == (0.25 if found else 1.0)


def test_what_is_covered_is_said(capsys):
    inputs = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(10, 8)(inputs)
    x = keras.layers.Dense(16)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    sparsify(model)
    # 768 of 80 + 784 + 34 = 898 parameters.
    assert capsys.readouterr().out == (
        "85.5 % of 898 parameters are sparse-ready; left: embeddings 8.9 %, "
        "outputs 3.6 %, biases and the like 2.0 %\n"
    )


def test_a_sparse_kernel_made_by_hand_stays():
    class Scale(keras.layers.Layer):
        def build(self, input_shape):
            self.scale = SparseKernel(self, (input_shape[-1], 2), 2.0)

        def call(self, inputs):
            return inputs @ self.scale.value()

    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(4), Scale(), keras.layers.ReLU()]
    )
    sparsify(model, verbose=0)
    assert [k.alpha for k in sparse_kernels(model)] == [1.0, 2.0]
    with pytest.raises(ValueError, match="makes a SparseKernel itself"):
        densify(model)
