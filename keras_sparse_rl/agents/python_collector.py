import numpy as np
import tensorflow as tf
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl.agents.action_distribution import within_bounds
from keras_sparse_rl.agents.in_graph_collector import with_last_step


class PythonCollector(tf.Module):
    """Collects segments from an environment that is stepped by Python.

    The policy's state goes in and out of a graph at every step, so that an
    episodic memory is copied by each: a large one belongs in a graph.

    Args:
        policy: `ActorCriticPolicy` made with `collect=True`.
        environment: batched `PyEnvironment`, or `TFEnvironment`.
        segment_length: int, steps of a segment.
        seed: int.
        jit_compile: bool.
    """

    def __init__(
        self, policy, environment, segment_length, seed, jit_compile=False
    ):
        super().__init__(name="collector")
        self._environment = environment
        self._segment_length = segment_length
        self._batch_size = environment.batch_size
        self._count = tf.Variable(0, trainable=False)
        self._state = policy.get_initial_state(self._batch_size)
        self._action_spec = policy.action_spec
        self._returns = np.zeros(self._batch_size, np.float32)
        self._time_step = None

        self._jit_compile = jit_compile
        self._act = self._concrete_act(policy, seed)

    def _concrete_act(self, policy, seed):
        """Acting on flat lists of tensors: a fifth of a call's usual cost."""
        spec = tensor_spec.add_outer_dim(
            (policy.time_step_spec, policy.policy_state_spec), self._batch_size
        )
        time_step_spec, state_spec = spec
        observation_spec = time_step_spec.observation
        flat = [
            tf.TensorSpec(x.shape, x.dtype)
            for x in tf.nest.flatten(
                (time_step_spec.step_type, observation_spec, state_spec)
            )
        ]

        @tf.function(jit_compile=self._jit_compile)
        def act(count, *tensors):
            step_type, observation, state = tf.nest.pack_sequence_as(
                (0, observation_spec, state_spec), tensors
            )
            # A network sees nothing but the kind of step and the observation.
            nothing = tf.zeros((self._batch_size,))
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

        return act.get_concrete_function(tf.TensorSpec((), tf.int32), *flat)

    def with_learning(self, learn):
        """A function that collects a segment and learns from it.

        Args:
            learn: function from trajectories and a dict of figures, as
                `collect` returns them.
        """

        @tf.function(jit_compile=self._jit_compile)
        def joined(steps, last, first_state, figures):
            return learn(with_last_step(steps, last, first_state), figures)

        return lambda: joined(*self._collect())

    def collect(self):
        """One segment, from where the last one ended.

        Returns:
            Tuple of a `Trajectory` `(batch, segment_length + 1, ...)` and a
            dict of the number of episodes that ended and the sum of their
            returns.
        """
        *parts, figures = self._collect()
        return with_last_step(*parts), figures

    def _collect(self):
        """Steps `(time, batch, ...)`, what follows, first state, figures."""
        if self._time_step is None:
            self._time_step = as_arrays(self._environment.reset())
        first_state = self._state
        number = len(tf.nest.flatten(self._action_spec))
        count = int(self._count.numpy())
        self._count.assign_add(self._segment_length)
        steps, episodes, returned = [], 0.0, 0.0
        now = self._time_step
        for i in range(count, count + self._segment_length):
            tensors = [now.step_type, now.observation, self._state]
            found = self._act(
                *map(tf.convert_to_tensor, [i, *tf.nest.flatten(tensors)])
            )
            found, state = found[: 2 * number + 1], found[2 * number + 1 :]
            self._state = tf.nest.pack_sequence_as(self._state, state)
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
            now = then
        self._time_step = now
        steps = tf.nest.map_structure(
            lambda *x: tf.convert_to_tensor(np.stack(x)), *steps
        )
        figures = {
            "episodes": tf.constant(episodes, tf.float32),
            "return_sum": tf.constant(returned, tf.float32),
        }
        last = tf.nest.map_structure(tf.convert_to_tensor, now)
        return steps, last, first_state, figures


def as_arrays(time_step):
    """A `TimeStep` of NumPy arrays, from one of arrays or tensors."""
    return tf.nest.map_structure(np.asarray, time_step)
