"""Default policies that know less: a table solved exactly, and a walker.

    python -m benchmarks.default_policies                      (both parts)
    python -m benchmarks.default_policies --parts rooms --seeds 20

`rooms`: four rooms of 11 x 11, 8 targets to learn default policies from by
exact alternation (soft value iteration for the policies, the closed-form
marginal for the default), 4 held-out targets to learn with the default frozen
(soft Q-learning, 150 episodes a target), by what the default sees.

`walk`: `ActorCriticAgent` alone and `KLRegularizedAgent`s on
`environments.WalkToTarget`, by what the default sees.
"""

import argparse
import time

import keras
import matplotlib
import matplotlib.pyplot as plt
import numpy as np

from benchmarks.results import FOLDER
from benchmarks.results import cell
from benchmarks.results import interval
from benchmarks.results import result
from benchmarks.results import table
from keras_sparse_rl import agents
from keras_sparse_rl.environments import GoToTarget
from keras_sparse_rl.environments import WalkToTarget
from keras_sparse_rl.losses import KLToDefault
from keras_sparse_rl.losses import marginal_policy
from keras_sparse_rl.losses import transfer_gain

NAME = "default_policies"
ALPHA, DISCOUNT = 0.05, 0.98
FLOOR = 0.01  # share of the uniform policy in a default that is transferred
NONE = 4  # no previous action yet
LAYOUTS = 5  # seeds share these draws of targets
ROUNDS = 15
EPISODES, TIME_LIMIT = 150, 500
GAIN_TIME_LIMIT = 1000  # chosen on the first draw of targets


class Rooms:
    """The table behind `GoToTarget`; a state is a cell and a last action."""

    def __init__(self, layout, size=11, num_targets=8):
        known, new = (
            GoToTarget(size, num_targets, layout_seed=layout, held_out=held_out)
            for held_out in (False, True)
        )
        self.targets, self.held_out = known.targets, new.targets
        self.next_cell = known.next_cell
        self.cells = len(known.place)
        cells = np.arange(self.cells)[:, np.newaxis]
        actions = np.arange(5)
        walls = (known.walls @ (1 << np.arange(4))).astype(int)[:, np.newaxis]
        self.information = {
            name: self._numbered(seen)
            for name, seen in {
                "nothing": 0 * cells,
                "previous action": 0 * cells + actions,
                "walls": walls,
                "walls + previous action": 5 * walls + actions,
                "position": cells,
                "position + previous action": 5 * cells + actions,
            }.items()
        }
        # The same as one table of states, for what wants one.
        self.next_state = np.repeat(
            5 * self.next_cell + np.arange(4), 5, axis=0
        )

    def _numbered(self, seen):
        seen = np.broadcast_to(seen, (self.cells, 5))
        return np.unique(seen, return_inverse=True)[1].reshape(seen.shape)

    def at(self, targets):
        """Whether a cell is the target: `(targets, cells)`."""
        return np.arange(self.cells) == np.asarray(targets)[:, np.newaxis]

    def starts(self, targets):
        """Weight of each state at the start: `(targets, cells, 5)`."""
        weight = np.zeros((len(targets), self.cells, 5))
        weight[:, :, NONE] = ~self.at(targets) / (self.cells - 1)
        return weight


def soft_policies(rooms, default, targets, value=None, tolerance=1e-8):
    """Policies that maximize reward - alpha KL: `(targets, cells, 5, 4)`."""
    at = rooms.at(targets)[..., np.newaxis]
    reward = (rooms.next_cell == np.asarray(targets)[:, None, None]) * 1.0
    if value is None:
        value = np.zeros((len(targets), rooms.cells, 5))
    change = np.inf
    while change > tolerance:
        later = np.where(at, 0, value)[:, rooms.next_cell, np.arange(4)]
        quality = reward + DISCOUNT * later
        best = quality.max(-1, keepdims=True)
        weight = np.exp((quality - best) / ALPHA)
        new = best + ALPHA * np.log(np.einsum("cpa,tca->tcp", default, weight))
        change, value = np.abs(new - value).max(), new
    policy = default * weight[:, :, np.newaxis]
    return policy / policy.sum(-1, keepdims=True), value


def visits(rooms, policy, targets, tolerance=1e-8):
    """Discounted visits of each state: `(targets, cells, 5)`."""
    at = rooms.at(targets)[..., np.newaxis]
    shape = (len(targets), rooms.cells, 5)
    first = 5 * rooms.cells * np.arange(len(targets))[:, None, None]
    led_to = (first + 5 * rooms.next_cell + np.arange(4)).ravel()
    now, total = rooms.starts(targets), np.zeros(shape)
    while now.sum() > tolerance:
        total += now
        moved = DISCOUNT * np.einsum("tcp,tcpa->tca", now, policy)
        now = np.bincount(led_to, moved.ravel(), total.size).reshape(shape)
        now = np.where(at, 0, now)
    return total


