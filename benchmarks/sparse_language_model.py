"""Always-sparse language models: bits per character by density.

The character model of `examples/character_model.py`, two layers of GTrXL of
width 64, with every projection of GTrXL sparse under Top-KAST, beside the
dense model and beside dense models as narrow as the sparse ones have weights
left. The same batches for all; the text is split 90 / 5 / 5 by byte offset,
and the figures are of the last part. Embedding and output stay dense.

    python -m benchmarks.sparse_language_model --text FILE [--steps 1200]

Any text file serves, also gzipped (a `.gz` or `.dz` ending). A character is a
byte.
"""

import argparse
import functools
import gzip
import pathlib
import time

import keras
import matplotlib
import numpy as np

from benchmarks.results import FOLDER
from benchmarks.results import cell
from benchmarks.results import interval
from benchmarks.results import result
from benchmarks.results import table
from examples.character_model import BATCH
from examples.character_model import SEGMENT
from examples.character_model import WIDTH
from examples.character_model import RandomSegments
from examples.character_model import bits_per_character
from examples.character_model import build
from examples.character_model import segments
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.layers import GTrXL
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import prune
from keras_sparse_rl.sparsity import sparsify
from keras_sparse_rl.sparsity import sparsity_summary

NAME = "sparse_language_model"
DENSITIES = (0.2, 0.1, 0.05)
HEADS, TESTED = 4, 2000  # TESTED segments at most
# Adam's, chosen for each on the second part of the King James Bible.
RATES = {"dense": 1e-2, "narrow": 1e-2, "sparse": 2e-2}


def load_bytes(path):
    """Number of symbols of a text, and their numbers in three parts."""
    opened = gzip.open if str(path).endswith((".gz", ".dz")) else open
    with opened(path, "rb") as file:
        data = np.frombuffer(file.read(), "uint8")
    if len(data) < 40 * SEGMENT:
        raise SystemExit(
            f"--text {path} has {len(data)} bytes; at least {40 * SEGMENT} "
            "are needed to train, validate and test."
        )
    present = np.bincount(data, minlength=256) > 0
    numbers = (np.cumsum(present) - 1).astype("int32")[data]
    cuts = [len(data) * 90 // 100, len(data) * 95 // 100]
    return int(present.sum()), np.split(numbers, cuts)


def language_model(num_symbols, width):
    core = GTrXL(2, HEADS, width // HEADS, 2 * width, memory_length=64)
    return build(core, num_symbols, "gtrxl", width)


@functools.cache
def size(num_symbols, width):
    return language_model(num_symbols, width).count_params()


def narrow_width(num_symbols, parameters):
    """The widest dense model that has at most so many parameters."""
    width = HEADS
    while size(num_symbols, width + HEADS) <= parameters:
        width += HEADS
    return width


def run(method, density, seed, data, steps):
    """Trains one model; its figures as a dict."""
    num_symbols, parts = data
    keras.utils.set_random_seed(seed)
    model = language_model(num_symbols, WIDTH)
    sparsify(model, verbose=0)
    callbacks = []
    if method == "narrow":
        # As many as `sparse` uses, with embedding, output and biases.
        prune(model, density, densities="erk")
        used = sparsity_summary(model, print_fn=None)["total"]["used"]
        width = narrow_width(num_symbols, used)
        keras.utils.set_random_seed(seed)
        model = language_model(num_symbols, width)
        sparsify(model, verbose=0)
    if method == "sparse":
        # B is A: Adam moves a weight that is trained but not in use as fast
        # as all others, so that A would follow its noise. What leaves A are
        # weights that have shrunk below the first values of resting ones.
        callbacks = [
            TopKAST(
                density,
                backward_density=density,
                refresh_every=50,
                explore_steps=steps // 2,
                penalty=1e-3,
                densities="erk",
            )
        ]
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0,
        steps,
        warmup_target=RATES[method],
        warmup_steps=max(1, steps // 20),
    )
    model.compile(
        Powerprop(keras.optimizers.Adam(schedule, clipnorm=1.0)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[bits_per_character],
        jit_compile=True,  # twice as fast here
    )
    start = time.perf_counter()
    epochs = min(10, steps)
    history = model.fit(
        RandomSegments(parts[0], steps // epochs * epochs),
        steps_per_epoch=steps // epochs,
        epochs=epochs,
        callbacks=callbacks,
        verbose=2,
    ).history
    seconds = time.perf_counter() - start
    x, y = (part[:TESTED] for part in segments(parts[2]))
    total = sparsity_summary(model, print_fn=None)["total"]
    return {
        "bits": model.evaluate(x, y, BATCH, verbose=0)[1],
        "training_bits": history["bits_per_character"],
        "parameters": total["used"],
        "density": total["density_of_sparse_kernels"],
        "seconds": seconds,
    }


def report(name, found):
    """Prints the table and saves the plot of one text."""
    import matplotlib.pyplot as plt

    dense = found["dense", 1.0]
    rows = [["dense", f"{dense[0]['parameters']:,}", _bits(dense), ""]]
    for density in DENSITIES:
        for method in ("sparse", "narrow"):
            runs = found[method, density]
            above = [
                a["bits"] - b["bits"] for a, b in zip(runs, dense, strict=True)
            ]
            rows.append(
                [
                    f"{1 - density:.0%} sparse"
                    if method == "sparse"
                    else "dense, no larger",
                    f"{runs[0]['parameters']:,}",
                    _bits(runs),
                    cell(above, 3),
                ]
            )
    header = [name, "weights", "bits per character", "above dense, paired"]
    print(table(header, rows), flush=True)
    figure, axes = plt.subplots(figsize=(6, 4))
    for method, label in (("sparse", "Top-KAST"), ("narrow", "dense, narrow")):
        points = [
            interval([r["bits"] for r in found[method, density]])
            for density in DENSITIES
        ]
        axes.errorbar(
            [100 * (1 - density) for density in DENSITIES],
            [mean for mean, _ in points],
            np.nan_to_num([width for _, width in points]),
            marker="o",
            capsize=3,
            label=label,
        )
    mean, _ = interval([r["bits"] for r in dense])
    axes.axhline(mean, color="black", linestyle="--", label="dense")
    axes.set(
        xlabel="weights removed, %", ylabel="bits per character", title=name
    )
    axes.legend()
    figure.tight_layout()
    path = FOLDER / NAME / f"{name}.png"
    figure.savefig(path, dpi=100)
    print(f"plot: {path}")


def _bits(runs):
    return cell([r["bits"] for r in runs], 3)


def main():
    matplotlib.use("Agg")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text", required=True, help="a text file")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    data = load_bytes(arguments.text)
    name = pathlib.Path(arguments.text).name.split(".")[0]
    print(
        f"{arguments.text}: {sum(map(len, data[1])):,} bytes, {data[0]} "
        f"different ones; {arguments.steps * BATCH * SEGMENT:,} to train",
        flush=True,
    )
    cases = [("dense", 1.0)]
    cases += [(m, d) for d in DENSITIES for m in ("sparse", "narrow")]
    found = {case: [] for case in cases}
    for seed in range(arguments.seeds):
        for method, density in cases:
            found[method, density].append(
                result(
                    NAME,
                    f"{name}-{method}{density}-steps{arguments.steps}"
                    f"-seed{seed}",
                    lambda m=method, d=density, s=seed: run(
                        m, d, s, data, arguments.steps
                    ),
                )
            )
            keras.backend.clear_session()
    report(f"{name}-steps{arguments.steps}", found)


if __name__ == "__main__":
    main()
