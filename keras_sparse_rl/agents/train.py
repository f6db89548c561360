import collections
import math
import pathlib
import warnings

import keras
import tensorflow as tf
from tf_agents.environments import batched_py_environment
from tf_agents.environments import py_environment
from tf_agents.environments import tf_environment
from tf_agents.specs import tensor_spec

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.agents.actor_critic_agent import ActorCriticAgent
from keras_sparse_rl.agents.evaluate import Evaluator
from keras_sparse_rl.agents.in_graph_collector import InGraphCollector
from keras_sparse_rl.agents.python_collector import PythonCollector
from keras_sparse_rl.agents.remote_collectors import RemoteCollectors
from keras_sparse_rl.agents.reservoir_state import ReservoirState
from keras_sparse_rl.agents.reservoir_state import reservoir_kernels
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
    checkpoints. Callbacks are driven as by `fit`, with `agent.model`. As in
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
        evaluation_environment: environment to evaluate `agent.policy` in
            after each epoch. None for no evaluation. Not the one that is
            trained in: it is reset.
        evaluation_episodes: int.
        callbacks: list of `keras.callbacks.Callback`.
        checkpoint_directory: path. A checkpoint is written after each epoch,
            and training goes on from the last one found there. With in-graph
            environments it then equals uninterrupted training bit for bit;
            other environments, and `collectors`, start new episodes.
        jit_compile: bool, whether XLA compiles acting and learning: 10 to 20
            seconds once, then two to three times as fast with a memory. All
            that the agent does must then be possible in XLA.
        verbose: 0 silent, 1 progress bar, 2 a line an epoch.
        seed: int, of the actions.
        collectors: int. 0 collects in this process. N > 0: N processes of Ray
            (the extra `ray`), on one machine or the cluster that `ray.init`
            has joined, collect while this one learns. Each has a copy of the
            environment, gets weights before each segment, and a train step
            learns from one segment of one of them, so that steps and data are
            as many as without. V-trace corrects that the weights are about N
            train steps old. A process that dies is replaced, the others go
            on. Who is ready first comes first, so that two runs differ.
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
            range, or the environment cannot be copied to collectors.
        RuntimeError: if collectors die again and again.
        FloatingPointError: if a loss or gradient is not finite; names step
            and loss term. The weights are those before that step.

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
    environment = _check_environment("environment", environment, agent)
    evaluator = None
    if evaluation_environment is not None:
        if evaluation_environment is environment:
            raise ValueError(
                "`evaluation_environment` must be another object than "
                "`environment`: evaluation resets it. Make a second one."
            )
        evaluator = Evaluator(
            agent.policy,
            _check_environment(
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
    run = _Run(agent, collector, environment, checkpoint_directory)
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
        if epoch == 0:
            _warn_of_idle_terms(agent, totals)
        if evaluator is not None:
            found = evaluator()
            logs["evaluation_return"] = found.mean
            logs["evaluation_low"] = found.low
            logs["evaluation_high"] = found.high
        run.save(epoch + 1)
        callbacks.on_epoch_end(epoch, logs)
        if agent.model.stop_training:
            break
    callbacks.on_train_end(logs)


class _Run:
    """The train step as one graph, and all that a checkpoint holds."""

    def __init__(self, agent, collector, environment, directory):
        self._agent = agent
        self.epoch = tf.Variable(0, trainable=False)
        self._names = None
        self._in_graph = isinstance(collector, InGraphCollector)
        self._step = collector.with_learning(self._learn_from)
        self._manager = None
        if directory is not None:
            # Every variable by its place: Keras' own tracking leaves out the
            # seeds of dropout.
            checkpoint = tf.train.Checkpoint(
                model=[v.value for v in agent.model.variables],
                optimizer=[
                    v.value
                    for optimizer, _ in agent.optimizers
                    for v in optimizer.variables
                ],
                other=list(agent.other_variables),
                gates=[v.value for g in agent.gates for v in g.variables],
                reservoirs=[
                    ReservoirState(kernel)
                    for kernel in reservoir_kernels(agent.model)
                ],
                train_step=agent.train_step_counter,
                collector=collector,
                policies=[agent.policy, agent.collect_policy],
                carry=environment.carry if self._in_graph else [],
                epoch=self.epoch,
            )
            self._manager = tf.train.CheckpointManager(
                checkpoint, str(pathlib.Path(directory)), max_to_keep=2
            )
            if self._manager.latest_checkpoint:
                self._restore(checkpoint, directory)

    def _restore(self, checkpoint, directory):
        found = checkpoint.restore(self._manager.latest_checkpoint)
        try:
            found.assert_existing_objects_matched()
        except AssertionError as error:
            raise ValueError(
                f"`checkpoint_directory`={str(directory)!r} holds a run of "
                "another agent or environment, or one with collectors, which "
                "keeps no episodes that one without could go on with. Choose "
                "another directory, or give the arguments of that run."
            ) from error

    def _learn_from(self, experience, figures):
        info = self._agent.train(experience)
        named = {"loss": info.loss, **info.extra, **figures}
        self._names = list(named)
        return experience, tf.stack(
            [tf.cast(x, tf.float32) for x in named.values()]
        )

    def step(self):
        """One train step; its figures by name."""
        experience, values = self._step()
        figures = dict(zip(self._names, values.numpy().tolist()))
        if not figures.pop("finite"):
            terms = self._agent.non_finite_terms(experience)
            raise FloatingPointError(
                "Training stopped at train step "
                f"{int(self._agent.train_step_counter)}: loss or gradient of "
                f"{' and '.join(map(repr, terms)) or 'their sum'} is not "
                "finite. The step was not taken and the last checkpoint is "
                "intact. Lower the learning rate, or clip gradients "
                "(global_clipnorm of the optimizer)."
            )
        return figures

    def save(self, epoch):
        self.epoch.assign(epoch)
        if self._manager is not None:
            self._manager.save()


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


def _check_environment(name, environment, agent):
    if isinstance(environment, py_environment.PyEnvironment):
        if not environment.batched:
            environment = batched_py_environment.BatchedPyEnvironment(
                [environment], multithreading=False
            )
    elif not isinstance(environment, tf_environment.TFEnvironment):
        raise ValueError(
            f"`{name}` must be an environment of TF-Agents. Received: "
            f"{type(environment)}. For Gymnasium use keras_sparse_rl."
            "environments.GymnasiumEnvironment."
        )
    for what, found, expected in (
        ("action_spec", environment.action_spec(), agent.action_spec),
        (
            "observation_spec",
            environment.observation_spec(),
            agent.time_step_spec.observation,
        ),
    ):
        if _form(found) != _form(expected):
            raise ValueError(
                f"The {what} of `{name}` is not the agent's. Received: "
                f"{found}; the agent has {expected}."
            )
    return environment


def _form(spec):
    spec = tensor_spec.from_spec(spec)
    return [(path, tuple(x.shape), x.dtype) for path, x in _with_paths(spec)]


def _with_paths(nest):
    paths = [str(path) for path, _ in keras.tree.flatten_with_path(nest)]
    return zip(paths, tf.nest.flatten(nest))
