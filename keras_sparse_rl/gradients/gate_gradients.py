import collections

from keras import ops

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_finite
from keras_sparse_rl._checks import check_positive
from keras_sparse_rl.gradients.gradient_cosine import check_gradients
from keras_sparse_rl.gradients.gradient_cosine import cosine_from
from keras_sparse_rl.gradients.gradient_cosine import products
from keras_sparse_rl.gradients.gradient_cosine import shared_pairs

MODES = ("weighted", "unweighted")

GatedGradients = collections.namedtuple(
    "GatedGradients", ["gradients", "cosines", "weights", "added"]
)
GatedGradients.__doc__ = """What `gate_gradients` found.

`gradients`, the list to apply; `cosines` and `weights`, tensors `(number of
auxiliaries, number of groups)`: how each auxiliary gradient lies to the main
one, and the factor by which it was multiplied; `added`, the list of what was
added to the main gradients, None where nothing was.

Example:

>>> from keras_sparse_rl.gradients import GatedGradients
>>> GatedGradients([], [[0.5]], [[0.5]], []).weights
[[0.5]]
"""


def gate_gradients(
    main,
    auxiliaries,
    mode="weighted",
    threshold=0.0,
    norm_cap=None,
    groups=None,
    cosines=None,
):
    """Adds auxiliary gradients as far as they point the main one's way.

    See "Adapting Auxiliary Losses Using Gradient Similarity" by Du et al. 2018
    (https://arxiv.org/abs/1812.02224), section 3. Variables with both
    gradients are shared: there the result is
    `main + sum_k weight_k * auxiliary_k`. Variables that only one loss reaches,
    such as heads, get its gradient as it is. Without `cosines` and with
    `threshold >= 0` the result never opposes the main gradient.

    Args:
        main: list of tensors, the gradient of the main loss; None where there
            is none. `tf.IndexedSlices` are allowed and become dense.
        auxiliaries: list of lists like `main`: gradients of auxiliary losses.
            Any other directions serve too.
        mode: `"weighted"`, weight max(0, cosine); or `"unweighted"`, weight 1
            where the cosine is above `threshold`, else 0.
        threshold: float, for `"unweighted"`.
        norm_cap: float or None. With a number no auxiliary part is longer
            than `norm_cap` times the main gradient.
        groups: optional list of int, for each variable the number of its
            group, counted from 0: each group has weights of its own.
        cosines: optional tensor `(number of auxiliaries, number of groups)`
            to use instead of those of the gradients, such as averages.

    Returns:
        `GatedGradients`; its cosines are those of the gradients.

    Raises:
        ValueError: if lists differ in length or an argument is out of range;
            if an auxiliary shares no variable with the main loss.

    Example:

    >>> from keras import ops
    >>> from keras_sparse_rl.gradients import gate_gradients
    >>> main = [ops.array([1.0, 0.0])]
    >>> along, against = [ops.array([3.0, 4.0])], [ops.array([-1.0, 0.0])]
    >>> gated = gate_gradients(main, [along, against])
    >>> [round(float(w), 4) for w in gated.weights[:, 0]]
    [0.6, 0.0]
    >>> [round(float(g), 4) for g in gated.gradients[0]]
    [2.8, 2.4]
    """
    check_gate(mode, threshold, norm_cap)
    main, auxiliaries = list(main), [list(a) for a in auxiliaries]
    groups = [0] * len(main) if groups is None else list(groups)
    found, weights = [], []
    for number, auxiliary in enumerate(auxiliaries):
        check_gradients(main, auxiliary, groups)
        pairs = shared_pairs(main, auxiliary)
        if not any(pair is not None for pair in pairs):
            raise ValueError(
                f"Auxiliary {number} shares no variable with the main loss, "
                "so its gate would do nothing."
            )
        dot, main_norm, auxiliary_norm = products(pairs, groups)
        cosine = cosine_from(dot, main_norm, auxiliary_norm)
        found.append(cosine)
        used = (
            cosine
            if cosines is None
            else ops.cast(cosines[number], cosine.dtype)
        )
        if mode == "weighted":
            weight = ops.maximum(used, 0.0)
        else:
            weight = ops.cast(used > threshold, used.dtype)
        if norm_cap is not None:
            longest = norm_cap * main_norm
            # Compared as products, so that a length of 0 divides nothing.
            too_long = weight * auxiliary_norm > longest
            capped = longest / ops.where(
                too_long, auxiliary_norm, ops.ones_like(auxiliary_norm)
            )
            weight = ops.where(too_long, capped, weight)
        weights.append(weight)
    added = [
        _added(
            main[i] is not None,
            [auxiliary[i] for auxiliary in auxiliaries],
            [weight[group] for weight in weights],
        )
        for i, group in enumerate(groups)
    ]
    return GatedGradients(
        [add_gradients(a, b) for a, b in zip(main, added)],
        ops.stack(found) if found else [],
        ops.stack(weights) if weights else [],
        added,
    )


def check_gate(mode, threshold, norm_cap):
    """Checks the arguments that say how to gate."""
    check_choice("mode", mode, MODES)
    check_finite("threshold", threshold)
    if norm_cap is not None:
        check_positive("norm_cap", norm_cap)


def add_gradients(a, b):
    """Sum of two gradients, dense; None counts as nothing."""
    if a is None or b is None:
        found = b if a is None else a
        return None if found is None else ops.convert_to_tensor(found)
    return ops.convert_to_tensor(a) + ops.convert_to_tensor(b)


def _added(is_shared, auxiliaries, weights):
    """What the auxiliary losses add to the gradient of one variable."""
    total = None
    for auxiliary, weight in zip(auxiliaries, weights):
        if auxiliary is not None:
            auxiliary = ops.convert_to_tensor(auxiliary)
            if is_shared:
                auxiliary = auxiliary * ops.cast(weight, auxiliary.dtype)
            total = add_gradients(total, auxiliary)
    return total
