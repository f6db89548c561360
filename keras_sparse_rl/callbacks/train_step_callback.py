import keras


class TrainStepCallback(keras.callbacks.Callback):
    """Trains a model by a train step of the callback's own, during `fit`.

    The one seam for callbacks that need gradients. A subclass writes
    `train_step(data)`, which is compiled as the model's own would be
    (`run_eagerly`, `jit_compile`, `steps_per_execution`, distribution). The
    model's train function is put back when training ends. If `fit` is left by
    an exception, Keras calls no callback; the next `fit`, or `train_on_batch`,
    that has not this callback then puts it back.

    Raises:
        ValueError: when training starts, if the model has a `train_step` of
            its own, or another such callback is at work.

    Example:

    >>> from keras_sparse_rl.callbacks import GradientCosine
    >>> from keras_sparse_rl.callbacks import TrainStepCallback
    >>> issubclass(GradientCosine, TrainStepCallback)
    True
    """

    def __init__(self):
        super().__init__()
        self._function = None

    def train_step(self, data):
        """One step, as `keras.Model.train_step`; a subclass writes it."""
        raise TypeError(f"{type(self).__name__} does not define train_step.")

    def prepare(self):
        """Checks the model before its first step."""

    def on_train_begin(self, logs=None):
        model, name = self.model, type(self).__name__
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                f"{name} needs Keras on TensorFlow. Received: KERAS_BACKEND="
                f"{keras.backend.backend()!r}."
            )
        own = type(model).train_step is not keras.Model.train_step
        if own or "train_step" in vars(model):
            raise ValueError(
                f"{name} trains by a train step of its own, and "
                f"{type(model).__name__} '{model.name}' has one too. Gate the "
                "gradients in your own step by keras_sparse_rl.gradients."
                "GradientGate."
            )
        if isinstance(model.train_function, _TrainFunction):
            params = model.train_function.params
            if params is not None and params is self.params:
                raise ValueError(
                    f"Two callbacks want to take the train step of model "
                    f"'{model.name}': {model.train_function.owner} and "
                    f"{name}. Give `fit` one of them."
                )
            # Left behind by a `fit` that ended in an exception.
            model.train_function = model.train_function.original
        self.prepare()
        original = model.train_function
        model.train_step = self.train_step
        try:
            model.make_train_function(force=True)
        finally:
            del model.train_step
        self._function = _TrainFunction(
            model, original, model.train_function, name, self.params
        )
        model.train_function = self._function

    def on_train_batch_begin(self, batch, logs=None):
        # Another callback may have trained on a batch of its own meanwhile.
        self.model.train_function = self._function
        self._function.is_expected = True

    def on_train_end(self, logs=None):
        self.model.train_function = self._function.original


class _TrainFunction:
    """The callback's train function, good only where the callback is."""

    def __init__(self, model, original, function, owner, params):
        self.model = model
        self.original = original
        self.owner = owner
        self.params = params
        self.is_expected = False
        self._function = function

    def __call__(self, iterator):
        if not self.is_expected:
            self.model.train_function = self.original
            return self.original(iterator)
        self.is_expected = False
        return self._function(iterator)
