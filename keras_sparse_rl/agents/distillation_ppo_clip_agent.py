import collections

import tensorflow as tf
from tf_agents.agents.ppo import ppo_agent
from tf_agents.agents.ppo import ppo_clip_agent
from tf_agents.trajectories import time_step as ts
from tf_agents.utils import nest_utils

from keras_sparse_rl._checks import check_non_negative
from keras_sparse_rl._checks import check_unit
from keras_sparse_rl.agents.policy_parameters import policy_parameters
from keras_sparse_rl.agents.policy_parameters import unsquashed_action
from keras_sparse_rl.agents.teacher import Teacher
from keras_sparse_rl.losses import DistillationVariant
from keras_sparse_rl.losses import distillation_loss

_LossInfo = collections.namedtuple(
    "DistillationPPOLossInfo",
    (*ppo_agent.PPOLossInfo._fields, "distillation_loss"),
)


class DistillationPPOClipAgent(ppo_clip_agent.PPOClipAgent):
    """TF-Agents' `PPOClipAgent` that learns from a teacher.

    "Distilling Policy Distillation" by Czarnecki et al. 2019
    (https://arxiv.org/abs/1902.02186), in PPO: the per-step loss is added to
    PPO's, and the pseudo-reward to the rewards before advantages are computed.
    PPO learns from its own actions, so the student collects in all variants,
    and it scales advantages to one variance, so that variants with a
    pseudo-reward are no exact gradient fields here.
    Where nothing is rewarded PPO's own policy loss is left out: normalized
    advantages of no reward would be noise. A teacher with a memory starts each
    sequence anew, as PPO's own networks do. `train(...).extra` holds PPO's
    figures and `distillation_loss`, all of the last epoch.

    Args:
        time_step_spec: TF-Agents `TimeStep` of specs, the environment's.
        action_spec: nest of bounded TF-Agents specs, the environment's.
        optimizer: as for `PPOClipAgent`.
        actor_net: network of TF-Agents, such as `KerasNetwork`.
        value_net: network of TF-Agents.
        teacher: `Teacher`, or what it accepts as `source`.
        variant: `losses.DistillationVariant`, or the name of one; neither
            teacher-driven nor with the teacher's value as bootstrap.
        coefficient: float of at least 0 that multiplies loss and
            pseudo-reward, or a function of the number of calls of `train`.
        discount_factor: float in [0, 1].
        **arguments: other arguments of `PPOClipAgent`; `normalize_rewards` is
            False here.

    Raises:
        ValueError: if the variant is none that PPO can follow, the
            coefficient is negative, or the teacher does not fit.

    Example:

    >>> import keras, tensorflow as tf
    >>> from keras_sparse_rl import agents, environments
    >>> world = environments.RandomGridWorld(size=5, view=3, batch_size=2)
    >>> observation, action = world.observation_spec(), world.action_spec()
    >>> def network(units, action_spec=None):
    ...     model = keras.Sequential([keras.Input((3, 3, 3)),
    ...         keras.layers.Flatten(), keras.layers.Dense(units)])
    ...     return agents.KerasNetwork(model, observation, action_spec)
    >>> agent = agents.DistillationPPOClipAgent(
    ...     world.time_step_spec(), action, keras.optimizers.Adam(1e-3),
    ...     network(4, action), network(1),
    ...     lambda seen: tf.tile([[9.0, 0, 0, 0]], [tf.shape(seen)[0], 1]),
    ...     variant="n_distill")
    >>> agent.variant.reward
    'next_loss'
    """

    def __init__(
        self,
        time_step_spec,
        action_spec,
        optimizer,
        actor_net,
        value_net,
        teacher,
        variant="on_policy",
        coefficient=1.0,
        discount_factor=0.99,
        **arguments,
    ):
        if arguments.setdefault("normalize_rewards", False):
            raise ValueError(
                "`normalize_rewards` must be False: pseudo-rewards and the "
                "teacher's value are in units of the reward as it is. "
                "Received: True. Scale the environment's rewards instead."
            )
        if not isinstance(teacher, Teacher):
            teacher = Teacher(teacher, time_step_spec, action_spec)
        variant = DistillationVariant.named(variant)
        if variant.teacher_share or variant.teacher_bootstrap:
            raise ValueError(
                "PPO learns from its own actions and their returns. Received: "
                f"{variant}. Use a variant with teacher_share=0 and "
                "teacher_bootstrap=False, such as 'on_policy' or "
                "'teacher_value', or agents.DistillationAgent."
            )
        teacher.check_variant(variant)
        if not callable(coefficient):
            coefficient = check_non_negative("coefficient", coefficient)
        self.teacher = teacher
        self.variant = variant
        self._distillation_coefficient = coefficient
        # PPO's own counter moves several times in one call of `train`.
        self._calls = tf.Variable(0, trainable=False, dtype=tf.int64)
        self._reward_discount = check_unit("discount_factor", discount_factor)
        super().__init__(
            time_step_spec,
            action_spec,
            optimizer=optimizer,
            actor_net=actor_net,
            value_net=value_net,
            discount_factor=discount_factor,
            **arguments,
        )
        teacher.check_other(actor_net.variables)

    def get_loss(self, time_steps, actions, *args, **kwargs):
        """PPO's loss and that of distillation; see `PPOAgent.get_loss`."""
        info = super().get_loss(time_steps, actions, *args, **kwargs)
        if self.variant.loss is None:
            return info._replace(extra=_LossInfo(*info.extra, tf.zeros(())))
        # Not PPO's mask, which leaves out steps without return and advantage.
        weights = tf.cast(tf.logical_not(time_steps.is_last()), tf.float32)
        # Without the step after the last, whose loss is in the reward alone.
        padded = tf.nest.map_structure(
            lambda x: tf.concat([x, x[:, -1:]], axis=1), time_steps
        )
        found = self._distillation(
            padded, actions, tf.zeros_like(time_steps.discount)
        )
        loss = self._coefficient() * _mean(found.loss_tm1, weights)
        return info._replace(
            loss=info.loss + loss, extra=_LossInfo(*info.extra, loss)
        )

    def policy_gradient_loss(self, *args, **kwargs):
        """PPO's policy loss, 0 where nothing is rewarded."""
        if not self.variant.has_return:
            return tf.zeros(())
        return super().policy_gradient_loss(*args, **kwargs)

    @tf.autograph.experimental.do_not_convert
    def _train(self, experience, weights):
        info = super()._train(experience, weights)
        self._calls.assign_add(1)
        return info

    def _preprocess(self, experience):
        rank = nest_utils.get_outer_rank(
            experience.discount, self.collect_data_spec.discount
        )
        if rank == 1:
            batched = nest_utils.batch_nested_tensors(experience)
            return nest_utils.unbatch_nested_tensors(self._preprocess(batched))
        reward = experience.reward
        if not (self.variant.environment_reward or self.variant.value_gate):
            reward = tf.zeros_like(reward)
        if self.variant.reward is not None:
            time_steps = ts.TimeStep(
                experience.step_type,
                experience.reward,
                experience.discount,
                experience.observation,
            )
            found = self._distillation(
                time_steps,
                tf.nest.map_structure(lambda x: x[:, :-1], experience.action),
                self._reward_discount * experience.discount[:, :-1],
            )
            extra = self._coefficient() * tf.stop_gradient(found.reward_t)
            reward += tf.pad(extra, [[0, 0], [0, 1]])
        return super()._preprocess(experience.replace(reward=reward))

    def _distillation(self, time_steps, actions, discount_t):
        """`Distillation` of sequences `(batch, time + 1, ...)`."""
        batch_size = tf.shape(time_steps.step_type)[0]
        policy = self._collect_policy._distribution(
            time_steps, self._collect_policy.get_initial_state(batch_size)
        ).action
        self.teacher.check_student(policy)
        advice = self.teacher.advise(
            time_steps.observation,
            tf.equal(time_steps.step_type, ts.StepType.FIRST),
            self.teacher.initial_state(batch_size),
        )
        value = None
        if self.variant.value_gate:
            value, _ = self._collect_policy.apply_value_network(
                time_steps.observation,
                time_steps.step_type,
                value_state=self._collect_policy.get_initial_value_state(
                    batch_size
                ),
                training=False,
            )
            value = tf.stop_gradient(value)
        return distillation_loss(
            self.variant,
            policy_parameters(policy),
            advice.policy,
            unsquashed_action(actions, policy),
            discount_t,
            student_value=value,
            teacher_value=advice.value,
        )

    def _coefficient(self):
        if callable(self._distillation_coefficient):
            coefficient = self._distillation_coefficient(self._calls)
            return tf.cast(coefficient, tf.float32)
        return self._distillation_coefficient


def _mean(x, weights):
    return tf.reduce_sum(x * weights) / tf.maximum(tf.reduce_sum(weights), 1.0)
