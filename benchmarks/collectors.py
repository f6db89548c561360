"""Collectors in processes of Ray beside collection in process: CartPole-v1.

    python -m benchmarks.collectors [--seeds 5] [--steps 1000]

Equal agents, train steps and environment steps: collected in this process, by
four collectors, each with a quarter of the copies of the environment, whose
weights are a train step old, and by four of which one is killed by SIGKILL in
mid-run. Prints returns over all of training (the area under the curve) and at
its end, and plots the curves. Needs the extra `ray`.
"""

import argparse
import os
import pathlib
import signal
import tempfile
import time
import warnings

import keras
import matplotlib
import numpy as np

from benchmarks.results import FOLDER
from benchmarks.results import cell
from benchmarks.results import interval
from benchmarks.results import result
from benchmarks.results import table
from keras_sparse_rl import agents
from keras_sparse_rl.environments import GymnasiumEnvironment

NAME = "collectors"
COPIES, SEGMENT, EPOCHS = 32, 16, 20
VARIANTS = {  # collectors, whether one of them dies
    "in process": (0, False),
    "four collectors": (4, False),
    "four, one killed": (4, True),
}


class Mortal(GymnasiumEnvironment):
    """Kills the first process that has taken some steps in it, and no other.

    Args:
        mark: path of a file that says that it has happened.
        lifetime: int, steps.
        copies, seed: ints.
    """

    def __init__(self, mark, lifetime, copies, seed):
        super().__init__("CartPole-v1", copies, seed)
        self._mark, self._left = mark, lifetime

    def _step(self, action):
        self._left -= 1
        if self._left < 0 and not self._mark.exists():
            self._mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._step(action)


def run(variant, seed, steps):
    """Mean returns by epoch, mean lags, seconds, and collectors that died."""
    number, dies = VARIANTS[variant]
    keras.utils.set_random_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        mark = pathlib.Path(folder) / "died"
        copies = COPIES // max(1, number)
        environment = GymnasiumEnvironment("CartPole-v1", copies, seed)
        if dies:  # when a third of all steps are taken
            environment = Mortal(mark, steps * SEGMENT // 3, copies, seed)
        rate = keras.optimizers.schedules.PolynomialDecay(5e-3, steps, 0.0)
        agent = agents.ActorCriticAgent(
            environment.time_step_spec(),
            environment.action_spec(),
            agents.actor_critic_model(
                environment.observation_spec(),
                environment.action_spec(),
                torso=keras.Sequential(
                    [keras.layers.Dense(64, "tanh") for _ in range(2)]
                ),
            ),
            keras.optimizers.Adam(rate, global_clipnorm=0.5),
            trace_decay=0.95,
            seed=seed,
        )
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            history = agents.train(
                agent,
                environment,
                epochs=EPOCHS,
                steps_per_epoch=steps // EPOCHS,
                segment_length=SEGMENT,
                collectors=number,
                verbose=2,
                seed=seed,
            ).history
        died = sum("a collector died" in str(w.message).lower() for w in caught)
    return {
        "return": [float(x) for x in history["return"]],
        "lag": [float(x) for x in history.get("lag", [0.0] * EPOCHS)],
        "seconds": time.perf_counter() - start,
        "died": died,
    }


def plot(curves, steps, path):
    """Mean return by environment steps, with 95 % intervals."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    x = np.arange(1, EPOCHS + 1) * steps // EPOCHS * SEGMENT * COPIES
    for name, found in curves.items():
        mean, width = np.array([interval(epoch) for epoch in found.T]).T
        (line,) = axes.plot(x, mean, label=name)
        axes.fill_between(
            x, mean - width, mean + width, alpha=0.2, color=line.get_color()
        )
    axes.set(
        xlabel="environment steps",
        ylabel="return of training episodes",
        title=f"CartPole-v1, {len(found)} seeds",
    )
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def main():
    matplotlib.use("Agg")
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1000)
    arguments = parser.parse_args()
    runs = {name: [] for name in VARIANTS}
    for seed in range(arguments.seeds):
        for name in VARIANTS:
            file = f"{name.replace(', ', '-').replace(' ', '-')}-seed{seed}"
            if arguments.steps != 1000:
                file += f"-{arguments.steps}steps"
            runs[name].append(
                result(
                    NAME,
                    file,
                    lambda n=name, s=seed: run(n, s, arguments.steps),
                )
            )
    curves = {
        name: np.nan_to_num([found["return"] for found in part])
        for name, part in runs.items()
    }
    rows = []
    for name, part in runs.items():
        area, end = curves[name].mean(1), curves[name][:, -4:].mean(1)
        first = curves["in process"]
        rows.append(
            [
                name,
                cell(area, 1),
                cell(area - first.mean(1), 1),
                cell(end, 1),
                cell(end - first[:, -4:].mean(1), 1),
                cell([np.mean(found["lag"]) for found in part], 1),
                sum(found["died"] for found in part),
                cell([found["seconds"] for found in part], 0),
            ]
        )
    header = ["", "area", "paired", "last fifth", "paired", "lag", "died"]
    print(table([*header, "seconds"], rows))
    if arguments.seeds > 1:
        plot(curves, arguments.steps, FOLDER / NAME / "curves.png")


if __name__ == "__main__":
    main()
