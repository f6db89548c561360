"""What `train` refuses, and why."""

import keras
import tensorflow as tf
from tf_agents.environments import batched_py_environment
from tf_agents.environments import py_environment
from tf_agents.environments import tf_environment
from tf_agents.specs import tensor_spec

from keras_sparse_rl.callbacks import TrainStepCallback


def check_callbacks(callbacks):
    """Raises if a callback works in `fit` alone."""
    for callback in keras.tree.flatten(callbacks):
        name = type(callback).__name__
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ValueError(
                "`callbacks` must not hold a BackupAndRestore: it knows "
                "nothing of the environment and the policy's memory, and does "
                f"not say at which epoch to go on. Received: {name}. Use "
                "agents.train(..., checkpoint_directory=...)."
            )
        held = [callback, *getattr(callback, "__dict__", {}).values()]
        if any(isinstance(x, TrainStepCallback) for x in held):
            raise ValueError(
                "`callbacks` must not take the train step of `fit`, which "
                f"agents.train does not run. Received: {name}, which works in "
                "`fit` alone. To gate a loss by its gradient use a LossTerm "
                "with gate=gradients.GradientGate()."
            )


def check_environment(name, environment, agent):
    """The environment in batches; raises unless it fits the agent."""
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