def divergence(policy, default):
    """KL of each state."""
    safe = np.where(policy > 0, policy, 1)
    return (policy * (np.log(safe) - np.log(np.maximum(default, 1e-300)))).sum(
        -1
    )


def marginal(policy, weight, information):
    """The best default of what is seen, `(cells, 5, 4)`."""
    found = marginal_policy(
        policy.reshape(-1, 4),
        np.tile(information.ravel(), len(policy)),
        weight.ravel(),
    )
    return found[information]


def alternate(rooms, information, targets, rounds=ROUNDS, value=None):
    """Policies and default in turn; the objective after each half step."""
    default = np.full((rooms.cells, 5, 4), 0.25)
    objective = []
    for _ in range(rounds):
        policy, value = soft_policies(rooms, default, targets, value)
        weight = visits(rooms, policy, targets)
        start = (rooms.starts(targets) * value).sum((1, 2)).mean()
        before = (weight * divergence(policy, default)).sum() / len(targets)
        default = marginal(policy, weight, information)
        after = (weight * divergence(policy, default)).sum() / len(targets)
        objective += [start, start + ALPHA * (before - after)]
    return default, policy, weight, value, objective


def floored(default):
    return (1 - FLOOR) * default + FLOOR / 4


def left_out_defaults(rooms, information, value=None, rounds=6):
    """For each target the default of all others, `(targets, states, 4)`."""
    found = []
    for number in range(len(rooms.targets)):
        others = np.arange(len(rooms.targets)) != number
        default = alternate(
            rooms,
            information,
            rooms.targets[others],
            rounds,
            None if value is None else value[others],
        )[0]
        found.append(floored(default).reshape(-1, 4))
    return np.stack(found)


def diagnose(rooms, information, value=None):
    """`transfer_gain` of a default that sees this."""
    return transfer_gain(
        left_out_defaults(rooms, information, value),
        rooms.next_state,
        np.repeat(rooms.at(rooms.targets), 5, axis=1),
        rooms.starts(rooms.targets).reshape(len(rooms.targets), -1),
        GAIN_TIME_LIMIT,
    )


def learned_steps(rooms, defaults, seed):
    """Environment steps of soft Q-learning: `(defaults, held-out targets)`."""
    targets = rooms.held_out
    which, target = np.divmod(
        np.arange(len(defaults) * len(targets)), len(targets)
    )
    target = targets[target]
    log_default = np.log(np.stack(defaults))
    generator = np.random.default_rng(seed)
    rows = len(which)
    quality = np.zeros((rows, rooms.cells, 4))

    def start():
        place = generator.integers(0, rooms.cells - 1, rows)
        return place + (place >= target)

    place, previous = start(), np.full(rows, NONE)
    episodes, steps, clock = np.zeros((3, rows), int)
    row = np.arange(rows)
    while len(row):
        q = quality[row, place[row]] / ALPHA
        logits = log_default[which[row], place[row], previous[row]] + q
        action = (logits + generator.gumbel(size=q.shape)).argmax(-1)
        new = rooms.next_cell[place[row], action]
        reached = new == target[row]
        logits = log_default[which[row], new, action]
        logits = logits + quality[row, new] / ALPHA
        best = logits.max(-1)
        value = best + np.log(np.exp(logits - best[:, None]).sum(-1))
        error = np.where(reached, 1, DISCOUNT * ALPHA * value)
        error -= quality[row, place[row], action]
        quality[row, place[row], action] += 0.5 * error
        place[row], previous[row] = new, action
        steps[row] += 1
        clock[row] += 1
        ended = row[reached | (clock[row] >= TIME_LIMIT)]
        if len(ended):
            episodes[ended] += 1
            clock[ended], previous[ended] = 0, NONE
            place[ended] = start()[ended]
            row = np.flatnonzero(episodes < EPISODES)
    return steps.reshape(len(defaults), -1)


