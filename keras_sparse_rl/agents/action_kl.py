"""Divergences between nests of distributions over actions."""

import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.distributions.utils import SquashToSpecNormal

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
    components = 0
    if isinstance(distribution, SquashToSpecNormal):
        # Both go through the same map, which changes no divergence.
        distribution = distribution.input_distribution
        if isinstance(default, SquashToSpecNormal):
            default = default.input_distribution
        elif default is not None:
            raise ValueError(
                "The policy squashes its actions and the default policy does "
                f"not: give both the same `squash`. Received: {default}."
            )
    if isinstance(distribution, tfp.distributions.Independent):
        components = len(distribution.event_shape)
        distribution = distribution.distribution
        default = getattr(default, "distribution", default)
    divergence = kl_to_default(
        _parameters(distribution),
        None if default is None else _parameters(default),
        learn=learn,
        reverse=reverse,
    )
    return tf.reduce_sum(divergence, list(range(-components, 0)))


def _parameters(distribution):
    """Logits, or location and scale with a last axis to sum over."""
    if isinstance(distribution, tfp.distributions.Categorical):
        return distribution.logits_parameter()
    if isinstance(distribution, tfp.distributions.Normal):
        return (
            distribution.loc[..., tf.newaxis],
            distribution.scale[..., tf.newaxis],
        )
    if isinstance(distribution, tfp.distributions.MultivariateNormalDiag):
        return distribution.loc, distribution.stddev()
    raise ValueError(
        "A divergence from a default policy needs categorical or diagonal "
        f"normal distributions over actions. Received: {distribution}."
    )
