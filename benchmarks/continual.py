"""One network, one task after another: PackNet and EfficientPackNet.

Permuted images: every task shuffles the pixels by an order of its own, ten
classes, an MLP of 300-300 units. Split images: every task is to tell two
classes apart (five tasks). Heads and biases exist once a task. The last
sixth of the training images is for the search of masks; figures are of the
test images. `alone` trains a network of its own for each of the first ten
tasks.

    python -m benchmarks.continual [--data DIR]   (idx files; else embedded)
    python -m benchmarks.continual --tasks 30
    python -m benchmarks.continual --split
"""

import argparse
import functools
import time

import keras
import matplotlib
import numpy as np

from benchmarks.results import FOLDER
from benchmarks.results import cell
from benchmarks.results import result
from benchmarks.results import table
from examples.image_data import load_images
from keras_sparse_rl.continual import EfficientPackNet
from keras_sparse_rl.continual import PackNet
from keras_sparse_rl.continual import TaskModel
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.optimizers import Powerprop

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

NAME = "continual"
# Name: exponent, learning rate, and of the search its tolerance (None:
# PackNet's share) and the epochs of training after it.
METHODS = {
    "alone": (1.0, 1e-3, None, 0),
    "packnet": (1.0, 1e-3, None, 3),
    "packnet, alpha = 3": (3.0, 5e-3, None, 3),
    "epn, not retrained": (3.0, 5e-3, 0.01, 0),
    "epn, alpha = 1": (1.0, 1e-3, 0.05, 3),
    "epn": (3.0, 5e-3, 0.05, 3),
    "epn, tolerance 0.01": (3.0, 5e-3, 0.01, 3),
}
BATCH = 128


def permuted(data, number, seed):
    """The images with their pixels in another order, and their classes."""
    order = np.random.default_rng([seed, number]).permutation(784)
    return [(x[:, order], y) for x, y in data]


def split(data, number, seed):
    """Two of the ten classes, as 0 and 1."""
    parts = []
    for x, y in data:
        chosen = y // 2 == number
        parts.append((x[chosen], y[chosen] % 2))
    return parts


