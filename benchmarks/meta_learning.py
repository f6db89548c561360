"""Meta-learning beside what is optimal: predictors, Thompson sampling, play.

    python -m benchmarks.meta_learning [--parts bandits predictors ...]
        [--seeds 3]

Results are files, one a seed, so the command goes on where it was
interrupted. Exact regrets come from dynamic programming, those of large
bandits from simulation. The ablation trains the Bayes-optimal template with
one setting changed at a time.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from benchmarks.results import FOLDER
from benchmarks.results import result
from benchmarks.results import table
from examples import meta_learning
from keras_sparse_rl import meta

NAME = "meta_learning"
QUIET = ["--verbose", "2"]
# Steps that fit into 120 seconds on one core for an LSTM.
PREDICTORS = {
    ("bernoulli", "lstm"): ["--steps", "3600"],
    ("dirichlet", "lstm"): ["--steps", "3600"],
    ("gaussian", "lstm"): ["--steps", "3600"],
    ("exponential", "lstm"): ["--steps", "3600"],
    ("piecewise", "lstm"): ["--steps", "3600"],
    ("markov", "lstm"): ["--steps", "3600"],
    ("bernoulli", "gtrxl"): ["--steps", "2000", "--batch-size", "128"],
    ("bernoulli", "episodic"): ["--steps", "1200", "--batch-size", "64"],
}
THOMPSON = ["--steps", "3600"]
OPTIMAL = ["--steps", "3000", "--batch-size", "512", "--units", "48"]
ABLATION = {
    "as it is": [],
    "no predictive head": ["--prediction", "0"],
    "batch of 64": ["--batch-size", "64"],
    "no head, batch of 64": ["--batch-size", "64", "--prediction", "0"],
    "no head, entropy stays": [
        *("--prediction", "0", "--entropy", "0.01"),
        *("--entropy-end", "0.01"),
    ],
    "no head, discount 0.9": ["--prediction", "0", "--discount", "0.9"],
    "no head, trace decay 0.9": ["--prediction", "0", "--trace-decay", "0.9"],
}
PLAYERS = {
    "Gittins (0.95)": lambda s, f: meta.gittins_policy(s, f, 0.95),
    "greedy": meta.greedy_policy,
    "Thompson": meta.thompson_policy,
    "UCB1": meta.ucb1_policy,
}


def exact_regrets(horizon):
    """Regret of ways to play two arms, by dynamic programming."""
    bandit = meta.BanditOptimum(2, horizon)
    regrets = {"optimal": bandit.optimal_regret}
    for name, policy in PLAYERS.items():
        regrets[name] = bandit.best_return - bandit.return_of(policy)
    return regrets


def simulated_regrets(num_arms, horizon, episodes=4000):
    """The same of larger bandits, in play; with their standard errors."""
    generator = np.random.default_rng(1)

    def thompson(successes, failures):
        # One draw of the posterior serves as well as its probabilities.
        drawn = generator.beta(successes + 1, failures + 1)
        return drawn == drawn.max(-1, keepdims=True)

    players = {**PLAYERS, "Thompson": thompson}
    del players["Gittins (0.95)"]
    found = {}
    for name, policy in players.items():
        regret = meta.play_bandit(policy, num_arms, horizon, episodes)
        found[name] = [
            float(regret.mean()),
            float(regret.std() / np.sqrt(episodes)),
        ]
    return found


def bandits(arguments):
    rows = []
    for horizon in (10, 20, 50):
        found = result(
            NAME, f"bandit-2-{horizon}", lambda h=horizon: exact_regrets(h)
        )
        rows += [[2, horizon, k, f"{x:.4f}"] for k, x in found.items()]
    for num_arms in (2, 10):
        found = result(
            NAME,
            f"bandit-{num_arms}-100",
            lambda n=num_arms: simulated_regrets(n, 100),
        )
        rows += [
            [num_arms, 100, k, f"{x:.2f} ± {2 * error:.2f}"]
            for k, (x, error) in found.items()
        ]
    print(table(["arms", "horizon", "player", "regret"], rows))


def predictors(arguments):
    rows, curves = [], {}
    for (task, memory), options in PREDICTORS.items():
        settings = meta_learning.parse(
            ["--task", task, "--memory", memory, *options, *QUIET]
        )
        for seed in range(arguments.seeds):
            found = result(
                NAME,
                f"predictor-{task}-{memory}-seed{seed}",
                lambda t=task, a=settings, s=seed: (
                    meta_learning.train_predictor(t, a, s)
                ),
            )
            similar = found["similarity"]
            rows.append(
                [
                    *(task, memory, seed),
                    f"{np.mean(found['excess']):.1e}",
                    f"{max(found['excess']):.1e}",
                    f"{found['probe']:.4f}",
                    f"{similar['agent_to_bayes_output']:.1e}",
                    f"{similar['bayes_to_agent_output']:.1e}",
                    _seconds(found),
                ]
            )
            if not seed:
                curves[f"{task}, {memory}"] = found
    meta_learning.plot_excess(curves, FOLDER / NAME / "predictors.png")
    print(
        table(
            ["task", "memory", "seed", "excess", "worst position"]
            + ["probe R²", "agent to Bayes", "Bayes to agent"]
            + ["seconds (CPU)"],
            rows,
        )
    )


def thompson(arguments):
    settings = meta_learning.parse([*THOMPSON, *QUIET])
    rows = []
    for seed in range(arguments.seeds):
        found = result(
            NAME,
            f"thompson-seed{seed}",
            lambda s=seed: meta_learning.train_thompson(settings, s),
        )
        rows.append(
            [
                seed,
                f"{found['regret']:.3f} ± {2 * found['error']:.3f}",
                f"{np.mean(found['excess']):.1e}",
                _seconds(found),
            ]
        )
    print(table(["seed", "regret", "excess", "seconds (CPU)"], rows))


def play(name, options, seeds):
    """Rows of the table, and the runs, of the Bayes-optimal template."""
    settings = meta_learning.parse([*OPTIMAL, *options, *QUIET])
    file = name.replace(" ", "_").replace(",", "")
    runs = [
        result(
            NAME,
            f"optimal-{file}-seed{seed}",
            lambda s=seed: meta_learning.train_optimal(settings, s),
        )
        for seed in range(seeds)
    ]
    rows = [
        [
            *(name, seed),
            f"{found['regret']:.3f} ± {2 * found['error']:.3f}",
            f"{found['regret_greedy']:.3f}",
            _seconds(found),
        ]
        for seed, found in enumerate(runs)
    ]
    return rows, runs


HEADER = ["setting", "seed", "regret", "greedy", "seconds (CPU)"]


def optimal(arguments):
    rows, runs = play("as it is", [], arguments.seeds)
    curves = {f"seed {seed}": found for seed, found in enumerate(runs)}
    meta_learning.plot_regret(curves, FOLDER / NAME / "optimal.png")
    print(table(HEADER, rows))


def ablation(arguments):
    rows, curves = [], {}
    for name, options in ABLATION.items():
        more, runs = play(name, options, 1)
        rows += more
        curves[name] = runs[0]
    meta_learning.plot_regret(curves, FOLDER / NAME / "ablation.png")
    print(table(HEADER, rows))


def _seconds(found):
    return f"{found['seconds']:.0f} ({found['cpu_seconds']:.0f})"


PARTS = {
    part.__name__: part
    for part in (bandits, predictors, thompson, optimal, ablation)
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--parts", nargs="+", default=list(PARTS), choices=list(PARTS)
    )
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for part in arguments.parts:
        print(f"\n{part}", flush=True)
        PARTS[part](arguments)


if __name__ == "__main__":
    main()
