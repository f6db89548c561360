"""A and B against a NumPy loop, and the callback everywhere in fit."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.optimizers import Powerprop
from tests.callbacks.network import X
from tests.callbacks.network import Y
from tests.callbacks.network import compiled
from tests.callbacks.network import fit
from tests.callbacks.network import network
from tests.callbacks.network import top
from tests.same_state import assert_same_state


def test_sets_are_the_largest_weights_at_each_refresh():
    model = compiled()
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations) % 5 == 0:
                for kernel in sparse_kernels(self.model):
                    weight = np.abs(np.array(kernel.theta)) ** 2
                    size = weight.size
                    used = top(weight, round(0.1 * size))
                    trained = top(weight, round(0.3 * size))
                    mask = np.array(kernel.mask)
                    np.testing.assert_array_equal(mask, used + 2 * trained)
                    seen.append(mask)

    fit(model, [TopKAST(0.1, 0.3, refresh_every=5), Watch()])
    assert len(seen) == 2 * (24 // 5)
    assert any((a != b).any() for a, b in zip(seen[::2], seen[2::2]))


def test_between_refreshes_nothing_outside_b_moves():
    model = compiled(keras.optimizers.SGD(0.1, momentum=0.9))
    fit(model, TopKAST(0.1, 0.2, refresh_every=4), epochs=1)
    kernels = sparse_kernels(model)
    before = [np.array(kernel.theta) for kernel in kernels]
    outside = [~kernel.backward_mask() for kernel in kernels]
    fit(model, TopKAST(0.1, 0.2, refresh_every=10_000), epochs=2)
    for kernel, old, mask in zip(kernels, before, outside):
        new = np.array(kernel.theta)
        np.testing.assert_array_equal(old[mask], new[mask])
        assert (old[~mask] != new[~mask]).any()


def test_weights_that_leave_b_are_forgotten_by_the_optimizer():
    model = compiled(keras.optimizers.Adam(0.1))
    fit(model, TopKAST(0.1, 0.2, refresh_every=1))
    for kernel in sparse_kernels(model):
        slots = model.optimizer.sparse_kernel_slots(kernel)
        assert sorted(slots) == ["momentum", "velocity"]
        for slot in slots.values():
            outside = np.array(slot)[~kernel.backward_mask()]
            assert (outside == 0).all()
            assert (np.array(slot) != 0).any()


def test_end_of_exploration_fixes_a_and_sets_b_to_it():
    model = compiled()
    callback = TopKAST(0.1, 0.4, refresh_every=3, explore_steps=10)
    fit(model, callback, epochs=2)
    fixed = [np.array(k.mask) for k in sparse_kernels(model)]
    assert all(set(np.unique(mask)) == {0, 3} for mask in fixed)
    history = fit(model, callback, epochs=2)
    for kernel, mask in zip(sparse_kernels(model), fixed):
        np.testing.assert_array_equal(kernel.mask, mask)
    assert history.history["mask_churn"] == [0.0, 0.0]
    assert history.history["backward_density"][-1] == pytest.approx(0.1)


def test_random_exploration():
    masks = []
    for seed in (0, 0, 1):
        model = compiled()
        callback = TopKAST(0.1, 0.3, exploration="random", seed=seed)
        fit(model, callback, epochs=1)
        masks.append(np.array(sparse_kernels(model)[0].mask))
        weight = np.abs(np.array(sparse_kernels(network())[0].theta))
        np.testing.assert_array_equal(masks[-1] & 1, top(weight, 20))
        assert np.count_nonzero(masks[-1] & 2) == 60
        assert (masks[-1] & 2 != 2 * top(weight, 60)).any()
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[1] != masks[2]).any()


def test_densities_by_layer_and_erk():
    model = compiled()
    fit(model, TopKAST(0.1, densities={"logits": 0.5}), epochs=1)
    counts = [
        (k.forward_mask().sum(), k.backward_mask().sum())
        for k in sparse_kernels(model)
    ]
    assert counts == [(20, 40), (40, 80)]
    fit(model, TopKAST(0.2, densities={model.layers[0]: 1.0}), epochs=1)
    counts = [k.forward_mask().sum() for k in sparse_kernels(model)]
    assert counts == [200, 16]
    history = fit(model, TopKAST(0.2, 0.5, densities="erk"), epochs=1)
    # 30 / 200 and 24 / 80 share 0.2 * 280 weights: scale 56 / 54.
    counts = [k.forward_mask().sum() for k in sparse_kernels(model)]
    assert counts == [round(30 * 56 / 54), round(24 * 56 / 54)]
    backward = history.history["backward_density"][0]
    assert backward == pytest.approx(0.5, abs=0.005)


def test_reported_in_history_and_tensorboard(tmp_path):
    callbacks = [
        TopKAST(0.1, refresh_every=2),
        keras.callbacks.TensorBoard(tmp_path, profile_batch=0),
    ]
    history = fit(compiled(), callbacks, epochs=2).history
    for key in (
        "forward_density",
        "backward_density",
        "mask_churn",
        "penalty",
    ):
        assert len(history[key]) == 2
    assert history["forward_density"][0] == pytest.approx(0.1)
    assert history["backward_density"][0] == pytest.approx(0.2)
    assert 0 < history["mask_churn"][0] < 1
    tags = set()
    for path in tmp_path.rglob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags.update(value.tag for value in event.summary.value)
    assert {"epoch_forward_density", "epoch_mask_churn"} <= tags


def test_shown_in_the_progress_bar(capsys):
    fit(compiled(), TopKAST(0.1), epochs=1, verbose=2)
    assert "forward_density: 0.1" in capsys.readouterr().out


def test_steps_per_execution_and_no_retrace():
    """Refreshes wait for the call to end; the step is traced once."""
    traces = []

    class Count(keras.layers.Layer):
        def call(self, inputs):
            traces.append(1)
            return inputs

    refreshes = []

    class Watched(TopKAST):
        def refresh(self, step):
            refreshes.append(step)
            super().refresh(step)

    model = keras.Sequential([keras.Input((10,)), Count(), *network().layers])
    compiled(model=model, steps_per_execution=4)
    traces.clear()
    callback = Watched(0.1, refresh_every=3)
    fit(model, callback, epochs=1)
    first = len(traces)
    fit(model, callback, epochs=2)
    assert refreshes == [0, 4, 8, 12, 16, 20, 24]
    assert len(traces) == first


def test_gradient_accumulation():
    rule = keras.optimizers.Adam(0.05, gradient_accumulation_steps=4)
    model = compiled(rule)
    before = [np.array(k.theta) for k in sparse_kernels(model)]
    # Keras counts an iteration for every fourth batch: the last is 4.
    fit(model, TopKAST(0.1, 0.2, refresh_every=2), epochs=2)
    for kernel, old in zip(sparse_kernels(model), before):
        weight = np.abs(np.array(kernel.theta))
        np.testing.assert_array_equal(
            kernel.forward_mask(), top(weight, round(0.1 * weight.size))
        )
        assert (np.array(kernel.theta) != old).any()


@pytest.mark.parametrize("exploration", ["largest", "random"])
def test_interrupted_and_resumed_is_bit_for_bit_the_same(exploration, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def callbacks(*more):
        return [
            TopKAST(0.1, 0.3, refresh_every=5, exploration=exploration),
            keras.callbacks.BackupAndRestore(tmp_path / "backup"),
            *more,
        ]

    model = compiled()
    with pytest.raises(KeyboardInterrupt):
        fit(model, callbacks(Stop()), epochs=4)
    resumed = compiled()
    fit(resumed, callbacks(), epochs=4)
    whole = compiled()
    fit(whole, callbacks()[:1], epochs=4)
    assert int(resumed.optimizer.iterations) == 32
    assert_same_state(whole, resumed)


def test_saved_and_continued_is_bit_for_bit_the_same(tmp_path):
    callback = TopKAST(0.1, 0.3, refresh_every=5)
    whole, half = compiled(), compiled()
    fit(whole, callback, epochs=2)
    fit(half, callback, epochs=1)
    half.save(tmp_path / "half.keras")
    loaded = keras.models.load_model(tmp_path / "half.keras")
    fit(loaded, TopKAST(0.1, 0.3, refresh_every=5), epochs=1)
    assert_same_state(whole, loaded)


def test_two_replicas_choose_the_same_masks(two_replicas):
    results = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = compiled(keras.optimizers.SGD(0.05, momentum=0.9))
        fit(model, TopKAST(0.1, 0.3, refresh_every=3), epochs=2)
        results.append([np.array(w) for w in model.weights])
        if strategy is two_replicas:
            for kernel in sparse_kernels(model):
                copies = [np.array(v) for v in kernel.mask.value.values]
                np.testing.assert_array_equal(*copies)
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    model = compiled()
    history = fit(model, TopKAST(0.2, refresh_every=3), epochs=3)
    assert np.isfinite(history.history["loss"]).all()
    assert history.history["forward_density"][-1] == pytest.approx(0.2)
    assert max(history.history["mask_churn"]) > 0


def test_xla():
    model = compiled(jit_compile=True)
    history = fit(model, TopKAST(0.2, refresh_every=3), epochs=2)
    assert history.history["loss"][-1] < history.history["loss"][0]


def test_subclassed_and_nested_models():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.body = network()
            self.head = PowerpropDense(4)

        def call(self, x, training=False):
            return self.head(self.body(x, training=training))

    subclassed = Subclassed()
    subclassed(X)
    nested = keras.Sequential(
        [keras.Input((10,)), network(), PowerpropDense(4)]
    )
    for model in (subclassed, nested):
        fit(compiled(model=model), TopKAST(0.1, refresh_every=3), epochs=1)
        kernels = sparse_kernels(model)
        counts = [kernel.forward_mask().sum() for kernel in kernels]
        assert sorted(counts) == [2, 8, 20]


def test_several_callbacks_together(tmp_path):
    callbacks = [
        TopKAST(0.2, refresh_every=3),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.ReduceLROnPlateau("loss", patience=1),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", "loss"),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    model = compiled(keras.optimizers.Adam(0.01))
    fit(model, callbacks, epochs=2)
    assert "mask_churn" in (tmp_path / "log.csv").read_text()
    loaded = keras.models.load_model(tmp_path / "best.keras")
    assert sparse_kernels(loaded)[0].forward_mask().sum() == 40


def test_custom_loop_equals_fit():
    whole = compiled()
    fit(whole, TopKAST(0.1, 0.3, refresh_every=5), epochs=2)
    model = compiled()
    callback = TopKAST(0.1, 0.3, refresh_every=5)
    variables = model.trainable_variables
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4).repeat(2)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(y=y, y_pred=model(x, training=True))
        model.optimizer.apply(tape.gradient(loss, variables), variables)

    callback.start(model)
    for x, y in data:
        step(x, y)
        callback.update()
    callback.finish()
    for a, b in zip(whole.weights, model.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_after_training_the_penalty_is_off():
    model = compiled()
    fit(model, TopKAST(0.1, penalty=0.5), epochs=1)
    assert (np.array(model.optimizer.penalties) == 0).all()


def test_the_penalty_is_not_saved(tmp_path):
    path = tmp_path / "best.keras"
    checkpoint = keras.callbacks.ModelCheckpoint(path, "loss")
    fit(compiled(), [TopKAST(0.1, penalty=0.5), checkpoint], epochs=1)
    loaded = keras.models.load_model(path)
    assert (np.array(loaded.optimizer.penalties) == 0).all()
    assert any(np.any(v) for v in loaded.optimizer.variables)


def test_frozen_layers_are_left_alone():
    model = network()
    model.layers[0].trainable = False
    before = np.array(model.layers[0].theta)
    fit(compiled(model=model), TopKAST(0.1, refresh_every=3), epochs=1)
    np.testing.assert_array_equal(before, model.layers[0].theta)
    first, second = sparse_kernels(model)
    assert first.forward_mask().all()
    assert second.forward_mask().sum() == 8


def test_learns_at_a_quarter_of_the_weights():
    """Four Gaussian blobs: the sparse network is nearly as good as dense."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(4, 10)) * 2
    y = generator.integers(0, 4, 2000)
    x = (centres[y] + generator.normal(size=(2000, 10))).astype("float32")
    accuracies = []
    for callbacks in ([], [TopKAST(0.25, refresh_every=20)]):
        model = network()
        model.compile(
            Powerprop("adam"),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        model.fit(x, y, epochs=5, callbacks=callbacks, verbose=0)
        accuracies.append(model.evaluate(x, y, verbose=0)[1])
    assert accuracies[0] > 0.95
    assert accuracies[1] > accuracies[0] - 0.03


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"forward_density": 0}, "forward_density=0"),
        ({"forward_density": 1.5}, "forward_density=1.5"),
        ({"backward_density": 0.05}, "backward_density=0.05"),
        ({"refresh_every": 0}, "refresh_every=0"),
        ({"refresh_every": 1.5}, "refresh_every=1.5"),
        ({"penalty": -1}, "penalty=-1"),
        ({"explore_steps": -1}, "explore_steps=-1"),
        ({"densities": "best"}, "densities='best'"),
        ({"exploration": "gradient"}, "exploration='gradient'"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_arguments(arguments, match):
    with pytest.raises(ValueError, match=match):
        TopKAST(**{"forward_density": 0.1, **arguments})


def test_models_that_cannot_be_trained_sparse():
    model = keras.Sequential([keras.Input((10,)), keras.layers.Dense(4)])
    with pytest.raises(ValueError, match="sparsify"):
        fit(compiled(model=model), TopKAST(0.1))
    model = network()
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match=r"Powerprop\(keras.optimizers.Adam"):
        fit(model, TopKAST(0.1))
    with pytest.raises(ValueError, match="'nowhere'.*'hidden'"):
        fit(compiled(), TopKAST(0.1, densities={"nowhere": 0.5}))
    with pytest.raises(ValueError, match="Compile the model"):
        TopKAST(0.1).start(network())
    model.compile(keras.optimizers.Ftrl(), "mse")
    with pytest.raises(ValueError, match="Ftrl cannot be made right"):
        fit(model, TopKAST(0.1))
    model = network()
    model.trainable = False
    with pytest.raises(ValueError, match="trainable=False"):
        fit(compiled(model=model), TopKAST(0.1))
