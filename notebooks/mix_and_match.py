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
# # Mix&Match: a curriculum over agents
#
# *Czarnecki, Jayakumar, Jaderberg and others, "Mix & Match - Agent Curricula
# for Reinforcement Learning", ICML 2018,
# [arXiv 1806.01780](https://arxiv.org/abs/1806.01780).*
#
# Some agents learn fast because they are simple - few actions, no memory -
# and do not get far for the same reason. Mix&Match trains several at once,
# from simple to complex. What acts is a mixture of them,
# $\pi(a|s) = \sum_i \alpha_i \pi_i(a|s)$; a matching loss
# $\sum_{i<j} \alpha_i \mathrm{KL}(\pi_i \| \pi_j)$ makes the complex ones
# follow the simple ones; and $\alpha$ moves from the first to the last, so
# that the complex policy takes over what the simple one has found.

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

from examples import mix_and_match
from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.losses import mix_and_match_loss
from keras_sparse_rl.losses import mixture_log_prob

keras.utils.set_random_seed(0)

# %% [markdown]
# ## The two formulas
#
# The gradient of the mixture's log-probability reaches each policy by its
# responsibility, $\alpha_i \pi_i(a) / \pi(a)$. A complex policy with a small
# share hardly hears of rewards: it is the matching loss that trains it.

# %%
policies = np.log([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]])  # two, three actions
for alpha in (0.0, 0.5, 1.0):
    alphas = [1 - alpha, alpha]
    mixed = np.exp([mixture_log_prob(policies[:, a], alphas) for a in range(3)])
    matching = float(mix_and_match_loss(policies, alphas))
    print(f"alpha {alpha}: mixture {mixed.round(3)}, matching {matching:.3f}")

# %% [markdown]
# ## 756 actions, of which nine suffice
#
# Nine moves, each in 84 ways: most of them fail and cost, three go twice as
# far. The best return is 0.909 with the nine plain moves and 0.960 with all.
# The simple policy chooses from the nine, the complex one from all.

# %%
iterations, every = (8, 4) if FAST else (140, 20)
found = {
    mode: mix_and_match.run(mode, iterations, every)
    for mode in mix_and_match.MODES
}

figure, axis = plt.subplots(figsize=(6, 3.5))
for mode, curves in found.items():
    steps = every * np.arange(1, len(curves["returns"]) + 1)
    (line,) = axis.plot(steps, curves["returns"], label=mode)
    axis.plot(steps, curves["alphas"], ":", color=line.get_color())
axis.set(xlabel="iteration", ylabel="return (dotted: share in acting)")
axis.set_title("the policy over all 756 actions, alone")
axis.legend()
plt.show()

# %% [markdown]
# ## Other curricula, and shares that are learned
#
# `SimplePolicy` says what a simpler policy lacks: actions, the memory, or that
# it is one for all tasks. Any number of them go before the last.

# %%
maze = environments.TMaze(length=4, batch_size=16)
simple = [agents.SimplePolicy("without memory", memory=False)]
model = agents.mix_and_match_model(
    maze.observation_spec(),
    maze.action_spec(),
    simple,
    core=keras.layers.GRU(16),
)
agent = agents.MixAndMatchAgent(
    maze.time_step_spec(),
    maze.action_spec(),
    model,
    keras.optimizers.Adam(3e-3),
    simple,
    alphas=[0.5, 0.5],
)

# %% [markdown]
# A population learns the share on the way: the worst members go on from the
# best ones' weights, with hyperparameters near theirs. `engine="ray"` trains
# the members in parallel.


# %%
def apply(agent, values):
    agent.set_alphas([1 - values["alpha"], values["alpha"]])
    agent.model.optimizer.learning_rate = values["learning_rate"]


member = agents.AgentMember(
    agent,
    maze,
    environments.TMaze(length=4, batch_size=16, seed=1),
    apply,
    steps=1 if FAST else 20,
    segment_length=16,
    evaluation_episodes=32,
)
result = agents.train_population(
    lambda: member,
    {
        "alpha": agents.Hyperparameter(0.0, 1.0),
        "learning_rate": agents.Hyperparameter(1e-3, 3e-2, log=True),
    },
    size=2 if FAST else 4,
    rounds=2 if FAST else 5,
)
print(f"best score {result.score:.2f} with {result.hyperparameters}")

# %% [markdown]
# **For your own problem**: list the simpler policies, give the model
# (`mix_and_match_model`, or any model with these outputs), and let `alphas`
# start to move when the simple policy has stopped to improve. The matching
# loss keeps the complex policy at what the simple one can do for as long as it
# acts: end it early (`matching_coefficient` may be a schedule) where the
# complex one shall find something better. Patents: see `NOTICE`.
