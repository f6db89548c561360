"""Each callback on models that train the user's way, or a word that says no."""

import contextlib
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.callbacks import SET
from keras_sparse_rl.callbacks import MagnitudePruning
from keras_sparse_rl.callbacks import RigL
from keras_sparse_rl.callbacks import StaticSparsity
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import prune
from keras_sparse_rl.sparsity import sparsify

X = np.random.default_rng(0).normal(size=(64, 20)).astype("float32")
Y = X[:, :3].argmax(1)
DENSITY, EVERY = 0.2, 4
MAKERS = {
    "TopKAST": lambda: TopKAST(DENSITY, refresh_every=EVERY),
    "RigL": lambda: RigL(DENSITY, 1000, 0.3, EVERY, "uniform"),
    "SET": lambda: SET(DENSITY, 0.3, EVERY, "uniform"),
    "StaticSparsity": lambda: StaticSparsity(DENSITY, "uniform"),
    "MagnitudePruning": lambda: MagnitudePruning(DENSITY, EVERY),
}
each = pytest.mark.parametrize("name", MAKERS)
# Those that promise that what is not trained rests.
holding = pytest.mark.parametrize("name", list(MAKERS)[:4])


def net(alpha=1.5, units=3, name=None):
    return keras.Sequential(
        [
            keras.Input((20,)),
            PowerpropDense(32, "relu", alpha=alpha, name=f"{name or 'a'}_1"),
            PowerpropDense(units, alpha=alpha, name=f"{name or 'a'}_2"),
        ]
    )


def adam(rate=1e-2):
    return Powerprop(keras.optimizers.AdamW(rate, weight_decay=0.1))


def check_densities(kernels):
    for kernel in kernels:
        expected = max(1, round(DENSITY * np.prod(kernel.shape)))
        assert kernel.forward_mask().sum() == expected


class Rests(keras.callbacks.Callback):
    """Holds that a step moves nothing outside B, and something inside."""

    def __init__(self, kernels):
        super().__init__()
        self.kernels = kernels

    def on_train_batch_begin(self, batch, logs=None):
        self.before = [np.array(kernel.theta) for kernel in self.kernels]
        self.masks = [kernel.backward_mask() for kernel in self.kernels]

    def on_train_batch_end(self, batch, logs=None):
        for kernel, old, mask in zip(self.kernels, self.before, self.masks):
            new = np.array(kernel.theta)
            was_refreshed = (mask != kernel.backward_mask()).any()
            if not was_refreshed:
                np.testing.assert_array_equal(new[~mask], old[~mask])
            assert (new[mask] != old[mask]).any()


class OwnStep(keras.Model):
    """A train step with a loss of its own, large for input 0."""

    def train_step(self, data):
        x, _ = data
        with tf.GradientTape() as tape:
            loss = 100 * tf.reduce_mean(self(x, training=True) * x[:, :1])
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}


@each
def test_a_train_step_of_ones_own(name):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((20,))
    model = OwnStep(inputs, PowerpropDense(8, alpha=1)(inputs))
    model.compile(adam(0.0), "mse")
    (kernel,) = sparse_kernels(model)
    model.fit(X, Y, 64, epochs=12, verbose=0, callbacks=[MAKERS[name]()])
    check_densities([kernel])
    if name == "RigL":  # by the loss that trains, not by the one of compile
        assert kernel.forward_mask()[0].all()


class Pair(keras.Model):
    """Two networks, an optimizer for each, as a GAN has; no `call`."""

    def __init__(self, first, second):
        super().__init__()
        self.a, self.b = net(name="a"), net(name="b")
        self.optimizers = [first, second]
        self.built = True

    def train_step(self, x):
        for network, optimizer in zip((self.a, self.b), self.optimizers):
            with tf.GradientTape() as tape:
                y = network(x, training=True)
                loss = tf.reduce_mean((y - 1.0) ** 2)
            variables = network.trainable_variables
            optimizer.apply(tape.gradient(loss, variables), variables)
        return {"loss": loss}


@holding
def test_two_optimizers(name):
    """`compile` fills in a third, which trains nothing and counts nothing."""
    model = Pair(adam(), adam(2e-2))
    model.compile()
    kernels = sparse_kernels(model)
    callbacks = [MAKERS[name](), Rests(kernels)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        history = model.fit(X, None, 8, 3, 0, callbacks=callbacks).history
    check_densities(kernels)
    assert (max(history["mask_churn"]) > 0) == (name != "StaticSparsity")


@holding
def test_a_plain_optimizer_among_them_is_named(name):
    model = Pair(adam(), keras.optimizers.AdamW(1e-2))
    model.compile(adam())
    with pytest.warns(UserWarning, match=r"optimizers\[1\] \(AdamW\)") as said:
        model.fit(X, None, 8, verbose=0, callbacks=[MAKERS[name]()])
    assert any("'b_1'" in str(w.message) for w in said)  # they moved
    hidden = Pair(adam(), adam())
    step = keras.optimizers.AdamW(1e-2)
    hidden.compile()
    hidden.train_step = lambda x: _step(hidden.a, step, x)
    with pytest.warns(UserWarning, match="'a_1'.*have moved"):
        hidden.fit(X, None, 8, verbose=0, callbacks=[MAKERS[name]()])


def _step(network, optimizer, x):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(network(x) ** 2)
    variables = network.trainable_variables
    optimizer.apply(tape.gradient(loss, variables), variables)
    return {"loss": loss}


def frozen_model():
    keras.utils.set_random_seed(0)
    model = net()
    model.layers[0].trainable = False
    return compiled(model)


def compiled(model, optimizer=None):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or adam(), loss)
    return model


