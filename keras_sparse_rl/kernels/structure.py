"""What is kept or dropped together: single weights, blocks, N:M patterns."""

import abc

import numpy as np

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.kernels.blocks import block_means
from keras_sparse_rl.kernels.blocks import expand_blocks
from keras_sparse_rl.kernels.blocks import used_blocks
from keras_sparse_rl.kernels.masks import keep_count
from keras_sparse_rl.kernels.masks import topk_mask
from keras_sparse_rl.kernels.patterns import check_pattern
from keras_sparse_rl.kernels.patterns import divides
from keras_sparse_rl.kernels.patterns import follows_pattern
from keras_sparse_rl.kernels.patterns import pattern_mask


class Structure(abc.ABC):
    """Which masks of a kernel are allowed, and which of them is best.

    Example:

    >>> import numpy as np
    >>> from keras_sparse_rl.kernels.structure import structure
    >>> weights = np.arange(8.0).reshape(8, 1)
    >>> structure(4, None).top(weights, 0.5).ravel().astype(int).tolist()
    [0, 0, 0, 0, 1, 1, 1, 1]
    >>> structure(1, (2, 4)).top(weights, 0.5).ravel().astype(int).tolist()
    [0, 0, 1, 1, 0, 0, 1, 1]
    """

    @abc.abstractmethod
    def top(self, scores, density, input_axes=(-2,)):
        """The mask of the highest scores, a boolean array.

        Args:
            scores: array of the kernel's shape.
            density: float in (0, 1].
            input_axes: tuple of int, the kernel's `input_axes`.
        """

    @abc.abstractmethod
    def keep_count(self, shape, density):
        """How much of a kernel a density keeps, in what `count` counts."""

    @abc.abstractmethod
    def count(self, mask):
        """How much a mask keeps: blocks, or weights."""

    @abc.abstractmethod
    def allows(self, mask, density, input_axes=(-2,)):
        """Whether a mask of that density may have its form."""

    @abc.abstractmethod
    def exchanged(self, magnitude, scores, density, drop, input_axes=(-2,)):
        """The mask after the smallest magnitudes gave way to high scores.

        Args:
            magnitude: array of the kernel's shape, -1 where it is not used.
            scores: array of that shape; the highest come into use.
            density: float in (0, 1].
            drop: int, how many are dropped, of what `count` counts.
            input_axes: tuple of int.
        """

    @abc.abstractmethod
    def check(self, kernels, shares):
        """Raises where a kernel cannot have the density that it should.

        Args:
            kernels: dict of name to `Kernel`.
            shares: dict of name to density.
        """

    def fits(self, mask, density, input_axes=(-2,)):
        """Whether a mask is one of that density."""
        return self.count(mask) == self.keep_count(
            mask.shape, density
        ) and self.allows(mask, density, input_axes)


class Blocks(Structure):
    """Runs of weights along the inputs; of one weight by default.

    Args:
        size: int, the weights in a block.
    """

    def __init__(self, size=1):
        self.size = check_integer("block_size", size)

    def top(self, scores, density, input_axes=(-2,)):
        return topk_mask(scores, density, self.size)

    def keep_count(self, shape, density):
        blocks = used_blocks(np.zeros(shape, bool), self.size).size
        return keep_count(density, blocks)

    def count(self, mask):
        return int(np.count_nonzero(used_blocks(mask, self.size)))

    def allows(self, mask, density, input_axes=(-2,)):
        return True

    def exchanged(self, magnitude, scores, density, drop, input_axes=(-2,)):
        means = block_means(magnitude, self.size)
        scores = block_means(scores, self.size).astype("float32")
        count = keep_count(density, means.size)
        kept = np.zeros(means.shape, bool)
        if count > drop:
            kept = topk_mask(means, (count - drop) / means.size)
        scores[kept] = np.inf
        mask = topk_mask(scores, count / means.size)
        return expand_blocks(mask, self.size, magnitude.shape)

    def check(self, kernels, shares):
        pass


class Pattern(Structure):
    """At most `n` of every `m` weights along the inputs.

    A density above `n / m`, on the way there or of weights that are trained
    but not used, keeps the pattern's weights and the next largest; 1 is a
    kernel without a pattern.

    Args:
        pattern: tuple of two int, `(n, m)`.
    """

    def __init__(self, pattern):
        self.pattern = check_pattern(pattern)

    @property
    def density(self):
        """What the pattern itself keeps."""
        return self.pattern[0] / self.pattern[1]

    def top(self, scores, density, input_axes=(-2,)):
        scores = np.asarray(scores)
        if density == 1:
            return np.ones(scores.shape, bool)
        mask = pattern_mask(scores, self.pattern, input_axes)
        if self.keep_count(scores.shape, density) == self.count(mask):
            return mask
        return topk_mask(np.where(mask, np.inf, scores), density)

    def keep_count(self, shape, density):
        size = int(np.prod(shape))
        if density <= self.density:
            return size * self.pattern[0] // self.pattern[1]
        return keep_count(density, size)

    def count(self, mask):
        return int(np.count_nonzero(mask))

    def allows(self, mask, density, input_axes=(-2,)):
        return density > self.density or follows_pattern(
            mask, self.pattern, input_axes
        )

    def exchanged(self, magnitude, scores, density, drop, input_axes=(-2,)):
        count = self.keep_count(magnitude.shape, density)
        scores = np.array(scores, "float32")
        if count > drop:
            scores[topk_mask(magnitude, (count - drop) / scores.size)] = np.inf
        return self.top(scores, density, input_axes)

    def check(self, kernels, shares):
        for name, kernel in kernels.items():
            if shares[name] == 1:
                continue
            dense = f"Leave it dense with densities={{{name!r}: 1.0}}"
            if not divides(self.pattern, kernel.shape, kernel.input_axes):
                raise ValueError(
                    f"`pattern`={self.pattern} does not divide the inputs of "
                    f"'{name}', a kernel of shape {tuple(kernel.shape)} that "
                    f"sums over the axes {kernel.input_axes}. {dense}, or "
                    "choose another pattern."
                )
            if abs(shares[name] - self.density) > 1e-6:
                raise ValueError(
                    f"`pattern`={self.pattern} keeps {self.density:.3g} of "
                    f"the weights, and '{name}' is given a density of "
                    f"{shares[name]:.3g}. Ask for {self.density:.3g} and "
                    f"densities='uniform'. {dense}."
                )


def structure(block_size, pattern):
    """The structure that a user asks for.

    Args:
        block_size: int, weights that are kept together.
        pattern: tuple of two int, or None.

    Returns:
        `Blocks` or `Pattern`.

    Raises:
        ValueError: if one is out of range, or both are given.
    """
    blocks = Blocks(block_size)
    if pattern is None:
        return blocks
    if block_size != 1:
        raise ValueError(
            "A `pattern` keeps single weights and a `block_size` whole "
            f"blocks. Received: pattern={pattern!r}, block_size={block_size}. "
            "Give one of them."
        )
    return Pattern(pattern)
