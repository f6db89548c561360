"""Distillation around TF-Agents' PPO: loss, rewards, and that it learns."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from tf_agents.drivers.dynamic_step_driver import DynamicStepDriver
from tf_agents.replay_buffers.tf_uniform_replay_buffer import (
    TFUniformReplayBuffer,
)

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.losses import DistillationVariant


def world():
    return environments.RandomGridWorld(
        5, walls=0.0, end_probability=0.1, view=3, batch_size=8
    )


def network(environment, units, policy=False):
    model = keras.Sequential(
        [
            keras.Input((3, 3, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(units, kernel_initializer="zeros"),
        ]
    )
    action_spec = environment.action_spec() if policy else None
    return agents.KerasNetwork(
        model, environment.observation_spec(), action_spec
    )


def up(seen):
    return tf.tile([[3.0, 0.0, 0.0, 0.0]], [tf.shape(seen)[0], 1])


def make(environment, variant="expected_kl", **arguments):
    teacher = agents.Teacher(
        up,
        environment.time_step_spec(),
        environment.action_spec(),
        value=lambda seen: 2.0 + tf.reduce_sum(seen, [1, 2, 3]),
    )
    agent = agents.DistillationPPOClipAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        arguments.pop("optimizer", keras.optimizers.Adam(0.1)),
        arguments.pop("actor_net", None)
        or network(environment, 4, policy=True),
        network(environment, 1),
        arguments.pop("teacher", teacher),
        variant,
        num_epochs=5,
        normalize_observations=False,
        normalize_rewards=False,
        train_step_counter=tf.Variable(0, dtype=tf.int64),
        **arguments,
    )
    agent.initialize()
    return agent


def collect(agent, environment, steps=16):
    memory = TFUniformReplayBuffer(
        agent.collect_data_spec, environment.batch_size, max_length=steps
    )
    DynamicStepDriver(
        environment,
        agent.collect_policy,
        observers=[memory.add_batch],
        num_steps=steps * environment.batch_size,
    ).run()
    return memory.gather_all()


@pytest.mark.parametrize(
    "variant",
    ["on_policy", "entropy_regularized", "expected_kl", "value_gated"],
)
def test_learns_what_the_teacher_does(variant):
    environment = world()
    agent = make(environment, variant)
    for _ in range(3):
        agent.train(collect(agent, environment))
    probability = agent.collect_policy.distribution(
        environment.reset()
    ).action.prob([0] * 8)
    assert np.min(probability) > 0.5  # the teacher's: 0.87; at first: 0.25


def test_rewards_by_hand():
    """What enters the advantages: minus the next KL, times the discount."""
    environment = world()
    variant = DistillationVariant.named("expected_kl")
    for with_reward in (False, True):
        agent = make(
            environment,
            dataclasses.replace(variant, environment_reward=with_reward),
            coefficient=0.5,
            discount_factor=0.9,
            optimizer=keras.optimizers.SGD(0.0),
        )
        seen = {}
        compute = agent.compute_return_and_advantage

        def spy(next_time_steps, value_preds, seen=seen, compute=compute):
            seen["reward"] = next_time_steps.reward
            return compute(next_time_steps, value_preds)

        agent.compute_return_and_advantage = spy
        data = collect(agent, environment)
        agent._preprocess(data)
        # The student is uniform before the first step.
        teacher = np.exp([3.0, 0, 0, 0]) / np.exp([3.0, 0, 0, 0]).sum()
        kl = np.mean(np.log(0.25) - np.log(teacher))
        expected = -0.5 * 0.9 * data.discount.numpy()[:, :-1] * kl
        if with_reward:
            expected += data.reward.numpy()[:, :-1]
        np.testing.assert_allclose(seen["reward"], expected, rtol=1e-5)
        del agent.compute_return_and_advantage
        found = agent.train(data)
        assert float(found.extra.distillation_loss) == pytest.approx(0.5 * kl)
        assert found.extra._fields[0] == "policy_gradient_loss"


def test_a_coefficient_of_zero_is_ppo():
    environment = world()
    variant = DistillationVariant("teacher_kl", environment_reward=True)
    agent = make(environment, variant, coefficient=0.0)
    data = collect(agent, environment)
    plain = agents.DistillationPPOClipAgent.__mro__[1](
        environment.time_step_spec(),
        environment.action_spec(),
        keras.optimizers.Adam(0.1),
        network(environment, 4, policy=True),
        network(environment, 1),
        num_epochs=5,
        normalize_observations=False,
        normalize_rewards=False,
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
    plain.initialize()
    assert float(agent.train(data).loss) == pytest.approx(
        float(plain.train(data).loss), rel=1e-5
    )


def test_refused():
    environment = world()
    for variant in ("teacher", "td_teacher_value"):
        with pytest.raises(ValueError, match="its own actions"):
            make(environment, variant)
    with pytest.raises(ValueError, match="`coefficient`"):
        make(environment, coefficient=-0.1)
    with pytest.raises(ValueError, match="needs the teacher's value"):
        make(environment, "teacher_value", teacher=up)
    own = network(environment, 4, policy=True)
    with pytest.raises(ValueError, match="compared with itself"):
        make(environment, teacher=own.model, actor_net=own)