def fitted_default(rooms, policy, weight, information):
    """Total variation of a default trained by gradients to the marginal."""
    number = information.max() + 1
    default = keras.Sequential(
        [keras.Input((number,)), keras.layers.Dense(4, use_bias=False)]
    )
    # Rarely seen states have gradients far below Adam's usual epsilon.
    default.compile(keras.optimizers.Adam(epsilon=1e-14), KLToDefault())
    seen = np.tile(information.ravel(), len(policy))
    used = weight.ravel() > 1e-6
    logits = np.log(np.maximum(policy.reshape(-1, 4)[used], 1e-30))
    data = [np.eye(number)[seen[used]], logits, weight.ravel()[used]]
    # All states in one batch, 2000 times.
    data = [np.tile(x, (20, *[1] * (x.ndim - 1))) for x in data]
    for rate in (0.5, 0.1, 0.02, 0.004):
        default.optimizer.learning_rate = rate
        default.fit(
            data[0],
            data[1],
            sample_weight=data[2],
            batch_size=int(used.sum()),
            shuffle=False,
            epochs=25,
            verbose=0,
        )
    found = keras.ops.softmax(default.predict(np.eye(number), verbose=0))
    expected = marginal(policy, weight, information)
    error = 0.5 * np.abs(np.array(found)[information] - expected).sum(-1)
    known = np.zeros(number)
    np.add.at(known, information, weight.sum(0))
    return float(error[known[information] > 1e-3].max())


def solve(layout):
    """All defaults of one draw of targets, and what is known beforehand."""
    start = time.perf_counter()
    rooms = Rooms(layout)
    found = {}
    for name, information in rooms.information.items():
        default, policy, weight, value, objective = alternate(
            rooms, information, rooms.targets
        )
        left_out = []
        for number in range(len(policy)):
            others = np.arange(len(policy)) != number
            other = floored(
                marginal(policy[others], weight[others], information)
            )
            each = weight[number] * divergence(policy[number], other)
            left_out.append(each.sum() / weight[number].sum())
        gain = diagnose(rooms, information, value)
        found[name] = {
            "default": default.tolist(),
            "training_kl": float(
                (weight * divergence(policy, default)).sum() / weight.sum()
            ),
            "left_out_kl": float(np.mean(left_out)),
            "gain": gain.gain,
            "smallest_increment": float(np.diff(objective).min()),
        }
        if name == "walls + previous action":
            found[name]["total_variation"] = fitted_default(
                rooms, policy, weight, information
            )
        print(layout, name, round(gain.gain, 4), flush=True)
    found["seconds"] = time.perf_counter() - start
    return found


def rooms_run(seed):
    """Steps to learn held-out targets, by what the default sees."""
    layout = seed % LAYOUTS
    solved = result(NAME, f"layout{layout}", lambda: solve(layout))
    rooms = Rooms(layout)
    defaults = [np.full((rooms.cells, 5, 4), 0.25)]
    defaults += [
        floored(np.array(solved[name]["default"])) for name in rooms.information
    ]
    steps = learned_steps(rooms, defaults, seed).mean(1)
    return dict(zip(["uniform", *rooms.information], steps.tolist()))


def rooms_part(seeds):
    runs = [
        result(NAME, f"rooms-seed{seed}", lambda s=seed: rooms_run(s))
        for seed in range(seeds)
    ]
    layouts = [
        result(NAME, f"layout{n}", lambda n=n: solve(n))
        for n in range(min(seeds, LAYOUTS))
    ]
    rows, ratios = [], {}
    for name in runs[0]:
        ratios[name] = [run["uniform"] / run[name] for run in runs]
        row = [name, cell([run[name] for run in runs], 0), cell(ratios[name])]
        if name != "uniform":
            for key in ("training_kl", "left_out_kl", "gain"):
                row.append(f"{np.mean([x[name][key] for x in layouts]):.3f}")
        rows.append(row + [""] * (6 - len(row)))
    header = ["default sees", "environment steps", "times fewer than uniform"]
    header += ["training KL", "left-out KL", "transfer gain"]
    print(table(header, rows))
    every = [x[name] for x in layouts for name in x if name != "seconds"]
    print(
        "smallest increment of the objective over half steps: "
        f"{min(x['smallest_increment'] for x in every):.1e}; total variation "
        "of a default trained by gradients to the marginal: "
        f"{max(x.get('total_variation', 0) for x in every):.1e}"
    )
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
    for axis, key in zip(axes, ("training_kl", "gain")):
        for name in ratios:
            if name == "uniform":
                continue
            x = np.mean([layout[name][key] for layout in layouts])
            y, width = interval(ratios[name])
            axis.errorbar(x, y, width, fmt="o", label=name)
        axis.axhline(1, color="grey", linewidth=0.5)
    axes[0].set(
        xlabel="training KL (nats a step): less looks better",
        ylabel="held-out targets: times fewer steps",
    )
    axes[1].set(xlabel="transfer gain, known before", xscale="log")
    axes[1].axvline(1, color="grey", linewidth=0.5)
    axes[1].legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(FOLDER / NAME / "rooms.png", dpi=100)


SEEN = {
    "none": None,
    "proprioception": ["proprioception"],
    "everything": ["position", "proprioception", "target"],
}


