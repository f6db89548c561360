"""A teacher with another goal, and a poor one: gates in reinforcement learning.

    python -m benchmarks.gated_distillation [--parts shift minatar]

Experiments of "Adapting Auxiliary Losses Using Gradient Similarity" by Du et
al. 2018 (https://arxiv.org/abs/1812.02224), at the scale of a processor.

`shift`: an open grid world with one goal. The teacher is a softmax of exact
values for a goal that is shifted along the diagonal, from not at all to the
opposite corner; the student is a table that learns from reward and teacher.
Returns are exact.

`minatar`: MinAtar's Breakout (needs `pip install minatar`), a convolutional
student and a teacher that was trained for a fifth of the student's steps.

Both by an `ActorCriticAgent` with the reward alone, with the teacher's loss
added, and with it weighted by the cosine of the gradients in both ways.
"""

import argparse
import time

import gymnasium
import keras
import matplotlib
import numpy as np
import tensorflow as tf

from benchmarks.grid_worlds import softmax
from benchmarks.grid_worlds import table_model
from benchmarks.results import FOLDER
from benchmarks.results import cell
from benchmarks.results import interval
from benchmarks.results import result
from benchmarks.results import table
from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.agents.in_graph_collector import InGraphCollector
from keras_sparse_rl.gradients import GradientGate

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NAME = "gated_distillation"
METHODS = {  # name: whether there is a teacher, and its gate
    "alone": (False, None),
    "sum": (True, None),
    "weighted": (True, lambda: GradientGate("weighted")),
    "unweighted": (True, lambda: GradientGate("unweighted")),
}
SIZE, COPIES, SEGMENT, UPDATES, EVERY = 11, 32, 16, 400, 10
SHIFTS = (0, 1, 2, 3, 4, 6, 8)
TEMPERATURE, DISCOUNT, ENTROPY = 0.05, 0.95, 0.003


def one_goal(goal):
    """An open world whose only goal is at `(goal, goal)`."""
    world = environments.RandomGridWorld(
        SIZE, walls=0.0, num_goals=1, num_pits=0, batch_size=COPIES
    )
    here = goal * SIZE + goal
    world.cell_reward[:] = np.arange(SIZE**2) == here
    world.is_terminal[:] = np.arange(SIZE**2) == here
    return world


def loss_terms(method, source, specs):
    """What a method learns from a teacher: none, or a term that it gates."""
    has_teacher, gate = METHODS[method]
    if not has_teacher:
        return []
    teacher = agents.Teacher(source, *specs)
    return [
        agents.DistillationTerm(teacher, "on_policy", 0.1, gate=gate and gate())
    ]


class Student:
    """Compiled once for a method, started anew for each shift and seed."""

    def __init__(self, method):
        self._world = world = one_goal(1)
        self._logits = tf.Variable(tf.zeros((SIZE**2, 4)), trainable=False)
        specs = world.time_step_spec(), world.action_spec()
        terms = loss_terms(
            method, lambda seen: tf.gather(self._logits, seen), specs
        )
        self._agent = agents.ActorCriticAgent(
            *specs,
            table_model(world),
            keras.optimizers.Adam(0.02),
            loss_terms=terms,
            discount=DISCOUNT,
            trace_decay=0.95,
            entropy_coefficient=ENTROPY,
        )
        self._collector = InGraphCollector(
            self._agent.collect_policy, world, SEGMENT, 0, jit_compile=True
        )
        self._step = self._collector.with_learning(
            lambda experience, figures: self._agent.train(experience).loss
        )
        model = self._agent.model
        self._variables = [
            *(v.value for v in model.variables + model.optimizer.variables),
            self._agent.train_step_counter,
            *self._collector.own_variables,
            *tf.nest.flatten(world.carry),
        ]
        self._start = [v.numpy() for v in self._variables]

    def run(self, shift, seed):
        """Exact returns, one every `EVERY` updates."""
        for variable, value in zip(self._variables, self._start):
            variable.assign(value)
        self._world.carry["count"].assign(10**6 * seed + 1)
        self._collector.count.assign(10**6 * seed + 1)
        _, moves = environments.grid_world_values(
            one_goal(1 + shift), discount=DISCOUNT
        )
        self._logits.assign(moves[0] / TEMPERATURE)
        returns = []
        for update in range(1, UPDATES + 1):
            self._step()
            if update % EVERY == 0:
                returns.append(self._return())
        return returns

    def _return(self):
        logits = np.array(self._agent.model.get_layer("policy").embeddings)
        policy = softmax(logits.astype(float))[np.newaxis]
        value, _ = environments.grid_world_values(self._world, policy)
        return float(value[0, self._world.start_cell])


