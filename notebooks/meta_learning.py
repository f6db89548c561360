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
# # Meta-learning of sequential strategies: memories that become Bayesian
#
# *Ortega et al. 2019, [arXiv 1905.03030](https://arxiv.org/abs/1905.03030);
# the comparison of machines from Mikulik et al. 2020,
# [arXiv 2010.11223](https://arxiv.org/abs/2010.11223).*
#
# Train a model with a memory on sequences that each come from another task,
# by nothing but log loss or reward. What it finds is what Bayes' rule says:
# to predict best, it must infer the task from what it has seen, and its
# memory comes to hold the sufficient statistics. Everything here is small
# enough for the exact answer to be known, so that we see how near it comes.

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
import meta_learning
import numpy as np

from keras_sparse_rl import meta

# %% [markdown]
# ## A task, and the best that can be predicted of it
#
# A task is data for `fit`: each sequence has a coin of its own, inputs are
# the last toss, targets the next. Beside it stands its exact predictor, which
# streams: a state of sufficient statistics (numbers of ones and zeros), and
# from it the parameters that a perfect model would put out.

# %%
task = meta.tasks.Bernoulli(
    length=20,
    batch_size=8 if FAST else 256,
    steps_per_epoch=2 if FAST else 100,
)
x, y = task[0]
print("inputs", x.shape, "targets", y.shape)
coin = task.predictor
state = coin.initial_state(1)
for toss in (1, 1, 0):
    p = 1 / (1 + np.exp(-coin.outputs(state)[0, 0]))
    print(f"ones, zeros: {state[0]}, next is 1 with probability {p:.3f}")
    state = coin.update(state, [toss])

# %% [markdown]
# ## First template: a predictor, by log loss
#
# Any Keras model with a memory; `BayesRegret` reports after each epoch what it
# still misses: the divergence from the exact predictor, in nats a step.

# %%
arguments = meta_learning.parse(
    ["--steps", "2" if FAST else "800", "--verbose", "0"]
    + ["--held-out", "50" if FAST else "1000"]
    + ["--batch-size", "8" if FAST else "256"]
    + ["--map-epochs", "1" if FAST else "10"]
    + (["--no-jit", "--units", "8"] if FAST else [])
)
keras.utils.set_random_seed(0)
model, found = meta_learning.fit(task, arguments, seed=0)
print(f"{np.mean(found['excess']):.1e} nats a step above Bayes")

# %%
bent = meta.BetaBernoulli(alpha=0.5, beta=0.5)  # another prior: that of KT
observations = task.held_out(500)
states = coin.states(observations)
other = coin.loss.divergence(coin.outputs(states), bent.outputs(states))
plt.semilogy(np.arange(1, 21), found["excess"], "o-", label="LSTM")
plt.semilogy(
    np.arange(2, 21), np.mean(other, 0)[1:], "s--", label="KT estimator"
)
plt.xlabel("position")
plt.ylabel("nats above Bayes")
plt.legend()
plt.show()

# %% [markdown]
# ## The memory holds the sufficient statistics
#
# Read linearly, and by maps in both directions: if each machine's state can be
# guessed from the other's so well that its outputs stay the same, both compute
# the same thing.

# %%
seen = meta_learning.inspect(task, model, arguments, seed=0)
print(f"R² of the posterior's log-odds, read linearly: {seen['probe']:.4f}")
for name, value in seen["similarity"].items():
    print(f"{name:22} {value:.1e}")

# %%
reader = keras.Model(model.input, model.get_layer("memory").output)
memories = reader.predict(task.inputs(observations), verbose=0)
flat = memories.reshape(-1, memories.shape[-1])
flat = flat - flat.mean(0)
axes = np.linalg.svd(flat, full_matrices=False)[2][:2]
place = flat @ axes.T
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
statistics = states.reshape(-1, 2)
for axis, colour, name in (
    (left, coin.outputs(statistics)[:, 0], "posterior's log-odds"),
    (right, statistics.sum(-1), "tosses seen"),
):
    dots = axis.scatter(*place.T, c=colour, s=3, cmap="coolwarm")
    figure.colorbar(dots, ax=axis, label=name)
    axis.set(xticks=[], yticks=[], xlabel="memory, first component")
left.set_ylabel("second component")
plt.show()

# %% [markdown]
# ## What is optimal in a bandit
#
# Two arms of unknown probability, 20 pulls. Dynamic programming over all that
# can have been seen gives the best play; other ways to play are valued over
# the same states, exactly.

# %%
horizon = 5 if FAST else 20
bandit = meta.BanditOptimum(num_arms=2, horizon=horizon)
players = {
    "optimal": bandit.policy,
    "Gittins (0.95)": lambda s, f: meta.gittins_policy(s, f, 0.95),
    "greedy": meta.greedy_policy,
    "Thompson": meta.thompson_policy,
    "UCB1": meta.ucb1_policy,
}
for name, policy in players.items():
    regret = bandit.best_return - bandit.return_of(policy)
    print(f"{name:15} regret {regret:.3f}")
print("Gittins indices:", meta.gittins_index([1, 2, 1], [1, 1, 2], 0.9))

# %% [markdown]
# ## Second template: Thompson sampling, by regression
#
# Predict what one who knows the arms would pull. What is learned is the
# probability that an arm is the best; who draws from it samples like Thompson.

# %%
arguments.steps = 2 if FAST else 600
arguments.episodes = 200 if FAST else 10_000
thompson = meta_learning.train_thompson(arguments, seed=0)

# %% [markdown]
# ## Third template: play by reinforcement
#
# An `ActorCriticAgent` whose LSTM sees its last action and reward. A head that
# predicts rewards (`RewardPredictionTerm`) helps the memory to keep what
# matters; the entropy bonus falls to 0. In the minute that it has here it is on
# its way; a trial with 3,000 steps of 512 episodes reached 0.95.

# %%
arguments = meta_learning.parse(
    ["--steps", "2" if FAST else "700", "--verbose", "0"]
    + ["--batch-size", "8" if FAST else "256", "--units", "32"]
    + ["--episodes", "50" if FAST else "10000"]
    + (["--no-jit"] if FAST else [])
)
optimal = meta_learning.train_optimal(arguments, seed=0)
meta_learning.plot_regret({"actor-critic": optimal}, None, horizon)
plt.show()

# %% [markdown]
# ## For a problem of your own
#
# - `meta.tasks` has coins, dice, normal numbers, waiting times, Markov chains
#   and coins that are exchanged; a task of your own is a subclass of
#   `meta.tasks.Task` with a `BayesPredictor`.
# - The last digits come with steps, a falling learning rate and large batches.
# - What is learned holds for the lengths that were trained: check longer
#   sequences before you trust them.
# - `callbacks.BayesRegret(environment)` reports regret in `agents.train`, for
#   an environment that knows what can be earned.
