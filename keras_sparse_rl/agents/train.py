import collections
import math
import warnings

import keras

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.agents.actor_critic_agent import ActorCriticAgent
from keras_sparse_rl.agents.evaluate import Evaluator
from keras_sparse_rl.agents.in_graph_collector import InGraphCollector
from keras_sparse_rl.agents.python_collector import PythonCollector
from keras_sparse_rl.agents.remote_collectors import RemoteCollectors
from keras_sparse_rl.agents.train_checks import check_callbacks
from keras_sparse_rl.agents.train_checks import check_environment
from keras_sparse_rl.agents.training_run import TrainingRun
from keras_sparse_rl.environments import InGraphEnvironment


def train(
    agent,
    environment,
    epochs=10,
    steps_per_epoch=100,
    segment_length=32,
    evaluation_environment=None,
    evaluation_episodes=20,
    callbacks=None,
    checkpoint_directory=None,
    jit_compile=False,
    verbose=1,
    seed=0,
    collectors=0,
):
    """Trains an agent: collect, learn, evaluate, with Keras' callbacks.

    One step collects a segment from every copy of the environment and learns
    from it once; with an `InGraphEnvironment` both happen inside one
    `tf.function`. An epoch is what lies between two evaluations and
    checkpoints. Callbacks are driven as by `fit`, with `agent.model`, but for
    those that make the train step of `fit`, such as `GradientCosine`. As in
    `fit`, AutoGraph does not rewrite what is compiled: where a loss term or an
    environment decides by a tensor's value it needs `tf.where` or `tf.cond`.

    Args:
        agent: `ActorCriticAgent`.
        environment: `environments.InGraphEnvironment`,
            `environments.GymnasiumEnvironment`, or another TF-Agents
            environment.
        epochs: int, last epoch.
        steps_per_epoch: int, train steps of an epoch.
        segment_length: int, environment steps of each copy in a train step.
            Gradients go back no further: what a recurrent memory is to keep
            has to be seen and used within one segment, most times.
        evaluation_environment: environment to evaluate `agent.policy` in
            after each epoch. None for no evaluation. Not the one that is
            trained in: it is reset.
        evaluation_episodes: int.
        callbacks: list of `keras.callbacks.Callback`.
        checkpoint_directory: path. A checkpoint is written after each epoch
            and its callbacks, and training goes on from the last one found
            there. With in-graph environments it then equals uninterrupted
            training bit for bit; other environments, and `collectors`, start
            new episodes. A learning rate other than the one that the run was
            begun with counts from then on.
        jit_compile: bool, whether XLA compiles acting and learning: 10 to 20
            seconds once, then two to three times as fast with a memory. All
            that the agent does must then be possible in XLA.
        verbose: 0 silent, 1 progress bar, 2 a line an epoch.
        seed: int, of the actions.
        collectors: int. 0 collects in this process. N > 0: N processes of Ray
            (the extra `ray`), on one machine or the cluster that `ray.init`
            has joined, collect while this one learns. Each has an environment
            of its own and gets weights before each segment, and a train step
            learns from the N segments that are ready first, a batch of N
            times `environment.batch_size`: to train as with `collectors=0`,
            give an environment of an N-th of the copies. V-trace corrects
            that the weights are about one train step old (older from a slow
            process). One that dies is replaced, the others go on. Who is
            ready first comes first, so that two runs differ.
            Environments that are none in TensorFlow must be picklable, and
            have a method `seed`, lest all play the same episodes.

    Returns:
        `keras.callbacks.History`; keys of its `history`: `return` (mean
        return of the episodes that ended in the epoch), `episodes`, `loss`,
        each loss term, `reward_<name>` of terms with a reward,
        `gradient_norm`, `cosine_<name>` and `weight_<name>` of terms with a
        gate, with collectors `lag` (mean age of their weights in train
        steps), and with evaluation `evaluation_return`, `evaluation_low` and
        `evaluation_high` (95 % interval).

    Raises:
        ImportError: if there are collectors and Ray is not installed.
        ValueError: if environment and agent do not fit, a number is out of
            range, a callback works in `fit` alone, the checkpoints are those
            of another agent, or the environment cannot be copied to
            collectors.
        RuntimeError: if collectors die again and again.
        FloatingPointError: if a loss or gradient is not finite; names step
            and loss term. The weights are those before that step. Also if an
            observation from Python is not finite, where no action can then
            be drawn.

    Example:

    >>> import keras
    >>> from keras_sparse_rl import agents, environments
    >>> environment = environments.TMaze(length=3, batch_size=4)
    >>> agent = agents.ActorCriticAgent(
    ...     environment.time_step_spec(), environment.action_spec(),
    ...     agents.actor_critic_model(
    ...         environment.observation_spec(), environment.action_spec()),
    ...     keras.optimizers.Adam(1e-3))
    >>> history = agents.train(agent, environment, epochs=2,
    ...                        steps_per_epoch=2, verbose=0)
    >>> len(history.history["loss"])
    2
    """
    for name, value in (
        ("epochs", epochs),
        ("steps_per_epoch", steps_per_epoch),
        ("segment_length", segment_length),
    ):
        check_integer(name, value)
    check_integer("seed", seed, minimum=0)
    check_integer("collectors", collectors, minimum=0)
    if not isinstance(agent, ActorCriticAgent):
        raise ValueError(
            "`agent` must be a keras_sparse_rl.agents.ActorCriticAgent. "
            f"Received: {type(agent)}. TF-Agents' own agents are trained by "
            "their drivers and learners."
        )
    check_callbacks(callbacks)
    environment = check_environment("environment", environment, agent)
    evaluator = None
    if evaluation_environment is not None:
        if evaluation_environment is environment:
            raise ValueError(
                "`evaluation_environment` must be another object than "
                "`environment`: evaluation resets it. Make a second one."
            )
        evaluator = Evaluator(
            agent.policy,
            check_environment(
                "evaluation_environment", evaluation_environment, agent
            ),
            evaluation_episodes,
            jit_compile=jit_compile,
        )
    common = agent.collect_policy, environment, segment_length, seed
    if collectors:
        collector = RemoteCollectors(*common, collectors, jit_compile)
    elif isinstance(environment, InGraphEnvironment):
        collector = InGraphCollector(*common, jit_compile)
    else:
        collector = PythonCollector(*common, jit_compile)
    run = TrainingRun(agent, collector, environment, checkpoint_directory)
    if int(run.epoch) >= epochs:
        warnings.warn(
            f"Nothing is trained: `epochs`={epochs} is the last epoch, and the "
            f"run found in `checkpoint_directory`={str(checkpoint_directory)!r}"
            f" has reached epoch {int(run.epoch)}. Give more epochs, or "
            "another directory.",
            stacklevel=2,
        )
    callbacks = keras.callbacks.CallbackList(
        callbacks,
        add_history=True,
        add_progbar=verbose != 0,
        model=agent.model,
        verbose=verbose,
        epochs=epochs,
        steps=steps_per_epoch,
    )
    try:
        _epochs(run, agent, evaluator, callbacks, epochs, steps_per_epoch)
    finally:
        if collectors:
            collector.close()
    return agent.model.history


