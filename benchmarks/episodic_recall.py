"""Regret by exposure: episodic LSTM, LSTM, no memory, perfect memory.

    python -m benchmarks.episodic_recall [--tasks barcode] [--seeds 3]
        [--folder OMNIGLOT]

Five tasks; results are files, one a seed, so the command goes on where it was
interrupted. Players with perfect or without memory are exact on bandits (what
the posterior makes most probable is pulled) and search the maze by walking to
the nearest cell not yet seen.
"""

import argparse
import itertools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from benchmarks.results import FOLDER
from benchmarks.results import result
from benchmarks.results import table
from examples import episodic_recall
from keras_sparse_rl import environments

NAME = "episodic_recall"
OPTIONS = {
    "barcode": ["--steps", "14000"],
    "compositional": ["--steps", "5000"],
    "omniglot": ["--steps", "14000"],
    "maze": ["--steps", "4000", "--copies", "64"],
    "two_step": ["--steps", "4000", "--copies", "64"],
}


def bandit_player(task, remembers, copies=2000, seed=0):
    """Regret by exposure of the best greedy player of a bandit.

    Args:
        task: `ContextualBandit`.
        remembers: bool, whether what a context was like is remembered.
        copies: int, tasks to play.
        seed: int.
    """
    generator = np.random.default_rng(seed)
    rows = np.arange(copies)
    meaning = _hypotheses(task)  # arm by hypothesis and context
    number, contexts = meaning.shape[:2]
    state = type(task)(batch_size=copies, seed=seed).start()["state"]
    order, targets = state["order"].numpy(), state["targets"].numpy()
    # A belief for each context, or one for all that they share.
    shared = isinstance(task, environments.CompositionalBandit)
    belief = np.zeros((copies, 1 if shared else contexts, number))
    regret = np.zeros(task.exposures)
    met = np.zeros((copies, contexts), int)
    for context in order.T:
        place = np.zeros_like(context) if shared else context
        if not remembers:
            belief[:] = 0
        for _ in range(task.steps):
            arms = np.zeros((copies, task.num_arms))
            now = belief[rows, place]
            weight = np.exp(now - now.max(-1, keepdims=True))
            for hypothesis in range(number):
                arm = meaning[hypothesis, context]
                arms[rows, arm] += weight[:, hypothesis]
            arms += 1e-9 * generator.random(arms.shape)
            pulled = arms.argmax(-1)
            pays = np.where(pulled == targets[rows, context], 0.9, 0.1)
            paid = generator.random(copies) < pays
            np.add.at(regret, met[rows, context], 0.9 - pays)
            good = meaning[:, context].T == pulled[:, None]
            likely = np.where(good == paid[:, None], 0.9, 0.1)
            belief[rows, place] += np.log(likely)
        met[rows, context] += 1
    return (regret / copies / contexts).tolist()


