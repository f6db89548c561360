"""Cost of a step with gated auxiliary losses, beside plain `fit`.

    python -m benchmarks.gradient_cosine_cost [--turns 15] [--jit]

Three shared layers of 512 units, Adam, batches of 128, one main and up to
three auxiliary outputs. The plain step trains the main loss alone; the sum
trains all losses by one backward pass. All take turns in one process, a
hundred steps each; the figures are medians over turns of the ratio to the
plain step of the same turn, with quartiles.
"""

import argparse
import time

import keras
import numpy as np
import tensorflow as tf

from benchmarks.results import table
from keras_sparse_rl.callbacks import GradientCosine

UNITS, BATCH, STEPS = 512, 128, 100


def trainer(num_auxiliary, gated, jit_compile):
    """A function that trains STEPS steps and returns the seconds."""
    names = ["main", *(f"other_{k}" for k in range(num_auxiliary))]
    inputs = keras.Input((UNITS,))
    shared = inputs
    for _ in range(3):
        shared = keras.layers.Dense(UNITS, "relu")(shared)
    model = keras.Model(
        inputs, {n: keras.layers.Dense(10, name=n)(shared) for n in names}
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.Adam(),
        {n: loss for n in names},
        jit_compile=jit_compile,
    )
    generator = np.random.default_rng(0)
    x = generator.normal(size=(BATCH, UNITS)).astype("float32")
    y = {n: generator.integers(0, 10, BATCH) for n in names}
    data = tf.data.Dataset.from_tensors((x, y)).cache().repeat()
    clock = Clock()
    callbacks = [GradientCosine("main", names[1:])] if gated else []

    def train(epochs):
        model.fit(
            data,
            epochs=epochs,
            steps_per_epoch=STEPS,
            verbose=0,
            callbacks=[*callbacks, clock],
        )

    return train, clock


class Clock(keras.callbacks.Callback):
    """Takes turns with the others: one epoch at a time."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--jit", action="store_true")
    arguments = parser.parse_args()
    runs = {"main loss alone": trainer(0, False, arguments.jit)}
    for number in (1, 2, 3):
        for gated in (False, True):
            name = f"{number} auxiliary, {'gated' if gated else 'sum'}"
            runs[name] = trainer(number, gated, arguments.jit)
    for turn in range(arguments.turns):
        for train, _ in runs.values():
            train(2)  # the first epoch may compile
        print(f"turn {turn + 1} of {arguments.turns}", flush=True)
    seconds = {n: np.array(c.seconds[1::2]) for n, (_, c) in runs.items()}
    plain = seconds["main loss alone"]
    rows = []
    for name, times in seconds.items():
        low, middle, high = np.percentile(times / plain, (25, 50, 75))
        rows.append(
            [name, f"{1e3 * np.median(times) / STEPS:.2f} ms"]
            + [f"{middle:.2f} ({low:.2f} to {high:.2f})"]
        )
    print(table(["step", "time", "ratio to the main loss alone"], rows))


if __name__ == "__main__":
    main()
