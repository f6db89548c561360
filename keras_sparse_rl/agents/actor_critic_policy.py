import tensorflow as tf
from tf_agents.policies import tf_policy
from tf_agents.trajectories import policy_step

from keras_sparse_rl.agents.action_distribution import action_log_probability
from keras_sparse_rl.agents.episodic_state import without_episodic


class ActorCriticPolicy(tf_policy.TFPolicy):
    """Acts by a `KerasNetwork` of distributions over actions.

    The network forgets by itself where an episode starts, so this policy never
    wipes its state, and an episodic memory lives on. Its random seed is a
    variable: a checkpoint continues the same sequence of actions.

    Args:
        time_step_spec: TF-Agents `TimeStep` of specs.
        action_spec: nest of bounded TF-Agents specs.
        network: `KerasNetwork` with an `action_spec`.
        greedy: bool: take the most probable action instead of drawing one.
        collect: bool: report `log_probability` and the `state` before the
            action in `info`, as `ActorCriticAgent` needs them for training.
            An episodic memory is left out: it would be copied at every step.
            `train` keeps it once a segment, at its start.
        seed: int.

    Example:

    >>> import keras, tensorflow as tf
    >>> from tf_agents.specs import BoundedTensorSpec
    >>> from tf_agents.trajectories import time_step as ts
    >>> from keras_sparse_rl import agents
    >>> observation = tf.TensorSpec((3,), "float32")
    >>> action = BoundedTensorSpec((), "int32", 0, 1)
    >>> model = agents.actor_critic_model(observation, action)
    >>> policy = agents.ActorCriticPolicy(
    ...     ts.time_step_spec(observation), action,
    ...     agents.KerasNetwork(model, observation, action, output="policy"))
    >>> policy.action(ts.restart(tf.zeros((5, 3)), 5)).action.shape
    TensorShape([5])
    """

    def __init__(
        self,
        time_step_spec,
        action_spec,
        network,
        greedy=False,
        collect=False,
        seed=0,
    ):
        info_spec = ()
        if collect:
            info_spec = {
                "log_probability": tf.TensorSpec((), tf.float32),
                "state": without_episodic(network.state_spec),
            }
        super().__init__(
            time_step_spec,
            action_spec,
            policy_state_spec=network.state_spec,
            info_spec=info_spec,
            automatic_state_reset=False,
            # What is learned from is the action that was drawn; collectors
            # and `GymnasiumEnvironment` clip what they play.
            clip=not collect,
        )
        self._network = network
        self._greedy = greedy
        self._collect = collect
        self._seed = tf.Variable([seed, 0], trainable=False, name="seed")

    @property
    def outlives_episodes(self):
        """Nest of bools like `policy_state_spec`: what outlives episodes."""
        return self._network.outlives_episodes

    @tf.autograph.experimental.do_not_convert
    def sample(self, time_step, policy_state, seed):
        """Draws actions without touching any variable.

        Args:
            time_step: TF-Agents `TimeStep` `(batch, ...)`.
            policy_state: nest as of `get_initial_state`.
            seed: int32 tensor `(2,)`.

        Returns:
            TF-Agents `PolicyStep`.
        """
        distribution, state = self._act(time_step, policy_state)
        if self._greedy:
            action = tf.nest.map_structure(_mode, distribution)
        else:
            leaves = tf.nest.flatten(distribution)
            seeds = [
                tf.random.experimental.stateless_fold_in(seed, number)
                if number
                else seed
                for number in range(len(leaves))
            ]
            action = tf.nest.pack_sequence_as(
                distribution,
                [d.sample(seed=s) for d, s in zip(leaves, seeds)],
            )
        info = ()
        if self._collect:
            # Of the action as learning sees it: a distribution remembers what
            # it drew, from before tanh, where learning has but its inverse.
            log_probability = action_log_probability(
                distribution, tf.nest.map_structure(tf.identity, action)
            )
            info = {
                "log_probability": log_probability,
                "state": without_episodic(policy_state),
            }
        return policy_step.PolicyStep(action, state, info)

    def network_state(self, policy_state):
        """The network's part of a policy state: here all of it."""
        return policy_state

    def memories(self, policy_state):
        """Dict of the other parts, by loss term: here none."""
        return {}

    def _act(self, time_step, policy_state):
        """Nest of distributions over actions, and the state after them."""
        return self._network(
            time_step.observation,
            step_type=time_step.step_type,
            network_state=policy_state,
        )

    @tf.autograph.experimental.do_not_convert
    def _distribution(self, time_step, policy_state):
        distribution, state = self._act(time_step, policy_state)
        info = ()
        if self._collect:  # no action is drawn, so there is none to report
            nothing = tf.zeros_like(time_step.reward)
            info = {
                "log_probability": nothing,
                "state": without_episodic(policy_state),
            }
        return policy_step.PolicyStep(distribution, state, info)

    @tf.autograph.experimental.do_not_convert
    def _action(self, time_step, policy_state, seed=None):
        if seed is None:
            seed = self._seed.assign_add([0, 1])
        else:
            seed = tf.stack([tf.cast(seed, tf.int32), 0])
        return self.sample(time_step, policy_state, seed)

    def _variables(self):
        return self._network.variables


def _mode(distribution):
    return distribution.mode()
