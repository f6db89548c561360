"""TF-Agents' own agents with Keras 3 networks, on Gymnasium's CartPole.

    python examples/tf_agents_cart_pole.py [--agents ppo reinforce dqn]

Trains PPO, REINFORCE and DQN of TF-Agents, whose networks are ordinary Keras
models in a `KerasNetwork`; prints the mean return of 50 greedy episodes and
saves a plot of the returns on the way.
"""

import argparse
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib
import tensorflow as tf
from tf_agents.agents import DqnAgent
from tf_agents.agents import PPOClipAgent
from tf_agents.agents import ReinforceAgent
from tf_agents.drivers.dynamic_episode_driver import DynamicEpisodeDriver
from tf_agents.drivers.dynamic_step_driver import DynamicStepDriver
from tf_agents.environments.tf_py_environment import TFPyEnvironment
from tf_agents.replay_buffers.tf_uniform_replay_buffer import (
    TFUniformReplayBuffer,
)

from keras_sparse_rl.agents import KerasNetwork
from keras_sparse_rl.agents import evaluate
from keras_sparse_rl.environments import GymnasiumEnvironment

matplotlib.use("Agg")
import matplotlib.pyplot as plt

POINTS = 10  # of the curve


def cart_pole(copies, seed):
    return TFPyEnvironment(GymnasiumEnvironment("CartPole-v1", copies, seed))


def network(outputs, environment, distributions=False):
    """A Keras model as TF-Agents takes it."""
    dense = keras.layers.Dense
    model = keras.Sequential(
        [keras.Input((4,)), dense(64, "tanh"), dense(64, "tanh")]
        + [dense(outputs)]
    )
    return KerasNetwork(
        model,
        environment.observation_spec(),
        environment.action_spec() if distributions else None,
    )


def specs(environment):
    return environment.time_step_spec(), environment.action_spec()


def buffer(agent, environment, length):
    return TFUniformReplayBuffer(
        agent.collect_data_spec, environment.batch_size, max_length=length
    )


def ppo(seed, updates):
    """Segments of 128 steps of 8 copies, each learned from ten times."""
    environment = cart_pole(8, seed)
    agent = PPOClipAgent(
        *specs(environment),
        optimizer=tf.keras.optimizers.Adam(3e-4),
        actor_net=network(2, environment, distributions=True),
        value_net=network(1, environment),
        num_epochs=10,
        entropy_regularization=0.01,
        normalize_observations=False,
        normalize_rewards=False,
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
    agent.initialize()
    memory = buffer(agent, environment, 128)
    driver = DynamicStepDriver(
        environment,
        agent.collect_policy,
        observers=[memory.add_batch],
        num_steps=8 * 128,
    )
    return agent, _all_of(agent, memory, driver), updates or 40


def reinforce(seed, updates):
    """Five whole episodes, learned from once."""
    environment = cart_pole(1, seed)
    agent = ReinforceAgent(
        *specs(environment),
        actor_network=network(2, environment, distributions=True),
        optimizer=tf.keras.optimizers.Adam(3e-3),
        normalize_returns=True,
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
    agent.initialize()
    memory = buffer(agent, environment, 5 * 501)
    driver = DynamicEpisodeDriver(
        environment,
        agent.collect_policy,
        observers=[memory.add_batch],
        num_episodes=5,
    )
    return agent, _all_of(agent, memory, driver), updates or 60


def dqn(seed, updates):
    """Replay: 8 new steps, then 64 old ones learned from."""
    environment = cart_pole(8, seed)
    agent = DqnAgent(
        *specs(environment),
        q_network=network(2, environment),
        optimizer=tf.keras.optimizers.Adam(1e-3),
        epsilon_greedy=0.1,
        target_update_period=200,
        td_errors_loss_fn=tf.keras.losses.Huber(reduction="none"),
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
    agent.initialize()
    memory = buffer(agent, environment, 5_000)
    driver = DynamicStepDriver(
        environment,
        agent.collect_policy,
        observers=[memory.add_batch],
        num_steps=8,
    )
    driver.run = tf.function(driver.run, autograph=False)
    for _ in range(50):
        driver.run()
    samples = iter(
        memory.as_dataset(sample_batch_size=64, num_steps=2).prefetch(2)
    )
    learn = tf.function(agent.train, autograph=False)

    def update():
        driver.run()
        learn(next(samples)[0])

    return agent, update, updates or 10_000


def _all_of(agent, memory, driver):
    """An update: collect, learn from all of it, forget."""
    run, learn = (
        tf.function(function, autograph=False)
        for function in (driver.run, agent.train)
    )

    def update():
        run()
        learn(memory.gather_all())
        memory.clear()

    return update


def train(name, updates, seed):
    """Returns of greedy episodes: a point in ten on the way, 50 at the end."""
    keras.utils.set_random_seed(seed)
    agent, update, updates = AGENTS[name](seed, updates)
    start, curve = time.perf_counter(), []
    for point in range(POINTS):
        for _ in range(updates // POINTS or 1):
            update()
        curve.append(evaluate(agent.policy, cart_pole(10, 100), 10).mean)
        print(f"{name} {10 * (point + 1)} %: {curve[-1]:.0f}", flush=True)
    seconds = time.perf_counter() - start
    found = evaluate(agent.policy, cart_pole(50, 200 + seed), 50)
    print(
        f"{name}: mean return of 50 episodes {found.mean:.0f} "
        f"({found.low:.0f} to {found.high:.0f}), {seconds:.0f} s"
    )
    return curve, seconds


AGENTS = {"ppo": ppo, "reinforce": reinforce, "dqn": dqn}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--agents", nargs="+", default=list(AGENTS), choices=list(AGENTS)
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--updates", type=int, help="instead of enough")
    parser.add_argument("--output", default="runs/tf_agents_cart_pole")
    arguments = parser.parse_args()
    figure, axis = plt.subplots(figsize=(6, 4))
    for name in arguments.agents:
        curve, seconds = train(name, arguments.updates, arguments.seed)
        axis.plot(range(10, 101, 10), curve, label=f"{name}, {seconds:.0f} s")
    axis.set(
        title="CartPole-v1, TF-Agents' agents on Keras 3 networks",
        xlabel="% of training",
        ylabel="return of greedy episodes",
    )
    axis.legend()
    figure.tight_layout()
    folder = pathlib.Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "cart_pole.png"
    figure.savefig(path, dpi=100)
    print(f"plot: {path}")


if __name__ == "__main__":
    main()
