"""Three ways to meta-learn, each beside what is optimal.

    python examples/meta_learning.py [--template predictor]
        [--task bernoulli] [--memory lstm] [--steps 6000]

Templates: `predictor` predicts sequences of `--task` by log loss in `fit`;
`thompson` predicts what one who knows the arms of a bandit would pull, and
plays by it; `optimal` learns to play by reinforcement. Prints how far each is
from the exact optimum, and saves a plot.
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
from keras_sparse_rl import layers
from keras_sparse_rl import meta
from keras_sparse_rl.callbacks import BayesRegret

TASKS = {
    "bernoulli": meta.tasks.Bernoulli,
    "dirichlet": meta.tasks.Dirichlet,
    "gaussian": meta.tasks.Gaussian,
    "exponential": meta.tasks.Exponential,
    "piecewise": meta.tasks.Piecewise,
    "markov": meta.tasks.Markov,
}
MEMORIES = ("lstm", "gtrxl", "episodic")
TEMPLATES = ("predictor", "thompson", "optimal")


def memory(name, units, task):
    """A layer from `(batch, time, features)` to `(batch, time, units)`."""
    if name == "gtrxl":
        return layers.GTrXL(
            num_layers=2,
            num_heads=2,
            head_dim=units // 2,
            feedforward_dim=2 * units,
            memory_length=task.length,
            name="memory",
        )
    if name == "episodic":
        features = task[0][0].shape[-1]
        dictionary = layers.EpisodicMemory(task.length, features, units)
        return layers.EpisodicLSTM(
            units, dictionary, write="every_step", name="memory"
        )
    return keras.layers.LSTM(units, return_sequences=True, name="memory")


def sequence_model(task, name="lstm", units=32):
    """A memory between the task's inputs and what is to be predicted."""
    inputs = keras.Input((None, task[0][0].shape[-1]))
    remembered = memory(name, units, task)(inputs)
    outputs = keras.layers.Dense(task.num_outputs, name="head")(remembered)
    return keras.Model(inputs, outputs)


