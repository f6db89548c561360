"""No forgetting, bit for bit; masks against NumPy; files, resume, fit."""

import keras
import numpy as np
import pytest

from keras_sparse_rl.continual import EfficientPackNet
from keras_sparse_rl.continual import PackNet
from keras_sparse_rl.continual import TaskModel
from keras_sparse_rl.kernels import kernel_of
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import densify
from keras_sparse_rl.sparsity import sparsify
from tests.same_state import assert_same_state

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(64, 8)).astype("float32")
RULES = {
    "adamw": lambda: keras.optimizers.AdamW(0.05, weight_decay=0.1),
    "momentum": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(0.1, 16),
        momentum=0.9,
        weight_decay=0.1,
    ),
}


def labels(task):
    return (X[:, task] > 0).astype("int32")


def network(alpha=2.0):
    """Hidden kernels are shared; normalization and head are a task's own."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8,)),
            PowerpropDense(12, activation="relu", alpha=alpha, name="first"),
            keras.layers.BatchNormalization(),
            PowerpropDense(
                10,
                activation="relu",
                alpha=alpha,
                kernel_regularizer=keras.regularizers.L2(1e-3),
                name="second",
            ),
            keras.layers.Dense(2, name="head"),
        ]
    )


def compiled(model=None, rule="adamw", run_eagerly=True, **arguments):
    """Eager: the few steps of most tests take less than tracing them."""
    model = model or TaskModel(network())
    model.compile(
        Powerprop(RULES[rule]()),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        run_eagerly=run_eagerly,
        **arguments,
    )
    return model


def efficient(task, **arguments):
    data = (X, labels(task))
    arguments = {"densities": [0.1, 0.2, 0.4], "tolerance": 0.1, **arguments}
    return EfficientPackNet(f"task{task}", data, **arguments)


def packnet(task, **arguments):
    return PackNet(f"task{task}", 3, **arguments)


def learn(model, callback, task, epochs=4, more=(), **arguments):
    arguments = {"batch_size": 16, "shuffle": False, "verbose": 0, **arguments}
    callbacks = [*more, callback]
    return model.fit(
        X, labels(task), epochs=epochs, callbacks=callbacks, **arguments
    )


@pytest.fixture(scope="module")
def learned():
    """A model of two tasks, what it said after each, and the callbacks."""
    keras.utils.set_random_seed(0)
    model = compiled(run_eagerly=False)
    outputs, callbacks = [], []
    for task in range(2):
        callbacks.append(efficient(task))
        learn(model, callbacks[-1], task, epochs=20)
        outputs.append(np.array(model(X)))
    return model, outputs, callbacks


@pytest.mark.parametrize(
    "method, rule",
    [
        (lambda task: efficient(task, retrain_epochs=task), "momentum"),
        pytest.param(
            lambda task: packnet(task, retrain_epochs=2),
            "adamw",
            marks=pytest.mark.slow,
        ),
    ],
    ids=["efficient", "packnet"],
)
def test_old_outputs_are_bit_identical(method, rule):
    model = compiled(rule=rule)
    outputs = []
    for task in range(3):
        learn(model, method(task), task)
        outputs.append(np.array(model(X)))
        assert model.task == f"task{task}"
    assert (outputs[0] != outputs[1]).any()
    for task, old in enumerate(outputs):
        model.use_task(f"task{task}")
        np.testing.assert_array_equal(old, model(X))
    densify(model.network)
    np.testing.assert_allclose(
        outputs[2], model.network(X), rtol=1e-5, atol=1e-6
    )


def test_two_tasks_are_learned(learned):
    """Each is a sign of one input: chance is a half."""
    model, outputs, _ = learned
    for task, old in enumerate(outputs):
        model.use_task(f"task{task}")
        # After clear_session too: the memory is NumPy's.
        logits = np.array(model(X))
        np.testing.assert_array_equal(old, logits)
        assert (logits.argmax(-1) == labels(task)).mean() > 0.85
    assert model.task_summary()[-1]["capacity"] < 0.8


def test_packnet_gives_each_task_the_largest_of_what_is_free():
    model = compiled()
    owned = [np.zeros(k.shape, bool) for k in model.kernels.values()]
    for task in range(3):
        trained = []

        class Look(keras.callbacks.Callback):
            def on_train_end(self, logs=None, trained=trained):
                trained += [k.weight() for k in self.model.kernels.values()]

        learn(model, packnet(task), task, epochs=1, more=[Look()])
        for kernel, weight, old in zip(model.kernels.values(), trained, owned):
            mask = kernel.forward_mask()
            new = mask & ~old
            assert (mask >= old).all()
            assert new.sum() == round((~old).sum() / (3 - task))
            rest = ~mask
            if rest.any():
                assert abs(weight[new]).min() >= abs(weight[rest]).max()
            old |= mask
    assert model.task_summary()[-1]["capacity"] == 1.0
    assert [r["density"] for r in model.task_summary()] == pytest.approx(
        [1 / 3, 2 / 3, 1], abs=0.01
    )
    with pytest.raises(ValueError, match="num_tasks=3 shares"):
        learn(model, packnet(4), 1)


def test_only_free_weights_are_trained_and_all_are_used():
    model = compiled()
    learn(model, packnet(0), 0)
    owned = list(model.owned_masks().values())
    frozen = [k.weight() for k in model.kernels.values()]
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            for kernel, old in zip(self.model.kernels.values(), owned):
                np.testing.assert_array_equal(kernel.mask, np.where(old, 1, 3))
            seen.append(epoch)

    learn(model, packnet(1), 1, more=[Look()])
    assert len(seen) == 4
    for kernel, old, before in zip(model.kernels.values(), owned, frozen):
        after = kernel.weight()
        np.testing.assert_array_equal(after[old], before[old])
        assert (after[~old] != before[~old]).mean() > 0.9


def test_retraining_moves_what_the_task_keeps_alone():
    model = compiled()
    states = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kernels = self.model.kernels.values()
            states.append([(np.array(k.mask), k.weight()) for k in kernels])

    learn(model, packnet(0, retrain_epochs=2), 0, more=[Look()])
    for first, pruned, last in zip(states[0], states[2], states[3]):
        assert (first[0] == 3).all()
        kept = pruned[0] == 3
        assert kept.mean() == pytest.approx(1 / 3, abs=0.01)
        np.testing.assert_array_equal(pruned[0], last[0])
        np.testing.assert_array_equal(pruned[1][~kept], last[1][~kept])
        assert (pruned[1][kept] != last[1][kept]).any()
    with pytest.raises(ValueError, match="leaves no epoch"):
        learn(model, packnet(1, retrain_epochs=4), 1)


def test_the_search_stops_at_the_first_density_that_does(learned):
    for callback in learned[2]:
        whole = callback.scores[1.0]
        asked = [d for d in callback.scores if d < 1]
        assert asked == sorted(asked)
        assert all(callback.scores[d] < 0.9 * whole for d in asked[:-1])
        assert callback.scores[asked[-1]] >= 0.9 * whole


@pytest.mark.parametrize(
    "scope, arguments",
    [("layer", {}), ("global", {"monitor": "loss", "mode": "min"})],
)
def test_search_keeps_the_largest_weights_of_all(scope, arguments):
    model = compiled()
    callback = efficient(0, scope=scope, tolerance=0.3, **arguments)
    callback.set_model(model)
    masks = list(callback.choose_masks().values())
    kept = list(callback.scores)[-1]
    if arguments:
        assert callback.scores[kept] <= callback.scores[1.0] / 0.7
        found = model.evaluate(X, labels(0), verbose=0)[0]
        assert found == pytest.approx(callback.scores[kept], rel=1e-5)
    weights = [abs(k.weight()) for k in model.kernels.values()]
    if scope == "global":
        masks = [np.concatenate([m.ravel() for m in masks])]
        weights = [np.concatenate([w.ravel() for w in weights])]
    for mask, weight in zip(masks, weights):
        assert mask.sum() == round(kept * mask.size)
        assert weight[mask].min() >= weight[~mask].max()


def test_a_task_starts_as_the_first_did():
    """Own variables, free weights and the optimizer; owned weights stay."""
    model = compiled(rule="momentum")
    initial = [np.array(v) for v in model.network.weights]
    learn(model, efficient(0), 0)
    first = [np.array(v) for v in model.network.weights]
    owned = list(model.owned_masks().values())
    model.start_task("task1")
    for variable, old, begin in zip(model.network.weights, first, initial):
        name, now = variable.path, variable
        if kernel_of(variable) is not None:
            mask = owned.pop(0)
            np.testing.assert_array_equal(
                now, np.where(mask, old, begin), err_msg=name
            )
        elif not name.endswith("mask"):
            np.testing.assert_array_equal(now, begin, err_msg=name)
    steps = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(int(self.model.optimizer.iterations))

    learn(model, efficient(2), 1, epochs=1, more=[Look()])
    assert steps == [1, 2, 3, 4]


@pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
def test_files_hold_all_tasks(learned, ending, tmp_path):
    model, outputs, _ = learned
    model.use_task("task1")
    path = tmp_path / f"model{ending}"
    if ending == ".keras":
        model.save(path)
        loaded = keras.models.load_model(path)
    else:
        model.save_weights(path)
        loaded = compiled()
        loaded.load_weights(path)
    assert loaded.tasks == ["task0", "task1"] and loaded.task == "task1"
    np.testing.assert_array_equal(outputs[1], loaded(X))
    assert loaded.task_summary() == model.task_summary()
    if ending == ".keras":
        learn(loaded, packnet(2), 2)
    for task, old in enumerate(outputs):
        loaded.use_task(f"task{task}")
        np.testing.assert_array_equal(old, loaded(X))


def test_a_model_that_learned_nothing_is_saved_too(tmp_path):
    model = TaskModel(network())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.tasks == [] and loaded.task is None
    np.testing.assert_array_equal(model(X), loaded(X))


def test_interrupted_and_resumed_is_bit_for_bit_the_same(tmp_path):
    """In the second task, after its search."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def make():
        model = compiled()
        learn(model, efficient(0), 0, epochs=1)
        return model

    def run(model, more):
        learn(model, efficient(1, retrain_epochs=3), 1, more=more)

    backup = keras.callbacks.BackupAndRestore
    with pytest.raises(KeyboardInterrupt):
        run(make(), [backup(tmp_path), Stop()])
    resumed, whole = make(), make()
    run(resumed, [backup(tmp_path)])
    run(whole, [])
    assert_same_state(whole, resumed)
    assert whole.task_summary() == resumed.task_summary()


