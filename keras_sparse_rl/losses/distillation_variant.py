import dataclasses

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_flag
from keras_sparse_rl._checks import check_unit

LOSSES = (
    None,
    "teacher_cross_entropy",
    "teacher_kl",
    "student_cross_entropy",
    "student_kl",
)
REWARDS = (None, "log_probability", "next_loss", "teacher_value")


@dataclasses.dataclass(frozen=True)
class DistillationVariant:
    """Who collects, what is lost at each step, and what is rewarded.

    The three knobs of "Distilling Policy Distillation" by Czarnecki et al.
    2019 (https://arxiv.org/abs/1902.02186), section 2. With the teacher `pi`
    and the student `pi_theta`:

    Args:
        loss: loss of each step, or None.
            `"teacher_cross_entropy"`: `-E_pi log pi_theta`;
            `"teacher_kl"`: `KL(pi || pi_theta)`, which has the same gradient;
            `"student_cross_entropy"`: `-E_pi_theta log pi`;
            `"student_kl"`: `KL(pi_theta || pi)`.
        reward: pseudo-reward of each step, or None.
            `"log_probability"`: `log pi(a)` of the action taken;
            `"next_loss"`: minus the loss at the step that is reached, times
            the discount;
            `"teacher_value"`: `gamma V_pi(s') - V_pi(s)`.
        teacher_share: float in [0, 1], probability at each step that the
            teacher acts: 1 for teacher-driven, 0 for student-driven.
        environment_reward: bool, whether the environment's reward counts.
        value_gate: bool: the loss counts only where the teacher's value is
            above the student's, which is that of the environment's reward;
            not together with a pseudo-reward.
        teacher_bootstrap: bool: actions are reinforced by
            `r + gamma V_pi(s')`, without looking further.

    Raises:
        ValueError: if a value is none of those above, or nothing is learned.

    Example:

    >>> from keras_sparse_rl.losses import DistillationVariant
    >>> variant = DistillationVariant.named("n_distill")
    >>> variant.loss, variant.reward
    ('teacher_cross_entropy', 'next_loss')
    """

    loss: str | None = None
    reward: str | None = None
    teacher_share: float = 0.0
    environment_reward: bool = False
    value_gate: bool = False
    teacher_bootstrap: bool = False

    def __post_init__(self):
        check_choice("loss", self.loss, LOSSES)
        check_choice("reward", self.reward, REWARDS)
        check_unit("teacher_share", self.teacher_share)
        check_flag("environment_reward", self.environment_reward)
        check_flag("value_gate", self.value_gate)
        check_flag("teacher_bootstrap", self.teacher_bootstrap)
        if self.loss is None and (
            self.value_gate or self.reward == "next_loss"
        ):
            raise ValueError(
                "`value_gate` and reward='next_loss' need a loss. Received: "
                f"{self}. Give loss='student_kl', for example."
            )
        if self.value_gate and self.reward is not None:
            raise ValueError(
                "`value_gate` compares values of the environment's reward "
                "alone, so it cannot stand beside a pseudo-reward. Received: "
                f"{self}. Give reward=None."
            )
        if not (self.loss or self.reward or self.teacher_bootstrap):
            raise ValueError(
                "Without loss, reward and teacher_bootstrap nothing of the "
                f"teacher is learned. Received: {self}."
            )

    @classmethod
    def named(cls, name):
        """One of the paper's variants.

        - `"teacher"`: teacher distillation: the teacher collects, its
          cross-entropy is minimized. Clones; a gradient field.
        - `"on_policy"`: the same loss where the student goes. Clones in a
          table, but no gradient field: with rewards it may cycle.
        - `"entropy_regularized"`: `log pi(a)` as reward, no loss. A gradient
          field of high variance.
        - `"n_distill"`: on-policy, with minus the next loss as reward. A
          gradient field; ends near the teacher, not at it.
        - `"expected_entropy"`: `-E_pi_theta log pi` as loss and minus its next
          value as reward: the same objective as entropy regularized, of much
          lower variance with a good value function. Does not clone: the
          student ends nearly deterministic.
        - `"expected_kl"`: the same with the whole `KL(pi_theta || pi)`. A
          gradient field, and clones. What to use when in doubt.
        - `"teacher_value"`: environment's reward shaped by the teacher's
          value. The expected gradient is that of reinforcement learning.
        - `"value_gated"`: on-policy, only where the teacher's value is above
          the student's. No gradient field.
        - `"td_teacher_value"`: actions are reinforced by the reward and the
          teacher's value of what they lead to. No gradient field.

        The gradient fields are those for a discount of 1, or with steps
        weighted by `gamma ** t`.

        Args:
            name: str, or a variant, which is returned as it is.

        Returns:
            `DistillationVariant`. Others, such as one with the environment's
            reward, by `dataclasses.replace`.

        Raises:
            ValueError: if there is no variant of that name.

        Example:

        >>> import dataclasses
        >>> from keras_sparse_rl.losses import DistillationVariant
        >>> dataclasses.replace(DistillationVariant.named("on_policy"),
        ...     environment_reward=True).environment_reward
        True
        """
        if isinstance(name, cls):
            return name
        return _NAMED[check_choice("name", name, tuple(_NAMED))]

    @property
    def needs_teacher_value(self):
        """Whether the teacher must have a value."""
        return (
            self.value_gate
            or self.teacher_bootstrap
            or self.reward == "teacher_value"
        )

    @property
    def has_return(self):
        """Whether actions are reinforced by rewards to come."""
        return not self.teacher_bootstrap and (
            self.environment_reward or self.reward is not None
        )


_NAMED = {
    "teacher": DistillationVariant("teacher_cross_entropy", teacher_share=1.0),
    "on_policy": DistillationVariant("teacher_cross_entropy"),
    "entropy_regularized": DistillationVariant(reward="log_probability"),
    "n_distill": DistillationVariant("teacher_cross_entropy", "next_loss"),
    "expected_entropy": DistillationVariant(
        "student_cross_entropy", "next_loss"
    ),
    "expected_kl": DistillationVariant("student_kl", "next_loss"),
    "teacher_value": DistillationVariant(
        reward="teacher_value", environment_reward=True
    ),
    "value_gated": DistillationVariant(
        "teacher_cross_entropy", value_gate=True
    ),
    "td_teacher_value": DistillationVariant(
        teacher_bootstrap=True, environment_reward=True
    ),
}
