import keras
from keras import ops

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_flag
from keras_sparse_rl.losses.head_scale import head_scale
from keras_sparse_rl.losses.kl_to_default import kl_to_default


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class KLToDefault(keras.losses.Loss):
    """Fits a default policy to logged outputs of policies, in `model.fit`.

    `y_true` is what the policy's head said at each logged step, `y_pred` what
    the default policy says of the part of the observation that it sees. The
    best fit is the mixture of all policies that were logged, given what the
    default sees (`losses.marginal_policy`). See Galashov et al. 2019
    (https://arxiv.org/abs/1905.01240), section 3.

    Args:
        distribution: `"categorical"`: both are logits `(..., actions)`.
            `"normal"`: both are `(..., 2 * dim)`, the location and, before
            the softplus, the scale, as heads of our agents give them.
        reverse: bool, `KL(default || policy)` instead of
            `KL(policy || default)`.
        reduction: see `keras.losses.Loss`.
        name: str.
        dtype: see `keras.losses.Loss`.

    Raises:
        ValueError: if an argument is none of its choices.

    Example:

    >>> import keras, numpy as np
    >>> from keras_sparse_rl.losses import KLToDefault
    >>> default = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> default.compile("adam", KLToDefault())
    >>> history = default.fit(
    ...     np.ones((8, 2)), np.zeros((8, 3)), epochs=2, verbose=0)
    >>> len(history.history["loss"])
    2
    """

    def __init__(
        self,
        distribution="categorical",
        reverse=False,
        reduction="sum_over_batch_size",
        name="kl_to_default",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.distribution = check_choice(
            "distribution", distribution, ("categorical", "normal")
        )
        self.reverse = check_flag("reverse", reverse)

    def call(self, y_true, y_pred):
        """Divergence `(...)` of each step, in nats."""
        if self.distribution == "normal":
            y_true, y_pred = map(_location_and_scale, (y_true, y_pred))
        return kl_to_default(
            y_true, y_pred, learn="default", reverse=self.reverse
        )

    def get_config(self):
        return {
            **super().get_config(),
            "distribution": self.distribution,
            "reverse": self.reverse,
        }


def _location_and_scale(x):
    location, scale = ops.split(x, 2, axis=-1)
    return location, head_scale(scale)
