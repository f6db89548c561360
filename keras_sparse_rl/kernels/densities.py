"""How a density for the whole network is shared out over its kernels."""

import math

from keras_sparse_rl._checks import check_density
from keras_sparse_rl._checks import check_integer


def uniform_densities(shapes, density, fixed=None):
    """Gives every kernel the same density.

    Args:
        shapes: dict of kernel name to shape.
        density: float in (0, 1], for every kernel not in `fixed`.
        fixed: dict of kernel name to its own density, optional.

    Returns:
        Dict of kernel name to density.

    Raises:
        TypeError: if `shapes` is no dict of names to shapes.
        ValueError: for a density outside (0, 1] or an unknown name.

    Example:

    >>> from keras_sparse_rl.sparsity import uniform_densities
    >>> shapes = {"hidden": (784, 300), "output": (300, 10)}
    >>> uniform_densities(shapes, 0.1, fixed={"output": 0.2})
    {'hidden': 0.1, 'output': 0.2}
    """
    density = check_density("density", density)
    fixed = _check_fixed(shapes, fixed)
    return {name: fixed.get(name, density) for name in shapes}


def erk_densities(shapes, density, fixed=None):
    """Erdos-Renyi-Kernel: small kernels stay denser than large ones.

    The density of a kernel is proportional to `sum(shape) / prod(shape)`,
    scaled so that the whole network has `density` (Evci et al. 2020,
    https://arxiv.org/abs/1911.11134, section 3). Kernels that would need
    more than all of their weights are dense, and the others share the rest.

    Args:
        shapes: dict of kernel name to shape.
        density: float in (0, 1], of all kernels together, those in `fixed`
            included.
        fixed: dict of kernel name to its own density, optional.

    Returns:
        Dict of kernel name to density.

    Raises:
        TypeError: if `shapes` is no dict of names to shapes.
        ValueError: for a density outside (0, 1], an unknown name, or when
            the fixed kernels alone hold more weights than `density` allows.

    Example:

    >>> from keras_sparse_rl.sparsity import erk_densities
    >>> shapes = {"hidden": (784, 300), "output": (300, 10)}
    >>> densities = erk_densities(shapes, 0.1)
    >>> {name: round(value, 3) for name, value in densities.items()}
    {'hidden': 0.089, 'output': 1.0}
    """
    density = check_density("density", density)
    densities = _check_fixed(shapes, fixed)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    total = density * sum(sizes.values())
    while True:
        free = [name for name in shapes if name not in densities]
        budget = total - sum(densities[n] * sizes[n] for n in densities)
        if not free:
            break
        if budget <= 0:
            raise ValueError(
                f"density={density} leaves {total:.0f} weights, and the "
                "kernels that are kept at a density of their own already hold "
                f"{total - budget:.0f}: {densities}. Raise `density` or lower "
                "those."
            )
        raw = {name: sum(shapes[name]) / sizes[name] for name in free}
        scale = budget / sum(raw[name] * sizes[name] for name in free)
        full = [name for name in free if scale * raw[name] > 1]
        if not full:
            densities.update({name: scale * raw[name] for name in free})
            break
        densities.update(dict.fromkeys(full, 1.0))
    return {name: densities[name] for name in shapes}


def _check_fixed(shapes, fixed):
    for name, value in (("shapes", shapes), ("fixed", fixed or {})):
        if not isinstance(value, dict):
            meant = "shape" if name == "shapes" else "density"
            raise TypeError(
                f"`{name}` must be a dict of kernel names, each to its {meant}"
                f". Received: {name}={value!r}. For one kernel write "
                "shapes={'hidden': (784, 300)}."
            )
    for name, shape in shapes.items():
        if not isinstance(shape, (tuple, list)) or not shape:
            raise TypeError(
                f"`shapes[{name!r}]` must be a tuple of lengths, such as "
                f"(784, 300). Received: {shape!r}."
            )
        for length in shape:
            check_integer(f"shapes[{name!r}]", length)
    fixed = dict(fixed or {})
    unknown = sorted(set(fixed) - set(shapes))
    if unknown:
        raise ValueError(
            f"No sparse kernel is called {unknown}. There are: "
            f"{sorted(shapes)}."
        )
    return {
        name: check_density(f"fixed[{name!r}]", value)
        for name, value in fixed.items()
    }
