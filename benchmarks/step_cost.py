"""Cost of a step of `fit` in dense execution, beside plain Keras.

Three layers of 1024 units and a small convolutional network, Adam, batch 128:
Powerprop layers with `Powerprop(Adam)` and Top-KAST (refresh every 100 steps)
against `keras.layers.Dense` / `Conv2D` with Adam. All variants take turns in
one process, one step each (the model's own train function and what the
callback does after a step), so that a drift of the machine meets all of them.
The figure is the median over all turns of the ratio to plain Keras in the same
turn, and what refreshes add: their median time for each 100 median steps.

    python -m benchmarks.step_cost [--turns 200]
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

BATCH, REFRESH_EVERY = 128, 100


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


class Variant:
    """A compiled model that takes one step at a time.

    Args:
        model: Keras model.
        optimizer: Keras optimizer, or its name.
        callback: `TopKAST`, or None for plain Keras.
        data: batch of `(x, y)`.
        jit_compile: bool, whether XLA compiles the step.
    """

    def __init__(self, model, optimizer, callback, data, jit_compile):
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer, loss, jit_compile=jit_compile)
        dataset = tf.data.Dataset.from_tensors(data).cache().repeat()
        self.callback = callback
        model.fit(
            dataset,
            steps_per_epoch=2,
            callbacks=[callback] if callback else [],
            verbose=0,
        )
        model.make_train_function()
        self.train_function = model.train_function
        self.iterator = iter(dataset)
        if callback:
            callback.start(model)
        self.step()  # compiles

    def step(self):
        """Seconds of a step, and of the refresh after it (0 if none)."""
        start = time.perf_counter()
        self.train_function(self.iterator)
        middle = time.perf_counter()
        refreshed = self.callback.update() if self.callback else False
        end = time.perf_counter()
        if refreshed:
            return middle - start, end - middle
        return end - start, 0.0


def variants(network, plain, sparse, jit_compile):
    """Dict of label to variant, the first of them plain Keras."""
    shape = network(plain).input_shape[1:]
    generator = np.random.default_rng(0)
    x = generator.normal(size=(BATCH, *shape)).astype("float32")
    data = x, generator.integers(0, 10, BATCH)
    found = {"keras": Variant(network(plain), "adam", None, data, jit_compile)}
    for alpha in (1, 2, 3):
        model = network(sparse, alpha=alpha)
        callback = TopKAST(0.1, 0.2, refresh_every=REFRESH_EVERY)
        found[f"alpha = {alpha}"] = Variant(
            model, Powerprop("adam"), callback, data, jit_compile
        )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=200)
    turns = max(parser.parse_args().turns, REFRESH_EVERY + 1)
    rows = []
    for network, plain, sparse in (
        (dense_network, keras.layers.Dense, PowerpropDense),
        (convolutional_network, keras.layers.Conv2D, PowerpropConv2D),
    ):
        for jit_compile in (True, False):
            found = variants(network, plain, sparse, jit_compile)
            steps = {label: [] for label in found}
            refreshes = {label: [] for label in found}
            for turn in range(turns):
                # Every turn in another order.
                for label in np.roll(list(found), turn):
                    step, refresh = found[label].step()
                    steps[label].append(step)
                    refreshes[label] += [refresh] if refresh else []
            plain_steps = np.array(steps.pop("keras"))
            median = np.median(plain_steps)
            row = [
                network.__name__,
                "XLA" if jit_compile else "no XLA",
                f"{median * 1e3:.1f}",
            ]
            for label, seconds in steps.items():
                refresh = np.median(refreshes[label]) / REFRESH_EVERY / median
                low, middle, high = refresh + np.percentile(
                    np.array(seconds) / plain_steps, (25, 50, 75)
                )
                row.append(
                    f"{middle:.2f} ({low:.2f} to {high:.2f}, of it refreshes "
                    f"{refresh:.3f})"
                )
            rows.append(row)
            print(" | ".join(row), flush=True)
            keras.backend.clear_session()
    header = ["network", "", "Keras, ms a step", *steps]
    print("\nratio to plain Keras, median and quartiles\n")
    print(table(header, rows))


if __name__ == "__main__":
    main()
