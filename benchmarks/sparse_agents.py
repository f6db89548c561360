"""Actor and critic, always sparse: CartPole by an `ActorCriticAgent`.

    python -m benchmarks.sparse_agents [--seeds 10]

Two layers of 128 units that policy and value share: dense, and by
`callbacks.TopKAST` with 10 and 5 % of their weights, beside heads that stay
dense (densities by Erdos-Renyi-Kernel, or the first layer would leave most
units without an input; twice as many trained, refresh every 100 train steps).
768,000 environment steps, then 100 greedy episodes of at most 500 steps, which
are those of Gymnasium's CartPole-v1 made of TensorFlow.
"""

import argparse
import time

import keras
import matplotlib
import numpy as np

from benchmarks.results import FOLDER
from benchmarks.results import cell
from benchmarks.results import result
from benchmarks.results import table
from keras_sparse_rl import agents
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.environments import CartPole
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import sparsify
from keras_sparse_rl.sparsity import sparsity_summary

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NAME = "sparse_agents"
DENSITIES = (1.0, 0.1, 0.05)
STEPS, EPOCHS = 1500, 15


def run(density, seed):
    """Returns of 100 episodes, curve of training, weights in use."""
    start = time.perf_counter()
    keras.utils.set_random_seed(seed)
    environment = CartPole(batch_size=32, seed=seed)
    torso = keras.Sequential(
        [keras.layers.Dense(128, "tanh"), keras.layers.Dense(128, "tanh")]
    )
    model = agents.actor_critic_model(
        environment.observation_spec(), environment.action_spec(), torso=torso
    )
    sparsify(model, verbose=0)
    rate = keras.optimizers.schedules.PolynomialDecay(5e-3, STEPS, 0.0)
    agent = agents.ActorCriticAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        model,
        Powerprop(keras.optimizers.Adam(rate, global_clipnorm=0.5)),
        trace_decay=0.95,
        seed=seed,
    )
    history = agents.train(
        agent,
        environment,
        epochs=EPOCHS,
        steps_per_epoch=STEPS // EPOCHS,
        segment_length=16,
        callbacks=[TopKAST(density, 2 * density, densities="erk")]
        if density < 1
        else [],
        jit_compile=True,
        verbose=0,
        seed=seed,
    ).history
    found = agents.evaluate(
        agent.policy, CartPole(batch_size=50, seed=1000 + seed), episodes=100
    )
    total = sparsity_summary(model, print_fn=None)["total"]
    print(
        f"{density:.0%} seed {seed}: {found.mean:.1f}, "
        f"{time.perf_counter() - start:.0f} s",
        flush=True,
    )
    return {
        "returns": found.returns.tolist(),
        "curve": [float(x) for x in history["return"]],
        "density": total["density_of_sparse_kernels"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    seeds = parser.parse_args().seeds
    found = {
        density: [
            result(
                NAME,
                f"density{density}-seed{seed}",
                lambda d=density, s=seed: run(d, s),
            )
            for seed in range(seeds)
        ]
        for density in DENSITIES
    }
    dense = np.array([np.mean(r["returns"]) for r in found[1.0]])
    figure, axis = plt.subplots(figsize=(5, 3.5))
    steps = 32 * 16 * STEPS // EPOCHS * np.arange(1, EPOCHS + 1)
    rows = []
    for density, runs in found.items():
        means = np.array([np.mean(r["returns"]) for r in runs])
        rows.append(
            [f"{np.mean([r['density'] for r in runs]):.1%}", cell(means, 1)]
            + [f"{means.min():.1f}", cell(100 * means / dense, 1)]
        )
        curves = np.array([r["curve"] for r in runs])
        (line,) = axis.plot(steps, curves.mean(0), label=f"{density:.0%}")
        axis.fill_between(
            steps,
            curves.min(0),
            curves.max(0),
            alpha=0.2,
            color=line.get_color(),
        )
    axis.set(xlabel="environment steps", ylabel="return (band: all seeds)")
    axis.legend(title="weights in use")
    figure.tight_layout()
    figure.savefig(FOLDER / NAME / "sparse_agents.png", dpi=100)
    print(f"\nCartPole, mean return of 100 episodes, {seeds} seeds\n")
    header = ["weights in use", "return", "worst seed", "% of dense"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
