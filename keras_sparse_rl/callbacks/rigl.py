import math

import numpy as np

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.callbacks.dense_gradients import DenseGradients
from keras_sparse_rl.callbacks.drop_and_grow import DropAndGrow
from keras_sparse_rl.callbacks.drop_and_grow import check_drop_fraction
from keras_sparse_rl.callbacks.train_step_callback import TrainFunction


class RigL(DropAndGrow):
    """Drops the smallest weights, grows where the gradient is largest.

    See "Rigging the Lottery: Making All Tickets Winners" by Evci et al. 2020
    (https://arxiv.org/abs/1911.11134), section 3. The dropped share falls as
    `drop_fraction / 2 * (1 + cos(pi * step / end_step))`. The gradient of all
    weights is that of the step before a refresh, of whatever loss trains: in
    `fit`, in a `train_step` of your own and in a loop of your own alike (see
    `DenseGradients`). (The paper skips that step; here it is made.) The
    optimizer must be `optimizers.Powerprop(...)`. Reported are
    `forward_density` and, each epoch, `mask_churn`.

    Args:
        density: float in (0, 1], the share of weights used and trained.
        end_step: int, the optimizer step from which the mask stays; three
            quarters of the training in the paper.
        drop_fraction: float in [0, 1], the share of the weights in use that
            the first refresh replaces.
        refresh_every, densities, block_size, seed, first_mask, pattern: as in
            `DropAndGrow`.

    Raises:
        ValueError: as `DropAndGrow`; and at a refresh, if no gradient has
            reached a sparse layer in the step before it.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.callbacks import RigL
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> from keras_sparse_rl.optimizers import Powerprop
    >>> model = keras.Sequential([keras.Input((50,)), PowerpropDense(20)])
    >>> model.compile(Powerprop("adam"), "mse")
    >>> x, y = keras.ops.ones((8, 50)), keras.ops.ones((8, 20))
    >>> rigl = RigL(0.1, end_step=1000)
    >>> history = model.fit(x, y, callbacks=[rigl], verbose=0)
    >>> round(history.history["forward_density"][0], 3)
    0.1
    """

    def __init__(
        self,
        density,
        end_step,
        drop_fraction=0.3,
        refresh_every=100,
        densities="erk",
        block_size=1,
        seed=0,
        first_mask="largest",
        pattern=None,
    ):
        check_integer("end_step", end_step)
        super().__init__(
            density,
            refresh_every,
            densities,
            end_step,
            block_size,
            seed,
            first_mask,
            pattern,
        )
        self.drop_fraction = check_drop_fraction(drop_fraction)
        self._gradients = DenseGradients(self.refresh_every)
        self._scores = {}

    def fraction(self, step):
        progress = min(1.0, step / self.end_step)
        return self.drop_fraction / 2 * (1 + math.cos(math.pi * progress))

    def new_masks(self, step):
        self._scores = {
            name: self._gradients.take(kernel)
            for name, kernel in self.kernels.items()
        }
        if self._gradients.is_due and not self._is_first:
            self._check_seen(step)
        return super().new_masks(step)

    def grow_scores(self, name, generator):
        return abs(self._scores[name])

    def grow_signs(self, name, kernel):
        # What no gradient reaches is not left at 0 either.
        return np.where(self._scores[name] > 0, -1.0, 1.0)

    def fraction_of(self, name, step):
        # What no gradient reaches stays as it is.
        return 0.0 if self._scores[name] is None else self.fraction(step)

    def prepare(self):
        super().prepare()
        self._gradients.start(
            list(self.kernels.values()), self.optimizers.counter()
        )
        self._renew_train_function()

    def begin(self):
        self._gradients.expect(self._seen_step)

    def update(self):
        was_refreshed = super().update()
        self._gradients.expect(self._seen_step)
        return was_refreshed

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        self._gradients.stop()

    def _check_seen(self, step):
        if self.fraction(step) and all(
            scores is None for scores in self._scores.values()
        ):
            raise ValueError(
                "RigL grows by the gradient of every weight, and no gradient "
                f"has reached a sparse layer of model '{self.model.name}' in "
                f"the step before refresh {step}. In a loop of your own call "
                "callback.start(model) before a train step under tf.function "
                "is called for the first time."
            )

    def _renew_train_function(self):
        """Lets a step that is compiled already be compiled anew."""
        function = getattr(self.model, "train_function", None)
        if function is not None and not isinstance(function, TrainFunction):
            self.model.make_train_function(force=True)
