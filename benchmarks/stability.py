"""Which memories learn whatever the settings: GTrXL's claim of stability.

    python -m benchmarks.stability [--memories gru lstm ...] [--tasks t_maze]

As in section 4.3 of "Stabilizing Transformers for Reinforcement Learning" by
Parisotto et al. 2019: each memory is trained with the same 12 settings drawn
at random (learning rate, entropy coefficient, weights at the start), here on
a T-maze (memory) and on CartPole with and without velocities (reactive). The
transformers have 2 layers, where the paper's have 12. Prints the share of
settings that learned, and plots the return by setting, sorted.
"""

import argparse
import time

import keras
import matplotlib
import numpy as np
import tensorflow as tf

from benchmarks.results import FOLDER
from benchmarks.results import result
from benchmarks.results import table
from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.agents.in_graph_collector import InGraphCollector
from keras_sparse_rl.layers import GTrXL

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NAME = "stability"
NUM_SETTINGS, COPIES, SLOTS = 12, 32, 8
TASKS = {  # environment, segment, train steps, discount, learned from
    "t_maze": (
        lambda: environments.TMaze(length=5, batch_size=COPIES),
        32,
        300,
        0.99,
        0.5,
    ),
    "cart_pole": (
        lambda: environments.CartPole(batch_size=COPIES),
        16,
        600,
        0.95,
        200,
    ),
    "cart_pole_hidden": (
        lambda: environments.CartPole(velocities=False, batch_size=COPIES),
        16,
        600,
        0.95,
        200,
    ),
}
MEMORIES = {
    "lstm": lambda: keras.layers.LSTM(64),
    "trxl": lambda: _transformer(gating=None, ordering="post"),
    "trxl_i": lambda: _transformer(gating=None),
    "gru": lambda: _transformer(gating="gru"),
    "gru_bias_0": lambda: _transformer(gating="gru", gate_bias=0.0),
    "output": lambda: _transformer(gating="output"),
    "highway": lambda: _transformer(gating="highway"),
    "sigmoid_tanh": lambda: _transformer(gating="sigmoid_tanh"),
    "input": lambda: _transformer(gating="input"),
}


def _transformer(**arguments):
    return GTrXL(2, 2, 32, 64, SLOTS, return_state=True, **arguments)


def settings():
    """Learning rate and entropy coefficient of each setting."""
    generator = np.random.default_rng(0)
    rates = 10 ** generator.uniform(-4, -2, NUM_SETTINGS)
    return list(zip(rates, 10 ** generator.uniform(-3, -1.5, NUM_SETTINGS)))


class Entropy(agents.LossTerm):
    """The entropy bonus with a coefficient that is a variable."""

    def __init__(self):
        self.rate = tf.Variable(0.0, trainable=False)
        super().__init__(lambda step: self.rate, "entropy_bonus")

    def loss(self, segment):
        return -agents.action_entropy(segment.distribution)


class Trainer:
    """Compiled once for a task and memory, started anew for each setting."""

    def __init__(self, task, memory):
        make, segment, self._steps, discount, _ = TASKS[task]
        environment = make()
        self._new_model = lambda: agents.actor_critic_model(
            environment.observation_spec(),
            environment.action_spec(),
            torso=keras.Sequential(
                # CartPole's angles are small numbers.
                [
                    keras.layers.Rescaling(1.0 if task == "t_maze" else 5.0),
                    keras.layers.Dense(64, "relu"),
                ]
            ),
            core=MEMORIES[memory](),
            policy_head_stddev=0.01,
        )
        self._model = self._new_model()
        self._optimizer = keras.optimizers.Adam(1e-3, global_clipnorm=1.0)
        self._entropy = Entropy()
        agent = agents.ActorCriticAgent(
            environment.time_step_spec(),
            environment.action_spec(),
            self._model,
            self._optimizer,
            loss_terms=[self._entropy],
            discount=discount,
            trace_decay=0.95,
            entropy_coefficient=0.0,
        )
        collector = InGraphCollector(
            agent.collect_policy, environment, segment, 0, jit_compile=True
        )
        # Those of the collector's policy are drawn anew for each setting.
        weights = {id(v.value) for v in self._model.variables}
        self._state = [
            *tf.nest.flatten(environment.carry),
            *(v for v in collector.variables if id(v) not in weights),
            agent.train_step_counter,
        ]
        self._start = [v.numpy() for v in self._state]

        def learn(experience, figures):
            agent.train(experience)
            return figures["episodes"], figures["return_sum"]

        self._step = collector.with_learning(learn)

    def run(self, number):
        """Mean returns of the episodes in each tenth of the training."""
        rate, entropy = settings()[number]
        keras.utils.set_random_seed(number)
        self._model.set_weights(self._new_model().get_weights())
        for variable in self._optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
        for variable, start in zip(self._state, self._start):
            variable.assign(start)
        self._optimizer.learning_rate = rate
        self._entropy.rate.assign(entropy)
        figures = np.array([np.stack(self._step()) for _ in range(self._steps)])
        figures = figures.reshape(10, -1, 2).sum(1)
        return (figures[:, 1] / np.maximum(figures[:, 0], 1)).tolist()


def compute(task, memory):
    start = time.perf_counter()
    trainer = Trainer(task, memory)
    curves = []
    for number in range(NUM_SETTINGS):
        curves.append(trainer.run(number))
        print(f"{task} {memory} {number}: {curves[-1][-1]:.2f}", flush=True)
    return {"curves": curves, "seconds": time.perf_counter() - start}


def plot(found, path):
    """A panel a task, a line a memory: final return by setting, sorted."""
    size = 4 * len(found), 4
    figure, axes = plt.subplots(1, len(found), figsize=size, squeeze=False)
    for axis, (task, by_memory) in zip(axes[0], found.items()):
        for memory, last in by_memory.items():
            style = "-" if memory in ("lstm", "gru") else "--"
            axis.plot(
                np.arange(1, 13), np.sort(last)[::-1], style, label=memory
            )
        axis.set(title=task, xlabel="settings, best first", ylabel="return")
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--memories", nargs="+", default=list(MEMORIES), choices=list(MEMORIES)
    )
    parser.add_argument(
        "--tasks", nargs="+", default=list(TASKS), choices=list(TASKS)
    )
    arguments = parser.parse_args()
    found, rows = {task: {} for task in arguments.tasks}, []
    for memory in arguments.memories:
        row = [memory]
        for task in arguments.tasks:
            enough = TASKS[task][-1]
            run = result(
                NAME,
                f"{task}-{memory}",
                lambda t=task, m=memory: compute(t, m),
            )
            last = np.array(run["curves"])[:, -1]
            found[task][memory] = last
            row.append(f"{np.sum(last >= enough)} of 12, median ")
            row[-1] += f"{np.median(last):.2f}"
        rows.append(row)
    plot(found, FOLDER / NAME / "stability.png")
    print(table(["memory", *arguments.tasks], rows))


if __name__ == "__main__":
    main()