def build(alpha, rate, steps, outputs):
    """An MLP with a head for each task, compiled."""
    # A small start leaves it to training which weights become large.
    scale = 0.1 if alpha > 1 else 1.0
    inputs = x = keras.Input((784,))
    for name in ("first", "second"):
        x = PowerpropDense(
            300,
            activation="relu",
            kernel_initializer=keras.initializers.VarianceScaling(scale),
            alpha=alpha,
            name=name,
        )(x)
    outputs = keras.layers.Dense(outputs, name="head")(x)
    model = TaskModel(keras.Model(inputs, outputs))
    schedule = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(
        Powerprop(keras.optimizers.Adam(schedule)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def run(method, tasks, seed, epochs, make):
    """Learns all tasks, then measures each of them.

    Args:
        make: function of a task's number to its parts: train, validation and
            test `(x, y)`.

    Returns:
        Dict of lists by task: `accuracy`, at the end, in %; `learned`, right
        after the task; `density`, `capacity` in [0, 1]; and `identical`,
        whether all old logits are the same, bit for bit.
    """
    alpha, rate, tolerance, retrain_epochs = METHODS[method]
    keras.utils.set_random_seed(seed)
    found = {"learned": [], "accuracy": [], "seconds": []}
    logits, model = [], None
    for number in range(tasks):
        (x, y), validation, test = make(number)
        if model is None or method == "alone":
            keras.backend.clear_session()
            steps = epochs * -(-len(x) // BATCH)
            model = build(alpha, rate, steps, int(y.max()) + 1)
        name = f"task {number}"
        if tolerance is not None:
            callback = EfficientPackNet(
                name, validation, tolerance, retrain_epochs=retrain_epochs
            )
        else:
            shares = 1 if method == "alone" else tasks
            callback = PackNet(name, shares, retrain_epochs)
        start = time.perf_counter()
        model.fit(
            x, y, BATCH, epochs, callbacks=[callback], verbose=0, shuffle=True
        )
        found["seconds"].append(time.perf_counter() - start)
        logits.append(model.predict(test[0], 1000, verbose=0))
        found["learned"].append(accuracy(logits[-1], test[1]))
        print(
            f"  {method}, seed {seed}, {name}: {found['learned'][-1]:.2f} %, "
            f"{model.task_summary()[-1]}",
            flush=True,
        )
    if method == "alone":
        found["accuracy"] = found["learned"]
        return found
    same = []
    for number, name in enumerate(model.tasks):
        _, _, test = make(number)
        model.use_task(name)
        now = model.predict(test[0], 1000, verbose=0)
        same.append(bool(np.array_equal(now, logits[number])))
        found["accuracy"].append(accuracy(now, test[1]))
    summary = model.task_summary()
    found["density"] = [row["density"] for row in summary]
    found["capacity"] = [row["capacity"] for row in summary]
    found["identical"] = all(same)
    return found


def accuracy(logits, y):
    return 100 * float(np.mean(logits.argmax(-1) == y))


def report(results, tasks, path):
    """Prints the table and saves the plot."""
    rows = []
    singles = [np.mean(r["accuracy"]) for r in results["alone"]]
    for method, runs in results.items():
        means = [np.mean(r["accuracy"]) for r in runs]
        row = [method, cell(means), cell([min(r["accuracy"]) for r in runs])]
        row.append(cell(100 * np.divide(means, singles), 1))
        if method == "alone":
            rows.append([*row, "", "", ""])
            continue
        row.append(cell([100 * r["capacity"][-1] for r in runs], 1))
        row.append(cell([100 * np.mean(r["density"]) for r in runs], 1))
        rows.append([*row, all(r["identical"] for r in runs)])
    header = ["", "accuracy, %", "worst task", "% of alone", "capacity, %"]
    header += ["density, %", "old outputs identical"]
    print(f"\n{tasks} tasks, {len(singles)} seeds, test images\n")
    print(table(header, rows))
    if len(singles) > 1:
        for other in ("packnet", "packnet, alpha = 3"):
            differences = [
                np.mean(ours["accuracy"]) - np.mean(theirs["accuracy"])
                for ours, theirs in zip(results["epn"], results[other])
            ]
            print(f"\nepn minus {other}, paired: {cell(differences)}")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
    for method, runs in results.items():
        values = [r["accuracy"] for r in runs]
        mean = np.mean(values, 0)
        axes[0].plot(1 + np.arange(len(mean)), mean, ".-", label=method)
        if method != "alone":
            capacity = 100 * np.mean([r["capacity"] for r in runs], 0)
            axes[1].plot(1 + np.arange(len(capacity)), capacity, ".-")
        else:
            axes[1].plot([], [])
    axes[0].set(xlabel="task", ylabel="test accuracy after the last task, %")
    axes[1].set(xlabel="tasks learned", ylabel="weights owned, %")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    print(f"\nplot: {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="embedded", help="folder, or keras")
    parser.add_argument("--name", default="embedded", help="of the results")
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--split", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.methods) - set(METHODS))
    if unknown:
        parser.error(f"--methods {unknown}: choose from {list(METHODS)}.")
    (x, y), test = (
        (images.reshape(len(images), 784), labels)
        for images, labels in load_images(arguments.data)
    )
    held = len(x) // 6
    data = [(x[:-held], y[:-held]), (x[-held:], y[-held:]), test]
    tasks = 5 if arguments.split else arguments.tasks
    kind, cut = ("split", split) if arguments.split else ("permuted", permuted)
    results = {}
    for seed in range(arguments.seeds):
        make = functools.partial(cut, data, seed=seed)
        for method in arguments.methods:
            number = min(tasks, 10) if method == "alone" else tasks
            short = method.replace(", ", "-").replace(" = ", "")
            found = result(
                NAME,
                f"{arguments.name}-{kind}{number}-{short.replace(' ', '_')}"
                f"-epochs{arguments.epochs}-seed{seed}",
                functools.partial(
                    run, method, number, seed, arguments.epochs, make
                ),
            )
            results.setdefault(method, []).append(found)
    if "alone" not in results:
        parser.error("--methods needs alone, which the others are held to.")
    path = FOLDER / NAME / f"{arguments.name}-{kind}{tasks}.png"
    report(results, tasks, path)


if __name__ == "__main__":
    main()
