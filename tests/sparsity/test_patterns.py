"""N:M patterns: against plain loops, for every callback and kind of layer."""

import hypothesis
import hypothesis.extra.numpy
import keras
import numpy as np
import pytest
from hypothesis import strategies

from keras_sparse_rl.callbacks import SET
from keras_sparse_rl.callbacks import MagnitudePruning
from keras_sparse_rl.callbacks import RigL
from keras_sparse_rl.callbacks import StaticSparsity
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import PolynomialSchedule
from keras_sparse_rl.sparsity import densify
from keras_sparse_rl.sparsity import pattern_mask
from keras_sparse_rl.sparsity import prune
from keras_sparse_rl.sparsity import sparsify

X = np.random.default_rng(0).normal(size=(32, 16)).astype("float32")
Y = np.random.default_rng(1).normal(size=(32, 4)).astype("float32")
PATTERNS = [(2, 4), (1, 4), (4, 8)]


def loop(scores, keep, group):
    """The `keep` best of each group of inputs, first come first kept."""
    mask = np.zeros(scores.shape, bool)
    for output in range(scores.shape[1]):
        for first in range(0, len(scores), group):
            rows = range(first, first + group)
            best = sorted(rows, key=lambda row: (-scores[row, output], row))
            mask[best[:keep], output] = True
    return mask


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(
    hypothesis.extra.numpy.arrays(
        "float32", (8, 3), elements=strategies.integers(0, 4)
    ),
    strategies.sampled_from(PATTERNS),
)
def test_the_mask_is_that_of_a_loop(scores, pattern):
    mask = pattern_mask(scores, pattern)
    np.testing.assert_array_equal(mask, loop(scores, *pattern))


def network(**arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((16,)),
            PowerpropDense(24, activation="relu", alpha=1.5, name="hidden"),
            PowerpropDense(4, alpha=1.5, name="last"),
        ]
    )
    rule = keras.optimizers.Adam(0.02)
    model.compile(Powerprop(rule), "mse", **arguments)
    return model


def follows(mask, pattern):
    """Exactly n of every m, for kernels of two axes."""
    keep, group = pattern
    groups = mask.reshape(-1, group, mask.shape[-1])
    return (groups.sum(1) == keep).all()


MAKERS = {
    "TopKAST": lambda share, **a: TopKAST(share, refresh_every=3, **a),
    "RigL": lambda share, **a: RigL(
        share, 100, refresh_every=3, densities="uniform", **a
    ),
    "SET": lambda share, **a: SET(
        share, refresh_every=3, densities="uniform", **a
    ),
    "StaticSparsity": lambda share, **a: StaticSparsity(
        share, densities="uniform", **a
    ),
    "MagnitudePruning": lambda share, **a: MagnitudePruning(
        PolynomialSchedule(share, 0, 12), refresh_every=3, **a
    ),
}
each = pytest.mark.parametrize("name", MAKERS)


@each
@pytest.mark.parametrize("pattern", PATTERNS[:2])
def test_every_callback_keeps_it_at_every_step(name, pattern):
    model, share = network(), pattern[0] / pattern[1]
    kernels, seen = sparse_kernels(model), []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if name != "MagnitudePruning":
                assert all(follows(k.forward_mask(), pattern) for k in kernels)
            seen.append(kernels[0].forward_mask())

    callback = MAKERS[name](share, pattern=pattern)
    history = model.fit(
        X, Y, 2, epochs=2, verbose=0, callbacks=[callback, Watch()]
    ).history
    for kernel in kernels:
        assert follows(kernel.forward_mask(), pattern)
        assert not (kernel.forward_mask() & ~kernel.backward_mask()).any()
    assert history["forward_density"][-1] == pytest.approx(share)
    moved = any((a != b).any() for a, b in zip(seen, seen[1:]))
    assert moved == (name != "StaticSparsity")


