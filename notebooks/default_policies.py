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
# # Default policies that know less
#
# *Galashov, Jayakumar, Hasenclever, Tirumala, Schwarz, Desjardins, Czarnecki,
# Teh, Pascanu, Heess, 2019, "Information asymmetry in KL-regularized RL",
# [arXiv 1905.01240](https://arxiv.org/abs/1905.01240).*
#
# An agent that solves many tasks repeats itself: however far the target, one
# walks through doors and not into walls. A second policy, the *default*,
# imitates the first without seeing everything - here, without the target. What
# it can imitate is what all tasks share. The first policy is paid for staying
# near it,
#
# $$\mathbb{E} \sum_t \gamma^t \left( r_t - \alpha\,
# \mathrm{KL}(\pi(\cdot|x_t) \,\|\, \pi_0(\cdot|x^D_t)) \right),$$
#
# and $\pi_0$ minimizes the same divergence. With a uniform $\pi_0$ this is
# entropy regularisation. What the default sees decides whether it helps.

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

from benchmarks import default_policies as table
from keras_sparse_rl import agents
from keras_sparse_rl.environments import GoToTarget
from keras_sparse_rl.losses import kl_to_default

keras.utils.set_random_seed(0)

# %% [markdown]
# ## Four rooms, solved exactly
#
# A small table shows all of it: policies for four known targets by soft value
# iteration, the default in closed form (`losses.marginal_policy`), in turn.
# Neither half step lowers the objective.

# %%
rooms = table.Rooms(layout=0, size=7, num_targets=4)
plt.imshow(GoToTarget(7, 4, batch_size=1).render()[0])
plt.axis("off")

found = {}
for name, information in rooms.information.items():
    if FAST and name not in (
        "walls + previous action",
        "position + previous action",
    ):
        continue
    default, policy, weight, value, objective = table.alternate(
        rooms, information, rooms.targets
    )
    divergence = (weight * table.divergence(policy, default)).sum()
    found[name] = {
        "default": default,
        "divergence": divergence / weight.sum(),
        "gain": table.diagnose(rooms, information, value).gain,
    }
    print(f"{name}: smallest increment {np.diff(objective).min():.1e}")

# %% [markdown]
# ## Which default will help on new targets?
#
# The more the default sees, the smaller its divergence in training. Transfer
# is another matter: a default that knows the position knows the way to the old
# targets. `losses.transfer_gain` asks, before anything new is learned: how soon
# would the default, learned without one of the targets, find it by itself,
# compared with the uniform policy? It ranks what the default sees; above 1 it
# is likely to help. (With four targets in these rooms, leaving one out often
# leaves a whole room unknown, so that no gain is above 1 here.)

# %%
defaults = [np.full((rooms.cells, 5, 4), 0.25)]
defaults += [table.floored(x["default"]) for x in found.values()]
steps = np.mean(
    [
        table.learned_steps(rooms, defaults, seed).mean(1)
        for seed in range(1 if FAST else 3)
    ],
    axis=0,
)
print(f"{'default sees':28s} KL     gain   times fewer steps on new targets")
for (name, x), ratio in zip(found.items(), steps[0] / steps[1:]):
    print(f"{name:28s} {x['divergence']:.3f}  {x['gain']:5.2f}  {ratio:.2f}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True)
for (name, x), ratio in zip(found.items(), steps[0] / steps[1:]):
    axes[0].plot(x["divergence"], ratio, "o")
    axes[1].plot(x["gain"], ratio, "o", label=name)
axes[0].set(xlabel="training KL", ylabel="times fewer steps, new targets")
axes[1].set(xlabel="transfer gain, known before", xscale="log")
for axis in axes:
    axis.axhline(1, color="grey", linewidth=0.5)
axes[1].axvline(1, color="grey", linewidth=0.5)
axes[1].legend(fontsize="small")
figure.tight_layout()

# %% [markdown]
# ## The same as an agent
#
# `KLRegularizedAgent` takes two models. What each sees is the observation it
# is built for: the default below sees walls and the last action. The divergence
# is subtracted from rewards *and* is a loss of each step; one without the other
# is the gradient of nothing.

# %%
environment = GoToTarget(size=7, num_targets=4, batch_size=16)
observation, action = environment.observation_spec(), environment.action_spec()
seen = {key: observation[key] for key in ("previous_action", "walls")}
agent = agents.KLRegularizedAgent(
    environment.time_step_spec(),
    action,
    agents.actor_critic_model(observation, action),
    keras.optimizers.Adam(3e-3),
    agents.default_policy_model(seen, action),
    keras.optimizers.Adam(3e-3),
    alpha=0.02,
    entropy_coefficient=0.0,
)
history = agents.train(
    agent,
    environment,
    epochs=2 if FAST else 15,
    steps_per_epoch=5 if FAST else 30,
    segment_length=16,
    verbose=0,
).history
figure, axis = plt.subplots(figsize=(5, 3.5))
axis.plot(history["return"], label="mean return")
axis.plot(history["default"], label="KL to the default, nats")
axis.set(xlabel="epoch")
axis.legend()

# %% [markdown]
# The default never sees the target. What it has learned about corridors: with
# walls left and right and having gone up, go on.

# %%
corridor = {
    "previous_action": np.array([[[1.0, 0, 0, 0]]], "float32"),
    "walls": np.array([[[0.0, 1, 0, 1]]], "float32"),
}
outputs = agent.default_model(
    {"observation": corridor, "is_first": np.zeros((1, 1), bool), "state": {}}
)["outputs"]["policy"]
print("up, right, down, left:", keras.ops.softmax(outputs).numpy().round(2))
print("nats from uniform:", float(kl_to_default(outputs)[0, 0]))

# %% [markdown]
# `agent.default_model` goes to another agent, with `freeze_default=True` in
# place of a `default_optimizer`: frozen, it holds what the first agent learned
# about moving. The wrappers `KLRegularizedPPOClipAgent` and
# `KLRegularizedSacAgent` do the same around TF-Agents' own agents.
