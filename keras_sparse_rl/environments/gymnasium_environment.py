import functools

import gymnasium
import numpy as np
from gymnasium import spaces
from tf_agents.environments import py_environment
from tf_agents.specs import array_spec
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl._checks import check_integer


class GymnasiumEnvironment(py_environment.PyEnvironment):
    """Gymnasium environments, one or many copies, as one of TF-Agents.

    Where an episode terminates the discount is 0; where it is truncated it
    stays 1, so that agents go on to value the last observation. The step after
    an end is the first one of the next episode, as everywhere in TF-Agents.

    Spaces `Box`, `Discrete`, `MultiDiscrete`, `MultiBinary`, and `Dict` and
    `Tuple` of them become specs; 64-bit floats become 32-bit ones, bits
    (`MultiBinary` and bool) the whole numbers 0 and 1. Discrete actions count
    from 0 whatever the space's `start` is; continuous ones are clipped to
    their bounds.

    Args:
        environment: str, the id of a registered environment; or a function
            without arguments that makes one; or a `gymnasium.vector.VectorEnv`
            that resets at the next step (Gymnasium's default).
        batch_size: int, number of copies, stepped one after the other. None
            for 1, or those of the vector environment.
        seed: int or None, of the first copy; the others count on from it.

    Raises:
        ValueError: if a space cannot be held by TF-Agents, or the vector
            environment resets in another way.

    Example:

    >>> from keras_sparse_rl.environments import GymnasiumEnvironment
    >>> environment = GymnasiumEnvironment("CartPole-v1", batch_size=2, seed=0)
    >>> environment.reset().observation.shape
    (2, 4)
    """

    def __init__(self, environment, batch_size=None, seed=None):
        super().__init__()
        self._environment = _vector(environment, batch_size)
        self._seed = (
            None if seed is None else check_integer("seed", seed, minimum=0)
        )
        self._batch_size = self._environment.num_envs
        self._observation_space = self._environment.single_observation_space
        self._action_space = self._environment.single_action_space
        self._observation_spec = _spec(
            self._observation_space, "observation_space"
        )
        self._action_spec = _spec(
            self._action_space, "action_space", from_zero=True
        )
        self._was_last = np.zeros(self._batch_size, bool)

    @property
    def batched(self):
        return True

    @property
    def batch_size(self):
        return self._batch_size

    @property
    def gymnasium(self):
        """The `gymnasium.vector.VectorEnv` behind it."""
        return self._environment

    def observation_spec(self):
        return self._observation_spec

    def action_spec(self):
        return self._action_spec

    def seed(self, seed):
        """Chooses the episodes that follow the next reset.

        Args:
            seed: int, of the first copy; the others count on from it.
        """
        self._seed = check_integer("seed", seed, minimum=0)

    def render(self, mode="rgb_array"):
        """Pictures of all copies, if they were made with a `render_mode`."""
        return self._environment.render()

    def close(self):
        self._environment.close()

    def _reset(self):
        observation, _ = self._environment.reset(seed=self._seed)
        self._seed = None  # A second reset starts other episodes.
        self._was_last[:] = False
        return ts.restart(
            _to_spec(observation, self._observation_space), self._batch_size
        )

    def _step(self, action):
        observation, reward, terminated, truncated, _ = self._environment.step(
            _from_spec(action, self._action_space)
        )
        last = terminated | truncated
        step_type = np.where(last, ts.StepType.LAST, ts.StepType.MID)
        step_type = np.where(self._was_last, ts.StepType.FIRST, step_type)
        self._was_last = last
        return ts.TimeStep(
            step_type.astype(np.int32),
            np.asarray(reward, np.float32),
            np.where(terminated, np.float32(0), np.float32(1)),
            _to_spec(observation, self._observation_space),
        )


