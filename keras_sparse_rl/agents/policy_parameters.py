import tensorflow as tf
import tensorflow_probability as tfp
from tf_agents.distributions.utils import SquashToSpecNormal

from keras_sparse_rl.losses import Gaussian

NORMALS = (
    tfp.distributions.Normal,
    tfp.distributions.MultivariateNormalDiag,
)


def policy_parameters(distribution):
    """Distributions over actions as the tensors that the losses take.

    Args:
        distribution: nest of distributions: categorical, normal with
            independent components, or normal through tanh; what
            `action_distribution` and TF-Agents' own networks make.

    Returns:
        Nest of logits and `losses.Gaussian`. Those of a squashed normal
        variable are from before squashing.

    Raises:
        ValueError: if a distribution is of another kind.

    Example:

    >>> import tensorflow as tf
    >>> from tf_agents.specs import BoundedTensorSpec
    >>> from keras_sparse_rl import agents
    >>> spec = BoundedTensorSpec((), "int32", 0, 2)
    >>> policy = agents.action_distribution(tf.zeros((4, 7, 3)), spec)
    >>> agents.policy_parameters(policy).shape
    TensorShape([4, 7, 3])
    """
    leaves = [_parameters(d) for d in tf.nest.flatten(distribution)]
    return leaves[0] if len(leaves) == 1 else leaves


def map_parameters(function, *policies):
    """Applies a function to all tensors of `policy_parameters` of one form.

    Args:
        function: function of as many tensors as there are policies.
        *policies: logits, `losses.Gaussian`, or lists of them.

    Returns:
        What the function gives, in that form.

    Example:

    >>> from keras_sparse_rl.agents.policy_parameters import map_parameters
    >>> from keras_sparse_rl.losses import Gaussian
    >>> map_parameters(lambda x: -x, [3.0, Gaussian(1.0, 2.0)])
    [-3.0, Gaussian(location=-1.0, scale=-2.0)]
    """
    first = policies[0]
    if isinstance(first, Gaussian):
        parts = (map_parameters(function, *part) for part in zip(*policies))
        return Gaussian(*parts)
    if isinstance(first, list):
        return [map_parameters(function, *part) for part in zip(*policies)]
    return function(*policies)


def unsquashed_action(action, distribution):
    """Actions in the space in which `policy_parameters` are given.

    Args:
        action: nest of actions.
        distribution: nest of distributions over them.

    Returns:
        List of actions, or one alone.

    Example:

    >>> import tensorflow as tf
    >>> from tf_agents.specs import BoundedTensorSpec
    >>> from keras_sparse_rl import agents
    >>> spec = BoundedTensorSpec((1,), "float32", 0, 2)
    >>> policy = agents.action_distribution(tf.zeros((1, 2)), spec)
    >>> agents.unsquashed_action(tf.constant([[1.0]]), policy).numpy()
    array([[0.]], dtype=float32)
    """
    leaves = [
        _unsquashed(a, d)
        for a, d in zip(tf.nest.flatten(action), tf.nest.flatten(distribution))
    ]
    return leaves[0] if len(leaves) == 1 else leaves


def squashes(distribution):
    """Which actions of a nest go through tanh.

    Args:
        distribution: nest of distributions over actions.

    Returns:
        List of bools.

    Example:

    >>> import tensorflow as tf
    >>> from tf_agents.specs import BoundedTensorSpec
    >>> from keras_sparse_rl import agents
    >>> spec = BoundedTensorSpec((1,), "float32", 0, 2)
    >>> policy = agents.action_distribution(tf.zeros((1, 2)), spec)
    >>> agents.squashes(policy)
    [True]
    """
    return [
        isinstance(d, SquashToSpecNormal) for d in tf.nest.flatten(distribution)
    ]


def _parameters(distribution):
    if isinstance(distribution, SquashToSpecNormal):
        return _parameters(distribution.input_distribution)
    if isinstance(distribution, tfp.distributions.Independent):
        return _parameters(distribution.distribution)
    if isinstance(distribution, tfp.distributions.Categorical):
        return distribution.logits_parameter()
    if isinstance(distribution, NORMALS):
        return Gaussian(distribution.mean(), distribution.stddev())
    raise ValueError(
        "Distributions over actions must be categorical, normal with "
        f"independent components, or such a one through tanh. Received: "
        f"{distribution}."
    )


def _unsquashed(action, distribution):
    if not isinstance(distribution, SquashToSpecNormal):
        return action
    action = (action - distribution.action_means) / (
        distribution.action_magnitudes
    )
    # tanh of a float32 reaches 1, whose inverse is infinite.
    return tf.atanh(tf.clip_by_value(action, 1e-6 - 1.0, 1.0 - 1e-6))
