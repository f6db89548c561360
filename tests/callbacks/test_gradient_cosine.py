"""GradientCosine in `fit`: equal to separate losses, and in every setting."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.callbacks import GradientCosine
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.optimizers import Powerprop

RATE = 0.1


def build(form="dict", regularized=True, dense=keras.layers.Dense):
    """Two tasks on a shared trunk, each with a head of its own."""
    keras.utils.set_random_seed(3)
    penalty = keras.regularizers.L2(0.1) if regularized else None
    inputs = keras.Input((4,))
    trunk = dense(5, "tanh", name="trunk", kernel_regularizer=penalty)
    shared = trunk(inputs)
    heads = [
        keras.layers.Dense(1, name="near", kernel_regularizer=penalty)(shared),
        keras.layers.Dense(3, name="far", kernel_regularizer=penalty)(shared),
    ]
    if form == "dict":
        heads = {"near": heads[0], "far": heads[1]}
    if form == "nested":
        inside = keras.Model(inputs, heads, name="inside")
        again = keras.Input((4,))
        near, far = inside(again)
        same = [
            keras.layers.Identity(name=name)(x)
            for name, x in (("near", near), ("far", far))
        ]
        return keras.Model(again, same)
    return keras.Model(inputs, heads)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inside = build()

    def call(self, x):  # without `training`
        return self.inside(x)


def data(number=16, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(number, 4)).astype("float32")
    near = x[:, :1] - x[:, 1:2] ** 2
    far = generator.integers(0, 3, number)
    return x, {"near": near, "far": far}


LOSSES = {
    "near": "mse",
    "far": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
}
WEIGHTS = {"near": 0.7, "far": 1.9}


def compiled(model=None, optimizer=None, **arguments):
    model = model or build()
    # As by hand: no optimizer state but the step.
    optimizer = optimizer or keras.optimizers.SGD(RATE)
    model.compile(optimizer, LOSSES, loss_weights=WEIGHTS, **arguments)
    return model


def place(variable):
    """Layer and name, the same in all forms of the model."""
    return "/".join(variable.path.split("/")[-2:])


def assert_weights(model, expected, **tolerance):
    tolerance = tolerance or dict(atol=2e-7, rtol=1e-6)
    found = {place(v): v for v in model.trainable_variables}
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, **tolerance)


def by_hand(model, x, y, sample_weight=None, mode="weighted"):
    """One step from losses written out, each with a tape of its own."""
    variables = model.trainable_variables

    def loss(name):
        output = model(x)[name]
        if name == "near":
            each = tf.reduce_mean((output - y["near"]) ** 2, axis=-1)
        else:
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(
                y["far"], output
            )
        weight = 1.0 if sample_weight is None else sample_weight[name]
        return WEIGHTS[name] * tf.reduce_mean(weight * each)

    def gradient(function):
        with tf.GradientTape() as tape:
            value = function()
        return [
            None if g is None else np.asarray(tf.convert_to_tensor(g), "f8")
            for g in tape.gradient(value, variables)
        ]

    near, far = gradient(lambda: loss("near")), gradient(lambda: loss("far"))
    rest = gradient(lambda: tf.add_n(model.losses or [tf.zeros(())]))
    main = [
        a if b is None else (b if a is None else a + b)
        for a, b in zip(near, rest)
    ]
    shared = [a is not None and b is not None for a, b in zip(near, far)]
    a, b = (
        np.concatenate([g.ravel() for g, s in zip(part, shared) if s])
        for part in (main, far)
    )
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    weight = max(0.0, cosine) if mode == "weighted" else float(cosine > 0)
    new = {}
    for variable, m, f, s in zip(variables, main, far, shared):
        total = 0 if m is None else m
        if f is not None:
            total = total + (weight if s else 1.0) * f
        new[place(variable)] = variable.numpy() - RATE * total
    return new, cosine, weight


FORMS = {
    "dict": build,
    "list": lambda: build("list"),
    "nested": lambda: build("nested"),
    "subclassed": Subclassed,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", ["weighted", "unweighted"])
def test_a_step_equals_separate_losses(form, mode):
    x, y = data()
    reference = build()
    expected, cosine, weight = by_hand(reference, x, y, mode=mode)
    model = compiled(FORMS[form]())
    history = model.fit(
        x,
        y,
        batch_size=16,
        verbose=0,
        callbacks=[GradientCosine("near", ["far"], mode)],
    ).history
    assert_weights(model, expected)
    assert history["cosine_far"][0] == pytest.approx(cosine, abs=1e-6)
    assert history["weight_far"][0] == pytest.approx(weight, abs=1e-6)
    plain = compiled(FORMS[form](), run_eagerly=True)
    plain = plain.fit(x, y, batch_size=16, verbose=0).history
    assert set(history) - set(plain) == {"cosine_far", "weight_far"}
    for key in plain:
        assert history[key][0] == pytest.approx(plain[key][0], rel=1e-5)


def test_sample_weights():
    x, y = data()
    generator = np.random.default_rng(5)
    sample_weight = {
        name: generator.uniform(0, 2, 16).astype("float32") for name in y
    }
    expected, *_ = by_hand(build(), x, y, sample_weight)
    model = compiled()
    model.fit(
        x,
        y,
        16,
        verbose=0,
        sample_weight=sample_weight,
        callbacks=[GradientCosine("near", "far")],
    )
    assert_weights(model, expected)


def test_masks_reach_the_losses():
    def masked():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((None, 2))
        shared = keras.layers.Masking()(inputs)
        shared = keras.layers.LSTM(3, return_sequences=True)(shared)
        model = keras.Model(
            inputs,
            {
                name: keras.layers.Dense(1, name=name)(shared)
                for name in ("a", "b")
            },
        )
        model.compile(keras.optimizers.SGD(RATE), {"a": "mse", "b": "mse"})
        return model

    x = np.random.default_rng(0).normal(size=(4, 6, 2)).astype("float32")
    x[:, 3:] = 0
    y = {name: np.ones((4, 6, 1), "float32") for name in "ab"}
    other = {name: target.copy() for name, target in y.items()}
    for target in other.values():
        target[:, 3:] = 1e3  # behind the mask
    results = []
    for targets in (y, other):
        model = masked()
        model.fit(x, targets, verbose=0, callbacks=[GradientCosine("a", "b")])
        results.append(model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_cosine_of_minus_one_leaves_the_main_loss_alone():
    x, y = data()

    def trained(with_auxiliary):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((4,))
        shared = keras.layers.Dense(3)(inputs)
        scores = keras.layers.Dense(1, name="main")
        outputs = {"main": scores(shared), "against": scores(shared)}
        model = keras.Model(inputs, outputs)
        losses = {"main": "mse"}
        callbacks = []
        if with_auxiliary:
            losses["against"] = lambda target, value: (
                -keras.ops.square(target - value)
            )
            callbacks = [GradientCosine("main", "against")]
        model.compile(keras.optimizers.SGD(RATE), losses)
        targets = {"main": y["near"], "against": y["near"]}
        history = model.fit(
            x,
            {k: targets[k] for k in losses},
            4,
            3,
            verbose=0,
            shuffle=False,
            callbacks=callbacks,
        )
        return model.get_weights(), history.history

    with_it, history = trained(True)
    without, _ = trained(False)
    for a, b in zip(with_it, without, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(history["cosine_against"], -1, atol=1e-5)
    np.testing.assert_array_equal(history["weight_against"], 0)


def test_a_function_of_the_model():
    def size_of_features(model, x, y, y_pred):
        return 0.3 * tf.reduce_mean(model.get_layer("trunk")(x) ** 2)

    x, y = data()
    model = build()
    model.compile(keras.optimizers.SGD(RATE), LOSSES, loss_weights=WEIGHTS)
    history = model.fit(
        x,
        y,
        16,
        2,
        verbose=0,
        callbacks=[GradientCosine("near", ["far", size_of_features])],
    ).history
    assert {"cosine_far", "cosine_size_of_features"} <= set(history)
    assert -1 <= history["cosine_size_of_features"][0] <= 1
    assert "loss_far" not in history
    expected = size_of_features(build(), x, y, None)
    assert history["loss_size_of_features"][0] == pytest.approx(
        float(expected), rel=1e-5
    )
    assert history["loss_size_of_features"][1] < float(expected)


@pytest.mark.parametrize(
    "setting",
    [
        dict(run_eagerly=True),
        dict(jit_compile=True),
        dict(steps_per_execution=2),
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_ways_to_compile_do_the_same(setting):
    x, y = data(32)
    results = []
    for arguments in (dict(jit_compile=False), setting):
        model = compiled(**arguments)
        history = model.fit(
            x,
            y,
            8,
            2,
            verbose=0,
            shuffle=False,
            callbacks=[GradientCosine("near", "far", smoothing=0.5)],
        )
        results.append((model.get_weights(), history.history))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    for key in ("cosine_far", "weight_far", "loss"):
        np.testing.assert_allclose(
            results[0][1][key], results[1][1][key], rtol=1e-4
        )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = build(regularized=False)
    finally:
        keras.config.set_dtype_policy("float32")
    optimizer = keras.optimizers.SGD(RATE)
    if policy == "mixed_float16":
        # The first steps overflow: they must leave no trace but the scale.
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, 2.0**40)
    compiled(model, optimizer)
    x, y = data(64)
    history = model.fit(
        x,
        y,
        8,
        6,
        verbose=0,
        callbacks=[GradientCosine("near", "far", smoothing=0.9)],
    ).history
    assert np.isfinite(history["cosine_far"]).all()
    assert history["loss"][-1] < history["loss"][0]
    if policy == "mixed_float16":
        assert float(optimizer.dynamic_scale) < 2.0**40


def part(x, y, start, stop):
    return x[start:stop], {k: v[start:stop] for k, v in y.items()}


def test_clipping_comes_after_the_gate():
    batch = data(8)
    expected, *_ = by_hand(build(), *batch)
    start = {place(v): v.numpy() for v in build().trainable_variables}
    step = {name: expected[name] - start[name] for name in start}
    length = np.sqrt(sum(np.sum(s**2) for s in step.values())) / RATE
    model = compiled(
        optimizer=keras.optimizers.SGD(RATE, global_clipnorm=float(length / 3))
    )
    model.fit(*batch, 8, verbose=0, callbacks=[GradientCosine("near", "far")])
    third = {name: start[name] + step[name] / 3 for name in start}
    assert_weights(model, third, atol=1e-6)


def test_accumulation_gates_each_batch():
    x, y = data(16)
    first, second = (by_hand(build(), *part(x, y, k, k + 8))[0] for k in (0, 8))
    model = compiled(
        optimizer=keras.optimizers.SGD(RATE, gradient_accumulation_steps=2)
    )
    model.fit(
        x,
        y,
        8,
        verbose=0,
        shuffle=False,
        callbacks=[GradientCosine("near", "far")],
    )
    mean = {name: (first[name] + second[name]) / 2 for name in first}
    assert_weights(model, mean, atol=1e-6)


def test_two_replicas_compare_the_sums(two_replicas):
    x, y = data(32)
    results = []
    for scope in (tf.distribute.get_strategy(), two_replicas):
        with scope.scope():
            model = compiled()
        history = model.fit(
            x,
            y,
            16,
            2,
            verbose=0,
            shuffle=False,
            callbacks=[GradientCosine("near", "far", smoothing=0.5)],
        )
        results.append((model.get_weights(), history.history))
    for a, b in zip(results[0][0], results[1][0], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    for key in ("cosine_far", "weight_far"):
        # A cosine near 0 is the difference of larger numbers.
        np.testing.assert_allclose(
            results[0][1][key], results[1][1][key], rtol=1e-5, atol=1e-6
        )
    # Keras 3.8 itself reports another loss on two replicas.
    losses = []
    for callbacks in ([], [GradientCosine("near", "far")]):
        with two_replicas.scope():
            model = compiled()
        history = model.fit(x, y, 32, verbose=0, callbacks=callbacks)
        losses.append(history.history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_goes_on_after_an_interruption(tmp_path):
    x, y = data(32)

    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if self.at == int(self.model.optimizer.iterations):
                raise KeyboardInterrupt

    def run(stop, folder):
        model = compiled(optimizer=keras.optimizers.Adam(0.01))
        stopper = Stop()
        for stopper.at in stop:
            callbacks = [
                GradientCosine(
                    "near",
                    "far",
                    smoothing=0.9,
                    state_file=tmp_path / f"{folder}.txt",
                ),
                keras.callbacks.BackupAndRestore(tmp_path / folder),
                stopper,
            ]
            try:
                model.fit(
                    x, y, 8, 4, verbose=0, shuffle=False, callbacks=callbacks
                )
            except KeyboardInterrupt:
                model = compiled(optimizer=keras.optimizers.Adam(0.01))
        return model.get_weights()

    whole = run([-1], "whole")
    for a, b in zip(whole, run([10, -1], "broken"), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not list(tmp_path.glob("*.txt"))
    other = compiled(optimizer=keras.optimizers.Adam(0.01))
    other.fit(
        x,
        y,
        8,
        4,
        verbose=0,
        shuffle=False,
        callbacks=[GradientCosine("near", "far")],
    )
    assert any(
        (a != b).any() for a, b in zip(whole, other.get_weights(), strict=True)
    )


def test_an_exception_leaves_nothing_behind():
    x, y = data()

    class Fail(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    def plain():
        model = compiled()
        model.set_weights(start)
        model.fit(x, y, 16, verbose=0)
        return model.get_weights()

    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        model.fit(
            x,
            y,
            16,
            verbose=0,
            callbacks=[GradientCosine("near", "far"), Fail()],
        )
    start = model.get_weights()
    history = model.fit(x, y, 16, verbose=0).history
    assert "cosine_far" not in history
    for a, b in zip(model.get_weights(), plain(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)
    again = GradientCosine("near", "far")
    for _ in range(2):  # the same callback serves again
        history = model.fit(x, y, 16, verbose=0, callbacks=[again]).history
        assert "cosine_far" in history
    assert "cosine_far" not in model.fit(x, y, 16, verbose=0).history


def test_with_sparse_training_tensorboard_and_saving(tmp_path):
    x, y = data(32)
    model = compiled(
        build(regularized=False, dense=PowerpropDense),
        Powerprop(keras.optimizers.Adam(0.01)),
    )
    model.fit(
        x,
        y,
        8,
        2,
        verbose=0,
        validation_data=(x, y),
        callbacks=[
            TopKAST(0.5, refresh_every=2),
            GradientCosine("near", "far"),
            keras.callbacks.TensorBoard(tmp_path / "logs"),
            keras.callbacks.ModelCheckpoint(tmp_path / "model.keras"),
        ],
    )
    kernel = model.get_layer("trunk").kernel
    assert np.count_nonzero(kernel) == 10
    tags = set()
    for path in (tmp_path / "logs").rglob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags |= {value.tag for value in event.summary.value}
    assert {"epoch_cosine_far", "epoch_weight_far"} <= tags
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.save_weights(tmp_path / "all.weights.h5")
    fresh = build(regularized=False, dense=PowerpropDense)
    fresh.load_weights(tmp_path / "all.weights.h5")


class Unbuilt(keras.Model):
    """Knows its variables only after a call; losses with few arguments."""

    def __init__(self):
        super().__init__()
        self.trunk = keras.layers.Dense(5, "tanh")
        self.near = keras.layers.Dense(1)
        self.far = keras.layers.Dense(3)

    def call(self, x):
        x = self.trunk(x)
        return {"near": self.near(x), "far": self.far(x)}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
        return super().compute_loss(x, y, y_pred, sample_weight)


@pytest.mark.parametrize("smoothing", [0.0, 0.5])
def test_models_that_are_built_by_their_first_call(smoothing):
    x, y = data()
    gate = GradientCosine("near", "far", scope="layer", smoothing=smoothing)
    found = []
    for built in (False, True):
        keras.utils.set_random_seed(0)
        model = compiled(Unbuilt())
        if built:
            model(x)
        else:
            keras.utils.set_random_seed(0)
        model.fit(x, y, 8, 2, verbose=0, shuffle=False, callbacks=[gate])
        found.append(model.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_layers_of_one_name_are_gated_apart_and_means_leave_out_heads():
    x, y = data()
    inputs = keras.Input((4,))
    trunks = []
    for _ in range(2):
        inside = keras.Input((4,))
        trunks.append(
            keras.Model(inside, keras.layers.Dense(4, name="same")(inside))
        )
    shared = trunks[1](trunks[0](inputs))
    model = compiled(
        keras.Model(
            inputs,
            {
                "near": keras.layers.Dense(1, name="near")(shared),
                "far": keras.layers.Dense(3, name="far")(shared),
            },
        )
    )
    gate = GradientCosine("near", "far", scope="layer", smoothing=0.5)
    history = model.fit(x, y, 16, verbose=0, callbacks=[gate]).history
    average, steps = (v.numpy() for v in gate.gate.variables)
    assert average.shape == (1, 4) and steps == 1
    assert np.count_nonzero(average) == 2
    assert history["cosine_far"][0] == pytest.approx(
        average[average != 0].mean() / 0.5, rel=1e-5
    )


def test_a_batch_trained_by_another_callback():
    x, y = data(16)
    between = []

    class Extra(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            between.append(
                self.model.train_on_batch(
                    x[:4], {k: v[:4] for k, v in y.items()}, return_dict=True
                )
            )

    history = (
        compiled()
        .fit(
            x,
            y,
            4,
            verbose=0,
            callbacks=[GradientCosine("near", "far"), Extra()],
        )
        .history
    )
    assert "cosine_far" in history
    assert len(between) == 4 and not any("cosine_far" in b for b in between)


def test_a_main_loss_that_is_added_by_a_layer():
    class Reconstruct(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.back = keras.layers.Dense(4)

        def call(self, x, features):
            self.add_loss(keras.ops.mean((self.back(features) - x) ** 2))
            return features

    x, y = data()
    inputs = keras.Input((4,))
    features = Reconstruct()(inputs, keras.layers.Dense(5)(inputs))
    outputs = {
        "features": keras.layers.Identity(name="features")(features),
        "far": keras.layers.Dense(3, name="far")(features),
    }
    model = keras.Model(inputs, outputs)
    model.compile("sgd", {"far": LOSSES["far"]})
    history = model.fit(
        x,
        {"far": y["far"]},
        16,
        verbose=0,
        callbacks=[GradientCosine("features", "far")],
    ).history
    assert history["cosine_far"][0] != 0


class OwnStep(keras.Model):
    def train_step(self, data):
        return {}


def test_mistakes_are_answered_before_the_first_step():
    x, y = data()

    def fit(model, *callbacks):
        before = model.get_weights()
        try:
            model.fit(x, y, 16, verbose=0, callbacks=list(callbacks))
        finally:
            for a, b in zip(before, model.get_weights(), strict=True):
                np.testing.assert_array_equal(a, b)

    with pytest.raises(ValueError, match="given the output 'for'.*'near'"):
        fit(compiled(), GradientCosine("near", "for"))
    with pytest.raises(ValueError, match="given the output 'nar'"):
        fit(compiled(), GradientCosine("nar", "far"))
    with pytest.raises(ValueError, match="compile"):
        fit(build(), GradientCosine("near", "far"))
    gate = GradientCosine("near", "far")
    with pytest.raises(ValueError, match="Two callbacks"):
        fit(compiled(), gate, GradientCosine("near", "far"))
    fit_model = compiled()
    fit_model.fit(x, y, 16, verbose=0, callbacks=[gate])  # and it still works
    inputs = keras.Input((4,))
    own = OwnStep(inputs, build()(inputs))
    with pytest.raises(ValueError, match="OwnStep .* has one too"):
        fit(compiled(own), gate)

    def constant(model, x, y, y_pred):
        return tf.constant(1.0)

    with pytest.raises(ValueError, match="'constant' has no gradient"):
        fit(compiled(), GradientCosine("near", ["far", constant]))

    def vector(model, x, y, y_pred):
        return y_pred["near"][:, 0]

    with pytest.raises(ValueError, match="'vector' must be a single number"):
        fit(compiled(), GradientCosine("near", ["far", vector]))

    class Pair(Subclassed):
        def call(self, x):
            return list(self.inside(x).values())

    pair = Pair()
    pair.compile("sgd", ["mse", LOSSES["far"]])
    with pytest.raises(ValueError, match="have no names"):
        pair.fit(
            x,
            [y["far"], y["near"]],
            verbose=0,
            callbacks=[GradientCosine("output", constant)],
        )
    patched = compiled()
    patched.train_step = lambda data: {}
    with pytest.raises(ValueError, match="has one too"):
        fit(patched, gate)
    model = build(regularized=False)
    model.compile("sgd", {"far": LOSSES["far"]})
    with pytest.raises(ValueError, match=r"main outputs \['near'\] have no"):
        fit(model, GradientCosine("near", "far"))
    model = build()
    model.compile("sgd", {"near": "mse"})
    with pytest.raises(ValueError, match="'far' has no gradient"):
        fit(model, GradientCosine("near", "far"))
    apart = keras.Model(
        inputs,
        {
            "near": keras.layers.Dense(1)(inputs),
            "far": keras.layers.Dense(3)(inputs),
        },
    )
    with pytest.raises(ValueError, match="'far' shares no trainable"):
        fit(compiled(apart), GradientCosine("near", "far"))


@pytest.mark.parametrize(
    "arguments",
    [
        dict(auxiliary=[]),
        dict(auxiliary=["far", "far"]),
        dict(auxiliary=["near"]),
        dict(auxiliary=[3]),
        dict(auxiliary=None),
    ],
)
def test_bad_auxiliaries(arguments):
    with pytest.raises(ValueError, match="`auxiliary` must list"):
        GradientCosine("near", **arguments)


@pytest.mark.parametrize("main", [None, [], [3], abs])
def test_bad_main(main):
    with pytest.raises(ValueError, match="`main` must be the name"):
        GradientCosine(main, "far")


def test_state_file_without_smoothing():
    with pytest.raises(ValueError, match="`state_file`"):
        GradientCosine("near", "far", state_file="state.txt")