def _vector(environment, batch_size):
    if isinstance(environment, gymnasium.vector.VectorEnv):
        mode = environment.metadata.get("autoreset_mode")
        if mode is not None and getattr(mode, "value", mode) != "NextStep":
            raise ValueError(
                "`environment` must reset at the step after an end "
                "(AutoresetMode.NEXT_STEP, Gymnasium's default). Received: "
                f"a vector environment with autoreset_mode={mode}."
            )
        if batch_size not in (None, environment.num_envs):
            raise ValueError(
                "`batch_size` of a vector environment is its own number of "
                f"copies, {environment.num_envs}. Received: "
                f"batch_size={batch_size}."
            )
        return environment
    if isinstance(environment, gymnasium.Env):
        if batch_size not in (None, 1):
            raise ValueError(
                "One `environment` object cannot be copied. Received: "
                f"batch_size={batch_size}. Give its id or a function that "
                "makes it."
            )
        return gymnasium.vector.SyncVectorEnv([lambda: environment])
    if isinstance(environment, str):
        make = functools.partial(
            gymnasium.make, environment, disable_env_checker=True
        )
    elif callable(environment):
        make = environment
    else:
        raise ValueError(
            "`environment` must be the id of a Gymnasium environment, a "
            "function that makes one, or a gymnasium.vector.VectorEnv. "
            f"Received: environment={environment!r}."
        )
    copies = check_integer(
        "batch_size", 1 if batch_size is None else batch_size
    )
    return gymnasium.vector.SyncVectorEnv([make] * copies)


def _spec(space, name, from_zero=False):
    if isinstance(space, spaces.Dict):
        return {
            key: _spec(part, f"{name}[{key!r}]", from_zero)
            for key, part in space.spaces.items()
        }
    if isinstance(space, spaces.Tuple):
        return tuple(
            _spec(part, f"{name}[{number}]", from_zero)
            for number, part in enumerate(space.spaces)
        )
    bounded = array_spec.BoundedArraySpec
    if isinstance(space, spaces.Discrete):
        first = 0 if from_zero else int(space.start)
        return bounded((), np.int64, first, first + int(space.n) - 1, name)
    if isinstance(space, spaces.MultiDiscrete):
        first = 0 if from_zero else space.start
        last = first + space.nvec - 1
        if np.size(last) and np.all(last == np.ravel(last)[0]):
            last = int(np.ravel(last)[0])
        return bounded(space.shape, np.int64, first, last, name)
    if isinstance(space, spaces.MultiBinary):
        return bounded(space.shape, _dtype(space), 0, 1, name)
    if isinstance(space, spaces.Box):
        dtype = _dtype(space)
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            return array_spec.ArraySpec(space.shape, dtype, name)
        return bounded(
            space.shape,
            dtype,
            space.low.astype(dtype),
            space.high.astype(dtype),
            name,
        )
    raise ValueError(
        f"TF-Agents cannot hold the space of {name}: {space}. Box, Discrete, "
        "MultiDiscrete, MultiBinary, and Dict and Tuple of them can be held; "
        "turn it into one of them by a gymnasium wrapper."
    )


def _dtype(space):
    if isinstance(space, spaces.MultiBinary) or space.dtype == bool:
        return np.dtype(np.int32)  # what a distribution draws
    return np.dtype(np.float32) if space.dtype == np.float64 else space.dtype


def _to_spec(x, space):
    if isinstance(space, spaces.Dict):
        return {key: _to_spec(x[key], part) for key, part in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_to_spec(a, part) for a, part in zip(x, space.spaces))
    # Copies: a vector environment may write into its arrays at the next step.
    if isinstance(space, (spaces.Box, spaces.MultiBinary)):
        return np.array(x, _dtype(space))
    return np.array(x)


def _from_spec(x, space):
    if isinstance(space, spaces.Dict):
        return {key: _from_spec(x[key], part) for key, part in space.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_from_spec(a, part) for a, part in zip(x, space.spaces))
    x = np.asarray(x)
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return (x + space.start).astype(space.dtype)
    if isinstance(space, spaces.Box):
        x = np.clip(x, space.low, space.high)
    return x.astype(space.dtype)
