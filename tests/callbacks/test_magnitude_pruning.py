"""Zhu & Gupta's schedule, one shot, and the callback everywhere in fit."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.callbacks import MagnitudePruning
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.sparsity import ConstantSchedule
from keras_sparse_rl.sparsity import PolynomialSchedule
from tests.callbacks.network import compiled
from tests.callbacks.network import fit
from tests.callbacks.network import network
from tests.callbacks.network import top
from tests.same_state import assert_same_state

SCHEDULE = PolynomialSchedule(0.1, begin_step=2, end_step=20)


def test_gradual_magnitude_pruning():
    model = compiled(keras.optimizers.SGD(0.1))
    schedule = PolynomialSchedule(0.1, begin_step=4, end_step=16)
    masks = []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            step = int(self.model.optimizer.iterations)
            kernel = sparse_kernels(self.model)[0]
            masks.append(kernel.forward_mask())
            last = max(4, min(16, step // 4 * 4)) if step >= 4 else None
            count = 200 if last is None else round(200 * schedule(last))
            assert masks[-1].sum() == count, step

    callback = MagnitudePruning(schedule, refresh_every=4)
    history = fit(model, [callback, Watch()], epochs=3).history
    assert history["forward_density"][-1] == pytest.approx(0.1)
    for earlier, later in zip(masks, masks[1:]):
        assert not (later & ~earlier).any()


def test_says_when_a_schedule_is_over_or_not_reached():
    model = compiled()
    fit(model, [], epochs=1)
    schedule = PolynomialSchedule(0.5, begin_step=0, end_step=4)
    with pytest.warns(UserWarning, match="8 steps, and the schedule ends at"):
        fit(model, MagnitudePruning(schedule, refresh_every=2), epochs=1)
    schedule = PolynomialSchedule(0.1, begin_step=16, end_step=100)
    with pytest.warns(UserWarning, match="Training ends with a density of 0.5"):
        fit(model, MagnitudePruning(schedule, refresh_every=2), epochs=1)


def test_says_when_an_earlier_epoch_was_restored():
    model = compiled()
    schedule = PolynomialSchedule(0.1, begin_step=0, end_step=16)
    worse = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: logs.update(score=-epoch)
    )
    stop = keras.callbacks.EarlyStopping(
        "score", mode="max", patience=1, restore_best_weights=True
    )
    pruning = MagnitudePruning(schedule, refresh_every=2)
    with pytest.warns(UserWarning, match="EarlyStopping restored"):
        fit(model, [worse, stop, pruning], epochs=4)


def test_magnitude_pruning_in_one_shot():
    model = compiled()
    weight = np.abs(np.array(sparse_kernels(model)[0].theta))
    fit(model, MagnitudePruning(0.25), epochs=1)
    np.testing.assert_array_equal(
        sparse_kernels(model)[0].forward_mask(), top(weight, 50)
    )


def test_magnitude_pruning_with_any_optimizer():
    model = network(alpha=1)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(True))
    schedule = PolynomialSchedule(0.2, begin_step=0, end_step=20)
    for scope, densities in (("global", "uniform"), ("layer", "erk")):
        callback = MagnitudePruning(schedule, 2, scope, densities)
        history = fit(model, callback, epochs=3).history
        final = history["forward_density"][-1]
        assert final == pytest.approx(0.2, abs=0.01)


def test_magnitude_pruning_by_layer():
    model = compiled()
    schedule = PolynomialSchedule(0.1, begin_step=0, end_step=8)
    callback = MagnitudePruning(schedule, 2, densities={"logits": 1.0})
    fit(model, callback, epochs=2)
    counts = [k.forward_mask().sum() for k in sparse_kernels(model)]
    assert counts == [20, 80]


def test_magnitude_pruning_refuses():
    with pytest.raises(ValueError, match="schedule=2"):
        MagnitudePruning(2)
    with pytest.raises(ValueError, match="scope='all'"):
        MagnitudePruning(0.1, scope="all")
    with pytest.raises(ValueError, match="no layer has a density"):
        MagnitudePruning(0.1, scope="global", densities="erk")


@pytest.mark.parametrize(
    "schedule", [0.25, ConstantSchedule(0.25), SCHEDULE], ids=str
)
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_trained_model_is_pruned_too(schedule, scope):
    """Its optimizer is past every step of the schedule."""
    model = compiled()
    fit(model, [], epochs=3)
    callback = MagnitudePruning(schedule, scope=scope)
    history = fit(model, callback, epochs=1).history
    expected = 0.1 if schedule is SCHEDULE else 0.25
    assert history["forward_density"] == [pytest.approx(expected)]


def test_frozen_weights_stay_frozen():
    model = compiled(keras.optimizers.SGD(0.1))
    kernel = sparse_kernels(model)[0]
    used = np.ones(kernel.shape, bool)
    kernel.assign_masks(used, ~used)
    before = np.array(kernel.theta)
    fit(model, MagnitudePruning(0.5), epochs=1)
    assert kernel.forward_mask().sum() == 100
    np.testing.assert_array_equal(kernel.theta, before)


def test_interrupted_and_resumed_is_bit_for_bit_the_same(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def callbacks(*more):
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        return [MagnitudePruning(SCHEDULE, 3), backup, *more]

    with pytest.raises(KeyboardInterrupt):
        fit(compiled(), callbacks(Stop()))
    resumed, whole = compiled(), compiled()
    fit(resumed, callbacks())
    fit(whole, callbacks()[:1])
    assert_same_state(whole, resumed)


def test_two_replicas_prune_the_same(two_replicas):
    results = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = compiled(keras.optimizers.SGD(0.05))
        fit(model, MagnitudePruning(SCHEDULE, 3))
        results.append([k.forward_mask() for k in sparse_kernels(model)])
    for a, b in zip(*results):
        np.testing.assert_array_equal(a, b)


def test_steps_per_execution_and_accumulation():
    rule = keras.optimizers.Adam(0.05, gradient_accumulation_steps=2)
    model = compiled(rule, steps_per_execution=4)
    # Keras counts an iteration for every second batch: 12 in all.
    schedule = PolynomialSchedule(0.1, begin_step=0, end_step=10)
    history = fit(model, MagnitudePruning(schedule, 2)).history
    assert history["forward_density"][-1] == pytest.approx(0.1)
    assert history["forward_density"][0] > 0.1


def test_reported_in_tensorboard(tmp_path):
    board = keras.callbacks.TensorBoard(tmp_path, profile_batch=0)
    history = fit(compiled(), [MagnitudePruning(SCHEDULE, 3), board]).history
    assert len(history["mask_churn"]) == 3
    tags = set()
    for path in tmp_path.rglob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags.update(value.tag for value in event.summary.value)
    assert "epoch_forward_density" in tags
