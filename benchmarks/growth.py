r"""What weights that grow start from, with exponents above 1.

LeNet-300-100 on MNIST, 5 % of the weights from the first step on, `RigL` and
`SET`, Adam at 1e-3 with a cosine, five epochs. At exactly 0 the exponent's
factor is 0, so what is grown there stays there. `zero` is that (as it was
before); `tenth` and `smallest` start at a tenth of the smallest magnitude in
use and at all of it (of theta), the latter being what the callbacks do. With
exponent 1 they all start from 0.

    python -m benchmarks.growth --data DIR [--seeds 3]   (idx files)
"""

import argparse
import functools

import keras
import numpy as np

from benchmarks.results import cell
from benchmarks.results import result
from benchmarks.results import table
from benchmarks.top_kast import batches
from benchmarks.top_kast import build
from benchmarks.top_kast import dataset
from examples.image_data import load_images
from keras_sparse_rl.callbacks import SET
from keras_sparse_rl.callbacks import RigL
from keras_sparse_rl.layers import sparse_kernels
from keras_sparse_rl.optimizers import Powerprop

DENSITY, EPOCHS, RATE, REFRESH_EVERY = 0.05, 5, 1e-3, 100
METHODS = ("RigL", "SET")
SHARES = {"zero": 0.0, "tenth": 0.1, "smallest": 1.0}
CASES = [(1.0, "zero")] + [(a, s) for a in (1.5, 2.0) for s in SHARES]


def callback(method, share, steps):
    """The callback, whose first values are a share of what it takes."""
    kind = {"RigL": RigL, "SET": SET}[method]

    class Shared(kind):
        def start_grown(self, name, kernel, grown):
            super().start_grown(name, kernel, grown)
            theta = np.array(kernel.dense_theta())
            theta[grown] *= share
            kernel.assign_dense_theta(theta)

    end = steps * 3 // 4
    arguments = {"refresh_every": REFRESH_EVERY, "end_step": end}
    return Shared(DENSITY, **arguments)


def run(method, alpha, start, seed, data):
    """Accuracy in percent, and the share of the weights in use that are 0."""
    (x, y), (x_test, y_test) = data
    order = batches(len(x), seed, EPOCHS)
    keras.utils.set_random_seed(seed)
    model = build(alpha, seed)
    rate = keras.optimizers.schedules.CosineDecay(RATE, len(order))
    model.compile(
        Powerprop(keras.optimizers.Adam(rate)),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=REFRESH_EVERY,
        jit_compile=True,
    )
    model.fit(
        dataset(x, y, order),
        callbacks=[callback(method, SHARES[start], len(order))],
        verbose=0,
    )
    accuracy = 100 * model.evaluate(x_test, y_test, 1000, verbose=0)[1]
    used = np.concatenate(
        [k.weight()[k.forward_mask()] for k in sparse_kernels(model)]
    )
    dead = 100 * float((used == 0).mean())
    print(f"{method} {alpha} {start} {seed}: {accuracy:.2f} %, dead {dead:.1f}")
    return {"accuracy": accuracy, "dead": dead}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True, help="folder of idx files")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    data = [(x.reshape(len(x), 784), y) for x, y in load_images(arguments.data)]
    rows = []
    for method in METHODS:
        for alpha, start in CASES:
            found = []
            for seed in range(arguments.seeds):
                case = (method, alpha, start, seed)
                name = "_".join(map(str, case))
                compute = functools.partial(run, *case, data)
                found.append(result("growth", name, compute))
            cells = [cell([f[k] for f in found]) for k in ("accuracy", "dead")]
            rows.append([method, alpha, start, *cells])
    header = ["", "exponent", "first value", "accuracy, %", "at 0, %"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
