"""RigL, SET and static masks: a NumPy loop, and everywhere in fit."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.callbacks import SET
from keras_sparse_rl.callbacks import DenseGradients
from keras_sparse_rl.callbacks import GradientCosine
from keras_sparse_rl.callbacks import MagnitudePruning
from keras_sparse_rl.callbacks import RigL
from keras_sparse_rl.callbacks import StaticSparsity
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.layers import PowerpropConv2D
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.layers import PowerpropEmbedding
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import prune
from tests.callbacks.network import X
from tests.callbacks.network import Y
from tests.callbacks.network import compiled
from tests.callbacks.network import fit
from tests.callbacks.network import network
from tests.callbacks.network import top
from tests.same_state import assert_same_state

MAKERS = {
    "RigL": lambda every=3, **a: RigL(0.2, 16, refresh_every=every, **a),
    "SET": lambda every=3, **a: SET(0.2, refresh_every=every, **a),
    "StaticSparsity": lambda every=3, **a: StaticSparsity(0.2, **a),
}
each = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
moving = pytest.mark.parametrize("make", list(MAKERS.values())[:2])


def relu_network_gradients(weights, x, y):
    """Gradients of a network's two kernels, in float64 NumPy."""
    w1, b1, w2, b2 = [np.asarray(w, "float64") for w in weights]
    hidden = np.maximum(x @ w1 + b1, 0)
    logits = hidden @ w2 + b2
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    p /= len(y)
    return x.T @ ((p @ w2.T) * (hidden > 0)), hidden.T @ p


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_rigl_follows_the_paper(alpha):
    """Each refresh, recomputed from the state before the last step."""
    model = compiled(keras.optimizers.SGD(0.1), network(alpha))
    kernels = sparse_kernels(model)
    seen, before = [], {}

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            before["batch"] = batch
            before["masks"] = [k.forward_mask() for k in kernels]
            before["weights"] = [
                np.array(w)
                for layer in model.layers
                for w in (layer.kernel, layer.bias)
            ]

        def on_train_batch_end(self, batch, logs=None):
            step = int(model.optimizer.iterations)
            if step % 4 or step > 16:
                return
            rows = slice(4 * before["batch"], 4 * before["batch"] + 4)
            gradients = relu_network_gradients(
                before["weights"], X[rows].astype("float64"), Y[rows]
            )
            for k, kernel in enumerate(kernels):
                old = before["masks"][k]
                count = old.sum()
                share = 0.15 * (1 + math.cos(math.pi * step / 16))
                drop = int(share * count)
                # The step between moved only weights in use; those that
                # the refresh dropped keep their value, hidden.
                magnitude = np.where(old, np.abs(kernel.weight()), -1)
                kept = top(magnitude, count - drop)
                score = np.where(kept, np.inf, np.abs(gradients[k]))
                new = top(score, count) if drop else old
                np.testing.assert_array_equal(kernel.forward_mask(), new)
                np.testing.assert_array_equal(kernel.backward_mask(), new)
                grown, theta = new & ~old, np.array(kernel.theta)
                # At 0 the factor of an exponent is 0 for ever.
                first = 0.0
                if alpha > 1 and grown.any():
                    smallest = np.abs(theta[new & old]).min()
                    first = -smallest * np.sign(gradients[k][grown])
                np.testing.assert_array_equal(theta[grown], first)
                seen.append((new & ~old).sum())

    callback = RigL(0.4, 16, drop_fraction=0.3, refresh_every=4)
    fit(model, [callback, Watch()], epochs=3)
    assert len(seen) == 8 and sum(seen[:6]) > 0 and sum(seen[6:]) == 0


def test_the_gradient_pass_leaves_no_trace():
    """With nothing to drop the run equals one that measures nothing."""

    def model():
        keras.utils.set_random_seed(0)
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input((10,)),
                PowerpropDense(8, alpha=1),
                layers.BatchNormalization(),
                layers.Dropout(0.5),
                PowerpropDense(4, alpha=1),
            ]
        )

    results = []
    for callback in (
        RigL(0.5, 100, drop_fraction=0.0, refresh_every=2),
        StaticSparsity(0.5),
    ):
        trained = compiled(model=model(), metrics=["accuracy"])
        history = fit(trained, callback, epochs=2).history
        results.append((trained, history["loss"], history["accuracy"]))
    for a, b in zip(results[0][0].weights, results[1][0].weights):
        np.testing.assert_array_equal(a, b)
    assert results[0][1:] == results[1][1:]


