"""Always-sparse training beside gradual pruning and RigL: LeNet-300-100.

Every method starts from the same effective weights and sees the same batches:
SGD with momentum, its rate falling to 0 (cosine), gradients of norm 1 at most,
batches of 128, 20 epochs, densities by Erdos-Renyi-Kernel. All kernels decay
at one rate, which is Top-KAST's penalty (divided by the density in B without
A), and `dense_no_decay` has none. Rate, decay and the small start were chosen
on the last 5,000 training images of MNIST, two seeds: weights that training
does not touch would otherwise stay among the largest. (With Adam weights in B
that are not in use move as fast as those that are, however small their
gradient.) RigL is that of jaxpruner and runs in an environment of its own (see
`rigl_jaxpruner.py`); without one it is left out.

    python -m benchmarks.top_kast --data DIR --name mnist \\
        [--jaxpruner CHECKOUT --jax-python PYTHON]
"""

import argparse
import pathlib
import subprocess
import tempfile

import keras
import numpy as np
import tensorflow as tf

from benchmarks.results import cell
from benchmarks.results import result
from benchmarks.results import table
from examples.image_data import load_images
from keras_sparse_rl.callbacks import MagnitudePruning
from keras_sparse_rl.callbacks import RigL
from keras_sparse_rl.callbacks import StaticSparsity
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import PolynomialSchedule

DENSITIES = (0.1, 0.05, 0.02, 0.01)
BATCH, EPOCHS, START = 128, 20, 0.2
METHODS = ("top_kast", "gradual_pruning", "powerprop_top_kast")
ALPHA = 1.25
POWERPROP = ("powerprop_top_kast",)
# Top-KAST has its penalty.
DECAYED = ("dense", "gradual_pruning", "rigl_callback", "static")
RATE, CLIPNORM, DECAY = 0.2, 1.0, 1e-3


def initial_weights(seed):
    """Kernels of LeNet-300-100, the same for every method."""
    sizes = (784, 300, 100, 10)
    return [
        START * np.array(keras.initializers.GlorotUniform(10 * seed + i)(shape))
        for i, shape in enumerate(zip(sizes, sizes[1:]))
    ]


def build(alpha, seed):
    model = keras.Sequential([keras.Input((784,))])
    for number, weight in enumerate(initial_weights(seed)):
        last = number == 2
        model.add(
            PowerpropDense(
                weight.shape[1],
                activation=None if last else "relu",
                alpha=alpha,
                name=f"layer{number}",
            )
        )
        model.layers[-1].sparse_kernel.assign_weight(weight)
    return model


def batches(count, seed, epochs=EPOCHS):
    """Indices `(steps, BATCH)`: the order in which images are seen."""
    generator = np.random.default_rng(seed)
    steps = count // BATCH
    return np.concatenate(
        [
            generator.permutation(count)[: steps * BATCH].reshape(-1, BATCH)
            for _ in range(epochs)
        ]
    ).astype("int32")


def dataset(x, y, order):
    """Batches of `(image, label)` in that order."""
    images, labels = tf.constant(x), tf.constant(y)
    found = tf.data.Dataset.from_tensor_slices(order).map(
        lambda i: (tf.gather(images, i), tf.gather(labels, i))
    )
    return found.prefetch(8)


def optimizer(method, rate, decay, steps):
    sgd = keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(rate, steps),
        momentum=0.9,
        global_clipnorm=CLIPNORM,
        weight_decay=decay if method in DECAYED else None,
    )
    found = Powerprop(sgd)
    if sgd.weight_decay:
        found.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
    return found


