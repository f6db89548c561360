"""A near and a far auxiliary task on real images: gated, summed, left out.

    python -m benchmarks.near_and_far [--data FOLDER] [--seeds 10]

After the class pairs of ImageNet in section 4.1 of "Adapting Auxiliary Losses
Using Gradient Similarity" by Du et al. 2018: the main task tells one class
from the rest, the auxiliary task another class; its loss weighs five
times as much. Near: pullovers and coats. Far: pullovers and sandals. Noise:
the auxiliary labels are drawn by lot. Losses are those of the main task over
all training images; "times faster" compares the steps until it is as low as
the main task alone ends. PCGrad (Yu et al. 2020), which projects instead of
weighing, stands beside.
"""

import argparse

import keras
import numpy as np
import tensorflow as tf

from benchmarks.results import FOLDER
from benchmarks.results import cell
from benchmarks.results import interval
from benchmarks.results import result
from benchmarks.results import table
from examples import auxiliary_losses
from examples.auxiliary_losses import EVERY
from examples.auxiliary_losses import PAIRS
from examples.auxiliary_losses import plot
from examples.auxiliary_losses import run
from keras_sparse_rl.callbacks import TrainStepCallback
from keras_sparse_rl.callbacks.loss_gradients import loss_gradients
from keras_sparse_rl.gradients.gate_gradients import add_gradients

NAME = "near_and_far"


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


METHODS = {**auxiliary_losses.METHODS, "pcgrad": lambda: [PCGrad()]}


def final(run):
    return np.mean(run["losses"][-5:])


def steps_to(run, loss):
    """Steps until the loss, over 3 evaluations, is as low as `loss`."""
    smooth = np.convolve(run["losses"], np.ones(3) / 3, "valid")
    reached = np.flatnonzero(smooth <= loss)
    return EVERY * (reached[0] + 3 if len(reached) else len(run["losses"]) + 1)


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
                            arguments.data, p, METHODS[m] and METHODS[m](), s
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
