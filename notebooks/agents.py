# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Agents: TF-Agents on today's Keras, and an actor-critic with a memory
#
# *V-trace: Espeholt, Soyer, Munos and others, "IMPALA", ICML 2018,
# [arXiv 1802.01561](https://arxiv.org/abs/1802.01561). GTrXL: Parisotto and
# others, ICML 2020, [arXiv 1910.06764](https://arxiv.org/abs/1910.06764).*
#
# TF-Agents' last release is older than Keras 3 and Gymnasium. Two adapters
# bring all three together: `GymnasiumEnvironment` and `KerasNetwork`. On the
# same seam stands this library's own agent, an actor-critic whose targets
# (V-trace) stay right when the policy that acted is not quite the one that
# learns. It takes any memory - an LSTM, a GTrXL - because its state is
# explicit. What GTrXL's paper claims is shown at the end in its smallest
# form: an agent with a memory tells left from right by a sign seen long ago,
# one without cannot.

# %%
REPOSITORY = ""  # outside a checkout: the address that `git clone` takes

import importlib.metadata
import importlib.util
import os
import pathlib
import subprocess
import sys

here = pathlib.Path.cwd()
# What an earlier run of this cell has cloned is there already.
places = [here / "checkout", here, *here.parents]
root = next((p for p in places if (p / "keras_sparse_rl").is_dir()), None)
if root is None:
    if not REPOSITORY:
        raise SystemExit(
            "No checkout of keras_sparse_rl here. Set REPOSITORY, in the first "
            "line of this cell, to the address that `git clone` takes."
        )
    root = here / "checkout"
    subprocess.run(["git", "clone", REPOSITORY, str(root)], check=True)
if None in map(importlib.util.find_spec, ["keras_sparse_rl", "tf_agents"]):
    pip = [sys.executable, "-m", "pip", "install", "-q"]
    # With its version, or tf-keras would move TensorFlow to its own.
    tensorflow = importlib.metadata.distributions(name="tensorflow")
    held = [f"tensorflow=={found.version}" for found in tensorflow]
    package = ["-e", f"{root}[agents]", "matplotlib"]
    subprocess.run([*pip, *package, *held], check=True)
    # Its own requirements are of 2023.
    subprocess.run([*pip, "--no-deps", "tf-agents==0.19.0"], check=True)
sys.path[:0] = [str(root), str(root / "examples")]
FAST = bool(os.environ.get("NOTEBOOK_FAST"))

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from tf_agents.agents import PPOClipAgent
from tf_agents.environments import tf_py_environment
from tf_agents.trajectories import trajectory

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.layers import GTrXL

keras.utils.set_random_seed(0)

# %% [markdown]
# ## TF-Agents' own PPO with a Keras 3 model, in a Gymnasium environment
#
# Any Keras model becomes a network: with an `action_spec` it gives
# distributions over actions, without one plain numbers.

# %%
environment = tf_py_environment.TFPyEnvironment(
    environments.GymnasiumEnvironment("CartPole-v1", 8, seed=0)
)
observation_spec = environment.observation_spec()


def mlp(outputs):
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(64, "tanh"),
            keras.layers.Dense(64, "tanh"),
            keras.layers.Dense(outputs),
        ]
    )


ppo = PPOClipAgent(
    environment.time_step_spec(),
    environment.action_spec(),
    optimizer=tf.keras.optimizers.Adam(1e-3),
    actor_net=agents.KerasNetwork(
        mlp(2), observation_spec, environment.action_spec()
    ),
    value_net=agents.KerasNetwork(mlp(1), observation_spec),
    num_epochs=1 if FAST else 10,
    entropy_regularization=0.01,
    normalize_observations=False,
    normalize_rewards=False,
    train_step_counter=tf.Variable(0, dtype=tf.int64),
)
ppo.initialize()
act = tf.function(ppo.collect_policy.action, autograph=False)
learn = tf.function(ppo.train, autograph=False)


