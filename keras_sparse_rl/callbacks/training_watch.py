import hashlib
import warnings

import numpy as np


class TrainingWatch:
    """Notices what undoes sparse training without a word, and says it.

    Args:
        model: Keras model.
        kernels: dict of name to `Kernel`, frozen ones too.
        optimizers: `ModelOptimizers` of the model.
    """

    def __init__(self, model, kernels, optimizers):
        self._model = model
        self._kernels = kernels
        self._optimizers = optimizers
        self._flags = self._trainable()
        self._resting = None

    def remember_resting(self, names):
        """Remembers the weights outside B, for `warn_of_moves`.

        Args:
            names: the kernels' names. Of those that store the weights in use
                alone nothing else can move.
        """
        self._resting = {
            name: _resting_digest(self._kernels[name])
            for name in names
            if not self._kernels[name].is_stored
        }

    def warn_of_moves(self):
        """Warns if a weight that must rest has moved; looks once."""
        before, self._resting = self._resting or {}, None
        moved = [
            name
            for name, digest in before.items()
            if _resting_digest(self._kernels[name]) != digest
        ]
        if moved:
            others = ", ".join(self._optimizers.plain()) or "none that is known"
            warnings.warn(
                f"Weights outside the backward set of {moved} have moved in "
                "the first train step, and they must rest: something else "
                "than Powerprop(...) trains them. Optimizers of the model "
                f"without it: {others}. Wrap the one that trains these "
                "layers: keras_sparse_rl.optimizers.Powerprop(...).",
                stacklevel=3,
            )

    def warn_of_flags(self):
        """Warns where a layer was frozen or unfrozen without `compile`."""
        before, self._flags = self._flags, self._trainable()
        changed = {
            self._kernels[name].layer.name
            for name, flag in self._flags.items()
            if flag != before[name]
        }
        if changed:
            warnings.warn(
                f"Layers {sorted(changed)} were frozen or unfrozen while "
                f"model '{self._model.name}' trains, of which a compiled "
                "train step knows nothing. Call model.compile(...) after it, "
                "and in a callback model.make_train_function() too.",
                stacklevel=3,
            )

    def _trainable(self):
        return {n: k.layer.trainable for n, k in self._kernels.items()}

    def warn_of_divergence(self):
        """Warns where theta is not finite any more."""
        broken = [
            name
            for name, kernel in self._kernels.items()
            if not np.isfinite(np.sum(kernel.theta, dtype="float64"))
        ]
        if broken:
            warnings.warn(
                f"Training has diverged: theta of {broken} is not finite. "
                "Lower the learning rate; keras.callbacks.TerminateOnNaN() "
                "stops where the loss is NaN, and BackupAndRestore(..., "
                "double_checkpoint=True) keeps the state before it.",
                stacklevel=3,
            )


def _resting_digest(kernel):
    # Of digests, because a copy would be a second model.
    resting = np.asarray(kernel.theta)[~kernel.backward_mask()]
    return hashlib.blake2b(resting.tobytes()).digest()
