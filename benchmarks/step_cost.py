"""Cost of a whole `fit` step in dense execution, beside plain Keras.

Three layers of 1024 units and a small convolutional network, Adam, batch 128:
Powerprop layers with `Powerprop(Adam)` and Top-KAST (refresh every 100 steps)
against `keras.layers.Dense` / `Conv2D` with Adam. All variants take turns in
one process, a hundred steps each, so that a drift of the machine meets all of
them; the figure is the median over turns of the ratio to plain Keras in the
same turn, with its quartiles.

    python -m benchmarks.step_cost [--turns 15]
"""

import argparse
import time

import keras
import numpy as np
import tensorflow as tf

from benchmarks.results import table
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.layers import PowerpropConv2D
from keras_sparse_rl.layers import PowerpropDense
from keras_sparse_rl.optimizers import Powerprop

BATCH, STEPS = 128, 100


def dense_network(layer, **arguments):
    return keras.Sequential(
        [
            keras.Input((1024,)),
            *[layer(1024, activation="relu", **arguments) for _ in range(3)],
            keras.layers.Dense(10),
        ]
    )


def convolutional_network(layer, **arguments):
    return keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layer(32, 3, padding="same", activation="relu", **arguments),
            layer(64, 3, 2, "same", activation="relu", **arguments),
            layer(128, 3, 2, "same", activation="relu", **arguments),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10),
        ]
    )


def variants(network, plain, sparse, jit_compile):
    """Dict of label to a function that trains STEPS steps."""
    shape = network(plain).input_shape[1:]
    generator = np.random.default_rng(0)
    x = generator.normal(size=(BATCH, *shape)).astype("float32")
    y = generator.integers(0, 10, BATCH)
    data = tf.data.Dataset.from_tensors((x, y)).cache().repeat(STEPS)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    runs = {}
    for alpha in (None, 1, 2, 3):
        if alpha is None:
            model, optimizer, callbacks = network(plain), "adam", []
        else:
            model = network(sparse, alpha=alpha)
            optimizer = Powerprop("adam")
            callbacks = [TopKAST(0.1, 0.2, refresh_every=100)]
        model.compile(optimizer, loss, jit_compile=jit_compile)
        runs["keras" if alpha is None else f"alpha = {alpha}"] = (
            lambda m=model, c=callbacks: m.fit(data, callbacks=c, verbose=0)
        )
    return runs


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=15)
    turns = parser.parse_args().turns
    rows = []
    for network, plain, sparse in (
        (dense_network, keras.layers.Dense, PowerpropDense),
        (convolutional_network, keras.layers.Conv2D, PowerpropConv2D),
    ):
        for jit_compile in (True, False):
            runs = variants(network, plain, sparse, jit_compile)
            for run in runs.values():
                run()
            seconds = {label: [] for label in runs}
            for turn in range(turns):
                # Every turn in another order.
                for label in np.roll(list(runs), turn):
                    start = time.perf_counter()
                    runs[label]()
                    seconds[label].append(time.perf_counter() - start)
            keras_seconds = np.array(seconds.pop("keras"))
            row = [
                network.__name__,
                "XLA" if jit_compile else "no XLA",
                f"{np.median(keras_seconds) / STEPS * 1e3:.1f}",
            ]
            for figures in seconds.values():
                low, median, high = np.percentile(
                    np.array(figures) / keras_seconds, (25, 50, 75)
                )
                row.append(f"{median:.2f} ({low:.2f} to {high:.2f})")
            rows.append(row)
            print(" | ".join(row), flush=True)
            keras.backend.clear_session()
    header = ["network", "", "Keras, ms a step", *seconds]
    print("\nratio to plain Keras, median and quartiles\n")
    print(table(header, rows))


if __name__ == "__main__":
    main()
