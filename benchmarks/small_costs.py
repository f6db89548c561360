"""The top-k of a million weights, and the import beside that of Keras.

python -m benchmarks.small_costs [--runs 7]
"""

import argparse
import subprocess
import sys
import time

import numpy as np

from benchmarks.results import table
from keras_sparse_rl.sparsity import topk_mask


def topk_milliseconds(runs=51):
    """Median time of an exact mask over one million float32 scores."""
    scores = np.random.default_rng(0).random(1_000_000).astype("float32")
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        topk_mask(scores, 0.05)
        times.append(time.perf_counter() - start)
    return 1e3 * np.median(times)


def import_ratios(runs):
    """Import time of this package over that of Keras, turn by turn."""
    ratios = []
    for _ in range(runs):
        seconds = []
        for module in ("keras", "keras_sparse_rl"):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", f"import {module}"],
                check=True,
                stderr=subprocess.DEVNULL,
            )
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[1] / seconds[0])
    return ratios


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=7, help="imports of each")
    runs = parser.parse_args().runs
    low, median, high = np.percentile(import_ratios(runs), (25, 50, 75))
    print(
        table(
            ["", "measured"],
            [
                [
                    "topk_mask, 1,000,000 weights",
                    f"{topk_milliseconds():.1f} ms",
                ],
                [
                    "import, ratio to `import keras`",
                    f"{median:.2f} ({low:.2f} to {high:.2f})",
                ],
            ],
        )
    )


if __name__ == "__main__":
    main()
