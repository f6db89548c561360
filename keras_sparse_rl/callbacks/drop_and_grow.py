import numpy as np

from keras_sparse_rl._checks import check_density
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_unit
from keras_sparse_rl.callbacks.sparsity_callback import SparsityCallback
from keras_sparse_rl.kernels.blocks import block_means
from keras_sparse_rl.kernels.blocks import expand_blocks
from keras_sparse_rl.kernels.masks import topk_mask
from keras_sparse_rl.sparsity.selection import kernel_densities


class DropAndGrow(SparsityCallback):
    """Fixed number of weights: the smallest are dropped, others grow.

    The base of `RigL`, `SET` and `StaticSparsity`, which say how many weights
    are dropped (`fraction`) and which grow (`grow_scores`). Training starts
    from a random mask; masks that fit the density already, of `prune` or an
    earlier run, are kept, and a model that was trained with more weights keeps
    the largest of them. At a refresh the smallest effective weights in use are
    dropped, and as many of those not kept come into use; what was not in use
    before starts from 0. The optimizer must be `optimizers.Powerprop(...)`.

    Args:
        density: float in (0, 1], the share of weights used and trained.
        refresh_every: int, optimizer steps between two refreshes.
        densities: `"erk"`, `"uniform"`, or a dict of layer, or layer name, to
            its own density.
        end_step: int or None, the optimizer step from which the mask stays.
        block_size: int, weights that are dropped and grown together, as in
            `sparsity.topk_mask`.
        seed: int, of the first mask and of random growth.

    Raises:
        ValueError: if an argument is out of range; and, when training
            starts, if the model has no sparse layer or its optimizer does
            not hold weights that are not in use.

    Example:

    >>> from keras_sparse_rl.callbacks import DropAndGrow, SET
    >>> issubclass(SET, DropAndGrow)
    True
    """

    grows_anew = True
    holds_resting = True

    def __init__(
        self,
        density,
        refresh_every=100,
        densities="erk",
        end_step=None,
        block_size=1,
        seed=0,
    ):
        super().__init__(refresh_every, densities, block_size)
        self.density = check_density("density", density)
        if end_step is not None:
            check_integer("end_step", end_step, minimum=0)
        self.end_step = end_step
        self.seed = check_integer("seed", seed, minimum=0)

    def fraction(self, step):
        """The share of the weights in use that is dropped at `step`."""
        raise TypeError(f"{type(self).__name__} does not define fraction.")

    def fraction_of(self, name, step):
        """The same for one kernel."""
        return self.fraction(step)

    def grow_scores(self, name, generator):
        """Array shaped as kernel `name`: the highest come into use."""
        raise TypeError(f"{type(self).__name__} does not define grow_scores.")

    def prepare(self):
        self.require_powerprop("leaves weights that are not in use alone")
        self._shares = kernel_densities(
            self.kernels, self.density, self.densities
        )

    def is_stale(self):
        return any(
            self.count(kernel.forward_mask())
            != self.keep_count(kernel, self._shares[name])
            or (kernel.backward_mask() & ~kernel.forward_mask()).any()
            for name, kernel in self.kernels.items()
        )

    def stops_at(self):
        return self.end_step

    def new_masks(self, step):
        # Not from running generators: a resumed run must draw the same.
        masks = {}
        for position, (name, kernel) in enumerate(self.kernels.items()):
            generator = np.random.default_rng([self.seed, step, position])
            if self._is_first:
                mask = self._first_mask(name, kernel, step, generator)
            else:
                mask = self._replace(name, kernel, step, generator)
            masks[name] = mask, mask
        return masks

    def _first_mask(self, name, kernel, step, generator):
        scores = generator.random(kernel.shape, "float32")
        used = kernel.forward_mask()
        if step > 0 or not used.all():
            # By lot only what must come to a mask that has too few.
            scores = np.where(used, abs(kernel.weight()), scores - 1)
        return self.top(scores, self._shares[name])

    def _replace(self, name, kernel, step, generator):
        share = self._shares[name]
        count = self.keep_count(kernel, share)
        drop = int(self.fraction_of(name, step) * count)
        magnitude = np.where(kernel.forward_mask(), abs(kernel.weight()), -1.0)
        means = block_means(magnitude, self.block_size)
        if drop == 0:
            return self.top(magnitude, share)
        scores = block_means(
            self.grow_scores(name, generator), self.block_size
        ).astype("float32")
        kept = np.zeros(means.shape, bool)
        if count > drop:
            kept = topk_mask(means, (count - drop) / means.size)
        scores[kept] = np.inf
        mask = topk_mask(scores, count / means.size)
        return expand_blocks(mask, self.block_size, kernel.shape)


def check_drop_fraction(value):
    """Returns `value` as a float in [0, 1]."""
    return check_unit("drop_fraction", value)