@each
@pytest.mark.parametrize("when", ["epoch", "batch"])
def test_unfrozen_and_compiled_in_a_callback(name, when):
    class Unfreeze(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if when == "epoch" and epoch == 1:
                self.change()

        def on_train_batch_end(self, batch, logs=None):
            steps = int(self.model.optimizer.iterations)
            if when == "batch" and not self.model.layers[0].trainable:
                if steps == 6:
                    self.change()

        def change(self):
            self.model.layers[0].trainable = True
            compiled(self.model)
            self.model.make_train_function()

    model = frozen_model()
    before = np.array(model.layers[0].theta)
    callbacks = [MAKERS[name](), Unfreeze()]
    model.fit(X, Y, 8, epochs=3, verbose=0, callbacks=callbacks)
    check_densities(sparse_kernels(model))
    expected = 16 if when == "epoch" else 18
    assert int(model.optimizer.iterations) == expected
    assert (np.array(model.layers[0].theta) != before).any()


@each
def test_unfrozen_without_compile(name):
    model = frozen_model()
    model.fit(X, Y, verbose=0, callbacks=[MAKERS[name]()])
    model.layers[0].trainable = True
    with pytest.raises(ValueError, match="without layer 'a_1'.*model.compile"):
        model.fit(X, Y, verbose=0, callbacks=[MAKERS[name]()])
    assert sparse_kernels(model)[0].forward_mask().all()


@each
def test_unfrozen_in_training_without_compile(name):
    class Unfreeze(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.layers[0].trainable = True

    with pytest.warns(UserWarning, match=r"\['a_1'\].*model.compile") as said:
        frozen_model().fit(
            X, Y, epochs=3, verbose=0, callbacks=[MAKERS[name](), Unfreeze()]
        )
    assert sum("a_1" in str(w.message) for w in said) == 1


@each
def test_another_optimizer_that_knows_no_kernels(name):
    class Compile(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                compiled(self.model, keras.optimizers.Adam())
                self.model.make_train_function()

    model, said = compiled(net()), contextlib.nullcontext()
    if name != "MagnitudePruning":
        said = pytest.raises(ValueError, match=f"{name} needs an optimizer")
    with said, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exponent's own advice
        callbacks = [MAKERS[name](), Compile()]
        model.fit(X, Y, epochs=2, verbose=0, callbacks=callbacks)


@each
@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_a_trained_model_keeps_its_largest_weights(name, alpha):
    """Newly compiled, so that no step tells that it is trained."""
    model = keras.models.Sequential(
        [
            keras.Input((20,)),
            keras.layers.Dense(32, "relu", kernel_initializer="he_normal"),
            keras.layers.Dense(3),
        ]
    )
    sparsify(model, alpha, verbose=0)
    (kernel,) = sparse_kernels(model)
    magnitude = abs(kernel.weight())
    compiled(model, adam(0.0))
    model.fit(X, Y, 64, verbose=0, callbacks=[MAKERS[name]()])
    mask = kernel.forward_mask()
    if name == "MagnitudePruning":  # at the first refresh
        callback = MAKERS[name]()
        callback.start(model)
        callback.refresh(EVERY)
        mask = kernel.forward_mask()
    assert magnitude[mask].min() >= magnitude[~mask].max()


@pytest.mark.parametrize("name", ["RigL", "SET", "StaticSparsity"])
def test_random_first_masks_on_request(name):
    masks = []
    for seed in (0, 0, 1):
        callback = MAKERS[name]()
        callback.first_mask, callback.seed = "random", seed
        keras.utils.set_random_seed(0)
        model = compiled(net(), adam(0.0))
        model.fit(X, Y, 64, verbose=0, callbacks=[callback])
        masks.append(sparse_kernels(model)[0].forward_mask())
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[1] != masks[2]).any()


@pytest.mark.parametrize("first", MAKERS)
@pytest.mark.parametrize("second", ["TopKAST", "MagnitudePruning"])
def test_two_owners_of_the_masks_are_refused(first, second):
    model = compiled(net())
    callbacks = [MAKERS[first](), MAKERS[second]()]
    with pytest.raises(ValueError, match=f"{first}.*{second}.*one of them"):
        model.fit(X, Y, verbose=0, callbacks=callbacks)
    assert int(model.optimizer.iterations) == 0
    # Neither owns anything any more.
    model.fit(X, Y, verbose=0, callbacks=[MAKERS[second]()])
    callbacks[0].start(model)
    with pytest.raises(ValueError, match="finish"):
        callbacks[1].start(model)
    callbacks[0].finish()
    callbacks[1].start(model)


@each
def test_a_frozen_layer_is_called_frozen(name):
    callback, model = MAKERS[name](), frozen_model()
    callback.densities = {"a_1": 0.1}
    with pytest.raises(ValueError, match="'a_1', which is frozen"):
        model.fit(X, Y, verbose=0, callbacks=[callback])


def test_pruning_may_leave_frozen_layers_alone():
    model = frozen_model()
    assert prune(model, DENSITY, include_frozen=False) == pytest.approx(
        0.2, abs=0.01
    )
    frozen, trained = sparse_kernels(model)
    assert frozen.forward_mask().all() and not trained.forward_mask().all()
    prune(model, DENSITY)
    check_densities([frozen, trained])


@pytest.mark.parametrize("name", ["RigL", "SET"])
@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0, 3.0])
def test_what_grows_learns(name, alpha):
    keras.utils.set_random_seed(0)
    model = compiled(net(alpha))
    kernels = sparse_kernels(model)
    grown = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.used = [kernel.forward_mask() for kernel in kernels]

        def on_train_batch_end(self, batch, logs=None):
            for kernel, used in zip(kernels, self.used):
                new = kernel.forward_mask() & ~used
                weight = abs(kernel.weight())
                if new.any():
                    old = weight[kernel.forward_mask() & ~new].min()
                    expected = 0.0 if alpha == 1 else old
                    np.testing.assert_allclose(weight[new], expected, 1e-5)
                    grown.append(new.sum())

    callbacks = [MAKERS[name](), Watch()]
    model.fit(X, Y, 8, epochs=4, verbose=0, callbacks=callbacks)
    assert sum(grown) > 10
    model.fit(
        X, Y, 8, verbose=0, callbacks=[StaticSparsity(DENSITY, "uniform")]
    )
    if alpha > 1:  # with 1 those of units that reach no output may stay 0
        for kernel in kernels:
            assert (kernel.weight()[kernel.forward_mask()] != 0).all()


