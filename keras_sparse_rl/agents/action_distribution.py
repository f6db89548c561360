"""From a network's outputs to distributions over actions, and back to sizes."""

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.distributions.utils import SquashToSpecNormal
from tf_agents.specs import tensor_spec

from keras_sparse_rl.losses.head_scale import head_scale


def num_action_outputs(action_spec):
    """How many outputs a policy head needs for each action of a spec.

    Args:
        action_spec: nest of TF-Agents `BoundedTensorSpec`, without batch.

    Returns:
        Nest of ints: for discrete actions the number of choices times the
        number of components, for continuous ones twice the number of
        components (location and scale).

    Raises:
        ValueError: if a spec is unbounded, or discrete and does not start at
            0, or its components have different numbers of choices.

    Example:

    >>> from tf_agents.specs import BoundedTensorSpec
    >>> from keras_sparse_rl.agents import num_action_outputs
    >>> num_action_outputs(BoundedTensorSpec((), "int32", 0, 3))
    4
    >>> num_action_outputs(BoundedTensorSpec((2,), "float32", -1, 1))
    4
    """
    return tf.nest.map_structure(_num_outputs, action_spec)


def action_distribution(outputs, action_spec, squash=True):
    """Distributions over actions from the outputs of policy heads.

    Args:
        outputs: nest like `action_spec` of tensors `(..., n)` with `n` as
            `num_action_outputs` says.
        action_spec: nest of TF-Agents `BoundedTensorSpec`, without batch.
        squash: bool. True: continuous actions are a normal variable through
            tanh, scaled to the bounds. False: a normal variable, to be
            clipped to the bounds when acting.

    Returns:
        Nest of distributions of TensorFlow Probability: categorical for
        discrete actions, normal for continuous ones. Several components of
        one action are independent and count as one event.

    Raises:
        ValueError: if an output does not fit its spec.

    Example:

    >>> import tensorflow as tf
    >>> from tf_agents.specs import BoundedTensorSpec
    >>> from keras_sparse_rl.agents import action_distribution
    >>> spec = BoundedTensorSpec((), "int32", 0, 1)
    >>> action_distribution(tf.zeros((1, 2)), spec).prob([1]).numpy()
    array([0.5], dtype=float32)
    """
    check_action_outputs(outputs, action_spec)
    return tf.nest.map_structure(
        lambda spec, output: _distribution(output, spec, squash),
        action_spec,
        outputs,
    )


def action_log_probability(distribution, action):
    """Log-probability of a nest of actions.

    Args:
        distribution: nest of distributions, as of `action_distribution`.
        action: nest of actions.

    Returns:
        Tensor of the distributions' batch shape, summed over the nest.

    Example:

    >>> import tensorflow as tf
    >>> from tf_agents.specs import BoundedTensorSpec
    >>> from keras_sparse_rl.agents import action_distribution
    >>> from keras_sparse_rl.agents import action_log_probability
    >>> spec = (BoundedTensorSpec((), "int32", 0, 1),) * 2
    >>> both = action_distribution((tf.zeros((1, 2)),) * 2, spec)
    >>> actions = tf.constant([0]), tf.constant([1])
    >>> tf.exp(action_log_probability(both, actions)).numpy().round(4)
    array([0.25], dtype=float32)
    """
    return tf.add_n(
        tf.nest.flatten(
            tf.nest.map_structure(
                lambda d, a: d.log_prob(a), distribution, action
            )
        )
    )


def action_entropy(distribution):
    """Entropy of a nest of distributions over actions.

    Of a squashed normal variable it is that before squashing, which has a
    closed form.

    Args:
        distribution: nest of distributions, as of `action_distribution`.

    Returns:
        Tensor of the distributions' batch shape, in nats, summed over the
        nest.

    Example:

    >>> import tensorflow as tf
    >>> from tf_agents.specs import BoundedTensorSpec
    >>> from keras_sparse_rl.agents import action_distribution, action_entropy
    >>> spec = BoundedTensorSpec((), "int32", 0, 1)
    >>> fair = action_distribution(tf.zeros((1, 2)), spec)
    >>> action_entropy(fair).numpy().round(4)
    array([0.6931], dtype=float32)
    """
    return tf.add_n(
        [
            (
                d.input_distribution if isinstance(d, SquashToSpecNormal) else d
            ).entropy()
            for d in tf.nest.flatten(distribution)
        ]
    )


