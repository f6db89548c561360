import math

from keras_sparse_rl._checks import check_integer
from keras_sparse_rl.callbacks.dense_gradients import DenseGradients
from keras_sparse_rl.callbacks.drop_and_grow import DropAndGrow
from keras_sparse_rl.callbacks.drop_and_grow import check_drop_fraction


class RigL(DropAndGrow):
    """Drops the smallest weights, grows where the gradient is largest.

    See "Rigging the Lottery: Making All Tickets Winners" by Evci et al. 2020
    (https://arxiv.org/abs/1911.11134), section 3. The dropped share falls as
    `drop_fraction / 2 * (1 + cos(pi * step / end_step))`. The gradient of all
    weights is taken at the last batch before a refresh, by one more pass over
    that batch; every other step costs what it costs without. (The paper skips
    the step of that batch; here it is made.) The optimizer must be
    `optimizers.Powerprop(...)`. Reported are `forward_density` and, each
    epoch, `mask_churn`. For `fit` alone, not for a loop of your own.

    Args:
        density: float in (0, 1], the share of weights used and trained.
        end_step: int, the optimizer step from which the mask stays; three
            quarters of the training in the paper.
        drop_fraction: float in [0, 1], the share of the weights in use that
            the first refresh replaces.
        refresh_every, densities, block_size, seed: as in `DropAndGrow`.

    Raises:
        ValueError: as `DropAndGrow`; and `start`, since it sees no batches.

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
    ):
        check_integer("end_step", end_step)
        super().__init__(
            density, refresh_every, densities, end_step, block_size, seed
        )
        self.drop_fraction = check_drop_fraction(drop_fraction)
        self._gradients = DenseGradients(self.refresh_every)

    def fraction(self, step):
        progress = min(1.0, step / self.end_step)
        return self.drop_fraction / 2 * (1 + math.cos(math.pi * progress))

    def grow_scores(self, name, generator):
        return abs(self._gradients.read(self.kernels[name]))

    # The gradients need a train step of their own; see `DenseGradients`.

    def start(self, model):
        raise ValueError(
            "RigL takes the gradient of every weight in the train step of "
            "`fit`, which a loop of your own does not run. Use model.fit(..., "
            "callbacks=[RigL(...)]), or TopKAST or SET in your loop."
        )

    def set_model(self, model):
        super().set_model(model)
        self._gradients.set_model(model)

    def set_params(self, params):
        super().set_params(params)
        self._gradients.set_params(params)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._gradients.kernels = list(self.kernels.values())
        self._gradients.on_train_begin(logs)

    def on_train_batch_begin(self, batch, logs=None):
        self._gradients.on_train_batch_begin(batch, logs)

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        self._gradients.on_train_end(logs)
