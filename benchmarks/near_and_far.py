"""A near and a far auxiliary task on real images: gated, summed, left out.

    python -m benchmarks.near_and_far [--data FOLDER] [--seeds 10]

After the class pairs of ImageNet in section 4.1 of "Adapting Auxiliary Losses
Using Gradient Similarity" by Du et al. 2018: the main task tells one class
from the rest, the auxiliary task another class; its loss weighs AUXILIARY
times as much. Near: pullovers and coats. Far: pullovers and sandals. Noise:
the auxiliary labels are drawn by lot. Losses are those of the main task over
all training images; "times faster" compares the steps until it is as low as
the main task alone ends. PCGrad (Yu et al. 2020), which projects instead of
weighing, stands beside.
"""

import argparse

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from keras import ops

from benchmarks.results import FOLDER
from benchmarks.results import cell
from benchmarks.results import interval
from benchmarks.results import result
from benchmarks.results import table
from examples.image_data import load_images
from keras_sparse_rl.callbacks import GradientCosine
from keras_sparse_rl.callbacks import TrainStepCallback
from keras_sparse_rl.callbacks.loss_gradients import loss_gradients
from keras_sparse_rl.gradients.gate_gradients import add_gradients

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NAME = "near_and_far"
PAIRS = {"near": (2, 4), "far": (2, 5), "noise": (2, 4)}
BATCH, EVERY, EPOCHS, AUXILIARY = 128, 10, 60, 5.0
METHODS = {
    "alone": None,
    "sum": lambda: [],
    "weighted": lambda: [GradientCosine("main", "auxiliary")],
    "unweighted": lambda: [GradientCosine("main", "auxiliary", "unweighted")],
    "pcgrad": lambda: [PCGrad()],
}


class PCGrad(TrainStepCallback):
    """Takes from each gradient what points against the other."""

    def train_step(self, data):
        model = self.model
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        found = loss_gradients(model, x, y, sample_weight, ["auxiliary"])
        main, auxiliary = found.main, found.auxiliaries[0]
        pairs = [
            (a, b)
            for a, b in zip(main, auxiliary)
            if a is not None and b is not None
        ]
        dot = tf.add_n([tf.reduce_sum(a * b) for a, b in pairs])
        squares = [
            tf.add_n([tf.reduce_sum(p[k] ** 2) for p in pairs]) for k in (0, 1)
        ]
        share = [tf.minimum(dot, 0.0) / square for square in squares]
        gradients = [
            a + b - share[1] * b - share[0] * a
            if a is not None and b is not None
            else add_gradients(a, b)
            for a, b in zip(main, auxiliary)
        ]
        model.optimizer.apply_gradients(
            zip(gradients, model.trainable_variables)
        )
        return model.compute_metrics(x, y, found.y_pred, sample_weight)


def tasks(data, pair, seed):
    """Training and test arrays: images, targets, sample weights."""
    main, auxiliary = PAIRS[pair]
    (x, y), _ = load_images(data)
    generator = np.random.default_rng(seed)
    rest = generator.permutation(
        np.flatnonzero((y != main) & (y != auxiliary))
    )[:2000]
    many = np.flatnonzero(y == auxiliary)
    kept = np.concatenate([np.flatnonzero(y == main), rest, many])
    x, targets, weights = _arrays(x[kept], y[kept], main, auxiliary)
    if pair == "noise":
        targets["auxiliary"] = generator.integers(0, 2, (len(x), 1)) * 1.0
    return x, targets, weights


def _arrays(x, y, main, auxiliary):
    """Neither task sees the other's class."""
    targets, weights = {}, {}
    for name, own, other in (
        ("main", main, auxiliary),
        ("auxiliary", auxiliary, main),
    ):
        is_own = y == own
        targets[name] = is_own.astype("float32")[:, None]
        # Both classes count the same, however rare.
        share = is_own.sum() / np.sum(y != other)
        weight = np.where(is_own, 0.5 / share, 0.5 / (1 - share))
        weights[name] = (weight * (y != other)).astype("float32")
    return x, targets, weights


