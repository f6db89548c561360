"""The update against an oracle in float64, and everything around a step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import prune
from tests.same_state import assert_same_state

X = np.random.default_rng(0).normal(size=(16, 5)).astype("float32")
Y = np.random.default_rng(1).normal(size=(16, 3)).astype("float32")

# Rules whose step does not depend on the weight itself.
RULES = {
    "sgd": lambda: keras.optimizers.SGD(0.05),
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "nesterov": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.02),
    "amsgrad": lambda: keras.optimizers.Adam(0.02, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(0.02, weight_decay=0.1),
    "nadam": lambda: keras.optimizers.Nadam(0.02),
    "adamax": lambda: keras.optimizers.Adamax(0.02),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.02),
    "adagrad": lambda: keras.optimizers.Adagrad(0.05),
    "adadelta": lambda: keras.optimizers.Adadelta(1.0),
    "lion": lambda: keras.optimizers.Lion(0.01),
    "clipnorm": lambda: keras.optimizers.Adam(0.02, clipnorm=0.1),
    "global_clipnorm": lambda: keras.optimizers.SGD(0.2, global_clipnorm=0.1),
    "clipvalue": lambda: keras.optimizers.SGD(0.2, clipvalue=0.05),
    "schedule": lambda: keras.optimizers.Adam(
        keras.optimizers.schedules.ExponentialDecay(0.05, 2, 0.5)
    ),
}


def linear(alpha):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((5,)), PowerpropDense(3, alpha=alpha, use_bias=False)]
    )


def oracle(rule, alpha, steps, mask=None):
    """theta after steps of MSE, every equation written out in NumPy.

    The step of the rule is that of the stock optimizer on a variable that is
    always put back to 0, so that nothing but the gradient of w goes in.
    """
    theta = np.array(linear(alpha).layers[0].theta, "float64")
    mask = np.ones(theta.shape) if mask is None else mask
    stock = rule()
    decay, stock.weight_decay = stock.weight_decay or 0.0, None
    dummy = keras.Variable(np.zeros(theta.shape, "float32"))
    for _ in range(steps):
        weight = np.sign(theta) * np.abs(theta) ** alpha * mask
        error = X @ weight - Y
        gradient = 2 / error.size * X.T @ error * mask
        rate = float(stock.learning_rate)
        dummy.assign(np.zeros(theta.shape))
        stock.apply([tf.constant(gradient, "float32")], [dummy])
        factor = alpha * np.abs(theta) ** (alpha - 1)
        step = np.array(dummy) * factor - rate * decay * theta
        theta = theta + step * mask
    return theta


@pytest.mark.parametrize(
    "name, alpha, jit_compile",
    [(name, 3, False) for name in RULES]
    + [("adam", alpha, False) for alpha in (1, 1.5, 2)]
    + [(name, 2, True) for name in ("momentum", "adamw", "lion", "schedule")],
)
def test_step_is_scaled_not_the_gradient(name, alpha, jit_compile):
    model = linear(alpha)
    model.compile(Powerprop(RULES[name]()), "mse", jit_compile=jit_compile)
    model.fit(X, Y, batch_size=16, epochs=8, verbose=0)
    np.testing.assert_allclose(
        model.layers[0].theta, oracle(RULES[name], alpha, 8), atol=3e-6
    )


def adam_step(m, v, step):
    """Kingma & Ba, end of section 2: epsilon is not bias-corrected."""
    correction = np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
    return correction * m / (np.sqrt(v) + 1e-7)


def test_adam_by_its_equations():
    """Adam itself in float64, from Kingma & Ba, on the weight's gradient."""
    alpha, rate = 3, 0.02
    theta = np.array(linear(alpha).layers[0].theta, "float64")
    m = v = 0.0
    for step in range(1, 9):
        error = X @ (np.sign(theta) * np.abs(theta) ** alpha) - Y
        gradient = 2 / error.size * X.T @ error
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        u = -adam_step(m, v, step) * rate
        theta = theta + alpha * np.abs(theta) ** (alpha - 1) * u
    model = linear(alpha)
    model.compile(Powerprop(keras.optimizers.Adam(rate)), "mse")
    model.fit(X, Y, batch_size=16, epochs=8, verbose=0)
    np.testing.assert_allclose(model.layers[0].theta, theta, atol=3e-6)


