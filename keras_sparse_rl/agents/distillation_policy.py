import math

import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.policies import tf_policy
from tf_agents.trajectories import policy_step

from keras_sparse_rl.agents.action_distribution import action_log_probability
from keras_sparse_rl.agents.episodic_state import without_episodic


class DistillationPolicy(tf_policy.TFPolicy):
    """Acts by the teacher or the student, chosen anew at each step.

    It reports the log-probability of the action under the mixture of both, so
    that what is learned from it can be corrected. The teacher's memory, if it
    has one, is carried along whoever acts.

    Args:
        student: `ActorCriticPolicy` with `collect=True`.
        teacher: `Teacher`.
        teacher_share: float in [0, 1], probability that the teacher acts.
        name: str, the loss term's, under which its memory is found.
        seed: int.

    Example:

    >>> import keras, tensorflow as tf
    >>> from keras_sparse_rl import agents, environments
    >>> world = environments.RandomGridWorld(size=5, view=3, batch_size=2)
    >>> specs = world.time_step_spec(), world.action_spec()
    >>> student = agents.ActorCriticAgent(*specs, agents.actor_critic_model(
    ...     world.observation_spec(), world.action_spec()),
    ...     keras.optimizers.Adam()).collect_policy
    >>> teacher = agents.Teacher(
    ...     lambda seen: tf.tile([[9.0, 0, 0, 0]], [tf.shape(seen)[0], 1]),
    ...     *specs)
    >>> policy = agents.DistillationPolicy(student, teacher, 0.5)
    >>> policy.action(world.reset()).action.shape
    TensorShape([2])
    """

    def __init__(
        self, student, teacher, teacher_share, name="distillation", seed=0
    ):
        self._student = student
        self._teacher = teacher
        self.teacher_share = teacher_share
        self._term = name
        self._remembers = bool(tf.nest.flatten(teacher.state_spec))
        state_spec = student.policy_state_spec
        if self._remembers:
            state_spec = {"student": state_spec, "teacher": teacher.state_spec}
        super().__init__(
            student.time_step_spec,
            student.action_spec,
            policy_state_spec=state_spec,
            info_spec={
                **student.info_spec,
                "state": without_episodic(state_spec),
            },
            automatic_state_reset=False,
            clip=False,
        )
        # Its own: the student's moves on where others collect.
        self._seed = tf.Variable([seed, 0], trainable=False, name="seed")

    @property
    def outlives_episodes(self):
        """Nest of bools like `policy_state_spec`: what outlives episodes."""
        student = self._student.outlives_episodes
        if not self._remembers:
            return student
        return {
            "student": student,
            "teacher": self._teacher.outlives_episodes,
        }

    def network_state(self, policy_state):
        """The student network's part of a policy state."""
        return self._student.network_state(self._parts(policy_state)[0])

    def memories(self, policy_state):
        """Dict of the other parts, by loss term."""
        student_state, teacher_state = self._parts(policy_state)
        inner = self._student.memories(student_state)
        return {**inner, self._term: teacher_state}

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
        student_state, teacher_state = self._parts(policy_state)
        share = self.teacher_share
        if not share and not self._remembers:
            return self._student.sample(time_step, student_state, seed)
        advice, new_teacher_state = self._teacher.distribution(
            time_step, teacher_state
        )
        if not share:
            step = self._student.sample(time_step, student_state, seed)
            action = step.action
            log_probability = step.info["log_probability"]
        else:
            step = self._student.distribution(time_step, student_state)
            action, log_probability = _mixture_sample(
                advice, step.action, share, seed
            )
        state = step.state
        if self._remembers:
            state = {"student": step.state, "teacher": new_teacher_state}
        info = {
            "log_probability": log_probability,
            "state": without_episodic(policy_state),
        }
        return policy_step.PolicyStep(action, state, info)

    @tf.autograph.experimental.do_not_convert
    def _distribution(self, time_step, policy_state):
        student_state, teacher_state = self._parts(policy_state)
        step = self._student.distribution(time_step, student_state)
        advice, teacher_state = self._teacher.distribution(
            time_step, teacher_state
        )
        state = step.state
        if self._remembers:
            state = {"student": state, "teacher": teacher_state}
        share = tf.fill(tf.shape(time_step.reward), self.teacher_share)
        who = tfp.distributions.Categorical(
            probs=tf.stack([share, 1 - share], axis=-1)
        )
        mixed = [
            tfp.distributions.Mixture(who, parts)
            for parts in zip(
                tf.nest.flatten(advice), tf.nest.flatten(step.action)
            )
        ]
        return policy_step.PolicyStep(
            tf.nest.pack_sequence_as(step.action, mixed),
            state,
            {**step.info, "state": without_episodic(policy_state)},
        )

    @tf.autograph.experimental.do_not_convert
    def _action(self, time_step, policy_state, seed=None):
        if seed is None:
            seed = self._seed.assign_add([0, 1])
        else:
            seed = tf.stack([tf.cast(seed, tf.int32), 0])
        return self.sample(time_step, policy_state, seed)

    def _get_initial_state(self, batch_size):
        state = self._student.get_initial_state(batch_size)
        if self._remembers:
            teacher = self._teacher.initial_state(batch_size)
            state = {"student": state, "teacher": teacher}
        return state

    def _parts(self, policy_state):
        if self._remembers:
            return policy_state["student"], policy_state["teacher"]
        return policy_state, ()

    def _variables(self):
        return self._student.variables()


def _mixture_sample(teacher, student, share, seed):
    """Actions of either policy, and their probability under the mixture."""
    number = iter(range(2 * len(tf.nest.flatten(student)) + 1))

    def next_seed():
        return tf.random.experimental.stateless_fold_in(seed, next(number))

    def drawn(distribution):
        return [
            d.sample(seed=next_seed()) for d in tf.nest.flatten(distribution)
        ]

    shape = tf.nest.flatten(student)[0].batch_shape_tensor()
    teaches = tf.random.stateless_uniform(shape, next_seed()) < share
    action = tf.nest.pack_sequence_as(
        student,
        [
            tf.where(_like(teaches, own), advised, own)
            for advised, own in zip(drawn(teacher), drawn(student))
        ],
    )
    # In the student's nest, of which the teacher's may be another type.
    advice = tf.nest.pack_sequence_as(student, tf.nest.flatten(teacher))
    advised = action_log_probability(advice, action)
    if share == 1:
        return action, advised
    own = action_log_probability(student, action)
    log_probability = tf.reduce_logsumexp(
        [math.log(share) + advised, math.log(1 - share) + own], axis=0
    )
    return action, log_probability


def _like(condition, x):
    return tf.reshape(
        condition,
        tf.concat([tf.shape(condition), tf.ones_like(tf.shape(x)[1:])], 0),
    )
