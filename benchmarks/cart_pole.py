"""CartPole-v1 by `ActorCriticAgent`: five seeds, 100 greedy episodes each.

python -m benchmarks.cart_pole
"""

import argparse
import time

import keras
import numpy as np

from benchmarks.results import cell
from benchmarks.results import result
from benchmarks.results import table
from keras_sparse_rl import agents
from keras_sparse_rl.environments import GymnasiumEnvironment

NAME = "cart_pole"
STEPS = 1500


def run(seed):
    """Mean return of 100 episodes after training, and the seconds it took."""
    start = time.perf_counter()
    keras.utils.set_random_seed(seed)
    environment = GymnasiumEnvironment("CartPole-v1", 32, seed)
    torso = keras.Sequential(
        [
            keras.layers.Dense(64, activation="tanh"),
            keras.layers.Dense(64, activation="tanh"),
        ]
    )
    rate = keras.optimizers.schedules.PolynomialDecay(5e-3, STEPS, 0.0)
    agent = agents.ActorCriticAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        agents.actor_critic_model(
            environment.observation_spec(),
            environment.action_spec(),
            torso=torso,
        ),
        keras.optimizers.Adam(rate, global_clipnorm=0.5),
        trace_decay=0.95,
        seed=seed,
    )
    agents.train(
        agent,
        environment,
        epochs=10,
        steps_per_epoch=STEPS // 10,
        segment_length=16,
        jit_compile=True,
        verbose=2,
        seed=seed,
    )
    seconds = time.perf_counter() - start
    found = agents.evaluate(
        agent.policy,
        GymnasiumEnvironment("CartPole-v1", 50, 1000 + seed),
        episodes=100,
    )
    return {"returns": found.returns.tolist(), "seconds": seconds}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    runs = [
        result(NAME, f"seed{seed}", lambda s=seed: run(s))
        for seed in range(arguments.seeds)
    ]
    means = [np.mean(run["returns"]) for run in runs]
    rows = [
        [str(seed), f"{mean:.1f}", f"{run['seconds']:.0f}"]
        for seed, (mean, run) in enumerate(zip(means, runs))
    ]
    rows.append(["all", cell(means), cell([run["seconds"] for run in runs])])
    print(table(["seed", "mean return of 100 episodes", "seconds"], rows))


if __name__ == "__main__":
    main()
