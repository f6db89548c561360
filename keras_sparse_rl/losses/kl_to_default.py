import keras
import numpy as np
from keras import ops

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_flag
from keras_sparse_rl._checks import check_non_negative
from keras_sparse_rl._checks import fits
from keras_sparse_rl.losses.divergences import categorical_kl
from keras_sparse_rl.losses.divergences import normal_kl

LEARN = ("both", "policy", "default")


def kl_to_default(policy, default=None, alpha=1.0, learn="both", reverse=False):
    """Divergence of a policy from a default policy that may know less.

    See "Information asymmetry in KL-regularized RL" by Galashov et al. 2019
    (https://arxiv.org/abs/1905.01240), equation 1: a policy maximizes
    `E sum_t gamma^t (r_t - alpha KL_t)`, its default policy minimizes the same
    `KL_t`. The gradient of that objective needs `KL_t` twice: as a loss of
    each step (`learn="policy"`) and, without gradient, subtracted from the
    rewards. In the steps alone it is the gradient of nothing.

    Categorical policies are tensors of logits; diagonal normal ones are tuples
    `(location, scale)`. Squashing or scaling actions alike on both sides
    leaves the divergence as it is.

    Args:
        policy: tensor `(..., actions)`, or tuple of tensors `(..., dim)`.
        default: like `policy`. None for the uniform one over discrete
            actions: the divergence is then `log(actions)` minus the entropy.
        alpha: float or scalar tensor, multiplies the divergence.
        learn: `"policy"` or `"default"`, the only side that gets a gradient,
            or `"both"`.
        reverse: bool. False: `KL(policy || default)`, of the paper. True:
            `KL(default || policy)`.

    Returns:
        Tensor `(...)`, in nats.

    Raises:
        ValueError: if the two do not have one form, `alpha` is negative, or
            another argument is none of its choices.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.losses import kl_to_default
    >>> kl_to_default(np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])).numpy()
    array([0.14384104])
    >>> one = np.ones((1, 1))
    >>> kl_to_default((0 * one, one), (one, one)).numpy()
    array([0.5])
    """
    check_choice("learn", learn, LEARN)
    check_flag("reverse", reverse)
    if isinstance(alpha, (int, float, np.number)):
        alpha = check_non_negative("alpha", alpha)
    normal = isinstance(policy, (tuple, list))
    if default is None:
        if normal:
            raise ValueError(
                "`default=None` is the uniform policy, which only discrete "
                "actions have. For continuous ones give the default's "
                "(location, scale)."
            )
        default = ops.zeros_like(policy)
    _check_forms(policy, default, normal)
    if learn != "both":
        fixed = default if learn == "policy" else policy
        fixed = keras.tree.map_structure(ops.stop_gradient, fixed)
        policy, default = (
            (policy, fixed) if learn == "policy" else (fixed, default)
        )
    first, second = (default, policy) if reverse else (policy, default)
    if not normal:
        return alpha * categorical_kl(first, second)
    return alpha * ops.sum(normal_kl(*first, *second), axis=-1)


def _check_forms(policy, default, normal):
    def shapes(x):
        if isinstance(x, (tuple, list)):
            return [tuple(part.shape) for part in x]
        return [tuple(x.shape)]

    found, other = shapes(policy), shapes(default)
    if (
        isinstance(default, (tuple, list)) != normal
        or len(found) != (2 if normal else 1)
        or len(found) != len(other)
        or not all(fits(a, b) for a, b in zip(found, other))
    ):
        raise ValueError(
            "`policy` and `default` must have one form: logits of one shape, "
            "or (location, scale) of one shape. Received shapes: "
            f"policy={found}, default={other}."
        )