def test_mixed_precision_xla_and_steps_per_execution():
    keras.config.set_dtype_policy("mixed_float16")
    model = compiled(run_eagerly=False, jit_compile=True, steps_per_execution=2)
    outputs = []
    for task in range(2):
        learn(model, efficient(task), task, epochs=1)
        outputs.append(np.array(model(X)))
    model.use_task("task0")
    np.testing.assert_array_equal(outputs[0], model(X))


def test_two_replicas_keep_the_same(two_replicas):
    with two_replicas.scope():
        model = compiled(rule="momentum", run_eagerly=False)
    outputs = []
    for task in range(2):
        learn(model, packnet(task), task, epochs=1)
        outputs.append(model.predict(X, verbose=0))
    model.use_task("task0")
    np.testing.assert_array_equal(outputs[0], model.predict(X, verbose=0))


def test_sparsified_models_with_several_inputs():
    a, b = keras.Input((8,)), keras.Input((8,))
    x = keras.layers.Concatenate()([a, b])
    x = keras.layers.Dense(6, activation="relu")(x)
    plain = keras.Model([a, b], keras.layers.Dense(2)(x))
    sparsify(plain, alpha=1.5, verbose=0)
    model = compiled(TaskModel(plain))
    outputs = []
    for task in range(2):
        callback = PackNet(f"task{task}", 2)
        y = labels(task)
        model.fit([X, X], y, callbacks=[callback], verbose=0)
        outputs.append(np.array(model([X, X])))
    model.use_task("task0")
    np.testing.assert_array_equal(outputs[0], model([X, X]))


