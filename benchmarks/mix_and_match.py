"""Mix&Match on a grid with 756 actions, of which 9 suffice.

    python -m benchmarks.mix_and_match [--modes direct ...] [--seeds 10]

As in "Mix & Match" by Czarnecki et al. 2018: the last policy chooses from 756
actions, the simple one from 9 of them. All modes are the same agent, compiled
once, and differ only in how the shares and the matching loss move; in
`learned` a population of eight moves them. Policies and values are tables, so
nothing is shared between cells. The return is that of the last policy alone,
computed exactly every ten iterations of 256 steps. Prints a table and plots
the curves.
"""

import argparse

import matplotlib
import numpy as np
import tensorflow as tf

from benchmarks.results import FOLDER
from benchmarks.results import cell
from benchmarks.results import result
from benchmarks.results import table
from examples.mix_and_match import make_agent
from keras_sparse_rl import agents
from keras_sparse_rl.agents.in_graph_collector import InGraphCollector
from keras_sparse_rl.environments import LargeActionGrid

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NAME = "mix_and_match"
COPIES, SEGMENT, ITERATIONS, EVERY, ROUND = 16, 16, 1200, 10, 40
ENTROPY, EPSILON, GOAL = 0.003, 3e-4, 0.85


def ramp(iteration, start, end):
    return min(1.0, max(0.0, (iteration - start) / (end - start)))


SHARES = {  # by iteration: share of the last policy, matching coefficient
    "direct": lambda i: (1.0, 0.0),
    "hard switch": lambda i: (float(i >= 400), 0.0),
    "no matching": lambda i: (ramp(i, 0, 400), 0.0),
    "mix & match": lambda i: (ramp(i, 0, 400), 1.0),
    "mix & match, annealed": lambda i: (
        ramp(i, 50, 150),
        1.0 - ramp(i, 50, 120),
    ),
}
MODES = [*SHARES, "learned"]
MOVES = {
    "alpha": agents.Hyperparameter(0.0, 1.0),
    "matching": agents.Hyperparameter(1e-2, 1.0, log=True, step=0.5),
}


class EntropyBonus(agents.LossTerm):
    """With a coefficient that is a variable."""

    def __init__(self):
        self.rate = tf.Variable(ENTROPY, trainable=False)
        super().__init__(lambda step: self.rate, "entropy_bonus")

    def loss(self, segment):
        return -agents.action_entropy(segment.distribution)


class Trainer(agents.PopulationMember):
    """Compiled once, started anew for each mode and seed."""

    def __init__(self):
        self._environment = LargeActionGrid(batch_size=COPIES)
        self._entropy = EntropyBonus()
        self._agent = agent = make_agent(
            self._environment,
            [1.0, 0.0],
            EPSILON,
            entropy_coefficient=0.0,
            loss_terms=[self._entropy],
        )
        collector = InGraphCollector(
            agent.collect_policy, self._environment, SEGMENT, 0
        )
        self._step = collector.with_learning(
            lambda experience, figures: agent.train(experience).loss
        )
        optimizer = agent.model.optimizer
        self._variables = [
            *(v.value for v in agent.model.variables + optimizer.variables),
            agent.train_step_counter,
            *collector.variables,
            *tf.nest.flatten(self._environment.carry),
        ]
        self._start = self.get_state()
        self._probabilities = tf.function(
            lambda: tf.nn.softmax(
                agent.model(
                    {
                        "observation": tf.range(81)[tf.newaxis],
                        "is_first": tf.ones((1, 81), tf.bool),
                        "state": {},
                    }
                )["outputs"]["policy"][0]
            )
        )

    def reset(self, seed, entropy=ENTROPY):
        self.set_state(self._start)
        self._environment.carry["count"].assign(10**6 * seed + 1)
        self._entropy.rate.assign(entropy)

    def evaluate(self):
        found = self._probabilities().numpy().astype("float64")
        return float(self._environment.expected_return(found))

    def run(self, shares, iterations=ITERATIONS):
        """Returns of the last policy alone, one every `EVERY` iterations."""
        curve = []
        for iteration in range(iterations):
            alpha, matching = shares(iteration)
            self._agent.set_alphas([1 - alpha, alpha])
            self._agent.matching_coefficient.assign(matching)
            self._step()
            if (iteration + 1) % EVERY == 0:
                curve.append(self.evaluate())
        return curve

    def train(self, hyperparameters):
        values = hyperparameters["alpha"], hyperparameters["matching"]
        return self.run(lambda iteration: values, ROUND)[-1]

    def get_state(self):
        return [v.numpy() for v in self._variables]

    def set_state(self, state):
        for variable, value in zip(self._variables, state):
            variable.assign(value)


