from keras import ops

from keras_sparse_rl._checks import fits


def gradient_cosine(main, auxiliary, groups=None):
    """Cosine of the angle between two gradients of the same variables.

    See "Adapting Auxiliary Losses Using Gradient Similarity" by Du et al. 2018
    (https://arxiv.org/abs/1812.02224), section 3. Only variables that have
    both gradients count. A gradient of length 0 has cosine 0 with every other;
    one that is not finite has cosine NaN. Computed in float64 for float64,
    else in float32, where lengths must lie between 1e-19 and 1e19.

    Args:
        main: list of tensors, the gradient of the main loss; None where there
            is none. `tf.IndexedSlices` are allowed.
        auxiliary: list like `main`, the gradient of the auxiliary loss, or
            any other direction.
        groups: optional list of int, for each variable the number of its
            group, counted from 0: one cosine for each group.

    Returns:
        Tensor `()`, or with groups `(number of groups,)`; 0 for a group in
        which nothing is shared.

    Raises:
        ValueError: if the lists differ in length or their tensors in shape,
            or no variable has both gradients.

    Example:

    >>> from keras import ops
    >>> from keras_sparse_rl.gradients import gradient_cosine
    >>> main = [ops.array([1.0, 0.0]), ops.array([0.0]), None]
    >>> auxiliary = [ops.array([1.0, 1.0]), ops.array([0.0]), ops.array([5.0])]
    >>> round(float(gradient_cosine(main, auxiliary)), 4)
    0.7071
    """
    check_gradients(main, auxiliary, groups)
    pairs = shared_pairs(main, auxiliary)
    if not any(pair is not None for pair in pairs):
        raise ValueError(
            "`main` and `auxiliary` have no variable in common: for none of "
            f"the {len(pairs)} variables both have a gradient. Without shared "
            "parameters there is nothing to compare."
        )
    one_group = [0] * len(pairs)
    dot, main_norm, auxiliary_norm = products(
        pairs, one_group if groups is None else groups
    )
    cosine = cosine_from(dot, main_norm, auxiliary_norm)
    return cosine if groups is not None else cosine[0]


def check_gradients(main, auxiliary, groups):
    """Says which list is too long."""
    for name, value in (("auxiliary", auxiliary), ("groups", groups)):
        if value is not None and len(value) != len(main):
            raise ValueError(
                f"`{name}` must have one entry for each of the {len(main)} "
                f"gradients in `main`. Received: {len(value)} entries."
            )


def shared_pairs(main, auxiliary):
    """Pairs of flat tensors where both gradients are, else None."""
    pairs = []
    for place, (a, b) in enumerate(zip(main, auxiliary)):
        if a is None or b is None:
            pairs.append(None)
            continue
        a, b = ops.convert_to_tensor(a), ops.convert_to_tensor(b)
        if not fits(a.shape, b.shape):
            raise ValueError(
                "`main` and `auxiliary` must be gradients of the same "
                f"variables. Received: shapes {tuple(a.shape)} and "
                f"{tuple(b.shape)} at place {place}."
            )
        pairs.append((_flat(a), _flat(b)))
    return pairs


def products(pairs, groups):
    """Dot product and both lengths in each group: three `(groups,)`."""
    sums = [[[], [], []] for _ in range(max(groups) + 1)]
    for pair, group in zip(pairs, groups):
        if pair is not None:
            a, b = pair
            for parts, x, y in zip(sums[group], (a, a, b), (b, a, b)):
                parts.append(ops.sum(x * y))
    # An empty group has the type of the others.
    zero = next(parts[0][0] for parts in sums if parts[0]) * 0
    dot, main_square, auxiliary_square = (
        ops.stack(
            [
                sum(parts[k][1:], parts[k][0]) if parts[k] else zero
                for parts in sums
            ]
        )
        for k in range(3)
    )
    return dot, ops.sqrt(main_square), ops.sqrt(auxiliary_square)


def cosine_from(dot, main_norm, auxiliary_norm):
    """Cosines from dot products and lengths, 0 where a length is 0."""
    zero = ops.logical_or(
        ops.equal(main_norm, 0.0), ops.equal(auxiliary_norm, 0.0)
    )
    one = ops.ones_like(dot)
    cosine = dot / ops.where(zero, one, main_norm)
    cosine = cosine / ops.where(zero, one, auxiliary_norm)
    return ops.where(zero, ops.zeros_like(dot), ops.clip(cosine, -1.0, 1.0))


def _flat(gradient):
    if gradient.dtype != "float64":
        gradient = ops.cast(gradient, "float32")
    return ops.reshape(gradient, (-1,))