def test_wrong_use_is_answered():
    with pytest.raises(ValueError, match="keras.Input"):
        TaskModel(keras.Sequential([PowerpropDense(3)]))
    with pytest.raises(ValueError, match="no sparse layer"):
        TaskModel(keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)]))
    sparse = keras.Sequential([keras.Input((8,)), keras.layers.Dense(8)])
    sparse.add(keras.layers.Dense(2))
    sparsify(sparse, execution="sparse", verbose=0)
    with pytest.raises(ValueError, match="execution='dense'"):
        TaskModel(sparse)
    with pytest.raises(ValueError, match="task=3"):
        PackNet(3, 2)
    with pytest.raises(ValueError, match="tolerance=1"):
        EfficientPackNet("a", (X, X), tolerance=1.0)
    model = compiled()
    with pytest.raises(ValueError, match="task='a'"):
        model.use_task("a")
    with pytest.raises(ValueError, match="no 'f1'"):
        learn(model, efficient(0, monitor="f1"), 0, epochs=1)
    learn(model, packnet(1), 1, epochs=1)
    with pytest.raises(ValueError, match="has been learned"):
        learn(model, packnet(1), 1, epochs=1)
    plain = network()
    plain.compile(Powerprop("adam"), "mse")
    with pytest.raises(TypeError, match="continual.TaskModel"):
        learn(plain, packnet(0), 0)
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="old tasks alone"):
        learn(model, packnet(2), 2)
