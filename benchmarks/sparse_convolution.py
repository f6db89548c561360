"""Whether sparse products pay for convolutions: 1 x 1 and 3 x 3.

A 1 x 1 convolution is a dense layer at every position, so `SparseDense` on
images is one already; a 3 x 3 convolution is one on patches
(`tf.image.extract_patches`). Forward and backward pass of one layer, dense
Keras `Conv2D` and sparse at three densities (B = 2 A) in turns; the figure is
the ratio of least times over turns, wall and processor time. Sizes are those
of ResNet's and MobileNet's stages.

    python -m benchmarks.sparse_convolution [--turns 7] [--batch 8]
"""

import argparse

from benchmarks.results import table
from benchmarks.sparse_step import least

# Kernel size, height and width, channels in and out.
SIZES = (
    (1, 56, 64, 256),
    (1, 28, 128, 512),
    (1, 14, 256, 1024),
    (1, 14, 1024, 256),
    (1, 7, 512, 2048),
    (3, 28, 128, 128),
    (3, 14, 256, 256),
)
DENSITIES = (0.1, 0.05, 0.02)


def step(layer, x, patches):
    """A compiled forward and backward pass of one layer."""
    import tensorflow as tf

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            tape.watch(x)
            inputs = x
            if patches:
                inputs = tf.image.extract_patches(
                    x, (1, 3, 3, 1), (1, 1, 1, 1), (1, 1, 1, 1), "SAME"
                )
            y = layer(inputs, training=True)
        return tape.gradient(y, [x, layer.trainable_variables[0].value])

    return lambda: [gradient.numpy() for gradient in run()]


def measure(size, batch, turns):
    """Table row of one size."""
    import keras
    import tensorflow as tf

    from keras_sparse_rl.layers import SparseDense

    kernel_size, length, channels, filters = size
    keras.utils.set_random_seed(0)
    x = tf.random.normal((batch, length, length, channels))
    dense = keras.layers.Conv2D(filters, kernel_size, padding="same")
    dense(x)
    runs = {"dense": step(dense, x, patches=False)}
    for density in DENSITIES:
        layer = SparseDense(filters, density)
        layer.build((None, None, None, channels * kernel_size**2))
        runs[density] = step(layer, x, patches=kernel_size > 1)
    seconds = least(runs, turns)
    wall, busy = seconds["dense"]
    row = [
        f"{kernel_size} x {kernel_size}, {length} x {length}, "
        f"{channels} to {filters}",
        f"{1e3 * wall:.1f}",
    ]
    for density in DENSITIES:
        sparse_wall, sparse_busy = seconds[density]
        row.append(f"{wall / sparse_wall:.2f} ({busy / sparse_busy:.2f})")
    keras.backend.clear_session()
    print("  ".join(row), flush=True)
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rows = [measure(s, arguments.batch, arguments.turns) for s in SIZES]
    header = ["", "dense, ms"]
    header += [f"{1 - d:.0%} sparse, times faster" for d in DENSITIES]
    print("\nwall time (processor time)\n")
    print(table(header, rows))


if __name__ == "__main__":
    main()
