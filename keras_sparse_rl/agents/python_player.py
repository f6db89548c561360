import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl.agents.action_distribution import within_bounds


class PythonPlayer:
    """Plays an environment that is stepped by Python.

    All that it needs of a policy are a function on flat lists of tensors and
    a first state, so that it also plays in a process where no policy is.

    Args:
        act: function as `acting_function` returns it.
        state: list of tensors, the policy's state at the start.
        environment: batched `PyEnvironment`, or `TFEnvironment`.
        segment_length: int, steps of a segment.
    """

    def __init__(self, act, state, environment, segment_length):
        self._act = act
        self._state = state
        self._environment = environment
        self._segment_length = segment_length
        self._action_spec = environment.action_spec()
        self._returns = np.zeros(environment.batch_size, np.float32)
        self._time_step = None

    @property
    def observation(self):
        """Nest of arrays `(batch, ...)`: what was seen last."""
        return self._time_step.observation

    def play(self, count):
        """One segment, from where the last one ended.

        Args:
            count: int, with the seed it decides the actions.

        Returns:
            Tuple of a dict of nests of tensors `(time, batch, ...)`, the
            `TimeStep` after them, the list of tensors of the policy's state
            before them, and a dict of the number of episodes that ended and
            the sum of their returns.
        """
        if self._time_step is None:
            self._time_step = as_arrays(self._environment.reset())
        first_state = self._state
        number = len(tf.nest.flatten(self._action_spec))
        steps, episodes, returned = [], 0.0, 0.0
        now = self._time_step
        for i in range(count, count + self._segment_length):
            tensors = [now.step_type, now.observation]
            found = self._act(
                *map(tf.convert_to_tensor, [i, *tf.nest.flatten(tensors)]),
                *self._state,
            )
            found, self._state = (
                found[: 2 * number + 1],
                found[2 * number + 1 :],
            )
            *actions, log_probability = (x.numpy() for x in found)
            action, played = (
                tf.nest.pack_sequence_as(self._action_spec, part)
                for part in (actions[:number], actions[number:])
            )
            then = as_arrays(self._environment.step(played))
            steps.append(
                {
                    "step_type": now.step_type,
                    "observation": now.observation,
                    "action": action,
                    "log_probability": log_probability,
                    "next_step_type": then.step_type,
                    "reward": then.reward,
                    "discount": then.discount,
                }
            )
            self._returns += then.reward
            is_last = then.step_type == ts.StepType.LAST
            if is_last.any():
                episodes += is_last.sum()
                returned += self._returns[is_last].sum()
                self._returns[is_last] = 0
            self._time_step = now = then
        steps = tf.nest.map_structure(
            lambda *x: tf.convert_to_tensor(np.stack(x)), *steps
        )
        figures = {
            "episodes": tf.constant(episodes, tf.float32),
            "return_sum": tf.constant(returned, tf.float32),
        }
        last = tf.nest.map_structure(tf.convert_to_tensor, now)
        return steps, last, first_state, figures


def acting_function(policy, batch_size, seed, jit_compile=False):
    """Acting on flat lists of tensors: a fifth of a call's usual cost.

    Args:
        policy: `ActorCriticPolicy` made with `collect=True`.
        batch_size: int.
        seed: int.
        jit_compile: bool.

    Returns:
        `tf.function` of a count, step types, and the tensors of observation
        and state, traced once; it returns those of action, action within its
        bounds, log-probability and next state.
    """
    time_step_spec, state_spec = tensor_spec.add_outer_dim(
        (policy.time_step_spec, policy.policy_state_spec), batch_size
    )
    observation_spec = time_step_spec.observation
    flat = [
        tf.TensorSpec(x.shape, x.dtype)
        for x in tf.nest.flatten(
            (time_step_spec.step_type, observation_spec, state_spec)
        )
    ]

    @tf.function(
        jit_compile=jit_compile,
        autograph=False,
        input_signature=[tf.TensorSpec((), tf.int32), *flat],
    )
    def act(count, *tensors):
        step_type, observation, state = tf.nest.pack_sequence_as(
            (0, observation_spec, state_spec), tensors
        )
        # A network sees nothing but the kind of step and the observation.
        nothing = tf.zeros((batch_size,))
        step = policy.sample(
            ts.TimeStep(step_type, nothing, nothing, observation),
            state,
            tf.stack([seed, count]),
        )
        played = within_bounds(step.action, policy.action_spec)
        log_probability = step.info["log_probability"]
        return tf.nest.flatten(
            (step.action, played, log_probability, step.state)
        )

    return act


def as_arrays(time_step):
    """A `TimeStep` of NumPy arrays, from one of arrays or tensors."""
    return tf.nest.map_structure(np.asarray, time_step)
