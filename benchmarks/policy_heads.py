"""How large a policy's head has to start for its memory to be learned.

A T-maze with a corridor of 8, 200 train steps of 32 copies and 32 steps; LSTM,
GTrXL and PPR with policies' heads of several first scales. A memory that is not
learned earns 0, one that is 1. Prints a table and saves a plot.

    python -m benchmarks.policy_heads [--seeds 3]
"""

import argparse

import keras
import matplotlib
import numpy as np

from benchmarks.results import FOLDER
from benchmarks.results import cell
from benchmarks.results import result
from benchmarks.results import table
from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.layers import GTrXL
from keras_sparse_rl.layers import PPRCore

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NAME = "policy_heads"
STDDEVS = (0.01, 0.1, 0.3, 1.0)
EPOCHS, STEPS, COPIES, SEGMENT, ENOUGH = 20, 10, 32, 32, 0.9
MEMORIES = {
    "LSTM": lambda: keras.layers.LSTM(32),
    "GTrXL": lambda: GTrXL(2, 2, 16, 64, 16, return_state=True),
    "PPR": lambda: PPRCore(32, slow_period=4, return_state=True),
}


def run(memory, stddev, seed):
    """Mean return of each epoch."""
    keras.utils.set_random_seed(seed)
    maze = environments.TMaze(length=8, batch_size=COPIES, seed=seed)
    build, make = agents.actor_critic_model, agents.ActorCriticAgent
    if memory == "PPR":
        build, make = agents.ppr_model, agents.PPRAgent
    agent = make(
        maze.time_step_spec(),
        maze.action_spec(),
        build(
            maze.observation_spec(),
            maze.action_spec(),
            core=MEMORIES[memory](),
            policy_head_stddev=stddev,
        ),
        keras.optimizers.Adam(3e-3, global_clipnorm=1.0),
        trace_decay=0.95,
        seed=seed,
    )
    history = agents.train(
        agent,
        maze,
        epochs=EPOCHS,
        steps_per_epoch=STEPS,
        segment_length=SEGMENT,
        jit_compile=True,
        verbose=0,
        seed=seed,
    ).history
    keras.backend.clear_session()
    return history["return"]


def steps_to_enough(returns):
    """Environment steps, in thousands, until 0.9; infinite if never."""
    reached = np.flatnonzero(np.array(returns) >= ENOUGH)
    per_epoch = STEPS * COPIES * SEGMENT / 1e3
    return per_epoch * (reached[0] + 1) if reached.size else np.inf


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    figure, axes = plt.subplots(
        1, len(MEMORIES), figsize=(9, 3), sharey=True, squeeze=False
    )
    rows = []
    for axis, memory in zip(axes[0], MEMORIES):
        for stddev in STDDEVS:
            runs = [
                result(
                    NAME,
                    f"{memory}-{stddev}-seed{seed}",
                    lambda m=memory, d=stddev, s=seed: run(m, d, s),
                )
                for seed in range(seeds)
            ]
            steps = [steps_to_enough(returns) for returns in runs]
            rows.append(
                [memory, stddev, ", ".join(f"{n:.0f}" for n in steps)]
                + [cell([returns[-1] for returns in runs])]
            )
            axis.plot(np.median(runs, 0), label=f"{stddev:g}")
        axis.set(title=memory, xlabel=f"epoch of {STEPS} steps")
    axes[0, 0].set_ylabel("return, median of seeds")
    axes[0, 0].legend(title="head starts at", fontsize=7)
    figure.tight_layout()
    path = FOLDER / NAME / "policy_heads.png"
    figure.savefig(path, dpi=100)
    header = ["memory", "head starts at", "thousand steps to 0.9, by seed"]
    print(table([*header, "return at the end"], rows))
    print(f"plot: {path}")


if __name__ == "__main__":
    main()
