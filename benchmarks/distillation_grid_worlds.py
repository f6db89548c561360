"""Distillation in random grid worlds: who collects, and imperfect teachers.

Teachers are softmax policies of exact values. All worlds of an experiment are
learned at once by one agent with a table for each (`grid_worlds.py`);
intervals are over worlds.

    python -m benchmarks.distillation_grid_worlds
"""

import argparse
import dataclasses

import keras
import matplotlib
import numpy as np
from scipy import stats

from benchmarks.grid_worlds import ExactReturns
from benchmarks.grid_worlds import growing
from benchmarks.grid_worlds import make_worlds
from benchmarks.grid_worlds import softmax
from benchmarks.grid_worlds import table_model
from benchmarks.grid_worlds import table_teacher
from benchmarks.results import FOLDER
from benchmarks.results import cell
from benchmarks.results import result
from benchmarks.results import table
from keras_sparse_rl import agents
from keras_sparse_rl.environments import grid_world_values
from keras_sparse_rl.losses import DistillationVariant

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

NAME = "distillation_grid_worlds"
SEGMENT = 16


def learn(worlds, agent, updates, segment=SEGMENT, at=None):
    """Trains in all worlds; steps and exact returns `(times, worlds)`."""
    returns = ExactReturns(worlds, set(at or growing(updates)))
    agents.train(
        agent,
        worlds,
        epochs=1,
        steps_per_epoch=updates,
        segment_length=segment,
        callbacks=[returns],
        jit_compile=True,
        verbose=0,
    )
    return segment * np.array(returns.steps), np.array(returns.returns)


def race(number, updates, temperature, rate):
    """Steps until the student has 95 % of the teacher's return, by driver.

    Returns:
        Dict of driver to list of environment steps of each world; the limit
        where it was not reached.
    """
    worlds = make_worlds(number)
    _, moves = grid_world_values(worlds)
    logits = moves / temperature
    value, _ = grid_world_values(worlds, softmax(logits))
    # Returns may be negative: 95 % of the way from a uniform policy's.
    uniform, _ = grid_world_values(worlds, np.full_like(moves, 0.25))
    low, high = (v[:, worlds.start_cell] for v in (uniform, value))
    target = low + 0.95 * (high - low)
    found = {}
    for name in ("on_policy", "teacher"):
        agent = agents.DistillationAgent(
            worlds.time_step_spec(),
            worlds.action_spec(),
            table_model(worlds),
            # The loss is a mean over worlds and steps that share no entry.
            keras.optimizers.SGD(rate * number * SEGMENT),
            table_teacher(worlds, logits),
            name,
            discount=1.0,
        )
        steps, returns = learn(make_worlds(number), agent, updates)
        reached = returns >= target
        first = np.where(reached.any(0), steps[reached.argmax(0)], steps[-1])
        found[name] = first.tolist()
        found[f"{name} reached"] = float(reached.any(0).mean())
        print(f"T={temperature} {name}: {first.mean():.0f} steps", flush=True)
    return found


