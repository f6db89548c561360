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
# # A tour: seven of the ten papers in one agent
#
# Each paper has a notebook of its own; here seven of them work at once. The
# agent plays bandits: each episode has two arms that pay with probabilities
# drawn anew, and 20 pulls to find out and use which is better
# (*meta-learning*). It remembers what it pulled and what that paid in
# *perception, prediction and reaction* cores around a slow memory, a *GTrXL*.
# All its kernels are *Powerprop* layers of which *Top-KAST* uses a fifth, from
# the first step to the last. It stays near a *default policy* which sees the
# last pull alone and not what it paid. A *gated auxiliary loss*, the
# prediction of rewards, counts only where its gradient agrees with that of
# the rest.
#
# What this shows is that parts made one by one go together, and what each of
# them does meanwhile. On one seed and so small a task it does not show that
# each makes the agent better, or that sparse is faster; for that there are
# the papers' notebooks and the benchmarks.

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

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.callbacks import BayesRegret
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.gradients import GradientGate
from keras_sparse_rl.layers import GTrXL
from keras_sparse_rl.layers import PPRCore
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import sparsify
from keras_sparse_rl.sparsity import sparsity_summary

DENSITY, PULLS = 0.2, 8 if FAST else 20
EPOCHS, STEPS = (2, 2) if FAST else (20, 20)

# %% [markdown]
# ## The agent, part by part
#
# Beside it stands the least of it: an actor-critic of the same model, dense,
# without any of the terms, for comparison. Nothing was tuned for either, and
# one seed does not say which part makes a difference. Here the bare one, which
# has five times the weights, ends a little higher.


# %%
def train(everything):
    keras.utils.set_random_seed(0)
    bandit = environments.BernoulliBandit(2, PULLS, batch_size=64)
    world = environments.WithPreviousActionAndReward(bandit)
    observation, action = world.observation_spec(), world.action_spec()
    slow = GTrXL(1, 2, 8, 32, memory_length=5, return_state=True)
    model = agents.ppr_model(  # three cores, and a GTrXL that ticks slowly
        observation,
        action,
        core=PPRCore(32, slow_period=4, slow_cell=slow, return_state=True),
        heads={"reward": keras.layers.Dense(2)},
    )
    optimizer = keras.optimizers.Adam(1e-2, global_clipnorm=1.0)
    common = {"trace_decay": 0.95, "entropy_coefficient": 0.01}
    callbacks = [BayesRegret(bandit)]
    specs = world.time_step_spec(), action
    if not everything:
        agent = agents.ActorCriticAgent(*specs, model, optimizer, **common)
    else:
        callbacks.insert(0, TopKAST(DENSITY, refresh_every=10))
        sparsify(model, alpha=1.5, verbose=0)
        agent = agents.KLRegularizedAgent(  # towards a default policy
            *specs,
            model,
            Powerprop(optimizer),
            agents.default_policy_model(  # which sees the last pull alone
                {"previous_action": observation["previous_action"]}, action
            ),
            keras.optimizers.Adam(3e-3),
            alpha=0.02,
            target_period=20,
            loss_terms=[
                agents.PPRTerm(action, 0.1),
                agents.RewardPredictionTerm(
                    action, gate=GradientGate("unweighted")
                ),
            ],
            **common,
        )
    history = agents.train(
        agent,
        world,
        epochs=EPOCHS,
        steps_per_epoch=STEPS,
        segment_length=PULLS,
        callbacks=callbacks,
        verbose=0,
    ).history
    return agent, history, bandit


agent, history, bandit = train(everything=True)
histories = {"everything": history}
if not FAST:
    histories["dense, no terms"] = train(everything=False)[1]
print(*sorted(history), sep=", ")

# %% [markdown]
# ## What it earns, and what its parts do meanwhile
#
# The grey lines are exact: what one earns who pulls at random, who plays
# Bayes-optimally, and who knows the arms.

# %%
figure, axes = plt.subplots(2, 3, figsize=(11, 6), sharex=True)
panels = {
    "pulls that paid": ["return"],
    "Top-KAST: share of A replaced": ["mask_churn"],
    "PPR: loss of the cores' divergence": ["ppr"],
    "nats between policy and default": ["default"],
    "gate: cosine and weight": [
        "cosine_reward_prediction",
        "weight_reward_prediction",
    ],
    "reward prediction, nats": ["reward_prediction"],
}
for axis, (title, names) in zip(axes.flat, panels.items()):
    for name in names:
        label = "everything" if name == "return" else name.split("_")[0]
        axis.plot(history[name], label=label)
    axis.set_title(title, fontsize=10)
axes[1, 1].legend()
for name, found in list(histories.items())[1:]:
    axes[0, 0].plot(found["return"], label=name)
axes[0, 0].legend(loc="center left", fontsize=8)
levels = {
    "at random": PULLS / 2,
    "Bayes-optimal": bandit.optimal_return,
    "knows the arms": bandit.best_return,
}
for name, level in levels.items():
    axes[0, 0].axhline(level, color="grey", linestyle=":")
    axes[0, 0].text(0, level, name, fontsize=8, va="bottom")
for axis in axes[1]:
    axis.set_xlabel("epoch")
figure.tight_layout()
plt.show()
for name, found in histories.items():
    print(
        f"{name:16} return {found['return'][0]:.2f} in the first epoch, "
        f"{found['return'][-1]:.2f} in the last: "
        f"{found['regret_above_optimal'][-1]:.2f} below Bayes-optimal"
    )

# %% [markdown]
# A fifth of the weights is used in every kernel that has a mask: those of the
# slow GTrXL, of all three cores, and of the torso.

# %%
summary = sparsity_summary(agent.model)

# %% [markdown]
# The default policy has seen which arm was pulled, and neither what it paid
# nor when. What it can know of good play is a habit: how likely is the same
# arm again? (What it says of a first pull, which is the same in every
# episode, is no knowledge of bandits: both arms are equally good there.)

# %%
first, left, right = np.eye(3, 2, -1, dtype="float32")[:, None]
habits = [
    keras.ops.softmax(
        agent.default_model(
            {
                "observation": {"previous_action": seen[None]},
                "is_first": np.zeros((1, 1), bool),
                "state": {},
            }
        )["outputs"]["policy"][0, 0]
    ).numpy()
    for seen in (first, left, right)
]
print("first pull, left and right:", habits[0].round(2))
print("left again, after left:    ", habits[1][0].round(2))
print("right again, after right:  ", habits[2][1].round(2))

# %% [markdown]
# ## For a problem of your own
#
# - Take away what you do not need: each paper is one argument, one term or
#   one callback above, and nothing else knows of it.
# - `DistillationTerm` and `MixAndMatchAgent` bring in the other papers, an
#   `EpisodicLSTM` before the `PPRCore` the last one. [What composes with
#   what](../docs/compositions.md) has all pairs, and how each is tested.
# - `agents.train(..., checkpoint_directory=...)` goes on bit for bit with
#   everything above: masks, moments, gate, target of the default, memory.
# - A part that does nothing is reported: a term that is exactly 0 in the
#   first epoch gets a warning, and each has its figure in `history`.