def test_the_gradient_is_measured_at_refreshes_alone():
    """And is then one of the step that trains, not one more."""
    model, gradients, steps = compiled(), DenseGradients(every=5), []
    kernel = sparse_kernels(model)[0]

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            gradients.expect(int(model.optimizer.iterations))

        def on_train_batch_end(self, batch, logs=None):
            if gradients.take(kernel) is not None:
                steps.append(int(model.optimizer.iterations))

    gradients.start(sparse_kernels(model))
    fit(model, Watch(), epochs=2)
    gradients.stop()
    assert steps == [5, 10, 15]
    assert kernel.gradient_observer is None


@each
def test_number_of_weights_and_hidden_weights(make):
    model = compiled(keras.optimizers.SGD(0.1, momentum=0.9))
    start = [np.array(k.theta) for k in sparse_kernels(model)]
    masks = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            masks.append([k.forward_mask() for k in sparse_kernels(model)])

    history = fit(model, [make(densities="uniform"), Watch()], epochs=3)
    for k, kernel in enumerate(sparse_kernels(model)):
        series = [step[k] for step in masks]
        assert {int(m.sum()) for m in series} == {[40, 16][k]}
        moved = any((a != b).any() for a, b in zip(series, series[1:]))
        assert moved == (not isinstance(make(), StaticSparsity))
        never = ~np.any(series, axis=0)
        assert never.any()
        theta = np.array(kernel.theta)
        np.testing.assert_array_equal(theta[never], start[k][never])
        assert (theta[series[-1]] != start[k][series[-1]]).any()
    assert history.history["forward_density"] == pytest.approx([0.2] * 3)


@each
def test_masks_that_fit_are_kept(make):
    model = compiled()
    prune(model, 0.2)
    masks = [kernel.forward_mask() for kernel in sparse_kernels(model)]
    callback = make(every=100, densities="uniform")
    fit(model, callback, epochs=1)
    compiled(keras.optimizers.Adam(1e-4), model)  # steps from 0 again
    fit(model, callback, epochs=1)
    for kernel, mask in zip(sparse_kernels(model), masks):
        np.testing.assert_array_equal(kernel.forward_mask(), mask)


@each
def test_a_trained_model_keeps_its_largest_weights(make):
    model = compiled()
    fit(model, [], epochs=1)
    weights = [abs(kernel.weight()) for kernel in sparse_kernels(model)]
    fit(model, make(every=100, densities="uniform"), epochs=1)
    for kernel, weight in zip(sparse_kernels(model), weights):
        expected = top(weight, round(0.2 * weight.size))
        np.testing.assert_array_equal(kernel.forward_mask(), expected)


def test_set_grows_at_random_by_its_seed():
    masks = []
    for seed in (0, 0, 1):
        model = compiled()
        fit(model, SET(0.2, refresh_every=2, seed=seed), epochs=1)
        masks.append(np.array(sparse_kernels(model)[0].mask))
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[1] != masks[2]).any()


def test_rigl_stops_at_its_end():
    model = compiled()
    callback = RigL(0.2, 10, refresh_every=3)
    fit(model, callback, epochs=2)
    fixed = [np.array(k.mask) for k in sparse_kernels(model)]
    history = fit(model, callback, epochs=2).history
    for kernel, mask in zip(sparse_kernels(model), fixed):
        np.testing.assert_array_equal(kernel.mask, mask)
    assert history["mask_churn"] == [0.0, 0.0]


@pytest.mark.parametrize(
    "make",
    [
        *MAKERS.values(),
        lambda **a: TopKAST(0.2, 0.5, 3, **a),
        lambda **a: MagnitudePruning(0.2, 3, **a),
        lambda **a: MagnitudePruning(0.2, 3, scope="global", **a),
    ],
)
def test_blocks_along_the_input(make):
    """Whole runs of four inputs; ten inputs end in a run of two."""
    model = compiled()
    fit(model, make(block_size=4), epochs=2)
    used = blocks = 0
    for kernel in sparse_kernels(model):
        for mask in (kernel.forward_mask(), kernel.backward_mask()):
            runs = [mask[a : a + 4] for a in range(0, len(mask), 4)]
            for run in runs:
                assert (run.all(0) | ~run.any(0)).all()
        used += sum(run.any(0).sum() for run in runs if run.any())
        blocks += sum(run.shape[1] for run in runs)
    assert abs(used - 0.5 * blocks) < 0.35 * blocks


