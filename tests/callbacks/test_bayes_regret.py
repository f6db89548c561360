"""Excess over Bayes against enumeration, and the callback everywhere."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_sparse_rl.callbacks import BayesRegret
from keras_sparse_rl.meta import tasks

KEYS = ["bayes_excess", "bayes_excess_worst", "bayes_regret"]


def coins(**arguments):
    return tasks.Bernoulli(
        **{"length": 4, "batch_size": 8, "steps_per_epoch": 4, **arguments}
    )


def compiled(task, nested=False, **arguments):
    """A model without memory, quick to compile."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((None, 2)),
            keras.layers.Dense(1),
        ]
    )
    if nested:
        inputs = keras.Input((None, 2))
        model = keras.Model(inputs, {"next": model(inputs)})
    rule = arguments.pop("optimizer", keras.optimizers.SGD(0.1))
    loss = {"next": task.loss} if nested else task.loss
    model.compile(rule, loss, **arguments)
    return model


def fit(model, task, *callbacks, **arguments):
    arguments = {"epochs": 2, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(task, callbacks=list(callbacks), **arguments).history


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1, kernel_initializer="zeros")

    def call(self, x):
        return self.dense(x)


def test_excess_of_a_fair_coin():
    """One who always says 1/2 misses KL(Bayes || 1/2): all of it counted."""
    task = coins()
    model = Subclassed()
    model.compile(keras.optimizers.SGD(0.0), task.loss)
    callback = BayesRegret(task, num_sequences=50)
    history = fit(model, task, callback, epochs=1)
    every = task.held_out(50)
    expected = np.zeros(4)
    for step, sequence in itertools.product(range(4), every):
        heads = sequence[:step].sum()
        p = np.array([1 + heads, 1 + step - heads]) / (2 + step)
        expected[step] += (p * np.log(2 * p)).sum() / 50
    np.testing.assert_allclose(callback.excess, expected, atol=1e-9)
    figures = [expected.mean(), expected.max(), expected.sum()]
    for key, figure in zip(KEYS, figures):
        assert history[key] == [pytest.approx(figure, abs=1e-9)]


def test_in_tensorboard_with_accumulation_and_several_steps(tmp_path):
    task = coins()
    rule = keras.optimizers.SGD(0.5, gradient_accumulation_steps=2)
    model = compiled(task, optimizer=rule, nested=True, steps_per_execution=2)
    history = fit(
        model,
        task,
        BayesRegret(task, output="next", every=2),
        keras.callbacks.TensorBoard(tmp_path, profile_batch=0),
        epochs=4,
    )
    assert len(history["bayes_excess"]) == 2
    assert history["bayes_excess"][1] < history["bayes_excess"][0]
    tags = set()
    for path in tmp_path.rglob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags.update(value.tag for value in event.summary.value)
    assert {f"epoch_{key}" for key in KEYS} <= tags


def test_interrupted_like_uninterrupted(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def run(epoch=0, *more):
        task = coins()
        task.epoch = epoch
        model = compiled(task, optimizer=keras.optimizers.Adam(0.1))
        return fit(model, task, BayesRegret(task), *more, epochs=4)

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path)

    whole = run()
    with pytest.raises(KeyboardInterrupt):
        run(0, backup(), Stop())
    resumed = run(2, backup())
    for key in [*KEYS, "loss"]:
        assert resumed[key] == whole[key][2:]


def test_two_replicas(two_replicas):
    task, found = coins(), []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        task.epoch = 0
        with strategy.scope():
            model = compiled(task)
        found.append(fit(model, task, BayesRegret(task))["bayes_excess"])
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4)


def test_wrong_outputs_are_named_before_the_first_step():
    numbers, task = tasks.Gaussian(length=4), coins()
    for reference, model, words in (
        (numbers, compiled(task), r"time, 2\).*shape \(1, 4, 1\)"),
        (task, compiled(task, nested=True), "by `output`.*output=None"),
    ):
        callback = BayesRegret(reference)
        callback.set_model(model)
        with pytest.raises(ValueError, match=words):
            callback.on_train_begin()


def test_regret_of_returns():
    bandit = type("Bandit", (), {"best_return": 9.0, "optimal_return": 7.5})()
    callback, logs = BayesRegret(bandit), {"return": 6.0}
    callback.on_train_begin()
    callback.on_epoch_end(0, logs)
    assert (logs["regret"], logs["regret_above_optimal"]) == (3.0, 1.5)
    logs["evaluation_return"] = 7.0
    callback.on_epoch_end(1, logs)
    assert (logs["regret"], logs["regret_above_optimal"]) == (2.0, 0.5)
    with pytest.raises(ValueError, match="no returns.*meta.tasks"):
        callback.on_epoch_end(0, {"loss": 1.0})


def test_bad_arguments():
    with pytest.raises(ValueError, match="`reference`.*Received.*5"):
        BayesRegret(5)
    with pytest.raises(ValueError, match="`num_sequences`"):
        BayesRegret(coins(), num_sequences=0)
    with pytest.raises(ValueError, match="`every`"):
        BayesRegret(coins(), every=0)
