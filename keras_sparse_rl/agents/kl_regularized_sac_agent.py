import tensorflow as tf
from tf_agents.agents.sac import sac_agent

from keras_sparse_rl.agents.default_policy import DefaultPolicy


class KLRegularizedSacAgent(sac_agent.SacAgent):
    """TF-Agents' `SacAgent`, kept near a default policy that knows less.

    See `KLRegularizedAgent`. As in the authors' Acme (agent `svg0_prior`), the
    divergence at the next observation is subtracted from the critics' targets,
    so that it enters the return, and added to the actor's loss. SAC's own
    entropy term stays beside it (a large negative `initial_log_alpha` and a
    `target_entropy` low enough take it away).

    Args:
        time_step_spec: TF-Agents `TimeStep` of specs, the environment's.
        action_spec: bounded TF-Agents spec of continuous actions.
        default_model: see `KLRegularizedAgent`; without memory, as SAC learns
            from single steps.
        default_optimizer: see `KLRegularizedAgent`.
        default_alpha: the coefficient of the divergence, see
            `KLRegularizedAgent` (SAC's alpha is that of its entropy).
        target_period: int, calls of `train` from one target copy of the
            default to the next.
        squash: bool, whether `actor_network` squashes actions.
        freeze_default: see `KLRegularizedAgent`.
        **arguments: of `SacAgent`.

    Raises:
        TypeError: if `default_optimizer` is none of Keras 3.
        ValueError: as `KLRegularizedAgent`, and if the default has a memory.

    Example:

    >>> import keras, tensorflow as tf
    >>> from keras_sparse_rl import agents, environments
    >>> walk = environments.WalkToTarget(batch_size=4)
    >>> observation, action = walk.observation_spec(), walk.action_spec()
    >>> actor = agents.build_model(
    ...     observation, {"policy": keras.layers.Dense(8)})
    >>> critic = agents.build_model(
    ...     (observation, action), {"value": keras.layers.Dense(1)})
    >>> body = {"proprioception": observation["proprioception"]}
    >>> agent = agents.KLRegularizedSacAgent(
    ...     walk.time_step_spec(), action,
    ...     agents.default_policy_model(body, action),
    ...     keras.optimizers.Adam(1e-3),
    ...     actor_network=agents.KerasNetwork(
    ...         actor, observation, action, output="policy"),
    ...     critic_network=agents.KerasNetwork(
    ...         critic, (observation, action), output="value"),
    ...     actor_optimizer=tf.keras.optimizers.Adam(1e-3),
    ...     critic_optimizer=tf.keras.optimizers.Adam(1e-3),
    ...     alpha_optimizer=tf.keras.optimizers.Adam(1e-3))
    >>> agent.initialize()
    """

    def __init__(
        self,
        time_step_spec,
        action_spec,
        default_model,
        default_optimizer=None,
        default_alpha=1e-3,
        target_period=100,
        squash=True,
        freeze_default=False,
        **arguments,
    ):
        super().__init__(time_step_spec, action_spec, **arguments)
        self._default = DefaultPolicy(
            time_step_spec,
            action_spec,
            default_model,
            default_optimizer,
            default_alpha,
            target_period,
            squash,
            freeze_default,
        )
        if self._default.remembers:
            raise ValueError(
                "`default_model` must have no memory: SAC learns from single "
                "steps, out of order. Build it without `core`, or use "
                "KLRegularizedAgent."
            )

    def divergence(self, time_steps):
        """`KL(policy || default)` of each step, in nats.

        Args:
            time_steps: TF-Agents `TimeStep` `(batch, ...)`.

        Returns:
            Float tensor `(batch,)`.
        """
        return self._default.divergence(self._acts(time_steps), time_steps)

    def critic_loss(
        self,
        time_steps,
        actions,
        next_time_steps,
        td_errors_loss_fn,
        gamma=1.0,
        reward_scale_factor=1.0,
        weights=None,
        training=False,
    ):
        """SAC's loss of the critics; the next step's divergence costs."""
        cost = self._default.alpha * self.divergence(next_time_steps)
        cost *= gamma * next_time_steps.discount / reward_scale_factor
        next_time_steps = next_time_steps._replace(
            reward=next_time_steps.reward - tf.stop_gradient(cost)
        )
        return super().critic_loss(
            time_steps,
            actions,
            next_time_steps,
            td_errors_loss_fn,
            gamma,
            reward_scale_factor,
            weights,
            training,
        )

    def actor_loss(self, time_steps, weights=None, training=True):
        """SAC's loss of the actor, and the divergence of each step."""
        loss = super().actor_loss(time_steps, weights, training)
        divergence = self.divergence(time_steps)
        if weights is not None:
            divergence *= weights
        return loss + self._default.alpha * tf.reduce_mean(divergence)

    @tf.autograph.experimental.do_not_convert
    def _train(self, experience, weights):
        info = super()._train(experience, weights)
        time_steps = self._as_transition(experience).time_step
        ones = tf.ones_like(time_steps.reward)
        self._default.learn(
            self._acts(time_steps),
            time_steps,
            ones if weights is None else ones * weights,
        )
        return info

    def _acts(self, time_steps):
        state = self._train_policy.get_initial_state(
            tf.shape(time_steps.step_type)[0]
        )
        return self._train_policy.distribution(time_steps, state).action