def learned(trainer, seed):
    """Curve and shares of the best member and those it was copied from."""
    found = agents.train_population(
        lambda: trainer,
        MOVES,
        size=8,
        rounds=ITERATIONS // ROUND,
        directory=FOLDER / NAME / f"population-{seed}",
        seed=seed,
    )
    rounds = [found.history[k : k + 8] for k in range(0, len(found.history), 8)]
    member = max(rounds[-1], key=lambda row: row["score"])["member"]
    curve, alphas = [], []
    for number, rows in reversed(list(enumerate(rounds))):
        if number + 1 < len(rounds) and rows[member]["copied_from"] is not None:
            member = rows[member]["copied_from"]
        curve.append(rows[member]["score"])
        alphas.append(rows[member]["hyperparameters"]["alpha"])
    return {"curve": curve[::-1], "alphas": alphas[::-1], "every": ROUND}


def compute(trainer, mode, seed):
    if mode == "learned":
        return learned(trainer, seed)
    trainer.reset(seed)
    return {"curve": trainer.run(SHARES[mode]), "every": EVERY}


def reached(run):
    """Iterations until the goal; infinite if it was not reached."""
    places = np.flatnonzero(np.array(run["curve"]) >= GOAL)
    return (places[0] + 1) * run["every"] if len(places) else np.inf


def drop(run):
    """Largest fall below the best so far, once the goal is reached, in %."""
    curve = np.array(run["curve"])
    best = np.maximum.accumulate(curve)
    falls = 100 * (best - curve)[best >= GOAL] / best[best >= GOAL]
    return falls.max() if len(falls) else np.nan


def plot(found, path):
    """Mean return of the last policy by iteration, a line a mode."""
    figure, axis = plt.subplots(figsize=(6, 4))
    for mode, runs in found.items():
        curves = np.array([run["curve"] for run in runs])
        steps = runs[0]["every"] * np.arange(1, curves.shape[1] + 1)
        (line,) = axis.plot(steps, curves.mean(0), label=mode)
        axis.fill_between(steps, curves.min(0), curves.max(0), alpha=0.2, lw=0)
        line.set_zorder(3)
    axis.set(
        xlabel="iteration of 256 steps",
        ylabel="return of the last policy (band: all seeds)",
    )
    axis.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    found, rows, trainer = {}, [], None

    def computed(mode, seed):
        nonlocal trainer
        trainer = trainer or Trainer()
        return compute(trainer, mode, seed)

    for mode in arguments.modes:
        name = mode.replace(" & ", "_and_").replace(", ", "-").replace(" ", "_")
        runs = found[mode] = [
            result(NAME, f"{name}-{s}", lambda m=mode, s=s: computed(m, s))
            for s in range(arguments.seeds)
        ]
        first = [reached(run) for run in runs]
        drops = [drop(run) for run in runs]
        rows.append(
            [
                mode,
                f"{np.median(first):.0f}, {min(first):.0f} to {max(first):.0f}",
                f"{max(drops):.1f}",
                cell([np.mean(run["curve"]) for run in runs], 3),
                cell([run["curve"][-1] for run in runs], 3),
            ]
        )
    plot(found, FOLDER / NAME / "mix_and_match.png")
    header = [
        "mode",
        f"iterations to {GOAL}",
        "largest drop in %",
        "mean return",
        "final return",
    ]
    print(table(header, rows))


if __name__ == "__main__":
    main()
