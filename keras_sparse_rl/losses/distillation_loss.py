import collections

from keras import ops

from keras_sparse_rl._checks import check_same_shape
from keras_sparse_rl._checks import fits
from keras_sparse_rl.losses.distillation_variant import DistillationVariant
from keras_sparse_rl.losses.policy_divergences import policy_cross_entropy
from keras_sparse_rl.losses.policy_divergences import policy_kl
from keras_sparse_rl.losses.policy_divergences import policy_log_probability
from keras_sparse_rl.losses.policy_divergences import policy_shapes
from keras_sparse_rl.losses.policy_divergences import policy_steps

Distillation = collections.namedtuple(
    "Distillation", ["loss_tm1", "reward_t", "advantage_tm1"]
)
Distillation.__doc__ = """What `distillation_loss` returns.

Tensors `(batch, time)`, or None where the variant has no such part:
`loss_tm1`, to be minimized; `reward_t`, pseudo-rewards to be added to the
environment's; `advantage_tm1`, which takes the place of the advantage that
multiplies `log pi_theta(a_tm1)`.

Example:

>>> from keras_sparse_rl.losses import Distillation
>>> Distillation(1.0, None, None).loss_tm1
1.0
"""


def distillation_loss(
    variant,
    student,
    teacher,
    a_tm1,
    discount_t,
    r_t=None,
    student_value=None,
    teacher_value=None,
):
    """Loss and pseudo-reward of a policy that learns from another.

    "Distilling Policy Distillation" by Czarnecki et al. 2019
    (https://arxiv.org/abs/1902.02186), section 2 and table 1. A student
    follows `E[sum_t -grad log pi_theta(a_t) R_t + grad loss_t]`, where `R_t`
    is the return of the environment's and the pseudo-rewards. `_tm1` is what
    belongs to the step that is left, `_t` to the one that is reached; policies
    and values are given for all `time + 1` steps.

    No gradient is stopped here but that of the gate: stop it in `reward_t` and
    `advantage_tm1` when they multiply `log pi_theta`.

    Args:
        variant: `DistillationVariant`, or the name of one.
        student: policy of `time + 1` steps: logits
            `(batch, time + 1, actions)`, `Gaussian` of tensors
            `(batch, time + 1, components)`, or a nest of them.
        teacher: policy of the same form.
        a_tm1: nest of actions `(batch, time, ...)`; see
            `policy_log_probability`.
        discount_t: tensor `(batch, time)`: discount factor, 0 where the
            episode terminated.
        r_t: tensor `(batch, time)`, the environment's rewards, which
            `teacher_bootstrap` needs.
        student_value: tensor `(batch, time + 1)`, which `value_gate` needs.
        teacher_value: tensor `(batch, time + 1)`, which `value_gate`,
            `teacher_bootstrap` and reward `"teacher_value"` need.

    Returns:
        `Distillation`.

    Raises:
        ValueError: if the variant needs a tensor that is not given, or shapes
            do not fit.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.losses import distillation_loss
    >>> student = np.zeros((1, 2, 2))
    >>> teacher = np.log(np.full((1, 2, 2), [0.9, 0.1]))
    >>> found = distillation_loss("expected_kl", student, teacher,
    ...     a_tm1=np.array([[0]]), discount_t=np.ones((1, 1)))
    >>> float(found.loss_tm1[0, 0]).__round__(4)
    0.5108
    >>> float(found.reward_t[0, 0]).__round__(4)
    -0.5108
    """
    variant = DistillationVariant.named(variant)
    check_same_shape({"discount_t": discount_t}, ("batch", "time"))
    discount_t = ops.convert_to_tensor(discount_t)
    _check_policies(student, teacher, discount_t)
    _check_values(variant, r_t, student_value, teacher_value, discount_t)
    loss_tm1 = reward_t = advantage_tm1 = None
    if variant.loss is not None:
        loss = LOSS_FUNCTIONS[variant.loss](student, teacher)
        loss_tm1 = loss[:, :-1]
        if variant.reward == "next_loss":
            reward_t = -discount_t * loss[:, 1:]
        if variant.value_gate:
            is_better = teacher_value[:, :-1] > student_value[:, :-1]
            loss_tm1 = loss_tm1 * ops.cast(is_better, loss_tm1.dtype)
    if variant.reward == "log_probability":
        reward_t = policy_log_probability(policy_steps(teacher, 0, -1), a_tm1)
    if variant.reward == "teacher_value":
        reward_t = discount_t * teacher_value[:, 1:] - teacher_value[:, :-1]
    if variant.teacher_bootstrap:
        # The paper's weight is r + gamma V(s'); the value of the state that
        # is left changes nothing but the variance.
        reached = discount_t * teacher_value[:, 1:]
        reward = r_t if variant.environment_reward else 0.0
        if reward_t is not None:
            reward = reward + reward_t
        advantage_tm1 = reward + reached - teacher_value[:, :-1]
    return Distillation(loss_tm1, reward_t, advantage_tm1)


LOSS_FUNCTIONS = {
    "teacher_cross_entropy": lambda s, t: policy_cross_entropy(t, s),
    "teacher_kl": lambda s, t: policy_kl(t, s),
    "student_cross_entropy": policy_cross_entropy,
    "student_kl": policy_kl,
}


def _check_policies(student, teacher, discount_t):
    found, other = policy_shapes(student), policy_shapes(teacher)
    batch, time = discount_t.shape
    steps = (batch, None if time is None else time + 1)
    if len(found) != len(other) or not all(
        fits(a, b) and fits(a[:2], steps) for a, b in zip(found, other)
    ):
        raise ValueError(
            "`student` and `teacher` must be policies over the same actions, "
            "of one step more than `discount_t`. Received shapes: student "
            f"{found}, teacher {other}, discount_t {(batch, time)}."
        )


def _check_values(variant, r_t, student_value, teacher_value, discount_t):
    needed = {}
    if variant.needs_teacher_value:
        needed["teacher_value"] = teacher_value
    if variant.value_gate:
        needed["student_value"] = student_value
    if variant.teacher_bootstrap and variant.environment_reward:
        needed["r_t"] = r_t
    for name, given in needed.items():
        if given is None:
            raise ValueError(
                f"`{name}` must be given to a variant that needs it. "
                f"Received: {name}=None with {variant}."
            )
        given = ops.convert_to_tensor(given)
        length = discount_t.shape[1]
        if length is not None and name != "r_t":
            length += 1
        if not fits(given.shape, (discount_t.shape[0], length)):
            raise ValueError(
                f"`{name}` must have the shape {(discount_t.shape[0], length)}"
                " (values have one step more than discounts). Received: shape "
                f"{tuple(given.shape)}."
            )