def _hypotheses(task):
    """int array `(hypotheses, contexts)`: which arm would be the good one."""
    if not isinstance(task, environments.CompositionalBandit):
        arms = np.arange(task.num_arms)[:, None]
        return np.repeat(arms, task.num_contexts, 1)
    rows, columns = task.num_rows, task.num_columns
    return np.array(
        [
            [
                row[c // columns] * columns + column[c % columns]
                for c in range(rows * columns)
            ]
            for row in itertools.permutations(range(rows))
            for column in itertools.permutations(range(columns))
        ]
    )


def maze_player(task, remembers, copies=100, seed=0):
    """Regret by exposure of a player who searches what was not yet seen."""
    generator = np.random.default_rng(seed)
    grid, exposures = task.grid, task.exposures
    cells = np.stack(np.divmod(np.arange(grid**2), grid), -1)
    distance = np.abs(cells[:, None] - cells).sum(-1)
    returns = np.zeros(exposures)
    for _ in range(copies * task.num_contexts):
        goal, candidates = generator.integers(grid**2), np.ones(grid**2, bool)
        for exposure in range(exposures):
            if not remembers:
                candidates[:] = True
            place = (goal + generator.integers(1, grid**2)) % grid**2
            candidates[place] &= candidates.sum() == 1
            for _ in range(task.steps):
                away = np.where(candidates, distance[place], 99)
                away = away + generator.random(grid**2) / 2
                aim = away.argmin()
                nearer = np.flatnonzero(
                    (distance[place] == 1)
                    & (distance[aim] < distance[aim, place])
                )
                place = generator.choice(nearer)
                if place == goal:
                    returns[exposure] += 1
                    candidates[:] = False
                    candidates[goal] = True
                    place = (goal + generator.integers(1, grid**2)) % grid**2
                else:
                    candidates[place] = False
    mean = returns / copies / task.num_contexts
    return (task.best_return - mean).tolist()


def references(task):
    """Dict of name to runs of players with known memory."""
    made = {
        "barcode": environments.BarcodeBandit,
        "omniglot": environments.BarcodeBandit,  # the images matter not
        "compositional": environments.CompositionalBandit,
        "maze": environments.WaterMaze,
    }[task]()
    play = maze_player if task == "maze" else bandit_player
    return {
        name: [
            result(
                NAME,
                f"{task}-{name.replace(' ', '_')}",
                lambda r=remembers: {"regret": play(made, r)},
            )
        ]
        for name, remembers in (("perfect memory", True), ("no memory", False))
    }


def trained(task, arguments):
    """Dict of name to runs of agents, a run a seed."""
    # The head's first weights are those of all that was measured here.
    settings = episodic_recall.parse(
        ["--task", task, "--policy-head-stddev", "0.01", *OPTIONS[task]]
    )
    settings.folder = arguments.folder
    return {
        name: [
            result(
                NAME,
                f"{task}-{name}-seed{seed}",
                lambda n=name, s=seed: episodic_recall.train(
                    task, n, settings, s
                ),
            )
            for seed in range(arguments.seeds)
        ]
        for name in ("episodic", "lstm")
    }


def rows_of(task, runs):
    """Lines of the table of a task."""
    for name, found in runs.items():
        for seed, run in enumerate(found):
            who = [task, name, seed if "seconds" in run else ""]
            time = "{seconds:.0f} ({cpu_seconds:.0f})".format(
                **{"seconds": 0, "cpu_seconds": 0, **run}
            )
            regret = np.array(run["regret"])
            shut = run.get("regret_gate_shut")
            yield [
                *who,
                f"{regret.sum():.2f}",
                *(f"{regret[n]:.2f}" for n in (0, 1, 2, -1)),
                "" if shut is None else f"{np.sum(shut):.1f}",
                time if "seconds" in run else "",
            ]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--tasks", nargs="+", default=list(OPTIONS), choices=list(OPTIONS)
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", help="of Omniglot's images")
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rows, stays = [], []
    for task in arguments.tasks:
        if task == "omniglot" and arguments.folder is None:
            print("omniglot: left out, there is no --folder of its images")
            continue
        runs = trained(task, arguments)
        if task == "two_step":
            for name, found in runs.items():
                for seed, run in enumerate(found):
                    stays.append(
                        [name, seed, f"{run['reward']:.2f}"]
                        + [f"{x:.2f}" for x in np.ravel(run["cued"])]
                        + [f"{x:.2f}" for x in np.ravel(run["uncued"])]
                    )
        else:
            runs.update(references(task))
            rows.extend(rows_of(task, runs))
        path = FOLDER / NAME / f"{task}.png"
        episodic_recall.plot(task, runs, path)
    if rows:
        print(
            table(
                ["task", "memory", "seed", "regret in all", "1st", "2nd"]
                + ["3rd", "last exposure", "gate shut", "seconds (CPU)"],
                rows,
            )
        )
    if stays:
        kinds = ["common +", "common -", "rare +", "rare -"]
        cued, uncued = (
            [f"{half}, {kind}" for kind in kinds] for half in ("cued", "uncued")
        )
        print(table(["memory", "seed", "reward", *cued, *uncued], stays))


if __name__ == "__main__":
    main()
