from keras_sparse_rl.callbacks.drop_and_grow import DropAndGrow
from keras_sparse_rl.callbacks.drop_and_grow import check_drop_fraction


class SET(DropAndGrow):
    """Sparse evolutionary training: drops the smallest, grows at random.

    See "Scalable training of artificial neural networks with adaptive sparse
    connectivity inspired by network science" by Mocanu et al. 2018
    (https://arxiv.org/abs/1707.04780), algorithm 1. Grown weights start from
    0, and the smallest magnitudes are dropped whatever their sign (both as
    RigL's authors do it; recalled). The optimizer must be
    `optimizers.Powerprop(...)`. Reported are `forward_density` and, each
    epoch, `mask_churn`.

    Args:
        density: float in (0, 1], the share of weights used and trained.
        drop_fraction: float in [0, 1], the share of them that each refresh
            replaces.
        refresh_every, densities, end_step, block_size, seed, first_mask,
            pattern: as in `DropAndGrow`. Give `end_step` some hundred steps
            before the end of training, or the weights that grew last are still
            0.

    Raises:
        ValueError: as `DropAndGrow`.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.callbacks import SET
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> from keras_sparse_rl.optimizers import Powerprop
    >>> model = keras.Sequential([keras.Input((50,)), PowerpropDense(20)])
    >>> model.compile(Powerprop("adam"), "mse")
    >>> x, y = keras.ops.ones((8, 50)), keras.ops.ones((8, 20))
    >>> history = model.fit(x, y, callbacks=[SET(0.1)], verbose=0)
    >>> round(history.history["forward_density"][0], 3)
    0.1
    """

    def __init__(
        self,
        density,
        drop_fraction=0.3,
        refresh_every=100,
        densities="erk",
        end_step=None,
        block_size=1,
        seed=0,
        first_mask="largest",
        pattern=None,
    ):
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

    def fraction(self, step):
        return self.drop_fraction

    def grow_scores(self, name, generator):
        return generator.random(self.kernels[name].shape, "float32")
