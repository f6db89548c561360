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
# # PPR: a slow memory, and three views of what to do
#
# *Stooke, Dalibard, Jayakumar, Czarnecki, Jaderberg 2020,
# [arXiv 2006.15223](https://arxiv.org/abs/2006.15223).*
#
# An LSTM that has to remember something for a hundred steps must hand it on a
# hundred times. In a Perception-Prediction-Reaction agent a *slow core* ticks
# every 16 steps, so that six or seven ticks do. Three fast cores run between
# ticks, and each knows something else: *perception* only what was observed
# since the tick, *prediction* only what the slow core remembers, *reaction*
# both. Reaction acts. An auxiliary loss draws the policies of all three
# together: what to do shall be expressible from recent observations as well as
# from long-term memory. The slow core hears perception, and nothing else.
#
# What the paper's abstract does not say (how cores start an interval, which
# divergences, which weight) is an option here, with a guess as default.

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

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.layers import PPRCore

# %% [markdown]
# ## Who knows what
#
# How far does the output of each core at a step (row) depend on the
# observation of another (column)? Here the slow core ticks every 8 steps; an
# episode ends after 12 steps, in mid-interval, and the tick starts anew with
# the next one. Perception sees the triangles since the tick, prediction the
# blocks before it, reaction both. White is exactly 0.

# %%
TIME, PERIOD = (16, 4) if FAST else (32, 8)
core = PPRCore(16, slow_period=PERIOD)
generator = np.random.default_rng(0)
x = tf.constant(generator.normal(size=(1, TIME, 6)), "float32")
is_first = np.zeros((1, TIME), bool)
is_first[0, PERIOD + PERIOD // 2] = True
with tf.GradientTape(persistent=True) as tape:
    tape.watch(x)
    outputs = core(x, is_first=is_first, return_cores=True)
    steps = {
        name: [tf.reduce_sum(y[0, t] ** 2) for t in range(TIME)]
        for name, y in outputs.items()
    }

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), sharey=True)
for axis, name in zip(axes, ("perception", "prediction", "reaction")):
    gradients = [tape.gradient(y, x) for y in steps[name]]
    depends = np.stack(
        [
            np.zeros(TIME) if g is None else np.abs(g[0]).sum(-1)
            for g in gradients
        ]
    )
    shown = np.where(depends > 0, np.log10(np.maximum(depends, 1e-30)), np.nan)
    axis.imshow(shown, cmap="viridis", vmin=-8)
    axis.set(title=name, xlabel="observation of step")
axes[0].set_ylabel("output of step")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## An agent
#
# A T-maze: a sign at the start says where to turn at the end of the corridor.
# `PPRAgent` is an actor-critic with one more loss term; `ppr_model` gives each
# core's policy a head, here one that all share. The curve below it shows how
# far the three policies are apart: going forward takes no memory, so all three
# come to do it; where to turn, perception cannot know.

# %%
STEPS, EPOCHS = (2, 2) if FAST else (20, 10)
COEFFICIENT = 0.01


def train(kind):
    keras.utils.set_random_seed(0)
    maze = environments.TMaze(length=8, batch_size=32)
    specs = maze.observation_spec(), maze.action_spec()
    optimizer = keras.optimizers.Adam(3e-3, global_clipnorm=1.0)
    if kind == "LSTM":
        model = agents.actor_critic_model(*specs, core=keras.layers.LSTM(32))
        make, arguments = agents.ActorCriticAgent, {}
    else:
        memory = PPRCore(32, slow_period=4, return_state=True)
        model = agents.ppr_model(*specs, core=memory)
        make, arguments = agents.PPRAgent, {"coefficient": COEFFICIENT}
    agent = make(
        maze.time_step_spec(),
        specs[1],
        model,
        optimizer,
        trace_decay=0.95,
        **arguments,
    )
    return agents.train(
        agent,
        maze,
        epochs=EPOCHS,
        steps_per_epoch=STEPS,
        segment_length=4 if FAST else 32,
        jit_compile=not FAST,
        verbose=0,
    ).history


histories = {"PPR": train("PPR")}
if not FAST:
    histories["LSTM"] = train("LSTM")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3))
for name, history in histories.items():
    left.plot(history["return"], label=name)
    print(f"{name}: return {history['return'][-1]:.2f}")
left.set(xlabel="epoch", ylabel="return")
left.legend()
right.plot(np.array(histories["PPR"]["ppr"]) / COEFFICIENT)
right.set(xlabel="epoch", ylabel="divergence between cores, nats")
figure.tight_layout()
plt.show()

# %% [markdown]
# A return of 0 takes no memory, 1 does: both remember the sign. Longer
# corridors, and PPR without slow core, divergences or asymmetry, are trained by
# `python -m benchmarks.ppr`.
#
# ## For a problem of your own
#
# - `PPRCore(..., return_state=True)` is a memory as any other: it also serves
#   `actor_critic_model`, where the auxiliary loss and the prediction core are
#   left out.
# - `slow_cell=GTrXL(..., return_state=True)` makes the slow core a transformer
#   over ticks; `cell="gru"`, or any Keras cell, changes the fast ones.
# - `inputs={"prediction": ("slow",)}` shows a core the slow core's output at
#   every step, `starts={"reaction": "keep"}` lets it go on at a tick. With a
#   torso that returns a dict, cores may see different features.
# - `PPRAgent(pairs=..., stop_gradient=...)` chooses the divergences.
# - Gradients end with a segment: let `segment_length` be longer than what has
#   to be remembered. If the memory is not learned, try a larger
#   `policy_head_stddev` of `ppr_model`: the policy's head is what teaches it.
