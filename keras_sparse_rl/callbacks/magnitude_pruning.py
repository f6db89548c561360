import warnings

import numpy as np

from keras_sparse_rl._checks import check_density
from keras_sparse_rl.callbacks.sparsity_callback import SparsityCallback
from keras_sparse_rl.kernels.masks import keep_count
from keras_sparse_rl.sparsity.constant_schedule import ConstantSchedule
from keras_sparse_rl.sparsity.mask_choice import check_scope
from keras_sparse_rl.sparsity.mask_choice import choose_masks
from keras_sparse_rl.sparsity.polynomial_schedule import PolynomialSchedule
from keras_sparse_rl.sparsity.selection import kernel_densities


class MagnitudePruning(SparsityCallback):
    """Removes the smallest weights during training, at once or gradually.

    Ranks by the magnitude of the effective weight. A pruned weight is no
    longer used, gets no gradient, and does not come back. With
    `PolynomialSchedule` this is gradual magnitude pruning (Zhu & Gupta 2017,
    https://arxiv.org/abs/1710.01878, equation 1). Works with any optimizer;
    momentum and decay of one that is not `optimizers.Powerprop(...)` still
    move the `theta` of pruned weights, unseen.

    Reported are `forward_density` and, each epoch, `mask_churn`. Masks are
    weights of the model: `EarlyStopping(restore_best_weights=True)` and
    `ModelCheckpoint(save_best_only=True)` bring back those of the best epoch,
    which may be a dense one. Let them begin when pruning has ended
    (`start_from_epoch`, or a second `fit`).

    Args:
        schedule: `PolynomialSchedule`, `ConstantSchedule`, or a float in
            (0, 1]: prune to it before the next step. Steps are those of the
            optimizer, over several calls of `fit`.
        refresh_every: int, optimizer steps between two prunings.
        scope: `"layer"` ranks within each kernel, `"global"` over all of
            them together. One weight, or block, of each stays in any case.
        densities: with `scope="layer"`, how the density is shared out:
            `"uniform"`, `"erk"`, or a dict of layer, or layer name, to the
            density that layer ends with.
        block_size, pattern: as in `SparsityCallback`. The schedule then ends
            at the pattern's density; on the way there what the pattern keeps
            is kept, and the next largest.

    Raises:
        ValueError: if an argument is out of range; and, when training
            starts, if the model has no sparse layer.

    Example:

    >>> from keras_sparse_rl.callbacks import MagnitudePruning
    >>> from keras_sparse_rl.sparsity import PolynomialSchedule
    >>> schedule = PolynomialSchedule(0.1, begin_step=100, end_step=1000)
    >>> callback = MagnitudePruning(schedule, refresh_every=50)
    """

    def __init__(
        self,
        schedule,
        refresh_every=100,
        scope="layer",
        densities="uniform",
        block_size=1,
        pattern=None,
    ):
        super().__init__(refresh_every, densities, block_size, pattern)
        if not isinstance(schedule, (ConstantSchedule, PolynomialSchedule)):
            schedule = ConstantSchedule(check_density("schedule", schedule))
        self.schedule = schedule
        self.scope = check_scope(scope, densities, pattern)

    def prepare(self):
        if self.scope == "layer":
            last = self.schedule(self.schedule.end_step)
            self.structure.check(self.kernels, self._shares(last))

    def begin(self):
        end = self.schedule.end_step
        full = all(k.forward_mask().all() for k in self.kernels.values())
        if full and 0 < end <= self._seen_step:
            warnings.warn(
                f"The optimizer has taken {self._seen_step} steps, and the "
                f"schedule ends at step {end}: all is pruned at once. Steps "
                "are counted over all calls of fit. To prune gradually from "
                f"here, let the schedule begin at {self._seen_step}.",
                stacklevel=2,
            )

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        if self._seen_step is None:
            return
        asked = self.schedule(self.schedule.end_step)
        if self._is_above(asked):
            self._read_masks()  # weights of an earlier epoch may be back
            warnings.warn(
                f"Training ends with a density of "
                f"{self._densities()[0]:.3g}, and the schedule with "
                f"{asked:.3g}, at step {self.schedule.end_step} (the optimizer "
                f"has taken {self._seen_step}). Train longer, or end the "
                "schedule earlier; if EarlyStopping restored an earlier "
                "epoch, give it start_from_epoch.",
                stacklevel=2,
            )

    def is_stale(self):
        """Whether more is kept than the last refresh should have left."""
        due = self._seen_step // self.refresh_every * self.refresh_every
        if self._seen_step >= self.schedule.end_step:
            due = self.schedule.end_step
        return self._is_above(self.schedule(due))

    def _is_above(self, density):
        """Whether more weights are kept than this density keeps."""
        kernels = self.kernels.values()
        masks = [kernel.forward_mask() for kernel in kernels]
        kept = [self.structure.count(mask) for mask in masks]
        keep = self.structure.keep_count
        if self.scope == "global":
            size = sum(keep(kernel.shape, 1.0) for kernel in kernels)
            fewest = len(self.kernels)  # one of each kernel stays
            return sum(kept) > max(fewest, keep_count(density, size))
        shares = self._shares(density).values()
        return any(
            count > keep(kernel.shape, share)
            or not self.structure.allows(mask, share, kernel.input_axes)
            for count, share, mask, kernel in zip(kept, shares, masks, kernels)
        )

    def stops_at(self):
        return self.schedule.end_step

    def new_masks(self, step):
        density = self.schedule(step)
        scores = {
            name: np.where(kernel.forward_mask(), abs(kernel.weight()), -1.0)
            for name, kernel in self.kernels.items()
        }
        masks = choose_masks(
            scores,
            density,
            self.scope,
            self._shares(density),
            self.structure,
            {name: kernel.input_axes for name, kernel in self.kernels.items()},
        )
        # With several schedules in a row a weight stays pruned.
        masks = {name: masks[name] & (scores[name] >= 0) for name in masks}
        return {
            name: (mask, mask & ~self.kernels[name].frozen_mask())
            for name, mask in masks.items()
        }

    def _shares(self, density):
        """A layer's own density is where it ends; it falls with the rest."""
        if not isinstance(self.densities, dict):
            return kernel_densities(self.kernels, density, self.densities)
        last = self.schedule(self.schedule.end_step)
        ends = kernel_densities(self.kernels, last, self.densities)
        progress = (1 - density) / (1 - last) if last < 1 else 1.0
        return {name: 1 - progress * (1 - ends[name]) for name in ends}
