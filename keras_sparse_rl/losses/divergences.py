"""Kullback-Leibler divergences of the two families that policies come from."""

from keras import ops


def categorical_kl(p, q):
    """`KL(p || q)` of logits `(..., choices)`: a tensor `(...)`, in nats.

    A choice that `p` excludes (logit minus infinity) counts nothing, also in
    the gradients.
    """
    log_p, log_q = ops.log_softmax(p), ops.log_softmax(q)
    return ops.sum(times_log(log_p, log_p - log_q), axis=-1)


def normal_kl(location_p, scale_p, location_q, scale_q):
    """`KL(p || q)` of normal variables, element by element, in nats."""
    ratio = scale_p / scale_q
    distance = (location_p - location_q) / scale_q
    return 0.5 * (ratio**2 + distance**2 - 1.0) - ops.log(ratio)


def times_log(log_p, x):
    """`p x`, which is 0 where p is, even if x is infinite."""
    possible = ops.isfinite(log_p)
    x = ops.where(possible, x, ops.zeros_like(x))
    return ops.exp(log_p) * x
