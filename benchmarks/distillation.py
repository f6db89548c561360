"""What every distillation update is: exact checks in small processes.

Tables of gradient fields, unbiased estimators, clones, variance by number of
actions, and the process in which one update cycles for ever. Speed and
imperfect teachers in grid worlds: `benchmarks.distillation_grid_worlds`.

    python -m benchmarks.distillation
"""

import dataclasses

import keras
import matplotlib
import numpy as np
import tensorflow as tf
from scipy import integrate

from benchmarks import tabular
from benchmarks.results import FOLDER
from benchmarks.results import cell
from benchmarks.results import result
from benchmarks.results import table
from keras_sparse_rl.losses import DistillationVariant
from keras_sparse_rl.losses import distillation_loss
from keras_sparse_rl.losses import policy_cross_entropy
from keras_sparse_rl.losses import policy_entropy
from keras_sparse_rl.losses import vtrace

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

NAME = "distillation"
PLAIN = (
    "teacher",
    "entropy_regularized",
    "n_distill",
    "expected_entropy",
    "expected_kl",
    "teacher_value",
    "on_policy",
    "td_teacher_value",
    "value_gated",
)
REWARDED = ("n_distill", "expected_entropy", "expected_kl", "on_policy")
CLONES = ("teacher", "on_policy", "expected_kl", "n_distill")


def with_reward(name):
    """A variant in which the environment's reward counts too."""
    return dataclasses.replace(
        DistillationVariant.named(name), environment_reward=True
    )


UPDATES = {
    "reinforcement learning": None,
    **{name: DistillationVariant.named(name) for name in PLAIN},
    **{f"{name} + reward": with_reward(name) for name in REWARDED},
}


def case(seed, **sizes):
    """A process, a student's logits and a teacher's."""
    mdp = tabular.random_mdp(seed, **sizes)
    generator = np.random.default_rng(seed)
    student = generator.normal(size=mdp.shape)
    teacher = 2.0 * generator.normal(size=mdp.shape)
    return mdp, tf.constant(student), tf.constant(teacher)


def gate_differs(mdp, student, teacher):
    """Whether the teacher is better in some states and worse in others."""
    own, theirs = (
        tabular.state_values(mdp, tf.nn.softmax(logits)).numpy()
        for logits in (student, teacher)
    )
    return 0 < np.sum(theirs > own) < len(own)


def fields(number):
    """Asymmetry of every update's Jacobian over random processes."""
    found = {}
    for name, variant in UPDATES.items():
        measure = tabular.asymmetry(variant)
        figures, seed = [], 0
        while len(figures) < number:
            each = case(seed)
            seed += 1
            if name != "value_gated" or gate_differs(*each):
                figures.append(measure(*each))
        found[name] = figures
        print(f"{name}: {min(figures):.1e} to {max(figures):.1e}", flush=True)
    return found


def sample(mdp, behaviour, number, generator):
    """Whole episodes: states and actions `(number, time + 1)`, and ends."""
    states = mdp.shape[0]
    transition = mdp.transition.numpy().cumsum(-1)
    start = mdp.start.numpy().cumsum()
    draws = generator.random(number)
    state = np.minimum((draws[:, None] > start).sum(-1), states - 1)
    cumulated = behaviour.cumsum(-1)
    alive = np.ones(number, bool)
    steps = {"state": [], "action": [], "alive": [], "next": []}
    while alive.any():
        draws = generator.random((2, number))
        action = (draws[0][:, None] > cumulated[state]).sum(-1)
        action = np.minimum(action, mdp.shape[1] - 1)
        reached = (draws[1][:, None] > transition[state, action]).sum(-1)
        reached = np.minimum(reached, states)
        for key, value in (
            ("state", state),
            ("action", action),
            ("alive", alive),
            ("next", reached),
        ):
            steps[key].append(value)
        alive = alive & (reached < states)
        state = np.where(alive, reached, 0)
    return {key: np.stack(value, axis=1) for key, value in steps.items()}


