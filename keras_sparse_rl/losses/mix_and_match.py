import keras
from keras import ops

from keras_sparse_rl._checks import check_alphas
from keras_sparse_rl._checks import check_flag
from keras_sparse_rl._checks import check_non_negative
from keras_sparse_rl.losses.mix_and_match_loss import mix_and_match_loss
from keras_sparse_rl.losses.mixture_log_prob import mixture_log_prob


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class MixAndMatch(keras.losses.Loss):
    """Mix&Match on logged actions, as a Keras loss for `model.fit`.

    See "Mix & Match" by Czarnecki et al. 2018
    (https://arxiv.org/abs/1806.01780). The mixture of all policies imitates
    the logged actions, by `mixture_log_prob`, while the complex policies
    follow the simpler ones, by `mix_and_match_loss`. To move the shares while
    `fit` runs, give a `keras.Variable` and assign to it in a callback.

    Args:
        alphas: list of floats on the simplex, or `keras.Variable`, shares of
            the policies from simple to complex.
        matching_coefficient: float, weight of the matching loss.
        stop_target_gradients: bool, see `mix_and_match_loss`.
        name: str.
        **kwargs: arguments of `keras.losses.Loss`.

    Call arguments:
        y_true: int tensor `(batch, ...)`, the logged actions.
        y_pred: tensor `(batch, ..., policies, actions)`, the policies'
            logits; minus infinity where a policy cannot take an action.
            Weigh steps, or hide them, by `sample_weight`.

    Raises:
        ValueError: if the shares do not lie on the simplex, or a number is
            out of range.

    Example:

    >>> import keras, numpy as np
    >>> from keras_sparse_rl.losses import MixAndMatch
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(8),
    ...                           keras.layers.Reshape((2, 4))])
    >>> model.compile("sgd", MixAndMatch(alphas=[0.5, 0.5]))
    >>> history = model.fit(np.ones((6, 3)), np.arange(6) % 4, verbose=0)
    >>> len(history.history["loss"])
    1
    """

    def __init__(
        self,
        alphas,
        matching_coefficient=1.0,
        stop_target_gradients=True,
        name="mix_and_match",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        self.alphas = check_alphas("alphas", alphas)
        self.matching_coefficient = check_non_negative(
            "matching_coefficient", matching_coefficient
        )
        self.stop_target_gradients = check_flag(
            "stop_target_gradients", stop_target_gradients
        )

    def call(self, y_true, y_pred):
        log_probs = ops.log_softmax(y_pred, axis=-1)
        action = ops.cast(y_true, "int32")
        if len(action.shape) == len(y_pred.shape) - 1:  # Keras added an axis
            action = action[..., 0]
        action = ops.broadcast_to(
            ops.reshape(action, (*ops.shape(action), 1, 1)),
            (*ops.shape(log_probs)[:-1], 1),
        )
        chosen = ops.take_along_axis(log_probs, action, axis=-1)[..., 0]
        matching = mix_and_match_loss(
            log_probs, self.alphas, self.stop_target_gradients
        )
        return self.matching_coefficient * matching - mixture_log_prob(
            chosen, self.alphas
        )

    def get_config(self):
        alphas = [float(alpha) for alpha in ops.convert_to_numpy(self.alphas)]
        return {
            **super().get_config(),
            "alphas": alphas,
            "matching_coefficient": self.matching_coefficient,
            "stop_target_gradients": self.stop_target_gradients,
        }
