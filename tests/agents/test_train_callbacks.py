"""Callbacks in `train`: which ones cannot be, and when they may stop it."""

import gymnasium
import keras
import numpy as np
import pytest
from gymnasium import spaces

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.callbacks import GradientCosine
from keras_sparse_rl.callbacks import RigL
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.layers import PowerpropLSTM
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.optimizers import Powerprop
from tests.agents import tasks


@pytest.mark.parametrize(
    "make, words",
    [
        (
            lambda folder: [[GradientCosine("policy", ["value"])]],
            "GradientCosine.*GradientGate",
        ),
        (
            lambda folder: [keras.callbacks.BackupAndRestore(str(folder))],
            "checkpoint_directory",
        ),
    ],
)
def test_callbacks_of_fit_alone_are_refused(make, words, tmp_path):
    environment = tasks.maze(batch_size=2)
    agent = tasks.maze_agent(environment)
    with pytest.raises(ValueError, match=f"`callbacks`.*{words}"):
        agents.train(
            agent, environment, callbacks=make(tmp_path), verbose=0, epochs=1
        )
    assert int(agent.train_step_counter) == 0


def test_rigl_grows_by_the_agents_gradient():
    """In both calls of `train`, the second of which compiles anew."""
    keras.utils.set_random_seed(0)
    environment = tasks.maze(batch_size=2)
    model = agents.actor_critic_model(
        environment.observation_spec(),
        environment.action_spec(),
        torso=PowerpropDense(16, "relu", alpha=1.5),
        core=PowerpropLSTM(8, alpha=1.5, return_state=True),
    )
    agent = agents.ActorCriticAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        model,
        Powerprop(keras.optimizers.Adam(1e-2)),
    )
    kernels = sparse_kernels(agent.model)
    churn = []
    for _ in range(2):
        history = agents.train(
            agent,
            environment,
            epochs=1,
            steps_per_epoch=12,
            segment_length=4,
            callbacks=[RigL(0.3, 100, 0.3, 4, "uniform")],
            verbose=0,
        ).history
        churn += history["mask_churn"]
        for kernel in kernels:
            size = np.prod(kernel.shape)
            assert kernel.forward_mask().sum() == max(1, round(0.3 * size))
    assert min(churn) > 0


def test_training_stops_after_the_batch_that_says_so():
    class Stop(keras.callbacks.Callback):
        ended = 0

        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

        def on_epoch_end(self, epoch, logs=None):
            self.ended += 1

    environment = tasks.maze(batch_size=2)
    agent = tasks.maze_agent(environment)
    stop = Stop()
    agents.train(
        agent,
        environment,
        epochs=3,
        steps_per_epoch=5,
        segment_length=2,
        callbacks=[stop],
        verbose=0,
    )
    assert int(agent.train_step_counter) == 2
    assert stop.ended == 1


class Breaks(gymnasium.Env):
    """The observation is not a number from the eighth step on."""

    observation_space = spaces.Box(-1, 1, (3,), np.float32)
    action_space = spaces.Discrete(2)
    steps = 0

    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {}

    def step(self, action):
        self.steps += 1
        seen = np.full(3, np.nan if self.steps > 7 else 0, np.float32)
        return seen, 0.0, False, False, {}


def test_observations_that_are_not_finite_are_named():
    environment = environments.GymnasiumEnvironment(Breaks())
    agent = tasks.maze_agent(environment)
    with pytest.raises(FloatingPointError, match="train step 2: .*observation"):
        agents.train(
            agent,
            environment,
            epochs=1,
            steps_per_epoch=5,
            segment_length=3,
            verbose=0,
        )
    assert all(np.isfinite(w).all() for w in agent.model.get_weights())
