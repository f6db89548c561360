"""Agents that know a context when they meet it again.

    python examples/episodic_recall.py [--task barcode]
        [--memories episodic lstm] [--steps 3000] [--folder OMNIGLOT]

Tasks: `barcode`, `compositional` and `omniglot` bandits (the last needs
Omniglot's images, `--folder`), `maze` (a hidden platform) and `two_step`.
Trains an LSTM with episodic memory and one without, prints the regret (or the
probability to stay) and saves a plot.
"""

import argparse
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from keras_sparse_rl import agents
from keras_sparse_rl import environments
from keras_sparse_rl.layers import EpisodicLSTM
from keras_sparse_rl.layers import EpisodicMemory

TASKS = ("barcode", "compositional", "omniglot", "maze", "two_step")
NEW = range(200, 292)  # characters of tasks; the others train the embedding


def make(task, copies, seed, folder=None, **arguments):
    """The environment of a task with what the agent did and got; the task."""
    create = {
        "barcode": environments.BarcodeBandit,
        "compositional": environments.CompositionalBandit,
        "omniglot": environments.OmniglotBandit,
        "maze": environments.WaterMaze,
        "two_step": environments.TwoStep,
    }[task]
    if task == "omniglot":
        if folder is None:
            raise SystemExit("The omniglot task needs --folder, its images.")
        arguments = {"folder": folder, "characters": NEW, **arguments}
    made = create(batch_size=copies, seed=seed, **arguments)
    return environments.WithPreviousActionAndReward(made), made


