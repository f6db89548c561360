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
# # Top-KAST: sparse from the first step to the last
#
# *Jayakumar, Pascanu, Rae, Osindero, Elsen, NeurIPS 2020,
# [arXiv 2106.03517](https://arxiv.org/abs/2106.03517).*
#
# The network computes with the largest weights alone, the forward set A. A
# somewhat larger backward set B is trained, so that weights just outside A
# can grow into it; everything else rests. Every 100 steps both sets are
# chosen anew by magnitude. A penalty pulls at weights in B outside A
# $1 / D$ times harder than at those in A ($D$: forward density), so that
# being chosen once is no privilege. No dense gradient is ever needed.

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
from image_data import load_images

from keras_sparse_rl.callbacks import MagnitudePruning
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import PolynomialSchedule
from keras_sparse_rl.sparsity import sparsify
from keras_sparse_rl.sparsity import sparsity_summary

(x, y), (x_test, y_test) = load_images()  # 12,000 images of clothes
if FAST:
    x, y = x[::4], y[::4]
print(x.shape, x_test.shape)


# %%
def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(300, activation="relu", name="hidden1"),
            keras.layers.Dense(100, activation="relu", name="hidden2"),
            keras.layers.Dense(10, name="logits"),
        ]
    )


EPOCHS = 1 if FAST else 8
STEPS = EPOCHS * -(-len(x) // 60)


def train(callbacks, alpha=1.5, rate=4e-3):
    """Three lines make a Keras model sparse: sparsify, Powerprop, TopKAST."""
    model = network()
    sparsify(model, alpha=alpha, densities={"logits": 1.0}, verbose=0)
    schedule = keras.optimizers.schedules.CosineDecay(rate, STEPS)
    model.compile(
        Powerprop(keras.optimizers.Adam(schedule)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(
        x,
        y,
        batch_size=60,
        epochs=EPOCHS,
        validation_data=(x_test, y_test),
        callbacks=callbacks,
        verbose=0,
    )
    return model, history.history


# %% [markdown]
# ## The smallest experiment that shows it
#
# Dense; always sparse with exploration; sparse with the masks fixed at the
# start; and gradual pruning, which starts dense.

# %%
D = 0.02
schedule = PolynomialSchedule(D, STEPS // 10, STEPS * 3 // 4)
settings = {"densities": "erk", "penalty": 1e-2}
runs = {
    "dense": [],
    "Top-KAST": [TopKAST(D, 5 * D, **settings)],
    "fixed at the start": [TopKAST(D, 5 * D, explore_steps=0, **settings)],
    "gradual pruning": [MagnitudePruning(schedule, densities="erk")],
}
models, histories = {}, {}
for name, callbacks in runs.items():
    models[name], histories[name] = train(callbacks)
    print(f"{name:20} {histories[name]['val_accuracy'][-1]:.3f}")

# %%
for name, history in histories.items():
    plt.plot(history["val_accuracy"], marker=".", label=name)
plt.xlabel("epoch")
plt.ylabel(f"test accuracy at {D:.0%} of the weights")
plt.legend()
plt.grid(alpha=0.3)
plt.show()

# %% [markdown]
# The sets settle: fewer weights change places from epoch to epoch. And the
# network has found out where in the picture the clothes are.

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3.5))
axes[0].plot(histories["Top-KAST"]["mask_churn"], marker=".")
axes[0].set(xlabel="epoch", ylabel="share of A replaced by a refresh")
mask = sparse_kernels(models["Top-KAST"])[0].forward_mask()
axes[1].imshow(mask.sum(1).reshape(28, 28), cmap="magma")
axes[1].set_title("weights left per pixel")
axes[1].axis("off")
plt.show()

# %%
summary = sparsity_summary(models["Top-KAST"])

# %% [markdown]
# ## For a problem of your own
#
# - `forward_density` is what you keep; `backward_density` two to five times
#   that (more explores more).
# - `densities="erk"` keeps small layers denser; a dict sets single layers.
# - Compile with `Powerprop(any optimizer)`: it holds the resting weights.
# - The masks are in the model: `model.save` and `BackupAndRestore` keep them.