@each
def test_a_resumed_run_goes_on(name, tmp_path):
    """Masks of the model are kept, and what follows is the same."""
    models = []
    for parts in ((2,), (1, 1)):
        model = network()
        for number, epochs in enumerate(parts):
            callback = MAKERS[name](0.5, pattern=(2, 4))
            model.fit(X, Y, 2, epochs, 0, shuffle=False, callbacks=[callback])
            if number < len(parts) - 1:
                path = tmp_path / "model.keras"
                model.save(path)
                model = keras.models.load_model(path)
        models.append(model)
    for a, b in zip(*map(sparse_kernels, models)):
        np.testing.assert_array_equal(a.mask, b.mask)
        np.testing.assert_array_equal(a.theta, b.theta)


def test_masks_of_that_density_without_the_pattern_are_replaced():
    model = network()
    prune(model, 0.5)
    assert not follows(sparse_kernels(model)[0].forward_mask(), (2, 4))
    callback = MAKERS["StaticSparsity"](0.5, pattern=(2, 4))
    model.fit(X, Y, verbose=0, callbacks=[callback])
    assert follows(sparse_kernels(model)[0].forward_mask(), (2, 4))


def attention():
    inputs = keras.Input((6, 16))
    x = keras.layers.MultiHeadAttention(2, 6, name="attention")(inputs, inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(x))


def test_inputs_of_attention_and_convolutions():
    """Groups run along what a product sums over, wherever that axis is."""
    model = attention()
    sparsify(model, verbose=0)
    assert prune(model, 0.5, pattern=(2, 4)) == 0.5
    for kernel in sparse_kernels(model):
        mask = kernel.forward_mask()  # (features, heads, size), or the output's
        inputs = 16 if len(mask) == 16 else 12
        assert follows(mask.reshape(inputs, -1), (2, 4)), kernel.name
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            layers.Conv2D(8, 3),
            layers.Conv2DTranspose(4, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2),
        ]
    )
    sparsify(model, verbose=0)
    prune(model, 0.5, pattern=(2, 4))
    forward, transposed = (k.forward_mask() for k in sparse_kernels(model))
    assert (forward.sum(-2) == 2).all()  # (3, 3, 4, 8): of four channels two
    assert (transposed.reshape(3, 3, 4, 2, 4).sum(-1) == 2).all()
    densify(model)
    kernel = np.array(model.layers[0].kernel)
    np.testing.assert_array_equal(kernel != 0, forward)


def test_what_the_pattern_does_not_divide_can_stay_dense():
    model = keras.Sequential(
        [keras.Input((6,)), PowerpropDense(8, name="a"), PowerpropDense(4)]
    )
    with pytest.raises(ValueError, match=r"`pattern`=\(2, 4\).*'a'.*1.0"):
        prune(model, 0.5, pattern=(2, 4))
    prune(model, 0.5, densities={"a": 1.0}, pattern=(2, 4))
    first, second = (k.forward_mask() for k in sparse_kernels(model))
    assert first.all() and follows(second, (2, 4))
    model.compile(Powerprop("adam"), "mse")
    callback = TopKAST(0.5, densities={"a": 1.0}, pattern=(2, 4))
    model.fit(X[:, :6], Y, verbose=0, callbacks=[callback])


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: pattern_mask(X, (4, 2)), r"pattern=\(4, 2\)"),
        (lambda: pattern_mask(X, (0, 4)), "pattern=0"),
        (lambda: pattern_mask(X, 4), "pattern=4"),
        (lambda: pattern_mask(X, (2, 4.0)), "pattern=4.0"),
        (lambda: pattern_mask(X.T[:, :6].T, (2, 4)), "6 inputs"),
        (lambda: pattern_mask(np.full((4, 1), np.nan), (2, 4)), "NaN"),
        (lambda: TopKAST(0.5, block_size=4, pattern=(2, 4)), "block_size=4"),
        (
            lambda: MagnitudePruning(0.5, scope="global", pattern=(2, 4)),
            "scope='global'",
        ),
        (lambda: prune(network(), 0.1, pattern=(2, 4)), "density of 0.1"),
        (
            lambda: prune(network(), 0.5, densities="erk", pattern=(2, 4)),
            "densities='uniform'",
        ),
    ],
)
def test_wrong_patterns_are_answered(call, words):
    with pytest.raises(ValueError, match=words):
        call()
