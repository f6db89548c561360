from keras_sparse_rl.callbacks.drop_and_grow import DropAndGrow


class StaticSparsity(DropAndGrow):
    """Trains a sparse network whose mask never changes.

    Masks that fit the density already, of `prune` for example, are kept. With
    `first_mask="random"` it is the baseline that every algorithm which moves
    its mask must beat. The optimizer must be `optimizers.Powerprop(...)`.
    Reported is `forward_density`.

    Args:
        density: float in (0, 1], the share of weights used and trained.
        densities: `"erk"`, `"uniform"`, or a dict of layer, or layer name, to
            its own density.
        block_size, pattern: as in `SparsityCallback`.
        seed: int, of a random mask.
        first_mask: `"largest"` weights, or `"random"` ones.

    Raises:
        ValueError: as `DropAndGrow`.

    Example:

    >>> import keras
    >>> from keras_sparse_rl.callbacks import StaticSparsity
    >>> from keras_sparse_rl.layers import PowerpropDense
    >>> from keras_sparse_rl.optimizers import Powerprop
    >>> model = keras.Sequential([keras.Input((50,)), PowerpropDense(20)])
    >>> model.compile(Powerprop("adam"), "mse")
    >>> x, y = keras.ops.ones((8, 50)), keras.ops.ones((8, 20))
    >>> history = model.fit(x, y, callbacks=[StaticSparsity(0.1)], verbose=0)
    >>> int(model.layers[0].sparse_kernel.forward_mask().sum())
    100
    """

    def __init__(
        self,
        density,
        densities="erk",
        block_size=1,
        seed=0,
        first_mask="largest",
        pattern=None,
    ):
        super().__init__(
            density,
            densities=densities,
            end_step=0,
            block_size=block_size,
            seed=seed,
            first_mask=first_mask,
            pattern=pattern,
        )

    def fraction(self, step):
        return 0.0
