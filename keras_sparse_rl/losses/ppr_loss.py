import keras
from keras import ops

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_non_negative
from keras_sparse_rl.losses.divergences import categorical_kl

PAIRS = (
    ("reaction", "perception"),
    ("reaction", "prediction"),
    ("perception", "prediction"),
)


def ppr_loss(outputs, pairs=PAIRS, stop_gradient=None, distribution=None):
    """How far the policies drawn from several cores are from each other.

    The auxiliary loss of "Perception-Prediction-Reaction Agents for Deep
    Reinforcement Learning" by Stooke et al. 2020
    (https://arxiv.org/abs/2006.15223): a sum of divergences
    `KL(first || second)` over pairs of policies. The paper's abstract says
    that all three are regularized against each other; directions, weights and
    whether gradients reach both are not known here, so they are options.

    Args:
        outputs: dict of policies' outputs by name, each a tensor of logits
            `(batch, time, actions)`, or a nest of tensors `(batch, time, ...)`
            that `distribution` understands.
        pairs: sequence of pairs of names, or dict from pairs to weights. The
            order of a pair is the direction of its divergence; give both
            orders for a symmetric one.
        stop_gradient: `"first"` or `"second"`: which of a pair stands still.
            None: both move.
        distribution: function from one entry of `outputs` to a nest of
            distributions with a method `kl_divergence`; they are taken to be
            independent. None for logits of categorical variables.

    Returns:
        Tensor `(batch, time)`, in nats.

    Raises:
        ValueError: if there is no pair, a pair names no policy or twice the
            same, or a weight is negative.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.losses import ppr_loss
    >>> logits = {"reaction": np.log([[[0.5, 0.5]]]),
    ...           "perception": np.log([[[0.25, 0.75]]])}
    >>> ppr_loss(logits, pairs=[("reaction", "perception")]).numpy().round(4)
    array([[0.1438]])
    """
    weights = check_pairs(pairs, outputs)
    check_choice("stop_gradient", stop_gradient, (None, "first", "second"))
    fixed = {
        name: keras.tree.map_structure(ops.stop_gradient, x)
        for name, x in outputs.items()
    }
    total = 0.0
    for (first, second), weight in weights.items():
        p = (fixed if stop_gradient == "first" else outputs)[first]
        q = (fixed if stop_gradient == "second" else outputs)[second]
        if distribution is None:
            divergence = categorical_kl(p, q)
        else:
            p, q = distribution(p), distribution(q)
            divergence = sum(
                a.kl_divergence(b)
                for a, b in zip(keras.tree.flatten(p), keras.tree.flatten(q))
            )
        total = total + weight * divergence
    return total


def check_pairs(pairs, names):
    """Returns `pairs` as a dict from pairs of `names` to weights."""
    weights = pairs if isinstance(pairs, dict) else dict.fromkeys(pairs, 1.0)
    if not weights:
        raise ValueError(
            f"`pairs` must name at least one pair. Received: pairs={pairs!r}."
        )
    for pair in weights:
        if (
            not isinstance(pair, tuple)
            or len(pair) != 2
            or pair[0] == pair[1]
            or not set(pair) <= set(names)
        ):
            raise ValueError(
                "`pairs` must be tuples of two different names out of "
                f"{sorted(names)}. Received: {pair!r}."
            )
    return {
        pair: check_non_negative(f"pairs[{pair}]", weight)
        for pair, weight in weights.items()
    }
