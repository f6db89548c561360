"""A MuJoCo walker beside a default policy that sees its body alone.

    python examples/mujoco_walker.py [--environment Ant-v5] [--updates 200]

Needs MuJoCo: `pip install "gymnasium[mujoco]"`. The walker shall go to a
target that is drawn anew each episode; its policy sees body and target, its
default policy the body alone, so that the default can only learn how one
walks. Prints the mean return of each tenth of the training. A walker takes
millions of steps: a few hundred updates show that it runs, not that it walks.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import gymnasium
import keras
import numpy as np

from keras_sparse_rl import agents
from keras_sparse_rl.environments import GymnasiumEnvironment


class ToTarget(gymnasium.Wrapper):
    """Pays for coming closer to a target; observations are a dict."""

    def __init__(self, environment, distance=5.0):
        super().__init__(environment)
        self.distance = distance
        body = environment.observation_space
        self.observation_space = gymnasium.spaces.Dict(
            {
                "body": gymnasium.spaces.Box(-np.inf, np.inf, body.shape),
                "target": gymnasium.spaces.Box(-np.inf, np.inf, (2,)),
            }
        )

    def reset(self, *, seed=None, options=None):
        body, info = self.env.reset(seed=seed, options=options)
        angle = self.env.unwrapped.np_random.uniform(0, 2 * np.pi)
        self.target = self.place() + self.distance * np.array(
            [np.cos(angle), np.sin(angle)]
        )
        return self.seen(body), info

    def step(self, action):
        before = np.linalg.norm(self.target - self.place())
        body, _, terminated, truncated, info = self.env.step(action)
        after = np.linalg.norm(self.target - self.place())
        reward = before - after + float(after < 0.5)
        reached = bool(after < 0.5)
        return self.seen(body), reward, terminated or reached, truncated, info

    def place(self):
        return self.env.unwrapped.data.qpos[:2].copy()

    def seen(self, body):
        return {
            "body": np.clip(body, -10, 10).astype(np.float32),
            "target": (self.target - self.place()).astype(np.float32),
        }


def make(name):
    """The walker, or what to install."""
    try:
        return ToTarget(gymnasium.make(name))
    except (ImportError, gymnasium.error.DependencyNotInstalled) as error:
        raise SystemExit(
            f"{name} needs MuJoCo: {error}. Install it by "
            'pip install "gymnasium[mujoco]".'
        ) from error


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--environment", default="Ant-v5")
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--alpha", type=float, default=0.01)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    keras.utils.set_random_seed(arguments.seed)
    make(arguments.environment).close()
    environment = GymnasiumEnvironment(
        lambda: make(arguments.environment), arguments.copies, arguments.seed
    )
    observation = environment.observation_spec()
    action = environment.action_spec()
    agent = agents.KLRegularizedAgent(
        environment.time_step_spec(),
        action,
        agents.actor_critic_model(observation, action),
        keras.optimizers.Adam(1e-3, global_clipnorm=1.0),
        agents.default_policy_model({"body": observation["body"]}, action),
        keras.optimizers.Adam(1e-3),
        alpha=arguments.alpha,
        entropy_coefficient=1e-3,
        seed=arguments.seed,
    )
    history = agents.train(
        agent,
        environment,
        epochs=10,
        steps_per_epoch=max(arguments.updates // 10, 1),
        segment_length=32,
        verbose=0,
    ).history
    for tenth, (found, divergence) in enumerate(
        zip(history["return"], history["default"])
    ):
        print(
            f"{10 * (tenth + 1)} %: return {found:.2f}, divergence from the "
            f"default {divergence:.3f} nats"
        )


if __name__ == "__main__":
    main()
