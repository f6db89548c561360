"""A default policy that knows less, learned in four rooms and taken along.

    python examples/default_policy.py [--sees walls position nothing]
        [--size 9] [--epochs 20] [--seed 0]

For each kind of default policy: an agent learns to go to known targets and its
default policy to do alike without seeing them; then a new agent learns to go
to held-out targets near that default, frozen. "uniform" is the same with the
uniform policy. Prints returns and saves a plot of the second part.
"""

import argparse
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib
import numpy as np

from keras_sparse_rl import agents
from keras_sparse_rl.environments import GoToTarget

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SEES = {
    "uniform": None,
    "nothing": [],
    "walls": ["previous_action", "walls"],
    "position": ["position", "previous_action"],
}
COPIES, SEGMENT, STEPS = 32, 16, 25


def rooms(arguments, held_out):
    return GoToTarget(
        arguments.size,
        time_limit=100,
        held_out=held_out,
        batch_size=COPIES,
        seed=arguments.seed + 1000 * held_out,
    )


def agent_for(environment, arguments, default=None, default_optimizer=None):
    observation = environment.observation_spec()
    return agents.KLRegularizedAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        agents.actor_critic_model(
            {key: observation[key] for key in ("position", "target")},
            environment.action_spec(),
        ),
        keras.optimizers.Adam(3e-3, global_clipnorm=1.0),
        default,
        default_optimizer,
        freeze_default=default is not None and default_optimizer is None,
        alpha=arguments.alpha,
        discount=0.97,
        entropy_coefficient=0.0,
        trace_decay=0.95,
        seed=arguments.seed,
    )


def trained(agent, environment, arguments):
    """Mean returns, one an epoch."""
    return agents.train(
        agent,
        environment,
        epochs=arguments.epochs,
        steps_per_epoch=STEPS,
        segment_length=SEGMENT,
        jit_compile=arguments.epochs > 5,
        verbose=0,
        seed=arguments.seed,
    ).history


def transferred(name, arguments):
    """Returns on held-out targets near a default that saw this."""
    keras.utils.set_random_seed(arguments.seed)
    keys, default = SEES[name], None
    if keys is not None:
        known = rooms(arguments, False)
        observation = known.observation_spec()
        default = agents.default_policy_model(
            {key: observation[key] for key in keys}, known.action_spec()
        )
        agent = agent_for(
            known, arguments, default, keras.optimizers.Adam(3e-3)
        )
        history = trained(agent, known, arguments)
        alone = agents.evaluate(agent.default_policy, rooms(arguments, True))
        print(
            f"{name}: known targets {history['return'][-1]:.2f}, divergence "
            f"{history['default'][-1]:.3f}; the default alone "
            f"on held-out targets {alone.mean:.2f}",
            flush=True,
        )
    new = rooms(arguments, True)
    returns = trained(agent_for(new, arguments, default), new, arguments)
    mean = np.nanmean(returns["return"])
    print(
        f"{name}: held-out targets {mean:.2f} over training, "
        f"{returns['return'][-1]:.2f} at the end",
        flush=True,
    )
    return returns["return"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--sees", nargs="+", default=list(SEES), choices=list(SEES)
    )
    parser.add_argument("--size", type=int, default=9)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--alpha", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="runs/default_policy")
    arguments = parser.parse_args()
    figure, axis = plt.subplots(figsize=(6, 4))
    for name in arguments.sees:
        curve = transferred(name, arguments)
        steps = COPIES * SEGMENT * STEPS * np.arange(1, len(curve) + 1)
        axis.plot(steps, curve, label=name)
    axis.set(
        title="Held-out targets near a frozen default policy",
        xlabel="environment steps",
        ylabel="mean return",
    )
    axis.legend(title="the default sees")
    figure.tight_layout()
    folder = pathlib.Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "default_policy.png"
    figure.savefig(path, dpi=100)
    print(f"plot: {path}")


if __name__ == "__main__":
    main()
