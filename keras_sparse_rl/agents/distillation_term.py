import tensorflow as tf

from keras_sparse_rl._checks import check_non_negative
from keras_sparse_rl.agents.distillation_policy import DistillationPolicy
from keras_sparse_rl.agents.loss_term import LossTerm
from keras_sparse_rl.agents.policy_parameters import policy_parameters
from keras_sparse_rl.agents.policy_parameters import unsquashed_action
from keras_sparse_rl.losses import DistillationVariant
from keras_sparse_rl.losses import distillation_loss


class DistillationTerm(LossTerm):
    """Learns from a teacher, as a part of any `ActorCriticAgent`.

    The terms of "Distilling Policy Distillation" by Czarnecki et al. 2019
    (https://arxiv.org/abs/1902.02186); see `losses.DistillationVariant`. Among
    an agent's `loss_terms` the environment's reward counts and the actor's own
    loss stays; `DistillationAgent` leaves them out where the variant does.

    Args:
        teacher: `Teacher`.
        variant: `losses.DistillationVariant`, or the name of one.
        coefficient: float of at least 0 that multiplies loss and
            pseudo-reward, or a function of the train step.
        name: str under which the loss is reported.
        gate: `gradients.GradientGate`, which lets the loss (not the reward)
            count only as far as it points the way of the other losses.
        seed: int, of who acts where teacher and student share it and the
            policy is asked outside of `train`, which has a seed of its own.

    Raises:
        ValueError: if the coefficient is negative, or the variant needs the
            teacher's value and it has none; and, by the agent, if the teacher
            is the student itself.

    Example:

    >>> import keras, tensorflow as tf
    >>> from keras_sparse_rl import agents, environments
    >>> world = environments.RandomGridWorld(size=5, view=3, batch_size=2)
    >>> specs = world.time_step_spec(), world.action_spec()
    >>> teacher = agents.Teacher(
    ...     lambda seen: tf.tile([[9.0, 0, 0, 0]], [tf.shape(seen)[0], 1]),
    ...     *specs)
    >>> agent = agents.ActorCriticAgent(*specs, agents.actor_critic_model(
    ...     world.observation_spec(), world.action_spec()),
    ...     keras.optimizers.Adam(1e-3),
    ...     loss_terms=[agents.DistillationTerm(teacher, "on_policy", 0.1)])
    >>> [term.name for term in agent.loss_terms]
    ['distillation']
    """

    def __init__(
        self,
        teacher,
        variant="expected_kl",
        coefficient=1.0,
        name="distillation",
        gate=None,
        seed=0,
    ):
        if not callable(coefficient):
            check_non_negative("coefficient", coefficient)
        super().__init__(coefficient, name, gate)
        variant = DistillationVariant.named(variant)
        teacher.check_variant(variant)
        self.teacher = teacher
        self.variant = variant
        self._seed = seed

    def collect_policy(self, policy):
        self.teacher.check_other(policy.variables())
        share = self.variant.teacher_share
        if share and getattr(policy, "teacher_share", 0):
            raise ValueError(
                "Only one loss term may say that its teacher acts. Received "
                f"teacher_share={share} for {self.name!r} beside one of "
                f"{policy.teacher_share}. Use dataclasses.replace(variant, "
                "teacher_share=0.0) for one of them."
            )
        return DistillationPolicy(
            policy, self.teacher, share, self.name, self._seed
        )

    def prepare(self, segment):
        self.teacher.check_student(segment.policy)
        advice = self.teacher.advise(
            segment.observation,
            segment.is_first,
            segment.memories[self.name],
        )
        return distillation_loss(
            self.variant,
            policy_parameters(segment.policy),
            advice.policy,
            unsquashed_action(segment.action, segment.distribution),
            segment.discount_t,
            segment.reward_t,
            tf.stop_gradient(segment.value),
            advice.value,
        )

    def reward(self, segment):
        return segment.prepared[self.name].reward_t

    def loss(self, segment):
        found = segment.prepared[self.name]
        losses = []
        if found.loss_tm1 is not None:
            losses.append(found.loss_tm1)
        if found.advantage_tm1 is not None:
            ratio = tf.exp(
                segment.log_probability - segment.behaviour_log_probability
            )
            weight = tf.minimum(ratio, 1.0) * found.advantage_tm1
            losses.append(-tf.stop_gradient(weight) * segment.log_probability)
        return tf.add_n(losses) if losses else None
