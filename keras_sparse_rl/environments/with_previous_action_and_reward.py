import numpy as np
import tensorflow as tf
from tf_agents.environments import py_environment
from tf_agents.specs import array_spec
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl.environments.in_graph_environment import InGraphEnvironment


class WithPreviousActionAndReward:
    """Shows an agent what it did last and what it got for it.

    A memory can learn from reward only if it sees it: meta-reinforcement
    learning ("Learning to reinforcement learn" by Wang et al. 2016,
    https://arxiv.org/abs/1611.05763, section 2.2) feeds the previous action
    and reward beside the observation. The observation becomes a dict of
    `"observation"` (what it was), `"previous_action"` (one-hot float32
    `(..., number of actions)` if discrete, else the action itself) and
    `"previous_reward"` (float32). At the first step of an episode the last
    two are 0.

    Args:
        environment: `InGraphEnvironment`, which stays one, or a batched
            `PyEnvironment` such as `GymnasiumEnvironment`, which stays one
            too.

    Raises:
        ValueError: if the environment is of another kind, or a discrete
            action has not the same bounds everywhere.

    Example:

    >>> from keras_sparse_rl import environments
    >>> environment = environments.WithPreviousActionAndReward(
    ...     environments.TMaze(length=5, batch_size=2))
    >>> sorted(environment.reset().observation)
    ['observation', 'previous_action', 'previous_reward']
    """

    def __new__(cls, environment):
        for kind, made in (
            (InGraphEnvironment, _InGraph),
            (py_environment.PyEnvironment, _Python),
        ):
            if isinstance(environment, kind) and environment.batched:
                return super().__new__(made)
        raise ValueError(
            "`environment` must be an InGraphEnvironment or a batched "
            "PyEnvironment, such as environments.GymnasiumEnvironment. "
            f"Received: {type(environment)}."
        )


class _InGraph(WithPreviousActionAndReward, InGraphEnvironment):
    def __init__(self, environment):
        self._environment = environment
        self._shown = _shown_specs(environment)
        InGraphEnvironment.__init__(
            self,
            {"observation": environment.observation_spec(), **self._shown},
            environment.action_spec(),
            environment.batch_size,
            environment.seed,
        )

    def _start(self, seed):
        return self._beside_nothing(self._environment._start(seed))

    def _restart(self, state, seed):
        return self._beside_nothing(
            self._environment._restart(state["environment"], seed)
        )

    def _beside_nothing(self, state):
        return {
            "environment": state,
            **tf.nest.map_structure(
                lambda spec: tf.zeros(
                    (self._environment.batch_size, *spec.shape)
                ),
                self._shown,
            ),
        }

    def _advance(self, state, action, seed):
        state, reward, terminated, truncated = self._environment._advance(
            state["environment"], action, seed
        )
        state = {
            "environment": state,
            "previous_action": tf.nest.map_structure(
                _features, action, self.action_spec()
            ),
            "previous_reward": tf.cast(reward, tf.float32),
        }
        return state, reward, terminated, truncated

    def _observe(self, state):
        return {
            "observation": self._environment._observe(state["environment"]),
            "previous_action": state["previous_action"],
            "previous_reward": state["previous_reward"],
        }

    def _render(self, state):
        return self._environment._render(state["environment"])


class _Python(WithPreviousActionAndReward, py_environment.PyEnvironment):
    def __init__(self, environment):
        py_environment.PyEnvironment.__init__(self)
        self._environment = environment
        self._shown = tensor_spec.to_array_spec(_shown_specs(environment))

    @property
    def batched(self):
        return True

    @property
    def batch_size(self):
        return self._environment.batch_size

    def observation_spec(self):
        inner = self._environment.observation_spec()
        return {"observation": inner, **self._shown}

    def action_spec(self):
        return self._environment.action_spec()

    def render(self, mode="rgb_array"):
        return self._environment.render(mode)

    def close(self):
        self._environment.close()

    @tf.autograph.experimental.do_not_convert
    def _reset(self):
        zeros = array_spec.add_outer_dims_nest(self._shown, (self.batch_size,))
        return _beside(
            self._environment.reset(),
            tf.nest.map_structure(
                lambda spec: np.zeros(spec.shape, spec.dtype), zeros
            ),
        )

    @tf.autograph.experimental.do_not_convert
    def _step(self, action):
        time_step = self._environment.step(action)
        is_first = np.equal(time_step.step_type, ts.StepType.FIRST)
        shown = {
            "previous_action": tf.nest.map_structure(
                lambda x, spec: _features(x, spec).numpy(),
                action,
                tensor_spec.from_spec(self.action_spec()),
            ),
            "previous_reward": np.asarray(time_step.reward, np.float32),
        }
        for x in tf.nest.flatten(shown):
            x[is_first] = 0
        return _beside(time_step, shown)


def _beside(time_step, shown):
    return time_step._replace(
        observation={"observation": time_step.observation, **shown}
    )


def _shown_specs(environment):
    action_spec = tensor_spec.from_spec(environment.action_spec())
    return {
        "previous_action": tf.nest.map_structure(_feature_spec, action_spec),
        "previous_reward": tf.TensorSpec((), tf.float32),
    }


def _feature_spec(spec):
    shape = spec.shape
    if tensor_spec.is_discrete(spec):
        shape = [*shape, _number(spec)]
    return tf.TensorSpec(shape, tf.float32)


def _features(action, spec):
    if tensor_spec.is_discrete(spec):
        action = tf.cast(action, tf.int32) - int(np.min(spec.minimum))
        return tf.one_hot(action, _number(spec))
    return tf.cast(action, tf.float32)


def _number(spec):
    """How many values a discrete action has."""
    low, high = np.unique(spec.minimum), np.unique(spec.maximum)
    if len(low) != 1 or len(high) != 1:
        raise ValueError(
            "A discrete action must have the same bounds everywhere to be "
            f"shown as one-hot. Received: {spec}."
        )
    return int(high[0]) - int(low[0]) + 1