def test_blocks_by_hand():
    model = keras.Sequential([keras.Input((5,)), PowerpropDense(2, alpha=1)])
    weight = [[1, 9], [1, 0], [4, 0], [0, 0], [3, 2]]
    model.layers[0].sparse_kernel.assign_weight(np.array(weight, "float32"))
    # Means of the runs of two: 1, 2, 3 and 4.5, 0, 2.
    assert prune(model, 0.5, block_size=2) == 0.5
    np.testing.assert_array_equal(
        model.layers[0].sparse_kernel.forward_mask(),
        [[0, 1], [0, 1], [1, 0], [1, 0], [1, 0]],
    )


@moving
def test_reported_in_history_and_tensorboard(make, tmp_path):
    board = keras.callbacks.TensorBoard(tmp_path, profile_batch=0)
    history = fit(compiled(), [make(), board], epochs=2).history
    assert history["forward_density"] == pytest.approx([0.2] * 2, abs=0.005)
    assert len(history["mask_churn"]) == 2
    tags = set()
    for path in tmp_path.rglob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags.update(value.tag for value in event.summary.value)
    assert {"epoch_forward_density", "epoch_mask_churn"} <= tags


@moving
def test_steps_per_execution_and_accumulation(make):
    rule = keras.optimizers.Adam(0.05, gradient_accumulation_steps=2)
    model = compiled(rule, steps_per_execution=4)
    before = [np.array(k.theta) for k in sparse_kernels(model)]
    history = fit(model, make(), epochs=2).history
    assert int(model.optimizer.iterations) == 8
    for kernel, old in zip(sparse_kernels(model), before):
        assert (np.array(kernel.theta) != old).any()
    assert max(history["mask_churn"]) > 0


