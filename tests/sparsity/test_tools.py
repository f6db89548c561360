"""sparsify, densify, prune and sparsity_summary on whole models."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.layers import PowerpropConv2D
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.layers import PowerpropEmbedding
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import densify
from keras_sparse_rl.sparsity import prune
from keras_sparse_rl.sparsity import sparsify
from keras_sparse_rl.sparsity import sparsity_summary

IMAGES = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("float32")


def convolutional():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
            keras.layers.DepthwiseConv2D(3, padding="same", name="depthwise"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="relu", name="hidden"),
            keras.layers.Dense(5, name="logits"),
        ]
    )


def functional():
    """Two inputs, a shared layer, a model inside, attention beside."""
    tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(20, 8, name="table")(tokens)
    x = keras.layers.MultiHeadAttention(2, 4)(x, x)
    x = keras.layers.Conv1D(8, 3, padding="same", name="conv")(x)
    shared = keras.layers.Dense(8, name="shared")
    x = keras.layers.Add()([shared(x), shared(shared(x))])
    x = keras.layers.EinsumDense("abc,cd->abd", (None, 8), name="einsum")(x)
    inner = keras.Sequential(
        [keras.Input((6, 8)), keras.layers.Dense(7, name="inside")]
    )
    x = keras.layers.GlobalAveragePooling1D()(inner(x))
    other = keras.Input((3,))
    x = keras.layers.Concatenate()([x, other])
    return keras.Model([tokens, other], keras.layers.Dense(2, name="out")(x))


FUNCTIONAL_INPUTS = [
    np.random.default_rng(0).integers(0, 20, (4, 6)),
    np.random.default_rng(1).normal(size=(4, 3)).astype("float32"),
]


def copied(model):
    """Another model of the same kind and weights."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def sparsified(model, **arguments):
    """A sparse-ready copy."""
    copy = copied(model)
    sparsify(copy, verbose=0, **arguments)
    return copy


def densified(model):
    """A plain copy of a sparse model."""
    copy = copied(model)
    densify(copy)
    return copy


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("alpha", [1, 2, 3.5])
def test_sparsify_keeps_the_outputs(alpha):
    for model, x in (
        (convolutional(), IMAGES),
        (functional(), FUNCTIONAL_INPUTS),
    ):
        sparse = sparsified(model, alpha=alpha)
        close(model(x), sparse(x))
        for kernel in sparse_kernels(sparse):
            assert kernel.alpha == alpha
            if kernel.name:  # of attention, which has several
                continue
            layers = {layer.name: layer for layer in _flat(model)}
            np.testing.assert_allclose(
                kernel.weight(),
                layers[kernel.layer.name].get_weights()[0],
                rtol=1e-6,
                atol=1e-30,
            )


