"""Entropies and divergences of policies, given as tensors.

A policy is the logits `(batch, time, choices)` of a discrete action, a
`Gaussian` of tensors `(batch, time, components)` for a continuous one, or a
nest of them. A discrete action of several components has logits
`(batch, time, components, choices)`. Everything is summed over components and
over the nest, and stays differentiable in all arguments.
"""

import collections
import math

from keras import ops

from keras_sparse_rl.losses.divergences import categorical_kl
from keras_sparse_rl.losses.divergences import normal_kl
from keras_sparse_rl.losses.divergences import times_log

Gaussian = collections.namedtuple("Gaussian", ["location", "scale"])
Gaussian.__doc__ = """Independent normal variables, one a component.

`location` and `scale`: tensors `(batch, time, components)`. Of an action that
goes through tanh they are those before it: densities of two policies are then
taken of the variable before tanh too, which leaves KL divergences as they are.

Example:

>>> from keras_sparse_rl.losses import Gaussian
>>> Gaussian(location=0.0, scale=1.0).scale
1.0
"""


def policy_kl(p, q):
    """Kullback-Leibler divergence `KL(p || q)` of each step.

    Args:
        p: policy: logits, `Gaussian`, or a nest of them.
        q: policy of the same form.

    Returns:
        Tensor `(batch, time)`, in nats.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.losses import policy_kl
    >>> fair, sure = np.zeros((1, 1, 2)), np.log([[[0.9, 0.1]]])
    >>> round(float(policy_kl(fair, sure)[0, 0]), 4)
    0.5108
    """
    return _sum_over_actions(_kl, p, q)


def policy_cross_entropy(p, q):
    """Cross-entropy `-E_p log q` of each step.

    Args:
        p: policy: logits, `Gaussian`, or a nest of them.
        q: policy of the same form.

    Returns:
        Tensor `(batch, time)`, in nats.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.losses import policy_cross_entropy
    >>> fair = np.zeros((1, 1, 2))
    >>> round(float(policy_cross_entropy(fair, fair)[0, 0]), 4)
    0.6931
    """
    return _sum_over_actions(_cross_entropy, p, q)


def policy_entropy(p):
    """Entropy of each step.

    Args:
        p: policy: logits, `Gaussian`, or a nest of them.

    Returns:
        Tensor `(batch, time)`, in nats.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.losses import policy_entropy
    >>> round(float(policy_entropy(np.zeros((1, 1, 4)))[0, 0]), 4)
    1.3863
    """
    return policy_cross_entropy(p, p)


def policy_log_probability(p, action):
    """Logarithm of the probability, or density, of actions.

    Args:
        p: policy: logits, `Gaussian`, or a nest of them.
        action: whole numbers `(batch, time)` (or `(batch, time, components)`)
            of a discrete action; numbers `(batch, time, components)` of a
            continuous one, before tanh if there is one; or a nest of them.

    Returns:
        Tensor `(batch, time)`.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.losses import policy_log_probability
    >>> policy = np.log([[[0.75, 0.25]]])
    >>> round(float(policy_log_probability(
    ...     policy, np.array([[1]]))[0, 0]), 4)
    -1.3863
    """
    return _sum_over_actions(_log_probability, p, action)


def policy_steps(policy, start=None, stop=None):
    """Some of the steps of a policy.

    Args:
        policy: logits, `Gaussian`, or a nest of them.
        start: int or None, first step.
        stop: int or None, step after the last.

    Returns:
        Policy of the same form, with fewer steps.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.losses import policy_steps
    >>> policy_steps({"move": np.zeros((1, 5, 2))}, 0, -1)["move"].shape
    (1, 4, 2)
    """
    if isinstance(policy, Gaussian):
        return Gaussian(*(x[:, start:stop] for x in policy))
    if isinstance(policy, dict):
        return {k: policy_steps(v, start, stop) for k, v in policy.items()}
    if isinstance(policy, (tuple, list)):
        return [policy_steps(part, start, stop) for part in policy]
    return policy[:, start:stop]


def policy_shapes(policy):
    """Shapes of a policy's tensors, a list of tuples."""
    return [
        tuple(x.shape)
        for leaf in _leaves(policy)
        for x in (leaf if isinstance(leaf, Gaussian) else [leaf])
    ]


def _sum_over_actions(function, p, other):
    firsts, seconds = _leaves(p), _leaves(other)
    if len(firsts) != len(seconds) or any(
        isinstance(a, Gaussian) != isinstance(b, Gaussian)
        for a, b in zip(firsts, seconds)
        if function is not _log_probability
    ):
        raise ValueError(
            "Both policies must be nests of the same actions, discrete "
            f"(logits) or continuous (Gaussian) alike. Received: {p} and "
            f"{other}."
        )
    return sum(_steps(function(a, b)) for a, b in zip(firsts, seconds))


def _leaves(policy):
    if isinstance(policy, Gaussian):
        return [policy]
    if isinstance(policy, dict):
        return [x for key in sorted(policy) for x in _leaves(policy[key])]
    if isinstance(policy, (tuple, list)):
        return [x for part in policy for x in _leaves(part)]
    return [policy]


def _steps(x):
    """Sums what stands behind `(batch, time)`."""
    x = ops.convert_to_tensor(x)
    return ops.sum(x, axis=range(2, len(x.shape))) if len(x.shape) > 2 else x


def _kl(p, q):
    if isinstance(p, Gaussian):
        return normal_kl(*p, *q)
    return categorical_kl(p, q)


def _cross_entropy(p, q):
    if isinstance(p, Gaussian):
        ratio = p.scale / q.scale
        distance = (p.location - q.location) / q.scale
        return 0.5 * (ratio**2 + distance**2 + math.log(2 * math.pi)) + ops.log(
            q.scale
        )
    return -ops.sum(times_log(ops.log_softmax(p), ops.log_softmax(q)), axis=-1)


def _log_probability(p, action):
    if isinstance(p, Gaussian):
        distance = (action - p.location) / p.scale
        return -0.5 * (distance**2 + math.log(2 * math.pi)) - ops.log(p.scale)
    log_p = ops.log_softmax(p)
    action = ops.cast(ops.expand_dims(action, -1), "int32")
    return ops.squeeze(ops.take_along_axis(log_p, action, axis=-1), -1)
