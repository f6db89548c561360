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
# # Been there, done that: an LSTM that gets back what it knew
#
# *Ritter, Wang, Kurth-Nelson, Jayakumar, Blundell, Pascanu, Botvinick, ICML
# 2018, [arXiv 1805.09692](https://arxiv.org/abs/1805.09692).*
#
# A meta-learned LSTM explores a new task well, and forgets it when the next
# one begins. If the first comes back, it explores again. The paper adds a
# dictionary: at the end of an episode the LSTM's cell state is stored under
# the episode's context; at every step the cell state stored under the most
# similar context is fetched, and a fifth gate, the *reinstatement gate* r,
# lets it in:
# $c_t = i_t \tilde c_t + f_t c_{t-1} + r_t c_{ep}$.

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
import episodic_recall
import matplotlib.pyplot as plt
import numpy as np

from keras_sparse_rl.environments import BarcodeBandit
from keras_sparse_rl.layers import EpisodicLSTM
from keras_sparse_rl.layers import EpisodicMemory

# %% [markdown]
# ## A dictionary that goes in and comes out
#
# `EpisodicMemory` has no weights. Its content is a state: written in place
# inside a graph, one dictionary a row of the batch, cleared row by row. An
# equal key is written over; when it is full the oldest entry makes room.

# %%
memory = EpisodicMemory(capacity=5, key_dim=2, value_dim=1)
state = memory.initial_state(batch_size=1)
for key, value in (([0, 0], 1), ([1, 0], 2), ([0, 1], 3)):
    state = memory.write(state, [key], [[value]])
several = EpisodicMemory(5, 2, 1, num_neighbours=3, delta=0.01)
axis = np.linspace(-0.5, 1.5, 40)
queries = np.stack(np.meshgrid(axis, axis), -1).reshape(1, -1, 2)
figure, axes = plt.subplots(1, 2, figsize=(7, 3), sharey=True)
for place, layer in zip(axes, (memory, several)):
    recalled = layer(queries, state)[0][0, :, 0]
    place.imshow(
        np.reshape(recalled, (40, 40)),
        origin="lower",
        extent=(-0.5, 1.5, -0.5, 1.5),
    )
    place.set_title(f"{layer.num_neighbours} nearest of three entries")
plt.show()

# %% [markdown]
# ## Two kinds of memory in one state
#
# Hidden and cell state are forgotten where an episode starts. What stands
# under `"episodic"` lives on, until `is_task_start` clears it. Segments of a
# sequence and the whole of it give the same numbers.

# %%
layer = EpisodicLSTM(
    8, EpisodicMemory(10, key_dim=3, value_dim=8), return_state=True
)
generator = np.random.default_rng(0)
x = generator.normal(size=(1, 12, 4)).astype("float32")
contexts = np.eye(3, dtype="float32")[[0, 1, 0]].repeat(4, 0)[None]
is_first = np.arange(12)[None] % 4 == 0
outputs, state = layer(x, context=contexts, is_first=is_first)
print("entries:", int((state["episodic"]["stamp"].numpy() > 0).sum()))
first, middle = layer(
    x[:, :5], context=contexts[:, :5], is_first=is_first[:, :5]
)
second, _ = layer(
    x[:, 5:], context=contexts[:, 5:], is_first=is_first[:, 5:], state=middle
)
both = np.concatenate([first, second], axis=1)
print("largest difference:", np.abs(both - outputs).max())

# %% [markdown]
# ## Bandits under barcodes
#
# The paper's first task: one of the arms pays with probability 0.9, the
# others with 0.1; a barcode is shown; an episode is a few pulls. Each barcode
# comes back several times in a task, and always means the same arm. Here with
# five arms and a few minutes; the benchmark has the paper's size.

# %%
SIZE = {"num_arms": 5, "num_contexts": 5, "exposures": 5, "pulls": 6}
bandit = BarcodeBandit(**SIZE, batch_size=1)
time_step = bandit.reset()
for _ in range(3):
    print(time_step.observation["context"].numpy()[0].astype(int))
    while not time_step.is_last():
        time_step = bandit.step([generator.integers(5)])
    time_step = bandit.step([0])

# %%
arguments = episodic_recall.parse(
    ["--steps", "4" if FAST else "2500", "--copies", "8" if FAST else "64"]
    + ["--units", "32", "--entropy", "0.01", "--verbose", "0"]
    + ["--evaluation-copies", "8" if FAST else "128"]
)
runs = {}
for name in ("episodic", "lstm"):
    runs[name] = episodic_recall.train("barcode", name, arguments, 0, **SIZE)

# %% [markdown]
# Regret is what a player who knows the arm would have got more. With the
# reinstatement gate shut, the trained agent explores every time anew.

# %%
curves = {
    "episodic LSTM": runs["episodic"]["regret"],
    "the same, gate shut": runs["episodic"]["regret_gate_shut"],
    "LSTM": runs["lstm"]["regret"],
}
for name, regret in curves.items():
    print(f"{name:20} {np.sum(regret):.2f} in all")
    plt.plot(np.arange(1, 6), regret, "o-", label=name)
plt.xlabel("exposure")
plt.ylabel("regret of an episode")
plt.ylim(bottom=0)
plt.legend()
plt.show()

# %% [markdown]
# ## For a problem of your own
#
# - In an agent: `actor_critic_model(..., core=EpisodicLSTM(...))`. The
#   observations `"context"` and `"is_task_start"` find their way by name; a
#   torso that returns `{"features": ..., "context": ...}` embeds the context.
# - `agents.train` keeps the dictionary in place and once a segment, never
#   for every step.
# - `write="every_step"` or `"signal"` where episodes are not what returns;
#   `reinstatement="squashed"` bounds what is let in.
# - `num_neighbours=3` averages, and has a gradient to the query.
# - A small entropy bonus: with 0.03 agents stay at random play.
