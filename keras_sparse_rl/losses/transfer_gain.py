import collections

import numpy as np

from keras_sparse_rl._checks import check_positive

TransferGain = collections.namedtuple(
    "TransferGain", ["gain", "steps", "uniform_steps", "is_likely_to_help"]
)
TransferGain.__doc__ = """What `transfer_gain` returns.

`steps` and `uniform_steps` `(tasks,)`: expected steps until each task's first
success, or the time limit, by the default learned without the task and by the
uniform policy; `gain`: mean of the second over mean of the first;
`is_likely_to_help`: `gain > 1`.

Example:

>>> from keras_sparse_rl.losses import TransferGain
>>> TransferGain(2.0, [5.0], [10.0], True).gain
2.0
"""


def transfer_gain(default, next_state, is_success, start, time_limit=1000):
    """Tells before transfer whether what a default sees is likely to help.

    The divergence in training only falls with information, and a default that
    sees too much repeats what it knows: its divergence ranks wrongly, also on
    tasks left out. What decides is how a new task is found: at its start there
    is nothing to learn from and the policy is the default. So learn the
    default once for each task, without that task, and compare how soon it
    succeeds there by itself with the uniform policy (exact, by linear solves).
    Without a table, act by such a default
    (`KLRegularizedAgent.default_policy`) in the task left out instead.

    Args:
        default: array `(tasks, states, actions)`, for each task the default
            policy learned from all other tasks, with a little of the uniform
            policy mixed in, as it will be used.
        next_state: int array `(states, actions)`.
        is_success: bool array `(tasks, states)`.
        start: array `(tasks, states)`, weights of the first state, which sum
            to 1.
        time_limit: float, steps after which an episode is cut off on average
            (each step ends it with probability `1 / time_limit`): a single
            task that is never found then counts as that many. Several times
            what the uniform policy needs: a short limit hides what a default
            that knows too much never finds, none at all lets one such task
            decide.

    Returns:
        `TransferGain`.

    Raises:
        ValueError: if shapes do not fit, a default is no policy, or
            `time_limit` is not positive.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.losses import transfer_gain
    >>> corridor = np.array([[0, 1], [0, 2], [2, 2]])  # left, right
    >>> found = transfer_gain(
    ...     np.full((1, 3, 2), [0.2, 0.8]), corridor,
    ...     np.array([[False, False, True]]), np.array([[1.0, 0, 0]]))
    >>> found.uniform_steps.round(1), found.is_likely_to_help
    (array([6.]), True)
    """
    check_positive("time_limit", time_limit)
    default = np.asarray(default, "float64")
    next_state, is_success = np.asarray(next_state), np.asarray(is_success)
    start = np.asarray(start, "float64")
    shape = default.shape
    if (
        default.ndim != 3
        or next_state.shape != shape[1:]
        or is_success.shape != shape[:2]
        or start.shape != shape[:2]
    ):
        raise ValueError(
            "Shapes must be default (tasks, states, actions), next_state "
            "(states, actions), is_success and start (tasks, states). "
            f"Received: {shape}, {next_state.shape}, {is_success.shape}, "
            f"{start.shape}."
        )
    if np.any(default < 0) or not np.allclose(default.sum(-1), 1, atol=1e-4):
        raise ValueError(
            "`default` must be probabilities that sum to 1 over actions. "
            f"Received sums {np.unique(default.sum(-1).round(4))[:5]}."
        )
    uniform = np.full(shape[1:], 1 / shape[2])
    steps, uniform_steps = (
        np.array(
            [
                _expected_steps(
                    policy, next_state, success, weight, 1 - 1 / time_limit
                )
                for policy, success, weight in zip(
                    policies, is_success, start, strict=True
                )
            ]
        )
        for policies in (default, np.broadcast_to(uniform, shape))
    )
    gain = float(uniform_steps.mean() / steps.mean())
    return TransferGain(gain, steps, uniform_steps, gain > 1)


def _expected_steps(policy, next_state, is_success, start, goes_on):
    states, actions = policy.shape
    step = np.zeros((states, states))
    rows = np.repeat(np.arange(states), actions)
    np.add.at(step, (rows, next_state.ravel()), policy.ravel())
    going = ~is_success
    left = np.eye(going.sum()) - goes_on * step[np.ix_(going, going)]
    return float(start[going] @ np.linalg.solve(left, np.ones(len(left))))