def _flat(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _flat(layer)
        else:
            yield layer


def test_what_is_converted():
    sparse = sparsified(functional())
    kinds = {
        layer.name: type(layer).__name__
        for layer in _flat(sparse)
        if layer.name in ("table", "conv", "shared", "einsum", "inside", "out")
    }
    assert kinds == {
        "table": "Embedding",
        "conv": "PowerpropConv1D",
        "shared": "PowerpropDense",
        "einsum": "PowerpropEinsumDense",
        "inside": "PowerpropDense",
        "out": "Dense",
    }
    sparse = functional()
    densities = {"table": 0.5, sparse.layers[-1]: 1.0}
    sparsify(sparse, densities=densities, verbose=0)
    table, out = sparse.get_layer("table"), sparse.get_layer("out")
    assert isinstance(table, PowerpropEmbedding)
    assert isinstance(out, PowerpropDense)
    assert table.sparse_kernel.forward_mask().mean() == 0.5
    assert out.sparse_kernel.forward_mask().all()


@pytest.mark.parametrize("alpha", [1.0, 1.5])
def test_sparsify_works_in_place(alpha):
    model = convolutional()
    identities = [id(model), *map(id, model.layers)]
    weights = [id(v) for v in model.trainable_variables]
    assert sparsify(model, alpha=alpha, verbose=0) is None
    assert [id(model), *map(id, model.layers)] == identities
    assert [id(v) for v in model.trainable_variables] == weights
    assert isinstance(model.get_layer("hidden"), keras.layers.Dense)
    assert densify(model) is None
    assert [id(v) for v in model.weights] == [
        id(v) for layer in model.layers for v in layer.weights
    ]


def test_a_copy_of_a_sparse_model_is_its_own():
    model = sparsified(convolutional(), alpha=2)
    before = model.get_weights()
    sparse = copied(model)
    sparse.set_weights([w * 0 for w in sparse.get_weights()])
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_sparsify_keeps_frozen_layers_and_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = convolutional()
    model.get_layer("conv").trainable = False
    keras.config.set_dtype_policy("float32")
    conv = sparsified(model).get_layer("conv")
    assert isinstance(conv, PowerpropConv2D) and not conv.trainable
    assert conv.compute_dtype == "bfloat16"


def test_there_and_back():
    for model, x in (
        (convolutional(), IMAGES),
        (functional(), FUNCTIONAL_INPUTS),
    ):
        sparse = sparsified(model, alpha=3)
        prune(sparse, 0.3)
        dense = densified(sparse)
        close(dense(x), sparse(x))
        kinds = [type(layer) for layer in _flat(model)]
        assert [type(layer) for layer in _flat(dense)] == kinds
        for kernel in sparse_kernels(sparse):
            if kernel.name:  # of attention, which has several
                continue
            weights = {
                layer.name: layer.get_weights() for layer in _flat(dense)
            }
            zeros = weights[kernel.layer.name][0] == 0
            np.testing.assert_array_equal(zeros, ~kernel.forward_mask())


def test_a_densified_model_loads_without_this_package(tmp_path):
    sparse = sparsified(convolutional(), alpha=2)
    sparse.compile(Powerprop("adam"), "mse")
    prune(sparse, 0.1)
    dense = copied(sparse)
    dense.compile(Powerprop("adam"), "mse")
    densify(dense)
    assert sparse.compiled and not dense.compiled
    dense.save(tmp_path / "dense.keras")
    np.save(tmp_path / "x.npy", IMAGES)
    program = (
        "import sys, keras, numpy as np\n"
        "m = keras.models.load_model('dense.keras')\n"
        "np.save('y.npy', m(np.load('x.npy')))\n"
        "assert 'keras_sparse_rl' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    close(np.load(tmp_path / "y.npy"), sparse(IMAGES))


def test_prune_by_layer_and_globally():
    model = sparsified(convolutional(), alpha=2)
    kernels = sparse_kernels(model)
    sizes = [np.prod(kernel.shape) for kernel in kernels]
    assert prune(model, 0.25) == pytest.approx(0.25, abs=0.01)
    for kernel, size in zip(kernels, sizes):
        assert kernel.forward_mask().sum() == round(0.25 * size)
    magnitude = np.concatenate([abs(k.weight()).ravel() for k in kernels])
    count = round(0.1 * magnitude.size)
    threshold = np.sort(magnitude)[-count]
    prune(model, 0.1, scope="global")
    for kernel in kernels:
        np.testing.assert_array_equal(
            kernel.forward_mask(), abs(kernel.weight()) >= threshold
        )
    prune(model, 1.0)
    assert all(kernel.forward_mask().all() for kernel in kernels)


def test_global_pruning_ranks_weights_not_parameters():
    """With unequal exponents the order of theta is another."""
    inputs = keras.Input((1,))
    a = PowerpropDense(3, alpha=1, name="a")(inputs)
    model = keras.Model(inputs, PowerpropDense(1, alpha=4, name="b")(a))
    first, second = sparse_kernels(model)
    first.theta.assign([[0.3, 0.31, 0.32]])
    second.theta.assign([[0.6], [0.5], [0.4]])  # weights of 0.1296 and less
    prune(model, 4 / 6, scope="global")
    assert first.forward_mask().all()
    assert second.forward_mask().ravel().tolist() == [True, False, False]


def test_summary_counts_by_hand(capsys):
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            PowerpropConv2D(4, 3, strides=2, padding="same", name="conv"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, name="logits"),
        ]
    )
    prune(model, 0.25)
    summary = sparsity_summary(model)
    printed = capsys.readouterr().out
    assert "conv" in printed and "25.00%" in printed and "total" in printed
    conv, norm, logits = summary["layers"]
    # 27 of 108 weights at 4 x 4 positions, and 4 biases.
    assert conv["used"] == 31 and conv["parameters"] == 112
    assert conv["flops"] == 2 * 27 * 16
    assert conv["dense_flops"] == 2 * 108 * 16
    assert conv["bytes"] == 4 * 31 + 14 and conv["dense_bytes"] == 4 * 112
    assert norm["flops"] == 0 and norm["used"] == 16
    assert logits["flops"] == 2 * 64 * 10
    total = summary["total"]
    assert total["density_of_sparse_kernels"] == 0.25
    assert total["parameters"] == 112 + 16 + 650
    assert total["density"] == total["used"] / total["parameters"]
    assert total["flops"] == conv["flops"] + logits["flops"]


