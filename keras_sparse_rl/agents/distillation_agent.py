import tensorflow as tf

from keras_sparse_rl.agents.actor_critic_agent import ActorCriticAgent
from keras_sparse_rl.agents.distillation_term import DistillationTerm
from keras_sparse_rl.agents.teacher import Teacher


class DistillationAgent(ActorCriticAgent):
    """Learns a policy from another one, in any of the known ways.

    "Distilling Policy Distillation" by Czarnecki et al. 2019
    (https://arxiv.org/abs/1902.02186): who collects, what is lost at each
    step, and what is rewarded, as `losses.DistillationVariant` names them.
    An `ActorCriticAgent` with a `DistillationTerm`, in which the environment's
    reward counts only if the variant says so, and the losses of actor and value
    are left out where nothing is rewarded, also by no other term.

    Args:
        time_step_spec: TF-Agents `TimeStep` of specs, the environment's.
        action_spec: nest of bounded TF-Agents specs, the environment's.
        model: the student: `keras.Model` of the network contract with outputs
            `"policy"` and `"value"`, as `actor_critic_model` makes it.
        optimizer: `keras.optimizers.Optimizer`.
        teacher: `Teacher`, or what it accepts as `source`.
        variant: `losses.DistillationVariant`, or the name of one.
        coefficient: float of at least 0 that multiplies the loss and the
            pseudo-reward, or a function of the train step.
        entropy_coefficient: float, 0 by default: an entropy bonus changes
            what is cloned.
        **arguments: other arguments of `ActorCriticAgent`.

    Raises:
        ValueError: if the teacher does not fit, the coefficient is negative,
            or the student's model is the teacher itself.

    Example:

    >>> import keras, tensorflow as tf
    >>> from keras_sparse_rl import agents, environments
    >>> world = environments.RandomGridWorld(size=5, view=3, batch_size=2)
    >>> agent = agents.DistillationAgent(
    ...     world.time_step_spec(), world.action_spec(),
    ...     agents.actor_critic_model(
    ...         world.observation_spec(), world.action_spec()),
    ...     keras.optimizers.Adam(1e-3),
    ...     lambda seen: tf.tile([[9.0, 0, 0, 0]], [tf.shape(seen)[0], 1]),
    ...     variant="n_distill")
    >>> history = agents.train(agent, world, epochs=1, steps_per_epoch=2,
    ...                        segment_length=4, verbose=0)
    >>> history.history["distillation"][0] > 0
    True
    """

    def __init__(
        self,
        time_step_spec,
        action_spec,
        model,
        optimizer,
        teacher,
        variant="expected_kl",
        coefficient=1.0,
        entropy_coefficient=0.0,
        **arguments,
    ):
        if not isinstance(teacher, Teacher):
            teacher = Teacher(
                teacher,
                time_step_spec,
                action_spec,
                squash=arguments.get("squash", True),
            )
        term = DistillationTerm(teacher, variant, coefficient)
        self._variant = term.variant
        terms = [term, *arguments.pop("loss_terms", ())]
        super().__init__(
            time_step_spec,
            action_spec,
            model,
            optimizer,
            loss_terms=terms,
            entropy_coefficient=entropy_coefficient,
            **arguments,
        )

    def _environment_reward(self, segment):
        variant = self._variant
        if variant.environment_reward or variant.value_gate:
            return segment.reward_t
        return tf.zeros_like(segment.reward_t)

    def _actor_critic_losses(self, segment, rewards):
        losses = super()._actor_critic_losses(segment, rewards)
        if self._variant.value_gate and rewards:
            raise ValueError(
                "The variant's value_gate compares the teacher's value with "
                "the student's, which must be of the environment's reward "
                f"alone. Received loss terms that pay: {sorted(rewards)}. "
                "Leave them or the gate out."
            )
        if not (self._variant.has_return or rewards):
            del losses["policy"]
            if not self._variant.value_gate:
                del losses["value"]
        return losses
