"""Train sparse networks on real images: the main job of keras_sparse_rl.

    python examples/sparse_images.py [--data DIR | --data keras]

1. LeNet-300-100, dense, with Powerpropagation exponents 1 to 5, pruned in one
   shot to between 1 % and 100 % of its weights.
2. LeNet-300-100 and a small convolutional network, always sparse: trained
   with Powerprop weights and Top-KAST, never dense.

Prints a table, and saves two plots and TensorBoard logs.
"""

import argparse
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from quiet_start import quiet_start

with quiet_start():
    import keras

    keras.ops.ones(())  # looks for devices

import matplotlib
import numpy as np
from image_data import load_images

from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import prune
from keras_sparse_rl.sparsity import sparsify
from keras_sparse_rl.sparsity import sparsity_summary

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Exponents and their learning rates: the largest need a small one.
ALPHAS = {1: 6e-3, 2: 1.5e-2, 3: 1.5e-2, 4: 6e-3, 5: 3e-3}
DENSITIES = (1.0, 0.3, 0.2, 0.1, 0.07, 0.05, 0.02, 0.01)
SPARSE_DENSITIES = (0.1, 0.05)
BATCH = 100


def lenet(kernel_initializer="glorot_uniform"):
    keras.utils.set_random_seed(0)

    def dense(units, name, activation=None):
        return keras.layers.Dense(
            units, activation, kernel_initializer=kernel_initializer, name=name
        )

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            dense(300, "hidden1", "relu"),
            dense(100, "hidden2", "relu"),
            dense(10, "logits"),
        ]
    )


def convolutional():
    keras.utils.set_random_seed(0)

    # Without normalization signals fade where few weights are left.
    def normalized_relu():
        return [
            keras.layers.BatchNormalization(momentum=0.9),
            keras.layers.ReLU(),
        ]

    def convolution(filters, size, name):
        return keras.layers.Conv2D(
            filters, size, 2, "same", use_bias=False, name=name
        )

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            convolution(16, 5, "conv1"),
            *normalized_relu(),
            convolution(32, 3, "conv2"),
            *normalized_relu(),
            keras.layers.Flatten(),
            keras.layers.Dense(64, use_bias=False, name="hidden"),
            *normalized_relu(),
            keras.layers.Dense(10, name="logits"),
        ]
    )