def _epochs(run, agent, evaluator, callbacks, epochs, steps_per_epoch):
    agent.model.stop_training = False
    callbacks.on_train_begin()
    logs = {}
    for epoch in range(int(run.epoch), epochs):
        callbacks.on_epoch_begin(epoch)
        totals = collections.Counter()
        for step in range(steps_per_epoch):
            callbacks.on_train_batch_begin(step)
            totals.update(run.step())
            logs = _summary(totals, step + 1)
            callbacks.on_train_batch_end(step, logs)
            if agent.model.stop_training:
                break
        if epoch == 0:
            _warn_of_idle_terms(agent, totals)
        if evaluator is not None:
            found = evaluator()
            logs["evaluation_return"] = found.mean
            logs["evaluation_low"] = found.low
            logs["evaluation_high"] = found.high
        callbacks.on_epoch_end(epoch, logs)
        run.save(epoch + 1)  # with what callbacks have changed
        if agent.model.stop_training:
            break
    callbacks.on_train_end(logs)


def _warn_of_idle_terms(agent, totals):
    for term in agent.loss_terms:
        if not totals[term.name] and not totals[f"reward_{term.name}"]:
            warnings.warn(
                f"The loss term {term.name!r} was exactly 0 in all of the "
                "first epoch, its loss and its reward: nothing is learned by "
                "it. Is its coefficient 0, is it compared with itself, or is "
                "its gate always shut?",
                stacklevel=4,
            )
    if totals["gradient_norm"] == 0:
        warnings.warn(
            "All gradients were exactly 0 in all of the first epoch: the "
            "model has not changed. Look at losses and coefficients.",
            stacklevel=4,
        )


def _summary(totals, number):
    """Means over the epoch's `number` steps; returns over its episodes."""
    logs = {
        name: total / number
        for name, total in totals.items()
        if name not in ("episodes", "return_sum")
    }
    episodes = totals["episodes"]
    logs["episodes"] = episodes
    logs["return"] = totals["return_sum"] / episodes if episodes else math.nan
    return logs
