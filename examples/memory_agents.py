"""Agents with memory: LSTM, GTrXL and PPR on tasks that need one.

    python examples/memory_agents.py [--task t_maze] [--length 10]
        [--memories lstm gtrxl] [--seeds 1]

Tasks: `t_maze` (made of TensorFlow), `memory_len` (of `bsuite`),
`repeat_previous` (RepeatPreviousEasy of `popgym`) and `memory_s7`
(MiniGrid-MemoryS7-v0 of `minigrid`); the last three need the package in
brackets: `pip install bsuite`, and so on. Prints what was reached and saves a
plot of the return against environment steps.
"""

import argparse
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import gymnasium
import keras
import matplotlib
import numpy as np

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.layers import GTrXL
from keras_sparse_rl.layers import PPRCore

matplotlib.use("Agg")
import matplotlib.pyplot as plt


class MemoryLength(gymnasium.Env):
    """bsuite's memory_len, which knows no Gymnasium."""

    def __init__(self, length):
        from bsuite.environments.memory_chain import MemoryChain

        self.chain = MemoryChain(length)
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3,))
        self.action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.chain._rng.seed(seed)
        return self.chain.reset().observation[0], {}

    def step(self, action):
        found = self.chain.step(int(action))
        return found.observation[0], found.reward, found.last(), False, {}


def repeat_previous():
    from popgym.envs.repeat_previous import RepeatPreviousEasy

    return RepeatPreviousEasy()


def memory_s7():
    import minigrid  # noqa: F401  registers the environment

    environment = gymnasium.make("MiniGrid-MemoryS7-v0")
    kinds = gymnasium.wrappers.FilterObservation(environment, ["image"])
    return gymnasium.wrappers.FlattenObservation(kinds)


def make(task, length, seed, copies=32):
    """The environment of a task."""
    if task == "t_maze":
        return environments.TMaze(length, copies, seed)
    create = {
        "memory_len": lambda: MemoryLength(length),
        "repeat_previous": repeat_previous,
        "memory_s7": memory_s7,
    }[task]
    try:
        create()
    except ImportError as error:
        raise SystemExit(
            f"--task {task} needs a package: {error}. Install it by pip."
        ) from error
    return environments.GymnasiumEnvironment(create, copies, seed)


@keras.saving.register_keras_serializable(package="examples")
class ChronoBias(keras.initializers.Initializer):
    """Biases with which an LSTM remembers for up to `length` steps at once.

    Tallec & Ollivier 2018, "Can recurrent neural networks warp time?", section
    3: forget gates log(u), input gates -log(u), u uniform in [1, length - 1].
    """

    def __init__(self, length):
        self.length = length

    def __call__(self, shape, dtype=None):
        u = np.random.uniform(1, max(1, self.length - 1), shape[0] // 4)
        rest = np.zeros(shape[0] // 2)
        bias = np.concatenate([-np.log(u), np.log(u), rest])
        return keras.ops.convert_to_tensor(bias, dtype)

    def get_config(self):
        return {"length": self.length}


def memory(name, length, gate_bias=2.0):
    """A memory of 64 units; GTrXL sees `length` steps and some more."""
    if name == "lstm":
        return keras.layers.LSTM(
            64, bias_initializer=ChronoBias(length), unit_forget_bias=False
        )
    if name == "ppr":
        return PPRCore(64, return_state=True)
    slots = 1 << int(np.ceil(np.log2(length + 4)))
    return GTrXL(2, 2, 32, 64, slots, gate_bias=gate_bias, return_state=True)


def train(task, name, arguments, seed):
    """Trains one agent; steps and returns, one for each epoch."""
    keras.utils.set_random_seed(seed)
    environment = make(task, arguments.length, seed, arguments.copies)
    length = {"repeat_previous": 4, "memory_s7": 40}.get(task, arguments.length)
    build, kind = agents.actor_critic_model, agents.ActorCriticAgent
    more = {}
    if name == "ppr":
        build, kind = agents.ppr_model, agents.PPRAgent
        more = {"coefficient": arguments.coefficient}
    agent = kind(
        environment.time_step_spec(),
        environment.action_spec(),
        build(
            environment.observation_spec(),
            environment.action_spec(),
            core=memory(name, length, arguments.gate_bias),
            policy_head_stddev=arguments.policy_head_stddev,
        ),
        keras.optimizers.Adam(arguments.learning_rate, global_clipnorm=1.0),
        trace_decay=0.95,
        entropy_coefficient=arguments.entropy,
        seed=seed,
        **more,
    )
    start = time.perf_counter()
    per_epoch = arguments.copies * arguments.segment * arguments.steps_per_epoch
    history = agents.train(
        agent,
        environment,
        epochs=-(-arguments.steps // per_epoch),
        steps_per_epoch=arguments.steps_per_epoch,
        segment_length=arguments.segment,
        jit_compile=arguments.steps > 100_000,
        verbose=2,
        seed=seed,
    ).history
    seconds = time.perf_counter() - start
    evaluation = agents.evaluate(
        agent.policy, make(task, arguments.length, 1000 + seed), 100
    )
    print(
        f"{task} {name} seed {seed}: mean return of 100 episodes "
        f"{evaluation.mean:.2f} ({evaluation.low:.2f} to "
        f"{evaluation.high:.2f}), {np.mean(evaluation.returns > 0):.0%} "
        f"above 0, {seconds:.0f} s"
    )
    return {
        "steps": (per_epoch * np.arange(1, len(history["loss"]) + 1)).tolist(),
        "returns": history["return"],
        "episodes": history["episodes"],
        "evaluation": evaluation.returns.tolist(),
        "seconds": seconds,
    }


def plot(task, runs, path):
    """Return against environment steps: a line a seed, a colour a memory."""
    figure, axis = plt.subplots(figsize=(6, 4))
    for colour, (name, found) in zip(("C0", "C1", "C2"), runs.items()):
        for number, run in enumerate(found):
            axis.plot(
                run["steps"],
                run["returns"],
                colour,
                label=None if number else name,
            )
    axis.set(title=task, xlabel="environment steps", ylabel="mean return")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--task",
        default="t_maze",
        choices=["t_maze", "memory_len", "repeat_previous", "memory_s7"],
    )
    parser.add_argument("--length", type=int, default=10)
    parser.add_argument(
        "--memories",
        nargs="+",
        default=["lstm", "gtrxl"],
        choices=["lstm", "gtrxl", "ppr"],
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=500_000)
    parser.add_argument("--steps-per-epoch", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--entropy", type=float, default=0.01)
    parser.add_argument(
        "--coefficient", type=float, default=0.01, help="of PPR's loss"
    )
    parser.add_argument("--copies", type=int, default=32)
    parser.add_argument("--segment", type=int, default=32)
    parser.add_argument(
        "--gate-bias",
        type=float,
        default=2.0,
        help="GTrXL's gates start closer to open at 0 than at the paper's 2",
    )
    parser.add_argument(
        "--policy-head-stddev",
        type=float,
        help="of the policy head's first weights: 1 teaches a memory sooner",
    )
    parser.add_argument("--output", default="runs/memory_agents")
    return parser.parse_args(arguments)


def main():
    arguments = parse()
    runs = {
        name: [
            train(arguments.task, name, arguments, seed)
            for seed in range(arguments.seeds)
        ]
        for name in arguments.memories
    }
    folder = pathlib.Path(arguments.output)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{arguments.task}-{arguments.length}.png"
    plot(arguments.task, runs, path)
    print(f"plot: {path}")


if __name__ == "__main__":
    main()
