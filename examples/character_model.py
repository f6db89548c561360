"""A character-level language model: GTrXL beside an LSTM of equal size.

    python examples/character_model.py [--text FILE] [--steps 300]

Trains both in plain `model.fit` on a real text, by default Genesis in the King
James Bible (embedded); any text file serves. The first 90 % of it are for
training, 5 % to watch, the last 5 % to test. Prints bits per character and
saves a plot of the loss.
"""

import argparse
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib
import numpy as np

from keras_sparse_rl.layers import GTrXL

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TEXT = pathlib.Path(__file__).parent / "data" / "genesis.txt"
SEGMENT, BATCH, WIDTH = 128, 32, 64


def load_text(path):
    """Symbols of a text, and their numbers for train, validation and test."""
    text = pathlib.Path(path).read_text(encoding="utf-8")
    if len(text) < 40 * SEGMENT:
        raise SystemExit(
            f"--text {path} has {len(text)} characters; at least "
            f"{40 * SEGMENT} are needed to train, validate and test."
        )
    symbols, numbers = np.unique(list(text), return_inverse=True)
    cuts = [len(text) * 90 // 100, len(text) * 95 // 100]
    return symbols, np.split(numbers.astype("int32"), cuts)


def segments(numbers):
    """Inputs and targets `(segments, SEGMENT)`, one character apart."""
    count = (len(numbers) - 1) // SEGMENT
    cut = numbers[: count * SEGMENT + 1]
    shape = (count, SEGMENT)
    return cut[:-1].reshape(shape), cut[1:].reshape(shape)


class RandomSegments(keras.utils.PyDataset):
    """Segments that begin anywhere in the text, `steps` batches of them."""

    def __init__(self, numbers, steps):
        super().__init__()
        self.numbers, self.steps = numbers, steps

    def __len__(self):
        return self.steps

    def __getitem__(self, index):
        generator = np.random.default_rng(index)
        starts = generator.integers(0, len(self.numbers) - SEGMENT, BATCH)
        at = starts[:, None] + np.arange(SEGMENT + 1)
        return self.numbers[at[:, :-1]], self.numbers[at[:, 1:]]


def build(core, num_symbols, name, width=WIDTH):
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(num_symbols, width)(inputs)
    x = core(x)
    logits = keras.layers.Dense(num_symbols)(x)
    return keras.Model(inputs, logits, name=name)


def models(num_symbols):
    """Both models, the LSTM as large as fits into GTrXL's size."""
    gtrxl = GTrXL(
        num_layers=2,
        num_heads=4,
        head_dim=WIDTH // 4,
        feedforward_dim=2 * WIDTH,
        memory_length=64,
        dropout=0.1,
    )
    gtrxl = build(gtrxl, num_symbols, "gtrxl")
    units = WIDTH
    while lstm_size(units + 1, num_symbols) <= gtrxl.count_params():
        units += 1
    lstm = keras.layers.LSTM(units, return_sequences=True)
    return [gtrxl, build(lstm, num_symbols, "lstm")]


def lstm_size(units, num_symbols):
    cell = 4 * units * (WIDTH + units + 1)
    return num_symbols * WIDTH + cell + (units + 1) * num_symbols


def bits_per_character(y_true, y_pred):
    nats = keras.losses.sparse_categorical_crossentropy(
        y_true, y_pred, from_logits=True
    )
    return nats / np.log(2)


def train(model, parts, steps):
    """Trains a model; returns validation bits over steps, and test bits."""
    epochs = min(10, steps)
    steps = steps // epochs * epochs
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps, warmup_target=3e-3, warmup_steps=max(1, steps // 20)
    )
    model.compile(
        keras.optimizers.Adam(schedule, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[bits_per_character],
    )
    start = time.perf_counter()
    history = model.fit(
        RandomSegments(parts[0], steps),
        steps_per_epoch=steps // epochs,
        epochs=epochs,
        validation_data=segments(parts[1]),
        verbose=2,
    ).history["val_bits_per_character"]
    seconds = time.perf_counter() - start
    x, y = segments(parts[2])
    bits = model.evaluate(x, y, BATCH, verbose=0)[1]
    print(
        f"{model.name}: {model.count_params():,} parameters, {seconds:.0f} s, "
        f"{bits:.3f} bits per character on the test text\n",
        flush=True,
    )
    return history, bits


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text", default=TEXT, help="a text file")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--output", default="runs/character_model")
    arguments = parser.parse_args()
    if arguments.steps < 1:
        parser.error(f"--steps must be at least 1, not {arguments.steps}")
    symbols, parts = load_text(arguments.text)
    print(
        f"{arguments.text}: {sum(map(len, parts)):,} characters, "
        f"{len(symbols)} different ones"
    )
    folder = pathlib.Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(6, 4))
    keras.utils.set_random_seed(0)
    for model in models(len(symbols)):
        history, bits = train(model, parts, arguments.steps)
        steps = arguments.steps // len(history) * np.arange(1, len(history) + 1)
        axes.plot(steps, history, label=f"{model.name}, test {bits:.2f}")
    axes.set(
        xlabel="steps",
        ylabel="bits per character, validation",
        title=pathlib.Path(arguments.text).name,
    )
    axes.legend()
    figure.tight_layout()
    figure.savefig(folder / "loss.png", dpi=100)
    print(f"plot: {folder / 'loss.png'}")


if __name__ == "__main__":
    main()
