import keras
import numpy as np

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.callbacks.mask_owner import own_masks
from keras_sparse_rl.callbacks.mask_owner import release_masks
from keras_sparse_rl.callbacks.model_optimizers import ModelOptimizers
from keras_sparse_rl.callbacks.training_watch import TrainingWatch
from keras_sparse_rl.kernels.structure import structure
from keras_sparse_rl.sparsity.selection import find_sparse_kernels
from keras_sparse_rl.sparsity.selection import resolve_names
from keras_sparse_rl.sparsity.selection import trainable_kernels


class SparsityCallback(keras.callbacks.Callback):
    """When masks are refreshed, and what is reported; the base of all.

    A subclass says which weights are kept, in `new_masks`. Steps are counted
    by `optimizer.iterations` and masks live in the model, so a run that is
    saved and continued refreshes where an uninterrupted one would have (bit
    for bit, but for `Dropout`, whose seeds no file of Keras keeps). Put
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
        pattern: tuple `(n, m)`, instead of blocks: of every `m` weights along
            the inputs at most `n` are kept, as in `sparsity.pattern_mask`. The
            density must be `n / m`, with `densities="uniform"` or a dict that
            leaves layers dense at 1.0.

    Raises:
        ValueError: if an argument is out of range; and, when training
            starts, if the model has no sparse layer.

    Example:

    >>> from keras_sparse_rl.callbacks import SparsityCallback, TopKAST
    >>> issubclass(TopKAST, SparsityCallback)
    True
    """

    # Whether a weight that comes into use starts anew.
    grows_anew = False
    # Whether weights outside B must stay as they are, bit for bit.
    holds_resting = False

    def __init__(
        self,
        refresh_every=100,
        densities="uniform",
        block_size=1,
        pattern=None,
    ):
        super().__init__()
        self.refresh_every = check_integer("refresh_every", refresh_every)
        self.structure = structure(block_size, pattern)
        if not isinstance(densities, dict):
            check_choice("densities", densities, ("uniform", "erk"))
        self.densities = densities
        self.kernels = {}
        self.optimizers = None  # `ModelOptimizers`, once training starts
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

    def start_grown(self, name, kernel, grown):
        """Gives weights that came into use their first values.

        Args:
            name: str, the kernel's name.
            kernel: `Kernel`, with its new masks.
            grown: boolean array, those weights.
        """
        kernel.reset(grown)

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
        found = find_sparse_kernels(self.model)
        self.kernels, frozen = trainable_kernels(self.model, found)
        if isinstance(self.densities, dict):
            resolve_names(self.kernels, self.densities, frozen)
        self.optimizers = ModelOptimizers(self.model)
        self._watch = TrainingWatch(self.model, found, self.optimizers)
        if any(kernel.is_stored for kernel in self.kernels.values()):
            self.require_powerprop("moves its slots with sparse weights")
        self.prepare()
        self.optimizers.check_trained(self.kernels.values())
        own_masks(self, self.kernels)
        # BackupAndRestore may only now put saved masks in place.
        self._seen_step = None

    def on_train_end(self, logs=None):
        release_masks(self, self.kernels)

    def on_epoch_begin(self, epoch, logs=None):
        self._churn = []
        self._follow_compile()
        self._watch.warn_of_flags()
        self._start()

    def on_train_batch_begin(self, batch, logs=None):
        self._follow_compile()
        self._start()

    def on_train_batch_end(self, batch, logs=None):
        self.update()
        if logs is not None:
            logs.update(self._figures)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs.update(self._figures)
            logs.update(self.report_epoch())
        self._watch.warn_of_divergence()

    def update(self):
        """Refreshes the masks if it is time; call it after every step.

        Returns:
            bool, whether the masks were refreshed.
        """
        if self.optimizers is None:
            raise ValueError(
                f"{type(self).__name__}.update() was called before start: "
                "nobody has said which model it is for. Call "
                "callback.start(model) once, before the first step."
            )
        self._follow_compile()
        self._start()
        step = self._step()
        before, self._seen_step = self._seen_step, step
        self._watch.warn_of_moves()
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
            slots = self.optimizers.slots(kernel)
            kernel.assign_masks(forward, backward, slots)
            if self.grows_anew and grown.any() and not self._is_first:
                self.start_grown(name, kernel, grown)
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
        if self.holds_resting:
            self._watch.remember_resting(self.kernels)

    def _follow_compile(self):
        """Begins anew where the model has been compiled since."""
        if self.optimizers.has_changed():
            release_masks(self, self.kernels)
            self.on_train_begin()

    def _step(self):
        return self.optimizers.steps()

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

    def top(self, kernel, scores, density):
        """Boolean array: the highest scores of a kernel, whole blocks."""
        return self.structure.top(scores, density, kernel.input_axes)

    def fits(self, kernel, mask, density):
        """Whether a mask of a kernel is one of that density."""
        return self.structure.fits(mask, density, kernel.input_axes)

    def require_powerprop(self, reason):
        """Raises unless optimizers keep their hands off resting weights."""
        self.optimizers.require_powerprop(self, reason)


def _counts(forward, backward):
    return np.count_nonzero(forward), np.count_nonzero(backward)
