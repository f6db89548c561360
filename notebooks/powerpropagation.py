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
# # Powerpropagation: weights that are easy to remove
#
# *Schwarz, Jayakumar, Pascanu, Latham, Teh, NeurIPS 2021,
# [arXiv 2110.00296](https://arxiv.org/abs/2110.00296).*
#
# Store a weight as $\theta$ and use it as $w = \theta |\theta|^{\alpha - 1}$.
# The gradient of $\theta$ is then that of $w$ times
# $\alpha |\theta|^{\alpha - 1}$: large weights learn faster, small ones hardly
# move. So training leaves most weights near 0, and removing them costs
# little. The network computes what any network computes, and $\alpha = 1$ is
# the ordinary one. Adam would divide the factor away again, so the optimizer
# has to know of it.

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

from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import densify
from keras_sparse_rl.sparsity import prune
from keras_sparse_rl.sparsity import sparsify
from keras_sparse_rl.sparsity import sparsity_summary

(x, y), (x_test, y_test) = load_images()  # 12,000 images of clothes
if FAST:
    x, y = x[::4], y[::4]
print(x.shape, x_test.shape)

# %% [markdown]
# ## The smallest experiment that shows it
#
# The same network from the same effective weights, trained with different
# exponents by the same optimizer. Then keep the largest weights of each layer
# (the last keeps twice the share), with no further training.


# %%
EPOCHS = 1 if FAST else 6


def train(alpha, wrap=Powerprop, rate=6e-3):
    keras.utils.set_random_seed(0)

    # A small start leaves it to training which weights become large.
    def dense(units, **arguments):
        small = keras.initializers.VarianceScaling(0.1)
        return PowerpropDense(
            units, alpha=alpha, kernel_initializer=small, **arguments
        )

    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            dense(300, activation="relu"),
            dense(100, activation="relu"),
            dense(10, name="logits"),
        ]
    )
    steps = EPOCHS * -(-len(x) // 60)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(
        wrap(keras.optimizers.Adam(schedule)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(x, y, batch_size=60, epochs=EPOCHS, verbose=0)
    return model


def prune_curve(model, densities):
    accuracies = []
    for density in densities:
        prune(model, density, densities={"logits": min(1.0, 2 * density)})
        accuracies.append(model.evaluate(x_test, y_test, 500, verbose=0)[1])
    prune(model, 1.0)
    return accuracies


densities = [0.02, 0.05, 0.1, 1.0] if FAST else np.geomspace(0.01, 1, 10)
models = {alpha: train(alpha) for alpha in ((1, 3) if FAST else (1, 2, 3))}
curves = {alpha: prune_curve(m, densities) for alpha, m in models.items()}

# %%
for alpha, accuracies in curves.items():
    plt.semilogx(densities, accuracies, marker=".", label=f"alpha = {alpha}")
plt.xlabel("share of the weights left")
plt.ylabel("test accuracy")
plt.legend()
plt.grid(alpha=0.3)
plt.show()

# %% [markdown]
# Why it works: where the weights are.

# %%
for alpha, model in models.items():
    weights = sparse_kernels(model)[0].weight().ravel()
    plt.hist(
        np.log10(np.abs(weights) + 1e-6),
        bins=60,
        histtype="step",
        label=f"alpha = {alpha}",
    )
plt.xlabel("log10 of |weight|, first layer")
plt.legend()
plt.show()

# %% [markdown]
# ## Adam needs `Powerprop(...)`
#
# Adam divides by the gradient's scale, and with it by the exponent's factor.
# `optimizers.Powerprop` runs Adam on the gradient of $w$ and multiplies its
# *step*. (Without it you get one warning, with the line to write.)

# %%
naive = prune_curve(train(3, wrap=lambda optimizer: optimizer), densities)
plt.semilogx(densities, naive, marker=".", label="Adam")
plt.semilogx(densities, curves[3], marker=".", label="Powerprop(Adam)")
plt.xlabel("share of the weights left")
plt.ylabel("test accuracy, alpha = 3")
plt.legend()
plt.grid(alpha=0.3)
plt.show()

# %% [markdown]
# ## For a model of your own
#
# A larger `alpha` is sparser and needs a smaller learning rate; 1.5 to 3 are
# good starts. `sparsify` makes an existing Keras model sparse-ready, in place;
# `densify` makes it plain again, with the zeros baked in, and it loads without
# this package.

# %%
mine = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        keras.layers.Conv2D(16, 3, 2, activation="relu"),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ]
)
sparsify(mine, alpha=2.0, densities={mine.layers[-1]: 1.0}, verbose=0)
prune(mine, 0.2)
summary = sparsity_summary(mine)
densify(mine)
