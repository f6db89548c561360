import abc

import tensorflow as tf
from tf_agents.environments import tf_environment
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl._checks import check_integer


class InGraphEnvironment(tf_environment.TFEnvironment):
    """A batch of environments made of TensorFlow operations alone.

    The base of this library's tasks. A subclass says how an episode starts,
    goes on and looks, as pure functions of its state; this class adds episode
    ends, resets and randomness. It is an ordinary `TFEnvironment` (`reset`,
    `step`, `current_time_step`); besides, `start` and `advance` do the same
    without variables, so that whole loops run inside one `tf.function`.
    Randomness comes from `seed` and a counter in the state: equal seeds give
    equal runs, and a checkpoint resumes exactly.

    A subclass writes `_start(seed)`, `_advance(state, action, seed)` and
    `_observe(state)`, where a state is a dict of tensors `(batch, ...)`, and
    may write `_render(state)`, and `_restart(state, seed)` if something of a
    state outlives episodes.

    Args:
        observation_spec: nest of TF-Agents specs.
        action_spec: nest of bounded TF-Agents specs.
        batch_size: int, copies of the environment.
        seed: int.

    Raises:
        ValueError: if `batch_size` or `seed` is no whole number.

    Example:

    >>> from keras_sparse_rl.environments import InGraphEnvironment, TMaze
    >>> environment = TMaze(length=5, batch_size=2, seed=1)
    >>> isinstance(environment, InGraphEnvironment)
    True
    >>> carry = environment.start()
    >>> carry = environment.advance(carry, [0, 0])
    >>> environment.time_step(carry).reward.shape
    TensorShape([2])
    """

    def __init__(self, observation_spec, action_spec, batch_size=1, seed=0):
        self._seed = check_integer("seed", seed, minimum=0)
        super().__init__(
            ts.time_step_spec(observation_spec),
            action_spec,
            check_integer("batch_size", batch_size),
        )
        with tf.init_scope():
            self._carry = tf.nest.map_structure(tf.Variable, self.start())

    @abc.abstractmethod
    def _start(self, seed):
        """State of new episodes, for all rows.

        Args:
            seed: int32 tensor `(2,)` for stateless random operations.
        """

    @abc.abstractmethod
    def _advance(self, state, action, seed):
        """One step of all rows.

        Returns:
            Tuple of the new state, rewards `(batch,)`, and booleans `(batch,)`
            `terminated` and `truncated`.
        """

    @abc.abstractmethod
    def _observe(self, state):
        """Nest of observations `(batch, ...)`."""

    def _restart(self, state, seed):
        """State of the episodes that follow, for all rows.

        Args:
            state: dict, how the last episodes ended.
            seed: int32 tensor `(2,)` for stateless random operations.
        """
        return self._start(seed)

    def _render(self, state):
        raise ValueError(f"{type(self).__name__} has no picture.")

    def start(self, count=0):
        """The first steps of new episodes, without touching any variable.

        Args:
            count: int or int32 tensor, chooses the episodes: the counter
                that a run has reached.

        Returns:
            Nest of tensors: all that `advance` needs.
        """
        count = tf.convert_to_tensor(count, tf.int32)
        return {
            "state": self._start(self._seed_at(count, 0)),
            "step_type": tf.fill((self.batch_size,), ts.StepType.FIRST),
            "reward": tf.zeros((self.batch_size,)),
            "discount": tf.ones((self.batch_size,)),
            "count": count + 1,
        }

    @tf.autograph.experimental.do_not_convert
    def advance(self, carry, action):
        """The next steps: rows that have ended start anew, others go on.

        Args:
            carry: what `start` or `advance` returned.
            action: nest of actions `(batch, ...)`.

        Returns:
            Nest like `carry`.
        """
        count = carry["count"]
        was_last = tf.equal(carry["step_type"], ts.StepType.LAST)
        state, reward, terminated, truncated = self._advance(
            carry["state"], action, self._seed_at(count, 1)
        )

        def restarted():
            return tf.nest.map_structure(
                lambda new, old: tf.where(_like(was_last, old), new, old),
                self._restart(state, self._seed_at(count, 0)),
                state,
            )

        ended = tf.logical_or(terminated, truncated)
        step_type = tf.where(ended, ts.StepType.LAST, ts.StepType.MID)
        discount = 1.0 - tf.cast(terminated, tf.float32)
        return {
            "state": tf.cond(tf.reduce_any(was_last), restarted, lambda: state),
            "step_type": tf.where(was_last, ts.StepType.FIRST, step_type),
            "reward": tf.where(was_last, 0.0, tf.cast(reward, tf.float32)),
            "discount": tf.where(was_last, 1.0, discount),
            "count": count + 1,
        }

    def time_step(self, carry):
        """What an agent sees of `carry`, a TF-Agents `TimeStep`."""
        return ts.TimeStep(
            carry["step_type"],
            carry["reward"],
            carry["discount"],
            self._observe(carry["state"]),
        )

    @property
    def seed(self):
        """The seed of episodes."""
        return self._seed

    @property
    def carry(self):
        """The variables behind `step`, a nest like that of `start`."""
        return self._carry

    def assign(self, carry):
        """Makes `carry` the current state of the environment."""
        tf.nest.map_structure(lambda v, x: v.assign(x), self._carry, carry)

    def render(self):
        """Pictures of the current states: uint8 `(batch, height, width, 3)`."""
        return self._render(tf.nest.map_structure(_value, self._carry["state"]))

    def _current_time_step(self):
        return self.time_step(tf.nest.map_structure(_value, self._carry))

    @tf.autograph.experimental.do_not_convert
    def _reset(self):
        # The counter runs on, so a second reset starts other episodes.
        carry = self.start(self._carry["count"].value())
        self.assign(carry)
        return self.time_step(carry)

    @tf.autograph.experimental.do_not_convert
    def _step(self, action):
        carry = self.advance(tf.nest.map_structure(_value, self._carry), action)
        self.assign(carry)
        return self.time_step(carry)

    def _seed_at(self, count, purpose):
        return tf.stack([self._seed, 2 * count + purpose])


def _like(condition, x):
    return tf.reshape(condition, [-1] + [1] * (len(x.shape) - 1))


def _value(variable):
    return variable.value()