def test_plain_sgd_needs_nothing():
    """Without the wrapper SGD follows the gradient of theta."""
    theta = np.array(linear(2).layers[0].theta, "float64")
    for _ in range(5):
        error = X @ (theta * np.abs(theta)) - Y
        gradient = 2 / error.size * X.T @ error
        theta = theta - 0.05 * gradient * 2 * np.abs(theta)
    model = linear(2)
    model.compile(keras.optimizers.SGD(0.05), "mse")
    model.fit(X, Y, batch_size=16, epochs=5, verbose=0)
    np.testing.assert_allclose(model.layers[0].theta, theta, atol=1e-6)


def test_gradient_accumulation():
    model = linear(2)
    rule = keras.optimizers.Adam(0.02, gradient_accumulation_steps=2)
    model.compile(Powerprop(rule), "mse")
    model.fit(X, Y, batch_size=8, epochs=6, shuffle=False, verbose=0)
    np.testing.assert_allclose(
        model.layers[0].theta, oracle(RULES["adam"], 2, 6), atol=3e-6
    )


def test_mixed_precision_loss_scaling():
    keras.config.set_dtype_policy("mixed_float16")
    model = linear(2)
    rule = keras.optimizers.LossScaleOptimizer(
        Powerprop(keras.optimizers.Adam(0.02)), initial_scale=128.0
    )
    model.compile(rule, "mse")
    model.fit(X, Y, batch_size=16, epochs=8, verbose=0)
    np.testing.assert_allclose(
        model.layers[0].theta, oracle(RULES["adam"], 2, 8), atol=2e-3
    )
    assert model.layers[0].kernel.dtype == "float32"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("momentum", marks=pytest.mark.slow),
        pytest.param("adam", marks=pytest.mark.slow),
        "adamw",
    ],
)
def test_two_replicas(name, two_replicas):
    with two_replicas.scope():
        model = linear(2)
        model.compile(Powerprop(RULES[name]()), "mse")
    model.fit(X, Y, batch_size=16, epochs=4, verbose=0)
    np.testing.assert_allclose(
        model.layers[0].theta, oracle(RULES[name], 2, 4), atol=3e-6
    )


