r"""TF-Agents' own DQN, PPO and SAC, dense and 90 % sparse from the first step.

Every network of an agent is a Keras model of two hidden layers made sparse by
`sparsify(model, alpha=1.5)`, its optimizer `Powerprop(Adam)`, and a `TopKAST`
for each network chooses 10 % of the weights of the hidden layers. DQN and PPO
learn Gymnasium's CartPole-v1 (500 is the most), SAC Pendulum-v1. The return is
the mean of 50 greedy episodes at the end. Weights outside B are compared bit
for bit over the last update.

    python -m benchmarks.tf_agents_sparse [dqn ppo sac] [--seeds 3]
"""

import argparse
import functools

import keras
import numpy as np
import tensorflow as tf
from tf_agents.agents import DqnAgent
from tf_agents.agents import PPOClipAgent
from tf_agents.agents import SacAgent
from tf_agents.drivers.dynamic_step_driver import DynamicStepDriver
from tf_agents.environments.tf_py_environment import TFPyEnvironment
from tf_agents.replay_buffers.tf_uniform_replay_buffer import (
    TFUniformReplayBuffer,
)

from benchmarks.results import cell
from benchmarks.results import result
from benchmarks.results import table
from keras_sparse_rl.agents import KerasNetwork
from keras_sparse_rl.agents import evaluate
from keras_sparse_rl.callbacks import TopKAST
from keras_sparse_rl.environments import GymnasiumEnvironment
from keras_sparse_rl.optimizers import Powerprop
from keras_sparse_rl.sparsity import sparsify

ALPHA, DENSITY = 1.5, 0.1
TASKS = {"dqn": "CartPole-v1", "ppo": "CartPole-v1", "sac": "Pendulum-v1"}
UPDATES = {"dqn": 12_000, "ppo": 60, "sac": 12_000}


def environment_of(name, copies, seed):
    return TFPyEnvironment(GymnasiumEnvironment(TASKS[name], copies, seed))


class Networks:
    """The networks of an agent, sparse or dense, and what trains them."""

    def __init__(self, is_sparse, refresh_every):
        self.is_sparse = is_sparse
        self.refresh_every = refresh_every
        self.models = []

    def new(self, outputs, specs, action_spec=None, width=128):
        """A network of two hidden layers over a spec, or two specs."""
        specs = keras.tree.flatten(specs)
        inputs = [keras.Input(tuple(spec.shape)) for spec in specs]
        x = inputs[0]
        if len(inputs) > 1:
            x = keras.layers.Concatenate()(inputs)
        for _ in range(2):
            x = keras.layers.Dense(width, "relu")(x)
        y = keras.layers.Dense(outputs)(x)
        model = keras.Model(inputs if len(inputs) > 1 else inputs[0], y)
        if self.is_sparse:
            sparsify(model, ALPHA, verbose=0)
        self.models.append(model)
        given = tuple(specs) if len(specs) > 1 else specs[0]
        return KerasNetwork(model, given, action_spec)

    def optimizer(self, rate, models):
        """An optimizer of these models, known to their callbacks."""
        optimizer = keras.optimizers.Adam(rate)
        if self.is_sparse:
            optimizer = Powerprop(optimizer)
        for model in models:
            model.optimizer = optimizer
        return optimizer

    def start(self):
        if not self.is_sparse:
            return []
        callbacks = []
        for model in self.models:
            callback = TopKAST(DENSITY, refresh_every=self.refresh_every)
            callback.start(model)
            callbacks.append(callback)
        return callbacks


def dqn(networks, environment, seed):
    network = networks.new(2, environment.observation_spec())
    agent = DqnAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        q_network=network,
        optimizer=networks.optimizer(1e-3, networks.models),
        epsilon_greedy=0.1,
        target_update_period=200,
        td_errors_loss_fn=tf.keras.losses.Huber(reduction="none"),
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
    agent.initialize()
    return agent, replayed(agent, environment, 8, 5_000, 64)


