"""Students of a teacher with faults, in many random grid worlds at once.

    python examples/distillation.py [--faults 0.25] [--variants teacher ...]

The teacher knows each world's exact values, and takes each move for its
opposite in a share of the cells (`--faults`). Students are tables that learn
from it in the ways of "Distilling Policy Distillation"; a name ending in
+reward also counts the environment's reward, while the teacher's part fades.
Prints the teacher's and the students' mean returns, and saves a plot.
"""

import argparse
import dataclasses
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))

import keras
import matplotlib
import numpy as np
import tensorflow as tf

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.losses import DistillationVariant

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SEGMENT = 16


def grid_worlds(number, size, seed):
    """`number` worlds, each with one copy that plays it."""
    return environments.RandomGridWorld(
        size, num_worlds=number, batch_size=number, seed=seed
    )


def faulty_teacher(worlds, faults, temperature=0.02, discount=0.95):
    """An `agents.Teacher` from exact values, and its mean return."""
    _, moves = environments.grid_world_values(worlds, discount=discount)
    logits = moves / temperature
    generator = np.random.default_rng(0)
    wrong = generator.random(logits.shape[:2]) < faults
    logits[wrong] = np.roll(logits[wrong], 2, axis=-1)
    policy = np.array(tf.nn.softmax(logits))
    value, _ = environments.grid_world_values(worlds, policy, discount)
    returns, _ = environments.grid_world_values(worlds, policy)
    tables = [
        tf.constant(x.reshape(-1, *x.shape[2:]), tf.float32)
        for x in (logits, value)
    ]
    teacher = agents.Teacher(
        lambda cell: tf.gather(tables[0], cell),
        worlds.time_step_spec(),
        worlds.action_spec(),
        value=lambda cell: tf.gather(tables[1], cell),
    )
    return teacher, returns[:, worlds.start_cell].mean()


def table_model(worlds):
    """Policy and value with a row for each cell of each world."""
    observation = keras.Input((None,), dtype="int32")
    outputs = {
        name: keras.layers.Embedding(worlds.is_terminal.size, units, "zeros")(
            observation
        )
        for name, units in (("policy", 4), ("value", 1))
    }
    inputs = {
        "observation": observation,
        "is_first": keras.Input((None,), dtype="bool"),
        "state": (),
    }
    return keras.Model(inputs, {"outputs": outputs, "state": ()})


def student(worlds, teacher, name, updates):
    """An agent that learns from the teacher as its name says."""
    variant = DistillationVariant.named(name.removesuffix("+reward"))
    coefficient = 1.0
    if name.endswith("+reward"):
        variant = dataclasses.replace(variant, environment_reward=True)
        coefficient = keras.optimizers.schedules.PolynomialDecay(
            1.0, updates // 2, 0.0
        )
    return agents.DistillationAgent(
        worlds.time_step_spec(),
        worlds.action_spec(),
        table_model(worlds),
        keras.optimizers.Adam(0.1),
        teacher,
        variant,
        coefficient,
        discount=0.95,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--faults", type=float, default=0.25)
    parser.add_argument(
        "--variants",
        nargs="+",
        default=["teacher", "on_policy", "expected_kl", "expected_kl+reward"],
    )
    parser.add_argument("--worlds", type=int, default=64)
    parser.add_argument("--size", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=pathlib.Path, default="runs")
    options = parser.parse_args()
    worlds = grid_worlds(options.worlds, options.size, options.seed)
    teacher, teacher_return = faulty_teacher(worlds, options.faults)
    print(f"teacher: mean return {teacher_return:.3f}")
    per_epoch = 100
    for name in options.variants:
        agent = student(worlds, teacher, name, per_epoch * options.epochs)
        history = agents.train(
            agent,
            grid_worlds(options.worlds, options.size, options.seed),
            epochs=options.epochs,
            steps_per_epoch=per_epoch,
            segment_length=SEGMENT,
            evaluation_environment=grid_worlds(
                options.worlds, options.size, options.seed
            ),
            evaluation_episodes=4 * options.worlds,
            jit_compile=True,
            seed=options.seed,
        ).history
        returns = history["evaluation_return"]
        print(f"{name}: mean return {returns[-1]:.3f}")
        steps = per_epoch * SEGMENT * np.arange(1, options.epochs + 1)
        plt.plot(steps, returns, label=name)
    plt.axhline(teacher_return, color="grey", ls=":", label="the teacher")
    plt.xlabel("environment steps of each world")
    plt.ylabel("return (most probable moves)")
    plt.legend()
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "distillation.png"
    plt.savefig(path, dpi=120, bbox_inches="tight")
    print(f"plot: {path}")


if __name__ == "__main__":
    main()