@pytest.mark.parametrize(
    "layer, shape, flops",
    [
        (keras.layers.Dense(5), (7, 3), 2 * 7 * 15),
        (
            keras.layers.EinsumDense("abc,cde->abde", (None, 2, 5)),
            (7, 3),
            2 * 7 * 30,
        ),
        # The axis b is in all three terms: a product for each of them.
        (keras.layers.EinsumDense("abc,bcd->abd", (7, 5)), (7, 3), 2 * 105),
        (keras.layers.Conv1D(4, 3), (9, 2), 2 * 7 * 24),
        (keras.layers.Embedding(10, 4), (3,), 0),
    ],
)
def test_flops_by_hand(layer, shape, flops):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    found = sparsity_summary(model, print_fn=None)
    assert found["total"]["flops"] == flops


def test_models_that_cannot_be_turned():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    model = Subclassed()
    model(IMAGES)
    empty = keras.Sequential([keras.Input((3,)), keras.layers.Flatten()])
    with pytest.raises(ValueError, match="no layer with weights"):
        sparsity_summary(empty)
    with pytest.raises(ValueError, match="no layer that `sparsify` turns"):
        sparsify(model)
    for tool in (sparsify, densify):
        for wrong in (None, "model.keras"):
            with pytest.raises(TypeError, match="`model` must be a Keras"):
                tool(wrong)
        for unbuilt in (
            keras.Sequential([keras.layers.Dense(3)]),
            keras.layers.Dense(3),
        ):
            with pytest.raises(ValueError, match="no weights yet"):
                tool(unbuilt)
    one_layer = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="no layer that `sparsify` turns"):
        sparsify(one_layer)
    with pytest.raises(ValueError, match="nothing to bake in"):
        densify(one_layer)
    with pytest.raises(ValueError, match=r"no sparse layer.*sparsify\(model"):
        prune(one_layer, 0.5)
    with pytest.raises(ValueError, match="no weights yet"):
        sparsity_summary(keras.Sequential([keras.layers.Dense(3)]))


def test_masks_of_sequences_reach_the_same_layers():
    """An Embedding's mask ends at a convolution, as in Keras."""
    tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(20, 8, mask_zero=True)(tokens)
    x = keras.layers.Dense(8, name="keeps")(x)
    both = [
        keras.layers.GlobalAveragePooling1D()(x),
        keras.layers.GlobalAveragePooling1D()(
            keras.layers.Conv1D(4, 2, name="drops")(x)
        ),
        keras.layers.GlobalAveragePooling1D()(
            keras.layers.EinsumDense("abc,cd->abd", (None, 4), name="e")(x)
        ),
    ]
    model = keras.Model(tokens, keras.layers.Concatenate()(both))
    x = np.array([[1, 2, 0, 0, 0, 0], [3, 0, 4, 5, 0, 6]])
    sparse = sparsified(model, alpha=2)
    close(model(x), sparse(x))
    close(model(x), densified(sparse)(x))


def test_every_head_is_spared():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(5, name="body")(inputs)
    heads = [keras.layers.Dense(2, name=f"head{i}")(x) for i in range(2)]
    sparse = keras.Model(inputs, heads)
    sparsify(sparse, verbose=0)
    kinds = [type(layer).__name__ for layer in sparse.layers[1:]]
    assert kinds == ["PowerpropDense", "Dense", "Dense"]
    frozen = convolutional()
    frozen.layers[-1].trainable = False
    sparsify(frozen, verbose=0)
    assert not frozen.layers[-1].trainable
    kinds = [type(layer).__name__ for layer in frozen.layers[-2:]]
    assert kinds == ["PowerpropDense", "Dense"]


def test_heads_are_found_through_activations():
    inputs = keras.Input((4,))
    x = keras.layers.Dense(5, name="body")(inputs)
    a = keras.layers.Softmax()(keras.layers.Dense(3, name="a")(x))
    b = keras.ops.tanh(keras.layers.Dense(3, name="b")(x))
    sparse = keras.Model(inputs, [a, b])
    sparsify(sparse, verbose=0)
    kinds = {layer.name: type(layer).__name__ for layer in sparse.layers}
    assert kinds["body"] == "PowerpropDense"
    assert kinds["a"] == kinds["b"] == "Dense"


def test_models_with_losses_of_their_own_are_taken_apart():
    def own_loss(y, y_pred):
        return keras.ops.mean(y - y_pred)

    model = convolutional()
    model.compile("adam", own_loss)
    before = model(IMAGES)
    sparsify(model, verbose=0)
    assert not model.compiled
    close(before, model(IMAGES))


