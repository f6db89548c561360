import tensorflow as tf
from tf_agents.agents.ppo import ppo_clip_agent
from tf_agents.utils import nest_utils

from keras_sparse_rl.agents.default_policy import DefaultPolicy


class KLRegularizedPPOClipAgent(ppo_clip_agent.PPOClipAgent):
    """TF-Agents' `PPOClipAgent`, kept near a default policy that knows less.

    See `KLRegularizedAgent`: the divergence from the default policy is
    subtracted from the rewards, so that it enters returns and advantages, and
    added to the loss of each step (reported with `policy_gradient_loss`). The
    default learns by its own optimizer after each `train`.

    Args:
        time_step_spec: TF-Agents `TimeStep` of specs, the environment's.
        action_spec: nest of bounded TF-Agents specs, the environment's.
        default_model: see `KLRegularizedAgent`.
        default_optimizer: see `KLRegularizedAgent`.
        alpha: see `KLRegularizedAgent`; a function gets the number of calls
            of `train`.
        target_period: int, calls of `train` from one target copy to the next.
        squash: bool, whether `actor_net` squashes continuous actions.
        freeze_default: see `KLRegularizedAgent`.
        **arguments: of `PPOClipAgent`. `normalize_rewards` is False here: the
            divergence is measured in units of reward.

    Raises:
        TypeError: if `default_optimizer` is none of Keras 3.
        ValueError: as `KLRegularizedAgent`, and if rewards are normalized.

    Example:

    >>> import keras, tensorflow as tf
    >>> from keras_sparse_rl import agents, environments
    >>> rooms = environments.GoToTarget(size=7, batch_size=4)
    >>> observation, action = rooms.observation_spec(), rooms.action_spec()
    >>> model = agents.actor_critic_model(observation, action)
    >>> agent = agents.KLRegularizedPPOClipAgent(
    ...     rooms.time_step_spec(), action,
    ...     agents.default_policy_model(
    ...         {"walls": observation["walls"]}, action),
    ...     keras.optimizers.Adam(1e-3),
    ...     alpha=0.01,
    ...     optimizer=tf.keras.optimizers.Adam(1e-3),
    ...     actor_net=agents.KerasNetwork(
    ...         model, observation, action, output="policy"),
    ...     value_net=agents.KerasNetwork(model, observation, output="value"),
    ...     normalize_observations=False)
    >>> agent.initialize()
    """

    def __init__(
        self,
        time_step_spec,
        action_spec,
        default_model=None,
        default_optimizer=None,
        alpha=1e-3,
        target_period=100,
        squash=True,
        freeze_default=False,
        **arguments,
    ):
        if arguments.setdefault("normalize_rewards", False):
            raise ValueError(
                "`normalize_rewards` must be False: the divergence is counted "
                "in units of reward, once in the return and once in the step, "
                "and normalizing would scale only one of them. Scale rewards "
                "in the environment."
            )
        super().__init__(time_step_spec, action_spec, **arguments)
        self._default = DefaultPolicy(
            time_step_spec,
            action_spec,
            default_model,
            default_optimizer,
            alpha,
            target_period,
            squash,
            freeze_default,
        )

    def divergence(self, time_steps):
        """`KL(policy || default)` of each step, in nats.

        Args:
            time_steps: TF-Agents `TimeStep` or `Trajectory`
                `(batch, time, ...)`, or `(batch, ...)`.

        Returns:
            Float tensor `(batch, time)` or `(batch,)`.
        """
        return self._default.divergence(self._acts(time_steps), time_steps)

    def policy_gradient_loss(
        self,
        time_steps,
        actions,
        sample_action_log_probs,
        advantages,
        current_policy_distribution,
        weights,
        debug_summaries=False,
    ):
        """PPO's loss of the policy, and the divergence of each step."""
        loss = super().policy_gradient_loss(
            time_steps,
            actions,
            sample_action_log_probs,
            advantages,
            current_policy_distribution,
            weights,
            debug_summaries,
        )
        divergence = self._default.divergence(
            current_policy_distribution, time_steps
        )
        return loss + self._default.alpha * tf.reduce_mean(divergence * weights)

    def _preprocess(self, experience):
        rank = nest_utils.get_outer_rank(
            experience.discount, self.collect_data_spec.discount
        )
        batched = experience
        if rank == 1:
            batched = nest_utils.batch_nested_tensors(experience)
        divergence = tf.stop_gradient(self.divergence(batched))
        if rank == 1:
            divergence = divergence[0]
        charged = experience.replace(
            reward=experience.reward - self._default.alpha * divergence
        )
        found = super()._preprocess(charged)
        return found.replace(reward=experience.reward)

    @tf.autograph.experimental.do_not_convert
    def _train(self, experience, weights):
        info = super()._train(experience, weights)
        experience = self._as_trajectory(experience)
        valid = tf.cast(~experience.is_boundary(), tf.float32)
        self._default.learn(
            self._acts(experience),
            experience,
            valid if weights is None else valid * weights,
        )
        return info

    def _acts(self, time_steps):
        state = self._collect_policy.get_initial_state(
            tf.shape(time_steps.step_type)[0]
        )
        return self._collect_policy._distribution(
            time_steps, state, training=False
        ).action
