import keras
from keras import ops

from keras_sparse_rl._checks import check_choice
from keras_sparse_rl._checks import check_flag
from keras_sparse_rl._checks import check_positive
from keras_sparse_rl.losses.distillation_loss import LOSS_FUNCTIONS
from keras_sparse_rl.losses.policy_divergences import Gaussian


@keras.saving.register_keras_serializable(package="keras_sparse_rl")
class PolicyDistillation(keras.losses.Loss):
    """Loss of a policy in `model.fit`, on a teacher's logged outputs.

    The per-step losses of "Distilling Policy Distillation" by Czarnecki et al.
    2019 (https://arxiv.org/abs/1902.02186) for data that is already there:
    `y_true` are the teacher's outputs, `y_pred` the model's, both
    `(batch, ..., outputs)`. Pseudo-rewards need trajectories of the student:
    see `agents.DistillationAgent`. For images and their labels see
    `keras.distillation`.

    Args:
        form: `"teacher_cross_entropy"`, `"teacher_kl"`,
            `"student_cross_entropy"` or `"student_kl"`, as in
            `DistillationVariant`.
        temperature: float above 0, divides the teacher's logits. Small for a
            nearly deterministic teacher.
        continuous: bool: outputs are not logits but locations and scales, one
            half each (scales are positive numbers).
        reduction: as for every Keras loss.
        name: str.
        dtype: as for every Keras loss.

    Raises:
        ValueError: if an argument is none of those above.

    Example:

    >>> import keras, numpy as np
    >>> from keras_sparse_rl.losses import PolicyDistillation
    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    >>> model.compile("adam", PolicyDistillation("student_kl"))
    >>> observations = np.zeros((8, 3), "float32")
    >>> teacher_logits = np.zeros((8, 4), "float32")
    >>> model.evaluate(observations, teacher_logits, verbose=0)
    0.0
    """

    def __init__(
        self,
        form="teacher_cross_entropy",
        temperature=1.0,
        continuous=False,
        reduction="sum_over_batch_size",
        name="policy_distillation",
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.form = check_choice("form", form, tuple(LOSS_FUNCTIONS))
        self.temperature = check_positive("temperature", temperature)
        self.continuous = check_flag("continuous", continuous)
        if continuous and temperature != 1:
            raise ValueError(
                "`temperature` divides logits, which continuous actions do "
                f"not have. Received: temperature={temperature!r}."
            )

    def call(self, y_true, y_pred):
        y_pred = ops.convert_to_tensor(y_pred)
        y_true = ops.cast(y_true, y_pred.dtype)
        leading = ops.shape(y_pred)[:-1]

        def policy(outputs):
            outputs = ops.reshape(outputs, (-1, 1, outputs.shape[-1]))
            if self.continuous:
                return Gaussian(*ops.split(outputs, 2, axis=-1))
            return outputs

        loss = LOSS_FUNCTIONS[self.form](
            policy(y_pred), policy(y_true / self.temperature)
        )
        return ops.reshape(loss, leading)

    def get_config(self):
        return {
            **super().get_config(),
            "form": self.form,
            "temperature": self.temperature,
            "continuous": self.continuous,
        }