def ratio(found):
    """Ratio of mean steps, teacher-driven over student-driven, and bounds."""
    teacher, student = (
        np.array(found[name]) for name in ("teacher", "on_policy")
    )
    bounds = stats.bootstrap(
        (teacher, student),
        lambda x, y, axis: x.mean(axis) / y.mean(axis),
        paired=True,
        vectorized=True,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return teacher.mean() / student.mean(), bounds.low, bounds.high


def imperfect_tables(worlds, kind, temperature=0.02):
    """Logits and values of a teacher with faults, and its returns.

    `"noisy"`: in a quarter of the cells it takes each move for its opposite;
    `"adversarial"`: it prefers what is worst.
    """
    _, moves = grid_world_values(worlds, discount=0.95)
    logits = moves / temperature
    if kind == "adversarial":
        logits = -logits
    else:
        wrong = np.random.default_rng(0).random(logits.shape[:2]) < 0.25
        logits[wrong] = np.roll(logits[wrong], 2, axis=-1)
    value, _ = grid_world_values(worlds, softmax(logits), discount=0.95)
    undiscounted, _ = grid_world_values(worlds, softmax(logits))
    return logits, value, undiscounted[:, worlds.start_cell]


def imperfect(kind, number, updates, rate=0.1, size=8):
    """Returns at the end for each way to learn from a faulty teacher."""
    worlds = make_worlds(number, size)
    logits, value, teacher_return = imperfect_tables(worlds, kind)
    found = {"teacher itself": teacher_return.tolist()}
    for name in STUDENTS:
        # Guidance that fades: what remains is the environment's reward.
        fading = keras.optimizers.schedules.PolynomialDecay(
            1.0, updates // 2, 0.0
        )
        common = {
            "time_step_spec": worlds.time_step_spec(),
            "action_spec": worlds.action_spec(),
            "model": table_model(worlds),
            "optimizer": keras.optimizers.Adam(rate),
            "discount": 0.95,
        }
        if name == "reward alone":
            agent = agents.ActorCriticAgent(entropy_coefficient=0.0, **common)
        else:
            variant = DistillationVariant.named(name.removesuffix(" + reward"))
            if name.endswith(" + reward"):
                variant = dataclasses.replace(variant, environment_reward=True)
            agent = agents.DistillationAgent(
                teacher=table_teacher(worlds, logits, value),
                variant=variant,
                # With the teacher's bootstrap the term is all there is.
                coefficient=fading
                if variant.environment_reward and variant.has_return
                else 1.0,
                **common,
            )
        _, returns = learn(
            make_worlds(number, size), agent, updates, at=[updates]
        )
        found[name] = returns[-1].tolist()
        print(f"{kind} {name}: {returns[-1].mean():.3f}", flush=True)
    return found


STUDENTS = (
    "reward alone",
    "on_policy",
    "expected_kl",
    "on_policy + reward",
    "n_distill + reward",
    "expected_kl + reward",
    "entropy_regularized + reward",
    "value_gated + reward",
    "teacher_value",
    "td_teacher_value",
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--updates", type=int, default=4000)
    number = parser.parse_args().worlds
    updates = parser.parse_args().updates
    races = {
        temperature: result(
            NAME,
            f"race-temperature{temperature}-worlds{number}",
            lambda t=temperature: race(number, updates, t, RATE),
        )
        for temperature in (0.05, 0.5)
    }
    rows = []
    for temperature, found in races.items():
        mean, low, high = ratio(found)
        rows.append(
            [
                temperature,
                cell(found["on_policy"], 0),
                cell(found["teacher"], 0),
                f"{mean:.2f} ({low:.2f} to {high:.2f})",
            ]
        )
    print("\nSteps to 95 % of the teacher's return\n")
    print(table(["temperature", "student acts", "teacher acts", "ratio"], rows))
    teachers = {
        kind: result(
            NAME,
            f"{kind}-worlds100",
            lambda k=kind: imperfect(k, 100, updates),
        )
        for kind in ("noisy", "adversarial")
    }
    print("\nReturns at the end, 100 worlds\n")
    print(
        table(
            ["student", *teachers],
            [
                [name, *(cell(found[name], 3) for found in teachers.values())]
                for name in ("teacher itself", *STUDENTS)
            ],
        )
    )
    plot(teachers)


def plot(teachers):
    _, axes = plt.subplots(1, 2, figsize=(9, 3.5), sharey=True)
    names = ("teacher itself", *STUDENTS)
    for axis, (kind, found) in zip(axes, teachers.items(), strict=True):
        means = [np.mean(found[name]) for name in names]
        errors = [1.96 * stats.sem(found[name]) for name in names]
        axis.barh(names, means, xerr=errors)
        axis.set(title=f"{kind} teacher", xlabel="return")
        axis.invert_yaxis()
    plt.tight_layout()
    path = FOLDER / NAME / "imperfect_teachers.png"
    plt.savefig(path, dpi=120)
    print(f"\nplot: {path}")


RATE = 4.0

if __name__ == "__main__":
    main()
