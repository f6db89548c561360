"""Auxiliary losses that help, do nothing or harm: summed and gated.

    python examples/auxiliary_losses.py [--pairs near far noise] [--data FOLDER]

A small network tells pullovers from the rest (main task) and another class
from the rest (auxiliary task; its loss weighs 5 times as much). Near: the
other class is coats. Far: sandals. Noise: its labels are drawn by lot. Prints
the main loss over all training images at the end, and saves a plot.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Runs as a script, and is imported by its benchmark.
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from keras import ops

from examples.image_data import load_images
from keras_sparse_rl.callbacks import GradientCosine

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PAIRS = {"near": (2, 4), "far": (2, 5), "noise": (2, 4)}
BATCH, EVERY, AUXILIARY = 128, 10, 5.0
METHODS = {
    "alone": None,
    "sum": lambda: [],
    "weighted": lambda: [GradientCosine("main", "auxiliary")],
    "unweighted": lambda: [GradientCosine("main", "auxiliary", "unweighted")],
}


def tasks(data, pair, seed):
    """Training and test arrays: images, targets, sample weights."""
    main, auxiliary = PAIRS[pair]
    (x, y), _ = load_images(data)
    generator = np.random.default_rng(seed)
    rest = generator.permutation(
        np.flatnonzero((y != main) & (y != auxiliary))
    )[:2000]
    many = np.flatnonzero(y == auxiliary)
    kept = np.concatenate([np.flatnonzero(y == main), rest, many])
    x, targets, weights = _arrays(x[kept], y[kept], main, auxiliary)
    if pair == "noise":
        targets["auxiliary"] = generator.integers(0, 2, (len(x), 1)) * 1.0
    return x, targets, weights


def _arrays(x, y, main, auxiliary):
    """Neither task sees the other's class."""
    targets, weights = {}, {}
    for name, own, other in (
        ("main", main, auxiliary),
        ("auxiliary", auxiliary, main),
    ):
        is_own = y == own
        targets[name] = is_own.astype("float32")[:, None]
        # Both classes count the same, however rare.
        share = is_own.sum() / np.sum(y != other)
        weight = np.where(is_own, 0.5 / share, 0.5 / (1 - share))
        weights[name] = (weight * (y != other)).astype("float32")
    return x, targets, weights


def run(data, pair, method, seed=0, epochs=60):
    """Trains one network.

    Args:
        data: str, see `load_images`.
        pair: str, one of `PAIRS`.
        method: None for the main task alone, or a list of callbacks.
        seed: int.
        epochs: int, of 10 steps each.

    Returns:
        Dict of lists, an entry an epoch: `losses`, the main loss over all
        training images, and `cosines`, where a callback reports them.
    """
    keras.utils.set_random_seed(seed)
    x, y, weights = tasks(data, pair, seed)
    names = ["main"] if method is None else ["main", "auxiliary"]
    train = x, {n: y[n] for n in names}, {n: weights[n] for n in names}
    inputs = keras.Input((28, 28, 1))
    shared = keras.layers.Dense(64, "relu")(keras.layers.Flatten()(inputs))
    shared = keras.layers.Dense(8, "relu")(shared)
    model = keras.Model(
        inputs, {n: keras.layers.Dense(1, name=n)(shared) for n in names}
    )
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.SGD(0.02),
        {n: loss for n in names},
        loss_weights={n: AUXILIARY if n == "auxiliary" else 1.0 for n in names},
    )
    batches = tf.data.Dataset.from_tensor_slices(train).shuffle(
        len(train[0]), seed=seed
    )
    seen, losses = weights["main"] > 0, []

    def evaluate(epoch, logs):
        each = ops.binary_crossentropy(
            y["main"][seen], model(x[seen])["main"], from_logits=True
        )
        mean = np.average(each[:, 0], weights=weights["main"][seen])
        losses.append(float(mean))

    watch = keras.callbacks.LambdaCallback(on_epoch_end=evaluate)
    history = model.fit(
        batches.repeat().batch(BATCH),
        epochs=epochs,
        steps_per_epoch=EVERY,
        verbose=0,
        callbacks=[*(method or []), watch],
    ).history
    return {"losses": losses, "cosines": history.get("cosine_auxiliary", [])}


def plot(found, path):
    """Main loss by step: a panel a pair, a line a method."""
    size = 4 * len(found), 4
    figure, axes = plt.subplots(
        1, len(found), figsize=size, sharey=True, squeeze=False
    )
    for axis, (pair, methods) in zip(axes[0], found.items()):
        for method, runs in methods.items():
            losses = [run["losses"] for run in runs]
            steps = EVERY * np.arange(1, len(losses[0]) + 1)
            axis.plot(steps, np.mean(losses, 0), label=method)
        axis.set(title=f"{pair} auxiliary task", xlabel="step", yscale="log")
    axes[0, 0].set_ylabel("main loss of all training images")
    axes[0, -1].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="embedded")
    parser.add_argument(
        "--pairs", nargs="+", default=list(PAIRS), choices=list(PAIRS)
    )
    parser.add_argument("--epochs", type=int, default=60, help="of 10 steps")
    parser.add_argument("--output", default="runs/auxiliary_losses")
    arguments = parser.parse_args()
    found = {pair: {} for pair in arguments.pairs}
    for pair, runs in found.items():
        for name, make in METHODS.items():
            method = None if make is None else make()
            runs[name] = [
                run(arguments.data, pair, method, epochs=arguments.epochs)
            ]
            losses, cosines = runs[name][0].values()
            known = f", mean cosine {np.mean(cosines):.2f}" if cosines else ""
            print(f"{pair} {name}: main loss {losses[-1]:.4f}{known}")
    folder = pathlib.Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    plot(found, folder / "losses.png")
    print(f"plot: {folder / 'losses.png'}")


if __name__ == "__main__":
    main()
