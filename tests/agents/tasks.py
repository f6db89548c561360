"""Small agents and trajectories that several tests use."""

import keras
import numpy as np
import tensorflow as tf
from tf_agents.specs import BoundedTensorSpec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl import layers

OBSERVATION = BoundedTensorSpec((3,), tf.float32, -1, 1)
DISCRETE = BoundedTensorSpec((), tf.int32, 0, 2)
CONTINUOUS = BoundedTensorSpec((2,), tf.float32, [-1.0, 0.0], [1.0, 4.0])
FIRST, MID, LAST = 0, 1, 2

CORES = {
    "none": lambda: None,
    "LSTM": lambda: keras.layers.LSTM(5),
    "GRU": lambda: keras.layers.GRU(5),
    "GTrXL": lambda: layers.GTrXL(1, 2, 3, 8, 4, return_state=True),
}


def model(core="none", action_spec=DISCRETE, observation_spec=OBSERVATION):
    return agents.actor_critic_model(
        observation_spec, action_spec, core=CORES[core]()
    )


def agent(core="none", action_spec=DISCRETE, optimizer=None, **arguments):
    return agents.ActorCriticAgent(
        ts.time_step_spec(OBSERVATION),
        action_spec,
        model(core, action_spec),
        optimizer or keras.optimizers.Adam(1e-2),
        **arguments,
    )


def maze_agent(environment, core="none", optimizer=None, **arguments):
    network = agents.actor_critic_model(
        environment.observation_spec(),
        environment.action_spec(),
        core=CORES[core](),
    )
    return agents.ActorCriticAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        network,
        optimizer or keras.optimizers.Adam(3e-3),
        **arguments,
    )


def go_back(folder, epoch):
    """As if a training with checkpoints had been killed after that epoch."""
    tf.compat.v1.train.update_checkpoint_state(
        str(folder), str(folder / f"ckpt-{epoch}")
    )


def maze(batch_size=4, seed=0, length=3):
    return environments.TMaze(length, batch_size, seed)


def experience(agent, batch=3, time=7, seed=0):
    """Random trajectories with ends of episodes somewhere inside."""
    generator = np.random.default_rng(seed)
    kinds = np.full((batch, time + 1), MID)
    for row in range(batch):
        end = generator.integers(1, time)
        kinds[row, end], kinds[row, end + 1] = LAST, FIRST
    state = agent.collect_policy.get_initial_state(batch)
    spec = agent.action_spec
    shape = (batch, time + 1, *spec.shape)
    if spec.dtype.is_integer:
        action = generator.integers(0, 3, shape).astype(np.int32)
    else:
        action = generator.uniform(spec.minimum, spec.maximum, shape)
    following = np.roll(kinds, -1, axis=1)
    terminated = (following == LAST) & (generator.random(kinds.shape) < 0.5)
    return trajectory.Trajectory(
        step_type=tf.constant(kinds, tf.int32),
        observation=tf.constant(
            generator.normal(size=(batch, time + 1, 3)), tf.float32
        ),
        action=tf.constant(action, spec.dtype),
        policy_info={
            "log_probability": tf.constant(
                generator.normal(-1.0, 0.3, (batch, time + 1)), tf.float32
            ),
            "state": tf.nest.map_structure(lambda x: x[:, None], state),
        },
        next_step_type=tf.constant(following, tf.int32),
        reward=tf.constant(
            generator.normal(size=(batch, time + 1)), tf.float32
        ),
        discount=tf.constant(1.0 - terminated, tf.float32),
    )