def train(model, optimizer, data, epochs, logs, callbacks=()):
    """Trains a classifier and returns its test accuracy, in percent."""
    (x, y), (x_test, y_test) = data
    model.compile(
        Powerprop(optimizer),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    history = model.fit(
        x,
        y,
        batch_size=BATCH,
        epochs=epochs,
        # Callbacks that report stand before TensorBoard.
        callbacks=[*callbacks, keras.callbacks.TensorBoard(logs)],
        verbose=0,
    )
    accuracy = 100 * model.evaluate(x_test, y_test, 500, verbose=0)[1]
    loss = history.history["loss"][-1]
    print(f"  {logs.name}: loss {loss:.3f}, test {accuracy:.1f} %", flush=True)
    return accuracy


def adam(rate, epochs, data):
    """Adam whose rate falls to 0 over the training."""
    steps = epochs * -(-len(data[0][0]) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    return keras.optimizers.Adam(schedule)


def accuracy_when_pruned(model, data):
    """Test accuracy in percent by density; the last layer keeps twice that."""
    accuracies = []
    for density in DENSITIES:
        prune(model, density, densities={"logits": min(1.0, 2 * density)})
        _, accuracy = model.evaluate(*data[1], 2000, verbose=0)
        accuracies.append(100 * accuracy)
    prune(model, 1.0)
    return accuracies


def one_shot(data, alphas, epochs, logs):
    """Accuracies of dense training with each exponent, pruned afterwards."""
    curves = {}
    # A small start leaves it to training which weights become large.
    small = keras.initializers.VarianceScaling(0.1)
    for alpha in alphas:
        # "logits": 1.0 gives the last layer an exponent too.
        model = lenet(small)
        sparsify(model, alpha=alpha, densities={"logits": 1.0}, verbose=0)
        optimizer = adam(ALPHAS[alpha], epochs, data)
        train(model, optimizer, data, epochs, logs / f"lenet-alpha{alpha}")
        curves[alpha] = accuracy_when_pruned(model, data)
    return curves


def always_sparse(data, epochs, logs):
    """Accuracy of each network by density, and the sparsest LeNet."""
    accuracies = {}
    for create in (lenet, convolutional):
        name = create.__name__
        accuracies[name, 1.0] = train(
            create(),
            adam(2e-3, epochs, data),
            data,
            epochs,
            logs / f"{name}-dense",
        )
        for density in SPARSE_DENSITIES:
            model = create()
            sparsify(model, alpha=2.0, densities={"logits": 1.0}, verbose=0)
            accuracies[name, density] = train(
                model,
                adam(6e-3, epochs, data),
                data,
                epochs,
                logs / f"{name}-top-kast-{density}",
                [TopKAST(density, 5 * density, penalty=1e-2, densities="erk")],
            )
            if create is lenet:
                sparsest = model
    return accuracies, sparsest


def show_curves(curves, accuracies, path):
    figure, axis = plt.subplots(figsize=(7, 4.5))
    percent = [100 * density for density in DENSITIES]
    for alpha, values in curves.items():
        label = "alpha = 1 (ordinary)" if alpha == 1 else f"alpha = {alpha}"
        axis.semilogx(percent, values, marker=".", label=label)
    axis.semilogx(
        [100 * density for density in SPARSE_DENSITIES],
        [accuracies["lenet", density] for density in SPARSE_DENSITIES],
        "k*",
        markersize=12,
        label="Powerprop + Top-KAST, never dense",
    )
    axis.set(
        xlabel="weights left, %",
        ylabel="test accuracy, %",
        title="LeNet-300-100, pruned in one shot after training",
    )
    axis.grid(alpha=0.3)
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def show_mask(model, path):
    """Which pixels the first layer looks at, and one unit of it."""
    mask = sparse_kernels(model)[0].forward_mask()
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.8))
    axes[0].imshow(mask.sum(1).reshape(28, 28), cmap="magma")
    axes[0].set_title(f"weights left per pixel ({mask.mean():.1%} of all)")
    axes[1].imshow(mask[:, :100].T, aspect="auto", cmap="gray_r")
    axes[1].set(title="mask of the first layer", xlabel="pixel", ylabel="unit")
    axes[0].axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def show_table(curves, accuracies):
    columns = [d for d in DENSITIES if d in (1.0, 0.3, 0.1, 0.05, 0.02, 0.01)]
    print("\ntest accuracy, %, by share of the weights")
    print(f"{'':34}" + "".join(f"{d:>8.0%}" for d in columns))
    for alpha, values in curves.items():
        cells = [values[DENSITIES.index(density)] for density in columns]
        label = f"LeNet one-shot, alpha = {alpha}"
        print(f"{label:34}" + "".join(f"{cell:8.1f}" for cell in cells))
    for name in ("lenet", "convolutional"):
        label = f"{name}, Powerprop + Top-KAST"
        cells = [accuracies.get((name, density)) for density in columns]
        print(
            f"{label:34}"
            + "".join("       -" if c is None else f"{c:8.1f}" for c in cells)
        )
    print("(100 % of the last two rows is an ordinary network)")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--data",
        default="embedded",
        help="folder with idx files of MNIST or Fashion-MNIST, or 'keras'",
    )
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument(
        "--alphas", type=int, nargs="+", default=list(ALPHAS), choices=ALPHAS
    )
    parser.add_argument("--output", default="runs/sparse_images")
    arguments = parser.parse_args()
    if arguments.epochs < 1:
        parser.error(f"--epochs {arguments.epochs}: must be at least 1")
    data = load_images(arguments.data)
    # A folder a run: nothing is written over.
    output = pathlib.Path(arguments.output) / time.strftime("%Y%m%d-%H%M%S")
    output.mkdir(parents=True)
    start = time.time()
    print(f"{len(data[0][0])} images to train, {len(data[1][0])} to test")
    print("1. dense training by exponent, to be pruned in one shot")
    curves = one_shot(data, arguments.alphas, arguments.epochs, output / "logs")
    print("2. always sparse: Powerprop + Top-KAST")
    accuracies, sparsest = always_sparse(
        data, arguments.epochs, output / "logs"
    )
    show_table(curves, accuracies)
    print(f"\nLeNet-300-100 with Top-KAST at {SPARSE_DENSITIES[-1]:.0%}:")
    sparsity_summary(sparsest)
    show_curves(curves, accuracies, output / "accuracy.png")
    show_mask(sparsest, output / "mask.png")
    np.savez(output / "curves.npz", **{str(a): v for a, v in curves.items()})
    print(f"\nplots: {output / 'accuracy.png'}, {output / 'mask.png'}")
    print(f"TensorBoard: tensorboard --logdir {output / 'logs'}")
    print(f"{time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