def run(data, pair, method, seed):
    """The main loss of all training images, every 10 steps."""
    keras.utils.set_random_seed(seed)
    x, y, weights = tasks(data, pair, seed)
    names = ["main"] if METHODS[method] is None else ["main", "auxiliary"]
    train = x, {n: y[n] for n in names}, {n: weights[n] for n in names}
    inputs = keras.Input((28, 28, 1))
    shared = keras.layers.Dense(64, "relu")(keras.layers.Flatten()(inputs))
    shared = keras.layers.Dense(8, "relu")(shared)
    model = keras.Model(
        inputs, {n: keras.layers.Dense(1, name=n)(shared) for n in names}
    )
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.SGD(0.02),
        {n: loss for n in names},
        loss_weights={n: AUXILIARY if n == "auxiliary" else 1.0 for n in names},
    )
    batches = tf.data.Dataset.from_tensor_slices(train).shuffle(
        len(train[0]), seed=seed
    )
    seen = weights["main"] > 0

    class MainLoss(keras.callbacks.Callback):
        losses = []

        def on_epoch_end(self, epoch, logs=None):
            logits = ops.convert_to_tensor(self.model(x[seen])["main"])
            each = keras.ops.binary_crossentropy(
                y["main"][seen], logits, from_logits=True
            )
            mean = np.average(each[:, 0], weights=weights["main"][seen])
            self.losses.append(float(mean))

    found = MainLoss()
    found.losses = []
    callbacks = [] if METHODS[method] is None else METHODS[method]()
    history = model.fit(
        batches.repeat().batch(BATCH),
        epochs=EPOCHS,
        steps_per_epoch=EVERY,
        verbose=0,
        callbacks=[*callbacks, found],
    ).history
    return {
        "losses": found.losses,
        "cosines": history.get("cosine_auxiliary", []),
    }


def final(run):
    return np.mean(run["losses"][-5:])


def steps_to(run, loss):
    """Steps until the loss, over 3 evaluations, is as low as `loss`."""
    smooth = np.convolve(run["losses"], np.ones(3) / 3, "valid")
    reached = np.flatnonzero(smooth <= loss)
    return EVERY * (reached[0] + 3 if len(reached) else EPOCHS + 1)


def plot(found, path):
    """Main loss by step: a panel a pair, a line a method."""
    figure, axes = plt.subplots(1, len(PAIRS), figsize=(12, 4), sharey=True)
    steps = EVERY * np.arange(1, EPOCHS + 1)
    for axis, (pair, methods) in zip(axes, found.items()):
        for method, runs in methods.items():
            losses = [run["losses"] for run in runs]
            axis.plot(steps, np.mean(losses, 0), label=method)
        axis.set(title=f"{pair} auxiliary task", xlabel="step", yscale="log")
    axes[0].set_ylabel("main loss of all training images")
    axes[1].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="embedded")
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    found = {pair: {method: [] for method in METHODS} for pair in PAIRS}
    for seed in range(arguments.seeds):
        for pair in PAIRS:
            for method in METHODS:
                found[pair][method].append(
                    result(
                        NAME,
                        f"{pair}-{method}-seed{seed}",
                        lambda p=pair, m=method, s=seed: run(
                            arguments.data, p, m, s
                        ),
                    )
                )
    rows = []
    for pair, methods in found.items():
        ends = [final(run) for run in methods["alone"]]
        reached = [steps_to(r, e) for r, e in zip(methods["alone"], ends)]
        for method, runs in methods.items():
            ratio = [final(run) / end for run, end in zip(runs, ends)]
            faster = [
                np.log(alone / steps_to(run, end))
                for run, end, alone in zip(runs, ends, reached)
            ]
            middle, width = interval(faster)
            low, middle, high = np.exp([middle - width, middle, middle + width])
            cosines = [np.mean(run["cosines"] or [np.nan]) for run in runs]
            rows.append(
                [pair, method, cell([final(run) for run in runs], 4)]
                + [cell(ratio, 3), f"{middle:.2f} ({low:.2f} to {high:.2f})"]
                + [f"{np.mean(cosines):.2f}"]
            )
    plot(found, FOLDER / NAME / "near_and_far.png")
    header = ["auxiliary", "method", "final main loss", "relative to alone"]
    print(table([*header, "times faster", "mean cosine"], rows))


if __name__ == "__main__":
    main()