def within_bounds(action, action_spec):
    """Clips continuous actions to their bounds; others stay as they are."""

    def clipped(x, spec):
        if tensor_spec.is_discrete(spec):
            return x
        return tf.clip_by_value(
            x, tf.cast(spec.minimum, x.dtype), tf.cast(spec.maximum, x.dtype)
        )

    return tf.nest.map_structure(clipped, action, action_spec)


def check_action_outputs(outputs, action_spec):
    """Raises unless outputs have the nest and sizes that a spec needs."""
    sizes = num_action_outputs(action_spec)
    found = tf.nest.map_structure(lambda x: tuple(x.shape), outputs)
    try:
        tf.nest.assert_same_structure(outputs, sizes)
        fits = all(
            output.shape[-1] == size
            for output, size in zip(
                tf.nest.flatten(outputs), tf.nest.flatten(sizes)
            )
        )
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            "The network's output does not fit `action_spec`: its last axis "
            f"must be {sizes} (choices of a discrete action; location and "
            "scale of each component of a continuous one). Received outputs "
            f"of shape {found} for action_spec={action_spec}."
        )


def _num_outputs(spec):
    components = int(np.prod(spec.shape, dtype=int))
    if not isinstance(spec, tensor_spec.BoundedTensorSpec) and not hasattr(
        spec, "minimum"
    ):
        raise ValueError(
            "`action_spec` must be a BoundedTensorSpec (or a nest of them): "
            f"an action needs bounds. Received: {spec}."
        )
    if not tensor_spec.is_discrete(spec):
        return 2 * components
    choices = np.unique(spec.maximum) + 1
    if np.any(np.asarray(spec.minimum) != 0) or len(choices) != 1:
        raise ValueError(
            "A discrete `action_spec` must have minimum 0 and one maximum for "
            f"all its components. Received: {spec}. Shift the actions in the "
            "environment, or give components of different sizes as a nest."
        )
    return int(choices[0]) * components


def _distribution(output, spec, squash):
    output = tf.cast(output, tf.float32)
    shape = tuple(spec.shape)
    lead = tf.shape(output)[:-1]
    if tensor_spec.is_discrete(spec):
        if shape:
            output = tf.reshape(output, tf.concat([lead, [*shape, -1]], axis=0))
        distribution = tfp.distributions.Categorical(output, dtype=spec.dtype)
        if not shape:
            return distribution
        return tfp.distributions.Independent(distribution, len(shape))
    location, scale = tf.split(output, 2, axis=-1)
    scale = head_scale(scale)
    if not squash:
        means, magnitudes = _bounds(spec)
        location = _shaped(location, lead, shape) * magnitudes + means
        scale = _shaped(scale, lead, shape) * magnitudes
        return tfp.distributions.Independent(
            tfp.distributions.Normal(location, scale), len(shape)
        )
    if len(shape) == 1:
        normal = tfp.distributions.MultivariateNormalDiag(location, scale)
        return SquashToSpecNormal(normal, spec)
    normal = tfp.distributions.Normal(
        _shaped(location, lead, shape), _shaped(scale, lead, shape)
    )
    if not shape:
        return SquashToSpecNormal(normal, spec)
    raise ValueError(
        "A squashed continuous action must be a number or a vector. Received "
        f"action_spec={spec}. Use squash=False, or flatten the action."
    )


def _bounds(spec):
    means = (np.asarray(spec.maximum) + np.asarray(spec.minimum)) / 2
    magnitudes = (np.asarray(spec.maximum) - np.asarray(spec.minimum)) / 2
    return means.astype("float32"), magnitudes.astype("float32")


def _shaped(x, lead, shape):
    return tf.reshape(x, tf.concat([lead, tf.constant(shape, tf.int32)], 0))
