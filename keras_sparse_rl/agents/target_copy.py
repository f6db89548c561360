import tensorflow as tf


class TargetCopy(tf.Module):
    """The values of a model some steps ago, and what it would have said then.

    Only values are copied, masks among them: the copy is no model of its own,
    so that callbacks neither train nor prune it.

    Args:
        model: built `keras.Model`.
        period: int, train steps from one copy to the next.
    """

    def __init__(self, model, period):
        super().__init__(name="target_copy")
        # In a plain list: what a `tf.Module` and checkpoints find.
        self.values = [
            tf.Variable(v.value, trainable=False) for v in model.variables
        ]
        self._model = _Hidden(model)
        self._period = period

    def __call__(self, inputs):
        """The model's outputs at the time of the copy."""
        model = self._model.model
        values = dict(zip(map(id, model.variables), self.values))
        outputs, _ = model.stateless_call(
            [values[id(v)] for v in model.trainable_variables],
            [values[id(v)] for v in model.non_trainable_variables],
            inputs,
        )
        return outputs

    def update(self, step):
        """Copies the model's values if `step` is a multiple of the period."""

        def copied():
            self.copy()
            return True

        tf.cond(
            tf.equal(tf.cast(step, tf.int64) % self._period, 0),
            copied,
            lambda: False,
        )

    def copy(self):
        """Copies the model's values."""
        for value, variable in zip(self.values, self._model.model.variables):
            value.assign(variable.value)


class _Hidden:
    """Keeps the model's variables out of the copy's own."""

    def __init__(self, model):
        self.model = model
