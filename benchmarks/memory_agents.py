"""LSTM and GTrXL agents on the T-maze and on bsuite's memory_len.

    python -m benchmarks.memory_agents          (needs `pip install bsuite`)

bsuite calls memory_len solved when, over the first 10,000 episodes of
training, the share of wrong answers is below 0.75 of a random player's, 0.5.
"""

import argparse

import numpy as np

from benchmarks.results import FOLDER
from benchmarks.results import result
from benchmarks.results import table
from examples import memory_agents

NAME = "memory_agents"
EPISODES = 10_000
SETTINGS = [  # task, length, memory, environment steps
    ("t_maze", 50, "gtrxl", 2_500_000),
    ("memory_len", 10, "lstm", 115_000),
    ("memory_len", 10, "gtrxl", 115_000),
    ("memory_len", 30, "lstm", 325_000),
    ("memory_len", 30, "gtrxl", 325_000),
]
OPTIONS = {
    "t_maze": ["--steps-per-epoch", "25", "--copies", "64", "--segment", "64"]
    + ["--entropy", "0.02", "--gate-bias", "0"],
    "memory_len": ["--steps-per-epoch", "10"],
}


def regret_ratio(run):
    """Wrong answers of the first 10,000 episodes, relative to chance."""
    episodes = np.array(run["episodes"])
    wrong = episodes * (1 - np.array(run["returns"])) / 2
    before = np.cumsum(episodes) - episodes
    share = np.clip((EPISODES - before) / episodes, 0, 1)
    return float((wrong * share).sum() / (episodes * share).sum() / 0.5)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    rows, found = [], {}
    for task, length, memory, steps in SETTINGS:
        settings = memory_agents.parse(
            ["--task", task, "--length", str(length), "--steps", str(steps)]
            + ["--learning-rate", "2e-3", "--policy-head-stddev", "0.01"]
            + OPTIONS[task]
        )
        for seed in range(arguments.seeds):
            run = result(
                NAME,
                f"{task}{length}-{memory}-seed{seed}",
                lambda t=task, m=memory, a=settings, s=seed: (
                    memory_agents.train(t, m, a, s)
                ),
            )
            runs = found.setdefault((task, length), {})
            runs.setdefault(memory, []).append(run)
            right = np.mean(np.array(run["evaluation"]) > 0)
            regret = f"{regret_ratio(run):.2f}" if task == "memory_len" else ""
            rows.append(
                [f"{task} {length}", memory, seed, f"{100 * right:.0f} %"]
                + [regret, f"{run['seconds']:.0f}"]
            )
    for (task, length), runs in found.items():
        path = FOLDER / NAME / f"{task}{length}.png"
        memory_agents.plot(f"{task} {length}", runs, path)
    header = ["task", "memory", "seed", "successes", "regret", "seconds"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
