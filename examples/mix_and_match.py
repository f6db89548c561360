"""A curriculum from 9 to 756 actions: Mix&Match beside direct training.

    python examples/mix_and_match.py [--iterations 200] [--output runs/...]

`LargeActionGrid` has 756 actions, of which 9 suffice and few others are
better. Trained directly, a policy over all of them is lost at first. With
Mix&Match a policy over the nine acts first, the large one follows it and takes
over. Prints the returns of the large policy alone, and saves a plot.
"""

import argparse
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Runs as a script, and is imported by its benchmark.
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import keras
import matplotlib
import matplotlib.pyplot as plt

from keras_sparse_rl import agents
from keras_sparse_rl.environments import LargeActionGrid

MODES = ("direct", "mix_and_match")
LENGTH, RATE, EPSILON = 100.0, 0.3, 1e-3


def make_agent(environment, alphas, epsilon=EPSILON, **arguments):
    """A Mix&Match agent whose policies and values are tables.

    Observations are long one-hot vectors, beside which the heads' biases
    hardly learn: no cell profits from another. Adam has a large epsilon, as is
    usual for RMSProp in IMPALA: what is rarely tried moves slowly.

    Args:
        environment: `LargeActionGrid`.
        alphas: see `agents.MixAndMatchAgent`.
        epsilon: float, Adam's, for gradients of single logits.
        **arguments: of `agents.MixAndMatchAgent`.
    """
    cells = int(environment.observation_spec().maximum) + 1
    simple = [agents.SimplePolicy("simple", actions=environment.core_actions)]
    model = agents.mix_and_match_model(
        environment.observation_spec(),
        environment.action_spec(),
        simple,
        torso=keras.layers.Embedding(
            cells,
            cells,
            keras.initializers.Identity(gain=LENGTH),
            trainable=False,
        ),
    )
    for variable in model.trainable_variables:
        variable.assign(keras.ops.zeros_like(variable))
    return agents.MixAndMatchAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        model,
        keras.optimizers.Adam(RATE / LENGTH, epsilon=epsilon * LENGTH),
        simple,
        alphas,
        trace_decay=0.95,
        **{"entropy_coefficient": 0.003, **arguments},
    )


def run(mode, iterations, every=20, seed=0):
    """Trains one agent.

    Args:
        mode: str, one of `MODES`.
        iterations: int, of 256 steps.
        every: int, iterations between evaluations.
        seed: int.

    Returns:
        Dict of lists with an entry an evaluation: `returns`, of the policy
        over all actions, and `alphas`, its share in acting.
    """
    keras.utils.set_random_seed(seed)
    alphas = [0.0, 1.0]
    if mode == "mix_and_match":
        alphas = agents.MixtureSchedule(2, iterations // 4, 3 * iterations // 4)
    environment = LargeActionGrid(batch_size=16, seed=seed)
    history = agents.train(
        make_agent(environment, alphas),
        environment,
        epochs=-(-iterations // every),
        steps_per_epoch=every,
        segment_length=16,
        evaluation_environment=LargeActionGrid(batch_size=64, seed=seed + 1),
        evaluation_episodes=64,
        verbose=0,
    ).history
    return {"returns": history["evaluation_return"], "alphas": history["alpha"]}


def plot(found, every, path):
    """Return of the large policy by iteration, a line a mode."""
    figure, axis = plt.subplots(figsize=(5, 3.5))
    for mode, curves in found.items():
        returns = curves["returns"]
        steps = [every * (number + 1) for number in range(len(returns))]
        (line,) = axis.plot(steps, returns, label=mode)
        axis.plot(steps, curves["alphas"], ":", color=line.get_color())
    axis.set(
        xlabel="iteration",
        ylabel="return (dotted: its share in acting)",
        title="the policy over 756 actions, alone",
    )
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="runs/mix_and_match")
    arguments = parser.parse_args()
    if arguments.iterations < 8:
        parser.error("--iterations must be at least 8")
    matplotlib.use("Agg")  # not when a notebook imports this
    found = {}
    for mode in MODES:
        found[mode] = run(
            mode, arguments.iterations, arguments.every, arguments.seed
        )
        returns = " ".join(f"{x:.2f}" for x in found[mode]["returns"])
        print(f"{mode}: {returns}", flush=True)
    folder = pathlib.Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    plot(found, arguments.every, folder / "returns.png")
    print(f"plot: {folder / 'returns.png'}")


if __name__ == "__main__":
    main()