def callbacks(method, density, decay, steps):
    if method in ("top_kast", "every_step", *POWERPROP):
        refresh_every = 1 if method == "every_step" else 100
        return [
            TopKAST(
                density,
                5 * density,
                refresh_every,
                penalty=decay,
                densities="erk",
            )
        ]
    if method == "gradual_pruning":
        schedule = PolynomialSchedule(density, steps // 10, steps * 3 // 4)
        return [MagnitudePruning(schedule, 100, densities="erk")]
    if method == "rigl_callback":
        return [RigL(density, steps * 3 // 4, first_mask="random")]
    if method == "static":
        return [StaticSparsity(density, first_mask="random")]
    return []


def densities_of(method):
    if method in ("dense", "dense_no_decay"):
        return (1.0,)
    return (0.05,) if method == "every_step" else DENSITIES


def run(
    method,
    density,
    seed,
    data,
    build=build,
    epochs=EPOCHS,
    rate=RATE,
    decay=DECAY,
):
    """Test accuracy, in percent, of one training."""
    (x, y), (x_test, y_test) = data
    order = batches(len(x), seed, epochs)
    model = build(ALPHA if method in POWERPROP else 1.0, seed)
    model.compile(
        optimizer(method, rate, decay, len(order)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        # Masks are refreshed between executions, every 100 steps.
        steps_per_execution=1 if method == "every_step" else 100,
        jit_compile=True,
    )
    model.fit(
        dataset(x, y, order),
        callbacks=callbacks(method, density, decay, len(order)),
        verbose=0,
    )
    accuracy = 100 * model.evaluate(x_test, y_test, 1000, verbose=0)[1]
    print(f"{method} {density} seed {seed}: {accuracy:.2f} %", flush=True)
    return accuracy


def run_rigl(arguments, density, seed, data):
    """The same with jaxpruner's RigL, in the environment it needs."""
    (x, y), (x_test, y_test) = data
    script = pathlib.Path(__file__).parent / "rigl_jaxpruner.py"
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "task.npz"
        kernels = {f"w{i}": w for i, w in enumerate(initial_weights(seed))}
        np.savez(
            path,
            x=x,
            y=y,
            x_test=x_test,
            y_test=y_test,
            order=batches(len(x), seed),
            density=density,
            rate=RATE,
            clipnorm=CLIPNORM,
            decay=DECAY,
            **kernels,
        )
        command = [arguments.jax_python, script, arguments.jaxpruner, path]
        output = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True
        ).stdout
    accuracy = float(output.split()[-1])
    print(f"rigl {density} seed {seed}: {accuracy:.2f} %", flush=True)
    return accuracy


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="folder of idx files")
    parser.add_argument("--name", required=True, help="name of the data")
    parser.add_argument("--seeds", type=int, default=5)
    every = [*METHODS, "every_step", "rigl"]
    parser.add_argument("--methods", nargs="+", default=every, choices=every)
    parser.add_argument("--jaxpruner", help="checkout of jaxpruner")
    parser.add_argument("--jax-python", help="Python with jax 0.4.20")
    arguments = parser.parse_args()
    data = tuple(
        (x.reshape(len(x), 784), y) for x, y in load_images(arguments.data)
    )
    methods = arguments.methods
    if "rigl" in methods and not arguments.jax_python:
        print("no --jaxpruner and --jax-python: RigL is left out")
        methods.remove("rigl")
    accuracies = {}
    for seed in range(arguments.seeds):
        for method in ["dense", "dense_no_decay", *methods]:
            for density in densities_of(method):
                if method == "rigl":

                    def compute(d=density, s=seed):
                        return run_rigl(arguments, d, s, data)

                else:

                    def compute(m=method, d=density, s=seed):
                        return run(m, d, s, data)

                accuracies.setdefault((method, density), []).append(
                    result(
                        f"top_kast_{arguments.name}",
                        f"{method}-density{density}-seed{seed}",
                        compute,
                    )
                )
                keras.backend.clear_session()
    report(arguments.name, methods, accuracies)


def report(name, methods, accuracies, densities=DENSITIES):
    """Accuracies, and paired differences to dense with their intervals."""
    dense = np.array(accuracies["dense", 1.0])
    plain = cell(accuracies["dense_no_decay", 1.0])
    print(f"\n{name}: dense {cell(dense)} %, {len(dense)} seeds", end="")
    print(f" ({plain} % without decay)\n")
    rows, differences = [], []
    for method in methods:
        figures = [accuracies.get((method, d)) for d in densities]
        rows.append([method, *(cell(f) if f else "" for f in figures)])
        differences.append(
            [method] + [cell(np.array(f) - dense) if f else "" for f in figures]
        )
    header = [f"{d:.0%} of the weights" for d in densities]
    print(table(["accuracy, %", *header], rows), "\n")
    print(table(["minus dense, points", *header], differences))


if __name__ == "__main__":
    main()
