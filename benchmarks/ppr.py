"""Perception-Prediction-Reaction beside an LSTM, with ablations, and its cost.

    python -m benchmarks.ppr [--tasks t_maze10 ...] [--variants ppr lstm ...]
        [--seeds 5]
    python -m benchmarks.ppr --cost acting training

Counts environment steps until the episodes that end in ten train steps in a
row return 0.9 of the best on average. One graph serves all seeds of a task
and variant. Prints a table and plots return against environment steps.
`--cost` times steps beside a Keras LSTM's, in turns.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable

import keras
import matplotlib
import numpy as np
import tensorflow as tf

from benchmarks.results import FOLDER
from benchmarks.results import cell
from benchmarks.results import result
from benchmarks.results import table
from examples.memory_agents import ChronoBias
from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.agents.in_graph_collector import InGraphCollector
from keras_sparse_rl.layers import PPRCore

matplotlib.use("Agg")
import matplotlib.pyplot as plt

NAME = "ppr"
UNITS, PERIOD, BATCH, WINDOW, ENOUGH = 64, 16, 4096, 10, 0.9


@dataclasses.dataclass(frozen=True)
class Task:
    """What a task needs to be learned, the same for every variant.

    Args:
        make: function from the number of copies to the environment.
        train_steps: int, of `BATCH` environment steps each.
        segment: int, steps that gradients go back.
        entropy: float, coefficient of the entropy bonus.
        coefficient: float, of the PPR loss.
        remembers: int, steps that the memory's biases are made for
            (`ChronoBias`), 0 for Keras' biases.
        policy_head_stddev: float, of the policy heads' first weights.
    """

    make: Callable
    train_steps: int
    segment: int
    entropy: float
    coefficient: float
    remembers: int = 0
    policy_head_stddev: float = 1.0

    @property
    def copies(self):
        return BATCH // self.segment


def t_maze(length, train_steps):
    """A sign has to reach the junction within one segment, most times."""
    return Task(
        lambda copies: environments.TMaze(length, copies),
        train_steps,
        segment=256,
        entropy=0.01,
        coefficient=0.01,
        remembers=length,
    )


TASKS = {
    "t_maze10": t_maze(10, 400),
    "t_maze20": t_maze(20, 600),
    "t_maze50": t_maze(50, 800),
    # Each of its rewards is 1 / 48 at most: both terms have to be as small.
    "repeat_previous": Task(
        lambda copies: environments.RepeatPrevious(3, copies),
        train_steps=800,
        segment=64,
        entropy=0.002,
        coefficient=0.001,
    ),
}


def biases(remembers):
    """Arguments of an LSTM whose gates remember so many steps; {} for 0."""
    if not remembers:
        return {}
    return {
        "bias_initializer": ChronoBias(remembers),
        "unit_forget_bias": False,
    }


TO_PERCEPTION = {"pairs": [("reaction", "perception")]}
VARIANTS = {  # arguments of the core and of the agent
    "ppr": ({}, {}),
    "lstm": (None, {}),
    "no KL": ({}, {"coefficient": 0.0}),
    # The reaction never starts anew, so it is an LSTM beside perception.
    "no slow core": ({"starts": {"reaction": "keep"}}, TO_PERCEPTION),
    # Perception remembers all, and prediction sees all.
    "no asymmetry": (
        {"starts": {"perception": "keep"}, "inputs": {"prediction": None}},
        {},
    ),
}


class Trainer:
    """Compiled once for a task and variant, started anew for each seed."""

    def __init__(self, task, variant, learning_rate=2e-3):
        self._task = task = TASKS[task]
        self._environment = environment = task.make(task.copies)
        self._core, more = VARIANTS[variant]
        self._learning_rate = learning_rate
        self._model = self._new_model()
        kind = agents.ActorCriticAgent
        if self._core is not None:
            kind = agents.PPRAgent
            more = {"coefficient": task.coefficient, **more}
        agent = kind(
            environment.time_step_spec(),
            environment.action_spec(),
            self._model,
            keras.optimizers.Adam(learning_rate, global_clipnorm=1.0),
            trace_decay=0.95,
            entropy_coefficient=task.entropy,
            **more,
        )
        self._collector = InGraphCollector(
            agent.collect_policy,
            environment,
            task.segment,
            0,
            jit_compile=True,
        )
        self._counter = agent.train_step_counter

        def learn(experience, figures):
            agent.train(experience)
            return figures["episodes"], figures["return_sum"]

        self._step = self._collector.with_learning(learn)

    def _new_model(self):
        specs = (
            self._environment.observation_spec(),
            self._environment.action_spec(),
        )
        remembers = self._task.remembers
        head = {"policy_head_stddev": self._task.policy_head_stddev}
        if self._core is None:
            core = keras.layers.LSTM(UNITS, **biases(remembers))
            return agents.actor_critic_model(*specs, core=core, **head)
        cells = {}
        if remembers:
            # Fast cores remember an interval, the slow one counts intervals.
            times = {
                "cell": PERIOD + 1,
                "slow_cell": max(4, remembers // PERIOD + 2),
            }
            cells = {
                name: keras.layers.LSTMCell(UNITS, **biases(steps))
                for name, steps in times.items()
            }
        core = PPRCore(UNITS, PERIOD, return_state=True, **cells, **self._core)
        return agents.ppr_model(*specs, core=core, **head)

    def run(self, seed):
        """Mean returns of the episodes in every `WINDOW` train steps."""
        start = time.perf_counter()
        keras.utils.set_random_seed(seed)
        self._model.set_weights(self._new_model().get_weights())
        for variable in self._model.optimizer.variables:
            variable.assign(keras.ops.zeros_like(variable))
        self._model.optimizer.learning_rate = self._learning_rate
        collector = self._collector
        for variable in [
            *collector._state,
            collector._returns,
            self._counter,
        ]:
            variable.assign(tf.zeros_like(variable))
        self._environment.assign(self._environment.start(1_000_000 * seed))
        collector._count.assign(1_000_000 * seed)
        figures = np.array(
            [np.stack(self._step()) for _ in range(self._task.train_steps)]
        )
        figures = figures.reshape(-1, WINDOW, 2).sum(1)
        return {
            "returns": (figures[:, 1] / np.maximum(figures[:, 0], 1)).tolist(),
            "seconds": time.perf_counter() - start,
        }


def steps_of(returns):
    """Environment steps after each window."""
    return BATCH * WINDOW * np.arange(1, len(returns) + 1)


def steps_to_enough(returns):
    """Environment steps to 90 % of the best return; infinite if never."""
    reached = np.flatnonzero(np.array(returns) >= ENOUGH)
    return float(steps_of(returns)[reached[0]]) if reached.size else np.inf


def plot(found, path):
    """A panel a task: median of the seeds, and all of them faintly."""
    size = 4 * len(found), 3.5
    figure, axes = plt.subplots(1, len(found), figsize=size, squeeze=False)
    for axis, (task, by_variant) in zip(axes[0], found.items()):
        for number, (variant, runs) in enumerate(by_variant.items()):
            curves = np.array([run["returns"] for run in runs])
            steps = steps_of(curves[0])
            color = f"C{number}"
            axis.plot(steps, np.median(curves, 0), color, label=variant)
            axis.plot(steps, curves.T, color, linewidth=0.5, alpha=0.4)
        axis.axhline(ENOUGH, color="grey", linestyle=":")
        axis.set(
            title=task,
            xlabel="environment steps",
            ylabel="return",
            ylim=(-1.1, 1.1),  # it starts below: wasted steps
        )
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def learning(tasks, variants, seeds):
    found, rows = {task: {} for task in tasks}, []
    for task in tasks:
        for variant in variants:
            trainer = []

            def compute(seed, t=task, v=variant, trainer=trainer):
                if not trainer:
                    trainer.append(Trainer(t, v))
                return trainer[0].run(seed)

            name = f"{task}-{variant.replace(' ', '_')}"
            runs = [
                result(NAME, f"{name}-seed{seed}", lambda s=seed: compute(s))
                for seed in range(seeds)
            ]
            found[task][variant] = runs
            needed = np.array([steps_to_enough(run["returns"]) for run in runs])
            last = [np.mean(run["returns"][-3:]) for run in runs]
            median = np.median(needed)
            reached = np.isfinite(needed).sum()
            rows.append([task, variant, f"{reached} of {seeds}"])
            rows[-1] += [f"{median:,.0f}" if np.isfinite(median) else "never"]
            rows[-1] += [", ".join(f"{n:,.0f}" for n in needed), cell(last)]
    plot(found, FOLDER / NAME / "ppr.png")
    header = ["task", "variant", "seeds at 0.9", "median steps", "by seed"]
    print(table([*header, "final return"], rows))


def cost(kinds, turns, batch=16, steps=64):
    """Times relative to a Keras LSTM's: acting, and training a segment."""
    x = tf.random.normal((batch, steps, UNITS))
    is_first = tf.random.uniform((batch, steps)) < 0.02
    none = tf.zeros((batch,), tf.bool)
    rows = []
    for jit_compile in (True, False):
        lstm = keras.layers.LSTM(UNITS, return_sequences=True)
        cell_, core = keras.layers.LSTMCell(UNITS), PPRCore(UNITS)
        lstm(x), cell_(x[:, 0], [x[:, 0], x[:, 0]]), core(x)

        def act(x, state, core=core):
            return core.step(x, state, none)

        def acting(step, state):
            def loop(x, state):
                return tf.while_loop(
                    lambda t, *_: t < 256,
                    lambda t, total, state: _acted(step, t, x, total, state),
                    (0, tf.zeros((batch, UNITS)), state),
                )[1]

            return loop, (x[:, 0], state)

        def training(layer, **arguments):
            def learn(x):
                with tf.GradientTape() as tape:
                    outputs = tf.nest.flatten(layer(x, **arguments))
                    loss = tf.add_n([tf.reduce_sum(o**2) for o in outputs])
                return tape.gradient(
                    loss, [v.value for v in layer.trainable_variables]
                )

            return learn, (x,)

        start = core.initial_state(batch)
        apart = {**start, "clock": tf.range(batch) % 16}
        zeros = [tf.zeros((batch, UNITS))] * 2
        for what, cases in (
            (
                "acting",
                {
                    "LSTM": acting(cell_, zeros),
                    "PPR, rows tick together": acting(act, start),
                    "PPR, rows tick apart": acting(act, apart),
                },
            ),
            (
                "training",
                {
                    "LSTM": training(lstm),
                    "PPR, the agent alone": training(core, is_first=is_first),
                    "PPR, all four cores": training(
                        core, is_first=is_first, return_cores=True
                    ),
                },
            ),
        ):
            if what not in kinds:
                continue
            times = {name: [] for name in cases}
            calls = {
                name: tf.function(
                    f, jit_compile=jit_compile
                ).get_concrete_function(*arguments)
                for name, (f, arguments) in cases.items()
            }
            for turn in range(turns + 1):
                for name, (_, arguments) in cases.items():
                    begin = time.perf_counter()
                    for _ in range(3):
                        calls[name](*arguments)
                    if turn:  # the first compiles
                        times[name].append(time.perf_counter() - begin)
            for name, seconds in times.items():
                ratios = np.array(seconds) / np.array(times["LSTM"])
                low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
                fastest = min(seconds) / min(times["LSTM"])
                rows.append(
                    [what, "XLA" if jit_compile else "no XLA", name]
                    + [f"{middle:.2f} ({low:.2f} to {high:.2f})"]
                    + [f"{fastest:.2f}"]
                )
    print(table(["", "", "", "ratio, quartiles", "of the fastest"], rows))


def _acted(step, t, x, total, state):
    output, state = step(x, state)
    return t + 1, total + output, state


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--tasks", nargs="+", default=list(TASKS), choices=list(TASKS)
    )
    parser.add_argument(
        "--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS)
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cost", nargs="+", choices=["acting", "training"])
    parser.add_argument("--turns", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.cost:
        cost(arguments.cost, arguments.turns)
    else:
        learning(arguments.tasks, arguments.variants, arguments.seeds)


if __name__ == "__main__":
    main()