def test_large_kernels_are_fused_to_the_same_numbers():
    """256 x 256 weights take the compiled path; NumPy is the judge."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(8, 256)).astype("float32")
    y = generator.normal(size=(8, 256)).astype("float32")
    model = keras.Sequential(
        [keras.Input((256,)), PowerpropDense(256, alpha=2, use_bias=False)]
    )
    prune(model, 0.3)
    theta = np.array(model.layers[0].theta, "float64")
    mask = model.layers[0].sparse_kernel.backward_mask()
    model.compile(Powerprop(keras.optimizers.AdamW(0.01)), "mse")
    model.fit(x, y, batch_size=8, epochs=5, verbose=0)
    m = v = 0.0
    for step in range(1, 6):
        error = x @ (theta * np.abs(theta) * mask) - y
        gradient = 2 / error.size * x.T @ error * mask
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        u = adam_step(m, v, step)
        change = -0.01 * u * 2 * np.abs(theta) - 0.01 * 0.004 * theta
        theta = theta + change * mask
    np.testing.assert_allclose(model.layers[0].theta, theta, atol=2e-5)


@pytest.mark.parametrize(
    "name, jit_compile",
    [(name, False) for name in RULES]
    + [(name, True) for name in ("adamw", "momentum", "lion")],
)
def test_weights_outside_b_keep_every_bit(name, jit_compile):
    model = linear(2)
    model.compile(Powerprop(RULES[name]()), "mse", jit_compile=jit_compile)
    kernel = model.layers[0].sparse_kernel
    model.fit(X, Y, batch_size=4, epochs=2, verbose=0)  # momentum everywhere
    prune(model, 0.4)
    before, outside = np.array(kernel.theta), ~kernel.backward_mask()
    model.fit(X, Y, batch_size=4, epochs=5, verbose=0)
    after = np.array(kernel.theta)
    np.testing.assert_array_equal(
        before[outside].view("uint32"), after[outside].view("uint32")
    )
    assert (before[~outside] != after[~outside]).any()


def test_averages_move_nothing_outside_b():
    model = linear(2)
    rule = keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.9)
    model.compile(Powerprop(rule), "mse")
    kernel = model.layers[0].sparse_kernel
    model.fit(X, Y, epochs=2, verbose=0)
    prune(model, 0.4)
    before, outside = np.array(kernel.theta), ~kernel.backward_mask()
    model.fit(X, Y, epochs=3, verbose=0)
    after = np.array(kernel.theta)
    np.testing.assert_array_equal(before[outside], after[outside])
    assert (before[~outside] != after[~outside]).any()


def test_ema_ends_on_the_average():
    model, reference = linear(2), linear(2)
    rule = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    model.compile(Powerprop(rule), "mse")
    reference.compile(keras.optimizers.SGD(0.1), "mse")
    average = None
    for _ in range(3):
        reference.fit(X, Y, batch_size=16, verbose=0)
        theta = np.array(reference.layers[0].theta)
        # The first step sets the average.
        average = theta if average is None else (average + theta) / 2
    model.fit(X, Y, batch_size=16, epochs=3, verbose=0)
    np.testing.assert_allclose(model.layers[0].theta, average, atol=1e-6)


def test_users_own_exclusions_from_decay_hold():
    model = linear(2)
    model.layers[0].bias = None
    rule = Powerprop(keras.optimizers.AdamW(0.01, weight_decay=0.5))
    rule.exclude_from_weight_decay(var_names=["kernel"])
    model.compile(rule, "mse")
    model.fit(X, Y, batch_size=16, epochs=4, verbose=0)
    plain = lambda: keras.optimizers.Adam(0.01)  # noqa: E731
    np.testing.assert_allclose(
        model.layers[0].theta, oracle(plain, 2, 4), atol=3e-6
    )


@pytest.mark.parametrize("name", ["momentum", "adamw", "schedule", "nadam"])
def test_saved_and_continued_is_not_interrupted(name, tmp_path):
    def fit(model, epochs):
        model.fit(X, Y, batch_size=4, shuffle=False, epochs=epochs, verbose=0)

    whole, half = linear(2), linear(2)
    for model in (whole, half):
        model.compile(Powerprop(RULES[name]()), "mse")
    fit(whole, 4)
    fit(half, 2)
    half.save(tmp_path / "half.keras")
    loaded = keras.models.load_model(tmp_path / "half.keras")
    assert type(loaded.optimizer) is type(whole.optimizer)
    fit(loaded, 2)
    assert_same_state(whole, loaded)


def test_a_model_is_saved_before_its_first_step(tmp_path):
    model = linear(2)
    model.compile(Powerprop("adam"), "mse")
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.fit(X, Y, batch_size=16, epochs=2, verbose=0)
    assert_same_state(model, loaded)


def test_config_names_the_optimizer_inside():
    rule = Powerprop(keras.optimizers.AdamW(0.5, weight_decay=0.1))
    config = keras.optimizers.serialize(rule)
    assert config["registered_name"] == "keras_sparse_rl>Powerprop"
    copy = keras.optimizers.deserialize(config)
    assert isinstance(copy, keras.optimizers.AdamW)
    assert copy.weight_decay == 0.1 and float(copy.learning_rate) == 0.5


def test_optimizers_of_others():
    class Mine(keras.optimizers.Adam):
        """A rule that this package has never seen."""

    model = linear(2)
    model.compile(Powerprop(Mine(0.02)), "mse")
    model.fit(X, Y, batch_size=16, epochs=3, verbose=0)
    np.testing.assert_allclose(
        model.layers[0].theta, oracle(RULES["adam"], 2, 3), atol=3e-6
    )


def test_learning_rates_of_any_kind():
    class Halving(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.04 * 0.5 ** tf.cast(step, "float32")

    for rate in (Halving(), lambda: tf.constant(0.02)):
        model = linear(2)
        model.compile(Powerprop(keras.optimizers.SGD(rate)), "mse")
        before = np.array(model.layers[0].theta)
        model.fit(X, Y, verbose=0)
        assert (np.array(model.layers[0].theta) != before).any()


def test_variables_the_optimizer_never_saw_are_named():
    model = linear(2)
    model.compile(Powerprop("sgd"), "mse")
    model.optimizer.build([keras.Variable([1.0])])
    with pytest.raises(ValueError, match="built without layer"):
        model.fit(X, Y, callbacks=[TopKAST(0.2)], verbose=0)


def test_models_without_sparse_layers_are_trained_as_ever():
    results = []
    for wrap in (lambda rule: rule, Powerprop):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
        model.compile(wrap(keras.optimizers.AdamW(0.01)), "mse")
        model.fit(X, Y, epochs=3, verbose=0)
        results.append(np.array(model.layers[0].kernel))
    np.testing.assert_array_equal(*results)


def test_custom_loop():
    model, rule = linear(2), Powerprop(keras.optimizers.Adam(0.02))
    variables = model.trainable_variables
    for _ in range(8):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(X, training=True) - Y) ** 2)
        rule.apply(tape.gradient(loss, variables), variables)
    np.testing.assert_allclose(
        model.layers[0].theta, oracle(RULES["adam"], 2, 8), atol=3e-6
    )


@pytest.mark.parametrize("name", ["Ftrl", "ScheduleFreeAdamW"])
def test_rules_without_a_step_are_refused(name):
    if not hasattr(keras.optimizers, name):
        pytest.skip(f"this Keras has no {name}")
    with pytest.raises(ValueError, match=name):
        Powerprop(getattr(keras.optimizers, name)())


def test_what_cannot_be_wrapped_is_refused():
    adam = keras.optimizers.Adam(0.1)
    with pytest.raises(ValueError, match="LossScaleOptimizer"):
        Powerprop(keras.optimizers.LossScaleOptimizer(adam))
    with pytest.raises(ValueError, match="wrapped already"):
        Powerprop(Powerprop("adam"))
    with pytest.raises(TypeError, match=r"Call it: Powerprop\(Adam"):
        Powerprop(keras.optimizers.Adam)
    excluding = keras.optimizers.AdamW()
    excluding.exclude_from_weight_decay(var_names=["bias"])
    with pytest.raises(ValueError, match="on the result"):
        Powerprop(excluding)
    with pytest.raises(TypeError, match="Keras 3 optimizer"):
        Powerprop(tf.compat.v1.train.AdamOptimizer())
    adam.build([keras.Variable([1.0])])
    with pytest.raises(ValueError, match="already been used"):
        Powerprop(adam)
    averaging = keras.optimizers.Adam(use_ema=True, ema_overwrite_frequency=2)
    with pytest.raises(ValueError, match="ema_overwrite_frequency=2"):
        Powerprop(averaging)


def test_warns_once_without_powerprop():
    model = keras.Sequential(
        [keras.Input((5,)), PowerpropDense(4), PowerpropDense(3)]
    )
    model.compile("adam", "mse")
    with pytest.warns(UserWarning, match=r"optimizers\.Powerprop") as caught:
        model.fit(X, Y, epochs=2, verbose=0)
    ours = [w for w in caught if "Powerprop(" in str(w.message)]
    assert len(ours) == 1


@pytest.mark.parametrize(
    "optimizer, alpha",
    [("sgd", 2.0), (Powerprop("adam"), 2.0), ("adam", 1.0)],
    ids=["sgd", "powerprop", "alpha one"],
)
def test_no_warning_where_none_is_due(optimizer, alpha, recwarn):
    model = linear(alpha)
    model.compile(optimizer, "mse")
    model.fit(X, Y, verbose=0)
    assert not [w for w in recwarn if "Powerprop(" in str(w.message)]


def test_slots_are_found_by_identity_not_by_name():
    """Layer "b_c" and kernel "c" of a layer "b" would share a name."""
    inputs = keras.Input((5,))
    x = PowerpropDense(5, name="b_theta")(inputs)
    outputs = PowerpropDense(5, name="b")(x)
    model = keras.Model(inputs, outputs)
    model.compile(Powerprop("adam"), "mse")
    model.optimizer.build(model.trainable_variables)
    slots = [
        model.optimizer.sparse_kernel_slots(layer.sparse_kernel)
        for layer in model.layers[1:]
    ]
    assert [sorted(s) for s in slots] == [["momentum", "velocity"]] * 2
    assert len({id(v) for s in slots for v in s.values()}) == 4


def test_penalty_is_a_decoupled_decay():
    """In A by the rate, in B \\ A by rate / D, elsewhere nothing."""
    model = keras.Sequential(
        [keras.Input((5,)), PowerpropDense(4, alpha=2, use_bias=False)]
    )
    model.compile(Powerprop(keras.optimizers.SGD(0.5)), "mse")
    kernel = model.layers[0].sparse_kernel
    before = np.array(kernel.theta, "float64")
    # Inputs of 0 leave no gradient: only the penalty acts.
    x, y = np.zeros((4, 5)), np.zeros((4, 4))
    callback = TopKAST(0.25, 0.5, refresh_every=1000, penalty=0.1)
    history = model.fit(x, y, batch_size=4, callbacks=[callback], verbose=0)
    magnitude = np.sort(np.abs(before).ravel())[::-1]
    a = np.abs(before) >= magnitude[4]
    b = np.abs(before) >= magnitude[9]
    rates = 0.5 * 0.1 * (a + (b & ~a) / 0.25)
    after = before * (1 - rates)
    np.testing.assert_allclose(kernel.theta, after, rtol=1e-6)
    square = after**2
    expected = 0.1 / 2 * (square[a].sum() + square[b & ~a].sum() / 0.25)
    np.testing.assert_allclose(
        history.history["penalty"], [expected], rtol=1e-6
    )