def shift_part(seeds):
    """Returns with teachers whose goal is elsewhere."""
    found, students = {}, {}

    def compute(method, shift):
        if method not in students:
            students[method] = Student(method)
        runs = [students[method].run(shift, seed) for seed in range(seeds)]
        last = np.mean([run[-1] for run in runs])
        print(f"{method} shift {shift}: {last:.3f}", flush=True)
        return runs

    for method in METHODS:
        for shift in SHIFTS:
            used = 0 if method == "alone" else shift
            found[method, shift] = np.array(
                result(
                    NAME,
                    f"shift{used}-{method}-seeds{seeds}",
                    lambda m=method, s=used: compute(m, s),
                )
            )
    best = environments.grid_world_values(one_goal(1))[0]
    best = best[0, SIZE**2 // 2]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True)
    for title, axis, figure_of in (
        ("at the end", axes[0], lambda runs: runs[:, -1]),
        ("mean over training", axes[1], lambda runs: runs.mean(1)),
    ):
        rows = []
        for method in METHODS:
            each = [figure_of(found[method, s]) / best for s in SHIFTS]
            means, widths = np.array([interval(x) for x in each]).T
            axis.errorbar(SHIFTS, means, widths, fmt="o-", label=method)
            rows.append([method, *(cell(x, 3) for x in each)])
        print(f"\nReturn {title}, share of the best, {seeds} seeds\n")
        print(table(["shift of the goal", *map(str, SHIFTS)], rows))
        axis.set(title=title, xlabel="cells by which the goal is shifted")
    axes[0].set(ylabel="return, share of the best")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(FOLDER / NAME / "shift.png", dpi=100)


def breakout():
    """MinAtar's Breakout, 10 x 10 x 4 floats."""
    from minatar.gym import register_envs

    if "MinAtar/Breakout-v1" not in gymnasium.registry:
        register_envs()
    environment = gymnasium.make("MinAtar/Breakout-v1", max_episode_steps=2500)
    return gymnasium.wrappers.DtypeObservation(environment, np.float32)


def player(method, seed, teacher=None):
    """An agent and its environment."""
    keras.utils.set_random_seed(seed)
    environment = environments.GymnasiumEnvironment(breakout, 64, seed)
    specs = environment.time_step_spec(), environment.action_spec()
    torso = keras.Sequential(
        [
            keras.layers.Conv2D(16, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(128, "relu"),
        ]
    )
    agent = agents.ActorCriticAgent(
        *specs,
        agents.actor_critic_model(specs[0].observation, specs[1], torso=torso),
        keras.optimizers.Adam(2e-3, global_clipnorm=0.5),
        loss_terms=loss_terms(method, teacher, specs),
        trace_decay=0.95,
        entropy_coefficient=0.01,
        seed=seed,
    )
    return agent, environment


def learn(method, seed, epochs, teacher=None):
    """Mean returns of training, one an epoch of 102,400 steps; the agent."""
    start = time.perf_counter()
    agent, environment = player(method, seed, teacher)
    history = agents.train(
        agent,
        environment,
        epochs=epochs,
        steps_per_epoch=100,
        segment_length=16,
        jit_compile=True,
        verbose=2,
        seed=seed,
    ).history
    print(
        f"minatar {method} seed {seed}: {history['return'][-1]:.2f}, "
        f"{time.perf_counter() - start:.0f} s",
        flush=True,
    )
    return history["return"], agent


def minatar_part(seeds, epochs):
    """MinAtar's Breakout with an imperfect teacher."""
    path = FOLDER / NAME / "teacher.keras"

    def teach():
        returns, agent = learn("alone", 1000, epochs // 5)
        agent.model.save(path)
        return returns

    taught = result(NAME, "minatar-teacher", teach)
    found = {
        method: [
            result(
                NAME,
                f"minatar-{method}-seed{seed}",
                lambda m=method, s=seed: learn(
                    m,
                    s,
                    epochs,
                    keras.models.load_model(path) if METHODS[m][0] else None,
                )[0],
            )
            for seed in range(seeds)
        ]
        for method in METHODS
    }
    figure, axis = plt.subplots(figsize=(6, 4))
    rows = []
    for method, runs in found.items():
        runs = np.array(runs)
        rows.append([method, cell(runs.mean(1)), cell(runs[:, -3:].mean(1))])
        steps = 102_400 * np.arange(1, runs.shape[1] + 1)
        (line,) = axis.plot(steps, runs.mean(0), label=method)
        axis.fill_between(
            steps, runs.min(0), runs.max(0), alpha=0.2, color=line.get_color()
        )
    axis.axhline(taught[-1], color="grey", ls=":", label="the teacher")
    axis.set(xlabel="environment steps", ylabel="return, MinAtar Breakout")
    axis.legend()
    figure.tight_layout()
    figure.savefig(FOLDER / NAME / "minatar.png", dpi=100)
    print(f"\nMinAtar Breakout, {seeds} seeds; the teacher: {taught[-1]:.2f}\n")
    print(table(["method", "mean over training", "last 300,000 steps"], rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--parts",
        nargs="+",
        default=["shift", "minatar"],
        choices=["shift", "minatar"],
    )
    parser.add_argument("--seeds", type=int, help="10 of shift, 3 of minatar")
    parser.add_argument("--epochs", type=int, default=20, help="of minatar")
    arguments = parser.parse_args()
    (FOLDER / NAME).mkdir(parents=True, exist_ok=True)
    if "shift" in arguments.parts:
        shift_part(arguments.seeds or 10)
    if "minatar" in arguments.parts:
        minatar_part(arguments.seeds or 3, arguments.epochs)


if __name__ == "__main__":
    main()