def fit(task, arguments, seed):
    """A model of a task, trained for `arguments.steps`; and its record."""
    keras.utils.set_random_seed(seed)
    model = sequence_model(task, arguments.memory, arguments.units)
    epochs = -(-arguments.steps // task.steps_per_epoch)
    schedule = keras.optimizers.schedules.CosineDecay(
        arguments.learning_rate, epochs * task.steps_per_epoch
    )
    model.compile(
        keras.optimizers.Adam(schedule, global_clipnorm=1.0),
        task.loss,
        jit_compile=arguments.jit_compile and arguments.memory != "episodic",
    )
    regret = BayesRegret(task, num_sequences=arguments.held_out)
    start, cpu = time.perf_counter(), time.process_time()
    history = model.fit(
        task, epochs=epochs, callbacks=[regret], verbose=arguments.verbose
    ).history
    return model, {
        "excess": regret.excess.tolist(),
        "curve": history["bayes_excess"],
        "steps": epochs * task.steps_per_epoch,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
    }


def train_predictor(name, arguments, seed, **task_arguments):
    """Trains a predictor of a task by log loss; what it reached.

    Args:
        name: str, one of `TASKS`.
        arguments: of `parse`.
        seed: int.
        **task_arguments: arguments of the task, such as `length`.
    """
    task = TASKS[name](
        batch_size=arguments.batch_size,
        steps_per_epoch=min(200, arguments.steps),
        seed=seed,
        **task_arguments,
    )
    model, found = fit(task, arguments, seed)
    if arguments.inspect:
        found.update(inspect(task, model, arguments, seed))
    worst = max(found["excess"])
    print(
        f"{name} {arguments.memory} seed {seed}: "
        f"{np.mean(found['excess']):.2e} nats a step above Bayes, "
        f"{worst:.2e} at the worst position, {_times(found)}",
        flush=True,
    )
    return found


def inspect(task, model, arguments, seed):
    """What of the exact posterior is in the model's memory, and vice versa."""
    observations = task.held_out(arguments.held_out)
    reader = keras.Model(model.input, model.get_layer("memory").output)
    states = reader.predict(task.inputs(observations), verbose=0)
    predictor = task.predictor
    bayes_states = predictor.states(observations)
    head = model.get_layer("head")
    similar = meta.state_machine_similarity(
        states,
        bayes_states,
        lambda x: head(x.astype("float32")),
        predictor.outputs,
        task.loss.divergence,
        epochs=arguments.map_epochs,
        seed=seed,
    )
    probe = meta.linear_probe(states, predictor.outputs(bayes_states))
    return {"probe": probe, "similarity": similar._asdict()}


def train_thompson(arguments, seed):
    """Learns what the expert of a bandit would pull; regret in play."""
    task = meta.tasks.BanditExpert(
        batch_size=arguments.batch_size,
        steps_per_epoch=min(200, arguments.steps),
        seed=seed,
    )
    model, found = fit(task, arguments, seed)
    regret = meta.play_bandit(model, episodes=arguments.episodes, seed=seed)
    found.update(_mean_and_error(regret))
    print(
        f"thompson seed {seed}: regret {found['regret']:.3f}, {_times(found)}",
        flush=True,
    )
    return found


class Entropy(agents.LossTerm):
    """Keeps actions random as long as its coefficient is above 0."""

    def loss(self, segment):
        return -agents.action_entropy(segment.distribution)


def make_agent(environment, arguments, seed):
    """An actor-critic whose memory also predicts rewards, if asked to."""
    action_spec = environment.action_spec()
    number = agents.num_action_outputs(action_spec)
    heads = {
        # Even at first; the head that predicts rewards teaches the memory too.
        "policy": keras.layers.Dense(number, kernel_initializer="zeros"),
        "value": keras.layers.Dense(1),
    }
    terms = [
        Entropy(
            keras.optimizers.schedules.PolynomialDecay(
                arguments.entropy,
                max(1, int(0.8 * arguments.steps)),
                arguments.entropy_end,
            )
        )
    ]
    if arguments.prediction:
        heads["reward"] = keras.layers.Dense(number)
        terms.append(
            agents.RewardPredictionTerm(action_spec, arguments.prediction)
        )
    schedule = keras.optimizers.schedules.CosineDecay(
        arguments.learning_rate, arguments.steps, alpha=0.01
    )
    return agents.ActorCriticAgent(
        environment.time_step_spec(),
        action_spec,
        agents.build_model(
            environment.observation_spec(),
            heads,
            core=keras.layers.LSTM(arguments.units),
        ),
        keras.optimizers.Adam(schedule, global_clipnorm=1.0),
        loss_terms=terms,
        discount=arguments.discount,
        trace_decay=arguments.trace_decay,
        entropy_coefficient=0.0,
        seed=seed,
    )


def train_optimal(arguments, seed):
    """Learns to play a bandit by reinforcement; regret in play."""
    keras.utils.set_random_seed(seed)
    bandit = environments.BernoulliBandit(
        batch_size=arguments.batch_size, seed=seed
    )
    environment = environments.WithPreviousActionAndReward(bandit)
    agent = make_agent(environment, arguments, seed)
    epochs = max(1, arguments.steps // 100)
    start, cpu = time.perf_counter(), time.process_time()
    history = agents.train(
        agent,
        environment,
        epochs=epochs,
        steps_per_epoch=-(-arguments.steps // epochs),
        segment_length=bandit.pulls + 1,  # the last reaches the next episode
        callbacks=[BayesRegret(bandit)],
        jit_compile=arguments.jit_compile,
        verbose=arguments.verbose,
        seed=seed,
    ).history
    found = {
        "curve": history["regret"],
        "steps": arguments.steps,
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
    }
    for name, policy in (
        ("", agent.collect_policy),
        ("_greedy", agent.policy),
    ):
        regret = play(policy, arguments.episodes, 1000 + seed)
        found.update({k + name: x for k, x in _mean_and_error(regret).items()})
    print(
        f"optimal seed {seed}: regret {found['regret']:.3f}, greedy "
        f"{found['regret_greedy']:.3f}, the optimum is "
        f"{bandit.optimum.optimal_regret:.3f}, {_times(found)}",
        flush=True,
    )
    return found


def play(policy, episodes, seed):
    """Regret of an agent's policy in episodes of the bandit, an array."""
    bandit = environments.BernoulliBandit(batch_size=episodes, seed=seed)
    environment = environments.WithPreviousActionAndReward(bandit)

    def body(step, carry, state, regret):
        chosen = policy.sample(
            environment.time_step(carry), state, tf.stack([seed, step])
        )
        pays = carry["state"]["environment"]["probability"]
        got = tf.gather(pays, chosen.action, batch_dims=1)
        regret += tf.reduce_max(pays, axis=1) - got
        carry = environment.advance(carry, chosen.action)
        return step + 1, carry, chosen.state, regret

    @tf.function(autograph=False)
    def run():
        return tf.while_loop(
            lambda step, *_: step < bandit.pulls,
            body,
            (
                0,
                environment.start(),
                policy.get_initial_state(episodes),
                tf.zeros((episodes,)),
            ),
        )[-1]

    return run().numpy()


def _times(found):
    return "{seconds:.0f} s ({cpu_seconds:.0f} s of CPU)".format(**found)


def _mean_and_error(regret):
    error = regret.std() / np.sqrt(len(regret))
    return {"regret": float(regret.mean()), "error": float(error)}


def plot_excess(runs, path):
    """Excess over Bayes by position, a line for each run.

    Args:
        runs: dict of label to a result of `train_predictor`.
        path: `pathlib.Path`, or None to leave the figure open.
    """
    figure, axis = plt.subplots(figsize=(6, 4))
    for label, found in runs.items():
        position = np.arange(1, len(found["excess"]) + 1)
        axis.semilogy(position, found["excess"], "o-", ms=3, label=label)
    axis.set(xlabel="position", ylabel="nats above Bayes")
    axis.legend()
    _save(figure, path)


def plot_regret(runs, path, horizon=20):
    """Regret over training, and lines for those who know how to play.

    Args:
        runs: dict of label to a result of `train_optimal`.
        path: `pathlib.Path`, or None to leave the figure open.
        horizon: int.
    """
    figure, axis = plt.subplots(figsize=(6, 4))
    for label, found in runs.items():
        steps = np.linspace(0, found["steps"], len(found["curve"]) + 1)[1:]
        axis.plot(steps, found["curve"], label=label)
    bandit = meta.BanditOptimum(horizon=horizon)
    for number, (label, policy) in enumerate(
        {
            "optimal": bandit.policy,
            "Thompson": meta.thompson_policy,
            "UCB1": meta.ucb1_policy,
        }.items()
    ):
        regret = bandit.best_return - bandit.return_of(policy)
        style = {"ls": "--", "color": str(0.25 * number)}
        axis.axhline(regret, label=label, **style)
    axis.set(xlabel="train step", ylabel="regret of an episode")
    axis.set_ylim(0, 3.5)
    axis.legend()
    _save(figure, path)


def _save(figure, path):
    figure.tight_layout()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=100)
        plt.close(figure)


def parse(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--template", default="predictor", choices=TEMPLATES)
    parser.add_argument("--task", default="bernoulli", choices=list(TASKS))
    parser.add_argument("--memory", default="lstm", choices=MEMORIES)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2000, help="train steps")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--entropy", type=float, default=0.03)
    parser.add_argument("--entropy-end", type=float, default=0.0)
    parser.add_argument("--discount", type=float, default=1.0)
    parser.add_argument("--trace-decay", type=float, default=1.0)
    parser.add_argument(
        "--prediction",
        type=float,
        default=1.0,
        help="weight of the predictive head of `optimal`; 0 for none",
    )
    parser.add_argument("--held-out", type=int, default=2000)
    parser.add_argument("--episodes", type=int, default=20_000)
    parser.add_argument("--map-epochs", type=int, default=20)
    parser.add_argument("--no-inspection", dest="inspect", action="store_false")
    parser.add_argument("--no-jit", dest="jit_compile", action="store_false")
    parser.add_argument("--verbose", type=int, default=2, choices=[0, 1, 2])
    parser.add_argument("--output", default="runs/meta_learning")
    return parser.parse_args(arguments)


def main():
    matplotlib.use("Agg")  # not above: a notebook imports this file
    arguments = parse()
    runs = {}
    for seed in range(arguments.seeds):
        if arguments.template == "predictor":
            found = train_predictor(arguments.task, arguments, seed)
        elif arguments.template == "thompson":
            found = train_thompson(arguments, seed)
        else:
            found = train_optimal(arguments, seed)
        for name in ("probe", "similarity"):
            if name in found:
                print(f"{name}: {found[name]}")
        runs[f"seed {seed}"] = found
    path = pathlib.Path(arguments.output) / f"{arguments.template}.png"
    draw = plot_regret if arguments.template == "optimal" else plot_excess
    draw(runs, path)
    print(f"plot: {path}")


if __name__ == "__main__":
    main()