def collect(time_step, steps):
    """`steps` steps of all copies as trajectories `(batch, time, ...)`."""
    seen = []
    for _ in range(steps):
        chosen = act(time_step)
        following = environment.step(chosen.action)
        seen.append(trajectory.from_transition(time_step, chosen, following))
        time_step = following
    stacked = tf.nest.map_structure(lambda *x: tf.stack(x, axis=1), *seen)
    return stacked, time_step


time_step, lengths = environment.reset(), []
for _ in range(3 if FAST else 40):
    experience, time_step = collect(time_step, 8 if FAST else 128)
    learn(experience)
    ends = np.sum(experience.next_step_type == 2)
    lengths.append(experience.reward.numpy().sum() / max(ends, 1))
print(
    f"PPO, reward per episode: first {lengths[0]:.0f}, last {lengths[-1]:.0f}"
)

# %% [markdown]
# ## An actor-critic of our own, with and without a memory
#
# `TMaze` is one of the tasks made of TensorFlow alone: collecting and
# learning run in one graph. The sign at the start says on which side the
# reward is; without a memory the best expected return is 0.

# %%
maze = environments.TMaze(length=6, batch_size=32)
cores = {
    "no memory": None,
    "LSTM": keras.layers.LSTM(32),
    "GTrXL": GTrXL(1, 2, 16, 32, memory_length=8, return_state=True),
}
returns = {}
for name, core in cores.items():
    agent = agents.ActorCriticAgent(
        maze.time_step_spec(),
        maze.action_spec(),
        agents.actor_critic_model(
            maze.observation_spec(), maze.action_spec(), core=core
        ),
        keras.optimizers.Adam(3e-3, global_clipnorm=1.0),
        trace_decay=0.95,
        entropy_coefficient=0.02,
    )
    history = agents.train(
        agent,
        environments.TMaze(length=6, batch_size=32, seed=1),
        epochs=2 if FAST else 20,
        steps_per_epoch=2 if FAST else 20,
        segment_length=16,
        verbose=0,
    )
    returns[name] = history.history["return"]
    found = agents.evaluate(agent.policy, maze, episodes=100)
    print(f"{name}: {found.mean:.2f} ({found.low:.2f} to {found.high:.2f})")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5))
axes[0].plot(lengths)
axes[0].set(
    title="CartPole, TF-Agents' PPO", xlabel="update", ylabel="steps an episode"
)
for name, values in returns.items():
    axes[1].plot(values, label=name)
axes[1].set(title="T-maze, corridor of 6", xlabel="epoch", ylabel="return")
axes[1].legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# ## A loss term of your own
#
# Everything else that an agent should learn is an object with a `reward`, a
# `loss` or both. Here: a reward for doing the same as before.


# %%
class Steady(agents.LossTerm):
    def reward(self, segment):
        same = tf.equal(segment.action[:, 1:], segment.action[:, :-1])
        return tf.pad(tf.cast(same, tf.float32), [[0, 0], [1, 0]])


agent = agents.ActorCriticAgent(
    maze.time_step_spec(),
    maze.action_spec(),
    agents.actor_critic_model(maze.observation_spec(), maze.action_spec()),
    keras.optimizers.Adam(1e-2),
    loss_terms=[Steady(0.05)],
)
history = agents.train(agent, maze, epochs=1, steps_per_epoch=2, verbose=0)
print(sorted(history.history))

# %% [markdown]
# **For your own problem**: give `actor_critic_model` a `torso` (any Keras
# model from one observation to features) and a `core`; for speed,
# `train(..., jit_compile=True)`; to stop and go on, `checkpoint_directory`;
# to look, `callbacks=[keras.callbacks.TensorBoard("runs")]`; for a sparse
# agent, `sparsify(model)`, `Powerprop(optimizer)` and `TopKAST` as in `fit`.
