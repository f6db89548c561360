import collections

import numpy as np
import tensorflow as tf
from scipy import stats
from tf_agents.trajectories import time_step as ts

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.agents.python_player import as_arrays
from keras_sparse_rl.environments import InGraphEnvironment

CHUNK = 64

Evaluation = collections.namedtuple(
    "Evaluation", ["mean", "low", "high", "returns"]
)
Evaluation.__doc__ = """What `evaluate` found.

`mean` return of an episode, `low` and `high`, the bounds of its 95 % interval
(Student's t), and the `returns` themselves.

Example:

>>> from keras_sparse_rl.agents import Evaluation
>>> Evaluation(1.0, 0.5, 1.5, [1.0]).mean
1.0
"""


def evaluate(policy, environment, episodes=100, time_limit=100_000):
    """Mean return of a policy over whole episodes, with its interval.

    Every copy of the environment plays the same number of episodes, so that
    short ones do not count too often.

    Args:
        policy: TF-Agents `TFPolicy`, such as `agent.policy`.
        environment: `environments.InGraphEnvironment`, or a batched
            TF-Agents environment. It is reset.
        episodes: int; rounded up to a multiple of the number of copies.
        time_limit: int, steps of the batch after which to give up.

    Returns:
        `Evaluation`.

    Raises:
        ValueError: if an argument is out of range.
        RuntimeError: if the episodes do not end within `time_limit` steps.

    Example:

    >>> from keras_sparse_rl import agents, environments
    >>> environment = environments.TMaze(length=3, batch_size=10)
    >>> from tf_agents.policies.random_tf_policy import RandomTFPolicy
    >>> policy = RandomTFPolicy(
    ...     environment.time_step_spec(), environment.action_spec())
    >>> agents.evaluate(policy, environment, episodes=20).returns.shape
    (20,)
    """
    return Evaluator(policy, environment, episodes, time_limit)()


class Evaluator:
    """`evaluate`, to be called again and again: its graph is made once."""

    def __init__(
        self,
        policy,
        environment,
        episodes=100,
        time_limit=100_000,
        jit_compile=False,
    ):
        batch_size = environment.batch_size
        self._per_copy = -(-check_integer("episodes", episodes) // batch_size)
        self._time_limit = check_integer("time_limit", time_limit)
        self._policy = policy
        self._environment = environment
        if isinstance(environment, InGraphEnvironment):
            self._run = tf.function(
                self._chunk, jit_compile=jit_compile, autograph=False
            )
        else:
            self._act = tf.function(
                policy.action, jit_compile=jit_compile, autograph=False
            )
            self._run = self._steps

    def __call__(self):
        time_step = self._environment.reset()
        state = self._policy.get_initial_state(self._environment.batch_size)
        if isinstance(self._environment, InGraphEnvironment):
            time_step = tf.nest.map_structure(
                tf.convert_to_tensor, self._environment.carry
            )
        else:
            time_step = as_arrays(time_step)
        finished = [[] for _ in range(self._environment.batch_size)]
        running = np.zeros(self._environment.batch_size)
        for _ in range(-(-self._time_limit // CHUNK)):
            rewards, ended, time_step, state = self._run(time_step, state)
            for reward, last in zip(np.asarray(rewards), np.asarray(ended)):
                running += reward
                for copy in np.flatnonzero(last):
                    finished[copy].append(running[copy])
                    running[copy] = 0
            if min(map(len, finished)) >= self._per_copy:
                break
        else:
            raise RuntimeError(
                f"Episodes did not end within time_limit={self._time_limit} "
                "steps. Raise `time_limit`, or truncate the environment's "
                "episodes."
            )
        returns = np.concatenate([r[: self._per_copy] for r in finished])
        mean = returns.mean()
        margin = 0.0
        if len(returns) > 1:
            margin = stats.sem(returns) * stats.t.ppf(0.975, len(returns) - 1)
        return Evaluation(mean, mean - margin, mean + margin, returns)

    def _chunk(self, carry, state):
        size = self._environment.batch_size
        rewards = tf.TensorArray(tf.float32, CHUNK, element_shape=(size,))
        lasts = tf.TensorArray(tf.bool, CHUNK, element_shape=(size,))

        def body(i, carry, state, rewards, lasts):
            chosen = self._policy.action(
                self._environment.time_step(carry), state
            )
            carry = self._environment.advance(carry, chosen.action)
            is_last = tf.equal(carry["step_type"], ts.StepType.LAST)
            rewards = rewards.write(i, carry["reward"])
            return i + 1, carry, chosen.state, rewards, lasts.write(i, is_last)

        _, carry, state, rewards, lasts = tf.while_loop(
            lambda i, *_: i < CHUNK, body, (0, carry, state, rewards, lasts)
        )
        return rewards.stack(), lasts.stack(), carry, state

    def _steps(self, time_step, state):
        rewards, lasts = [], []
        for _ in range(CHUNK):
            chosen = self._act(time_step, state)
            state = chosen.state
            action = tf.nest.map_structure(lambda x: x.numpy(), chosen.action)
            time_step = as_arrays(self._environment.step(action))
            rewards.append(time_step.reward)
            lasts.append(time_step.step_type == ts.StepType.LAST)
        return rewards, lasts, time_step, state
