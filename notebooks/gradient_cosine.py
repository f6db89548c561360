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
# # Gradient cosine: auxiliary losses only as far as they help
#
# *Du, Czarnecki, Jayakumar, Farajtabar, Pascanu, Lakshminarayanan, 2018,
# [arXiv 1812.02224](https://arxiv.org/abs/1812.02224).*
#
# An auxiliary loss teaches shared layers something that the main loss may
# need, or something else. Whether it helps can change during training, and
# nobody knows it beforehand. The paper's measure is the cosine between the
# gradients of both losses on shared parameters: above 0 the auxiliary step
# does not undo the main one. So the auxiliary gradient is weighed by
# $\max(0, \cos)$ (weighted) or taken whole where the cosine is positive
# (unweighted). The gated gradient then never opposes the main one - which
# bounds the harm (what Adam or momentum makes of it may differ), and promises
# no help.

# %%
REPOSITORY = ""  # outside a checkout: the address that `git clone` takes

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
if importlib.util.find_spec("keras_sparse_rl") is None:
    pip = [sys.executable, "-m", "pip", "install", "-q"]
    subprocess.run([*pip, "-e", str(root), "matplotlib"], check=True)
sys.path[:0] = [str(root), str(root / "examples")]
FAST = bool(os.environ.get("NOTEBOOK_FAST"))

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
from image_data import load_images

from keras_sparse_rl.callbacks import GradientCosine
from keras_sparse_rl.gradients import gate_gradients

# %% [markdown]
# ## On paper: two losses that want different things
#
# The main loss draws to the left, the auxiliary one to the right. Their sum
# ends in between; gated, the auxiliary loss helps where both agree on the
# way and is dropped where they part.

# %%
targets = {"main": np.array([-1.0, 0.0]), "auxiliary": np.array([1.0, 0.5])}
stretch = np.array([1.0, 8.0])


def gradient(name, theta):
    return stretch * (theta - targets[name])


paths = {}
for method in ("alone", "sum", "weighted", "unweighted"):
    theta = np.array([0.0, 2.0])
    paths[method] = [theta]
    for _ in range(80):
        main, other = gradient("main", theta), gradient("auxiliary", theta)
        if method == "alone":
            step = main
        elif method == "sum":
            step = main + other
        else:
            step = gate_gradients([main], [[other]], method).gradients[0]
        theta = theta - 0.03 * np.asarray(step)
        paths[method].append(theta)
figure, axis = plt.subplots(figsize=(5, 3))
for method, path in paths.items():
    axis.plot(*np.transpose(path), ".-", markersize=3, label=method)
for name, place in targets.items():
    axis.annotate(name, place, ha="center")
axis.legend()
plt.show()

# %% [markdown]
# ## In `fit`: a neighbouring task, and one that is noise
#
# The main task tells pullovers from the rest. The auxiliary task, weighed
# five times as much, is to tell coats from the rest, or labels drawn by lot;
# both share eight units with the main one. Summed, the coats take these units
# for themselves; gated, they are let in as far as they help. Noise hardly
# matters here, as its gradients cancel, and the gate leaves it out. The only
# change to an ordinary two-output model is a callback.

# %%
(x, y), _ = load_images()
count, steps = (600, 20) if FAST else (6_000, 400)
x, y = x[:count], y[:count]
noise = np.random.default_rng(0).integers(0, 2, len(y))
labels = {"coats": y == 4, "noise": noise}


def train(auxiliary, callbacks):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((28, 28, 1))
    shared = keras.layers.Flatten()(inputs)
    shared = keras.layers.Dense(64, "relu")(shared)
    shared = keras.layers.Dense(8, "relu")(shared)
    outputs = {
        name: keras.layers.Dense(1, name=name)(shared)
        for name in ("main", "auxiliary")
    }
    model = keras.Model(inputs, outputs)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.SGD(0.05),
        {"main": loss, "auxiliary": loss},
        loss_weights={
            "main": 1.0,
            "auxiliary": 0.0 if auxiliary is None else 5.0,
        },
    )
    wanted = labels[auxiliary or "coats"]
    targets = {"main": (y == 2) * 1.0, "auxiliary": wanted * 1.0}
    return model.fit(
        x,
        targets,
        batch_size=128,
        epochs=-(-steps * 128 // len(x)),
        callbacks=callbacks,
        verbose=0,
    ).history


runs = {}
for auxiliary in labels:
    runs[auxiliary] = {
        "alone": train(None, []),
        "sum": train(auxiliary, []),
        "weighted": train(auxiliary, [GradientCosine("main", "auxiliary")]),
    }
    for method, history in runs[auxiliary].items():
        cosine = history.get("cosine_auxiliary", [np.nan])
        print(
            f"{auxiliary:5} {method:8} main loss "
            f"{history['main_loss'][-1]:.4f}, cosine {np.mean(cosine):.2f}"
        )

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3.5))
for axis, (auxiliary, histories) in zip(axes, runs.items()):
    for method, history in histories.items():
        axis.plot(history["main_loss"], label=method)
    axis.set(title=f"{auxiliary}", xlabel="epoch", ylabel="main loss")
    axis.set_yscale("log")
    axes[2].plot(histories["weighted"]["cosine_auxiliary"], label=auxiliary)
axes[0].legend()
axes[2].legend()
axes[2].set(title="cosine", xlabel="epoch")
figure.tight_layout()
plt.show()

# %% [markdown]
# **For your own problem**: name the outputs (or pass a function `(model, x,
# y, y_pred) -> scalar` for a loss that is no output's); `scope="layer"` gates
# each layer by itself, `smoothing=0.9` averages cosines of noisy small
# batches (then a single step may oppose the main gradient), `norm_cap=1.0`
# keeps a loud auxiliary loss as quiet as the main one. In reinforcement
# learning give a term a gate: `DistillationTerm(teacher, gate=GradientGate())`.
