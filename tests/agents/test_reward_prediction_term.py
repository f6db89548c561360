"""The predictive head by hand, and in an agent."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.specs import BoundedTensorSpec

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl import meta
from keras_sparse_rl.callbacks import BayesRegret
from tests.agents.tasks import CONTINUOUS
from tests.agents.tasks import DISCRETE

generator = np.random.default_rng(0)
ACTION = np.array([[2, 0], [1, 1]], "int32")
REWARD = np.array([[1, 0], [0, 1]], "float32")


def loss_of(term, outputs):
    """The term's loss of outputs `(2, 3, n)`."""
    segment = types.SimpleNamespace(
        action=tf.constant(ACTION),
        outputs={"policy": tf.zeros((2, 3, 3)), "reward": tf.constant(outputs)},
        reward_t=tf.constant(REWARD),
    )
    segment.prepared = {term.name: term.prepare(segment)}
    return term.loss(segment).numpy()


def taken(outputs):
    """Outputs of the actions that were taken."""
    index = ACTION[..., None, None]
    return np.take_along_axis(outputs[:, :-1], index, axis=2)[:, :, 0]


def test_rewards_of_0_and_1():
    logits = generator.normal(size=(2, 3, 3)).astype("float32")
    p = 1 / (1 + np.exp(-taken(logits[..., None])[..., 0]))
    np.testing.assert_allclose(
        loss_of(agents.RewardPredictionTerm(DISCRETE), logits),
        -np.log(np.where(REWARD == 1, p, 1 - p)),
        rtol=1e-5,
    )


def test_any_rewards():
    outputs = generator.normal(size=(2, 3, 6)).astype("float32")
    mean, log_std = np.moveaxis(taken(outputs.reshape(2, 3, 3, 2)), -1, 0)
    expected = 0.5 * ((REWARD - mean) / np.exp(log_std)) ** 2 + log_std
    term = agents.RewardPredictionTerm(DISCRETE, loss=meta.NormalLogLoss())
    np.testing.assert_allclose(
        loss_of(term, outputs), expected + 0.5 * np.log(2 * np.pi), rtol=1e-5
    )


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: agents.RewardPredictionTerm(CONTINUOUS), "one discrete"),
        (lambda: agents.RewardPredictionTerm([DISCRETE] * 2), "one discrete"),
        (
            lambda: agents.RewardPredictionTerm(
                BoundedTensorSpec((2,), tf.int32, 0, 2)
            ),
            "one discrete",
        ),
        (
            lambda: agents.RewardPredictionTerm(DISCRETE, loss="mse"),
            "`loss`.*LogLoss.*mse",
        ),
        (
            lambda: loss_of(
                agents.RewardPredictionTerm(DISCRETE), np.zeros((2, 3, 2))
            ),
            "'reward' of 3 units.*'reward': 2.*heads",
        ),
        (
            lambda: loss_of(
                agents.RewardPredictionTerm(DISCRETE, output="other"),
                np.zeros((2, 3, 3)),
            ),
            "'other' of 3 units",
        ),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_in_an_agent():
    """It learns, and the regret is reported."""
    bandit = environments.BernoulliBandit(pulls=4, batch_size=8)
    environment = environments.WithPreviousActionAndReward(bandit)
    heads = {"policy": 2, "value": 1, "reward": 2}
    model = agents.build_model(
        environment.observation_spec(),
        {name: keras.layers.Dense(units) for name, units in heads.items()},
    )
    agent = agents.ActorCriticAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        model,
        keras.optimizers.Adam(1e-2),
        loss_terms=[agents.RewardPredictionTerm(environment.action_spec())],
    )
    before = [w.numpy() for w in model.trainable_variables]
    history = agents.train(
        agent,
        environment,
        epochs=2,
        steps_per_epoch=2,
        segment_length=5,
        callbacks=[BayesRegret(bandit)],
        verbose=0,
    ).history
    for old, new in zip(before, model.trainable_variables):
        assert (old != new.numpy()).any()
    assert history["reward_prediction"][0] == pytest.approx(0.69, abs=0.2)
    for regret, above, found in zip(
        history["regret"], history["regret_above_optimal"], history["return"]
    ):
        assert regret == pytest.approx(4 * 2 / 3 - found, abs=1e-6)
        assert above == pytest.approx(
            meta.BanditOptimum(2, 4).optimal_return - found, abs=1e-6
        )


@pytest.mark.slow
def test_meta_learned_play_is_nearly_optimal():
    from examples import meta_learning

    arguments = meta_learning.parse(
        ["--steps", "1500", "--batch-size", "512", "--units", "48"]
        + ["--verbose", "0"]
    )
    assert meta_learning.train_optimal(arguments, 0)["regret"] < 1.1
