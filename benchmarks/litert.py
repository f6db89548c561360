"""LiteRT (needs `pip install ai-edge-litert`): size, speed, outputs.

Three dense layers of 1024 units behind 1024 inputs, weights pruned at random
in blocks of four inputs or one by one, batch 1, one thread. Every file is
called in turn; the least time of all turns counts, and the ratio to the dense
file. Then, with `--data`, what blocks cost: LeNet-300-100 trained with
Top-KAST at 90 %, with `block_size` 1 and 4.

    python -m benchmarks.litert [--data DIR]
"""

import argparse
import tempfile
import time

import keras
import numpy as np

from benchmarks.results import cell
from benchmarks.results import result
from benchmarks.results import table
from examples.image_data import load_images
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import export_litert
from keras_sparse_rl.sparsity import load_litert
from keras_sparse_rl.sparsity import prune
from keras_sparse_rl.sparsity import sparsify

NAME = "litert"
UNITS = 1024
# Sparsity in %, times faster and times smaller that are asked for.
TARGETS = {90: (1.4, 9), 95: (2.5, 17)}


def network(density, block_size):
    keras.utils.set_random_seed(0)
    layers = [PowerpropDense(UNITS, "relu", alpha=1) for _ in range(3)]
    model = keras.Sequential([keras.Input((UNITS,)), *layers])
    prune(model, density, block_size=block_size)
    return model


def speed(turns, calls):
    """Sizes, least times and differences of outputs; prints the table."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        load_litert("")  # says what to install
    x = np.random.default_rng(0).normal(size=(1, UNITS)).astype("float32")
    files, interpreters = {(0, 1): (1.0, 1)}, {}
    for sparsity in (80, 90, 95, 98):
        for block_size in (4, 1):
            files[sparsity, block_size] = (1 - sparsity / 100, block_size)
    reports, errors = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for key, (density, block_size) in files.items():
            model = network(density, block_size)
            path = f"{folder}/{key[0]}-{key[1]}.tflite"
            reports[key] = export_litert(model, path, print_fn=None)
            interpreters[key] = loaded = Interpreter(path, num_threads=1)
            loaded.allocate_tensors()
            given = loaded.get_input_details()[0]["index"]
            made = loaded.get_output_details()[0]["index"]
            loaded.set_tensor(given, x)
            loaded.invoke()
            expected = np.array(model(x))
            errors[key] = float(abs(loaded.get_tensor(made) - expected).max())
            print(f"exported {key[0]} %, blocks of {key[1]}", flush=True)
        least = dict.fromkeys(files, np.inf)
        for _ in range(turns):
            for key, loaded in interpreters.items():
                for _ in range(calls):
                    start = time.perf_counter()
                    loaded.invoke()
                    seconds = time.perf_counter() - start
                    least[key] = min(least[key], seconds)
    dense = (0, 1)
    rows = []
    for key, report in reports.items():
        faster = least[dense] / least[key]
        smaller = reports[dense]["size"] / report["size"]
        target = ""
        if key[1] == 4 and key[0] in TARGETS:
            wanted = TARGETS[key[0]]
            reached = faster >= wanted[0] and smaller >= wanted[1]
            target = f"{wanted[0]}x, {wanted[1]}x: " + (
                "reached" if reached else "not reached"
            )
        rows.append(
            [
                f"{key[0]} %, blocks of {key[1]}" if key[0] else "dense",
                f"{report['size'] / 1e6:.2f}",
                f"{report['gzip_size'] / 1e6:.2f}",
                f"{smaller:.1f}",
                f"{1e3 * least[key]:.3f}",
                f"{faster:.2f}",
                report["layers"][0]["runs"],
                f"{errors[key]:.0e}",
                target,
            ]
        )
    header = ["", "MB", "MB packed", "times smaller", "ms", "times faster"]
    header += ["runs", "largest difference", "target"]
    print("\n" + table(header, rows))


def train(block_size, seed, data, epochs):
    """Test accuracy in % of a network with 10 % of its weights."""
    (x, y), (x_test, y_test) = data
    keras.utils.set_random_seed(seed)
    layers = [keras.layers.Dense(units, "relu") for units in (300, 100)]
    model = keras.Sequential(
        [keras.Input((784,)), *layers, keras.layers.Dense(10)]
    )
    sparsify(model, alpha=1.5, verbose=0)
    steps = epochs * -(-len(x) // 128)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        Powerprop(keras.optimizers.Adam(rate)), loss, metrics=["accuracy"]
    )
    callback = TopKAST(0.1, 0.3, penalty=1e-2, block_size=block_size)
    model.fit(x, y, 128, epochs, callbacks=[callback], verbose=0)
    return 100 * model.evaluate(x_test, y_test, 1000, verbose=0)[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", help="folder, keras or embedded")
    parser.add_argument("--name", default="mnist", help="of the results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--calls", type=int, default=50)
    arguments = parser.parse_args()
    speed(arguments.turns, arguments.calls)
    if arguments.data is None:
        return
    data = tuple(
        (x.reshape(len(x), 784), y) for x, y in load_images(arguments.data)
    )
    accuracies = {1: [], 4: []}
    for seed in range(arguments.seeds):
        for block_size, found in accuracies.items():
            name = f"{arguments.name}-blocks{block_size}-seed{seed}"
            found.append(
                result(
                    NAME,
                    name,
                    lambda b=block_size, s=seed: train(
                        b, s, data, arguments.epochs
                    ),
                )
            )
    rows = [[f"blocks of {b}", cell(a)] for b, a in accuracies.items()]
    rows.append(["cost, paired", cell(np.subtract(*accuracies.values()))])
    print(f"\n{arguments.seeds} seeds, target: a cost of at most 1 point\n")
    print(table(["90 % sparse", "test accuracy, %"], rows))


if __name__ == "__main__":
    main()
