import keras


class TrainStepCallback(keras.callbacks.Callback):
    """Trains a model by a train step of the callback's own, during `fit`.

    The one seam for callbacks that need gradients. A subclass writes
    `train_step(data)`, or `before_step(data)` to look at a batch before the
    model's step, or another callback's, is made. Both are compiled as the
    model's own step would be (`run_eagerly`, `jit_compile`,
    `steps_per_execution`, distribution). The model's train function is put
    back when training ends. If `fit` is left by an exception, Keras calls no
    callback; the next `fit`, or `train_on_batch`, that has not this callback
    then puts it back.

    Raises:
        ValueError: when training starts, if two of the model and its
            callbacks have a `train_step` of their own.

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

    def before_step(self, data):
        """Called in the compiled step, before it is made."""

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
        if self._has_step() and (own or "train_step" in vars(model)):
            raise ValueError(
                f"{name} trains by a train step of its own, and "
                f"{type(model).__name__} '{model.name}' has one too. Gate the "
                "gradients in your own step by keras_sparse_rl.gradients."
                "GradientGate."
            )
        shared, original = [], model.train_function
        if isinstance(original, TrainFunction):
            if original.params is not None and original.params is self.params:
                shared = original.callbacks
            # Or else left behind by a `fit` that ended in an exception.
            original = original.original
        owners = [c for c in (*shared, self) if c._has_step()]
        if len(owners) > 1:
            first, second = (type(owner).__name__ for owner in owners)
            raise ValueError(
                f"Two callbacks want to take the train step of model "
                f"'{model.name}': {first} and {second}. Give `fit` one of them."
            )
        model.train_function = original
        self.prepare()
        callbacks = [*shared, self]
        own_step = model.train_step

        def train_step(data):
            for callback in callbacks:
                callback.before_step(data)
            return (owners[0].train_step if owners else own_step)(data)

        kept = vars(model).get("train_step")
        model.train_step = train_step
        try:
            model.make_train_function(force=True)
        finally:
            del model.train_step
            if kept is not None:
                model.train_step = kept
        function = TrainFunction(
            model, original, model.train_function, callbacks, self.params
        )
        for callback in callbacks:
            callback._function = function
        model.train_function = function

    def on_train_batch_begin(self, batch, logs=None):
        # Another callback may have trained on a batch of its own meanwhile.
        self.model.train_function = self._function
        self._function.is_expected = True

    def on_train_end(self, logs=None):
        self.model.train_function = self._function.original

    def _has_step(self):
        return type(self).train_step is not TrainStepCallback.train_step


class TrainFunction:
    """The callback's train function, good only where the callback is."""

    def __init__(self, model, original, function, callbacks, params):
        self.model = model
        self.original = original
        self.callbacks = callbacks
        self.params = params
        self.is_expected = False
        self._function = function

    def __call__(self, iterator):
        if not self.is_expected:
            self.model.train_function = self.original
            return self.original(iterator)
        self.is_expected = False
        return self._function(iterator)
