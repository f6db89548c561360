import json
import pathlib
import re
import warnings

import numpy as np
import tensorflow as tf

from keras_sparse_rl.agents.in_graph_collector import InGraphCollector
from keras_sparse_rl.agents.python_collector import PythonCollector
from keras_sparse_rl.agents.reservoir_state import ReservoirState
from keras_sparse_rl.agents.reservoir_state import reservoir_kernels

DESCRIPTION = "description/.ATTRIBUTES/VARIABLE_VALUE"


class TrainingRun:
    """The train step as one graph, and all that a checkpoint holds.

    Args:
        agent: `ActorCriticAgent`.
        collector: what collects segments.
        environment: TF-Agents environment.
        directory: path of checkpoints, or None. If there are any, the last
            one is restored.
    """

    def __init__(self, agent, collector, environment, directory):
        self._agent = agent
        self._collector = collector
        self.epoch = tf.Variable(0, trainable=False)
        self._names = None
        in_graph = isinstance(collector, InGraphCollector)
        self._step = collector.with_learning(self._learn_from)
        self._manager = None
        if directory is not None:
            self._rates = [
                v
                for optimizer, _ in agent.optimizers
                for v in optimizer.variables
                if v.name == "learning_rate"
            ]
            given = [float(v) for v in self._rates]
            self._given = tf.Variable(given, trainable=False, dtype=tf.float32)
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
                carry=environment.carry if in_graph else [],
                epoch=self.epoch,
                learning_rates=self._given,
                description=tf.Variable(
                    json.dumps(_description(agent)), trainable=False
                ),
            )
            self._manager = tf.train.CheckpointManager(
                checkpoint, str(pathlib.Path(directory)), max_to_keep=2
            )
            if self._manager.latest_checkpoint:
                self._restore(checkpoint, directory)

    def _restore(self, checkpoint, directory):
        latest = self._manager.latest_checkpoint
        given = [float(v) for v in self._rates]
        difference = ""
        try:
            reader = tf.train.load_checkpoint(latest)
            if reader.has_tensor(DESCRIPTION):
                difference = _difference(
                    json.loads(reader.get_tensor(DESCRIPTION)),
                    _description(self._agent),
                )
            if difference:
                raise ValueError(difference)
            found = checkpoint.restore(latest)
            found.assert_existing_objects_matched()
        except (IndexError, tf.errors.OpError) as error:
            raise ValueError(
                f"`checkpoint_directory`={str(directory)!r} holds a checkpoint "
                f"that cannot be read, {latest}: {error}. Choose another "
                "directory, or restore its files."
            ) from error
        except (AssertionError, ValueError) as error:
            raise ValueError(
                f"`checkpoint_directory`={str(directory)!r} holds a run of "
                "another agent or environment, or one with collectors, which "
                "keeps no episodes that one without could go on with."
                f"{difference} Choose another directory, or give the "
                "arguments of that run."
            ) from error
        self._keep_rates(given)

    def _keep_rates(self, given):
        """Learning rates that were given anew count, others are restored."""
        for rate, now, begun in zip(self._rates, given, self._given.numpy()):
            if now in (begun, float(rate)):
                continue
            warnings.warn(
                f"The learning rate is {now:g} now; the checkpoint had "
                f"{float(rate):g}, of a run begun with {begun:g}.",
                stacklevel=5,
            )
            rate.assign(now)
        self._given.assign(given)

    def _learn_from(self, experience, figures):
        info = self._agent.train(experience)
        named = {"loss": info.loss, **info.extra, **figures}
        self._names = list(named)
        return experience, tf.stack(
            [tf.cast(x, tf.float32) for x in named.values()]
        )

    def step(self):
        """One train step; its figures by name."""
        try:
            experience, values = self._step()
        except tf.errors.InvalidArgumentError as error:  # no such actions
            self._check_observation(error)
            raise
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

    def _check_observation(self, error):
        if not isinstance(self._collector, PythonCollector):
            return
        for x in tf.nest.flatten(self._collector.observation):
            if not np.isfinite(x).all():
                raise FloatingPointError(
                    "Training stopped at train step "
                    f"{int(self._agent.train_step_counter)}: an observation "
                    "of the environment is not finite, so that no action can "
                    "be drawn. The step was not taken and the last checkpoint "
                    "is intact. Mend the environment."
                ) from error

    def save(self, epoch):
        """Writes a checkpoint, if there is a directory for it."""
        self.epoch.assign(epoch)
        if self._manager is not None:
            self._manager.save()


def _description(agent):
    """What two runs must have in common, as JSON has it."""
    return {
        "optimizers": [type(each).__name__ for each, _ in agent.optimizers],
        "loss terms": [term.name for term in agent.loss_terms],
        "variables": [
            # Keras numbers names of the same kind throughout a process.
            f"{re.sub(r'_[0-9]+(?=/|$)', '', v.path)} {tuple(v.shape)}"
            for v in agent.model.variables
        ],
    }


def _difference(found, expected):
    """Says where two descriptions differ, by a few examples."""
    for part, names in expected.items():
        if found[part] != names:
            missing = [x for x in found[part] if x not in names][:3]
            added = [x for x in names if x not in found[part]][:3]
            return (
                f" Its {part} are not the agent's: it has "
                f"{', '.join(missing) or 'no others'}; the agent has "
                f"{', '.join(added) or 'no others'}."
            )
    return ""