def sampled_updates(mdp, variant, student, teacher, number, seed, value=None):
    """One update an episode, `(number, states, actions)`, by the library.

    `value`: `(states,)`, makes advantages of one step instead of whole
    returns.
    """
    generator = np.random.default_rng(seed)
    student_policy = tf.nn.softmax(student).numpy()
    teacher_policy = tf.nn.softmax(teacher).numpy()
    share = 0.0 if variant is None else variant.teacher_share
    behaviour = share * teacher_policy + (1 - share) * student_policy
    episodes = sample(mdp, behaviour, number, generator)
    state, action, reached = (
        episodes[key] for key in ("state", "action", "next")
    )
    alive = tf.constant(episodes["alive"], tf.float64)
    ends = reached == mdp.shape[0]
    every_state = np.concatenate([state, np.where(ends, 0, reached)[:, -1:]], 1)
    discount_t = tf.constant(1.0 - ends)
    reward_t = tf.gather_nd(
        mdp.reward, np.stack([state, action, reached], axis=-1)
    )
    values = [
        tf.gather(tabular.state_values(mdp, tf.constant(p)), every_state)
        for p in (student_policy, teacher_policy)
    ]
    # Each episode has logits of its own, whose gradient is its update.
    logits = tf.tile(student[tf.newaxis], (number, 1, 1))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        policy = tf.gather(logits, every_state, batch_dims=1)
        chosen = tf.gather(
            tf.nn.log_softmax(policy[:, :-1]), action, batch_dims=2
        )
        total = tf.zeros((), tf.float64)
        rewards, advantage = tf.zeros_like(reward_t), None
        if variant is None or variant.environment_reward:
            rewards += reward_t
        if variant is not None:
            found = distillation_loss(
                variant,
                policy,
                tf.gather(teacher, every_state),
                action,
                discount_t,
                reward_t,
                *values,
            )
            advantage = found.advantage_tm1
            if found.loss_tm1 is not None:
                total += tf.reduce_sum(found.loss_tm1 * alive)
            if found.reward_t is not None:
                rewards += tf.stop_gradient(found.reward_t)
        if advantage is None:
            table = np.zeros(mdp.shape[0]) if value is None else value
            v = tf.constant(table[every_state]) * tf.pad(
                alive, [[0, 0], [0, 1]], constant_values=1.0
            )
            advantage = vtrace(
                v[:, :-1],
                v[:, 1:],
                rewards * alive,
                discount_t * alive,
                tf.ones_like(rewards),
                lambda_=1.0 if value is None else 0.0,
            ).advantage_tm1
        total -= tf.reduce_sum(tf.stop_gradient(advantage) * chosen * alive)
    return tape.gradient(total, logits).numpy()


