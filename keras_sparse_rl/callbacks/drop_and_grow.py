import numpy as np

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_density
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl._checks import check_unit
from keras_sparse_rl.callbacks.sparsity_callback import SparsityCallback
from keras_sparse_rl.sparsity.selection import kernel_densities


class DropAndGrow(SparsityCallback):
    """Fixed number of weights: the smallest are dropped, others grow.

    The base of `RigL`, `SET` and `StaticSparsity`, which say how many weights
    are dropped (`fraction`) and which grow (`grow_scores`). Training starts
    from the largest weights, so that a trained model keeps what it knows, or
    from random ones; masks that fit the density already, of `prune` or an
    earlier run, are kept. At a refresh the smallest effective weights in use
    are dropped, and as many of those not kept come into use. The optimizer
    must be `optimizers.Powerprop(...)`.

    What was not in use before starts from 0. With an exponent above 1 it would
    stay there, where the exponent's factor is 0: then it starts at the
    smallest magnitude in use, with the sign that lowers the loss (`RigL`) or a
    random one. `benchmarks.growth` compares first values.

    Args:
        density: float in (0, 1], the share of weights used and trained.
        refresh_every: int, optimizer steps between two refreshes.
        densities: `"erk"`, `"uniform"`, or a dict of layer, or layer name, to
            its own density.
        end_step: int or None, the optimizer step from which the mask stays.
        block_size, pattern: as in `SparsityCallback`.
        seed: int, of a random first mask and of random growth.
        first_mask: `"largest"` weights, or `"random"` ones as in the papers,
            which train new networks.

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
        first_mask="largest",
        pattern=None,
    ):
        super().__init__(refresh_every, densities, block_size, pattern)
        self.density = check_density("density", density)
        if end_step is not None:
            check_integer("end_step", end_step, minimum=0)
        self.end_step = end_step
        self.seed = check_integer("seed", seed, minimum=0)
        self.first_mask = check_choice(
            "first_mask", first_mask, ("largest", "random")
        )

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
        self.structure.check(self.kernels, self._shares)

    def is_stale(self):
        return any(
            not self.fits(kernel, kernel.forward_mask(), self._shares[name])
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
        if self.first_mask == "largest" or not used.all():
            # By lot only what must come to a mask that has too few.
            scores = np.where(used, abs(kernel.weight()), scores - 1)
        return self.top(kernel, scores, self._shares[name])

    def start_grown(self, name, kernel, grown):
        used = kernel.forward_mask()
        old = used & ~grown
        if kernel.alpha == 1 or not old.any():
            kernel.reset(grown)
            return
        theta = np.array(kernel.dense_theta())
        smallest = abs(theta[old]).min()
        theta[grown] = smallest * self.grow_signs(name, kernel)[grown]
        kernel.assign_dense_theta(theta)

    def grow_signs(self, name, kernel):
        """Signs of weights that come into use: an array of -1 and 1."""
        generator = np.random.default_rng([self.seed, self._seen_step])
        return generator.choice([-1.0, 1.0], kernel.shape)

    def _replace(self, name, kernel, step, generator):
        share, axes = self._shares[name], kernel.input_axes
        count = self.structure.keep_count(kernel.shape, share)
        drop = int(self.fraction_of(name, step) * count)
        magnitude = np.where(kernel.forward_mask(), abs(kernel.weight()), -1.0)
        if drop == 0:
            return self.top(kernel, magnitude, share)
        scores = self.grow_scores(name, generator)
        return self.structure.exchanged(magnitude, scores, share, drop, axes)


def check_drop_fraction(value):
    """Returns `value` as a float in [0, 1]."""
    return check_unit("drop_fraction", value)