def test_what_preprocessing_layers_learned_is_kept():
    values = np.random.default_rng(0).normal(5, 3, (50, 4)).astype("float32")
    scale = keras.layers.Normalization()
    scale.adapt(values)
    model = keras.Sequential(
        [keras.Input((4,)), scale, keras.layers.Dense(8), keras.layers.Dense(1)]
    )
    before = model(values)
    sparsify(model, verbose=0)
    close(before, model(values))
    densify(model)
    close(before, model(values))
    words = keras.layers.StringLookup(output_mode="multi_hot")
    words.adapt(["a", "b", "c"])
    text = keras.Input((2,), dtype="string")
    x = keras.layers.Dense(5)(words(text))
    model = keras.Model(text, keras.layers.Dense(2)(x))
    seen = tf.constant([["a", "c"], ["b", "d"]])
    before = model(seen)
    sparsify(model, verbose=0)
    close(before, model(seen))


def test_models_with_methods_of_their_own_keep_them():
    class Own(keras.Model):
        def __init__(self, units=5):
            inputs = keras.Input((4,))
            x = keras.layers.Dense(units)(inputs)
            super().__init__(inputs, keras.layers.Dense(2)(x))

        def train_step(self, data):
            return {}

    model = Own()
    sparsify(model, verbose=0)
    assert type(model).__name__ == "Own" and isinstance(model, Own)
    assert model.train_step(None) == {}
    assert len(sparse_kernels(model)) == 1


def test_prune_without_regrowth():
    model = keras.Sequential([keras.Input((10,)), PowerpropDense(10)])
    kernel = sparse_kernels(model)[0]
    used = np.arange(100).reshape(10, 10) % 2 == 0
    kernel.assign_weight(np.where(used, 0.1, 9.0))
    kernel.assign_masks(used, used)
    assert prune(model, 0.2, regrow=False) == 0.2
    assert (kernel.forward_mask() <= used).all()
    assert prune(model, 0.9, regrow=False) == 0.2
    prune(model, 0.2)
    assert not (kernel.forward_mask() & used).any()


def test_regularizers_survive_conversion():
    model = keras.Sequential(
        [
            keras.Input((4, 3)),
            keras.layers.EinsumDense(
                "abc,cd->abd", (None, 5), activity_regularizer="l2"
            ),
            keras.layers.Dense(3, kernel_regularizer="l2"),
            keras.layers.Dense(2),
        ]
    )
    x = np.ones((2, 4, 3), "float32")
    expected = (model(x), [float(loss) for loss in model.losses])[1]
    sparsify(model, alpha=3, verbose=0)
    model(x)
    found = [float(loss) for loss in model.losses]
    np.testing.assert_allclose(sorted(found), sorted(expected), rtol=1e-5)


def test_lambda_layers_are_carried_over():
    model = convolutional()
    model = keras.Sequential(
        [*model.layers[:-1], keras.layers.Lambda(lambda x: 2 * x)]
        + model.layers[-1:]
    )
    model.build((None, 8, 8, 3))
    before = model(IMAGES)
    sparsify(model, verbose=0)
    close(before, model(IMAGES))


def test_frozen_weights_stay_frozen():
    model = sparsified(convolutional())
    kernel = sparse_kernels(model)[0]
    used = np.ones(kernel.shape, bool)
    kernel.assign_masks(used, ~used)
    prune(model, 0.5)
    assert kernel.forward_mask().mean() == 0.5
    assert not kernel.backward_mask().any()


def test_bad_arguments():
    model = convolutional()
    with pytest.raises(ValueError, match="alpha=0.5"):
        sparsify(model, alpha=0.5)
    with pytest.raises(ValueError, match="'absent'.*'conv'"):
        sparsify(model, densities={"absent": 0.5})
    with pytest.raises(ValueError, match="BatchNormalization.*cannot turn"):
        sparsify(model, densities={model.layers[2]: 0.5})
    with pytest.raises(ValueError, match=r"densities\['conv'\]=2"):
        sparsify(model, densities={"conv": 2})
    with pytest.raises(ValueError, match="density=0.1.*execution='dense'"):
        sparsify(model, density=0.1)
    sparse = sparsified(model)
    with pytest.raises(ValueError, match="sparse already"):
        sparsify(sparse)
    with pytest.raises(ValueError, match="density=0"):
        prune(sparse, 0)
    with pytest.raises(ValueError, match="scope='model'"):
        prune(sparse, 0.1, scope="model")
    with pytest.raises(ValueError, match="no layer has a density"):
        prune(sparse, 0.1, scope="global", densities="erk")
    with pytest.raises(ValueError, match="no sparse layer 'absent'"):
        prune(sparse, 0.1, densities={"absent": 0.5})
