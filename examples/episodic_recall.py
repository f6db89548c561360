"""Agents that know a context when they meet it again.

    python examples/episodic_recall.py [--task barcode] [--memories episodic lstm]
        [--seconds 120] [--folder OMNIGLOT]

Tasks: `barcode`, `compositional` and `omniglot` bandits (the last needs
Omniglot's images, `--folder`), `maze` (a hidden platform) and `two_step`.
Trains an LSTM with episodic memory and one without, prints the regret (or the
probability to stay) and saves a plot.
"""

import argparse
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib
import numpy as np
import tensorflow as tf

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.layers import EpisodicLSTM
from keras_sparse_rl.layers import EpisodicMemory

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TASKS = ("barcode", "compositional", "omniglot", "maze", "two_step")


def make(task, copies, seed, folder=None, **arguments):
    """The environment of a task, with what the agent did and got."""
    create = {
        "barcode": environments.BarcodeBandit,
        "compositional": environments.CompositionalBandit,
        "omniglot": environments.OmniglotBandit,
        "maze": environments.WaterMaze,
        "two_step": environments.TwoStep,
    }[task]
    if task == "omniglot":
        if folder is None:
            raise SystemExit(
                "--task omniglot needs --folder, Omniglot's images."
            )
        arguments["folder"] = folder
    task = create(batch_size=copies, seed=seed, **arguments)
    return environments.WithPreviousActionAndReward(task), task


def memory(name, task, environment, units, **arguments):
    """An LSTM with episodic memory, or a plain one."""
    if name == "lstm":
        return keras.layers.LSTM(units)
    context = environment.observation_spec()["observation"]["context"]
    two_step = task == "two_step"
    dictionary = EpisodicMemory(
        50 if two_step else 100, key_dim=context.shape[-1], value_dim=units
    )
    return EpisodicLSTM(
        units,
        dictionary,
        write="signal" if two_step else "episode_end",
        return_state=True,
        **arguments,
    )


def make_agent(name, task, environment, steps, arguments, seed):
    """An agent for `steps` train steps."""
    schedule = keras.optimizers.schedules.CosineDecay(
        arguments.learning_rate, steps, alpha=0.02
    )
    return agents.ActorCriticAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        agents.actor_critic_model(
            environment.observation_spec(),
            environment.action_spec(),
            core=memory(name, task, environment, arguments.units),
        ),
        keras.optimizers.Adam(schedule, global_clipnorm=1.0),
        discount=arguments.discount,
        trace_decay=arguments.trace_decay,
        entropy_coefficient=arguments.entropy,
        seed=seed,
    )


class RegretByExposure:
    """Mean regret of a policy's episodes by how often their context was met.

    Args:
        policy: policy of an agent, such as `agent.collect_policy`.
        environment: `ContextualTask` in `WithPreviousActionAndReward`.
        task: that `ContextualTask`.
        jit_compile: bool.
    """

    def __init__(self, policy, environment, task, jit_compile=False):
        self._policy, self._environment = policy, environment
        self._task = task
        self._run = tf.function(self._sums, jit_compile=jit_compile)

    def __call__(self, seed=0):
        """float64 array of one regret for each exposure."""
        task = self._task
        number = task.batch_size * task.num_contexts
        return task.best_return - self._run(seed).numpy() / number

    def _sums(self, seed):
        task, environment = self._task, self._environment
        carry = environment.start(seed)
        state = self._policy.get_initial_state(task.batch_size)

        def body(i, carry, state, sums):
            exposure = task.exposure(carry["state"]["environment"])
            chosen = self._policy.sample(
                environment.time_step(carry), state, tf.stack([seed, i])
            )
            carry = environment.advance(carry, chosen.action)
            reward = tf.expand_dims(carry["reward"], -1)
            at = tf.one_hot(exposure, task.exposures)
            sums += tf.reduce_sum(at * reward, axis=0)
            return i + 1, carry, chosen.state, sums

        steps = task.episodes * (task.steps + 1)
        return tf.while_loop(
            lambda i, *_: i < steps,
            body,
            (0, carry, state, tf.zeros((task.exposures,))),
        )[-1]