def ppo(networks, environment, seed):
    actor = networks.new(
        2, environment.observation_spec(), environment.action_spec()
    )
    value = networks.new(1, environment.observation_spec())
    agent = PPOClipAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        optimizer=networks.optimizer(1e-3, networks.models),
        actor_net=actor,
        value_net=value,
        num_epochs=10,
        entropy_regularization=0.01,
        normalize_observations=False,
        normalize_rewards=False,
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
    agent.initialize()
    memory = TFUniformReplayBuffer(
        agent.collect_data_spec, environment.batch_size, max_length=128
    )
    driver = DynamicStepDriver(
        environment,
        agent.collect_policy,
        observers=[memory.add_batch],
        num_steps=128 * environment.batch_size,
    )
    run = tf.function(driver.run, autograph=False)
    learn = tf.function(agent.train, autograph=False)

    def update():
        run()
        learn(memory.gather_all())
        memory.clear()

    return agent, update


def sac(networks, environment, seed):
    seen, action = environment.observation_spec(), environment.action_spec()
    actor = networks.new(2, seen, action)
    critics = [networks.new(1, (seen, action)) for _ in range(2)]
    models = networks.models
    agent = SacAgent(
        environment.time_step_spec(),
        action,
        critic_network=critics[0],
        critic_network_2=critics[1],
        actor_network=actor,
        actor_optimizer=networks.optimizer(1e-3, models[:1]),
        critic_optimizer=networks.optimizer(1e-3, models[1:]),
        alpha_optimizer=tf.keras.optimizers.Adam(1e-3),
        target_update_tau=0.005,
        gamma=0.99,
        td_errors_loss_fn=tf.math.squared_difference,
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
    agent.initialize()
    return agent, replayed(agent, environment, 1, 50_000, 128)


def replayed(agent, environment, steps, length, batch):
    """An update: new steps into a memory, then old ones learned from."""
    memory = TFUniformReplayBuffer(
        agent.collect_data_spec, environment.batch_size, max_length=length
    )
    driver = DynamicStepDriver(
        environment,
        agent.collect_policy,
        observers=[memory.add_batch],
        num_steps=steps,
    )
    run = tf.function(driver.run, autograph=False)
    for _ in range(400 // steps):
        run()
    samples = iter(
        memory.as_dataset(sample_batch_size=batch, num_steps=2).prefetch(2)
    )
    learn = tf.function(agent.train, autograph=False)

    def update():
        run()
        learn(next(samples)[0])

    return update


def run(name, is_sparse, seed):
    """Mean return of 50 greedy episodes; the densities; what moved."""
    keras.utils.set_random_seed(seed)
    copies = 1 if name == "sac" else 8
    environment = environment_of(name, copies, seed)
    networks = Networks(is_sparse, refresh_every=100)
    make = {"dqn": dqn, "ppo": ppo, "sac": sac}[name]
    agent, update = make(networks, environment, seed)
    callbacks, updates = networks.start(), UPDATES[name]
    moved = 0
    for number in range(updates):
        kept = _resting(callbacks) if number == updates - 1 else []
        update()
        moved += sum((new != old).sum() for new, old in _pairs(kept))
        for callback in callbacks:
            callback.update()
        if (number + 1) % (updates // 10 or 1) == 0:
            found = evaluate(agent.policy, environment_of(name, 10, 100), 10)
            print(f"{name} {number + 1}: {found.mean:.0f}", flush=True)
    for callback in callbacks:
        callback.finish()
    found = evaluate(agent.policy, environment_of(name, 50, 200 + seed), 50)
    densities = [
        float(kernel.forward_mask().mean())
        for callback in callbacks
        for kernel in callback.kernels.values()
    ]
    return {
        "return": float(found.mean),
        "moved": int(moved),
        "densities": densities,
    }


def _resting(callbacks):
    kernels = [k for c in callbacks for k in c.kernels.values()]
    return [(k, ~k.backward_mask(), np.array(k.theta)) for k in kernels]


def _pairs(kept):
    return [(np.array(k.theta)[rest], old[rest]) for k, rest, old in kept]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=str(list(TASKS))
    )
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    rows = []
    for name in arguments.names or TASKS:
        for is_sparse in (True, False):
            kind = "sparse" if is_sparse else "dense"
            found = [
                result(
                    "tf_agents_sparse",
                    f"{name}_{kind}_{seed}",
                    functools.partial(run, name, is_sparse, seed),
                )
                for seed in range(arguments.seeds)
            ]
            returns = [f["return"] for f in found]
            seeds = ", ".join(f"{r:.0f}" for r in returns)
            moved = sum(f["moved"] for f in found) if is_sparse else ""
            rows.append([name, kind, cell(returns, 0), seeds, moved])
    header = ["agent", "", "return", "by seed", "resting weights moved"]
    print(table(header, rows))


if __name__ == "__main__":
    main()
