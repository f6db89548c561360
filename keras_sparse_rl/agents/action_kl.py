"""Divergences between nests of distributions over actions."""

import tensorflow as tf

from keras_sparse_rl.agents.policy_parameters import policy_parameters
from keras_sparse_rl.agents.policy_parameters import squashes
from keras_sparse_rl.losses import Gaussian
from keras_sparse_rl.losses import kl_to_default


def action_kl(distribution, default=None, learn="both", reverse=False):
    """`losses.kl_to_default` of distributions, summed over nest and components.

    Args:
        distribution: nest of distributions of TensorFlow Probability, as of
            `action_distribution` or of TF-Agents' networks.
        default: the same, or None for uniform ones (discrete actions).
        learn: see `losses.kl_to_default`.
        reverse: see `losses.kl_to_default`.

    Returns:
        Tensor of the distributions' batch shape, in nats.
    """
    distributions = tf.nest.flatten(distribution)
    defaults = [None] * len(distributions)
    if default is not None:
        defaults = tf.nest.flatten(default)
    return tf.add_n(
        [
            _divergence(d, other, learn, reverse)
            for d, other in zip(distributions, defaults, strict=True)
        ]
    )


def _divergence(distribution, default, learn, reverse):
    # Where both go through tanh it changes no divergence.
    if default is not None and squashes(distribution) != squashes(default):
        raise ValueError(
            "The policy squashes its actions and the default policy does "
            "not, or the reverse: give both the same `squash`. Received: "
            f"{distribution} and {default}."
        )
    policies = [
        None if d is None else _with_last_axis(policy_parameters(d))
        for d in (distribution, default)
    ]
    divergence = kl_to_default(*policies, learn=learn, reverse=reverse)
    components = divergence.shape.rank - distribution.batch_shape.rank
    return tf.reduce_sum(divergence, list(range(-components, 0)))


def _with_last_axis(policy):
    """`kl_to_default` sums over the last axis: each component has its own."""
    if isinstance(policy, Gaussian):
        return Gaussian(*(x[..., tf.newaxis] for x in policy))
    return policy
