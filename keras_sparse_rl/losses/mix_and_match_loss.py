import itertools

from keras import ops

from keras_sparse_rl._checks import check_alphas


def mix_and_match_loss(
    log_probs, alphas, stop_target_gradients=True, minimum=-1e9
):
    """How far the complex policies of a mixture are from the simpler ones.

    The matching loss of "Mix & Match" by Czarnecki et al. 2018
    (https://arxiv.org/abs/1806.01780), section 3.2: the sum over all pairs
    i < j, from simple to complex, of `alphas[i] * KL(pi_i || pi_j)`. Of two
    policies it is `(1 - alpha) * KL(pi_1 || pi_2)`. That pairs of more than
    two weigh `alphas[i]`, and that the simple policy is a target without a
    gradient, is our choice: we know the paper's form for two.

    Args:
        log_probs: tensor `(..., policies, actions)`, log-probabilities of all
            actions; minus infinity where an action is impossible.
        alphas: tensor or list `(policies,)`, shares of the policies. Numbers
            are checked to lie on the simplex.
        stop_target_gradients: bool, whether only the complex policy of a pair
            moves.
        minimum: float, stands for what is impossible.

    Returns:
        Tensor `(...)`, in nats. An action that a simpler policy takes and a
        more complex one cannot makes it very large.

    Raises:
        ValueError: if the shares are not one number a policy, are negative,
            or do not sum to 1.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.losses import mix_and_match_loss
    >>> log_probs = np.log([[0.5, 0.5], [0.25, 0.75]])
    >>> round(float(mix_and_match_loss(log_probs, [0.5, 0.5])), 3)
    0.072
    """
    log_probs = ops.maximum(ops.convert_to_tensor(log_probs), minimum)
    policies = log_probs.shape[-2]
    alphas = ops.cast(check_alphas("alphas", alphas, policies), log_probs.dtype)
    total = ops.zeros_like(log_probs[..., 0, 0])
    for simple, complex_ in itertools.combinations(range(policies), 2):
        target = log_probs[..., simple, :]
        if stop_target_gradients:
            target = ops.stop_gradient(target)
        difference = target - log_probs[..., complex_, :]
        divergence = ops.sum(ops.exp(target) * difference, axis=-1)
        total = total + alphas[..., simple] * divergence
    return total