@moving
def test_interrupted_and_resumed_is_bit_for_bit_the_same(make, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        fit(compiled(), [make(), backup, Stop()], epochs=2)
    resumed, whole = compiled(), compiled()
    fit(resumed, [make(), backup], epochs=2)
    fit(whole, make(), epochs=2)
    assert int(resumed.optimizer.iterations) == 16
    assert_same_state(whole, resumed)


def test_two_replicas_choose_the_same_masks(two_replicas):
    make, results = MAKERS["RigL"], []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = compiled(keras.optimizers.SGD(0.05, momentum=0.9))
        fit(model, make(), epochs=2)
        results.append([np.array(w) for w in model.weights])
        if strategy is two_replicas:
            for kernel in sparse_kernels(model):
                copies = [np.array(v) for v in kernel.mask.value.values]
                np.testing.assert_array_equal(*copies)
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_mixed_precision_and_xla(jit_compile):
    keras.config.set_dtype_policy("mixed_float16")
    model = compiled(jit_compile=jit_compile)
    history = fit(model, MAKERS["RigL"](), epochs=2).history
    assert np.isfinite(history["loss"]).all()
    assert max(history["mask_churn"]) > 0


@pytest.mark.parametrize("kind", ["subclassed", "nested", "others"])
def test_subclassed_nested_and_other_kernels(kind):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.body = network()
            self.head = PowerpropDense(4)

        def call(self, x, training=False):
            return self.head(self.body(x, training=training))

    if kind == "subclassed":
        model = Subclassed()
        model(X)
    elif kind == "nested":
        model = keras.Sequential(
            [keras.Input((10,)), network(), PowerpropDense(4)]
        )
    else:
        model = keras.Sequential(
            [
                keras.Input((10,)),
                PowerpropEmbedding(9, 4),
                keras.layers.Reshape((10, 4, 1)),
                PowerpropConv2D(3, 2),
                keras.layers.Flatten(),
                PowerpropDense(4),
            ]
        )
    compiled(model=model)
    x = np.abs(X) if kind == "others" else X
    kernels, seen = sparse_kernels(model), []

    class Watched(RigL):
        def grow_scores(self, name, generator):
            scores = super().grow_scores(name, generator)
            assert scores.shape == self.kernels[name].shape
            seen.append(scores[~self.kernels[name].forward_mask()].any())
            return scores

    callback = Watched(0.2, 16, refresh_every=3)
    model.fit(x, Y, callbacks=[callback], batch_size=8, verbose=0)
    used = sum(kernel.forward_mask().sum() for kernel in kernels)
    size = sum(math.prod(kernel.shape) for kernel in kernels)
    assert used == pytest.approx(0.2 * size, abs=2)
    assert len(seen) == len(kernels) and all(seen)


def test_rigl_and_gradient_cosine_share_the_step():
    def model():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((10,))
        x = PowerpropDense(8, activation="relu", alpha=1)(inputs)
        outputs = {n: keras.layers.Dense(1, name=n)(x) for n in "ab"}
        model = keras.Model(inputs, outputs)
        model.compile(Powerprop("sgd"), "mse")
        return model

    y = {n: X[:, :1] for n in "ab"}
    masks = []
    for reverse in (False, True):
        callbacks = [
            RigL(0.5, 100, refresh_every=3),
            GradientCosine("a", ["b"]),
        ]
        trained = model()
        history = trained.fit(
            X,
            y,
            batch_size=4,
            shuffle=False,
            verbose=0,
            callbacks=callbacks[::-1] if reverse else callbacks,
        ).history
        assert {"cosine_b", "mask_churn"} <= history.keys()
        assert history["mask_churn"][0] > 0
        masks.append(np.array(sparse_kernels(trained)[0].mask))
        with_masks = trained.train_on_batch(X, y)
        assert np.isfinite(with_masks).all()
    np.testing.assert_array_equal(*masks)


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: SET(0), "density=0"),
        (lambda: SET(0.1, drop_fraction=1.5), "drop_fraction=1.5"),
        (lambda: SET(0.1, end_step=-1), "end_step=-1"),
        (lambda: SET(0.1, seed=-1), "seed=-1"),
        (lambda: SET(0.1, block_size=0), "block_size=0"),
        (lambda: RigL(0.1, 0), "end_step=0"),
        (lambda: RigL(0.1, 10, refresh_every=0), "refresh_every=0"),
        (lambda: StaticSparsity(0.1, densities="best"), "densities='best'"),
    ],
)
def test_bad_arguments(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@each
def test_models_that_cannot_be_trained_sparse(make):
    model = network()
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match=r"Powerprop\(keras.optimizers.Adam"):
        fit(model, make())


@pytest.mark.parametrize("is_compiled", [False, True])
def test_rigl_in_a_loop_of_your_own(is_compiled):
    """It ends where `fit` does, bit for bit."""
    by_fit = compiled(keras.optimizers.SGD(0.1))
    callback = RigL(0.2, 100, refresh_every=3)
    fit(by_fit, callback, epochs=2)
    model = compiled(keras.optimizers.SGD(0.1))
    loss = keras.losses.get(by_fit.loss)

    def step(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        variables = model.trainable_variables
        model.optimizer.apply(tape.gradient(value, variables), variables)

    step = tf.function(step) if is_compiled else step
    callback.start(model)
    for _ in range(2):
        for first in range(0, len(X), 4):
            step(X[first : first + 4], Y[first : first + 4])
            callback.update()
    callback.finish()
    for a, b in zip(sparse_kernels(by_fit), sparse_kernels(model)):
        np.testing.assert_array_equal(a.mask, b.mask)
        np.testing.assert_allclose(a.theta, b.theta, rtol=1e-5, atol=1e-6)


def test_rigl_says_that_a_compiled_step_does_not_see_it():
    model = compiled()

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(model(x, training=True))
        variables = model.trainable_variables
        model.optimizer.apply(tape.gradient(value, variables), variables)

    step(X[:4], Y[:4])
    callback = RigL(0.2, 100, refresh_every=3)
    callback.start(model)
    with pytest.raises(ValueError, match=r"callback.start\(model\) before"):
        for _ in range(3):
            step(X[:4], Y[:4])
            callback.update()