def estimators(processes, number, chunk=10_000):
    """Share of coordinates within 3 standard errors of the exact update."""
    found = {}
    for name, variant in UPDATES.items():
        if variant is not None and variant.teacher_share == 1:
            if variant.has_return:
                continue
        inside = []
        for seed in range(processes):
            mdp, student, teacher = case(seed, end_probability=0.2)
            exact = tabular.expected_update(
                mdp, variant, student, teacher
            ).numpy()
            sums = squares = 0.0
            for part in range(number // chunk):
                updates = sampled_updates(
                    mdp, variant, student, teacher, chunk, 1000 * seed + part
                )
                sums = sums + updates.sum(0)
                squares = squares + (updates**2).sum(0)
            mean = sums / number
            error = np.sqrt((squares / number - mean**2) / number)
            inside += (
                (np.abs(mean - exact) <= 3 * error + 1e-12).ravel().tolist()
            )
        found[name] = float(np.mean(inside))
        print(f"{name}: {found[name]:.2%} within 3 errors", flush=True)
    return found


def clones(number, steps=3000):
    """Distance to the teacher at the end of the exact flow, and entropies."""
    found = {}
    for name in (*CLONES, "expected_entropy"):
        distances, entropies = [], []

        @tf.function
        def step(transition, reward, start, theta, teacher, name=name):
            mdp = tabular.MDP(transition, reward, start)
            update = tabular.expected_update(mdp, name, theta, teacher)
            visits = tabular.occupancy(mdp, tf.nn.softmax(theta))
            return theta - update / visits[:, tf.newaxis]

        for seed in range(number):
            mdp, student, teacher = case(seed, end_probability=0.2)
            teacher /= 2.0
            tables = (mdp.transition, mdp.reward, mdp.start)
            for _ in range(steps):
                student = step(*tables, student, teacher)
            gap = tf.nn.softmax(student) - tf.nn.softmax(teacher)
            distances.append(float(0.5 * np.abs(gap).sum(-1).max()))
            entropies.append(float(np.mean(policy_entropy(student[None]))))
        found[name] = {"distance": distances, "entropy": entropies}
        print(f"{name}: {max(distances):.1e}", flush=True)
    return found


def layered_case(seed, actions, horizon=10, width=3):
    """Episodes of a fixed length through layers of `width` states."""
    generator = np.random.default_rng(seed)
    states = horizon * width
    transition = np.zeros((states, actions, states + 1))
    for layer in range(horizon):
        rows = slice(layer * width, (layer + 1) * width)
        if layer == horizon - 1:
            transition[rows, :, -1] = 1.0
            continue
        following = slice((layer + 1) * width, (layer + 2) * width)
        transition[rows, :, following] = generator.dirichlet(
            np.ones(width), (width, actions)
        )
    start = np.zeros(states)
    start[:width] = 1 / width
    mdp = tabular.MDP(
        *map(tf.constant, (transition, np.zeros_like(transition), start))
    )
    student = generator.normal(size=mdp.shape)
    teacher = 2.0 * generator.normal(size=mdp.shape)
    return mdp, tf.constant(student), tf.constant(teacher)


def pseudo_rewards(mdp, variant, student, teacher):
    """What each transition pays, `(states, actions, states + 1)`."""
    if variant.reward == "log_probability":
        log_probability = np.array(tf.nn.log_softmax(teacher))
        return log_probability[..., np.newaxis] + 0.0 * mdp.reward.numpy()
    loss = policy_cross_entropy(student[None], teacher[None])[0]
    return -np.append(loss, 0.0) + 0.0 * mdp.reward.numpy()


def pseudo_returns(mdp, variant, student, teacher):
    """Exact value `(states,)` of a variant's pseudo-rewards."""
    reward = pseudo_rewards(mdp, variant, student, teacher)
    policy = tf.nn.softmax(student)
    quality = tabular.action_values(mdp, policy, tf.constant(reward))
    return tf.einsum("sa,sa->s", policy, quality).numpy()


def fitted_returns(mdp, variant, student, teacher, number, seed):
    """The same by a Keras network, from the returns of sampled episodes."""
    policy = tf.nn.softmax(student).numpy()
    episodes = sample(mdp, policy, number, np.random.default_rng(seed))
    reward = pseudo_rewards(mdp, variant, student, teacher)
    index = (episodes["state"], episodes["action"], episodes["next"])
    rewards = reward[index] * episodes["alive"]
    returns = rewards[:, ::-1].cumsum(1)[:, ::-1]
    model = keras.Sequential(
        [
            keras.Input((), dtype="int32"),
            keras.layers.Embedding(mdp.shape[0], 32),
            keras.layers.Dense(32, "relu"),
            keras.layers.Dense(1),
        ]
    )
    shift, scale = returns.mean(), returns.std()
    model.compile(keras.optimizers.Adam(3e-3), "mse")
    model.fit(
        episodes["state"][episodes["alive"]],
        ((returns - shift) / scale)[episodes["alive"]],
        256,
        epochs=5,
        verbose=0,
    )
    found = model.predict(np.arange(mdp.shape[0]), verbose=0)
    return shift + scale * found[:, 0].astype(float)


def variance(seed, number=500):
    """Variance of entropy regularized over that of expected entropy.

    Returns:
        Dict of critic to list of ratios, one for each number of actions.
    """
    names = ("entropy_regularized", "expected_entropy")
    found = {"exact": [], "fitted": [], "Monte Carlo": []}
    for actions in ACTIONS:
        keras.utils.set_random_seed(seed)
        mdp, student, teacher = layered_case(seed, actions)
        traces = {critic: [] for critic in found}
        for name in names:
            variant = DistillationVariant.named(name)
            inputs = (mdp, variant, student, teacher)
            for critic, value in (
                ("exact", pseudo_returns(*inputs)),
                ("fitted", fitted_returns(*inputs, 4000, seed)),
                ("Monte Carlo", None),
            ):
                updates = sampled_updates(*inputs, number, seed, value)
                traces[critic].append(updates.var(0).sum())
        for critic, (plain, expected) in traces.items():
            found[critic].append(float(plain / expected))
        print(
            f"{actions} actions: " + str({k: v[-1] for k, v in found.items()})
        )
    return found


ACTIONS = (4, 16, 64, 250, 1000)


def limit_cycle():
    """The process in which on-policy distillation with reward never settles.

    Four states, two actions, and two parameters that all states share; found
    by search among random processes whose origin is an unstable focus.

    Returns:
        Tuple of the `tabular.MDP`, the teacher's logits and the features.
    """
    with np.load(FOLDER.parent / "limit_cycle.npz") as file:
        tables = {name: file[name] for name in file.files}
    move = tables["transition"]
    mdp = tabular.MDP(
        *map(
            tf.constant,
            (
                np.concatenate([move, 1 - move.sum(-1, keepdims=True)], -1),
                np.repeat(tables["reward"][..., np.newaxis], 5, axis=-1),
                tables["start"],
            ),
        )
    )
    share = tables["teacher"]
    teacher = np.log(np.stack([1 - share, share], axis=-1))
    features = np.zeros((2, *mdp.shape))
    features[:, :, 1] = tables["features"].T
    return mdp, tf.constant(teacher), features


def cycle(time=3000.0):
    """Where the exact flow goes in that process, by variant.

    Returns:
        Dict of variant to dict of `path`, `periods` and `speed` at the end.
    """
    mdp, teacher, features = limit_cycle()
    found = {}
    for name in ("on_policy", "n_distill", "expected_entropy", "expected_kl"):
        variant = with_reward(name)

        @tf.function(input_signature=[tf.TensorSpec((2,), tf.float64)])
        def update(theta, variant=variant):
            return tabular.expected_update(
                mdp, variant, theta, teacher, features
            )

        def crossing(time, x):
            return x[1]

        crossing.direction = 1
        flow = integrate.solve_ivp(
            lambda _, x, update=update: -update(tf.constant(x)).numpy(),
            (0, time),
            [1e-2, 0.0],
            method="DOP853",
            rtol=1e-10,
            atol=1e-12,
            events=crossing,
        )
        times = flow.t_events[0]
        end = tf.constant(flow.y[:, -1])
        found[name] = {
            "path": flow.y[:, -4000:].tolist(),
            "periods": np.diff(times[times > time / 2]).tolist(),
            "speed": float(tf.norm(update(end))),
        }
        print(f"{name} + reward: |g| = {found[name]['speed']:.1e}", flush=True)
    return found


def main():
    found = {
        "fields": result(NAME, "fields", lambda: fields(100)),
        "estimators": result(
            NAME, "estimators", lambda: estimators(10, 100_000)
        ),
        "clones": result(NAME, "clones", lambda: clones(20)),
        "cycle": result(NAME, "cycle", cycle),
        "variance": [
            result(NAME, f"variance-seed{seed}", lambda s=seed: variance(s))
            for seed in range(5)
        ],
    }
    report(found)
    plot(found)


def report(found):
    rows = [
        [name, f"{min(figures):.1e}", f"{max(figures):.1e}"]
        for name, figures in found["fields"].items()
    ]
    print("\nAsymmetry of the Jacobian, 100 random processes\n")
    print(table(["update", "least", "most"], rows))
    print("\nSampled updates within 3 standard errors of the exact ones\n")
    rows = [[n, f"{share:.2%}"] for n, share in found["estimators"].items()]
    print(table(["update", "coordinates"], rows))
    rows = [
        [name, f"{max(f['distance']):.1e}", f"{np.mean(f['entropy']):.3f}"]
        for name, f in found["clones"].items()
    ]
    print("\nAt the end of the exact flow, 20 teachers\n")
    print(table(["update", "largest total variation", "mean entropy"], rows))
    rows = [
        [
            f"{name} + reward",
            f"{np.mean(f['periods']):.3f} ({np.std(f['periods']):.1e}) "
            f"over {len(f['periods'])}"
            if name == "on_policy"
            else "-",
            f"{f['speed']:.1e}",
        ]
        for name, f in found["cycle"].items()
    ]
    print("\nThe process with shared parameters\n")
    print(table(["update", "period (deviation)", "size of update"], rows))
    print("\nVariance: entropy regularized over expected entropy, 5 seeds\n")
    rows = [
        [critic, *(cell(column, 1) for column in zip(*ratios, strict=True))]
        for critic in ("exact", "fitted", "Monte Carlo")
        for ratios in [[each[critic] for each in found["variance"]]]
    ]
    print(table(["critic", *(f"{a} actions" for a in ACTIONS)], rows))


def plot(found):
    _, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
    for name, style in (("on_policy", "-"), ("n_distill", "o")):
        path = np.array(found["cycle"][name]["path"])
        shown = path if style == "-" else path[:, -1:]
        left.plot(*shown, style, label=f"{name} + reward")
    left.set(title="A process with shared parameters", xlabel="first parameter")
    left.set_ylabel("second parameter")
    left.legend()
    for critic in ("exact", "fitted", "Monte Carlo"):
        ratios = [each[critic] for each in found["variance"]]
        right.loglog(ACTIONS, np.mean(ratios, axis=0), "o-", label=critic)
    right.set(title="Variance, entropy regularized over expected")
    right.set_xlabel("actions")
    right.legend(title="critic")
    plt.tight_layout()
    path = FOLDER / NAME / "distillation.png"
    plt.savefig(path, dpi=120)
    print(f"\nplot: {path}")


if __name__ == "__main__":
    main()
