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
# # Distilling Policy Distillation: who acts, what is lost, what is rewarded
#
# *Czarnecki, Pascanu, Osindero, Jayakumar, Swirszcz, Jaderberg,
# "Distilling Policy Distillation", AISTATS 2019,
# [arXiv 1902.02186](https://arxiv.org/abs/1902.02186).*
#
# A policy that is there already can teach another one. The paper shows that
# the many ways to do so differ in three choices: who collects the data, which
# loss compares the two policies at each step, and which reward makes the
# student look ahead. Letting the student act makes it learn where it goes
# itself. A loss at each step alone is then no gradient of anything, and may
# cycle when rewards are added; the *expected* forms put the next step's loss
# into the reward and repair that. A teacher with faults is copied with its
# faults, unless the environment's reward counts too.

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
import dataclasses

import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.losses import DistillationVariant

keras.utils.set_random_seed(0)

# %% [markdown]
# ## Many small worlds
#
# Random mazes with goals (+1) and pits (-1). All of them are played by one
# agent, whose policy is a table with a row for each cell of each world, so
# every curve below is a mean over independent problems. The teacher knows
# each world's exact values, but in a quarter of the cells it takes each move
# for its opposite.

# %%
WORLDS, SIZE, EPOCHS = (4, 5, 2) if FAST else (64, 8, 20)


def make():
    return environments.RandomGridWorld(
        SIZE, num_worlds=WORLDS, batch_size=WORLDS, seed=1
    )


worlds = make()
_, moves = environments.grid_world_values(worlds, discount=0.95)
logits = moves / 0.02
generator = np.random.default_rng(0)
wrong = generator.random(logits.shape[:2]) < 0.25
logits[wrong] = np.roll(logits[wrong], 2, axis=-1)
policy = np.array(tf.nn.softmax(logits))
value, _ = environments.grid_world_values(worlds, policy)
teacher_return = value[:, worlds.start_cell].mean()

table = tf.constant(logits.reshape(-1, 4), tf.float32)
teacher = agents.Teacher(
    lambda cell: tf.gather(table, cell),
    worlds.time_step_spec(),
    worlds.action_spec(),
)
print(f"the teacher's mean return: {teacher_return:.3f}")

# %%
plt.imshow(worlds.render()[0])
plt.axis("off")
plt.title("One of the worlds")

# %% [markdown]
# ## Three students
#
# `DistillationAgent` takes a teacher (a policy of TF-Agents, a Keras model or
# any function) and a variant. The third student also counts the
# environment's reward, while the teacher's part fades away.

# %%


def table_model():
    observation = keras.Input((None,), dtype="int32")
    outputs = {
        name: keras.layers.Embedding(worlds.is_terminal.size, units, "zeros")(
            observation
        )
        for name, units in (("policy", 4), ("value", 1))
    }
    inputs = {
        "observation": observation,
        "is_first": keras.Input((None,), dtype="bool"),
        "state": (),
    }
    return keras.Model(inputs, {"outputs": outputs, "state": ()})


def learn(variant, coefficient=1.0):
    agent = agents.DistillationAgent(
        worlds.time_step_spec(),
        worlds.action_spec(),
        table_model(),
        keras.optimizers.Adam(0.1),
        teacher,
        variant,
        coefficient,
        discount=0.95,
    )
    history = agents.train(
        agent,
        make(),
        epochs=EPOCHS,
        steps_per_epoch=50,
        segment_length=16,
        evaluation_environment=make(),
        evaluation_episodes=4 * WORLDS,
        verbose=0,
    )
    return history.history["evaluation_return"]


fading = keras.optimizers.schedules.PolynomialDecay(1.0, 25 * EPOCHS, 0.0)
expected = DistillationVariant.named("expected_kl")
rewarded = dataclasses.replace(expected, environment_reward=True)
curves = {
    "teacher acts": learn("teacher"),
    "student acts (expected KL)": learn(expected),
    "... and reward counts": learn(rewarded, fading),
}

# %%
steps = 50 * 16 * np.arange(1, EPOCHS + 1)
for name, returns in curves.items():
    plt.plot(steps, returns, label=name)
    print(f"{name}: {returns[-1]:.3f}")
plt.axhline(teacher_return, color="grey", ls=":", label="the teacher itself")
plt.xlabel("environment steps of each world")
plt.ylabel("mean return")
plt.legend()

# %% [markdown]
# ## For your own problem
#
# - Teacher: `agents.Teacher(policy or model or function, time_step_spec,
#   action_spec, keys=..., value=...)`; it may see other entries of the
#   observation than the student, and have a memory.
# - In doubt: `"expected_kl"`. If the teacher has faults: with
#   `environment_reward=True`, a fading `coefficient`, or `"value_gated"` if
#   it knows values. `"expected_entropy"` does not clone: it makes the student
#   nearly deterministic.
# - Beside reinforcement learning of any kind:
#   `ActorCriticAgent(loss_terms=[DistillationTerm(...)])`, with
#   `gate=GradientGate()` if the teacher may be wrong for the task.
# - Around TF-Agents' PPO: `DistillationPPOClipAgent`. On logged data, in
#   `model.fit`: `losses.PolicyDistillation`.