@each
def test_divergence_is_told_at_the_end_of_the_epoch(name):
    model = compiled(net(alpha=1.0), adam(1e3))
    callback = MAKERS[name]()
    callback.refresh_every = 10_000
    x = np.where(X > 2, np.inf, X)
    with pytest.warns(UserWarning, match=r"'a_1'.*TerminateOnNaN"):
        model.fit(x, Y, 8, verbose=0, callbacks=[callback])


@each
def test_update_before_start(name):
    with pytest.raises(ValueError, match=rf"{name}.update\(\).*start\(model\)"):
        MAKERS[name]().update()


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_swapped_averages_leave_resting_weights_alone(swap_on_epoch):
    """To the last bit, at every epoch and evaluation."""
    rule = keras.optimizers.Adam(1e-2, use_ema=True, ema_momentum=0.9)
    model = compiled(net(), Powerprop(rule))
    kernels = sparse_kernels(model)
    start = [np.array(kernel.theta) for kernel in kernels]
    callbacks = [
        TopKAST(DENSITY, refresh_every=1000),
        keras.callbacks.SwapEMAWeights(swap_on_epoch),
    ]
    model.fit(X, Y, 8, 3, 0, callbacks=callbacks, validation_data=(X, Y))
    for kernel, old in zip(kernels, start):
        rests, new = ~kernel.backward_mask(), np.array(kernel.theta)
        np.testing.assert_array_equal(new[rests], old[rests])
        assert (new[~rests] != old[~rests]).any()


def test_dropout_resumes_but_for_its_seeds(tmp_path):
    """What is said of it: with the seeds put back it is bit for bit."""

    def model():
        keras.utils.set_random_seed(0)
        first, last = net().layers
        dropout = keras.layers.Dropout(0.5)
        return compiled(
            keras.Sequential([keras.Input((20,)), first, dropout, last])
        )

    class Seeds(keras.callbacks.Callback):
        kept = {}

        def on_epoch_begin(self, epoch, logs=None):
            seeds = [v for v in self.model.variables if "seed" in v.path]
            assert seeds
            for number, variable in enumerate(seeds):
                value = self.kept.setdefault(
                    (epoch, number), np.array(variable)
                )
                variable.assign(value)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def fit(trained, *callbacks):
        callbacks = [MAKERS["SET"](), *callbacks]
        trained.fit(X, Y, 8, 2, 0, shuffle=False, callbacks=callbacks)

    whole, resumed = model(), model()
    fit(whole, Seeds())
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        fit(model(), backup, Stop())
    fit(resumed, backup, Seeds())
    for a, b in zip(whole.weights, resumed.weights):
        np.testing.assert_array_equal(a, b)
