import tensorflow as tf

from keras_sparse_rl.agents.in_graph_collector import with_last_step
from keras_sparse_rl.agents.python_player import PythonPlayer
from keras_sparse_rl.agents.python_player import acting_function


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
        self._segment_length = segment_length
        self._count = tf.Variable(0, trainable=False)
        self._jit_compile = jit_compile
        self._state_spec = policy.policy_state_spec
        batch_size = environment.batch_size
        act = acting_function(policy, batch_size, seed, jit_compile)
        self._player = PythonPlayer(
            act.get_concrete_function(),
            tf.nest.flatten(policy.get_initial_state(batch_size)),
            environment,
            segment_length,
        )

    @property
    def observation(self):
        """Nest of arrays `(batch, ...)`: what the policy saw last."""
        return self._player.observation

    def with_learning(self, learn):
        """A function that collects a segment and learns from it.

        Args:
            learn: function from trajectories and a dict of figures, as
                `collect` returns them.
        """

        @tf.function(jit_compile=self._jit_compile, autograph=False)
        def joined(*parts):
            return learn(*self._joined(*parts))

        return lambda: joined(*self._play())

    def collect(self):
        """One segment, from where the last one ended.

        Returns:
            Tuple of a `Trajectory` `(batch, segment_length + 1, ...)` and a
            dict of the number of episodes that ended and the sum of their
            returns.
        """
        return self._joined(*self._play())

    def _play(self):
        count = int(self._count.numpy())
        self._count.assign_add(self._segment_length)
        return self._player.play(count)

    def _joined(self, steps, last, first_state, figures):
        first_state = tf.nest.pack_sequence_as(self._state_spec, first_state)
        return with_last_step(steps, last, first_state), figures
