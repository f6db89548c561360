import collections

from keras import ops

from keras_sparse_rl._checks import check_same_shape

VTrace = collections.namedtuple(
    "VTrace", ["value_target_tm1", "advantage_tm1", "td_error_tm1"]
)
VTrace.__doc__ = """What `vtrace` returns: three tensors `(batch, time)`.

`value_target_tm1` is what the value function shall predict,
`advantage_tm1` multiplies the gradient of `log pi(a_tm1)`, and `td_error_tm1`
is the corrected one-step error. None of them carries a gradient.

Example:

>>> from keras_sparse_rl.losses import VTrace
>>> VTrace(1.0, 2.0, 3.0).advantage_tm1
2.0
"""


def vtrace(
    v_tm1,
    v_t,
    r_t,
    discount_t,
    rho_tm1,
    is_last_t=None,
    lambda_=1.0,
    clip_rho=1.0,
    clip_c=1.0,
    clip_advantage_rho=1.0,
):
    """Off-policy corrected targets of values and of policy gradients.

    See "IMPALA" by Espeholt et al. 2018 (https://arxiv.org/abs/1802.01561),
    section 4.1. `_tm1` is what belongs to the step that is left, `_t` to the
    one that is reached; `v_t` is given apart from `v_tm1` because where an
    episode was cut off, the step reached is not the next one of the batch.

    Args:
        v_tm1: tensor `(batch, time)`, values of the observations left.
        v_t: tensor `(batch, time)`, values of the observations reached, also
            at the end of an episode.
        r_t: tensor `(batch, time)`, rewards.
        discount_t: tensor `(batch, time)`: the discount factor, 0 where the
            episode terminated, not where it was truncated.
        rho_tm1: tensor `(batch, time)`, probability of the action under the
            learned policy divided by that under the policy that acted.
        is_last_t: boolean tensor `(batch, time)`, optional: true where the
            step reached ends an episode, by termination or truncation. What
            comes after does not reach back beyond it.
        lambda_: float in [0, 1], how far corrections reach back. At 0 value
            targets are of one step, and advantages of two: they take the next
            step's target for the value reached.
        clip_rho: float, largest ratio in the one-step errors.
        clip_c: float, largest ratio in the traces.
        clip_advantage_rho: float, largest ratio in the advantages.

    Returns:
        `VTrace` of tensors `(batch, time)`.

    Raises:
        ValueError: if shapes differ.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.losses import vtrace
    >>> one = np.ones((1, 2))
    >>> found = vtrace(v_tm1=0 * one, v_t=0 * one, r_t=one,
    ...                discount_t=0.5 * one, rho_tm1=one)
    >>> found.value_target_tm1.numpy()
    array([[1.5, 1. ]])
    """
    tensors = {
        "v_tm1": v_tm1,
        "v_t": v_t,
        "r_t": r_t,
        "discount_t": discount_t,
        "rho_tm1": rho_tm1,
    }
    if is_last_t is not None:
        tensors["is_last_t"] = is_last_t
    check_same_shape(tensors, ("batch", "time"))
    v_tm1, v_t, rho_tm1 = map(ops.stop_gradient, (v_tm1, v_t, rho_tm1))
    td_error = ops.minimum(rho_tm1, clip_rho) * (r_t + discount_t * v_t - v_tm1)
    decay = discount_t * lambda_ * ops.minimum(rho_tm1, clip_c)
    if is_last_t is not None:
        goes_on = ops.cast(ops.logical_not(is_last_t), v_t.dtype)
        decay = decay * goes_on
    error = _discounted_sums(td_error, decay)
    # The target of the step reached: where the batch or the episode ends it
    # is that step's own value.
    next_error = _later(error, 1)
    if is_last_t is not None:
        next_error = next_error * goes_on
    advantage = ops.minimum(rho_tm1, clip_advantage_rho) * (
        r_t + discount_t * (v_t + next_error) - v_tm1
    )
    return VTrace(v_tm1 + error, advantage, td_error)


def _discounted_sums(x, decay):
    """`y[t] = x[t] + decay[t] * y[t + 1]` for all `t`."""

    # Each round joins twice as many steps: log2(time) rounds, not `time`.
    def join(reach, x, decay):
        return (
            2 * reach,
            x + decay * _later(x, reach),
            decay * _later(decay, reach),
        )

    if x.shape[1] is None:
        return ops.while_loop(
            lambda reach, x, decay: reach < ops.shape(x)[1],
            join,
            (1, x, decay),
        )[1]
    reach = 1
    while reach < x.shape[1]:
        reach, x, decay = join(reach, x, decay)
    return x


def _later(x, steps):
    """`x[t + steps]`, 0 beyond the end."""
    return ops.concatenate([x[:, steps:], ops.zeros_like(x[:, :steps])], axis=1)
