import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl.agents.in_graph_collector import with_last_step


class PythonCollector(tf.Module):
    """Collects segments from an environment that is stepped by Python.

    Args:
        policy: `ActorCriticPolicy` made with `collect=True`.
        environment: batched `PyEnvironment`, or `TFEnvironment`.
        segment_length: int, steps of a segment.
        seed: int.
    """

    def __init__(self, policy, environment, segment_length, seed):
        super().__init__(name="collector")
        self._environment = environment
        self._segment_length = segment_length
        self._batch_size = environment.batch_size
        self._count = tf.Variable(0, trainable=False)
        self._state = policy.get_initial_state(self._batch_size)
        self._returns = np.zeros(self._batch_size, np.float32)
        self._time_step = None

        @tf.function
        def act(time_step, state, count):
            step = policy.sample(time_step, state, tf.stack([seed, count]))
            return step.action, step.info["log_probability"], step.state

        self._act = act

    def __call__(self, learn):
        """Collects a segment and learns from it.

        Args:
            learn: `tf.function` from trajectories and figures to figures.
        """
        return learn(*self.collect())

    def collect(self):
        """One segment, from where the last one ended.

        Returns:
            Tuple of a `Trajectory` `(batch, segment_length + 1, ...)` and a
            dict of the number of episodes that ended and the sum of their
            returns.
        """
        if self._time_step is None:
            self._time_step = as_arrays(self._environment.reset())
        first_state = self._state
        count = int(self._count.numpy())
        steps, episodes, returned = [], 0.0, 0.0
        for i in range(count, count + self._segment_length):
            now = self._time_step
            action, log_probability, self._state = self._act(
                now, self._state, np.int32(i)
            )
            action = tf.nest.map_structure(lambda x: x.numpy(), action)
            self._time_step = as_arrays(self._environment.step(action))
            then = self._time_step
            steps.append(
                {
                    "step_type": now.step_type,
                    "observation": now.observation,
                    "action": action,
                    "log_probability": log_probability.numpy(),
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
        self._count.assign_add(self._segment_length)
        stacked = tf.nest.map_structure(lambda *x: np.stack(x), *steps)
        experience = with_last_step(
            tf.nest.map_structure(tf.constant, stacked),
            self._time_step,
            first_state,
        )
        figures = {
            "episodes": tf.constant(episodes, tf.float32),
            "return_sum": tf.constant(returned, tf.float32),
        }
        return experience, figures


def as_arrays(time_step):
    """A `TimeStep` of NumPy arrays, from one of arrays or tensors."""
    return tf.nest.map_structure(np.asarray, time_step)