def embedding(folder, epochs=20, dim=24):
    """A network that tells characters apart, from the images to `dim` numbers.

    Trained to name the characters that no task shows.
    """
    images = environments.load_omniglot(folder)[: NEW.start]
    kinds, drawings = images.shape[:2]
    x = images.reshape(-1, 28, 28, 1).astype("float32") / 255
    inputs = keras.Input((28, 28, 1))
    y = keras.layers.RandomTranslation(0.1, 0.1)(inputs)
    network = keras.Sequential(
        [
            keras.layers.Conv2D(8, 3, 2, "same", activation="relu"),
            keras.layers.Conv2D(16, 3, 2, "same", activation="relu"),
            keras.layers.Conv2D(32, 3, 2, "same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(dim),
            keras.layers.UnitNormalization(),
        ]
    )
    logits = keras.layers.Dense(kinds)(keras.layers.Rescaling(8.0)(network(y)))
    model = keras.Model(inputs, logits)
    model.compile(
        keras.optimizers.Adam(3e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    names = np.repeat(np.arange(kinds), drawings)
    model.fit(x, names, batch_size=64, epochs=epochs, verbose=0)
    network.trainable = False
    return network


def make_torso(environment, embed):
    """Features and context of an observation whose context is an image."""
    inputs = _named_inputs(environment.observation_spec())
    code = embed(inputs["observation"]["context"])
    reward = keras.layers.Reshape((1,))(inputs["previous_reward"])
    parts = [code, inputs["previous_action"], reward]
    features = keras.layers.Concatenate()(parts)
    return keras.Model(inputs, {"features": features, "context": code})


def _named_inputs(specs):
    return {
        name: _named_inputs(spec)
        if isinstance(spec, dict)
        else keras.Input(spec.shape, dtype=spec.dtype.name, name=name)
        for name, spec in specs.items()
    }


def memory(name, task, key_dim, units):
    """An LSTM with episodic memory, or a plain one."""
    if name == "lstm":
        return keras.layers.LSTM(units)
    dictionary = EpisodicMemory(100, key_dim, value_dim=units)
    write = "signal" if task == "two_step" else "episode_end"
    return EpisodicLSTM(units, dictionary, write, return_state=True)


def make_agent(name, task, environment, arguments, seed):
    """An agent that learns for `arguments.steps` train steps."""
    torso = None
    key_dim = environment.observation_spec()["observation"]["context"].shape[0]
    if task == "omniglot":
        embed = embedding(arguments.folder, arguments.embedding_epochs)
        torso = make_torso(environment, embed)
        key_dim = torso.output["context"].shape[-1]
    core = memory(name, task, key_dim, arguments.units)
    if torso is not None and name == "lstm":
        torso = keras.Model(torso.input, torso.output["features"])
    schedule = keras.optimizers.schedules.CosineDecay(
        arguments.learning_rate, arguments.steps, alpha=0.02
    )
    return agents.ActorCriticAgent(
        environment.time_step_spec(),
        environment.action_spec(),
        agents.actor_critic_model(
            environment.observation_spec(),
            environment.action_spec(),
            torso=torso,
            core=core,
            policy_head_stddev=arguments.policy_head_stddev,
        ),
        keras.optimizers.Adam(schedule, global_clipnorm=1.0),
        discount=arguments.discount,
        trace_decay=arguments.trace_decay,
        entropy_coefficient=arguments.entropy,
        seed=seed,
    )


class RegretByExposure:
    """Mean regret of a policy's episodes by how often their context was met.

    Args:
        policy: policy of an agent, such as `agent.collect_policy`.
        environment: `ContextualTask` in `WithPreviousActionAndReward`.
        task: that `ContextualTask`.
        jit_compile: bool.
    """

    def __init__(self, policy, environment, task, jit_compile=False):
        self._policy, self._environment = policy, environment
        self._task = task
        self._run = tf.function(
            self._sums, jit_compile=jit_compile, autograph=False
        )

    def __call__(self, seed=0):
        """float64 array of one regret for each exposure."""
        task = self._task
        number = task.batch_size * task.num_contexts
        return task.best_return - self._run(seed).numpy() / number

    def _sums(self, seed):
        task, environment = self._task, self._environment
        carry = environment.start(seed)
        state = self._policy.get_initial_state(task.batch_size)

        def body(i, carry, state, sums):
            exposure = task.exposure(carry["state"]["environment"])
            chosen = self._policy.sample(
                environment.time_step(carry), state, tf.stack([seed, i])
            )
            carry = environment.advance(carry, chosen.action)
            reward = tf.expand_dims(carry["reward"], -1)
            at = tf.one_hot(exposure, task.exposures)
            sums += tf.reduce_sum(at * reward, axis=0)
            return i + 1, carry, chosen.state, sums

        steps = task.episodes * (task.steps + 1)
        return tf.while_loop(
            lambda i, *_: i < steps,
            body,
            (0, carry, state, tf.zeros((task.exposures,))),
        )[-1]


class StayProbabilities:
    """How often a policy repeats an action, by what came of it.

    Args:
        policy: policy of an agent, such as `agent.collect_policy`.
        environment: `TwoStep` in `WithPreviousActionAndReward`.
        task: that `TwoStep`.
        jit_compile: bool.
    """

    def __init__(self, policy, environment, task, jit_compile=False):
        self._policy, self._environment = policy, environment
        self._task = task
        self._run = tf.function(
            self._record, jit_compile=jit_compile, autograph=False
        )

    def __call__(self, seed=0):
        """Dict of shares to stay, and of the mean reward of cued trials.

        `cued` and `uncued` are `[[common rewarded, common not], [rare
        rewarded, rare not]]`: of the action that the cue brings back, and of
        the last trial's action.
        """
        record = {k: v.numpy() for k, v in self._run(seed).items()}
        actions, outcomes = record["actions"], record["outcomes"]
        rewards, half = record["rewards"], actions.shape[1] // 2
        before = [
            np.take_along_axis(x, record["cued"], axis=1)
            for x in (actions, outcomes, rewards)
        ]
        last = [x[:, : half - 1] for x in (actions, outcomes, rewards)]
        return {
            "cued": _stayed(actions[:, half:], *before),
            "uncued": _stayed(actions[:, 1:half], *last),
            "reward": float(rewards[:, half:].mean()),
        }

    def _record(self, seed):
        environment = self._environment
        carry = environment.start(seed)
        state = self._policy.get_initial_state(environment.batch_size)

        def body(i, carry, state):
            chosen = self._policy.sample(
                environment.time_step(carry), state, tf.stack([seed, i])
            )
            return (
                i + 1,
                environment.advance(carry, chosen.action),
                chosen.state,
            )

        steps = 2 * self._task.trials
        _, carry, _ = tf.while_loop(
            lambda i, *_: i < steps, body, (0, carry, state)
        )
        return carry["state"]["environment"]


def _stayed(actions, before, outcomes, rewards):
    same = actions == before
    return [
        [
            float(
                same[
                    ((outcomes == before) == common) & (rewards == rewarded)
                ].mean()
            )
            for rewarded in (1, 0)
        ]
        for common in (True, False)
    ]


def train(task, name, arguments, seed, **task_arguments):
    """Trains one agent; what it reached, and its curve of returns."""
    keras.utils.set_random_seed(seed)
    task_arguments["folder"] = arguments.folder
    environment, made = make(task, arguments.copies, seed, **task_arguments)
    agent = make_agent(name, task, environment, arguments, seed)
    start, cpu = time.perf_counter(), time.process_time()
    epochs = max(1, arguments.steps // 100)
    history = agents.train(
        agent,
        environment,
        epochs=epochs,
        steps_per_epoch=-(-arguments.steps // epochs),
        segment_length=40 if task == "two_step" else made.steps + 1,
        jit_compile=arguments.steps > 100,
        verbose=arguments.verbose,
        seed=seed,
    ).history
    found = {
        "returns": history["return"],
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
    }
    found.update(
        measure(task, agent.collect_policy, arguments, seed, task_arguments)
    )
    if name == "episodic":
        shut_the_gate(agent.model)
        shut = measure(
            task, agent.collect_policy, arguments, seed, task_arguments
        )
        found.update({f"{key}_gate_shut": x for key, x in shut.items()})
    print(f"{task} {name} seed {seed}: {_said(found)}", flush=True)
    return found


def measure(task, policy, arguments, seed, task_arguments):
    """Regret by exposure, or stay probabilities, on tasks never seen."""
    environment, made = make(
        task, arguments.evaluation_copies, 1000 + seed, **task_arguments
    )
    if task == "two_step":
        return StayProbabilities(policy, environment, made)()
    regret = RegretByExposure(policy, environment, made)()
    return {"regret": regret.tolist()}


def shut_the_gate(model):
    """Sets the reinstatement gate of a model's core to 0, for good."""
    core = next(x for x in model.layers if isinstance(x, EpisodicLSTM))
    kernel, bias, recurrent = core.get_weights()
    units = core.units
    kernel[:, -units:] = recurrent[:, -units:] = 0
    bias[-units:] = -60
    core.set_weights([kernel, bias, recurrent])


def _said(found):
    if "cued" in found:
        return f"reward of cued trials {found['reward']:.2f}"
    regret = np.array(found["regret"])
    each = " ".join(f"{x:.2f}" for x in regret)
    return f"regret {regret.sum():.2f} in all, by exposure {each}"


def plot(task, runs, path):
    """A line of regret or a group of bars for each memory."""
    figure, axis = plt.subplots(figsize=(6, 4))
    for number, (name, found) in enumerate(runs.items()):
        if task == "two_step":
            cued = np.mean([run["cued"] for run in found], axis=0).ravel()
            place = np.arange(4) + 0.8 * number / len(runs)
            axis.bar(place, cued, 0.8 / len(runs), label=name)
            continue
        regret = np.array([run["regret"] for run in found])
        exposure = np.arange(1, regret.shape[1] + 1)
        axis.plot(exposure, regret.mean(0), f"C{number}o-", label=name)
        for row in regret if len(regret) > 1 else ():
            axis.plot(exposure, row, f"C{number}", alpha=0.3)
    if task == "two_step":
        kinds = [f"{a}\n{b}" for a in KINDS[0] for b in KINDS[1]]
        axis.set_xticks(np.arange(4) + 0.3, kinds)
        axis.set(ylabel="repeats the action that the cue brings back")
    else:
        axis.set(xlabel="exposure", ylabel="regret of an episode")
        axis.set_ylim(bottom=0)
    axis.set_title(task)
    axis.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


KINDS = ("common", "rare"), ("rewarded", "not rewarded")


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", default="barcode", choices=TASKS)
    parser.add_argument(
        "--memories",
        nargs="+",
        default=["episodic", "lstm"],
        choices=["episodic", "lstm"],
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folder", help="of Omniglot's images")
    parser.add_argument("--steps", type=int, default=3000, help="train steps")
    parser.add_argument("--copies", type=int, default=128)
    parser.add_argument("--evaluation-copies", type=int, default=256)
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=5e-3)
    parser.add_argument("--entropy", type=float, default=0.005)
    parser.add_argument(
        "--policy-head-stddev",
        type=float,
        help="as in agents.actor_critic_model",
    )
    parser.add_argument("--discount", type=float, default=0.9)
    parser.add_argument("--trace-decay", type=float, default=1.0)
    parser.add_argument("--embedding-epochs", type=int, default=20)
    parser.add_argument("--verbose", type=int, default=2, choices=[0, 1, 2])
    parser.add_argument("--output", default="runs/episodic_recall")
    return parser.parse_args(arguments)


def main():
    matplotlib.use("Agg")  # not above: a notebook imports this file
    arguments = parse()
    runs = {
        name: [
            train(arguments.task, name, arguments, seed)
            for seed in range(arguments.seeds)
        ]
        for name in arguments.memories
    }
    path = pathlib.Path(arguments.output) / f"{arguments.task}.png"
    plot(arguments.task, runs, path)
    print(f"plot: {path}")


if __name__ == "__main__":
    main()
