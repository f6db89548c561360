import keras
import numpy as np

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.callbacks.inner_optimizer import inner_optimizer
from keras_sparse_rl.callbacks.inner_optimizer import steps_taken
from keras_sparse_rl.kernels.blocks import used_blocks
from keras_sparse_rl.kernels.masks import keep_count
from keras_sparse_rl.kernels.masks import topk_mask
from keras_sparse_rl.optimizers.kernel_slots import kernel_slots
from keras_sparse_rl.optimizers.kernel_slots import knows_kernels
from keras_sparse_rl.optimizers.powerprop import powerprop_advice
from keras_sparse_rl.sparsity.selection import find_sparse_kernels
from keras_sparse_rl.sparsity.selection import resolve_names


class SparsityCallback(keras.callbacks.Callback):
    """When masks are refreshed, and what is reported; the base of all.

    A subclass says which weights are kept, in `new_masks`. Steps are counted
    by `optimizer.iterations` and masks live in the model, so a run that is
    saved and continued refreshes where an uninterrupted one would have. Put
    it before the callbacks that log (`TensorBoard`, `CSVLogger`) or save
    (`ModelCheckpoint`, `BackupAndRestore`): they see what was done before.
    Layers that are not trainable are left as they are.

    In a loop of your own, with `model.optimizer` set::

        callback.start(model)
        for x, y in dataset:
            ...
            model.optimizer.apply(gradients, model.trainable_variables)
            callback.update()
        callback.finish()

    The same beside TF-Agents' `train.Learner`, whose `triggers` are called
    after each `run`: `callback.start(model)`, then
    `triggers=[lambda step: callback.update()]`.

    Args:
        refresh_every: int, optimizer steps between two refreshes. With
            `steps_per_execution` a refresh waits for the end of the call.
        densities: `"uniform"`, `"erk"` (see `sparsity.erk_densities`), or a
            dict of layer, or layer name, to its own density.
        block_size: int, weights that are kept or dropped together, as in
            `sparsity.topk_mask`: 4 is what LiteRT's sparse kernels want.

    Raises:
        ValueError: if an argument is out of range; and, when training
            starts, if the model has no sparse layer.

    Example:

    >>> from keras_sparse_rl.callbacks import SparsityCallback, TopKAST
    >>> issubclass(TopKAST, SparsityCallback)
    True
    """

    # Whether a weight that comes into use starts from 0.
    grows_from_zero = False

    def __init__(self, refresh_every=100, densities="uniform", block_size=1):
        super().__init__()
        self.refresh_every = check_integer("refresh_every", refresh_every)
        self.block_size = check_integer("block_size", block_size)
        if not isinstance(densities, dict):
            check_choice("densities", densities, ("uniform", "erk"))
        self.densities = densities
        self.kernels = {}
        self._seen_step = None
        self._is_first = False
        self._churn = []
        self._kept = {}  # kernel's name to its number of weights in A and B
        self._figures = {}

    # What a subclass defines.

    def new_masks(self, step):
        """The masks for `step`: dict of kernel name to a pair of arrays.

        Args:
            step: int, the optimizer's steps so far.

        Returns:
            Dict of kernel name to `(forward, backward)`, boolean arrays.
        """
        raise TypeError(f"{type(self).__name__} does not define new_masks.")

    def is_stale(self):
        """Whether the model's masks are not ours yet: refresh at once."""
        return False

    def stops_at(self):
        """The step from which masks stay as they are, or None."""
        return None

    def prepare(self):
        """Checks the model before its first step."""

    def begin(self):
        """Called before the first step, after saved state is restored."""

    # When and how masks change.

    def start(self, model):
        """Checks a model and chooses its first masks, in your own loop."""
        self.set_model(model)
        self.on_train_begin()
        self._start()

    def finish(self):
        """Ends what `start` began, in your own loop."""
        self.on_train_end()

    def on_train_begin(self, logs=None):
        found, frozen = find_sparse_kernels(self.model), {}
        self.kernels = {}
        for name, kernel in found.items():
            group = self.kernels if kernel.layer.trainable else frozen
            group[name] = kernel
        if not self.kernels:
            raise ValueError(
                f"All sparse layers of model '{self.model.name}' have "
                "trainable=False, so there is nothing to train sparse. Set "
                "layer.trainable = True before compiling."
            )
        if isinstance(self.densities, dict):
            resolve_names(self.kernels, self.densities, frozen)
        if getattr(self.model, "optimizer", None) is None:
            raise ValueError(
                f"{type(self).__name__} counts the steps of model.optimizer, "
                f"and model '{self.model.name}' has none. Compile the model, "
                "or set model.optimizer in a loop of your own."
            )
        if any(kernel.is_stored for kernel in self.kernels.values()):
            self.require_powerprop("moves its slots with sparse weights")
        self.prepare()
        # BackupAndRestore may only now put saved masks in place.
        self._seen_step = None

    def on_epoch_begin(self, epoch, logs=None):
        self._churn = []
        self._start()

    def on_train_batch_end(self, batch, logs=None):
        self.update()
        if logs is not None:
            logs.update(self._figures)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs.update(self._figures)
            logs.update(self.report_epoch())

    def update(self):
        """Refreshes the masks if it is time; call it after every step.

        Returns:
            bool, whether the masks were refreshed.
        """
        self._start()
        step = self._step()
        before, self._seen_step = self._seen_step, step
        stop = self.stops_at()
        if stop is not None and before >= stop:
            return False
        last = step if stop is None else min(step, stop)
        crossed = last // self.refresh_every > before // self.refresh_every
        if crossed or (stop is not None and step >= stop):
            self.refresh(step)
            return True
        return False

    def refresh(self, step):
        """Puts new masks in place, whatever the step."""
        replaced = kept = 0
        for name, (forward, backward) in self.new_masks(step).items():
            kernel = self.kernels[name]
            grown = forward & ~kernel.forward_mask()
            slots = kernel_slots(self.model.optimizer, kernel)
            kernel.assign_masks(forward, backward, slots)
            if self.grows_from_zero and grown.any() and not self._is_first:
                kernel.reset(grown)
            self._kept[name] = _counts(forward, backward)
            replaced += np.count_nonzero(grown)
            kept += self._kept[name][0]
        self._churn.append(float(replaced / kept))
        self._figures = self.report()

    def report(self):
        """Figures for the progress bar, taken at each refresh."""
        return {"forward_density": self._densities()[0]}

    def report_epoch(self):
        """Figures for the logs of each epoch."""
        return {"mask_churn": float(np.mean(self._churn or [0.0]))}

    def _start(self):
        """Before the first step: where are we, and do the masks fit?"""
        if self._seen_step is not None:
            return
        self._seen_step = self._step()
        self._read_masks()
        self.begin()
        self._figures = self.report()
        if self.is_stale():
            self._is_first = True
            self.refresh(self._seen_step)
            self._is_first = False
            self._churn = []

    def _step(self):
        return steps_taken(self.model)

    def _read_masks(self):
        self._kept = {
            name: _counts(kernel.forward_mask(), kernel.backward_mask())
            for name, kernel in self.kernels.items()
        }

    def _densities(self):
        """Shares of all weights in A and in B."""
        size = sum(np.prod(kernel.shape) for kernel in self.kernels.values())
        return (np.sum(list(self._kept.values()), axis=0) / size).tolist()

    # Tools for subclasses.

    def top(self, scores, density):
        """Boolean array: the highest scores, whole blocks of them."""
        return topk_mask(scores, density, self.block_size)

    def count(self, mask):
        """How many blocks a mask uses."""
        return int(np.count_nonzero(used_blocks(mask, self.block_size)))

    def keep_count(self, kernel, density):
        """How many blocks of a kernel a density keeps."""
        size = used_blocks(np.zeros(kernel.shape, bool), self.block_size).size
        return keep_count(density, size)

    def require_powerprop(self, reason):
        """Raises unless the optimizer keeps its hands off resting weights."""
        require_powerprop(self, reason)


def _counts(forward, backward):
    return np.count_nonzero(forward), np.count_nonzero(backward)


def require_powerprop(callback, reason):
    """Raises unless the optimizer keeps its hands off resting weights.

    Args:
        callback: Keras callback with its model.
        reason: str, what the callback needs an optimizer to do.
    """
    optimizer = inner_optimizer(callback.model)
    if not knows_kernels(optimizer):
        raise ValueError(
            f"{type(callback).__name__} needs an optimizer that {reason}, and "
            f"{type(optimizer).__name__} does not. "
            f"{powerprop_advice(optimizer)}"
        )
    if not optimizer.built:
        optimizer.build(callback.model.trainable_variables)
