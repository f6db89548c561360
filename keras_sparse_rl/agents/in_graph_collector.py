import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from keras_sparse_rl.agents.action_distribution import within_bounds


class InGraphCollector(tf.Module):
    """Collects segments from an `InGraphEnvironment` inside a `tf.function`.

    Args:
        policy: `ActorCriticPolicy` made with `collect=True`.
        environment: `environments.InGraphEnvironment`.
        segment_length: int, steps of a segment.
        seed: int.
        jit_compile: bool.
    """

    def __init__(
        self, policy, environment, segment_length, seed, jit_compile=False
    ):
        super().__init__(name="collector")
        self._policy = policy
        self._environment = environment
        self._segment_length = segment_length
        batch_size = environment.batch_size
        self._seed = seed
        self._count = tf.Variable(0, trainable=False)
        # A plain list: checkpoints leave out nests of TF-Agents' types.
        self._state = [
            tf.Variable(x, trainable=False)
            for x in tf.nest.flatten(policy.get_initial_state(batch_size))
        ]
        self._returns = tf.Variable(tf.zeros((batch_size,)), trainable=False)
        self._jit_compile = jit_compile

    @property
    def count(self):
        """The variable that, with the seed, decides the actions."""
        return self._count

    @property
    def own_variables(self):
        """All variables but those of policy and environment."""
        return [self._count, self._returns, *self._state]

    def with_learning(self, learn):
        """A function that collects a segment and learns, in one graph.

        Args:
            learn: function from trajectories and a dict of figures, as
                `collect` returns them.
        """
        return tf.function(
            lambda: learn(*self.collect()),
            jit_compile=self._jit_compile,
            autograph=False,
        )

    def collect(self):
        """One segment, from where the last one ended.

        Returns:
            Tuple of a `Trajectory` `(batch, segment_length + 1, ...)` and a
            dict of the number of episodes that ended and the sum of their
            returns.
        """
        environment, length = self._environment, self._segment_length
        state = tf.nest.pack_sequence_as(
            self._policy.policy_state_spec,
            [tf.convert_to_tensor(x) for x in self._state],
        )
        first_state = state
        carry = tf.nest.map_structure(tf.convert_to_tensor, environment.carry)
        count = tf.convert_to_tensor(self._count)
        totals = (
            tf.convert_to_tensor(self._returns),
            tf.zeros(()),
            tf.zeros(()),
        )
        example = self._step(carry, state, count)[0]
        arrays = tf.nest.map_structure(
            lambda x: tf.TensorArray(x.dtype, length, element_shape=x.shape),
            example,
        )

        def body(i, carry, state, totals, arrays):
            step, carry, state = self._step(carry, state, count + i)
            arrays = tf.nest.map_structure(
                lambda array, x: array.write(i, x), arrays, step
            )
            returns, ended, returned = totals
            returns += step["reward"]
            is_last = tf.cast(
                tf.equal(step["next_step_type"], ts.StepType.LAST), tf.float32
            )
            ended += tf.reduce_sum(is_last)
            returned += tf.reduce_sum(is_last * returns)
            totals = returns * (1 - is_last), ended, returned
            return i + 1, carry, state, totals, arrays

        _, carry, state, totals, arrays = tf.while_loop(
            lambda i, *_: i < length,
            body,
            (0, carry, state, totals, arrays),
            parallel_iterations=1,
        )
        steps = tf.nest.map_structure(
            lambda array, x: tf.ensure_shape(array.stack(), (length, *x.shape)),
            arrays,
            example,
        )
        self._count.assign_add(length)
        self._returns.assign(totals[0])
        for variable, x in zip(self._state, tf.nest.flatten(state)):
            variable.assign(x)
        environment.assign(carry)
        experience = with_last_step(
            steps, environment.time_step(carry), first_state
        )
        return experience, {"episodes": totals[1], "return_sum": totals[2]}

    def _step(self, carry, state, count):
        time_step = self._environment.time_step(carry)
        chosen = self._policy.sample(
            time_step, state, tf.stack([self._seed, count])
        )
        played = within_bounds(chosen.action, self._policy.action_spec)
        carry = self._environment.advance(carry, played)
        step = {
            "step_type": time_step.step_type,
            "observation": time_step.observation,
            "action": chosen.action,
            "log_probability": chosen.info["log_probability"],
            "next_step_type": carry["step_type"],
            "reward": carry["reward"],
            "discount": carry["discount"],
        }
        return step, carry, chosen.state


def with_last_step(steps, last, first_state):
    """Trajectories `(batch, time + 1, ...)` from what was seen step by step.

    Args:
        steps: dict of nests `(time, batch, ...)`.
        last: TF-Agents `TimeStep` after them; its action is not yet chosen.
        first_state: nest `(batch, ...)`, the policy's state at the start, with
            its episodic memory: the one copy that learning starts from.

    Returns:
        TF-Agents `Trajectory`.
    """

    def joined(x, end):
        x = tf.concat([x, tf.cast(end, x.dtype)[tf.newaxis]], axis=0)
        return tf.transpose(x, [1, 0, *range(2, len(x.shape))])

    def padded(x):
        return joined(x, tf.zeros_like(x[0]))

    return trajectory.Trajectory(
        step_type=joined(steps["step_type"], last.step_type),
        observation=tf.nest.map_structure(
            joined, steps["observation"], last.observation
        ),
        action=tf.nest.map_structure(padded, steps["action"]),
        policy_info={
            "log_probability": padded(steps["log_probability"]),
            "state": tf.nest.map_structure(
                lambda x: x[:, tf.newaxis], first_state
            ),
        },
        next_step_type=joined(steps["next_step_type"], last.step_type),
        reward=padded(steps["reward"]),
        discount=padded(steps["discount"]),
    )
