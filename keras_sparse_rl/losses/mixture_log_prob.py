from keras import ops

from keras_sparse_rl._checks import check_alphas


def mixture_log_prob(log_probs, alphas, minimum=-1e9):
    """Log-probability of actions under a mixture of policies.

    See "Mix & Match - Agent Curricula for Reinforcement Learning" by
    Czarnecki et al. 2018 (https://arxiv.org/abs/1806.01780), section 3:
    `log sum_i alphas[i] * pi_i(a)`. Its gradient reaches each policy by its
    responsibility, `alphas[i] * pi_i(a) / pi(a)`. Value and gradients are
    finite for shares of 0 and 1 and for impossible actions; a share of 1 gives
    that policy's numbers bit for bit.

    Args:
        log_probs: tensor `(..., policies)`, log-probability of one action
            under each policy; minus infinity where it is impossible.
        alphas: tensor or list `(policies,)`, shares of the policies; or
            `(..., policies)`. Numbers are checked to lie on the simplex.
        minimum: float, stands for what is impossible.

    Returns:
        Tensor `(...)`.

    Raises:
        ValueError: if the shares are not one number a policy, are negative,
            or do not sum to 1.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.losses import mixture_log_prob
    >>> log_probs = np.log([[0.5, 0.1], [0.5, 0.9]])
    >>> np.exp(mixture_log_prob(log_probs, [0.25, 0.75])).round(3)
    array([0.2, 0.8])
    """
    log_probs = ops.convert_to_tensor(log_probs)
    alphas = ops.cast(
        check_alphas("alphas", alphas, log_probs.shape[-1]), log_probs.dtype
    )
    log_probs = ops.maximum(log_probs, minimum)
    takes_part = ops.broadcast_to(alphas > 0, ops.shape(log_probs))
    largest = ops.stop_gradient(
        ops.max(
            ops.where(takes_part, log_probs, minimum), axis=-1, keepdims=True
        )
    )
    # Only a policy without a share is above 0 here: it may not overflow.
    ratio = ops.exp(ops.minimum(log_probs - largest, 50.0))
    mixed = largest[..., 0] + ops.log(ops.sum(alphas * ratio, axis=-1))
    # TensorFlow's 1 / 1 is not always 1: a lone policy is taken as it is,
    # with the gradient of the shares beside it.
    constant = ops.stop_gradient(alphas)
    lone = ops.sum(constant * log_probs, axis=-1) + ops.sum(
        (alphas - constant) * ops.stop_gradient(ratio), axis=-1
    )
    is_alone = ops.broadcast_to(ops.max(alphas, -1) >= 1, ops.shape(mixed))
    return ops.where(is_alone, lone, mixed)
