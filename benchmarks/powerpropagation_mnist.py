"""One-shot pruning of LeNet-300-100 on MNIST, by exponent and optimizer.

The protocol of the paper's notebook: 55,000 images to train, 5,000 to choose
by, 10,000 to test; batches of 60, 50,000 steps; every exponent is trained
side by side on the same batches from the same effective weights; then each
kernel keeps its largest weights, the output layer twice the share, without
further training. Adam's rate falls from 1e-3 by a cosine: at a constant 1e-3
the rightly handled one diverges in these 50,000 steps at alpha = 4.

    python -m benchmarks.powerpropagation_mnist --data DIR   (idx files)
"""

import argparse

import keras
import matplotlib
import numpy as np
import tensorflow as tf

from benchmarks.results import FOLDER
from benchmarks.results import cell
from benchmarks.results import result
from benchmarks.results import table
from examples.image_data import load_images
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import prune

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

NAME = "powerpropagation_mnist"
FRACTIONS = np.geomspace(0.01, 1.0, 20).round(4).tolist() + [0.05, 0.1]


def adam(steps):
    """Keras' Adam with a rate that falls to 0 over the run."""
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    return keras.optimizers.Adam(rate)


# Name: how it is made from the number of steps, exponents.
OPTIMIZERS = {
    "sgd": (lambda steps: keras.optimizers.SGD(0.1), (1, 2, 3, 4, 5)),
    "adam": (adam, (2, 3, 4)),
    "powerprop_adam": (lambda steps: Powerprop(adam(steps)), (2, 3, 4)),
}


def build(alphas, seed):
    """One branch for each exponent, all from the same effective weights."""
    inputs = keras.Input((784,))
    outputs = {}
    for alpha in alphas:
        x = inputs
        for number, units in enumerate((300, 100, 10)):
            x = PowerpropDense(
                units,
                activation="relu" if units > 10 else None,
                kernel_initializer=keras.initializers.VarianceScaling(
                    1.0, "fan_in", "truncated_normal", seed=10 * seed + number
                ),
                alpha=alpha,
                name=f"alpha{alpha}_{units}",
            )(x)
        outputs[f"alpha{alpha}_10"] = x
    return keras.Model(inputs, outputs)


def run(optimizer, seed, steps, data):
    """Trains all exponents of an optimizer and prunes them.

    Returns:
        Dict of exponent to dict of fraction to [validation, test] accuracy.
    """
    (x, y), (x_test, y_test) = data
    create, alphas = OPTIMIZERS[optimizer]
    model = build(alphas, seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        create(steps), dict.fromkeys(model.output_names, loss), jit_compile=True
    )
    generator = np.random.default_rng(seed)
    epochs = -(-steps * 60 // 55_000)
    order = np.concatenate(
        [generator.permutation(55_000) for _ in range(epochs)]
    )[: steps * 60].reshape(steps, 60)
    images, labels = tf.constant(x[:55_000]), tf.constant(y[:55_000])

    def batch(indices):
        target = tf.gather(labels, indices)
        return tf.gather(images, indices), dict.fromkeys(
            model.output_names, target
        )

    dataset = tf.data.Dataset.from_tensor_slices(order.astype("int32"))
    dataset = dataset.map(batch).prefetch(8)
    model.fit(dataset, verbose=2)
    for layer in model.layers:
        if layer.weights and not np.isfinite(layer.get_weights()[0]).all():
            # Such a network answers by chance, and cannot be ranked.
            print(f"{layer.name} of {optimizer}, seed {seed}, has diverged")
            layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    held_out = (x[55_000:], y[55_000:]), (x_test, y_test)
    accuracies = {str(alpha): {} for alpha in alphas}
    for fraction in FRACTIONS:
        last = dict.fromkeys(model.output_names, min(1.0, 2 * fraction))
        prune(model, fraction, densities=last)
        for images, labels in held_out:
            for name, logits in model.predict_on_batch(images).items():
                alpha = name[len("alpha") : -len("_10")]
                found = np.mean(logits.argmax(-1) == labels)
                figures = accuracies[alpha].setdefault(str(fraction), [])
                figures.append(100 * float(found))
    return accuracies


def difference_to_alpha_one(runs, alphas):
    """Paired differences of the exponent with the best validation at 5 %."""
    best = max(
        map(str, alphas), key=lambda a: np.mean([r[a]["0.05"][0] for r in runs])
    )
    row = [f"alpha = {best} minus alpha = 1"]
    for fraction in ("1.0", "0.1", "0.05"):
        differences = [
            run[best][fraction][1] - run["1"][fraction][1] for run in runs
        ]
        row.append(cell(differences))
    return row


def report(results, optimizers, seeds):
    """Prints the tables and saves the plot."""
    for optimizer in optimizers:
        _, alphas = OPTIMIZERS[optimizer]
        runs = [results[optimizer, seed] for seed in range(seeds)]
        rows = []
        for alpha in map(str, alphas):
            rows.append(
                [f"alpha = {alpha}"]
                + [
                    cell([run[alpha][fraction][1] for run in runs])
                    for fraction in ("1.0", "0.1", "0.05")
                ]
            )
        # The exponent is chosen on the validation images of each seed.
        row = ["best on validation"]
        for fraction in ("1.0", "0.1", "0.05"):
            best = [
                max(run.values(), key=lambda f: f[fraction][0])[fraction][1]
                for run in runs
            ]
            row.append(cell(best))
        rows.append(row)
        if 1 in alphas:
            rows.append(difference_to_alpha_one(runs, alphas))
        print(f"\n{optimizer}, test accuracy, %, {seeds} seeds\n")
        print(table(["", "all", "10 %", "5 %"], rows))
    figure, axes = plt.subplots(
        1,
        len(optimizers),
        figsize=(4.5 * len(optimizers), 4),
        sharey=True,
        squeeze=False,
    )
    for axis, optimizer in zip(axes[0], optimizers):
        _, alphas = OPTIMIZERS[optimizer]
        for alpha in map(str, alphas):
            fractions = sorted(map(float, results[optimizer, 0][alpha]))
            means = [
                np.mean(
                    [
                        results[optimizer, seed][alpha][str(f)][1]
                        for seed in range(seeds)
                    ]
                )
                for f in fractions
            ]
            axis.semilogx(
                [100 * f for f in fractions], means, label=f"alpha = {alpha}"
            )
        axis.set(title=optimizer, xlabel="weights left, %")
        axis.legend()
    axes[0][0].set_ylabel("test accuracy, %")
    figure.tight_layout()
    path = FOLDER / NAME / "curves.png"
    figure.savefig(path, dpi=100)
    print(f"\nplot: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="folder of idx files")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument(
        "--optimizers", nargs="+", default=list(OPTIMIZERS), choices=OPTIMIZERS
    )
    arguments = parser.parse_args()
    data = tuple(
        (x.reshape(len(x), 784), y) for x, y in load_images(arguments.data)
    )
    results = {}
    for seed in range(arguments.seeds):
        for optimizer in arguments.optimizers:
            name = f"{optimizer}-steps{arguments.steps}-seed{seed}"
            results[optimizer, seed] = result(
                NAME,
                name,
                lambda o=optimizer, s=seed: run(o, s, arguments.steps, data),
            )
            keras.backend.clear_session()
    report(results, arguments.optimizers, arguments.seeds)


if __name__ == "__main__":
    main()