def walker(seed, keys, held_out=False, default=None, alpha=0.01):
    """An agent and its environment; `default` is frozen, `keys` are learned."""
    keras.utils.set_random_seed(seed)
    environment = WalkToTarget(held_out, 1.0, batch_size=64, seed=seed)
    observation = environment.observation_spec()
    action = environment.action_spec()
    arguments = {
        "entropy_coefficient": 1e-4,
        "trace_decay": 0.95,
        "seed": seed,
        "time_step_spec": environment.time_step_spec(),
        "action_spec": action,
        "optimizer": keras.optimizers.Adam(2e-3, global_clipnorm=1.0),
        "model": agents.actor_critic_model(
            observation, action, torso=torso(observation)
        ),
    }
    if default is None and keys is None:
        return agents.ActorCriticAgent(**arguments), environment
    if default is not None:
        return agents.KLRegularizedAgent(
            **arguments,
            default_model=default,
            freeze_default=True,
            alpha=alpha,
        ), environment
    seen = {key: observation[key] for key in keys}
    return agents.KLRegularizedAgent(
        **arguments,
        default_model=agents.default_policy_model(
            seen, action, torso=torso(seen)
        ),
        default_optimizer=keras.optimizers.Adam(2e-3, global_clipnorm=1.0),
        alpha=alpha,
    ), environment


def torso(spec):
    inputs = {
        key: keras.Input(tuple(x.shape), name=key) for key, x in spec.items()
    }
    joined = list(inputs.values())
    joined = (
        keras.layers.Concatenate()(joined) if len(joined) > 1 else joined[0]
    )
    for _ in range(2):
        joined = keras.layers.Dense(64, "tanh")(joined)
    return keras.Model(inputs, joined)


def curve(agent, environment, seed, epochs):
    history = agents.train(
        agent,
        environment,
        epochs=epochs,
        steps_per_epoch=50,
        segment_length=32,
        jit_compile=True,
        verbose=2,
        seed=seed,
    ).history
    return {
        key: [float(x) for x in history[key]]
        for key in ("return", "episodes", "kl", "default")
        if key in history
    }


def walk_run(name, seed, epochs):
    """Learning with a default, then held-out targets with it frozen."""
    keys = SEEN[name]
    agent, environment = walker(seed, keys)
    found = {"joint": curve(agent, environment, seed, epochs)}
    default = None if keys is None else agent.default_model
    again, environment = walker(100 + seed, None, True, default)
    found["held_out"] = curve(again, environment, 100 + seed, epochs)
    return found


def walk_part(seeds, epochs):
    steps = 50 * 32 * 64 * np.arange(1, epochs + 1)
    runs = {
        name: [
            result(
                NAME,
                f"walk-{name}-seed{seed}",
                lambda n=name, s=seed: walk_run(n, s, epochs),
            )
            for seed in range(seeds)
        ]
        for name in SEEN
    }
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
    rows = []
    for axis, phase in zip(axes, ("joint", "held_out")):
        base = None
        for colour, (name, each) in enumerate(runs.items()):
            curves = np.array([run[phase]["return"] for run in each])
            area = np.nanmean(curves, axis=1)
            base = area if base is None else base
            # Those that never get there count as the whole training.
            there = np.c_[curves >= 1, np.ones(len(curves), bool)].argmax(1)
            rows.append(
                [phase.replace("_", " "), name, cell(area), cell(area - base)]
                + [cell(curves[:, -1]), cell(0.1024 * (there + 1))]
            )
            middle = curves.mean(0)
            axis.plot(steps, middle, f"C{colour}", label=name)
            axis.fill_between(
                steps,
                curves.min(0),
                curves.max(0),
                color=f"C{colour}",
                alpha=0.2,
            )
        axis.set(title=phase.replace("_", " "), xlabel="environment steps")
    axes[0].set(ylabel="mean return")
    axes[0].legend(title="default sees")
    figure.tight_layout()
    figure.savefig(FOLDER / NAME / "walk.png", dpi=100)
    header = ["phase", "default sees", "mean return over training"]
    header += ["paired difference to none", "at the end"]
    print(table([*header, "million steps to a return of 1"], rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--parts",
        nargs="+",
        default=["rooms", "walk"],
        choices=["rooms", "walk"],
    )
    parser.add_argument("--seeds", type=int, help="20 of rooms, 5 of walk")
    parser.add_argument("--epochs", type=int, default=30, help="of walk")
    arguments = parser.parse_args()
    matplotlib.use("Agg")  # not on import: the notebook shows its plots
    (FOLDER / NAME).mkdir(parents=True, exist_ok=True)
    if "rooms" in arguments.parts:
        rooms_part(arguments.seeds or 20)
    if "walk" in arguments.parts:
        walk_part(arguments.seeds or 5, arguments.epochs)


if __name__ == "__main__":
    main()
