"""What the agent did and got, shown to it at the next step."""

import gymnasium
import keras
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.environments import tf_py_environment
from tf_agents.environments import utils
from tf_agents.specs import BoundedTensorSpec
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl import agents
from keras_sparse_rl.environments import GymnasiumEnvironment
from keras_sparse_rl.environments import InGraphEnvironment
from keras_sparse_rl.environments import TMaze
from keras_sparse_rl.environments import WithPreviousActionAndReward

KINDS = {
    "in-graph": lambda: TMaze(length=2, batch_size=3, seed=1),
    "Python": lambda: GymnasiumEnvironment("CartPole-v1", 3, seed=1),
    "continuous": lambda: GymnasiumEnvironment(
        lambda: gymnasium.wrappers.TimeLimit(
            gymnasium.make("Pendulum-v1").unwrapped, 20
        ),
        3,
        seed=1,
    ),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def random_action(environment, generator):
    spec = environment.action_spec()
    shape = (environment.batch_size, *spec.shape)
    if np.issubdtype(tf.as_dtype(spec.dtype).as_numpy_dtype, np.integer):
        return generator.integers(0, spec.maximum + 1, shape)
    return generator.uniform(-1.5, 1.5, shape).astype(np.float32)


@each_kind
def test_shows_the_last_action_and_reward_and_nothing_at_a_start(kind):
    environment = WithPreviousActionAndReward(KINDS[kind]())
    generator = np.random.default_rng(0)
    seen = environment.reset().observation
    for key in ("previous_action", "previous_reward"):
        np.testing.assert_array_equal(seen[key], np.zeros_like(seen[key]))
    starts = 0
    for _ in range(100):
        action = random_action(environment, generator)
        after = environment.step(action)
        expected = action
        if action.dtype != np.float32:
            expected = np.eye(int(environment.action_spec().maximum) + 1)
            expected = expected[action]
        is_first = np.asarray(after.step_type == ts.StepType.FIRST)
        starts += is_first.sum()
        expected = expected * ~is_first.reshape(
            (-1,) + (1,) * (expected.ndim - 1)
        )
        np.testing.assert_array_equal(
            after.observation["previous_action"], expected.astype(np.float32)
        )
        np.testing.assert_array_equal(
            after.observation["previous_reward"], after.reward
        )
    assert starts > 2


@each_kind
def test_the_environment_inside_goes_on_as_without(kind):
    plain, shown = KINDS[kind](), WithPreviousActionAndReward(KINDS[kind]())
    generator = np.random.default_rng(0)
    a, b = plain.reset(), shown.reset()
    for _ in range(60):
        np.testing.assert_array_equal(b.observation["observation"], a[3])
        for x, y in zip(a[:3], b[:3], strict=True):
            np.testing.assert_array_equal(x, y)
        action = random_action(plain, generator)
        a, b = plain.step(action), shown.step(action)


def test_fits_its_specs():
    environment = WithPreviousActionAndReward(KINDS["Python"]())
    utils.validate_py_environment(environment, episodes=3)
    in_graph = WithPreviousActionAndReward(KINDS["in-graph"]())
    assert isinstance(in_graph, InGraphEnvironment)
    assert in_graph.render().shape == KINDS["in-graph"]().render().shape
    wrapped = tf_py_environment.TFPyEnvironment(environment)
    assert wrapped.reset().observation["previous_action"].shape == (3, 2)


@pytest.mark.parametrize("kind", ["in-graph", "Python"])
def test_an_agent_trains(kind):
    environment = WithPreviousActionAndReward(KINDS[kind]())
    agent = agents.ActorCriticAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        agents.actor_critic_model(
            environment.observation_spec(),
            environment.action_spec(),
            core=keras.layers.LSTM(4),
        ),
        keras.optimizers.Adam(1e-3),
    )
    before = agent.model.get_weights()
    agents.train(agent, environment, 1, 2, segment_length=4, verbose=0)
    assert any(
        (a != b).any()
        for a, b in zip(before, agent.model.get_weights(), strict=True)
    )


def test_bad_environments():
    with pytest.raises(ValueError, match="GymnasiumEnvironment"):
        WithPreviousActionAndReward(gymnasium.make("CartPole-v1"))

    class Uneven(TMaze):
        def action_spec(self):
            return BoundedTensorSpec((2,), tf.int32, 0, [1, 2])

    with pytest.raises(ValueError, match="same bounds"):
        WithPreviousActionAndReward(Uneven(length=2))
